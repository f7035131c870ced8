"""The command 2cr: names, dry runs, verdicts, what is never overwritten, missing data, pages and logs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Collection, more

from pyserini_reasonrank.cli import evaluate, rerank, two_click
from pyserini_reasonrank.cli.reproduce import matrix as matrices
from pyserini_reasonrank.cli.reproduce.conversions import main as convert
from pyserini_reasonrank.cli.reproduce.execution import execute
from pyserini_reasonrank.cli.reproduce.matrix import Matrix, load, names
from pyserini_reasonrank.cli.reproduce.matrix_page import logged, page
from pyserini_reasonrank.cli.reproduce.steps import Step, steps, wrapped
from pyserini_reasonrank.cli.reproduce.verdict import Verdict, compared
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.metadata import sidecar, write_metadata
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.run.candidates import parse_request

PAGES = ROOT / "docs" / "2cr"


def matrix(collection: Collection, **changes: Any) -> Matrix:
    """A matrix of one condition that copies the collection's run."""
    topics = {"topic_key": str(collection.topics), "eval_key": str(collection.qrels), "dataset": "small"}
    condition = {"name": "copy", "display": "Copy", "source": "nowhere", "topics": [topics]}
    condition["command"] = f"cp {shlex.quote(str(collection.run))} $output"
    tree = {"name": "mine", "display": "Mine", "about": "A test.", "hardware": "cpu"}
    return Matrix.model_validate({**tree, "conditions": [{**condition, **changes}]})


def planned(found: Matrix, folder: Path) -> list[Step]:
    return steps(found, found.conditions, None, folder, folder / "out")


def with_scores(collection: Collection, *values: float) -> list[dict[str, Any]]:
    """A topic set for each published nDCG@10."""
    same = {"topic_key": str(collection.topics), "eval_key": str(collection.qrels)}
    return [{**same, "dataset": f"set{number}", "scores": [{"nDCG@10": v}]} for number, v in enumerate(values)]


@pytest.fixture
def said() -> list[str]:
    return []


def test_verdicts_are_those_of_pyserini() -> None:
    found = [compared("nDCG@10", score, 0.5, 0.0005) for score in (0.50004, 0.50049, 0.4995, 0.5006)]
    assert [each.verdict for each in found] == [Verdict.OK, Verdict.OKISH, Verdict.OKISH, Verdict.FAIL]
    assert str(found[0]) == "nDCG@10: 0.5000 [OK]"
    assert str(found[1]) == "nDCG@10: 0.5005 [OKish] expected 0.5000"
    assert str(compared("nDCG@10", 0.5, None, 0.0005)) == "nDCG@10: 0.5000 not published here"
    assert compared("nDCG@10", 0.5001, 0.5, 0).verdict is Verdict.FAIL


def test_a_run_is_made_once_and_compared(collection: Collection, tmp_path: Path, said: list[str]) -> None:
    found = matrix(collection, topics=with_scores(collection, 0.1, 0.2), average=[{"nDCG@10": 0.3}])
    before = execute(found, planned(found, tmp_path), said.append)
    assert before.failed
    assert before.verdicts[Verdict.FAIL] == 3
    value = next(line for line in said if "nDCG@10" in line).split()[1]
    assert said.count(f"      nDCG@10: {value} [FAIL] expected 0.1000") == 1
    run = tmp_path / "out" / "run.mine.copy.set0.txt"
    assert run.read_text() == collection.run.read_text()
    run.write_text(run.read_text().replace(" first", " mine"))
    kept = run.read_bytes()
    exact = matrix(collection, topics=with_scores(collection, float(value), float(value)))
    after = execute(exact, planned(exact, tmp_path), said.append)
    assert (after.failed, after.verdicts[Verdict.OK]) == (False, 2)
    assert any("exists; it is evaluated, not made again" in line for line in said)
    assert run.read_bytes() == kept
    assert not any("another command made it" in line for line in said)
    write_metadata(sidecar(run), {"implementation": {"executable": {"cmd": "cp other.txt"}}})
    execute(exact, planned(exact, tmp_path), said.append)
    assert "    another command made it: cp other.txt" in said


def test_preparations_run_once_and_what_fails_leaves_nothing(
    collection: Collection, tmp_path: Path, said: list[str]
) -> None:
    write = "python -c \"import sys; open(sys.argv[1], 'a').write('x'); sys.exit(int(sys.argv[2]))\""
    made = {"creates": "$folder/made.txt", "command": f"{write} $folder/made.txt 0"}
    bad = matrix(collection, prepare=[made], command=f"{write} $output 3")
    outcome = execute(bad, planned(bad, tmp_path), said.append)
    assert outcome.failed
    assert "      [FAIL] the command ended with status 3" in said
    assert not (tmp_path / "out" / "run.mine.copy.small.txt").exists()
    good = matrix(collection, prepare=[made])
    assert not execute(good, planned(good, tmp_path), said.append).failed
    assert (tmp_path / "out" / "made.txt").read_text() == "x"
    nothing = matrix(collection, name="none", command="python -c pass")
    assert execute(nothing, planned(nothing, tmp_path), said.append).failed
    assert any("with status 0, but did not write" in line for line in said)
    absent = matrix(collection, name="absent", command="no-such-program-here $output")
    assert execute(absent, planned(absent, tmp_path), said.append).failed
    assert "      [FAIL] the command ended with status 127" in said


def test_a_run_that_cannot_be_evaluated_does_not_stop_the_others(
    collection: Collection, tmp_path: Path, said: list[str]
) -> None:
    sets = with_scores(collection, 0.1, 0.2)
    sets[0]["eval_key"] = str(collection.topics)
    found = matrix(collection, topics=sets)
    outcome = execute(found, planned(found, tmp_path), said.append)
    assert outcome.verdicts == {Verdict.FAIL: 2}
    assert any("[FAIL]" in line and "topics.tsv, line 1" in line for line in said)
    assert said[-1].startswith("\n0 [OK], 0 [OKish], 2 [FAIL]; ")


def test_of_all_conditions_those_with_the_topic_set_are_taken(tmp_path: Path) -> None:
    found = load("first-stages")
    chosen = steps(found, found.conditions, "cacm", tmp_path, tmp_path)
    assert [step.condition.name for step in chosen] == ["bm25", "bm25-search"]


def test_fields_are_quoted_and_must_be_defined(collection: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    [step] = planned(matrix(collection, command="cp $data/first.txt $output"), folder)
    assert shlex.split(step.commands[0]) == ["cp", f"{folder}/first.txt", f"{folder}/out/run.mine.copy.small.txt"]
    assert step.run == folder / "out" / "run.mine.copy.small.txt"
    assert shlex.split(step.evaluation)[-1] == str(step.run)
    with pytest.raises(UsageError, match=r"condition copy, topics small: the field 'nothing' .* is not defined"):
        planned(matrix(collection, command="cp $nothing $output"), folder)


@pytest.mark.parametrize("name", names())
def test_printed_commands_are_the_commands(name: str, tmp_path: Path) -> None:
    found = load(name)
    for each in steps(found, found.conditions, None, tmp_path / "my data", tmp_path / "it's"):
        for command in [*each.commands, each.evaluation]:
            assert shlex.split(wrapped(command).replace("\\\n", " ")) == shlex.split(command)


def test_a_condition_has_a_command_or_a_run(collection: Collection) -> None:
    for changes in ({"run": "x"}, {"command": None}):
        with pytest.raises(ValueError, match="needs either a command or a run"):
            matrix(collection, **changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("show brigth", "there is no matrix 'brigth'; did you mean 'bright'?"),
        ("run bright --condition reasonrank-7", "no condition 'reasonrank-7'; did you mean 'reasonrank-7b'?"),
        ("run bright --condition bm25 --topics bio", "no topics 'bio'; "),
        ("run bright", "2cr run needs --condition: bm25, "),
        ("run", "2cr run needs the name of a matrix; known: beir, bright"),
        ("show bright -- --x", "flags after -- are added to the commands of 2cr run"),
        ("run bright --condtion bm25", "has no flag --condtion; did you mean '--condition'?"),
        ("log embedded", "2cr log needs --condition and --by"),
        ("log embedded --condition upr --by a/b --commit abcdef1", "--by 'a/b' is not an account name"),
        ("list bright --condition bm25", "2cr list does not read --condition, a flag of: show, run, log"),
        ("report bright --dry-run", "2cr report does not read --dry-run, a flag of: run"),
        ("run bright-runs --condition xrr2 -- --rerank.depth 5", "a published run is evaluated without one"),
        ("log embedded --condition upr --by a --url a(b)", "--url 'a(b)' is not the address of a page"),
        ("log embedded --condition upr --by a --commit xyz", "--commit 'xyz' is not a commit"),
        ("log embedded --condition upr --by a --commit abcdef1 --date 1.1.26", "--date '1.1.26' is not a date"),
    ],
)
def test_what_is_unknown_is_named(words: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        two_click.main(words.split())
    assert message in str(error.value)


def test_missing_data_are_named_with_what_to_download(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        two_click.main(["run", "embedded", "--condition", "upr", "--topics", "dl19", "--data", str(tmp_path)])
    said = str(error.value)
    assert f"{tmp_path}/msmarco-v1-dl19/run.bm25.txt does not exist; download msmarco-v1-dl19: topics and" in said
    assert f"put it into the folder {tmp_path}, which --data or REASONRANK_DATA names" in said
    assert "\n" not in said


@pytest.mark.parametrize("name", names())
def test_every_collection_has_a_source(name: str, tmp_path: Path) -> None:
    found = load(name)
    texts = [text for step in steps(found, found.conditions, None, Path("/data"), tmp_path) for text in step.commands]
    texts += [str(step.run) for step in steps(found, found.conditions, None, Path("/data"), tmp_path)]
    folders = {word.split("/")[2] for text in texts for word in shlex.split(text) if word.startswith("/data/")}
    assert folders == set(found.downloads)
    assert all("https://" in source for source in found.downloads.values())


def test_list_show_and_dry_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert two_click.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == names()
    assert two_click.main(["list", "trec-dl"]) == 0
    assert "rank-zephyr-7b    RankZephyr 7B (dl19, dl20, dl21, dl22)" in capsys.readouterr().out
    assert two_click.main(["show", "trec-dl", "--condition", "rank1-7b", "--topics", "dl19"]) == 0
    shown = capsys.readouterr().out
    assert "# expected: not published here" in shown
    assert two_click.main(["show", "bright-runs", "--condition", "reasonir", "--topics", "biology"]) == 0
    assert (
        "# expected: nDCG@10 0.4349; [OKish] up to a difference of 0.0005\n# a published run: "
        in capsys.readouterr().out
    )
    words = ["run", "trec-dl", "--condition", "rank-zephyr-7b", "--topics", "dl20", "--output", str(tmp_path / "x")]
    assert two_click.main([*words, "--dry-run", "--", "--rerank.depth", "20"]) == 0
    lines = capsys.readouterr().out.replace(" \\\n ", "").splitlines()
    run = f"{tmp_path}/x/run.trec-dl.rank-zephyr-7b.dl20.txt"
    assert lines[0] == "# condition rank-zephyr-7b, topics dl20"
    assert lines[1].startswith("python -m pyserini.search.lucene --index msmarco-v1-passage --topics dl20-passage")
    assert lines[1].endswith("--rerank.as published --rerank.depth 20")
    assert lines[2] == f"python -m pyserini_reasonrank evaluate --qrels dl20-passage --measures nDCG@10 -- {run}"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", names())
def test_the_committed_page_is_what_report_writes(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert page(load(name), logged(text)) == text


def test_report_keeps_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "pages" / "oracle.md"
    assert two_click.main(["report", "oracle", "--output", str(written)]) == 0
    assert page(load("oracle")) == written.read_text()
    log = ["log", "oracle", "--condition", "first", "--by", "@ana", "--commit", "0123456789", "--date", "2026-11-29"]
    line = (
        "+ Results reproduced by [@ana](https://github.com/ana) on 2026-11-29 (commit [`0123456`]("
        "https://github.com/pyserini-reasonrank/pyserini_reasonrank/commit/0123456789)): `first`"
    )
    capsys.readouterr()
    assert two_click.main(log) == 0
    assert capsys.readouterr().out == f"{line}\n"
    assert two_click.main([*log, "--append", str(written)]) == 0
    assert two_click.main([*log[:5], "@bob", *log[6:], "--append", str(written)]) == 0
    with pytest.raises(UsageError, match="has this line already"):
        two_click.main([*log, "--append", str(written)])
    assert two_click.main(["report", "--output", str(tmp_path / "pages")]) == 0
    assert sorted(path.stem for path in (tmp_path / "pages").iterdir()) == names()
    assert logged(written.read_text()) == [line, line.replace("ana", "bob")]
    with pytest.raises(UsageError, match="10 pages need a folder"):
        two_click.main(["report", "--output", str(written)])
    with pytest.raises(UsageError, match=r"has no section '## Reproduction log'"):
        two_click.main([*log, "--append", str(ROOT / "README.md")])
    with pytest.raises(UsageError, match="does not exist; make it with 2cr report"):
        two_click.main([*log, "--append", str(tmp_path / "none.md")])


def test_a_malformed_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("display: x\nabout: x\nhardware: abacus\nconditions: []\n")
    monkeypatch.setattr(matrices, "names", lambda: ["mine"])
    monkeypatch.setattr(matrices, "conf", lambda *parts: tmp_path / parts[-1])
    with pytest.raises(UsageError, match=r"conf/2cr/mine\.yaml\.hardware 'abacus'"):
        load("mine")


def test_r2med_is_converted(tmp_path: Path) -> None:
    (tmp_path / "test_queries.jsonl").write_text('{"id": "0", "contents": "a\\n b"}\n{"id": "1", "contents": "c"}\n')
    (tmp_path / "qrels.json").write_text('{"0": {"x/Memory Management.txt": 1, "y": 0}, "1": {"z": 1}}')
    assert convert(["r2med", str(tmp_path)]) == 0
    assert [(query.qid, query.text) for query in read_topics(tmp_path / "topics.tsv")] == [("0", "a b"), ("1", "c")]
    assert read_qrels(tmp_path / "qrels.txt") == {"0": {"x/Memory Management.txt": 1, "y": 0}, "1": {"z": 1}}


def test_ranking_bench_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = "## Here is a query: who\nand candidate passages:\npassage 1: one: two\npassage 2: three\nPlease think"
    rows: list[dict[str, Any]] = [
        {"task_name": "Movie", "problem": "x", "gt": "y", "candidates": ["x"]},
        {"task_name": "Passage-5", "problem": problem, "gt": "passage 2"},
    ]
    file, prefix = tmp_path / "bench.jsonl", str(tmp_path / "passage-5")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert convert(["ranking-bench", str(file), "Passage-5", prefix]) == 0
    [line] = Path(f"{prefix}.jsonl").read_bytes().splitlines()
    request = parse_request(line, "line 1", 0, 10)
    assert request.query.text == "who"
    assert [each.docid for each in request.candidates] == ["passage-1", "passage-2"]
    assert read_qrels(f"{prefix}.qrels.txt") == {"Passage-5-1": {"passage-2": 1}}
    assert convert(["ranking-bench", str(file), "Passage-7", prefix]) == 2
    assert convert(["ranking-bench", str(file)]) == 2
    file.write_text(json.dumps({**rows[1], "gt": "passage 9"}))
    assert convert(["ranking-bench", str(file), "Passage-5", prefix]) == 2
    assert convert(["r2med", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    for part in ("no problem of the task 'Passage-7'", "conversions need:", "does not list the candidate 'passage 9'"):
        assert part in said


NINE = ["Movie", "Music", "Game", "Performance", "Balance", "Cost", "Passage-5", "Passage-7", "Passage-9"]


@pytest.mark.parametrize(
    "task", ["Movie", "Cost", "Passage-5", *more(*(t for t in NINE if t not in ("Movie", "Cost", "Passage-5")))]
)
def test_a_task_of_ranking_bench_is_evaluated_with_its_measures(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the released rows to MRR, Hit@k and nDCG@k; the oracle answers, so the target is first."""
    names = {"Cost": ["LLaMA-3 (8b)", "LLaMA-3 (70b)", "Qwen2 (72b)"]}.get(task, ["The Fly: part 2", "Jaws", "Heat"])
    rows: list[dict[str, Any]] = []
    for number in range(3):
        row = {"task_name": task, "problem": f"Who is {number}?", "gt": names[number], "candidates": str(names)}
        if task.startswith("Passage"):
            shown = "\n".join(f"passage {i}: text {i}" for i in range(3))
            row |= {"problem": f"Here is a query: who\nand candidate passages:\n{shown}", "gt": f"passage {number}"}
        rows.append(row)
    file, prefix = tmp_path / "bench.jsonl", str(tmp_path / "task")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert convert(["ranking-bench", str(file), task, prefix]) == 0
    reranker = (
        "iranker" if task.startswith("Passage") else "iranker-routing" if task == "Cost" else "iranker-recommendation"
    )
    qrels, run = f"{prefix}.qrels.txt", str(tmp_path / "run.jsonl")
    words = ["--candidates", f"{prefix}.jsonl", "--output", run, "--output-format", "jsonl", "--rerank", reranker]
    assert rerank.main([*words, "--rerank.engine.name", "oracle", "--rerank.engine.qrels", qrels]) == 0
    capsys.readouterr()
    measures = ["RR", "Success@1", "nDCG@5"]
    assert evaluate.main(["--qrels", qrels, f"{prefix}.jsonl", run, "--measures", *measures]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"run\.jsonl +(\d\.\d{4})", said) == ["1.0000"] * 3
    assert re.findall(r"task\.jsonl +(\d\.\d{4})", said) == ["0.6111", "0.3333", "0.7103"]  # targets at 1, 2 and 3


CommandLine = Callable[..., Any]


def test_the_exit_status_says_whether_a_score_differs(command: CommandLine, data: Path, tmp_path: Path) -> None:
    done = command("2cr", "run", "bright-runs", "--condition", "reasonir", "--topics", "aops", "--data", data)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["condition reasonir: ReasonIR-8B, GPT-4 queries", "  - topics: aops"]
    assert "      nDCG@10: 0.0737 [OK]" in done.stdout
    run = tmp_path / "run.oracle.first.dl19.txt"
    run.write_bytes((data / "msmarco-v1-dl19" / "run.bm25.txt").read_bytes())
    done = command("2cr", "run", "oracle", "--condition", "first", "--data", data, "--output", tmp_path)
    assert done.returncode == 1
    assert "nDCG@10: 0.5058 [FAIL] expected 0.8922" in done.stdout
