"""Writing the candidates file, which the search process hands to the rerank process: a JSON line for each query.

    python -m pyserini_reasonrank.host.candidates_writer --run RUN --topics T --texts INDEX --depth 100 --candidates FILE

writes the candidates file of an existing run, with the texts of an index.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.host.bootstrap import prepare, reported
from pyserini_reasonrank.host.named import exclusions
from pyserini_reasonrank.host.pyserini_topics import host_qid, host_topics
from pyserini_reasonrank.host.texts import IndexTexts
from pyserini_reasonrank.ir.candidate_rows import EXCLUDED
from pyserini_reasonrank.ir.documents import Document, document_record
from pyserini_reasonrank.ir.run_writer import writable
from pyserini_reasonrank.ir.runs import DUPLICATES, KEEP_FIRST_CHOICE, Hit, read_run, repeated
from pyserini_reasonrank.ir.selection import Selection, check_known, selection_of
from pyserini_reasonrank.records import Query

HOST_LINE = re.compile(r"(?P<qid>\S+) Q0 (?P<docid>.*) \d+ (?P<score>\S+) (?P<tag>\S+)\n")


NOTHING: Mapping[str, int] = {}


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
    parser.add_argument("--duplicates", choices=DUPLICATES, default=DUPLICATES[0], help="of documents in the run")
    parser.add_argument("--qids", metavar="qids", help="queries to write: a,b or a file [all]")
    parser.add_argument("--shard", metavar="K/N", help="write every N-th query, from the K-th")
    add_content_flags(parser)
    options = parser.parse_args(argv)
    return reported(lambda: _write_for_run(options))


def add_content_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that decide what candidates contain."""
    parser.add_argument(
        "--rerank-topics", metavar="topic_name", help="topics with the texts to write, for the same qids"
    )
    parser.add_argument(
        "--exclude", metavar="path", help="documents to remove before the depth: a file, or bright-NAME"
    )


def content_selection(
    topics: str | None, exclude: str | None, qids: str | None = None, shard: str | None = None
) -> Selection:
    """The selection of ``--rerank-topics``, ``--exclude``, ``--qids`` and ``--shard``. Call ``prepare`` before."""
    texts = None
    if topics is not None:
        with host_topics(topics) as (_, queries):
            texts = {name: query.text for query in queries for name in (query.qid, host_qid(query.qid))}
    return selection_of(qids, shard, topics, texts, {} if exclude is None else exclusions(exclude))


def _write_for_run(options: argparse.Namespace) -> None:
    run = read_run(options.run, keep_first=options.duplicates == KEEP_FIRST_CHOICE)
    prepare()
    with host_topics(options.topics, options.topics_format) as (_, queries):
        pass
    qids: dict[str, str] = {}
    for qid in run:
        if (other := qids.setdefault(host_qid(qid), qid)) != qid:
            raise UsageError(f"{options.run}: Pyserini reads the qids {other} and {qid} as the same number; rename one")
    selection = content_selection(options.rerank_topics, options.exclude, options.qids, options.shard)
    queries = [Query(qids.get(host_qid(query.qid), query.qid), query.text) for query in queries]
    check_known(run, {query.qid for query in queries}, selection, options.run, options.topics)
    chosen = set(selection.chosen([query.qid for query in queries], options.topics))
    queries = [selection.reworded(query) for query in queries if query.qid in chosen]
    remaining = {query.qid: selection.remaining(query.qid, run.get(query.qid, ())) for query in queries}
    excluded = {qid: len(run.get(qid, ())) - len(found) for qid, found in remaining.items()}
    write_candidates(options.candidates, queries, remaining, IndexTexts(options.texts), options.depth, excluded)


def read_host_run(path: Path) -> dict[str, list[Hit]]:
    """The hits of a run that the host wrote. Docids are kept verbatim, also those with white space."""
    run: dict[str, list[Hit]] = {}
    for _, found in _host_lines(path):
        if found:
            run.setdefault(found["qid"], []).append(Hit(found["docid"], float(found["score"])))
    return run


def _host_lines(path: Path) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Each line of a run that the host wrote, with its columns; None if it is not a line of a run."""
    with open(path, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield line, HOST_LINE.fullmatch(line)


def check_repeated(run: Mapping[str, Sequence[Hit]], index: str) -> None:
    """UsageError if a query of a search of ``index`` lists a document twice."""
    for qid, hits in run.items():
        if twice := repeated(hit.docid for hit in hits):
            raise UsageError(
                f"query {qid}: the search returned document {twice[0]!r} twice, so the index {index} contains it more "
                "than once; pass Pyserini's --remove-duplicates, or index each document once"
            )


def rewrite_host_run(path: Path, qids: Mapping[str, str], selection: Selection, hits: int) -> None:
    """Rewrite a run of the host: the qids of ``qids``, without excluded documents, at most ``hits`` documents per query."""
    lines = list[str]()
    ranks: dict[str, int] = {}
    for _, found in _host_lines(path):
        if not found:
            continue
        qid = qids.get(found["qid"], found["qid"])
        if found["docid"] in selection.excluded.get(qid, ()) or ranks.get(qid, 0) == hits:
            continue
        ranks[qid] = ranks.get(qid, 0) + 1
        lines.append(f"{qid} Q0 {found['docid']} {ranks[qid]} {found['score']} {found['tag']}\n")
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def replace_blanks(path: Path, blanks: str) -> None:
    """Replace each white-space character in the docids of a run that the host wrote, as the reranked run does."""
    lines = []
    for line, found in _host_lines(path):
        begin, end = found.span("docid") if found else (0, 0)
        lines.append(line[:begin] + writable(line[begin:end], "docid", blanks) + line[end:] if found else line)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def write_candidates(
    path: Path,
    queries: Iterable[Query],
    run: Mapping[str, Sequence[Hit]],
    texts: Texts,
    depth: int,
    excluded: Mapping[str, int] = NOTHING,
) -> None:
    """Write a line ``{"qid", "query", "candidates": [{"docid", "score", "text", ...}]}`` for each query, and flush it.

    ``excluded`` are the numbers of documents that were removed from ``run``, by qid; lines have them too. Queries without
    hits have a line. Candidates have the fields of their documents; those below ``depth`` have none.
    """
    with open(path, "w", encoding="utf-8") as lines:
        for query in queries:
            hits = run.get(query.qid, ())
            candidates: list[dict[str, Any]] = [hit._asdict() for hit in hits]
            for candidate in candidates[:depth]:
                candidate.update(document_record(texts[candidate["docid"]]))
            record: dict[str, Any] = {"qid": query.qid, "query": query.text, "candidates": candidates}
            if removed := excluded.get(query.qid):
                record[EXCLUDED] = removed
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
