"""Validation reports each fault of a run and nothing else."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.validate import validate

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
    assert any(finding in found for found in validation.findings), validation.findings


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
    assert any(finding in found for found in validation.findings), validation.findings
    assert str(validation) == "\n".join(validation.findings)


def test_a_format_fault_gives_one_finding(tmp_path: Path, first: Path) -> None:
    swapped = lines(SOUND)
    swapped[0], swapped[1] = "q1 Q0 a 1 2.0 t", "q1 Q0 b 2 3.0 t"
    assert len(validate(run(tmp_path / "run", swapped), topics=["q1", "q2"], first=first).findings) == 1


def test_topics_without_candidates_are_not_missing(tmp_path: Path, first: Path) -> None:
    path = run(tmp_path / "run", lines({"q1": ["a", "b", "c"]}))
    assert validate(path, topics=["q1", "q2"]).findings == ("1 topic missing from the run: q2",)
    assert validate(path, first=first).findings == ("1 topic missing from the run: q2",)
    assert validate(path, topics=["q1", "q2"], without_candidates=["q2"]).findings == ()


def test_long_lists_of_ids_are_shortened(tmp_path: Path) -> None:
    path = run(tmp_path / "run", lines(SOUND))
    assert validate(path, topics=["q1", *"uvwxyz"]).findings == (
        "1 query not among the topics: q2",
        "6 topics missing from the run: u, v, w and 3 more",
    )


def test_a_missing_or_empty_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        validate(tmp_path / "none")
    with pytest.raises(UsageError, match="is empty"):
        validate(run(tmp_path / "run", []))
