"""``trace``: a query in the terminal, records as JSON lines, and answers that are packed and replayed."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection

from pyserini_reasonrank.cli import rerank, trace
from pyserini_reasonrank.cli.terminal import columns, one_line, printable, wrapped
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.packed_answers import Answer, Header, write_answers
from pyserini_reasonrank.records import Capability, Completion

Make = Callable[..., Path]


def oracle(collection: Collection) -> list[str]:
    return ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(collection.qrels)]


@pytest.fixture
def make(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Make:
    """``make("run.txt", "reasonrank", flag, ...)``: a run by the oracle, or by the engine that the flags name."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *words: str, inputs: Sequence[str] = collection.inputs) -> Path:
        engine = [] if "--rerank.engine.name" in words else oracle(collection)
        assert rerank.main([*inputs, "--output", name, "--rerank", *words, *engine]) == 0
        capsys.readouterr()
        return Path(name)

    return run


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What ``trace ...`` prints."""

    def show(*words: object) -> str:
        assert trace.main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    return show


@pytest.fixture
def refused() -> Callable[..., str]:
    """The UsageError of ``trace ...``."""

    def refuse(*words: object) -> str:
        with pytest.raises(UsageError) as error:
            trace.main([str(word) for word in words])
        return str(error.value)

    return refuse


# --- show


def test_show_a_query_with_its_ranking_and_calls(make: Make, shown: Callable[..., str], collection: Collection) -> None:
    run = make("run.txt", "reasonrank", "--rerank.strategy.window_size", "4", "--rerank.strategy.stride", "3")
    text = shown("show", run, "--qid", "7")
    lines = text.splitlines()
    assert lines[0] == "query      7  what is topic 1"
    assert "2 judgements from 2 calls: 0 tokens read, 0 written, 0.0 s" in lines[2]
    order = [line.split()[2] for line in run.read_text().splitlines() if line.startswith("7 ")]
    table = lines[lines.index("") + 1 :][: 1 + len(order)]
    assert table[0].split() == ["rank", "first", "score", "docid", "passage"]
    assert [row.split()[3] for row in table[1:]] == order
    first = {c.docid: (str(rank), f"{c.score:.4f}") for rank, c in enumerate(collection.requests[1].candidates, 1)}
    assert [tuple(row.split()[1:3]) for row in table[1:]] == [first[docid] for docid in order]
    assert "says what there is to say of topic 1" in table[1]
    for part in ("call 0 - pass 1  ok", "call 1 - pass 1  ok", "[1]\N{NO-BREAK SPACE}7-d0", "prompt     user: Here are 4 passages",
                 "reasoning  The gains are", "answer     <think>(reasoning)</think>"):  # fmt: skip
        assert part in text
    assert re.search(r"^order +(\[\d\] > ){3}\[\d\]$", text, re.MULTILINE)
    assert max(map(columns, lines)) <= 80
    assert "\x1b" not in text


def test_show_one_call_in_full_with_the_prompt_that_was_sent(make: Make, shown: Callable[..., str]) -> None:
    run = make("run.txt", "reasonrank")
    text = shown("show", run, "--qid", "long", "--call", "1")
    assert "call 0" not in text
    assert "rank  first" not in text
    assert "system: You are an expert relevance assessor." in text
    assert len(re.findall(r"\bPassage\s\d", text)) == 15  # those of the prompt
    assert "differs from the prompt that was sent" not in text
    assert "more lines" not in text
    assert "more lines" in shown("show", run, "--qid", "long")
    full = shown("show", run, "--qid", "long", "--full")
    assert "more lines" not in full
    assert len(re.findall(r"\bPassage\s\d", full)) == 25 + 20 + 15


def test_show_says_when_a_prompt_is_not_the_one_that_was_sent(
    make: Make, shown: Callable[..., str], collection: Collection, tmp_path: Path
) -> None:
    run = make("run.txt", "reasonrank")
    other = tmp_path / "other.jsonl"
    other.write_text(collection.corpus.read_text().replace("topic 1.", "another topic."))
    text = shown("show", run, "--qid", "7", "--full", "--corpus", other)
    assert "(differs from the prompt that was sent" in text
    assert "of another topic." in " ".join(text.split())
    assert "differs" not in shown("show", run, "--qid", "7", "--candidates", collection.candidates)


def test_show_without_the_texts_says_why(make: Make, shown: Callable[..., str]) -> None:
    run = make("run.txt", "reasonrank")
    text = shown("show", run, "--qid", "7", "--corpus", "gone.jsonl")
    assert "gone.jsonl does not exist" in " ".join(text.split())
    assert "prompt  " not in text
    assert "reasoning  The gains are" in text
    text = shown("show", f"{run}.journal.sqlite", "--qid", "7")
    assert "name the run file" in " ".join(text.split())
    assert "reasoning  The gains are" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("upr",), ["log P = "]),
        (("reasonrank", "--rerank.fuse.method", "rrf"), ["fused"]),
        (("self-consistency", "--rerank.combine.samples", "3"), ["agree", "call ranker#2:0", "samples    3"]),
        (
            (
                "reasonrank",
                "--rerank.engine.name",
                "faulty",
                "--rerank.engine.faults",
                "{truncated: 1}",
                "--rerank.max_bad",
                "1",
            ),
            ["prompt 2", "answer 2"],
        ),
    ],
    ids=["upr", "fused", "samples", "repaired"],
)
def test_show_every_kind_of_call(
    make: Make, shown: Callable[..., str], collection: Collection, words: tuple[str, ...], says: list[str]
) -> None:
    faulty = ["--rerank.engine.inner", f"{{name: oracle, qrels: {collection.qrels}}}"] if "faulty" in words else []
    text = shown("show", make("run.txt", *words, *faulty), "--qid", "7")
    for part in says:
        assert part in text
    assert "differs" not in text
    assert "note  " not in text
    assert max(map(columns, text.splitlines())) <= 80


def test_show_a_query_without_candidates(make: Make, shown: Callable[..., str]) -> None:
    assert "The first stage returned no documents." in shown("show", make("run.txt", "reasonrank"), "--qid", "nothing")


def test_show_an_unknown_query_or_call(make: Make, refused: Callable[..., str]) -> None:
    run = make("run.txt", "reasonrank")
    assert refused("show", run, "--qid", "longer") == f"{run} has no query 'longer'; did you mean 'long' or 'single'?"
    assert refused("show", run, "--qid", "zzz").endswith("its queries: 7, long, nothing, single")
    for action in ("export", "rankings"):
        assert f"{run} has no query '8'" in refused(action, run, "--qid", "8")
    assert refused("show", run, "--qid", "7", "--call", "4") == "query 7 has no call '4'; its calls: 0"
    assert "required: --qid" in refused("show", run)
    assert "did you mean '--qid'" in refused("show", run, "--qdi", "7")


def test_show_is_coloured_only_on_a_terminal(
    make: Make, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("run.txt", "reasonrank")
    plain = shown("show", run, "--qid", "7")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    coloured = shown("show", run, "--qid", "7")
    assert "\x1b[32mok\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown("show", run, "--qid", "7") == plain


def test_texts_can_not_control_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x9bc\u202ed\te\r\nf\u00ad\ufeffg") == "a�[2Jb�c�d e\nfg"
    assert one_line("日本語のパッセージ", 9) == "日本語の…"
    assert list(wrapped("日本語 word averylongwordindeed", 8)) == ["日本語", "word", "averylon", "gwordind", "eed"]


# --- export and rankings


def test_export_has_first_stage_and_fused_scores(make: Make, shown: Callable[..., str], collection: Collection) -> None:
    run = make("run.txt", "reasonrank", "--rerank.fuse.method", "min-max")
    [record] = map(json.loads, shown("export", run, "--qid", "7").splitlines())
    places = {c.docid: [rank, c.score] for rank, c in enumerate(collection.requests[1].candidates, 1)}
    assert record["first_stage"] == [places[docid] for docid in record["docids"]]
    [ranking] = map(json.loads, shown("rankings", run, "--qid", "7").splitlines())
    fused = [line["fused"] for line in ranking["ranking"]]
    assert fused == sorted(fused, reverse=True)
    assert dict(zip(record["docids"], record["fused"], strict=True)) == {
        line["docid"]: line["fused"] for line in ranking["ranking"]
    }
    plain = make("plain.txt", "reasonrank")
    assert "fused" not in shown("export", plain) + shown("rankings", plain)


def test_a_run_or_its_journal_is_exported_and_a_journal_with_all_its_runs(
    make: Make, shown: Callable[..., str], refused: Callable[..., str], tmp_path: Path
) -> None:
    journal = tmp_path / "shared.sqlite"
    runs = [make(name, "reasonrank", "--rerank.journal", str(journal), "--rerank.depth", depth)
            for name, depth in (("one.txt", "3"), ("two.txt", "5"))]  # fmt: skip
    for run, depth in zip(runs, (3, 5), strict=True):
        [record] = map(json.loads, shown("export", run, "--qid", "7").splitlines())
        assert (record["run"], len(record["docids"])) == (f"reasonrank-oracle {run.name}", depth)
    assert len(shown("export", journal, "--qid", "7").splitlines()) == 2
    assert "has a query '8'" in refused("export", journal, "--qid", "8")
    assert "2 runs (reasonrank-oracle one.txt, reasonrank-oracle two.txt); name the run file" in refused(
        "show", journal, "--qid", "7"
    )


# --- pack


def replay(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], inputs: Sequence[str]) -> Path:
    """Pack a run, and make it again from the file with the command that is printed."""
    packed, again = tmp_path / "answers.jsonl.gz", tmp_path / "again.txt"
    assert trace.main(["pack", str(run), "-o", str(packed)]) == 0
    command = capsys.readouterr().out.split("replay ")[1].replace("\\\n", " ")
    words = shlex.split(command)
    flags = words[words.index("--rerank") :]
    assert rerank.main([*inputs, "--output", str(again), *flags]) == 0
    assert "prompts that differ" not in capsys.readouterr().out
    return again


PACKED = {
    "windows": ["reasonrank", "--rerank.strategy.window_size", "5", "--rerank.strategy.stride", "2"],
    "fused": ["reasonrank", "--rerank.fuse.method", "z-score", "--rerank.depth", "6"],
    "samples": ["self-consistency", "--rerank.combine.samples", "3", "--rerank.combine.shuffle", "20"],
    "rounds": ["coranking"],
    "likelihood": ["upr"],
    "score": ["rank1", "--rerank.depth", "5"],
    "steps": ["orderchain", "--rerank.depth", "5"],
    "votes": ["rank-r1", "--rerank.judge.votes", "3", "--rerank.judge.shuffle", "true", "--rerank.depth", "5"],
    "strings": ["reasonrank", "--rerank.sampling.stop", '["1", "null"]', "--rerank.tag", "007"],
}


@pytest.mark.parametrize("words", PACKED.values(), ids=PACKED)
def test_packed_answers_give_the_same_run(
    make: Make, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    run = make("run.txt", *words)
    again = replay(run, tmp_path, capsys, collection.inputs)
    assert again.read_bytes() == run.read_bytes()
    for action in ("export", "rankings"):
        records = []
        for path in (run, again):
            assert trace.main([action, str(path)]) == 0
            out = re.sub(r'"run": "[^"]*", |"seconds": [\d.e-]+, ', "", capsys.readouterr().out)
            records.append([json.loads(line) for line in out.splitlines()])
        assert records[0] == records[1]


def test_repaired_and_failed_calls_are_replayed(
    make: Make, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = f"{{name: oracle, qrels: {collection.qrels}}}"
    words = ["--rerank.engine.name", "faulty", "--rerank.engine.inner", inner, "--rerank.on_error", "keep",
             "--rerank.engine.faults", "{truncated: 0.4, error: 0.2, duplicates: 0.2}", "--rerank.max_bad", "1",
             "--rerank.strategy.window_size", "4", "--rerank.strategy.stride", "2"]  # fmt: skip
    run = make("run.txt", "reasonrank", *words)
    again = replay(run, tmp_path, capsys, collection.inputs)
    assert again.read_bytes() == run.read_bytes()
    statuses = []
    for path in (run, again):
        with closing(sqlite3.connect(f"{path}.journal.sqlite")) as connection:
            statuses.append(connection.execute("SELECT qid, number, status FROM judgements").fetchall())
    assert statuses[0] == statuses[1]
    assert {status for *_, status in statuses[0]} >= {"ok", "repaired", "error"}


def test_a_question_that_was_asked_again_is_replayed(
    make: Make, shown: Callable[..., str], collection: Collection, tmp_path: Path
) -> None:
    documents = tuple(c.docid for c in collection.requests[1].candidates)
    answers = [Answer("7", "", 0, Completion(text), turn, documents)
               for turn, text in enumerate(("I can't decide.", "[3] > [1] > [2] > [4] > [5] > [6] > [7]"))]  # fmt: skip
    packed = tmp_path / "answers.jsonl.gz"
    write_answers(packed, Header(capabilities=frozenset({Capability.REASK})), answers)
    flags = ["--rerank.engine.name", "recorded", "--rerank.engine.path", str(packed), "--qids", "7"]
    run = make("run.txt", "reasonrank", *flags)
    [record] = map(json.loads, shown("export", run, "--qid", "7").splitlines())
    assert (record["status"], record["detail"], len(record["calls"])) == ("repaired", "asked twice, no answer tag", 2)
    assert record["order"][:3] == [documents[2], documents[0], documents[1]]


def test_a_packed_file_has_hashes_and_no_paths_or_secrets(
    make: Make, collection: Collection, tmp_path: Path, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"depth: 6\njournal: {tmp_path}/j.sqlite\npassage_tokens: 40\n")
    run = make("run.txt", "reasonrank", "--rerank.config", str(config))
    packed = tmp_path / "answers.jsonl.gz"
    out = shown("pack", run, "-o", packed)
    assert re.search(r"answers +\d+ for 4 queries\n", out)
    text = gzip.decompress(packed.read_bytes()).decode()
    assert str(tmp_path) not in text
    assert str(collection.folder) not in text
    header, *rows = map(json.loads, text.splitlines())
    assert header["run"]["sha256"]
    assert header["first stage"]["name"] == "run.txt"
    assert header["flags"][:2] == ["--rerank", "reasonrank"]
    assert "--rerank.passage_tokens" in header["flags"]
    assert "mine.yaml" not in header["flags"]
    assert all(len(row["prompt_sha256"]) == 64 and row["docids"] for row in rows)
    first = packed.read_bytes()
    packed.unlink()
    shown("pack", run, "-o", packed)
    assert packed.read_bytes() == first


def test_packed_answers_are_only_for_the_documents_that_were_shown(
    make: Make, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make("run.txt", "reasonrank", "--rerank.depth", "5")
    packed = tmp_path / "answers.jsonl.gz"
    trace.main(["pack", str(run), "-o", str(packed)])
    flags = ["--rerank", "reasonrank", "--rerank.engine.name", "recorded", "--rerank.engine.path", str(packed)]
    output = ["--output", str(tmp_path / "other.txt")]
    with pytest.raises(Failure, match="about other documents"):
        rerank.main([*collection.inputs, *output, *flags, "--rerank.depth", "4"])
    other = tmp_path / "other.jsonl"
    other.write_text(collection.corpus.read_text().replace("Passage", "A passage"))
    inputs = [*collection.inputs[:-1], str(other)]
    capsys.readouterr()
    assert rerank.main([*inputs, *output, *flags, "--rerank.depth", "5"]) == 0
    assert "prompts that differ from the recorded ones" in capsys.readouterr().out


def test_what_can_not_be_packed(
    make: Make, refused: Callable[..., str], collection: Collection, tmp_path: Path
) -> None:
    run, packed = make("run.txt", "reasonrank"), tmp_path / "answers.jsonl.gz"
    journal = Path(f"{run}.journal.sqlite")
    for path in (run, journal, Path(f"{run}.ir-metadata.yml")):
        assert f"-o {path} is " in refused("pack", run, "-o", path)
    packed.write_text("mine")
    assert "exists; name another file" in refused("pack", run, "-o", packed)
    assert packed.read_text() == "mine"
    packed.unlink()
    assert "there is no folder" in refused("pack", run, "-o", tmp_path / "none" / "answers.gz")
    assert "name the run file" in refused("pack", journal, "-o", packed)
    assert "required: -o" in refused("pack", run)

    other = make("other.txt", "reasonrank", "--rerank.depth", "2")
    shutil.copy(f"{other}.journal.sqlite", journal)
    assert f"the journal {journal} is not that of {run}: their rankings of query long differ" in refused(
        "pack", run, "-o", packed
    )
    assert "is not that of" in refused("show", run, "--qid", "long")
    with closing(sqlite3.connect(journal)) as connection, connection:
        for table in ("calls", "asked", "judgements", "rankings"):
            connection.execute(f"DELETE FROM {table}")
    assert f"the journal {journal} has no run 'reasonrank-oracle run.txt': it has no run" in refused(
        "pack", run, "-o", packed
    )
    journal.unlink()
    assert f"journal {journal} does not exist" in refused("pack", run, "-o", packed)
    assert f"{tmp_path / 'none.txt'} does not exist" in refused("pack", tmp_path / "none.txt", "-o", packed)
    assert not packed.exists()


def test_a_run_whose_settings_are_not_known_can_not_be_packed(
    make: Make, refused: Callable[..., str], shown: Callable[..., str], tmp_path: Path
) -> None:
    run, packed = make("run.txt", "reasonrank"), tmp_path / "answers.jsonl.gz"
    metadata = Path(f"{run}.ir-metadata.yml")
    text = metadata.read_text()
    metadata.write_text(text.replace("--rerank reasonrank", "--rerank reasonrank --rerank.depth 3", 1))
    assert "its command gives other settings here than when it ran" in refused("pack", run, "-o", packed)
    text_of_query = shown("show", run, "--qid", "7")
    assert "prompts are not shown: the settings of" in text_of_query
    assert "what is topic 1" in text_of_query
    metadata.write_text(re.sub(r"cmd: .*", "cmd: python -m pyserini_reasonrank merge a b", text))
    assert "it was made by `python -m pyserini_reasonrank merge ...`" in refused("pack", run, "-o", packed)
    metadata.unlink()
    assert "ir-metadata.yml does not exist" in refused("pack", run, "-o", packed)
    assert not packed.exists()


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"version": 2}, "has version 2 of packed answers, expected 1"),
        ({"version": 1, "flags": []}, "line 1: the header of packed answers is malformed"),
        ({"version": 1, "flags": [], "capabilities": ["telepathy"]}, "line 1: the header of packed answers is malformed"),
    ],
)  # fmt: skip
def test_a_malformed_header_is_an_error(
    collection: Collection, tmp_path: Path, header: dict[str, Any], says: str
) -> None:
    packed = tmp_path / "answers.jsonl"
    packed.write_text(json.dumps({"format": "pyserini_reasonrank answers", **header}) + "\n")
    flags = ["--rerank", "reasonrank", "--rerank.engine.name", "recorded", "--rerank.engine.path", str(packed)]
    with pytest.raises(UsageError, match=re.escape(says)):
        rerank.main([*collection.inputs, "--output", str(tmp_path / "run.txt"), *flags])
