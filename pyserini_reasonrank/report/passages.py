"""The texts of a report: queries from topics, passages from a corpus or an index, cut to a length."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.interrupts import temporary_folder
from pyserini_reasonrank.ir.candidate_rows import candidate_row, read_rows
from pyserini_reasonrank.ir.corpus import corpus_documents
from pyserini_reasonrank.ir.documents import read_document
from pyserini_reasonrank.ir.metadata import nested
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.report.run_inputs import RunInput
from pyserini_reasonrank.run.named_inputs import check_ended, local_file

WRITER = "pyserini_reasonrank.host.candidates_writer"
"""The module that reads the texts of an index with Pyserini, in a process of its own."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """Where the passages come from, at most one of a corpus file and an index, and their length in words."""

    corpus: Path | None = None
    index: str | None = None
    words: int = 120

    @property
    def missing(self) -> bool:
        """Whether there are no passages."""
        return self.corpus is None and self.index is None


NO_TEXTS = TextSource()


def read_passages(source: TextSource, docids: Collection[str]) -> dict[str, str]:
    """The text of each docid, cut; {} without a source. UsageError if the source does not contain all of them."""
    if not docids or source.missing:
        return {}
    if source.corpus is not None:
        found = {docid: document.text for docid, document in corpus_documents(source.corpus, docids).items()}
    else:
        found = _of_index(str(source.index), sorted(docids))
    return {docid: cut(text, source.words) for docid, text in found.items()}


def cut(text: str, words: int) -> str:
    """The first ``words`` words of ``text``, with an ellipsis if there are more."""
    parts = text.split(maxsplit=words)
    return text.strip() if len(parts) <= words else " ".join(parts[:words]) + " …"


def query_texts(runs: Sequence[RunInput], topics: str | None) -> tuple[dict[str, str], list[str]]:
    """The text of each query, and notes.

    Without ``topics``, the topics file that the metadata of a run name is read, if it still exists. UsageError if topics
    that were given have none of the queries.
    """
    if topics is not None:
        with local_file("topics", topics) as path:
            texts = {query.qid: query.text for query in read_topics(path)}
        if not texts.keys() & runs[0].qids:
            raise UsageError(f"{topics} has no query of {runs[0].path}: pass the topics of the run")
        without = sum(qid not in texts for qid in runs[0].qids)
        queries = "1 query" if without == 1 else f"{without:,} queries"
        return texts, [f"{topics} has no text for {queries}."] if without else []
    for run in runs:
        recorded = _recorded_topics(run.metadata)
        if recorded is None:
            continue
        try:
            texts = {query.qid: query.text for query in read_topics(recorded)}
        except UsageError:  # topics in a format that only Pyserini reads, or a candidates file
            continue
        if texts.keys() & run.qids:
            return texts, []
    return {}, ["The texts of the queries are not known: pass --topics."]


def _recorded_topics(metadata: Mapping[str, Any]) -> Path | None:
    topics = nested(metadata, "data", "test collection", "topics")
    return Path(topics) if isinstance(topics, str) and Path(topics).is_file() else None


def _of_index(index: str, docids: Sequence[str]) -> dict[str, str]:
    """The texts of an index, read by a process that runs Pyserini."""
    with temporary_folder() as folder:
        run, topics, out = (Path(folder, name) for name in ("run.jsonl", "topics.jsonl", "candidates.jsonl"))
        ranking = [{"docid": docid, "rank": rank, "score": -rank} for rank, docid in enumerate(docids, 1)]
        run.write_text(json.dumps({"qid": "1", "ranking": ranking}) + "\n", encoding="utf-8")
        topics.write_text(json.dumps({"qid": "1", "query": "texts"}) + "\n", encoding="utf-8")
        flags = {"--run": run, "--topics": topics, "--texts": index, "--depth": len(docids), "--candidates": out}
        words = [str(word) for pair in flags.items() for word in pair]
        done = subprocess.run(
            [sys.executable, "-m", WRITER, *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        check_ended(done, f"the texts of {index} can't be read")
        [(_, row)] = read_rows(out)
        documents = ((each.docid, read_document(each.fields)) for each in candidate_row(row).documents)
        return {docid: document.text for docid, document in documents if document is not None}
