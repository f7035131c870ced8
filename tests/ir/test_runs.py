"""Run files: written runs read back unchanged, invalid ones are rejected with file and line, writes are atomic."""

import gzip
import re
from pathlib import Path
from random import Random
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir import runs
from pyserini_reasonrank.ir.file_io import atomic
from pyserini_reasonrank.ir.run_writer import RunWriter
from pyserini_reasonrank.ir.runs import Hit, RunFormat, parse_lines, read_run, trec_eval_order

BLANKS = re.compile(r"[ \t\n\r\f\v]")
names = st.text(min_size=1).filter(lambda name: not BLANKS.search(name))
rankings = st.dictionaries(names, st.lists(names, min_size=1, unique=True), min_size=1)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@given(rankings, st.sampled_from(RunFormat), st.randoms())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rankings: dict[str, list[str]], output_format: RunFormat, random: Random
) -> None:
    output = tmp_path_factory.mktemp("runs") / "new" / "folder" / "run.txt"
    ending = list(rankings)
    random.shuffle(ending)
    with RunWriter(output, tag="tag", output_format=output_format) as writer:
        for qid in ending:
            writer.write(qid, rankings[qid])
        writer.commit(rankings)
    run = read_run(output)
    assert list(run) == list(rankings)
    assert {qid: [hit.docid for hit in hits] for qid, hits in run.items()} == rankings
    assert {qid: trec_eval_order(hits) for qid, hits in run.items()} == rankings
    assert [path.name for path in output.parent.iterdir()] == ["run.txt"]


columns = st.lists(
    st.one_of(
        st.sampled_from(
            ["Q0", "q0", "0", "1", "-2", "+3", "0" * 19, "1.", ".5", "-1.25", "1e3", "9" * 400, "nan", "1_0", "{"]
        ),
        st.text(st.sampled_from('ad1.é٣\x1c\u00a0{"'), min_size=1, max_size=4),
    ),
    min_size=5,
    max_size=7,
)


@settings(max_examples=500)
@given(columns, st.sampled_from([" ", " ", " ", "\t", "  "]), st.booleans())
def test_plain_lines_are_read_as_other_lines_are(words: list[str], blank: str, with_q0: bool) -> None:
    if with_q0:
        words[1:2] = ["Q0"]
    line = blank.join(words).encode()

    def read() -> str:
        try:
            return repr(parse_lines(line, "run, line 7"))
        except UsageError as error:
            return str(error)

    found = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_PLAIN", re.compile(r"(?!)"))
        assert read() == found


def test_repeated_documents_keep_the_better_place(tmp_path: Path) -> None:
    lines = ["q Q0 a 1 9.0 t", "q Q0 b 2 8.0 t", "q Q0 a 3 7.0 t", "q Q0 c 4 6.0 t", "q Q0 b 5 5.0 t"]
    path = write(tmp_path / "run.txt", "\n".join(lines))
    assert read_run(path, keep_first=True) == {"q": [Hit("a", 9.0), Hit("b", 8.0), Hit("c", 6.0)]}


def test_trec_lines(tmp_path: Path) -> None:
    output = tmp_path / "run.txt"
    with RunWriter(output, tag="reasonrank") as writer:
        writer.write("q2", ["d1"])
        writer.write("q1", ["d3", "d\u00a02"])
        writer.commit(["q1", "q0", "q2"])
    assert output.read_text(encoding="utf-8") == (
        "q1 Q0 d3 1 2.000000 reasonrank\nq1 Q0 d\u00a02 2 1.000000 reasonrank\nq2 Q0 d1 1 1.000000 reasonrank\n"
    )


def test_msmarco_lines(tmp_path: Path) -> None:
    output = tmp_path / "run.txt"
    with RunWriter(output, tag="reasonrank", output_format=RunFormat.MSMARCO) as writer:
        writer.write("q1", ["d3", "d1"])
        writer.commit(["q1"])
    assert output.read_text() == "q1\td3\t1\nq1\td1\t2\n"


def test_json_lines(tmp_path: Path) -> None:
    output = tmp_path / "run.jsonl"
    with RunWriter(output, tag="iranker", output_format=RunFormat.JSONL) as writer:
        writer.write("user 1", ["Toy Story", "Amélie"])
        writer.write("q0", [])
        writer.commit(["q0", "user 1", "q9"])
    assert output.read_text(encoding="utf-8") == (
        '{"qid": "q0", "tag": "iranker", "ranking": []}\n'
        '{"qid": "user 1", "tag": "iranker", "ranking": [{"docid": "Toy Story", "rank": 1, "score": 2}, '
        '{"docid": "Amélie", "rank": 2, "score": 1}]}\n'
    )
    assert read_run(output) == {"user 1": [Hit("Toy Story", 2.0), Hit("Amélie", 1.0)]}


def test_candidates_are_a_run_in_the_order_of_the_file(tmp_path: Path) -> None:
    candidates = '{"qid": 7, "query": "x", "candidates": [{"docid": "b", "score": 1}, {"docid": "a", "score": 9}]}'
    run = read_run(write(tmp_path / "candidates.jsonl", candidates))
    assert run == {"7": [Hit("b", 1.0), Hit("a", 0.5)]}


def test_finished_queries_are_on_disk_before_commit_and_remain_after_a_failure(tmp_path: Path) -> None:
    output = tmp_path / "run.txt"

    def die() -> NoReturn:
        with RunWriter(output, tag="t") as writer:
            writer.write("q2", ["a"])
            assert writer.partial.read_text() == "q2 Q0 a 1 1.000000 t\n"
            raise Failure("the engine died")

    with pytest.raises(Failure):
        die()
    assert [path.name for path in tmp_path.iterdir()] == ["run.txt.partial"]


def test_an_earlier_run_remains_until_the_new_one_is_complete(tmp_path: Path) -> None:
    output = write(tmp_path / "run.txt", "the earlier run")
    with RunWriter(output, tag="t") as writer:
        writer.write("q1", ["a"])
        writer.write("q9", ["a"])
        with pytest.raises(ValueError, match="q9"):
            writer.commit(["q1"])
        assert output.read_text() == "the earlier run"
        writer.commit(["q1", "q9"])
    assert output.read_text().count("\n") == 2


def test_atomic_leaves_no_file_after_an_interrupt(tmp_path: Path) -> None:
    def interrupted() -> NoReturn:
        with atomic(tmp_path / "file") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("finished", "left"), [([], []), (["q1"], ["run.partial"])])
def test_a_docid_with_white_space_is_rejected_and_leaves_finished_queries_alone(
    tmp_path: Path, finished: list[str], left: list[str]
) -> None:
    def write_all() -> None:
        with RunWriter(tmp_path / "run", tag="t") as writer:
            for qid in finished:
                writer.write(qid, ["c"])
            writer.write("q2", ["a b"])

    with pytest.raises(UsageError, match=r"'a b'.*--rerank.docid_blanks"):
        write_all()
    assert [path.name for path in tmp_path.iterdir()] == left


def test_white_space_in_docids_is_replaced_on_request(tmp_path: Path) -> None:
    output = tmp_path / "run"
    with RunWriter(output, tag="t", docid_blanks="_") as writer:
        writer.write("q1", ["a b\tc"])
        with pytest.raises(UsageError, match="a_b"):
            writer.write("q2", ["a b", "a_b"])
        writer.commit(["q1"])
    assert read_run(output) == {"q1": [Hit("a_b_c", 1.0)]}


@pytest.mark.parametrize(
    ("tag", "blanks", "qid", "docids", "message"),
    [
        ("my tag", None, "q", ["a"], "tag 'my tag'"),
        ("t", "", "q", ["a"], "empty replacement"),
        ("t", " ", "q", ["a"], "replacement for white space"),
        ("t", None, "q 1", ["a"], "qid 'q 1'"),
        ("t", None, "q", [""], "empty docid"),
        ("t", None, "q", ["a", "b", "a"], "document a twice"),
    ],
)
def test_names_that_a_run_can_not_represent(
    tmp_path: Path, tag: str, blanks: str | None, qid: str, docids: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message), RunWriter(tmp_path / "run", tag=tag, docid_blanks=blanks) as writer:
        writer.write(qid, docids)
    assert list(tmp_path.iterdir()) == []


def test_output_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        RunWriter(tmp_path, tag="t")
    with pytest.raises(UsageError, match="can't be written"):
        RunWriter(write(tmp_path / "file", "") / "run", tag="t")


def test_order_is_by_score_then_rank_then_place(tmp_path: Path) -> None:
    path = write(
        tmp_path / "run",
        "q Q0 low 1 -1.5 t\nq\tQ0\tlater\t3\t2e0\tt\nq Q0 sooner 2 2.0 t\n\nq Q0 last 3 2 t\r\nother Q0 x 7 0 t",
    )
    run = read_run(path)
    assert run["q"] == [Hit("sooner", 2.0), Hit("later", 2.0), Hit("last", 2.0), Hit("low", -1.5)]
    assert run["other"] == [Hit("x", 0.0)]


def test_trec_eval_order_breaks_ties_by_falling_docid_in_single_precision() -> None:
    hits = [Hit("a", 1.00000001), Hit("b", 1.0), Hit("c", 0.5), Hit("B", 1.0)]
    assert trec_eval_order(hits) == ["b", "a", "B", "c"]


def test_gzipped_and_msmarco(tmp_path: Path) -> None:
    path = tmp_path / "run.gz"
    path.write_bytes(gzip.compress(b"q\tb\t2\nq\ta\t1\n"))
    assert read_run(path) == {"q": [Hit("a", 1.0), Hit("b", 0.5)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("q Q0 a 1 1.0 t\nq x b c 2 0.5 t\n", r"run, line 2: 7 columns, expected 6"),
        ("q Q0 a 1 1.0 t\nq Q0 b 2 0.5\n", r"run, line 2: 5 columns, expected 6"),
        ("q Q0 b 1 0.5 my tag\n", r"run, line 1: the rank '0.5' is not an integer"),
        ("q Q0 a 1_0 1.0 t\n", "line 1: the rank '1_0'"),
        ("q Q0 a 1 1_0 t\n", "line 1: the score '1_0'"),
        ("q Q0 a 1 1.0 t\rq Q0 b 2 0.5 t\n", "line 1 contains a carriage return"),
        ('{"qid": true, "ranking": []}', "line 1: expected qid and ranking.*qid is true"),
        ('{"qid": "\\ud800", "ranking": []}', "line 1: expected qid and ranking.*half of a character"),
        ("[" * 20 + "{", "line 1: 1 columns, expected 6"),
        ("q Q0 a one 1.0 t\n", "line 1: the rank 'one'"),
        ("q Q0 a 1 high t\n", "line 1: the score 'high'"),
        ("q Q0 a 1 nan t\n", "line 1: the score 'nan'"),
        ("q Q0 a -1 inf t\n", "line 1: the score 'inf'"),
        ("q a -1\n", "the rank is -1; in an MS MARCO run"),
        ("q a b\n", "the rank 'b'"),
        ("q a 0\n", "the rank is 0; in an MS MARCO run ranks begin at 1"),
        ('{"qid": "q"}', "line 1: expected qid and ranking"),
        ('{"qid": "q", "ranking": [{"docid": "a", "rank": 1}]}', "line 1: expected qid and ranking"),
        ('{"qid": "q", "ranking": 3}', "line 1: expected qid and ranking"),
        ('{"qid": "q", "ranking": [', "line 1: expected qid and ranking"),
        ('{"qid": "q", "ranking": [{"docid": "a", "rank": 1e400, "score": 1}]}', "line 1: expected qid and ranking"),
        (
            '{"qid": "q", "ranking": [{"docid": "a", "rank": 1, "score": NaN}]}',
            "line 1: the score of a is not a finite number",
        ),
        ("q Q0 a 1 2 t\np Q0 a 1 2 t\nq Q0 a 2 1 t\n", "run: query q lists document a twice"),
    ],
)
def test_unreadable_runs(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_run(write(tmp_path / "run", text))


def test_missing_broken_and_binary_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_run(tmp_path / "none")
    packed = gzip.compress(b"q Q0 a 1 1.0 t\n")
    for broken in (packed[:-9], packed[:10] + b"\xff" + packed[11:]):
        (tmp_path / "broken.gz").write_bytes(broken)
        with pytest.raises(UsageError, match="can't be read"):
            read_run(tmp_path / "broken.gz")
    (tmp_path / "latin").write_bytes("q Q0 caf\u00e9 1 1.0 t\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin, line 1 is not UTF-8"):
        read_run(tmp_path / "latin")


@pytest.mark.parametrize(
    "text",
    [
        "q Q0 torch/Memory  Management_1.txt 1 0.9 t\nq Q0 c 2 0.8 t\n",
        "q\tQ0\ttorch/Memory  Management_1.txt\t1\t0.9\tt\nq\tQ0\tc\t2\t0.8\tt\n",
        "\ufeffq Q0 torch/Memory  Management_1.txt 1 0.9 t\r\nq Q0 c 2 0.8 t\r\n",
        '{"query": {"qid": "q", "text": "x"}, "candidates": [{"docid": "torch/Memory  Management_1.txt"}, {"docid": "c"}]}',
    ],
)
def test_docids_with_blanks_are_read_from_both_ends(tmp_path: Path, text: str) -> None:
    run = read_run(write(tmp_path / "run", text))
    assert [hit.docid for hit in run["q"]] == ["torch/Memory  Management_1.txt", "c"]


def test_msmarco_docids_with_blanks_are_read_between_tabs(tmp_path: Path) -> None:
    assert read_run(write(tmp_path / "run", "q\ta b c d\t1\n")) == {"q": [Hit("a b c d", 1.0)]}


def test_a_repeated_document_is_refused_with_the_flag_or_kept_at_its_better_place(tmp_path: Path) -> None:
    path = write(tmp_path / "run", "q Q0 a 1 0.7 t\nq Q0 b 2 0.8 t\nq Q0 a 3 0.9 t\np Q0 a 1 1 t\n")
    with pytest.raises(UsageError, match=r"query q lists document a twice.*--duplicates keep-first"):
        read_run(path)
    assert read_run(path, keep_first=True) == {"q": [Hit("a", 0.9), Hit("b", 0.8)], "p": [Hit("a", 1.0)]}


def test_a_plain_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "run.txt.gz", "q Q0 a 1 1.0 t\n")
    assert read_run(path) == {"q": [("a", 1.0)]}


def test_gzip_is_recognised_by_content(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfq\tb\t1\n"))
    assert read_run(path) == {"q": [Hit("b", 1.0)]}


def test_utf16_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("q Q0 a 1 1 t\n", encoding="utf-16")
    with pytest.raises(UsageError, match="is UTF-16 text; save it as UTF-8"):
        read_run(tmp_path / "run")


BLANK_NAMES = st.lists(names, min_size=1, max_size=3).map(" ".join)


@given(st.lists(BLANK_NAMES, min_size=1, unique=True), st.sampled_from([" ", "\t"]))
def test_any_docid_in_columns_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, docids: list[str], separator: str
) -> None:
    rows = [["q", "Q0", docid, str(i + 1), f"{len(docids) - i:.6f}", "tag"] for i, docid in enumerate(docids)]
    path = tmp_path_factory.mktemp("blanks") / "run"
    path.write_bytes("".join(separator.join(row) + "\n" for row in rows).encode())
    assert [hit.docid for hit in read_run(path)["q"]] == docids
