"""Labelled lists from a collection: topics, qrels, a first-stage run and a corpus."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyserini_reasonrank.ir.corpus import corpus_texts
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.negatives import Draw, Drawn, draw
from pyserini_reasonrank.train.data.rows import Audit, Fault

NO_CONTRAST = "no positive to show, or no negative beside it"


def collection_lists(
    queries: Sequence[Query],
    qrels_path: Path,
    run_path: Path,
    corpus: Path,
    how: Draw,
    *,
    copies: int,
    seed: int,
    source: str,
    audit: Audit,
) -> list[LabelledList]:
    """``copies`` lists for each query with a positive and a negative, each drawn anew. ``audit`` counts the queries."""
    hits, qrels = read_run(run_path), read_qrels(qrels_path)
    drawn: list[tuple[Query, Drawn]] = []
    for query in queries:
        grades, found = qrels.get(query.qid, {}), hits.get(query.qid, [])
        made = [draw(found, grades, how, random.Random(f"{seed} {copy} {query.qid}")) for copy in range(copies)]
        lists = [one for one in made if one is not None]
        positive = any(grade > 0 for grade in grades.values())
        fault = None if lists else NO_CONTRAST if positive else Fault.NO_POSITIVE
        audit.note(fault, f"query {query.qid}")
        drawn += [(query, one) for one in lists]
    texts = corpus_texts(corpus, {docid for _, one in drawn for docid in one.docids})
    return [_with_texts(query, one, texts, source) for query, one in drawn]


def _with_texts(query: Query, drawn: Drawn, texts: Mapping[str, str], source: str) -> LabelledList:
    """The list with its texts. Of passages with the same text, the one with the highest gain is kept."""
    kept: dict[str, int] = {}
    for place in sorted(range(len(drawn.docids)), key=lambda i: -drawn.gains[i]):
        kept.setdefault(" ".join(texts[drawn.docids[place]].split()), place)
    labelled = LabelledList(
        query,
        tuple(Candidate(d, -float(r), texts[d]) for d, r in zip(drawn.docids, drawn.first_stage, strict=True)),
        drawn.gains,
        drawn.first_stage,
        source,
    )
    return labelled.shown(sorted(kept.values()))
