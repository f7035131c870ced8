"""What the page shows when a query is opened: its lists with passages, judgments, scores, and every call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pyserini_reasonrank.ir.runs import Hit, Run
from pyserini_reasonrank.journal_reader import export
from pyserini_reasonrank.report.run_inputs import RunInput, readable
from pyserini_reasonrank.report.step_orders import step_orders

ANSWER_CHARACTERS = 60_000
"""Longer answers and reasoning are cut."""


class DocumentTable:
    """The documents of a query, which the other parts of its details name by their number."""

    def __init__(self) -> None:
        self.docids: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, docid: str) -> int:
        """The number of a document, from 0; a new document gets the next one."""
        if docid not in self._numbers:
            self._numbers[docid] = len(self.docids)
            self.docids.append(docid)
        return self._numbers[docid]


def query_details(
    qid: str,
    lists: Sequence[Run],
    runs: Sequence[RunInput],
    grades: Mapping[str, int],
    passages: Mapping[str, str],
    depth: int,
) -> dict[str, Any]:
    """The details of a query: ``{"docs", "lists", "runs"}``, with lists cut at ``depth`` documents."""
    table = DocumentTable()
    ranked = [_list(found.get(qid), table, depth) for found in lists]
    of_runs = [_run_details(run, qid, table, depth) for run in runs]
    ranks = [{hit.docid: rank for rank, hit in enumerate(found.get(qid, ()), 1)} for found in lists]
    documents = [
        {"id": docid, "ranks": [each.get(docid, 0) for each in ranks]}
        | ({"grade": grades[docid]} if docid in grades else {})
        | ({"text": passages[docid]} if docid in passages else {})
        for docid in table.docids
    ]
    return {"docs": documents, "lists": ranked, "runs": of_runs}


def _list(hits: Sequence[Hit] | None, table: DocumentTable, depth: int) -> dict[str, Any] | None:
    if hits is None:
        return None
    shown = hits[:depth]
    return {
        "docs": [table.number(hit.docid) for hit in shown],
        "scores": [_rounded(hit.score) for hit in shown],
        "total": len(hits),
    }


def _run_details(run: RunInput, qid: str, table: DocumentTable, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = dict(run.remarks.get(qid, {}))
    for name, scores in (("llm", run.llm.get(qid)), ("fused", run.fused.get(qid))):
        if scores:
            found[name] = {str(table.number(docid)): _rounded(score) for docid, score in scores.items()}
    if segments := run.segments.get(qid):
        found["segments"] = {str(table.number(docid)): name for docid, name in segments.items()}
    if run.journal is None:
        return found
    with readable(run.journal):
        records = list(export(run.journal, qid, run.journal_run))
    found["calls"] = [_call(record, table) for record in records]
    if run.first_hits and qid in run.first_hits:
        first = [hit.docid for hit in run.first_hits[qid]]
        asked = [(each["docids"], _positions(each)) for each in records]
        steps = step_orders(first, asked, [hit.docid for hit in run.hits.get(qid, ())])
        if steps is not None:
            found["steps"] = [[table.number(docid) for docid in step[:depth]] for step in steps]
    return found


def _positions(record: Mapping[str, Any]) -> list[int]:
    """The order of a judgement as positions among the documents shown."""
    place = {docid: position for position, docid in enumerate(record["docids"])}
    return [place[docid] for docid in record["order"]]


def _call(record: Mapping[str, Any], table: DocumentTable) -> dict[str, Any]:
    answers = [
        {
            "text": _shortened(call["text"]), "end": call["finish_reason"], "prompt": call["prompt_tokens"],
            "output": call["output_tokens"], "seconds": round(call["seconds"] or 0.0, 3), "error": call["error"],
            "choices": {name: _rounded(value) for name, value in call["choices"].items()},
        }
        for call in record["calls"]
    ]  # fmt: skip
    return {
        "part": record["part"], "n": record["call"], "label": record["label"],
        "docs": [table.number(docid) for docid in record["docids"]], "order": _positions(record),
        "status": record["status"], "filled": record["filled"], "score": _rounded(record["score"]),
        "detail": record["detail"], "reasoning": _shortened(record["reasoning"]), "answers": answers,
    }  # fmt: skip


def _shortened(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= ANSWER_CHARACTERS else text[:ANSWER_CHARACTERS] + " … (cut)"


def _rounded(value: float | None) -> float | None:
    """Six significant digits; None for infinities and NaN, which JSON does not have."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
