"""Topics, qrels and exclusion lists that Pyserini has by name, written to a file for a process that does not import Pyserini.

python -m pyserini_reasonrank.host.named topics|qrels|exclusions NAME FILE
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.host.bootstrap import prepare, reported
from pyserini_reasonrank.host.pyserini_topics import first_line, host_topics
from pyserini_reasonrank.ir.exclusions import NO_DOCUMENT, read_exclusions
from pyserini_reasonrank.ir.names import is_name
from pyserini_reasonrank.models.hub import answers

BRIGHT = ("bright-aops", "bright-leetcode", "bright-theoremqa-questions")
"""The collections of BRIGHT that exclude documents, by the names of Pyserini's indexes."""


def main(argv: Sequence[str]) -> int:
    """Write the file. Returns the exit status; prints errors as one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m pyserini_reasonrank.host.named", allow_abbrev=False)
    parser.add_argument("kind", choices=("topics", "qrels", "exclusions"), help="what to write")
    parser.add_argument("name", metavar="NAME", help="Pyserini's name")
    parser.add_argument("file", type=Path, metavar="FILE", help="the file to write")
    parser.add_argument("--topics-format", default="default", metavar="format", help="format of the topics")
    options = parser.parse_args(argv)
    return reported(lambda: _write(options.kind, options.name, options.file, options.topics_format))


def _write(kind: str, name: str, file: Path, topics_format: str) -> None:
    if kind == "exclusions" and name not in BRIGHT:
        raise _unknown(name)  # before the JVM starts
    prepare()
    if kind == "exclusions":
        excluded = bright_exclusions(name)
        _write_rows(file, [{"id": qid, "excluded_ids": sorted(docids)} for qid, docids in excluded.items()])
    elif kind == "topics":
        with host_topics(name, topics_format) as (_, queries):
            _write_rows(file, [{"qid": query.qid, "query": query.text} for query in queries])
    else:
        shutil.copyfile(_qrels_file(name), file)


def _unknown(name: str) -> UsageError:
    return UsageError(f"exclusions {name}: no such file, and no collection of that name{nearest(name, BRIGHT)}")


def _write_rows(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _qrels_file(name: str) -> str:
    from pyserini.search import get_qrels_file

    try:
        return str(get_qrels_file(name))
    except (OSError, ValueError) as reason:
        raise UsageError(
            f"qrels {name}: no such file, and Pyserini has no qrels of that name ({first_line(reason)})"
        ) from None


def exclusions(value: str) -> dict[str, set[str]]:
    """The exclusion list in the file ``value``, or of the collection of BRIGHT called ``value``. UsageError as for both."""
    return bright_exclusions(value) if is_name(value) else read_exclusions(value)


def bright_exclusions(name: str) -> dict[str, set[str]]:
    """The excluded docids of each qid of a collection of BRIGHT, ``bright-NAME``, which Pyserini reads from the hub.

    Call ``bootstrap.prepare()`` before. UsageError if ``name`` is not one of ``BRIGHT``, or if the hub can't be reached.
    """
    if name not in BRIGHT:
        raise _unknown(name)
    from pyserini.search._base import get_bright_excluded_ids

    try:
        with _caches_alone_if_the_hub_is_silent():
            found: Mapping[object, Sequence[str]] = get_bright_excluded_ids(name)
    except Exception as reason:  # the library that reads the hub raises exceptions of many kinds
        raise UsageError(
            f"the excluded documents of {name} can't be read from the hub ({first_line(reason)}); write them to a file, one "
            "qid<TAB>docid per line, for --rerank.exclude FILE"
        ) from None
    return {str(qid): {docid for docid in docids if docid != NO_DOCUMENT} for qid, docids in found.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))


@contextmanager
def _caches_alone_if_the_hub_is_silent() -> Iterator[None]:
    """In the block, the libraries that read the hub use their caches alone if it does not answer.

    ``datasets``, with which Pyserini reads BRIGHT, repeats its requests for 24 seconds otherwise.
    """
    from datasets import config
    from huggingface_hub import constants

    libraries: tuple[Any, ...] = (config, constants)
    kept = [library.HF_HUB_OFFLINE for library in libraries]
    if not answers():
        for library in libraries:
            library.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for library, value in zip(libraries, kept, strict=True):
            library.HF_HUB_OFFLINE = value
