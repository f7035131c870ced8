"""A search process that stays: it reads queries from stdin and writes hits with their documents to stdout.

    python -m pyserini_reasonrank.host.searcher --index INDEX

A line ``{"id", "query", "k"}`` is answered by ``{"id", "hits": [{"docid", "score", "text", ...}]}`` or ``{"id", "error"}``.
The first line of the output is ``{"ready": INDEX}``. The process ends with its input.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.host.bootstrap import prepare, reported
from pyserini_reasonrank.host.first_stage import check_index
from pyserini_reasonrank.host.texts import IndexTexts
from pyserini_reasonrank.ir.documents import document_record


def main(argv: Sequence[str]) -> int:
    """Run the search process. Returns the exit status; prints errors as one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m pyserini_reasonrank.host.searcher", allow_abbrev=False)
    parser.add_argument("--index", required=True, help="Lucene index: a folder or a prebuilt index")
    options = parser.parse_args(argv)
    return reported(lambda: _serve(options.index))


def _serve(index: str) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what Java and Pyserini print is no answer
    prepare()
    check_index("pyserini.search.lucene", index)
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(index) if os.path.isdir(index) else LuceneSearcher.from_prebuilt_index(index)
    if searcher is None:
        raise UsageError(f"index {index!r}: no such folder, and Pyserini has no prebuilt index of that name")
    texts = IndexTexts(index)
    _write(answers, {"ready": index})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            hits = searcher.search(asked["query"], k=asked["k"])
            found = [{**document_record(texts[hit.docid]), "docid": hit.docid, "score": hit.score} for hit in hits]
            _write(answers, {"id": asked["id"], "hits": found})
        except Exception as error:  # Java's exceptions too: one query must not end the others
            _write(answers, {"id": asked["id"], "error": str(error) or type(error).__name__})


def _write(answers: Any, record: dict[str, Any]) -> None:
    answers.write(json.dumps(record, ensure_ascii=False) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
