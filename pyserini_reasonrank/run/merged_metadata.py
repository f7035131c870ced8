"""The metadata of a run that is merged from parts: the settings that the parts share, and the sums of what they counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pyserini_reasonrank.ir.masking import masked_command
from pyserini_reasonrank.ir.metadata import (
    DROPPED,
    EXCLUDED,
    FINGERPRINT,
    WITHOUT_CANDIDATES,
    WITHOUT_RELEVANT,
    sha256,
)
from pyserini_reasonrank.run.fingerprint import OF_THE_SPEED

_MAY_DIFFER = OF_THE_SPEED | {"max_bad", "on_error"}
"""Settings that do not decide the order of documents."""

_OF_A_PART = {"topics", "qids", "shard"}


def described(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What the parts of a run must share: the tag, the settings of the reranker, and the inputs except topics and texts."""
    retrieval = metadata.get("method", {}).get("retrieval") or [{}]
    collection = metadata.get("data", {}).get("test collection", {})
    inputs = {key: value for key, value in collection.items() if key not in _OF_A_PART}
    return {"tag": metadata.get("tag"), "reranker": _deciding(retrieval[-1]), "data": inputs}


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first setting in which two runs differ, with its values; None if they agree."""
    ours, theirs = (dict(_leaves(described(metadata))) for metadata in (one, other))
    for key in {**ours, **theirs}:
        if ours.get(key) != theirs.get(key):
            return f"{key} is {ours.get(key)} and {theirs.get(key)}"
    return None


def fingerprint(metadata: Mapping[str, Any]) -> str:
    """A hash of what the parts of a run share."""
    return hashlib.sha256(json.dumps(["merged", described(metadata)], sort_keys=True, default=str).encode()).hexdigest()


def merged_fields(
    parts: Sequence[tuple[Path, Mapping[str, Any]]],
    qids: Sequence[str],
    settings: str,
    command: Sequence[str],
    first_run: Path | None,
) -> dict[str, Any]:
    """The fields of a merged run. ``parts`` are paths and metadata, ``qids`` all topics in order, ``settings`` the hash.

    Counts and seconds are sums. ``first_run`` is the merged first-stage run; without one, those of the parts are listed.
    """
    every = [metadata for _, metadata in parts]
    fields: dict[str, Any] = {key: deepcopy(value) for key, value in every[0].items() if key != "schema version"}
    method = fields.setdefault("method", {})
    method[FINGERPRINT] = settings
    method["retrieval"] = [*_first_stages(every, first_run), *(method.get("retrieval") or [])[1:]]
    fields["implementation"] = {
        **fields.get("implementation", {}),
        "executable": {"cmd": " ".join(masked_command(command))},
    }
    fields["resources"] = _sum([metadata.get("resources", {}) for metadata in every])
    collection = fields.setdefault("data", {}).setdefault("test collection", {})
    names = list(dict.fromkeys(str(each["data"]["test collection"].get("topics")) for each in every))
    collection["topics"] = names[0] if len(names) == 1 else names
    for key in ("qids", "shard"):
        collection.pop(key, None)
    fields["outcome"] = _outcome([metadata.get("outcome", {}) for metadata in every], qids)
    fields["parts"] = [_part(path, metadata) for path, metadata in parts]
    return fields


def _outcome(outcomes: Sequence[Mapping[str, Any]], qids: Sequence[str]) -> dict[str, Any]:
    empty = {str(qid) for outcome in outcomes for qid in outcome.get(WITHOUT_CANDIDATES, [])}
    verdict: dict[str, Any] = {}
    if any(DROPPED in outcome for outcome in outcomes):
        none = {str(qid) for outcome in outcomes for qid in outcome.get(WITHOUT_RELEVANT, [])}
        dropped = {str(qid): n for outcome in outcomes for qid, n in outcome.get(DROPPED, {}).items()}
        verdict = {
            WITHOUT_RELEVANT: [qid for qid in qids if qid in none],
            DROPPED: {qid: dropped[qid] for qid in qids if qid in dropped},
        }
    excluded = [outcome[EXCLUDED] for outcome in outcomes if EXCLUDED in outcome]
    warnings = [warning for outcome in outcomes for warning in outcome.get("warnings", [])]
    return {
        "topics answered": f"{len(qids) - len(empty)} of {len(qids)}",
        WITHOUT_CANDIDATES: [qid for qid in qids if qid in empty],
        **({EXCLUDED: _sum(excluded)} if excluded else {}),
        **verdict,
        "statuses of calls": _sum([outcome.get("statuses of calls", {}) for outcome in outcomes]),
        "warnings": list(dict.fromkeys(warnings)),
    }


def _part(path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    collection = metadata.get("data", {}).get("test collection", {})
    executable = metadata.get("implementation", {}).get("executable", {})
    selected = {key: value for key, value in collection.items() if key in ("qids", "shard")}
    return {"run": str(path), "sha256": sha256(path), **selected, "cmd": executable.get("cmd")}


def _first_stages(every: Sequence[Mapping[str, Any]], first_run: Path | None) -> list[Any]:
    if first_run is not None:
        return [{"name": "first stage", "run": str(first_run), "sha256": sha256(first_run)}]
    found = [(metadata.get("method", {}).get("retrieval") or [{}])[0] for metadata in every]
    return list({each.get("sha256"): each for each in found}.values())


def _sum(values: Sequence[Any]) -> Any:
    """The sum of numbers; of mappings, by key; of anything else the first."""
    if all(isinstance(value, Mapping) for value in values):
        keys = list(dict.fromkeys(key for value in values for key in value))
        return {key: _sum([value[key] for value in values if key in value]) for key in keys}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        total = sum(values)
        return round(total, 3) if isinstance(total, float) else total
    return values[0]


def _deciding(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _deciding(item) for key, item in value.items() if key not in _MAY_DIFFER}
    return [_deciding(item) for item in value] if isinstance(value, list) else value


def _leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{name}.{key}" if name else str(key))]
    return [(name, value)]
