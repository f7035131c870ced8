"""Pyserini's flags, read as its own argparse reads them."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.settings.host_flags import check_searches_text, read_host_flags


def host_parser() -> argparse.ArgumentParser:
    """A parser of the shape of Pyserini's, with the flags whose beginnings are like those of ours."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    for flag in ("--index", "--topics", "--output", "--encoder", "--tokenizer", "--max-passage-delimiter"):
        parser.add_argument(flag)
    parser.add_argument("--topics-format", default="default")
    parser.add_argument("--output-format", default="trec")
    parser.add_argument("--hits", type=int, default=1000)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--fields", nargs="+")
    for flag in ("--bm25", "--impact", "--hnsw", "--onnx-encoder", "--rm3", "--rerank"):
        parser.add_argument(flag, action="store_true")
    return parser


WHOLE = "--index I --topics T --output run.txt"


@pytest.mark.parametrize(
    "line",
    [
        WHOLE,
        "--index=I --topics=T --output=run.txt --output-format=msmarco",
        f"{WHOLE} --topics-format kilt --bm25 --hits 10 --fields a=1 b=2 --rerank",
        "--index I --index J --topics T --topics=U --output a --output b",
        "--index I --topics T --output-f msmarco --output x --topics-f tsv",
        "--ind I --topics T --outp=x",
        "--index= --topics T --output x",
        "--index a=b --topics=c=d --output x",
        "--help",
        "-h --index I",
        "--impact --index I --encoder E --topics T --output x",
        "--hnsw --hits 5 --threads 4 --tokenizer bert --index I --topics T",
        "",
    ],
)
def test_what_argparse_makes_of_it(line: str) -> None:
    try:
        expected: dict[str, Any] | None = vars(host_parser().parse_args(line.split()))
    except SystemExit:
        expected = None
    if expected is None:
        with pytest.raises(UsageError):
            read_host_flags(line.split())
        return
    found = asdict(read_host_flags(line.split()))
    assert found == {key: expected[key] for key in found}
    assert set(found) == {"help", "index", "topics", "topics_format", "output", "output_format", "hits"}


@pytest.mark.parametrize("hits", ["0", "-1", "many", "1.5", ""])
def test_a_number_of_hits_below_one_is_refused(hits: str) -> None:
    with pytest.raises(UsageError, match=f"--hits {hits}: expected the number of hits per query, at least 1"):
        read_host_flags([*WHOLE.split(), f"--hits={hits}"])


@pytest.mark.parametrize("words", [["--index"], ["--topics", "--bm25"], ["--out", "x"], ["--output-format"]])
def test_a_flag_without_its_value_or_with_an_unclear_name_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        read_host_flags(words)
    assert words[0] in str(error.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--impact", "--impact without an encoder"),
        ("--dense --hnsw", "--dense without an encoder"),
        ("--encoded-queries tct", "name the model that makes them with --encoder"),
        ("--pretokenized", "--pretokenized searches with topics that are already tokenized"),
        ("--topics-format mbeir", "topics of the format mbeir are not plain text"),
        ("--topics-form=multimodal", "topics of the format multimodal are not plain text"),
        ("--multimodal", "--multimodal searches with images"),
        ("--bm25", ""),
        ("--bm25 --rm3 --tokenizer bert", ""),
        ("--impact --encoder naver/splade", ""),
        ("--dense --hnsw --onnx-encoder bge", ""),
        ("--encoder tct --encoded-queries tct", ""),
        ("--topics-format kilt", ""),
    ],
)
def test_a_rewrite_needs_a_search_with_the_text_of_the_topics(line: str, says: str) -> None:
    words = ["--index", "I", "--topics", "T", "--output", "run.txt", *line.split()]
    if not says:
        check_searches_text(words)
        return
    with pytest.raises(UsageError, match="--rewrite needs a search with the text of the topics: ") as error:
        check_searches_text(words)
    assert says in str(error.value)
