"""Run provenance: the sidecar file of a run, ``<output>.ir-metadata.yml``, in the ir_metadata vocabulary.

ir_metadata (https://www.ir-metadata.org) describes an experiment under the PRIMAD headings platform, implementation,
method and data, and from schema 0.2 on resources. Keys that it defines have its spelling, with spaces; ``outcome`` is an
extension. Users add research goal and actor themselves.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.environment import environment
from pyserini_reasonrank.ir.file_io import atomic
from pyserini_reasonrank.ir.masking import MASK, masked, masked_command, secret_name
from pyserini_reasonrank.ir.runs import Run, read_run
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import PrefixCache, Sampling, Status, Tally

if TYPE_CHECKING:
    from pyserini_reasonrank.ir.rewrite_record import RewriteRecord

SCHEMA = "0.2"
FINGERPRINT = "settings sha256"
"""The key of the fingerprint of a run, below ``method``."""


WITHOUT_RELEVANT = "topics without relevant candidates"
"""The key of the qids for which a run has no documents because the judge found none relevant, below ``outcome``."""
EXCLUDED = "documents excluded"
"""The key of the number of documents that an exclusion list removed from the candidates, below ``outcome``."""
DROPPED = "candidates left out"
"""The key of the numbers of candidates by qid that a run lacks because they are not relevant, below ``outcome``."""
WITHOUT_CANDIDATES = "topics without candidates"
"""The key of the qids for which the first stage returned no documents, below ``outcome``."""

_OUTCOME: Mapping[str, type] = {
    WITHOUT_CANDIDATES: list, WITHOUT_RELEVANT: list, DROPPED: dict, "statuses of calls": dict, "warnings": list
}  # fmt: skip
"""The types of what is below ``outcome``."""


def sidecar(output: str | os.PathLike[str]) -> Path:
    """The metadata file of the run ``output``."""
    return Path(f"{os.fspath(output)}.ir-metadata.yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """One reranker of a run: its model, prompt, sampling, settings and counts."""

    model: Model
    prompt: str
    prompt_sha256: str
    sampling: Sampling
    settings: Mapping[str, Any] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def fields(self) -> dict[str, Any]:
        """Model, prompt, sampling and settings, as nested mappings."""
        return {
            "model": asdict(self.model),
            "prompt": {"name": self.prompt, "sha256": self.prompt_sha256},
            "sampling": asdict(self.sampling),
            "seed": self.sampling.seed,
            **self.settings,
        }

    def spent(self) -> dict[str, int]:
        """LLM calls, tokens and rankings; also the prompt tokens from a prefix cache, if the engine reports any."""
        cached = {"prefix cache hits": self.tally.cached_tokens} if self.tally.cached_tokens else {}
        return {
            "calls": self.tally.calls,
            "prompt tokens": self.tally.prompt_tokens,
            **cached,
            "output tokens": self.tally.output_tokens,
            "rankings": self.tally.rankings,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A finished run: its settings, counts, statuses and files.

    ``settings`` are the resolved settings of the whole run; ``parts`` are its rerankers by name ("" for a single one).
    ``candidates`` has the number of candidates by qid, in topics order. ``topics_file`` is the value of ``--topics``.
    ``collection`` are the other inputs: ``rerank topics``, ``excluded documents``, ``qids`` and ``shard``.
    ``fingerprint`` is a hash of the settings, by which a later command recognises the run. ``seconds`` has wall
    times by name, e.g. ``{"load": 20.0, "rerank": 88.3}``: the first includes the wait for the first candidates, and the
    load of a model whose first call came later. ``rewriting``: how the queries were rewritten for the search.
    ``threshold`` is the least score of the candidates that are kept; None if all are. ``dropped`` has the number of the
    others by qid, in topics order. ``excluded`` is the number of documents that an exclusion list removed from the
    candidates; None without a list. ``prefix_cache`` has the counters of servers whose answers do not report the tokens that
    came from their prefix cache.
    """

    tag: str
    command: Sequence[str]
    reranker: str
    settings: Mapping[str, Any]
    parts: Mapping[str, PartRecord]
    topics_file: str
    candidates: Mapping[str, int]
    first_run: Path
    output: Path
    journal: Path
    collection: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    rewriting: RewriteRecord | None = None
    threshold: float | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    excluded: int | None = None
    prefix_cache: PrefixCache | None = None

    @property
    def metadata(self) -> Path:
        """The sidecar file."""
        return sidecar(self.output)

    @property
    def topics(self) -> int:
        """Topics of the run."""
        return len(self.candidates)

    @property
    def answered(self) -> int:
        """Topics with candidates."""
        return self.topics - len(self.without_candidates)

    @property
    def without_candidates(self) -> list[str]:
        """The qids for which the first stage returned no documents."""
        return [qid for qid, count in self.candidates.items() if not count]

    @property
    def without_relevant(self) -> list[str]:
        """The qids that have candidates, of which none is kept."""
        return [qid for qid, count in self.dropped.items() if count == self.candidates[qid]]

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """The counts of each part."""
        return {name: part.tally for name, part in self.parts.items()}

    @property
    def tally(self) -> Tally:
        """The counts of all parts together."""
        return sum(self.tallies.values(), Tally())

    def fields(self) -> dict[str, Any]:
        """The record under the headings of ir_metadata, with the environment of this process."""
        return {
            "tag": self.tag,
            "platform": environment(),
            "implementation": {
                "executable": {"cmd": shlex.join(masked_command(self.command))},
                "source": {"lang": ["python"]},
            },
            "resources": {
                "runtime in seconds": {name: round(seconds, 3) for name, seconds in self.seconds.items()},
                "llm": self._spent(),
            },
            "method": {
                "automatic": True,
                **({FINGERPRINT: self.fingerprint} if self.fingerprint else {}),
                "score ties": "none: scores fall strictly",
                **({"query rewriting": self.rewriting.fields()} if self.rewriting else {}),
                "retrieval": [
                    {"name": "first stage", "run": str(self.first_run), "sha256": sha256(self.first_run)},
                    {
                        "name": self.reranker,
                        "method": "pyserini_reasonrank",
                        "reranks": "first stage",
                        **self.settings,
                        **self._parts_fields(),
                    },
                ],
            },
            "data": {"test collection": {"topics": self.topics_file, **self.collection}},
            "outcome": {
                "topics answered": f"{self.answered} of {self.topics}",
                WITHOUT_CANDIDATES: self.without_candidates,
                **({} if self.excluded is None else {EXCLUDED: self.excluded}),
                **self._verdict(),
                "statuses of calls": {status.value: self.tally.statuses.get(status, 0) for status in Status},
                "warnings": list(self.warnings),
            },
        }

    def _verdict(self) -> dict[str, Any]:
        if self.threshold is None:
            return {}
        return {WITHOUT_RELEVANT: self.without_relevant, DROPPED: self.dropped}

    def _parts_fields(self) -> dict[str, Any]:
        single = self.parts.get("")
        return single.fields() if single else {"parts": {name: part.fields() for name, part in self.parts.items()}}

    def _spent(self) -> dict[str, Any]:
        by_part = {name: part.spent() for name, part in self.parts.items()}
        names = ("calls", "prompt tokens", "prefix cache hits", "output tokens")
        reported = [name for name in names if any(name in spent for spent in by_part.values())]
        total = {name: sum(spent.get(name, 0) for spent in by_part.values()) for name in reported}
        parts = {} if "" in self.parts else {"by part": by_part}
        return {**total, **self._counters(), "calls answered from the journal": self.tally.from_journal, **parts}

    def _counters(self) -> dict[str, Any]:
        cache = self.prefix_cache
        if cache is None:
            return {}
        found = {"tokens looked up": cache.queries, "tokens found": cache.hits}
        return {"prefix cache of the servers": {**found, "source": "/metrics, which counts all clients"}}


def write_metadata(path: str | os.PathLike[str], fields: Mapping[str, Any]) -> None:
    """Write ``fields`` as ir_metadata YAML in one step, the schema version first; secrets are masked.

    Values may be mappings, sequences, enums and paths of any depth.
    """
    document = {"schema version": SCHEMA, **_plain(fields)}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=2**16)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as file:
        file.write(f"# ir_metadata.start\n{text}# ir_metadata.end\n".encode())


def topics_without_candidates(output: str | os.PathLike[str]) -> list[str]:
    """The qids that the metadata of a run lists as without candidates; empty if there is no metadata file.

    UsageError as for ``read_metadata``.
    """
    return [str(qid) for qid in nested(read_metadata(output), "outcome", WITHOUT_CANDIDATES) or ()]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run lacks because the judge found it not relevant: the qids that have no documents, and numbers by qid."""

    without_relevant: Sequence[str] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)


NO_VERDICT = Verdict()


def recorded_verdict(output: str | os.PathLike[str]) -> Verdict:
    """The verdict in the metadata of a run; ``NO_VERDICT`` without metadata, and for a run that keeps all candidates.

    UsageError as for ``read_metadata``, and for counts that are not numbers.
    """
    outcome = nested(read_metadata(output), "outcome") or {}
    if WITHOUT_RELEVANT not in outcome and DROPPED not in outcome:
        return NO_VERDICT
    empty, dropped = outcome.get(WITHOUT_RELEVANT, []), outcome.get(DROPPED, {})
    try:
        return Verdict([str(qid) for qid in empty], {str(qid): int(count) for qid, count in dropped.items()})
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{sidecar(output)}: {DROPPED} has a value that is not a number; repair the file") from None


def nothing_kept(run: str | os.PathLike[str], verdict: Verdict) -> bool:
    """Whether the file ``run`` has no line because the judge found nothing relevant for any topic."""
    path = Path(run)
    return bool(verdict.without_relevant) and path.is_file() and not path.stat().st_size


def read_finished_run(run: str | os.PathLike[str], *, keep_first: bool = False) -> Run:
    """Read a run as ``read_run`` does; a run of which nothing is kept, by its metadata, has no queries.

    UsageError as for ``read_run`` and ``read_metadata``.
    """
    return {} if nothing_kept(run, recorded_verdict(run)) else read_run(run, keep_first=keep_first)


def read_metadata(output: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The metadata of a run; None if there is no metadata file.

    UsageError if it is not a YAML mapping, or if ``outcome`` or what is below it has another type than this package writes.
    """
    path = sidecar(output)
    if not path.exists():
        return None
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} can't be read as metadata: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is not the metadata of a run (a YAML mapping)")
    _check_type(path, found, "outcome", dict)
    for name, kind in _OUTCOME.items():
        _check_type(path, found.get("outcome", {}), name, kind)
    return found


def _check_type(path: Path, fields: Mapping[str, Any], name: str, kind: type) -> None:
    if name in fields and not isinstance(fields[name], kind):
        raise UsageError(f"{path}: {name} is not a {'list' if kind is list else 'mapping'}; repair the file")


def recorded_fingerprint(output: str | os.PathLike[str]) -> str | None:
    """The fingerprint that the metadata of a run record; None without metadata or fingerprint. UsageError as above."""
    found = nested(read_metadata(output), "method", FINGERPRINT)
    return found if isinstance(found, str) else None


def recorded_command(metadata: Mapping[str, Any] | None) -> list[str]:
    """The words of the command that made a run; [] if it is not recorded."""
    found = nested(metadata, "implementation", "executable", "cmd")
    try:
        return shlex.split(found) if isinstance(found, str) else []
    except ValueError:
        return []


def nested(metadata: Any, *steps: str | int) -> Any:
    """The value in ``metadata`` below ``steps``, keys of mappings and places in lists; None if there is none."""
    found = metadata
    for step in steps:
        if isinstance(step, int):
            found = found[step] if isinstance(found, list) and step < len(found) else None
        else:
            found = found.get(step) if isinstance(found, Mapping) else None
    return found


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any, name: str = "") -> Any:
    """``value`` in types that YAML represents, with secrets masked."""
    if value is not None and value != "" and secret_name(name) and not isinstance(value, Mapping | bool | int | float):
        return MASK
    match value:
        case Enum():
            return _plain(value.value)
        case str():
            return masked(value)
        case Path():
            return masked(str(value))
        case Mapping():
            return {str(_plain(key)): _plain(item, str(key)) for key, item in value.items()}
        case Sequence() | set() | frozenset():
            return [_plain(item) for item in value]
    return value
