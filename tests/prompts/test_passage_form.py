"""Passage forms: the published prompts of ReasonRank, Rank-R1 and Setwise-SFT, and each key of a form."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError, validated
from pyserini_reasonrank.ir.documents import read_document
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.prompts.formats import convert
from pyserini_reasonrank.prompts.passage_form import PassageForm
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.prompts.tokens import EstimatedTokens, ModelTokens, Tokens
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.settings.schema import Settings

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TITLED = {"title": "T", "text": "X\n  y", "url": "U"}


def golden(name: str) -> list[Any]:
    cases = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    kinds = [f"{case['case']}-{case['passage_tokens']}-{case.get('version', 'reasoning')}" for case in cases]
    return [pytest.param(case, id=kind) for case, kind in zip(cases, kinds, strict=True)]


def form_of(model: str, **more: Any) -> PassageForm:
    return validated(PassageForm, known_models()[model].settings["passage"] | more, "passage")


def candidate(record: dict[str, Any]) -> Candidate:
    document = read_document(record)
    assert document is not None
    return Candidate("d", 0.0, document.text, document.fields)


def request_of(case: dict[str, Any]) -> Request:
    return Request(Query("q", case["query"]), tuple(map(candidate, case["documents"])))


def fitter(form: PassageForm, tokens: Tokens, template: Template | None = None, **limits: int) -> Fitter:
    limit = {"passage_tokens": None, "query_tokens": None} | limits
    return Fitter(template or sources.load("listwise"), tokens, context=None, output_tokens=0, form=form, **limit)


def lines(fit: Fitter, case: dict[str, Any], label: str = "[{}] ") -> tuple[str, list[str]]:
    prepared = fit.prepare(request_of(case))
    return prepared.query.text, [label.format(i) + p.text for i, p in enumerate(prepared.passages, 1)]


@pytest.fixture(scope="module")
def tokens(tokenizer_file: Path) -> ModelTokens:
    return ModelTokens(tokenizer_file)


@pytest.mark.parametrize("case", golden("reasonrank_prompts"))
def test_reasonrank_shows_query_and_passages_as_published(case: dict[str, Any], tokens: ModelTokens) -> None:
    fit = fitter(form_of("reasonrank-7b", defuse="numbers"), tokens, passage_tokens=case["passage_tokens"])
    assert lines(fit, case) == (case["query_as_shown"], case["passage_lines_as_shown"])


@pytest.mark.skipif(find_spec("rank_llm") is None, reason="rank-llm, which has the prompt, is not installed")
@pytest.mark.parametrize("case", golden("reasonrank_prompts"))
def test_the_user_message_of_reasonrank_is_the_published_one(case: dict[str, Any], tokens: ModelTokens) -> None:
    data = convert({"system_prompt_reasoning": "not tested here"}, "reasonrank", sources._rank_llm)
    template = Template.parse("reasonrank", data)
    fit = fitter(form_of("reasonrank-7b", defuse="numbers"), tokens, template, passage_tokens=case["passage_tokens"])
    user = fit.render(fit.prepare(request_of(case)), range(len(case["documents"]))).messages[-1].content
    assert (len(user), hashlib.sha256(user.encode()).hexdigest()) == (case["user_characters"], case["user_sha256"])


@pytest.mark.parametrize("case", golden("rank_r1_prompts"))
def test_rank_r1_shows_query_and_documents_as_published(case: dict[str, Any], tokens: ModelTokens) -> None:
    model, label = {
        "v0.1": ("rank-r1-7b", "[{}] "), "v0.2": ("rank-r1-32b-v0.2", "[{}]: "), "setwise-sft": ("setwise-sft-7b", "[{}] ")
    }[case["version"]]  # fmt: skip
    limits = {"passage_tokens": case["passage_tokens"], "query_tokens": case["query_tokens"]}
    fit = fitter(form_of(model, defuse="none"), tokens, **limits)
    assert lines(fit, case, label) == (case["query_as_shown"], case["document_lines_as_shown"])


@pytest.mark.parametrize("model", ["rank-zephyr-7b", "rank-vicuna-7b", "first-mistral-7b", "first-zephyr-7b"])
def test_rankllms_checkpoints_see_title_and_300_words(model: str) -> None:
    shown = form_of(model).passage(candidate({"id": "1", "title": "A title", "text": "one\ntwo " * 300}))
    assert shown.split() == ["Title:", "A", "title", "Content:", *["one", "two"] * 148]
    assert shown == " ".join(shown.split())
    assert known_models()[model].settings["passage_tokens"] is None


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ({}, "T. X y"),
        ({"whitespace": "keep"}, "T. X\n  y"),
        ({"template": "{{ url }}|{{ text }}", "whitespace": "keep"}, "U|X\n  y"),
        ({"template": "{{ missing }}{{ text }}"}, "X y"),
        ({"words": 2, "whitespace": "keep"}, "T. X"),
        ({"characters": 5, "whitespace": "keep"}, "T. X\n"),
        ({"words": 9, "characters": 99}, "T. X y"),
    ],
)
def test_each_key_of_a_form(form: dict[str, Any], shown: str) -> None:
    assert PassageForm(**form).passage(candidate(TITLED)) == shown


def test_a_text_without_fields_is_the_field_text() -> None:
    form = form_of("reasonrank-7b")
    assert form.passage(Candidate("d", 0.0, " code:\n  x ")) == "code:\n  x"


def test_a_template_that_shows_nothing_of_a_document_is_rejected() -> None:
    with pytest.raises(UsageError, match="shows nothing of document d, which has the fields title, text, url"):
        PassageForm(template="{{ contents }}").passage(candidate(TITLED))


def test_a_template_that_is_not_jinja_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"--rerank.passage.template .*is not a Jinja template"):
        validated(Settings, {"passage": {"template": "{% if %}"}}, "--rerank")


def test_code_keeps_its_lines_and_indices_where_the_form_says_so() -> None:
    code = "def top(xs):\n    if xs[0] > xs[1]:\n        return xs[0]\n"
    asked = Request(Query("q", code), (Candidate("c", 0.0, code),))
    fit = fitter(PassageForm(whitespace="keep", defuse="none"), EstimatedTokens())
    prepared = fit.prepare(asked)
    assert (prepared.query.text, prepared.passages[0].text) == (code, code)


def test_documents_with_the_same_text_and_other_fields_are_prepared_separately() -> None:
    documents = [{"contents": "T. X", "title": "T", "text": text} for text in ("X", "Y")]
    fit = fitter(PassageForm(template="{{ text }}"), EstimatedTokens())
    for record, shown in zip(documents, "XY", strict=True):
        asked = Request(Query("q", ""), (candidate(record),))
        assert fit.prepare(asked).passages[0].text == shown


@given(st.text(), st.integers(1, 9))
def test_words_are_the_first_words_of_the_text(text: str, words: int) -> None:
    kept = PassageForm(whitespace="keep", words=words).passage(Candidate("d", 0.0, text))
    assert kept.split() == text.split()[:words]
    assert text.startswith(kept)
