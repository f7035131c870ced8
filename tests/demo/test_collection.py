"""The demo collection: the corpus is reproducible, writing it prints nothing, and the judgments match it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import pytest

from pyserini_reasonrank.demo.collection import write_corpus

CONF = files("pyserini_reasonrank.conf") / "demo"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "corpus.jsonl"
    write_corpus(path)
    return path


@pytest.fixture(scope="module")
def contents(corpus: Path) -> dict[str, str]:
    records = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    assert len({record["id"] for record in records}) == len(records)
    return {record["id"]: record["contents"] for record in records}


@pytest.fixture(scope="module")
def topics() -> dict[str, str]:
    """Test topics (t and a number), then training topics (r and a number)."""
    files = [(CONF / name).read_text(encoding="utf-8") for name in ("topics.tsv", "train-topics.tsv")]
    return dict(line.split("\t") for text in files for line in text.splitlines())


@pytest.fixture(scope="module")
def qrels() -> dict[str, dict[str, int]]:
    judgments: dict[str, dict[str, int]] = defaultdict(dict)
    for line in (CONF / "qrels.txt").read_text(encoding="utf-8").splitlines():
        qid, _, docid, grade = line.split()
        assert docid not in judgments[qid], f"{qid} judges {docid} twice"
        judgments[qid][docid] = int(grade)
    return judgments


@pytest.mark.process
def test_another_process_with_another_hash_seed_writes_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    again = tmp_path / "a folder" / "again.jsonl"
    command = [sys.executable, "-W", "error", "-m", "pyserini_reasonrank.demo.collection", str(again)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONHASHSEED": "4242"}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout == f"{len(corpus.read_bytes().splitlines())} documents written to {again}\n"
    assert again.read_bytes() == corpus.read_bytes()
    assert [path.name for path in again.parent.iterdir()] == ["again.jsonl"]


@pytest.mark.process
def test_what_a_library_replaced_in_this_process_changes_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.print", lambda *words: None)
    monkeypatch.setattr("math.isqrt", None)
    write_corpus(tmp_path / "corpus.jsonl")
    assert (tmp_path / "corpus.jsonl").read_bytes() == corpus.read_bytes()


_READ_HERE = """
import sys, threading
from pyserini_reasonrank.demo.stdlib import read_modules
assert len(list(read_modules())) > 400
assert threading.active_count() == 1
assert not {"antigravity", "this", "tkinter", "turtle", "idlelib"} & sys.modules.keys()
"""


@pytest.mark.process
def test_reading_is_silent_and_starts_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", _READ_HERE], check=True)
    write_corpus(tmp_path / "corpus.jsonl")
    assert capfd.readouterr() == ("", "")


def test_there_are_several_thousand_documents_on_one_line_each(contents: dict[str, str]) -> None:
    assert 4000 <= len(contents) <= 9000
    assert not [docid for docid in contents if re.search(r"\s", docid)]
    assert not [docid for docid, text in contents.items() if text != " ".join(text.split())]
    assert all(text.startswith(docid) for docid, text in contents.items())


@pytest.mark.parametrize(
    ("docid", "rule"),
    [
        ("collections.deque.append", "a type of an extension module, by the module that publishes it"),
        ("struct.unpack", "a function taken wholesale from a private module"),
        ("struct", "a module that takes its documentation from a private one"),
        ("asyncio.gather", "a function of a submodule, by its package"),
        ("os.path.exists", "a module known by another name"),
        ("contextlib.ExitStack.callback", "a method of a private base class"),
        ("re.Pattern.sub", "a type published by assignment"),
        ("hashlib", "documentation assigned to __doc__"),
        ("builtins.dict.setdefault", "a builtin"),
    ],
)
def test_an_object_is_found_under_its_public_name(contents: dict[str, str], docid: str, rule: str) -> None:
    assert docid in contents, rule


def test_no_document_has_a_private_excluded_or_second_name(contents: dict[str, str]) -> None:
    assert not [docid for docid in contents if any(part.startswith("_") for part in docid.split("."))]
    unwanted = {"antigravity", "genericpath", "idlelib", "ntpath", "posix", "posixpath", "test", "tkinter", "turtle"}
    assert not unwanted & {docid.split(".")[0] for docid in contents}
    assert {"socket.error", "asyncio.tasks.gather", "sqlite3.dbapi2.connect"}.isdisjoint(contents)


def test_signature_and_docstring_make_the_text(contents: dict[str, str]) -> None:
    assert contents["math.isqrt"].startswith("math.isqrt(n, /) Return the integer part of the square root")
    assert contents["bisect.insort_left"].startswith("bisect.insort_left(a, x, lo=0, hi=None, *, key=None) Insert item")
    assert contents["threading.Barrier"].startswith("threading.Barrier(parties, action=None, timeout=None) Implements")
    assert "Create a barrier" in contents["threading.Barrier"], "the constructor's docstring belongs to the class"


@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="the judgments name what Python 3.12 documents")
def test_every_judged_document_is_in_the_corpus(contents: dict[str, str], qrels: dict[str, dict[str, int]]) -> None:
    assert sorted({docid for judged in qrels.values() for docid in judged} - contents.keys()) == []


def test_topics_and_judgments_are_about_the_same_queries(
    topics: dict[str, str], qrels: dict[str, dict[str, int]]
) -> None:
    assert list(topics) == list(qrels)
    split = [qid[0] for qid in topics]
    assert (split.count("t"), split.count("r"), len(split)) == (40, 50, 90)
    assert len(set(topics.values())) == len(topics)


def test_every_topic_has_an_answer_and_enough_judgments(qrels: dict[str, dict[str, int]]) -> None:
    for qid, judged in qrels.items():
        assert set(judged.values()) <= {0, 1, 2, 3}, qid
        assert 3 in judged.values(), f"nothing solves {qid}"
        assert len(judged) >= 15, f"{qid} has too small a pool"
        assert 0 in judged.values(), f"{qid} has no document judged not useful"


def test_no_topic_names_its_answer(topics: dict[str, str], qrels: dict[str, dict[str, int]]) -> None:
    for qid, text in topics.items():
        words = set(re.findall(r"\w+", text.lower()))
        answers = [docid for docid, grade in qrels[qid].items() if grade == 3]
        assert not [docid for docid in answers if docid.rpartition(".")[2].lower() in words], qid
