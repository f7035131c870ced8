"""The demo collection for the notebooks: files in ``work/`` for the commands, and the same data as Python objects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ir_measures

from pyserini_reasonrank.resources import conf

WORK = Path("work")
RUNS = Path("runs")
MEASURE = ir_measures.nDCG @ 10


@dataclass(frozen=True)
class Collection:
    """The test topics of the demo collection.

    ``topics`` maps a qid to the text of the query, ``qrels`` a qid to the grades of its judged documents, ``texts`` a
    docid to the text of the document.
    """

    topics: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    texts: Mapping[str, str]

    @cached_property
    def bm25(self) -> dict[str, list[dict[str, Any]]]:
        """BM25's candidates of each qid, best first, as ``Reranker.rank`` takes them: docid, text, score."""
        return {
            qid: [{"docid": docid, "text": self.texts[docid], "score": score} for docid, score in hits]
            for qid, hits in read_run(RUNS / "bm25.txt", self.texts).items()
        }

    def ndcg(self, run: Mapping[str, Iterable[str]]) -> dict[str, float]:
        """nDCG@10 of each query of ``run``, which maps qids to docids, best first."""
        judged = {qid: self.qrels[qid] for qid in run}
        scored = {qid: {docid: -float(place) for place, docid in enumerate(run[qid])} for qid in run}
        return {found.query_id: found.value for found in ir_measures.iter_calc([MEASURE], judged, scored)}


def read_run(path: Path, known: Iterable[str]) -> dict[str, list[tuple[str, float]]]:
    """Docids and scores of each qid of a TREC run. Documents that this Python version does not have are left out."""
    existing = set(known)
    run: dict[str, list[tuple[str, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        qid, _, docid, _, score, _ = line.split()
        if docid in existing:
            run.setdefault(qid, []).append((docid, float(score)))
    return run


def prepare() -> Collection:
    """Write ``work/corpus.jsonl``, ``work/topics.tsv``, ``work/qrels.txt`` and ``work/bm25.txt``, and read them.

    An existing corpus is kept. ``work/bm25.txt`` is the run of the course without documents that the corpus lacks.
    """
    corpus, topics, qrels = WORK / "corpus.jsonl", WORK / "topics.tsv", WORK / "qrels.txt"
    if not corpus.exists():
        # not in this process: a notebook's kernel replaces `input`, which is a documented object of the corpus
        words = [sys.executable, "-m", "pyserini_reasonrank.demo.collection", str(corpus)]
        subprocess.run(words, check=True, capture_output=True)
    topics.write_text(conf("demo", "topics.tsv").read_text(encoding="utf-8"), encoding="utf-8")
    judgments = conf("demo", "qrels.txt").read_text(encoding="utf-8").splitlines()
    tested = [line.split() for line in judgments if line.startswith("t")]  # the training topics begin with r
    qrels.write_text("".join(f"{' '.join(columns)}\n" for columns in tested), encoding="utf-8")
    grades: dict[str, dict[str, int]] = {}
    for qid, _, docid, grade in tested:
        grades.setdefault(qid, {})[docid] = int(grade)
    documents = (json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines())
    texts = {document["id"]: document["contents"] for document in documents}
    hits = (RUNS / "bm25.txt").read_text(encoding="utf-8").splitlines()
    known = (line for line in hits if line.split()[2] in texts)
    (WORK / "bm25.txt").write_text("".join(f"{line}\n" for line in known), encoding="utf-8")
    return Collection(
        dict(line.split("\t", 1) for line in topics.read_text(encoding="utf-8").splitlines()),
        grades,
        texts,
    )
