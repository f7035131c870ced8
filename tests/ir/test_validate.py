"""Validation reports each fault of a run and nothing else."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.boards import BOARDS
from pyserini_reasonrank.ir.validate import RULES, validate

SOUND = {"q1": ["a", "b", "c"], "q2": ["d"]}


def lines(ranking: Mapping[str, Sequence[str]], tag: str = "t") -> list[str]:
    return [
        f"{qid} Q0 {docid} {i + 1} {len(docids) - i:.6f} {tag}"
        for qid, docids in ranking.items()
        for i, docid in enumerate(docids)
    ]


def run(path: Path, text_lines: Iterable[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in text_lines))
    return path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return run(tmp_path / "first", lines({"q2": ["d"], "q1": ["c", "a", "b"]}, tag="bm25"))


def test_a_valid_run(tmp_path: Path, first: Path) -> None:
    validation = validate(run(tmp_path / "run", lines(SOUND)), topics=["q1", "q2", "q3"], first=first)
    assert validation.findings == ()
    assert str(validation) == "valid: 2 topics, 4 documents"


def test_a_valid_msmarco_run(tmp_path: Path, first: Path) -> None:
    path = run(tmp_path / "run", ["q1\ta\t1", "q1\tb\t2", "q1\tc\t3", "q2\td\t1"])
    assert validate(path, topics=["q1", "q2"], first=first).findings == ()


def json_line(qid: str, *ranks: tuple[str, int]) -> str:
    ranking = [{"docid": docid, "rank": rank, "score": -rank} for docid, rank in ranks]
    return json.dumps({"qid": qid, "tag": "t", "ranking": ranking})


def test_a_valid_run_in_json_lines(tmp_path: Path, first: Path) -> None:
    path = run(tmp_path / "run", [json_line("q1", ("c", 1), ("a", 2), ("b", 3)), json_line("q2", ("d", 1))])
    assert str(validate(path, topics=["q1", "q2"], first=first)) == "valid: 2 topics, 4 documents"


@pytest.mark.parametrize(
    ("faulty", "finding"),
    [
        (json_line("q1", ("c", 1), ("a", 1), ("b", 3)), "query q1: rank 1, expected 2; ranks are 1, 2, 3"),
        (json_line("q1", ("c", 1), ("a", 2), ("a", 3)), "query q1: 1 document more than once: a"),
        (json_line("q1", ("c", 1), ("a", 2)), "query q1: 1 document of the first stage missing: b"),
        (json_line("q2", ("d", 1)), "query q2: rank 1, expected 2; ranks are 1, 2, 3"),
        (json_line("q1"), "1 topic missing from the run: q1"),
        ('{"qid": "q1", "ranking": {}', "line 2: expected qid and ranking"),
    ],
)
def test_faults_in_json_lines(tmp_path: Path, first: Path, faulty: str, finding: str) -> None:
    validation = validate(run(tmp_path / "run", [json_line("q2", ("d", 1)), faulty]), ["q1", "q2"], first)
    assert any(finding in str(found) for found in validation.findings), validation.findings


@pytest.mark.parametrize(
    ("at", "line", "finding"),
    [
        (1, "q1 Q0 b x 2 2.0 t", "line 2: 7 columns"),
        (1, "q1 Q0 b 3 2.0 t", "query q1: rank 3, expected 2; ranks are 1, 2, 3"),
        (1, "q1 Q0 b 2 3.0 t", "query q1: the score 3 of b is not less than the score 3 of a"),
        (1, "q1 Q0 b 2 2.99999999 t", "query q1: the score 3 of b is not less than the score 3 of a"),
        (1, "q1 Q0 a 2 2.0 t", "query q1: 1 document more than once: a"),
        (1, "q1 Q0 b 2 2.0 other", "2 tags (t, other)"),
        (3, "q9 Q0 d 1 1.0 t", "1 query not among the topics: q9"),
        (3, "q9 Q0 d 1 1.0 t", "1 topic missing from the run: q2"),
        (1, "q1 Q0 x 2 2.0 t", "query q1: 1 document of the first stage missing: b"),
        (1, "q1 Q0 x 2 2.0 t", "query q1: 1 document not in the first stage: x"),
    ],
)
def test_each_fault_is_reported(tmp_path: Path, first: Path, at: int, line: str, finding: str) -> None:
    faulty = lines(SOUND)
    faulty[at] = line
    validation = validate(run(tmp_path / "run", faulty), topics=["q1", "q2"], first=first)
    assert any(finding in str(found) for found in validation.findings), validation.findings
    assert str(validation) == "\n".join(map(str, validation.findings))
    assert all(found.where.startswith(str(tmp_path / "run")) and found.rule in RULES for found in validation.findings)


def test_a_format_fault_gives_one_finding(tmp_path: Path, first: Path) -> None:
    swapped = lines(SOUND)
    swapped[0], swapped[1] = "q1 Q0 a 1 2.0 t", "q1 Q0 b 2 3.0 t"
    assert len(validate(run(tmp_path / "run", swapped), topics=["q1", "q2"], first=first).findings) == 1


def test_topics_without_candidates_are_not_missing(tmp_path: Path, first: Path) -> None:
    path = run(tmp_path / "run", lines({"q1": ["a", "b", "c"]}))
    assert validate(path, topics=["q1", "q2"]).findings == ((str(path), "topics", "1 topic missing from the run: q2"),)
    assert validate(path, first=first).findings == ((str(path), "topics", "1 topic missing from the run: q2"),)
    assert validate(path, topics=["q1", "q2"], without_candidates=["q2"]).findings == ()


def test_long_lists_of_ids_are_shortened(tmp_path: Path) -> None:
    path = run(tmp_path / "run", lines(SOUND))
    assert validate(path, topics=["q1", *"uvwxyz"]).findings == (
        (f"{path}, line 4", "topics", "1 query not among the topics: q2"),
        (str(path), "topics", "6 topics missing from the run: u, v, w and 3 more"),
    )


def test_a_missing_or_empty_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        validate(tmp_path / "none")
    with pytest.raises(UsageError, match="is empty"):
        validate(run(tmp_path / "run", []))


@pytest.mark.parametrize(
    ("at", "line", "found"),
    [
        (1, "q1 Q0 b 2 2.0", (2, "format")),
        (1, "q1 Q0 b 3 2.0 t", (2, "ranks")),
        (2, "q1 Q0 c 3 3.0 t", (3, "scores")),
        (2, "q1 Q0 c 3 2.0 t", (3, "scores")),
        (1, "q1 Q0 a 2 2.0 t", (2, "documents")),
        (2, "q1 Q0 b 3 1.0 t", (3, "documents")),
        (1, "q1 Q0 b 2 2.0 other", (2, "tag")),
        (3, "q9 Q0 d 1 1.0 t", (4, "topics")),
        (1, "q1 Q0 x 2 2.0 t", (2, "candidates")),
        (1, "q1\tQ0\tb b\t2\t2.0\tt", (2, "blanks")),
    ],
)
def test_a_finding_has_line_and_rule(tmp_path: Path, first: Path, at: int, line: str, found: tuple[int, str]) -> None:
    faulty = lines(SOUND)
    faulty[at] = line
    path = run(tmp_path / "run", faulty)
    findings = validate(path, topics=["q1", "q2"], first=first).findings
    assert (f"{path}, line {found[0]}", found[1]) in {(finding.where, finding.rule) for finding in findings}
    assert all(str(finding).endswith(f"[{finding.rule}]") for finding in findings)


def trec(count: int, qid: str = "1", tag: str = "t") -> list[str]:
    return [f"{qid} Q0 d{i} {i} {count - i + 1} {tag}" for i in range(1, count + 1)]


@pytest.mark.parametrize(
    ("board", "written", "rules"),
    [
        ("trec", trec(3), set()),
        ("trec", trec(1000), set()),
        ("trec", trec(1001), {"board-depth"}),
        ("trec", trec(3, tag="a-tag.of_20_letters-"), set()),
        ("trec", trec(3, tag="a-tag-of-21-characters"), {"board-tag"}),
        ("trec", trec(3, tag="a+b"), {"board-tag"}),
        ("trec", ["1\td\t1"], {"board-format", "board-tag"}),
        ("msmarco", ["1\td\t1", "1\te\t2"], set()),
        ("msmarco", ["q\td\t1"], {"board-qid"}),
        ("msmarco", trec(3), {"board-format"}),
        ("msmarco", [json_line("1", ("d", 1))], {"board-format"}),
        ("bright", trec(1000, qid="a b".replace(" ", "_"), tag="any+tag"), set()),
        ("bright", [json_line("q", ("a b.txt", 1))], set()),
        ("bright", trec(1001), {"board-depth"}),
    ],
)
def test_boards(tmp_path: Path, board: str, written: list[str], rules: set[str]) -> None:
    found = validate(run(tmp_path / "run", written), board=BOARDS[board]).findings
    assert {finding.rule for finding in found} == rules
    assert all(", line " in finding.where for finding in found)


def test_the_help_lists_rules_and_boards(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["validate", "--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and about in text for name, about in RULES.items())
    assert all(f"  {name} " in text and known.about in text for name, known in BOARDS.items())


def test_a_board_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(run(tmp_path / "run", trec(3, tag="a+b")))
    assert main(["validate", path]) == 0
    assert main(["validate", path, "--board", "trec"]) == 1
    assert f"{path}, line 1: the tag 'a+b' must have" in capsys.readouterr().out
    assert main(["validate", path, "--board", "trek"]) == 2
    assert "--board trek is not known; did you mean 'trec'?" in capsys.readouterr().err


def test_findings_of_a_rule_are_listed_up_to_a_number(tmp_path: Path) -> None:
    qrels = run(tmp_path / "qrels", [f"q1 0 d{i} 1" for i in range(1234)] + ["q2 Q0 d 2 1.0 t"])
    validation = validate(qrels)
    assert len(validation.findings) == 1235
    printed = str(validation).splitlines()
    assert [line.split(": ")[0].rpartition(", ")[2] for line in printed[:10]] == [f"line {i}" for i in range(1, 11)]
    assert "4 columns, expected 6 (TREC) or 3 (MS MARCO); the file looks like qrels" in printed[0]
    assert "line 1235" in printed[10]
    assert printed[11:] == ["and 1,224 more findings of the rule format"]
