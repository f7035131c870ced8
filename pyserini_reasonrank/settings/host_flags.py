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
_LOOKALIKES = ("--impact", "--hnsw", "--onnx-encoder", "--threads", "--tokenizer")


HITS = 1000
"""The default of Pyserini's --hits."""


@dataclass(frozen=True, slots=True)
class HostFlags:
    """What Pyserini's command line says; None for a flag that is not given."""

    help: bool
    index: str | None
    topics: str | None
    topics_format: str
    output: str | None
    output_format: str
    hits: int


def read_host_flags(argv: Sequence[str]) -> HostFlags:
    """The flags in ``argv``, the arguments of a Pyserini search command. UsageError for one without its value."""
    parser = _Parser(add_help=False, argument_default=None)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--index")
    parser.add_argument("--topics")
    parser.add_argument("--topics-format", default="default")
    parser.add_argument("--output")
    parser.add_argument("--output-format", default="trec")
    parser.add_argument("--hits", type=_hits, default=HITS)
    for flag in _LOOKALIKES:
        parser.add_argument(flag, nargs="?", dest="_other")
    found = vars(parser.parse_known_args(list(argv))[0])
    del found["_other"]
    return HostFlags(**found)


TEXT_FORMATS = ("default", "kilt")
"""The values of Pyserini's --topics-format whose topics are plain text."""
_SWITCHES = ("--impact", "--dense", "--pretokenized", "--multimodal")
_ENCODERS = ("--encoder", "--onnx-encoder", "--encoded-queries")
_ALIKE = (
    "--topics",
    "--index",
    "--encoder-class",
    "--encoded-corpus",
)  # whole names are no abbreviations of those above


def check_searches_text(argv: Sequence[str]) -> None:
    """UsageError if the Pyserini search with the flags ``argv`` does not search with the text of its topics.

    Then it can't search with a rewritten text either: queries that were encoded or tokenized before the search, or images.
    """
    parser = _Parser(add_help=False, argument_default=None)
    for flag in _SWITCHES:
        parser.add_argument(flag, action="store_true")
    for flag in (*_ENCODERS, "--topics-format", *_ALIKE):
        parser.add_argument(flag)
    given = parser.parse_known_args(list(argv))[0]
    if (topics_format := given.topics_format or "default") not in TEXT_FORMATS:
        raise _not_text(f"topics of the format {topics_format} are not plain text")
    if given.multimodal:
        raise _not_text("--multimodal searches with images")
    if given.pretokenized:
        raise _not_text("--pretokenized searches with topics that are already tokenized; leave it out")
    if given.encoded_queries and not given.encoder:
        raise _not_text(
            "--encoded-queries has vectors of the topics as they are; name the model that makes them with --encoder"
        )
    if given.impact and not (given.encoder or given.onnx_encoder):
        raise _not_text("--impact without an encoder searches with topics that are already encoded; set --encoder")
    if given.dense and not given.onnx_encoder:
        raise _not_text("--dense without an encoder searches with topics that are already encoded; set --onnx-encoder")


def _not_text(reason: str) -> UsageError:
    return UsageError(f"--rewrite needs a search with the text of the topics: {reason}")


def _hits(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UsageError(f"--hits {text}: expected the number of hits per query, at least 1")
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)
