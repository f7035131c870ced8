"""The fingerprint of a run: a hash of the settings that decide it, by which a later command recognises it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.settings.rewriters import RewriteSettings
from pyserini_reasonrank.settings.schema import local_engine

Inputs = Sequence[tuple[str, str]]
"""The inputs of a command: flags with their values. A value that is not a path is allowed."""

OF_THE_SPEED = {"concurrency", "max_retries", "timeout", "base_url", "batching"}
"""The settings of an engine that change no answer."""
_OF_THE_FINISH = {"overwrite", "strict", "journal", "max_bad", "on_error", "about"}
_OF_THE_PART = {"--qids", "--shard"}


def fingerprint_of(
    plan: Plan | None, inputs: Inputs, output_format: RunFormat, rewriting: RewriteSettings | None = None
) -> str:
    """A hash of the settings that decide a run, and of the part of its topics.

    Concurrency and other settings of speed are left out, and so are the input files, whose content may change between two
    commands. ``plan`` is None for a run that is not reranked.
    """
    part = [[flag, value] for flag, value in inputs if flag in _OF_THE_PART]
    deciding: list[Any] = [plan and _deciding(plan.settings.model_dump(mode="json")), part, output_format.value]
    if rewriting is not None:
        deciding.append(_deciding(rewriting.model_dump(mode="json")))
    described = json.dumps(deciding, sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in settings.items() if key not in _OF_THE_FINISH}
    kept["engine"] = {
        key: value for key, value in local_engine(settings.get("engine", {})).items() if key not in OF_THE_SPEED
    }
    kept["arms"] = {name: _deciding(arm) for name, arm in settings.get("arms", {}).items()}
    return kept
