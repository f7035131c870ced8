"""Training rows: written and read back, and every row that can't teach counted and named."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.prompts.tokens import ModelTokens
from pyserini_reasonrank.records import Message
from pyserini_reasonrank.train.data.rows import (
    Audit,
    Fault,
    Limit,
    Row,
    audited,
    fault_of,
    read_rows,
    to_dataset,
    write_rows,
)


def row(**changes: Any) -> Row:
    values: dict[str, Any] = {
        "qid": "q1",
        "kind": "permutation",
        "docids": ("a", "b", "c"),
        "gains": (0.0, 2.0, 1.0),
        "prompt": (Message("system", "Rank."), Message("user", "[1] x [2] y [3] z")),
        "first_stage": (3, 1, 7),
        "source": "made-up",
        "query": "what",
        "completion": (Message("assistant", "<think>b</think>\n<answer>[2] > [3] > [1]</answer>"),),
    }
    return Row(**(values | changes))


def answer(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"completion": ()}, None),
        ({"gains": (0.0, 1.0)}, Fault.MISALIGNED),
        ({"first_stage": ()}, Fault.MISALIGNED),
        ({"docids": (), "gains": (), "first_stage": ()}, Fault.MISALIGNED),
        ({"teacher": (0.5,)}, Fault.MISALIGNED),
        ({"docids": ("a", "b", "a")}, Fault.REPEATED),
        ({"gold": ("b", "c", "d")}, Fault.OTHER_GOLD),
        ({"gold": ("b", "c")}, Fault.OTHER_GOLD),
        ({"gold": ("b", "c", "a")}, None),
        ({"gains": (0.0, math.nan, 1.0)}, Fault.NOT_A_NUMBER),
        ({"gains": (0.0, math.inf, 1.0)}, Fault.NOT_A_NUMBER),
        ({"teacher": (0.0, math.nan, 1.0)}, Fault.NOT_A_NUMBER),
        ({"grade": math.nan}, Fault.NOT_A_NUMBER),
        ({"gains": (0.0, 0.0, 0.0)}, Fault.NO_POSITIVE),
        ({"gains": (1.0, 1.0, 1.0)}, Fault.NO_CONTRAST),
        ({"completion": answer("<answer>[2] > [3] > [4]</answer>")}, Fault.STRAY_ANSWER),
        ({"completion": answer("<answer>[2] > [3]</answer>")}, Fault.STRAY_ANSWER),
        ({"completion": answer("<answer>[2] > [3] > [1] > [1]</answer>")}, Fault.STRAY_ANSWER),
        ({"completion": answer("<think>no end")}, Fault.STRAY_ANSWER),
        ({"completion": answer("[2]\n[3]\n[1]")}, None),
        ({"kind": "best", "completion": answer("<answer>[2]</answer>")}, None),
        ({"kind": "best", "completion": answer("<answer>[4]</answer>")}, Fault.STRAY_ANSWER),
        ({"kind": "worst", "completion": answer("<answer>[0]</answer>")}, Fault.STRAY_ANSWER),
        ({"kind": "best", "completion": answer("<answer>[1] or [2]</answer>")}, Fault.STRAY_ANSWER),
        ({"kind": "worst", "completion": answer("<answer>[1]\n[3]</answer>")}, None),
        ({"kind": "worst", "completion": answer("<answer>[1]\n[3]\n[2]</answer>")}, Fault.STRAY_ANSWER),
        ({"kind": "score", "docids": ("a",), "gains": (0.0,), "first_stage": (1,), "completion": answer("0")}, None),
    ],
)
def test_what_can_and_what_cannot_be_trained_on(changes: dict[str, Any], fault: Fault | None) -> None:
    assert fault_of(row(**changes)) is fault


def test_prefill_counts_as_part_of_the_answer() -> None:
    begun = row(prefill="<think>", completion=answer("b</think><answer>[2] > [3] > [1]</answer>"))
    assert fault_of(begun) is None


def test_a_file_says_what_was_written(tmp_path: Path) -> None:
    rows = [row(), row(qid="q2", completion=(), teacher=(0.1, 0.9, 0.5), domain="biology"), row(qid="ü 3", grade=2.0)]
    path = tmp_path / "rows.jsonl"
    assert write_rows(path, rows) == 3
    found, audit = read_rows(path)
    assert found == rows
    assert (audit.read, audit.kept, dict(audit.faults)) == (3, 3, {})
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read_rows(path.with_suffix(".jsonl.gz"))[0] == rows
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert first["prompt"] == [{"role": "system", "content": "Rank."}, {"role": "user", "content": "[1] x [2] y [3] z"}]
    assert first["completion"][0]["role"] == "assistant"


def test_bad_rows_are_counted_and_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [
        json.dumps(row().as_json()),
        "{",
        json.dumps(row(qid="q7", gains=(0.0, 0.0, 0.0)).as_json()),
        json.dumps({**row(qid="q8").as_json(), "gains": ["many", 0, 0]}),
        json.dumps({**row(qid="q9").as_json(), "gains": [math.nan, 0, 1]}),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    rows, audit = read_rows(path)
    assert [r.qid for r in rows] == ["q1"]
    assert audit.faults == {Fault.MALFORMED: 2, Fault.NO_POSITIVE: 1, Fault.NOT_A_NUMBER: 1}
    report = str(audit)
    assert "1 of 5 rows" in report
    assert f"{path}, line 2, {path}, line 4" in report
    assert "line 3 (qid q7)" in report
    assert "line 5 (qid q9)" in report


def test_a_report_names_few_and_counts_all() -> None:
    audit = Audit()
    assert not list(audited((row(qid=str(i), gains=(0.0, 0.0, 0.0)) for i in range(9)), audit))
    assert "9 left out, no positive: made-up 0, made-up 1, made-up 2, made-up 3, made-up 4 and 4 more" in str(audit)


def test_a_prompt_longer_than_the_context_is_left_out(tokenizer_file: Path) -> None:
    tokens = ModelTokens(tokenizer_file)
    long = row(prompt=(Message("user", "passage " * 100),))
    [(_, count)] = tokens.cut([long.prompt[0].content], 1 << 20)
    needed = count + 2 * 8  # two turns: the prompt's and the answer's
    assert fault_of(long, Limit(tokens, needed - 1)) is Fault.TOO_LONG
    assert fault_of(long, Limit(tokens, needed)) is None


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="is empty"):
        read_rows(path)
    path.write_text("[]\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no row to train on: 0 of 1 rows"):
        read_rows(path)
    with pytest.raises(UsageError, match="no row to train on"):
        write_rows(tmp_path / "none.jsonl", [])
    assert not (tmp_path / "none.jsonl").exists()


def test_a_dataset_has_the_same_columns_whatever_the_rows_hold() -> None:
    pytest.importorskip("datasets")
    bare = to_dataset([row(completion=())])
    full = to_dataset([row(), row(teacher=(0.1, 0.2, 0.3), grade=1.0, domain="biology")], extra=[7, 8])
    assert set(full.column_names) == {*bare.column_names, "domain", "extra"}
    assert all(full.features[name] == feature for name, feature in bare.features.items())
    assert full[0]["prompt"] == [{"role": m.role, "content": m.content} for m in row().prompt]
    assert full["domain"] == [None, "biology"]
    assert (bare[0]["completion"], bare[0]["grade"], bare[0]["teacher"]) == ([], None, None)


def test_trl_reads_a_file_of_rows(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write_rows(tmp_path / "rows.jsonl", [row(), row(qid="q2", completion=())])
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "rows.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded[0]["gains"] == [0.0, 2.0, 1.0]
    assert loaded[1]["completion"] == []
