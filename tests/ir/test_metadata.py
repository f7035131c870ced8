"""The metadata file of a run, and the masking of secrets in it."""

import hashlib
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pyserini_reasonrank.cli.summary import summary
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.environment import environment
from pyserini_reasonrank.ir.masking import MASK, masked, masked_command, secret_name
from pyserini_reasonrank.ir.metadata import (
    PartRecord,
    RunRecord,
    recorded_verdict,
    sidecar,
    topics_without_candidates,
    write_metadata,
)
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Completion, PrefixCache, Sampling, Status, Tally


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    first = tmp_path / "run.first.txt"
    first.write_text("q Q0 d 1 1.0 bm25\n")
    output = tmp_path / "new" / "run.txt"
    return RunRecord(
        tag="reasonrank",
        command=["python", "-m", "pyserini.search", "--topics", "my topics.tsv", "--rerank.engine.api_key", "s3cret"],
        reranker="reasonrank",
        settings={"depth": 100},
        parts={
            "": PartRecord(
                model=Model("m", "org/m", revision="abc", context=32768),
                prompt="permutation",
                prompt_sha256="0" * 64,
                sampling=Sampling(seed=7, stop=("</answer>",), extra={"hf_token": "s3cret"}),
                settings={
                    "strategy": {"name": "sliding", "window_size": 20},
                    "engine": {"name": "openai", "api_key": "s3cret"},
                },
                tally=Tally(Counter({Status.OK: 8, Status.TRUNCATED: 1}), 9, 4, 1000, 50),
            )
        },
        topics_file="my topics.tsv",
        candidates={"q": 10, "r": 3, "007": 0},
        first_run=first,
        output=output,
        journal=tmp_path / "journal.sqlite",
        seconds={"search": 1.23456},
    )


def test_sidecar_of_a_run(record: RunRecord) -> None:
    output = record.output
    write_metadata(record.metadata, record.fields())
    assert record.metadata == sidecar(output)
    assert [path.name for path in output.parent.iterdir()] == ["run.txt.ir-metadata.yml"]
    text = sidecar(output).read_text(encoding="utf-8")
    assert "s3cret" not in text
    read = yaml.safe_load(text)
    assert list(read)[:2] == ["schema version", "tag"]
    command = shlex.split(read["implementation"]["executable"]["cmd"])
    assert command == [*record.command[:-1], MASK]
    first, reranker = read["method"]["retrieval"]
    assert first["sha256"] == hashlib.sha256(b"q Q0 d 1 1.0 bm25\n").hexdigest()
    assert reranker["reranks"] == first["name"]
    assert reranker["strategy"] == {"name": "sliding", "window_size": 20}
    assert reranker["engine"] == {"name": "openai", "api_key": MASK}
    assert reranker["model"]["revision"] == "abc"
    assert reranker["sampling"]["max_tokens"] == Sampling().max_tokens
    assert reranker["sampling"]["stop"] == ["</answer>"]
    assert read["resources"]["llm"]["output tokens"] == 50
    assert read["resources"]["runtime in seconds"] == {"search": 1.235}
    assert read["outcome"]["topics answered"] == "2 of 3"
    assert read["outcome"]["statuses of calls"] == {
        "ok": 8, "repaired": 0, "truncated": 1, "empty": 0, "refused": 0, "error": 0,
    }  # fmt: skip
    assert topics_without_candidates(output) == ["007"]


def test_without_metadata_no_topics_are_listed(tmp_path: Path) -> None:
    assert topics_without_candidates(tmp_path / "run.txt") == []
    sidecar(tmp_path / "run.txt").write_text("tag: mine")
    assert topics_without_candidates(tmp_path / "run.txt") == []


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ("[]", "outcome is not a mapping"),
        ("", "outcome is not a mapping"),
        ("{topics without candidates: 7}", "topics without candidates is not a list"),
        ("{topics without relevant candidates: }", "topics without relevant candidates is not a list"),
        ("{candidates left out: [7]}", "candidates left out is not a mapping"),
        ("{candidates left out: {7: .inf}}", "candidates left out has a value that is not a number"),
    ],
)
def test_an_outcome_that_was_edited_is_one_sentence(outcome: str, says: str, tmp_path: Path) -> None:
    sidecar(tmp_path / "run.txt").write_text(f"outcome: {outcome}\n")
    with pytest.raises(UsageError, match=rf"run\.txt\.ir-metadata\.yml: {says}; repair the file"):
        recorded_verdict(tmp_path / "run.txt")


def test_environment_reports_versions_without_importing_packages() -> None:
    platform = environment()
    assert any(library.startswith("ir-measures==") for library in platform["software"]["libraries"]["python"])
    assert platform["hardware"]["cpu"]["number of cores"] >= 1


@pytest.mark.parametrize(
    "name", ["api_key", "--rerank.engine.api_key", "OPENAI_API_KEY", "apiKey", "hf_token", "password", "clientSecret",
             "X-Api-Key", "Authorization", "secret_value"],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    assert secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "prompt tokens", "--rerank.tokenizer", "keep", "stop_token_ids", "monkey", "--hits", "20", ""],
)
def test_names_that_are_not_secret(name: str) -> None:
    assert not secret_name(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:s3cret@host/v1", f"https://{MASK}@host/v1"),
        ("http://host/v1?api_key=s3cret&n=2", f"http://host/v1?api_key={MASK}&n=2"),
        ("Proxy: Bearer s3cret", f"Proxy: Bearer {MASK}"),
        ('{"api_key": "s3 cret", "n": 2}', f'{{"api_key": {MASK}, "n": 2}}'),
        ("OPENAI_API_KEY=s3cret", f"OPENAI_API_KEY={MASK}"),
        ("{engine: {api_key: 'a b'}}", f"{{engine: {{api_key: {MASK}}}}}"),
        ("{api_key: s3cret, n: 2}", f"{{api_key: {MASK}, n: 2}}"),
        ("sk-proj-abcdefghijklmnopqrst", MASK),
        ("hf_abcdefghijklmnopqrst", MASK),
        ("hf-internal-testing/tiny-random-gpt2", "hf-internal-testing/tiny-random-gpt2"),
        (
            "liuwenhan/reasonrank-7B max_tokens=20 http://h:80/ monkey=1",
            "liuwenhan/reasonrank-7B max_tokens=20 http://h:80/ monkey=1",
        ),
    ],
)
def test_secrets_in_text(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_secrets_in_a_command() -> None:
    command = [
        "search",
        "--api_key",
        "s3cret",
        "--token=s3cret",
        "--hits",
        "9",
        "--password",
        "--quiet",
        "OPENAI_API_KEY=s",
    ]
    assert masked_command(command) == [
        "search", "--api_key", MASK, f"--token={MASK}", "--hits", "9", "--password", "--quiet", f"OPENAI_API_KEY={MASK}",
    ]  # fmt: skip


def test_values_that_yaml_has_no_type_for(tmp_path: Path) -> None:
    write_metadata(
        tmp_path / "x.yml", {"path": Path("a/b"), "status": Status.OK, "set": {1}, "use_key": True, "token": None}
    )
    read = yaml.safe_load((tmp_path / "x.yml").read_text())
    assert read == {"schema version": "0.2", "path": "a/b", "status": "ok", "set": [1], "use_key": True, "token": None}


def test_counters_of_the_servers_prefix_cache_are_recorded_with_their_source(record: RunRecord) -> None:
    counted = replace(record, prefix_cache=PrefixCache(800, 200), seconds={"load": 1.0, "rerank": 2.0})
    assert counted.fields()["resources"]["llm"]["prefix cache of the servers"] == {
        "tokens looked up": 800,
        "tokens found": 200,
        "source": "/metrics, which counts all clients",
    }
    assert "read (25% from the prefix cache, by the servers' /metrics), " in summary(counted)
    assert "prefix cache" not in summary(replace(counted, prefix_cache=PrefixCache(0, 0)))


def test_tokens_from_a_prefix_cache_are_recorded_if_the_engine_reports_them(record: RunRecord) -> None:
    assert "prefix cache hits" not in record.fields()["resources"]["llm"]
    tally = record.parts[""].tally
    answer = Completion(prompt_tokens=100, cached_tokens=60)
    tally.add(answer, from_journal=False)
    tally.add(answer, from_journal=True)
    spent = record.fields()["resources"]["llm"]
    assert (spent["prompt tokens"], spent["prefix cache hits"]) == (1200, 60)
    assert "1,200 read (60 of them from the prefix cache), 50 written" in summary(
        replace(record, seconds={"load": 1.0, "rerank": 2.0})
    )
