"""Every command as people run it: what it prints, its exit status, one sentence for what is wrong, no half-written file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Collection, Command
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.cli.commands import COMMANDS
from pyserini_reasonrank.ir.runs import Hit, read_run
from pyserini_reasonrank.models import devices

FLAGS = {
    "rerank": [
        "--run",
        "--candidates",
        "--qids",
        "--shard",
        "--exclude",
        "--output",
        "depth",
        "window_size",
        "base_url",
        "temperature",
        "reasonrank",
    ],
    "rewrite": ["--topics", "--output", "--rewrite NAME", "keywords", "--rewrite.rounds", "--rewrite.originals"],
    "index": ["--corpus", "--index"],
    "merge": ["OUT", "PART", "--topics"],
    "evaluate": ["--qrels", "--measures", "--format", "RUN"],
    "report": ["RUN", "--qrels", "--corpus", "--index", "--topics", "--journal", "--passage-words", "--output"],
    "2cr": ["--condition", "--topics", "--data", "--output", "--dry-run", "--by", "--append"],
    "validate": ["--topics", "--first"],
    "threshold": ["RUN", "--qrels", "--relevant"],
    "explain": ["--queries", "--rerank NAME", "--rerank.depth", "window_size", "reasonrank"],
    "trace": ["show", "export", "rankings", "pack", "--qid"],
    "serve": ["--rerank NAME", "--port", "--index", "--also", "REASONRANK_TOKEN"],
    "models": [],
    "prompts": ["show", "list"],
    "doctor": [],
    "demo": ["--folder", "--queries"],
    "train": ["STEP", "data", "sft", "grpo", "export", "--config"],
}


def oracle(collection: Collection, name: str = "reasonrank") -> list[str]:
    return ["--rerank", name, "--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(collection.qrels)]


# --- each command, in a process of its own


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help(name: str, command: Command) -> None:
    done = command(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert [flag for flag in FLAGS[name] if flag not in done.stdout] == []
    assert "usage: " in done.stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train"])
def test_help_says_what_a_command_is_for_and_shows_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):
        main([name, "--help"])
    printed = capsys.readouterr().out
    usage, purpose, *_ = printed.split("\n\n")
    assert usage.startswith(f"usage: python -m pyserini_reasonrank {name}")
    assert purpose == f"{COMMANDS[name].purpose}."
    examples = printed.split("\nexamples:\n")[1].split("\n\n")[0]
    assert re.match(f"  python -m pyserini_reasonrank {name}\\b", examples)


def test_examples_of_evaluate_can_be_run(collection: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--qrels", str(collection.qrels), "--measures", "nDCG@10", "RR@10"]
    assert main(["evaluate", *words, "--format", "json", str(collection.run)]) == 0
    printed = capsys.readouterr().out
    assert main(["evaluate", *words, "--format", "json", "--", str(collection.run)]) == 0
    assert capsys.readouterr().out == printed
    assert "RR@10" in printed


def test_a_command_imports_its_own_module_alone() -> None:
    code = (
        "import sys; from pyserini_reasonrank.__main__ import main; main(['--help']); "
        "ours = {name for name in sys.modules if name.startswith('pyserini_reasonrank.')}; "
        "print(sorted(ours - {'pyserini_reasonrank._startup'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert loaded == str([
        f"pyserini_reasonrank.{name}" for name in ("__main__", "cli", "cli.commands", "cli.exit", "errors", "interrupts")
    ])  # fmt: skip


def test_overview_names_every_command(command: Command) -> None:
    for words, status in (([], 2), (["--help"], 0), (["-h"], 0)):
        done = command(*words)
        assert done.returncode == status
        assert [name for name in COMMANDS if not re.search(rf"^  {name} +\S", done.stdout, re.MULTILINE)] == []


def test_rerank_validate_evaluate_and_trace(command: Command, collection: Collection, tmp_path: Path) -> None:
    run = tmp_path / "new folder" / "run.txt"
    done = command("rerank", *collection.inputs, "--output", run, *oracle(collection))
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 of 4 reranked, 1 without candidates" in done.stdout
    assert "calls     3 judgements (3 ok) from 3 LLM calls and 0 journal entries" in done.stdout
    for name in (run, f"{run}.journal.sqlite", f"{run}.ir-metadata.yml", collection.run):
        assert str(name) in done.stdout

    done = command("validate", run, "--topics", collection.topics, "--first", collection.run)
    assert (done.returncode, done.stdout, done.stderr) == (0, "valid: 3 topics, 33 documents\n", "")

    done = command("evaluate", "--qrels", collection.qrels, collection.run, run)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nDCG@10" in done.stdout
    assert "1.0000" in done.stdout

    done = command("trace", "export", f"{run}.journal.sqlite", "--qid", "long")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["qid"], r["call"], r["status"]) for r in records] == [("long", 0, "ok"), ("long", 1, "ok")]
    assert records[0]["calls"][0]["text"].startswith("<think>")


def test_rerank_a_candidates_file_into_msmarco_format(command: Command, collection: Collection, tmp_path: Path) -> None:
    words = [
        "--candidates",
        collection.candidates,
        "--output-format",
        "msmarco",
        "--output",
        "run",
        *oracle(collection),
    ]
    done = command("rerank", *words, cwd=tmp_path)
    assert done.returncode == 0
    assert re.fullmatch(r"(\S+\t\S+\t\d+\n){33}", (tmp_path / "run").read_text())


def test_both_inputs_give_the_same_run(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in (("a", collection.inputs), ("b", ["--candidates", str(collection.candidates)])):
        assert main(["rerank", *words, "--output", str(tmp_path / name), *oracle(collection)]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_published_runs_with_blanks_and_repeats(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rerank, evaluate and validate accept a run with blanks in docids and, with a flag, repeated documents."""
    files = {
        "first.txt": "q1 Q0 a/Lamp 2.txt 1 0.9 x\nq1 Q0 Sun 2 0.8 x\nq1 Q0 a/Lamp 2.txt 3 0.7 x\n",
        "topics.tsv": "q1\twhy do moths fly to a lamp\n",
        "corpus.jsonl": '{"id": "a/Lamp 2.txt", "contents": "A lamp."}\n{"id": "Sun", "contents": "The sun."}\n',
        "qrels.txt": "q1 0 Sun 1\nq1 0 a/Lamp 2.txt 0\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    first, topics, corpus, qrels = (str(tmp_path / name) for name in files)
    run = str(tmp_path / "run.jsonl")
    words = [
        "rerank",
        "--run",
        first,
        "--topics",
        topics,
        "--corpus",
        corpus,
        "--output",
        run,
        "--rerank",
        "reasonrank",
    ]
    words += ["--output-format", "jsonl", "--rerank.engine.name", "oracle", "--rerank.engine.qrels", qrels]
    keep = ["--duplicates", "keep-first"]
    assert main(words) == 2
    assert "--duplicates keep-first" in capsys.readouterr().err
    assert main([*words, *keep]) == 0
    assert list(read_run(run)["q1"]) == [Hit("Sun", 2.0), Hit("a/Lamp 2.txt", 1.0)]
    capsys.readouterr()
    assert main(["validate", run, "--topics", topics, "--first", first, *keep]) == 0
    assert main(["evaluate", "--qrels", qrels, *keep, "--measures", "RR@10", "--format", "json", first, run]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("valid: 1 topic, 2 documents\n")
    scores = json.loads(printed.partition("\n")[2])
    assert (scores["first"]["scores"][0]["value"], scores["runs"][0]["scores"][0]["value"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        '{"query": {"text": "why", "qid": "q1"}, "candidates": [{"docid": "d1", "score": 9.0, "doc": {"contents": "a"}}, '
        '{"docid": "d2", "score": 8.0, "doc": "b"}]}\n',
        '[{"query": {"text": "why", "qid": "q1"},\n "candidates": [{"docid": "d1", "score": 9.0, "doc": {"title": "a"}}, '
        '{"docid": "d2", "score": 8.0, "doc": {"segment": "b"}}]}]\n',
        '{"query": "why", "hits": [{"content": "a", "qid": "q1", "docid": "d1", "rank": 1, "score": 9.0}, '
        '{"content": "b", "qid": "q1", "docid": "d2", "rank": 2, "score": 8.0}]}\n',
    ],
)
def test_candidates_in_the_forms_of_other_projects(text: str, tmp_path: Path) -> None:
    (tmp_path / "requests.json").write_text(text)
    (tmp_path / "qrels.txt").write_text("q1 0 d2 1\nq1 0 d1 0\n")
    words = ["rerank", "--candidates", str(tmp_path / "requests.json"), "--output", str(tmp_path / "run.txt")]
    words += ["--rerank", "reasonrank", "--rerank.engine.name", "oracle"]
    assert main([*words, "--rerank.engine.qrels", str(tmp_path / "qrels.txt")]) == 0
    assert [hit.docid for hit in read_run(tmp_path / "run.txt")["q1"]] == ["d2", "d1"]


def test_explain_predicts_before_anything_is_loaded(command: Command, collection: Collection) -> None:
    done = command("explain", "--queries", 43, "--rerank.depth", 100, *oracle(collection))
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(re.findall(r"^([a-z, ]+?)  +(\S.*)$", done.stdout, re.MULTILINE))
    assert rows["calls"].split() == ["9", "387"]
    assert rows["longest chain of calls"].split() == ["9", "9"]
    assert rows["passages shown"].split() == ["180", "7,740"]


def test_explain_plans_for_a_machine_that_this_one_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(devices, "accelerators", tuple)
    monkeypatch.setattr(devices, "own_memory", lambda: devices.Device("cpu", "this machine", 8 * 10**9, 8 * 10**9))
    words = ["--rerank", "reasonrank", "--rerank.engine.name", "vllm", "--rerank.model", "reasonrank-7b"]
    assert main(["explain", *words]) == 0
    printed, said = capsys.readouterr()
    assert said == ""
    assert re.search(r"^calls +9 ", printed, re.MULTILINE)
    assert re.search(
        r"^warning: model reasonrank-7b needs 15\.2 GB .* does not fit \(this machine\)", printed, re.MULTILINE
    )
    assert main(["rerank", *words, "--output", "x", "--run", "x", "--topics", "x"]) == 2
    assert "does not fit" in capsys.readouterr().err


def test_models_prompts_and_doctor(command: Command) -> None:
    assert "reasonrank-7b" in command("models").stdout
    listed = command("prompts")
    assert "listwise-reasoning" in listed.stdout
    shown = command("prompts", "show", "listwise-reasoning")
    assert "[1] PASSAGE ONE\n[2] PASSAGE TWO" in shown.stdout
    doctor = command("doctor")
    assert doctor.returncode in (0, 1)
    assert "Python" in doctor.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rerak"], "there is no command 'rerak'; did you mean 'rerank'?"),
        (
            ["rerank", "--outputt", "x"],
            "python -m pyserini_reasonrank rerank has no flag --outputt; did you mean '--output'?",
        ),
    ],
)
def test_an_error_is_one_sentence_and_status_2(words: list[str], says: str, command: Command) -> None:
    done = command(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {says}\n")


def test_findings_are_status_1(command: Command, collection: Collection, tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    run.write_text("long Q0 long-d0 1 2.0 t\nlong Q0 long-d0 2 1.0 t\n")
    done = command("validate", run, "--first", collection.run)
    assert (done.returncode, done.stderr) == (1, "")
    assert "more than once" in done.stdout


# --- what is wrong, in process


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command in an empty folder that must exit with 2, one sentence and no file; returns the sentence."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*words: object) -> str:
        assert main([str(word) for word in words]) == 2
        printed, said = capsys.readouterr()
        assert printed == ""
        assert re.fullmatch(r"error: [^\n]+\n", said), said
        assert "Traceback" not in said
        assert list(folder.iterdir()) == []
        return said.removeprefix("error: ").strip()

    return run


def test_unknown_names(refused: Callable[..., str], collection: Collection) -> None:
    base = ["rerank", *collection.inputs, "--output", "run.txt"]
    known = oracle(collection)
    for words, says in [
        (["evalute"], "did you mean 'evaluate'"),
        ([*base, "--rerank", "reasonrnk"], "there is no reranker 'reasonrnk'; did you mean 'reasonrank'?"),
        (
            [*base, "--rerank", "reasonrank", "--rerank.engine.name", "orcale"],
            "no engine 'orcale'; did you mean 'oracle'?",
        ),
        ([*base, *known, "--rerank.dept", "5"], "--rerank.dept is not known; did you mean 'depth'?"),
        ([*base, *known, "--rerank.engine.qrel", "5"], "--rerank.engine.qrel is not known; did you mean 'qrels'?"),
        ([*base, *known, "--rerank.sampling.temprature", "5"], "did you mean 'temperature'"),
        ([*base, *known, "--topcs", "t"], "no flag --topcs; did you mean '--topics'?"),
        ([*base, *known, "stray"], "unrecognized arguments: stray"),
        ([*base, *known, "--output-format", "trek"], "invalid choice: 'trek'"),
        ([*base], "--rerank needs the name of a reranker: "),
        ([*base, "--rerank"], "--rerank needs the name of a reranker: "),
        (["rerank", *collection.inputs, *known], "--output"),
        (["rerank", "--output", "run.txt", *known], "rerank needs --run, --topics and the texts"),
        (["explain"], "--rerank needs the name of a reranker"),
        (["explain", *known, "--query", "3"], "did you mean '--queries'?"),
        (["explain", *known, "--queries", "many"], "invalid int value: 'many'"),
        (["evaluate", "--qrel", "q", "first"], "did you mean '--qrels'?"),
        (["validate"], "required: RUN"),
        (["validate", "run", "--topic", "t"], "did you mean '--topics'?"),
        (["trace", "exprt", "journal"], "trace has no action 'exprt'; did you mean 'export'?"),
        (["trace"], "required: ACTION"),
        (["trace", "show", "run.txt", "--qdi", "7"], "trace show has no flag --qdi; did you mean '--qid'?"),
        (["prompts", "show"], "prompts show needs a name: "),
        (["prompts", "show", "listwize"], "there is no prompt 'listwize'; did you mean 'listwise'?"),
        (["prompts", "list", "listwise"], "to show one: prompts show listwise"),
        (
            ["explain", "--rewrite", "keywords", "--document-tokens", "9"],
            "--document-tokens counts the segments of a reranker",
        ),
        (["models", "x"], "unrecognized arguments: x"),
        (["doctor", "--x"], "doctor has no flag --x"),
    ]:
        assert says in refused(*words), words


def test_values_out_of_bounds(refused: Callable[..., str], collection: Collection) -> None:
    base = ["rerank", *collection.inputs, "--output", "run.txt", *oracle(collection)]
    assert refused(*base, "--rerank.depth", 0) == "--rerank.depth 0: input should be greater than or equal to 1"
    assert "stride 30 is larger than window_size 20" in refused(*base, "--rerank.strategy.stride", 30)
    assert "--rerank.depth needs a value" in refused(*base, "--rerank.depth")
    assert "model oracle has a context of 100 tokens, and reasonrank needs" in refused(
        *base, "--rerank.max_model_len", 100
    )


def test_missing_and_empty_files(refused: Callable[..., str], collection: Collection, tmp_path: Path) -> None:
    empty = tmp_path / "nothing.txt"
    empty.write_text("")
    own = {"--run": collection.run, "--topics": collection.topics, "--corpus": collection.corpus}
    for flag in own:
        for path, says in ((tmp_path / "none.txt", "does not exist"), (empty, "is empty"), (tmp_path, "can't be read")):
            words = [word for key, value in (own | {flag: path}).items() for word in (key, value)]
            said = refused("rerank", *words, "--output", "run.txt", *oracle(collection))
            assert str(path) in said
            assert says in said
    for path, says in ((tmp_path / "none.txt", "does not exist"), (empty, "is empty"), (tmp_path, "")):
        said = refused("rerank", "--candidates", path, "--output", "run.txt", *oracle(collection))
        assert str(path) in said
        assert says in said
    for path in (tmp_path / "none.txt", empty, tmp_path):
        assert str(path) in refused("validate", path)
        assert str(path) in refused("evaluate", "--qrels", path, collection.run)
        assert str(path) in refused("evaluate", "--qrels", collection.qrels, path)
        assert str(path) in refused("trace", "export", path)
        assert str(path) in refused("prompts", "show", f"{path}.yaml")
    base, none = ["rerank", *collection.inputs, "--output", "run.txt"], tmp_path / "none.yaml"
    assert "none.yaml" in refused(*base, *oracle(collection), "--rerank.config", none)
    other = [none if word == str(collection.qrels) else word for word in oracle(collection)]
    assert "none.yaml" in refused(*base, *other)


CORPUS = {"id": "long-d0", "contents": "text"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("not json", "corpus.jsonl, line 2 is not JSON"),
        ('{"id": "x", ', "corpus.jsonl, line 2 is not JSON"),
        ('["x"]', "corpus.jsonl, line 2 has no docid"),
        ('{"contents": "x"}', "corpus.jsonl, line 2 has no docid"),
        ('{"id": "x"}', "corpus.jsonl, line 2 has no text"),
        ('{"id": "x", "contents": "x"}', "has no document '7-d0' (32 of 33 are missing)"),
    ],
)
def test_a_corpus_that_is_wrong(
    line: str, says: str, refused: Callable[..., str], collection: Collection, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(f"{json.dumps(CORPUS)}\n{line}\n")
    words = ["--run", collection.run, "--topics", collection.topics, "--corpus", corpus]
    assert says in refused("rerank", *words, "--output", "run.txt", *oracle(collection))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("not json", "line 2: expected qid, query, candidates"),
        ("[]", "line 2: expected qid, query, candidates"),
        ('{"qid": "q", "query": "x"}', "line 2: expected qid, query, candidates"),
        ('{"qid": "q", "query": "x", "candidates": [{"docid": "d"}]}', "line 2, query q: document d has no text"),
        ('{"qid": "q", "query": "x", "candidates": [{"text": "d"}]}', "line 2: expected qid, query, candidates"),
        ('{"qid": "q", "query": "x", "candidates": ["d"]}', "line 2: expected qid, query, candidates"),
        (
            '{"qid": "q", "query": "x", "candidates": [{"docid": "d", "text": ""}, {"docid": "d", "text": "y"}]}',
            "query q lists document d twice; a run lists a document once per query (--duplicates keep-first",
        ),
        ('{"qid": "p", "query": "x", "candidates": [{"docid": "d", "text": "x"}]}', "query p occurs twice"),
        ('{"qid": "q q", "query": "x", "candidates": [{"docid": "d", "text": "x"}]}', "'q q' contains white space"),
        ('{"qid": "q", "query": "x", "candidates": [{"docid": "d d", "text": "x"}]}', "'d d' contains white space"),
    ],
)
def test_candidates_that_are_wrong(
    line: str, says: str, refused: Callable[..., str], collection: Collection, tmp_path: Path
) -> None:
    candidates = tmp_path / "candidates.jsonl"
    candidates.write_text(f'{{"qid": "p", "query": "x", "candidates": [{{"docid": "d", "text": "x"}}]}}\n{line}\n')
    words = ["--candidates", candidates, "--rerank.journal", tmp_path / "journal", "--output", "run.txt"]
    assert says in refused("rerank", *words, *oracle(collection))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("long Q0 long-d0 26 0.5 first", "query long lists document long-d0 twice"),
        ("other Q0 long-d0 1 0.5 first", "has query other, which is not in the topics"),
        ("long Q0 unknown-d0 26 0.5 first", "has no document 'unknown-d0'"),
        ("long Q0 a b 26 0.5 first", "has no document 'a b'"),
        ("long x a b 26 0.5 first", "7 columns"),
        ("long Q0 x last 0.5 first", "the rank 'last' is not an integer"),
    ],
)
def test_a_run_that_is_wrong(
    line: str, says: str, refused: Callable[..., str], collection: Collection, tmp_path: Path
) -> None:
    run = tmp_path / "first.txt"
    run.write_text(f"{collection.run.read_text()}{line}\n")
    words = ["--run", run, "--topics", collection.topics, "--corpus", collection.corpus]
    assert says in refused("rerank", *words, "--output", "run.txt", *oracle(collection))


@pytest.mark.parametrize(
    ("line", "says"),
    [("long\tagain", "repeats the qid 'long'"), ("no tab", "is not qid<TAB>query"), ("x\t ", "is not qid<TAB>query")],
)
def test_topics_that_are_wrong(
    line: str, says: str, refused: Callable[..., str], collection: Collection, tmp_path: Path
) -> None:
    topics = tmp_path / "topics.tsv"
    topics.write_text(f"{collection.topics.read_text()}{line}\n")
    words = ["--run", collection.run, "--topics", topics, "--corpus", collection.corpus]
    assert says in refused("rerank", *words, "--output", "run.txt", *oracle(collection))


def test_an_endpoint_that_is_down(refused: Callable[..., str], collection: Collection) -> None:
    words = [
        "--rerank",
        "reasonrank",
        "--rerank.engine.name",
        "openai",
        "--rerank.engine.base_url",
        "http://127.0.0.1:1/v1",
    ]
    said = refused("rerank", *collection.inputs, "--output", "run.txt", *words)
    assert said.startswith("no server answers at http://127.0.0.1:1/v1/")


def test_the_first_stage_run_is_not_overwritten(refused: Callable[..., str], collection: Collection) -> None:
    before = collection.run.read_bytes()
    said = refused("rerank", *collection.inputs, "--output", collection.run, *oracle(collection))
    assert str(collection.run) in said
    assert collection.run.read_bytes() == before


def test_an_old_run_stays_until_the_new_one_is_whole(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run.txt"
    run.write_text("the old run\n")
    inner = f"{{qrels: {collection.qrels}}}"
    words = ["--rerank", "reasonrank", "--rerank.engine.name", "faulty", "--rerank.engine.inner", inner]
    words += ["--rerank.overwrite", "true"]
    assert main(["rerank", *collection.inputs, "--output", str(run), *words, "--rerank.engine.dies_after", "2"]) == 1
    assert capsys.readouterr().err == "error: the engine died after 2 calls\n"
    assert run.read_text() == "the old run\n"
    assert main(["rerank", *collection.inputs, "--output", str(run), *words]) == 0
    assert len(run.read_text().splitlines()) == 33
    assert not (tmp_path / "run.txt.partial").exists()


def test_progress_on_a_terminal(collection: Collection, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "pyserini_reasonrank",
        "rerank",
        *collection.inputs,
        "--output",
        str(tmp_path / "run.txt"),
    ]
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 160))
    flags = ["--rerank.strategy", "{name: sliding, window_size: 4, stride: 2}"]
    done = subprocess.run(
        [*words, *oracle(collection), *flags], stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    questions = int(re.search(r"(\d+) judgements", done.stdout.decode())[1])  # type: ignore[index]
    assert "reranking" in shown
    assert f"{questions}/{questions}" in shown
    assert re.search(r"\d+ tok/s, 0 bad", shown)


# --- interrupted


def test_interrupted_it_says_so_and_the_same_command_goes_on(
    collection: Collection, tmp_path: Path, tokenizer_file: Path
) -> None:
    asked: list[str] = []
    answer = {
        "choices": [{"message": {"content": "<think>x</think><answer>[2] > [1]</answer>"}, "finish_reason": "stop"}]
    }

    def chat(request: Request) -> Response:
        asked.append(request.get_data(as_text=True))
        time.sleep(0.02)
        return Response(json.dumps(answer), mimetype="application/json")

    with HTTPServer() as http:
        http.expect_request("/v1/models").respond_with_json({"data": [{"id": "m"}]})
        http.expect_request("/v1/chat/completions").respond_with_handler(chat)
        words = ["--rerank", "reasonrank", "--rerank.engine.name", "openai", "--rerank.engine.base_url", http.url_for("/v1"),
                 "--rerank.strategy", "{name: sliding, window_size: 4, stride: 2}", "--rerank.engine.concurrency", "1",
                 "--rerank.tokenizer", str(tokenizer_file.parent)]  # fmt: skip
        command = [
            sys.executable,
            "-m",
            "pyserini_reasonrank",
            "rerank",
            *collection.inputs,
            "--output",
            "run.txt",
            *words,
        ]
        # a shell's background jobs ignore the signal, and so would their children
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:  # fmt: skip
            waited = time.monotonic()
            while len(asked) < 4 and time.monotonic() - waited < 30:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            printed, said = process.communicate(timeout=30)
        assert (process.returncode, printed) == (130, "")
        assert said == "error: interrupted; run the same command again to continue from the journal\n"
        assert not (tmp_path / "run.txt").exists()
        before = len(asked)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    kept = int(re.search(r"(\d+) journal entries", done.stdout)[1])  # type: ignore[index]
    assert before - 1 <= kept <= before  # one was in flight
    assert len(set(asked)) == len(asked) - (before - kept)
    assert len((tmp_path / "run.txt").read_text().splitlines()) == 33


def test_a_reader_that_goes_away_is_no_error(collection: Collection) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "pyserini_reasonrank", "models"]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
