"""Parts of a run, each made from a part of the topics, joined to one run with its metadata and its journal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError, listed
from pyserini_reasonrank.ir.file_io import atomic, check_plain, read_lines
from pyserini_reasonrank.ir.metadata import (
    WITHOUT_CANDIDATES,
    WITHOUT_RELEVANT,
    read_metadata,
    recorded_fingerprint,
    sidecar,
    write_metadata,
)
from pyserini_reasonrank.ir.runs import FIRST_RUN, is_json, line_qid
from pyserini_reasonrank.ir.selection import parse_shard
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.journal import journal_of, run_name
from pyserini_reasonrank.run.candidates import read_qids
from pyserini_reasonrank.run.merged_journal import merge_journals
from pyserini_reasonrank.run.merged_metadata import fingerprint, first_difference, merged_fields

NAMED = 5
"""The number of queries or parts that an error names; it counts the others."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run: its file, its metadata, and the lines of each query, without line ends, in the order of the file."""

    path: Path
    metadata: Mapping[str, Any]
    lines: Mapping[str, Sequence[bytes]]

    @property
    def without_candidates(self) -> list[str]:
        """The qids that have no lines because the first stage found no documents for them."""
        return [str(qid) for qid in self.metadata.get("outcome", {}).get(WITHOUT_CANDIDATES, [])]

    @property
    def without_relevant(self) -> list[str]:
        """The qids that have no lines because the judge found no document relevant."""
        return [str(qid) for qid in self.metadata.get("outcome", {}).get(WITHOUT_RELEVANT, [])]

    @property
    def qids(self) -> list[str]:
        """All queries of the part."""
        empty = (*self.without_candidates, *self.without_relevant)
        return [*self.lines, *(qid for qid in empty if qid not in self.lines)]

    @property
    def collection(self) -> Mapping[str, Any]:
        """What the metadata record about topics and the part of them."""
        found: Mapping[str, Any] = self.metadata.get("data", {}).get("test collection", {})
        return found


@dataclass(frozen=True, slots=True)
class Merged:
    """The number of topics of a merged run, and the files that were written."""

    topics: int
    files: tuple[Path, ...]


def merge(output: Path, paths: Sequence[Path], topics: str | None, command: Sequence[str]) -> Merged:
    """Join the runs ``paths`` to ``output``, in the order of the topics: those of the file ``topics``, else of the parts.

    UsageError if a part is missing or unfinished, if the parts have different settings or formats, if a query is in two
    parts or in none, and if ``output`` is a part or a run of other settings.
    """
    _check_output(output, paths)
    parts = [_read(path) for path in paths]
    for part in parts[1:]:
        if difference := first_difference(parts[0].metadata, part.metadata):
            raise UsageError(f"{parts[0].path} and {part.path} have different settings: {difference}")
    if len(forms := {_form(part): part.path for part in parts if part.lines}) > 1:
        raise UsageError(
            f"the parts have different formats: {', '.join(f'{path} {form}' for form, path in forms.items())}"
        )
    owners = _owners(parts)
    qids = _expected(parts, topics) or list(owners)
    _check_complete(parts, owners, qids)
    known = fingerprint(parts[0].metadata)
    if output.exists() and known != recorded_fingerprint(output):
        raise UsageError(f"{output} exists and was not merged from runs of these settings; name another file")
    _write(output, (line for qid in qids for line in owners[qid].lines.get(qid, ())))
    metadata = sidecar(output)
    first = _merge_first_runs(output, parts, qids)
    described = [(part.path, part.metadata) for part in parts]
    write_metadata(metadata, merged_fields(described, qids, known, command, first))
    tag = str(parts[0].metadata.get("tag", ""))
    journals = [(path := journal_of(part.path), run_name(tag, part.path, path)) for part in parts]
    written = [output, metadata, *([first] if first else [])]
    if all(journal.exists() for journal, _ in journals):
        journal = journal_of(output)
        merge_journals(journal, run_name(tag, output, journal), journals)
        written.append(journal)
    return Merged(len(qids), tuple(written))


def _check_output(output: Path, paths: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in paths:
        if (other := seen.setdefault(path.resolve(), path)) is not path:
            raise UsageError(f"the part {other} is given twice")
    if output.resolve() in seen:
        raise UsageError(f"{output} is a part of the run; name another file for the merged run")
    check_plain(output, "the output")
    if output.is_dir():
        raise UsageError(f"{output} is a folder; name the run file itself")


def _read(path: Path) -> Part:
    if not path.exists() and Path(f"{path}.partial").exists():
        raise UsageError(f"{path} is not finished ({path}.partial exists); run its command again")
    lines = _lines(path)
    metadata = read_metadata(path)
    if metadata is None:
        raise UsageError(
            f"{path} has no metadata ({sidecar(path)}); merge needs it to compare the settings of the parts"
        )
    return Part(path, metadata, lines)


def _lines(path: Path) -> dict[str, list[bytes]]:
    """The lines of a run by qid. The run is empty if no query has candidates."""
    lines: dict[str, list[bytes]] = {}
    if path.is_file() and not path.stat().st_size:
        return lines
    for where, line in read_lines(path):
        lines.setdefault(line_qid(line, where), []).append(line)
    return lines


def _form(part: Part) -> str:
    line = next(lines[0] for lines in part.lines.values())
    return ("castorini" if b'"candidates"' in line else "jsonl") if is_json(line) else f"{len(line.split())} columns"


def _owners(parts: Sequence[Part]) -> dict[str, Part]:
    """The part that has each query. UsageError if two parts have it."""
    owners: dict[str, Part] = {}
    shared: dict[str, list[str]] = {}
    for part in parts:
        for qid in part.qids:
            if (owner := owners.setdefault(qid, part)) is not part:
                shared.setdefault(f"{owner.path} and {part.path}", []).append(qid)
    for paths, qids in shared.items():
        raise UsageError(f"{paths} both have {_named(qids, 'query', 'queries')}")
    return owners


def _expected(parts: Sequence[Part], topics: str | None) -> list[str] | None:
    """All qids in the order of the topics: of the file ``topics``, else of those of the parts; None if one can't be read."""
    if topics is not None:
        return [query.qid for query in read_topics(topics)]
    found: dict[str, None] = {}
    for name in dict.fromkeys(str(part.collection.get("topics")) for part in parts):
        if not os.path.isfile(name):
            return None
        candidates = any(_first_run(part) == name for part in parts)
        try:
            qids = read_qids(Path(name)) if candidates else [query.qid for query in read_topics(name)]
        except UsageError:  # a format that only Pyserini reads
            return None
        found |= dict.fromkeys(qids)
    return list(found)


def _first_run(part: Part) -> str:
    retrieval = part.metadata.get("method", {}).get("retrieval") or [{}]
    return str(retrieval[0].get("run"))


def _check_complete(parts: Sequence[Part], owners: Mapping[str, Part], qids: Sequence[str]) -> None:
    """UsageError if a shard is missing, a query is in no part, or a part has a query that is not among the topics."""
    shards = [parse_shard(str(part.collection["shard"])) for part in parts if "shard" in part.collection]
    for n in sorted({n for _, n in shards}):
        if missing := [f"{k}/{n}" for k in range(1, n + 1) if (k, n) not in shards]:
            raise UsageError(f"{_named(missing, 'shard', 'shards')} missing: pass every part of the run")
    if lost := [qid for qid in qids if qid not in owners]:
        raise UsageError(f"{_named(lost, 'query', 'queries')} of the topics in no part; pass every part of the run")
    known = set(qids)
    if unknown := [qid for qid in owners if qid not in known]:
        first = owners[unknown[0]].path
        raise UsageError(f"{first} has {_named(unknown, 'query', 'queries')} not among the topics")


def _named(names: Sequence[str], one: str, many: str) -> str:
    return f"{len(names)} {one if len(names) == 1 else many} ({listed(names, NAMED)})"


def _write(output: Path, lines: Iterable[bytes]) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic(output) as file:
            for line in lines:
                file.write(line + b"\n")
    except OSError as error:
        raise UsageError(f"{output} can't be written: {error.strerror}") from None


def _merge_first_runs(output: Path, parts: Sequence[Part], qids: Sequence[str]) -> Path | None:
    """Join the first-stage runs that searches wrote beside their parts; None if a part has none."""
    paths = [Path(f"{part.path}{FIRST_RUN}") for part in parts]
    if not all(path.exists() for path in paths):
        return None
    lines: dict[str, list[bytes]] = {}
    for path in paths:
        for qid, found in _lines(path).items():
            lines.setdefault(qid, []).extend(found)
    merged = Path(f"{output}{FIRST_RUN}")
    _write(merged, (line for qid in qids for line in lines.get(qid, ())))
    return merged
