"""Inputs of a command by name: topics and qrels of Pyserini or ir_datasets, and BRIGHT's exclusion lists."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.interrupts import temporary_folder
from pyserini_reasonrank.ir.exclusions import read_exclusions
from pyserini_reasonrank.ir.names import irds_file, is_name, looks_like_a_file
from pyserini_reasonrank.ir.selection import Selection, selection_of
from pyserini_reasonrank.ir.topics import SUFFIXES, read_topics
from pyserini_reasonrank.records import Query

WRITER = "pyserini_reasonrank.host.named"
"""The module that asks Pyserini, in a process of its own."""

Kind = Literal["topics", "qrels", "exclusions"]


@contextmanager
def local_file(kind: Kind, value: str) -> Iterator[Path]:
    """The file ``value``; or, if there is no such file, a temporary file with the topics or qrels of that name.

    ``irds:NAME`` and names that ir_datasets knows are its own, others Pyserini's. A value that looks like the path of a
    file is returned as it is. UsageError for an unknown name, and if it can't be downloaded.
    """
    if looks_like_a_file(value):
        yield Path(value)
        return
    with temporary_folder() as folder:
        found = irds_file(kind, value, Path(folder)) if kind != "exclusions" else None
        yield found or (_from_pyserini(kind, value, Path(folder)) if is_name(value) else Path(value))


def host_queries(topics: str, topics_format: str = "default") -> list[Query]:
    """The queries of ``topics`` as a search of Pyserini reads them: a file in any of its formats, or a name that it knows.

    UsageError if they can't be read, or if one has no text.
    """
    if topics_format == "default" and topics.endswith(SUFFIXES) and Path(topics).is_file():
        return read_topics(topics)
    with temporary_folder() as folder:
        return read_topics(_from_pyserini("topics", topics, Path(folder), "--topics-format", topics_format))


def _from_pyserini(kind: Kind, name: str, folder: Path, *flags: str) -> Path:
    path = folder / ("topics.jsonl" if kind == "topics" else f"{kind}.txt")
    command = [sys.executable, "-m", WRITER, kind, name, str(path), *flags]
    environment = os.environ | {"TMPDIR": str(folder)}  # a signal that ends this process deletes its files too
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment
    )
    check_ended(done, f"{kind} {name}: Pyserini failed")
    return path


def check_ended(done: subprocess.CompletedProcess[str], failure: str) -> None:
    """Raise the UsageError of a process of ours that ended with one; Failure, which begins with ``failure``, for another end."""
    if not done.returncode:
        return
    said = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    if said and done.returncode == UsageError.exit_code:
        raise UsageError(said[-1])
    last = (said or done.stderr.strip().splitlines() or ["no message"])[-1]
    raise Failure(f"{failure} (exit status {done.returncode}): {last}")


def read_selection(qids: str | None, shard: str | None, topics: str | None, exclude: str | None) -> Selection:
    """The selection of a command: ``--qids``, ``--shard``, and the settings ``topics`` and ``exclude``."""
    texts, excluded = None, dict[str, set[str]]()
    if topics is not None:
        with local_file("topics", topics) as path:
            texts = {query.qid: query.text for query in read_topics(path)}
    if exclude is not None:
        with local_file("exclusions", exclude) as path:
            excluded = read_exclusions(path)
    return selection_of(qids, shard, topics, texts, excluded)
