"""The search process: run Pyserini, the host, unchanged and with the user's flags; then write the candidates of its run.

    python -m pyserini_reasonrank.host.first_stage --module pyserini.search.lucene --run FIRST
        --candidates FILE --depth 100 [--texts INDEX | --corpus F.jsonl] -- --index I --topics T --bm25 ...

The host writes the first-stage run to FIRST in TREC format; its own --output and --output-format are overridden. The exit
status is the host's. If the host exits with 0 but writes no run, it is 1. With --search-only, the run has the user's format,
and there are no candidates.
"""

from __future__ import annotations

import argparse
import glob
import logging
import os
import runpy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.host.bootstrap import prepare, reported
from pyserini_reasonrank.host.candidates_writer import (
    add_content_flags,
    check_repeated,
    content_selection,
    read_host_run,
    replace_blanks,
    rewrite_host_run,
    write_candidates,
)
from pyserini_reasonrank.host.named import BRIGHT, bright_exclusions
from pyserini_reasonrank.host.pyserini_topics import host_qid, host_topics
from pyserini_reasonrank.host.texts import IndexTexts
from pyserini_reasonrank.ir.corpus import corpus_documents
from pyserini_reasonrank.ir.runs import Hit
from pyserini_reasonrank.ir.selection import Selection
from pyserini_reasonrank.records import Query
from pyserini_reasonrank.settings.host_flags import read_host_flags

log = logging.getLogger(__name__)

_TREC = ("--output-format", "trec")
MODULES = {
    "pyserini.search": "pyserini.search.lucene",  # its own redirection loses quotes and the exit status
    "pyserini.search.lucene": "pyserini.search.lucene",
    "pyserini.search.faiss": "pyserini.search.faiss",
}


def main(argv: Sequence[str]) -> int:
    """Run the search process. Returns the exit status; prints errors as one sentence on stderr."""
    cut = argv.index("--") if "--" in argv else len(argv)
    options = _parser().parse_args(argv[:cut], argparse.Namespace(flags=argv[cut + 1 :]))
    return reported(lambda: search(options))


def search(options: argparse.Namespace) -> None:
    """Check topics and index, run the host, and write the candidates of its run."""
    prepare(encoders=MODULES[options.module] == "pyserini.search.faiss")
    host = read_host_flags(options.flags)
    if host.help or host.index is None or host.topics is None:
        return run_host(options.module, options.flags)  # prints its help or its own error
    partial = options.run.with_name(f"{options.run.name}.partial")
    with host_topics(host.topics, host.topics_format) as (topics, queries):
        check_index(options.module, host.index)
        if options.search_only:
            return _write_run(options, partial, ["--topics", topics])
        selection = _selection(options, host.index, [query.qid for query in queries], host.topics)
        index_texts = None if options.corpus else IndexTexts(options.texts or host.index)
        _write_run(options, partial, [*_more_hits(options.flags, selection, queries), "--topics", topics, *_TREC])
    run, excluded = _read_run(options, queries, selection)
    check_repeated(run, host.index)
    wanted_docids = {hit.docid for hits in run.values() for hit in hits[: options.depth]}
    texts = index_texts or corpus_documents(options.corpus, wanted_docids)
    if options.docid_blanks:
        replace_blanks(options.run, options.docid_blanks)
    write_candidates(options.candidates, map(selection.reworded, queries), run, texts, options.depth, excluded)


def _write_run(options: argparse.Namespace, partial: Path, overrides: Sequence[str]) -> None:
    """Run the host with ``overrides`` after the user's flags: argparse uses the last of a repeated flag."""
    try:
        run_host(options.module, [*options.flags, *overrides, "--output", str(partial)])
        if not partial.exists():
            raise Failure("Pyserini's search ended without writing a run; see its message above")
        partial.replace(options.run)
    finally:
        partial.unlink(missing_ok=True)


def _selection(options: argparse.Namespace, index: str, qids: Sequence[str], topics: str) -> Selection:
    """The texts to rerank and the excluded documents, those that Pyserini excludes for a prebuilt index of BRIGHT included.

    UsageError if a query has no text to rerank.
    """
    selection = content_selection(options.rerank_topics, options.exclude)
    selection.chosen(qids, f"the topics {topics}")
    excluded = {qid: set(docids) for qid, docids in selection.excluded.items()}
    if bright := next((name for name in BRIGHT if name in index), None):
        for qid, docids in bright_exclusions(bright).items():
            excluded.setdefault(qid, set()).update(docids)
    return replace(selection, excluded=excluded)


def _more_hits(flags: Sequence[str], selection: Selection, queries: Sequence[Query]) -> list[str]:
    """The flags that search as many documents more as a query excludes at most, so that the depth is filled."""
    most = max((len(selection.excluded.get(query.qid, ())) for query in queries), default=0)
    return ["--hits", str(read_host_flags(flags).hits + most)] if most else []


def _read_run(
    options: argparse.Namespace, queries: Sequence[Query], selection: Selection
) -> tuple[dict[str, list[Hit]], dict[str, int]]:
    """The run that the host wrote, with the qids of the topics and without excluded documents; the file is rewritten.

    Also the numbers of excluded documents, by qid.

    A query whose exclusions leave fewer candidates than the depth, although the search found more, is reported.
    """
    qids = {host_qid(query.qid): query.qid for query in queries}
    excludes = any(selection.excluded.get(query.qid) for query in queries)
    if not excludes and all(qid == name for qid, name in qids.items()):
        return read_host_run(options.run), {}
    before, hits = read_host_run(options.run), read_host_flags(options.flags).hits
    rewrite_host_run(options.run, qids, selection, hits)
    run = read_host_run(options.run)
    excluded: dict[str, int] = {}
    for host_name, found in before.items():
        qid = qids.get(host_name, host_name)
        excluded[qid] = len(found) - len(selection.remaining(qid, found))
        left = len(run.get(qid, ()))
        if left < len(found) and left < min(options.depth, hits):
            log.warning("query %s: exclusions leave %d candidates for a depth of %d", qid, left, options.depth)
    return run, excluded


def check_index(module: str, index: str) -> None:
    """UsageError if ``index`` is a folder without a Lucene index (or a Faiss index, if ``module`` searches those)."""
    kind, files = ("Faiss", "index") if module.endswith("faiss") else ("Lucene", "segments_*")
    if os.path.exists(index) and not glob.glob(os.path.join(glob.escape(index), files)):
        raise UsageError(f"{index} contains no {kind} index")


def run_host(module: str, flags: Sequence[str]) -> None:
    """Run the host's ``__main__`` as ``python -m`` does. SystemExit if its exit status is not 0."""
    sys.argv = [module, *flags]
    try:
        runpy.run_module(MODULES[module], run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        if ending.code not in (None, 0):
            raise


def _parser() -> argparse.ArgumentParser:
    prog = "python -m pyserini_reasonrank.host.first_stage"
    parser = argparse.ArgumentParser(prog=prog, epilog="Pyserini's flags follow after --.", allow_abbrev=False)
    parser.add_argument(
        "--module", choices=list(MODULES), default="pyserini.search.lucene", help="Pyserini's search command"
    )
    parser.add_argument("--run", type=Path, required=True, metavar="path", help="first-stage run to write")
    written = parser.add_mutually_exclusive_group(required=True)
    written.add_argument("--candidates", type=Path, metavar="path", help="candidates file to write")
    written.add_argument(
        "--search-only", action="store_true", help="write the run alone, in the format of Pyserini's flags"
    )
    parser.add_argument("--depth", type=int, default=100, metavar="num", help="candidates per query that get a text")
    add_content_flags(parser)
    parser.add_argument("--docid-blanks", metavar="text", help="replaces white space in the docids of the run")
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--texts", metavar="index", help="index that stores the texts, instead of --index")
    texts.add_argument("--corpus", metavar="path", help="JSON lines file with the texts")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
