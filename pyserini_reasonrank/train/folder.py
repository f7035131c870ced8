"""The folder of a training run: its settings, whether it is finished, and the checkpoint to resume from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic

RECORD = "training.json"
BASE = "base"
"""Subfolder with the base weights of the adapter, if they exist nowhere else because an adapter was merged into them."""

SPREAD = ("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation")
"""Keys of ``args`` that spread a batch over passes and processes: a run can be resumed with others if the batch is the same."""

LIBRARIES = ("pyserini-reasonrank", "trl", "transformers", "peft", "accelerate", "datasets", "torch")


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of a run of ``step`` with ``settings`` (plain JSON values)."""

    path: Path
    step: str
    settings: Mapping[str, Any]

    @property
    def best(self) -> Path:
        """The subfolder of the model with the best measure on the development topics."""
        return self.path / "best"

    def begin(self) -> bool:
        """Whether the run is still to be done; False if it is finished. Writes nothing.

        The settings may spread the same batch over another number of processes. UsageError if the folder has a run with
        other settings or inputs, or files that are not a training run.
        """
        found = read_record(self.path)
        if found is None:
            if self.path.exists() and any(not file.name.startswith(BASE) for file in self.path.iterdir()):
                raise UsageError(
                    f"{self.path} is not empty and is not the folder of a training run: name another --output"
                )
            return True
        finished = bool(found.get("finished"))
        old, new = found["settings"], self.settings
        if not finished:
            self._check_batches(found)
            old, new = _without_spread(old), _without_spread(new)
        if changed := _first_difference(old, new):
            raise UsageError(
                f"{self.path} holds a run with a different {changed}: name another --output, or remove that folder"
            )
        if other := [path for path, digest in found.get("inputs", {}).items() if self._inputs.get(path) != digest]:
            raise UsageError(
                f"{self.path} holds a run with earlier contents of {other[0]}: name another --output, or remove that folder"
            )
        return not finished

    def _check_batches(self, found: Mapping[str, Any]) -> None:
        """UsageError if an update or a generation would have another number of rows than in the run ``found``."""
        old, new = _batches(found["settings"], found.get("processes", 1)), _batches(self.settings, _processes())
        if old != new:
            raise UsageError(
                f"{self.path} holds a run with {old[0]} rows in an update and {old[1]} in a generation, now {new[0]} and "
                f"{new[1]} (number of processes: {_processes()}): change {' or '.join(f'args.{key}' for key in SPREAD)}"
            )

    def open(self) -> None:
        """Record the settings. Call this after all checks that need no training."""
        if read_record(self.path) is None:
            self._write({})

    def checkpoint(self) -> str | None:
        """The last complete checkpoint, or None."""
        whole = [p.parent for p in self.path.glob("checkpoint-*/trainer_state.json")]  # written last
        return str(max(whole, key=lambda p: int(p.name.removeprefix("checkpoint-")))) if whole else None

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Record that the run is finished, with ``facts`` about it."""
        self._write({"finished": True, **facts})

    @property
    def _inputs(self) -> dict[str, str]:
        """The SHA-256 of each input file."""
        found = {}
        for path in self.settings.get("data", ()):
            if Path(path).is_file():
                with Path(path).open("rb") as file:
                    found[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
        return found

    def _write(self, facts: Mapping[str, Any]) -> None:
        if not main_process():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        record = {
            "step": self.step,
            "settings": self.settings,
            "inputs": self._inputs,
            "processes": _processes(),
            "versions": _versions(),
            **facts,
        }
        with atomic(self.path / RECORD) as file:
            file.write(json.dumps(record, indent=2, ensure_ascii=False).encode())


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a training run in its folder; None if there is no run."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def main_process() -> bool:
    """Whether this is the first process, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _processes() -> int:
    """The number of processes of this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _batches(settings: Mapping[str, Any], processes: int) -> tuple[int, int]:
    """The rows of an update and of a generation, over all processes."""
    args = settings.get("args") or {}
    here, passes = args.get(SPREAD[0]) or 8, args.get(SPREAD[1]) or 1
    return here * passes * processes, here * (args.get(SPREAD[2]) or passes) * processes


def _without_spread(settings: Mapping[str, Any]) -> dict[str, Any]:
    args = {key: value for key, value in (settings.get("args") or {}).items() if key not in SPREAD}
    return {**settings, "args": args}


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str | None:
    for key in (*new, *(key for key in old if key not in new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            if found := _first_difference(a, b, f"{path}{key}."):
                return found
        elif a != b:
            return f"{path}{key} ({a!r}, now {b!r})"
    return None


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
