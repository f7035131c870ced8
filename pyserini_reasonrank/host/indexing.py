"""Index a corpus of JSON lines with the host's indexer. The index stores the texts, which reranking needs.

    python -m pyserini_reasonrank.host.indexing --corpus F.jsonl --index DIR --collection DIR [--threads 4]

The corpus in the format of the host is written to the collection folder, which the caller deletes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.host.bootstrap import prepare, reported
from pyserini_reasonrank.ir.corpus import read_documents
from pyserini_reasonrank.ir.documents import title_only

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Index a corpus. Returns the exit status; prints errors as one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m pyserini_reasonrank index", allow_abbrev=False)
    parser.add_argument("--corpus", required=True, metavar="path", help='JSON lines, {"id": ..., "contents": ...}')
    parser.add_argument("--index", type=Path, required=True, metavar="path", help="folder for the index, new or empty")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="num", help="indexing threads")
    parser.add_argument(
        "--collection", type=Path, required=True, metavar="path", help="empty folder for the collection"
    )
    options = parser.parse_args(argv)
    return reported(lambda: build_index(options.corpus, options.index, options.threads, options.collection))


def build_index(corpus: str, index: Path, threads: int, collection: Path) -> int:
    """Index ``corpus`` into the folder ``index``, through a file in ``collection``. Returns the documents in the index.

    The host skips documents without text. UsageError if the corpus can't be read or repeats a docid; Failure if the index
    lacks documents that have text.
    """
    documents = _write_collection(corpus, collection / "corpus.jsonl")
    prepare()
    _run_indexer(str(collection), index, threads)
    indexed = _count(index)
    if indexed != documents:
        raise Failure(f"the index {index} has {indexed} documents; the corpus {corpus} has {documents} with text")
    return indexed


def _write_collection(corpus: str, path: Path) -> int:
    """Write the corpus in the format of the host's JsonCollection. Returns the number of documents with text."""
    seen: set[str] = set()
    documents = titles = 0
    with open(path, "w", encoding="utf-8") as collection:
        for docid, document in read_documents(corpus):
            if docid in seen:
                raise UsageError(f"the corpus {corpus} has document {docid!r} twice; docids must be unique")
            seen.add(docid)
            documents += bool(document.text)
            titles += title_only(document.fields)
            record = {"id": docid, "contents": document.text, **document.fields}
            collection.write(json.dumps(record, ensure_ascii=False) + "\n")
    if not documents:
        raise UsageError(f"the corpus {corpus} has no document with text")
    if titles:
        log.warning(
            "%d of %d documents of %s have a title and no text: their titles are indexed", titles, documents, corpus
        )
    return documents


def _run_indexer(folder: str, index: Path, threads: int) -> None:
    from pyserini.pyclass import autoclass

    flags = ["-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator"]
    flags += ["-input", folder, "-index", str(index), "-threads", str(threads)]
    flags += ["-storePositions", "-storeDocvectors", "-storeRaw", "-storeContents"]
    autoclass("io.anserini.index.IndexCollection").main(flags)


def _count(index: Path) -> int:
    from pyserini.index.lucene import LuceneIndexReader

    return int(LuceneIndexReader(str(index)).stats()["documents"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
