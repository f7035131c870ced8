"""The parser of those flags of Pyserini's search commands that this package needs too.

The search process and the rerank process both read them here, as Pyserini's own argparse reads them: ``--flag=value``
and unambiguous abbreviations are accepted, and of a flag given twice the last counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from pyserini_reasonrank.errors import UsageError

# Flags of Pyserini that begin like ours: known to the parser so that their abbreviations stay ambiguous here too.
_LOOKALIKES = ("--impact", "--hits", "--hnsw", "--onnx-encoder", "--threads", "--tokenizer")


@dataclass(frozen=True, slots=True)
class HostFlags:
    """What Pyserini's command line says; None for a flag that is not given."""

    help: bool
    index: str | None
    topics: str | None
    topics_format: str
    output: str | None
    output_format: str


def read_host_flags(argv: Sequence[str]) -> HostFlags:
    """The flags in ``argv``, the arguments of a Pyserini search command. UsageError for one without its value."""
    parser = _Parser(add_help=False, argument_default=None)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--index")
    parser.add_argument("--topics")
    parser.add_argument("--topics-format", default="default")
    parser.add_argument("--output")
    parser.add_argument("--output-format", default="trec")
    for flag in _LOOKALIKES:
        parser.add_argument(flag, nargs="?", dest="_other")
    found = vars(parser.parse_known_args(list(argv))[0])
    del found["_other"]
    return HostFlags(**found)


def read_host_hits(argv: Sequence[str]) -> int:
    """The number of hits per query that the arguments of a Pyserini search command ask for; Pyserini's default is 1000."""
    parser = _Parser(add_help=False)
    parser.add_argument("--hits", type=int, default=1000)
    for flag in ("--help", "--hnsw"):  # keep their abbreviations ambiguous
        parser.add_argument(flag, nargs="?", dest="_other")
    return int(parser.parse_known_args(list(argv))[0].hits)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)
