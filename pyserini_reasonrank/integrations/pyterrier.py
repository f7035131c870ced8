"""Reranking in PyTerrier pipelines: ``bm25 % 100 >> pt.text.get_text(index, "text") >> ReasonRank("reasonrank")``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyterrier as pt

from pyserini_reasonrank.api import Reranker
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.integrations.conversion import document, opened, statuses
from pyserini_reasonrank.results import RankedDocuments

_DOCUMENTATION = "https://github.com/pyserini-reasonrank/pyserini_reasonrank/blob/main/docs"
_REQUIRED = ["qid", "query", "docno", "text"]
_ADDED = ["score", "rank", "reasoning", "statuses"]


class ReasonRank(pt.Transformer):  # type: ignore[misc]
    """A transformer that reranks the documents of each query; it reorders a result frame that has texts.

    Args:
        reranker: a name for ``--rerank``, or an ``api.Reranker`` that other components use too.
        journal: a file that stores finished calls, so that later experiments reuse them.
        settings: any setting of ``api.Reranker``: ``model="..."``, ``depth=50``, ``engine="vllm"``, ...

    The input has the columns qid, query, docno and text, and the first-stage order in score, in rank, or in the order of
    its rows. Other columns of documents with strings, such as title, are fields of the documents. The output has all
    columns of the input and

    - ``score`` and ``rank``: the new order. The score of n documents is n for the first and 1 for the last.
    - ``reasoning``: what the model wrote in the judgements that included the document; "" if it wrote nothing.
    - ``statuses``: the judgements of the query by status, such as ``9 ok``.

    All queries of a frame share the engine's batches. ``close()``, or the end of a ``with`` block, frees the model.

    Raises:
        UsageError: the settings are invalid, or a row has no query, docno or text.
        pt.validate.InputValidationError: columns are missing.
        Failure: the engine fails (see ``on_error``).
    """

    schematic = {"help_url": f"{_DOCUMENTATION}/usage-pyterrier.md"}
    """What PyTerrier draws in notebooks; without a URL it looks for one on the network."""

    def __init__(
        self, reranker: str | Reranker = "reasonrank", *, journal: str | Path | None = None, **settings: Any
    ) -> None:
        super().__init__()
        # PyTerrier reads the arguments back from attributes of the same names
        self.reranker, self.journal, self.settings = reranker, journal, settings
        self._opened = opened(reranker, settings, journal)

    def transform_inputs(self) -> list[list[str]]:
        """The columns that the input needs."""
        return [list(_REQUIRED)]

    def transform_outputs(self, input_columns: Sequence[str]) -> list[str]:
        """The columns of the output. InputValidationError if the input lacks columns."""
        self._require(input_columns)
        return [*(name for name in input_columns if name not in _ADDED), *_ADDED]

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Rerank a result frame; rows come out by query, in the order of the queries, and by rank."""
        if inp.empty:
            columns = self.transform_outputs(inp.columns if len(inp.columns) else _REQUIRED)
            return inp.reindex(columns=columns).astype({"rank": "int64", "score": "float64"})
        columns = self.transform_outputs(inp.columns)
        groups = _groups(inp)
        requests = ({"qid": qid, "query": rows["query"].iat[0], **_documents(rows)} for qid, rows in groups.items())
        ranked = {found.qid: found for found in self._opened.rank_many(requests)}
        frame = pd.concat([_reordered(rows, ranked[qid]) for qid, rows in groups.items()])
        frame = frame.astype({"rank": "int64", "score": "float64"})  # a query without relevant documents has no rows
        return frame[columns].reset_index(drop=True)

    def transform_iter(self, inp: Any) -> Iterator[dict[str, Any]]:
        """As ``transform``, over mappings with the columns."""
        yield from self.transform(pd.DataFrame(list(inp))).to_dict(orient="records")

    def close(self) -> None:
        """Free the model; the transformer can't be used afterwards."""
        self._opened.close()

    def __enter__(self) -> Self:
        self._opened.load()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ReasonRank({self._opened.name!r})"

    def _require(self, columns: Sequence[str]) -> None:
        try:
            pt.validate.columns(list(columns), includes=_REQUIRED, context=self)
        except pt.validate.InputValidationError as error:
            missing = [name for name in _REQUIRED if name not in columns]
            remedy = ": add it before the reranker, with pt.text.get_text(index, 'text')" if "text" in missing else ""
            error.args = (f"ReasonRank needs the column{'s' * (len(missing) > 1)} {', '.join(missing)}{remedy}",)
            raise


def _groups(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each query in first-stage order, by qid. UsageError for rows that can't be ranked."""
    groups = {}
    for qid, rows in frame.groupby(frame["qid"].map(str), sort=False):
        if rows["query"].nunique(dropna=False) > 1:
            raise UsageError(f"qid {qid} has several queries: {', '.join(map(repr, rows['query'].unique()))}")
        if not isinstance(rows["query"].iat[0], str):
            raise UsageError(f"the query of qid {qid} is {rows['query'].iat[0]!r}; it has to be a string")
        for docno, text in zip(rows["docno"], rows["text"], strict=True):
            if not isinstance(docno, str):
                raise UsageError(f"qid {qid}: docno {docno!r} is not a string")
            if not isinstance(text, str):
                raise UsageError(f"qid {qid}: document {docno} has no text (it is {text!r}); rerank rows with a text")
        if twice := list(rows["docno"][rows["docno"].duplicated()]):
            raise UsageError(f"qid {qid}: document {twice[0]} occurs twice; docnos of a query must be unique")
        order = {"score": False, "rank": True}
        by = [name for name in order if name in rows]
        groups[str(qid)] = rows.sort_values(by, ascending=[order[b] for b in by], kind="stable") if by else rows
    return groups


def _documents(rows: pd.DataFrame) -> dict[str, Any]:
    """The documents of a query, and their scores if there are any."""
    names = [name for name in pt.model.document_columns(rows) if name not in _ADDED]
    records = rows[names].to_dict(orient="records")
    found: dict[str, Any] = {
        "documents": [document(record["text"], record) | {"docid": record["docno"]} for record in records]
    }
    if "score" in rows:
        found["scores"] = _scores(rows)
    return found


def _scores(rows: pd.DataFrame) -> list[float]:
    """First-stage scores. UsageError if one is not a finite number."""
    scores = pd.to_numeric(rows["score"], errors="coerce")
    unusable = scores.isna() | scores.abs().eq(float("inf"))
    if unusable.any():
        row = rows[unusable].iloc[0]
        raise UsageError(f"qid {row['qid']}: the score of document {row['docno']} is {row['score']!r}; "
                         "it has to be a finite number")  # fmt: skip
    return [float(score) for score in scores]


def _reordered(rows: pd.DataFrame, ranked: RankedDocuments) -> pd.DataFrame:
    """The rows of a query in the new order, with the added columns."""
    frame = rows.set_index("docno", drop=False).loc[[found.docid for found in ranked]]
    return frame.assign(
        score=[found.score for found in ranked],
        rank=[found.rank - 1 + pt.model.FIRST_RANK for found in ranked],
        reasoning=[ranked.reasoning_of(found.docid) for found in ranked],
        statuses=statuses(ranked),
    )
