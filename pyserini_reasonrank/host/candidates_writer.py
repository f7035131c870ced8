"""Writing the candidates file, which the search process hands to the rerank process: a JSON line for each query.

    python -m pyserini_reasonrank.host.candidates_writer --run RUN --topics T --texts INDEX --depth 100 --candidates FILE

writes the candidates file of an existing run, with the texts of an index.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.host.bootstrap import prepare, reported
from pyserini_reasonrank.host.pyserini_topics import host_topics, readable
from pyserini_reasonrank.host.texts import IndexTexts
from pyserini_reasonrank.ir.documents import Document, document_record
from pyserini_reasonrank.ir.runs import Hit, read_run
from pyserini_reasonrank.records import Query

HOST_LINE = re.compile(r"(?P<qid>\S+) Q0 (?P<docid>.*) \d+ (?P<score>\S+) \S+\n")


class Texts(Protocol):
    """Documents by docid. Raises UsageError for an unknown docid."""

    def __getitem__(self, docid: str, /) -> Document: ...


def main(argv: Sequence[str]) -> int:
    """Write the candidates of a run. Returns the exit status; prints errors as one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m pyserini_reasonrank.host.candidates_writer", allow_abbrev=False)
    parser.add_argument("--run", required=True, metavar="path", help="run, in TREC or MS MARCO format")
    parser.add_argument(
        "--topics", required=True, metavar="topic_name", help="topics file, or the name of Pyserini topics"
    )
    parser.add_argument("--topics-format", default="default", metavar="format", help="format of the topics")
    parser.add_argument("--texts", required=True, metavar="index", help="index that stores the texts")
    parser.add_argument("--depth", type=int, default=100, metavar="num", help="candidates per query that get a text")
    parser.add_argument("--candidates", type=Path, required=True, metavar="path", help="candidates file to write")
    options = parser.parse_args(argv)
    return reported(lambda: _write_for_run(options))


def _write_for_run(options: argparse.Namespace) -> None:
    run = read_run(options.run)
    prepare()
    with readable(options.topics) as topics:
        queries = host_topics(topics, options.topics_format)
    qids = {host_qid(qid): qid for qid in run}
    if unknown := qids.keys() - {query.qid for query in queries}:
        raise UsageError(f"{options.run} has query {qids[min(unknown)]}, which is not in the topics {options.topics}")
    queries = [Query(qids.get(query.qid, query.qid), query.text) for query in queries]
    write_candidates(options.candidates, queries, run, IndexTexts(options.texts), options.depth)


def host_qid(qid: str) -> str:
    """``qid`` as the host returns it: qids of digits are numbers there, without leading zeros."""
    return str(int(qid)) if qid.isdecimal() else qid


def read_host_run(path: Path) -> dict[str, list[Hit]]:
    """The hits of a run that the host wrote. Docids are kept verbatim, also those with white space."""
    run: dict[str, list[Hit]] = {}
    with open(path, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if found := HOST_LINE.fullmatch(line):
                run.setdefault(found["qid"], []).append(Hit(found["docid"], float(found["score"])))
    return run


def write_candidates(
    path: Path, queries: Iterable[Query], run: Mapping[str, Sequence[Hit]], texts: Texts, depth: int
) -> None:
    """Write a line ``{"qid", "query", "candidates": [{"docid", "score", "text", ...}]}`` for each query, and flush it.

    Queries without hits have a line too. Candidates have the fields of their documents; those below ``depth`` have none.
    """
    with open(path, "w", encoding="utf-8") as lines:
        for query in queries:
            hits = run.get(query.qid, ())
            candidates: list[dict[str, Any]] = [hit._asdict() for hit in hits]
            for candidate in candidates[:depth]:
                candidate.update(document_record(texts[candidate["docid"]]))
            record = {"qid": query.qid, "query": query.text, "candidates": candidates}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
