"""A training run's folder: what was asked, whether it is done, and the checkpoint to go on from."""

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
from pyserini_reasonrank.ir.files import atomic

RECORD = "training.json"
BASE = "base"
"""Where a run keeps the weights its adapter sits on, if they are no one else's: those of an adapter merged before."""

LIBRARIES = ("pyserini-reasonrank", "trl", "transformers", "peft", "accelerate", "datasets", "torch")


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one run of ``step`` with ``settings`` (plain values, as JSON has them)."""

    path: Path
    step: str
    settings: Mapping[str, Any]

    @property
    def best(self) -> Path:
        """The model that did best on the development topics."""
        return self.path / "best"

    def begin(self) -> bool:
        """Whether there is something to do: False if the run in the folder is finished. Writes nothing.

        UsageError if it holds a run of other settings, or files of another kind.
        """
        found = read_record(self.path)
        if found is None:
            if self.path.exists() and any(not file.name.startswith(BASE) for file in self.path.iterdir()):
                raise UsageError(f"{self.path} is not empty and holds no training run: name another --output")
            return True
        if changed := _first_difference(found["settings"], self.settings):
            raise UsageError(
                f"{self.path} holds a run with another {changed}: name another --output, or remove that folder to begin anew"
            )
        if other := [path for path, digest in found.get("inputs", {}).items() if self._inputs.get(path) != digest]:
            raise UsageError(
                f"{self.path} holds a run of what {other[0]} was before: name another --output, or remove that folder to begin anew"
            )
        return not found.get("finished")

    def open(self) -> None:
        """Record the settings, once all that can be checked beforehand is."""
        if read_record(self.path) is None:
            self._write({})

    def checkpoint(self) -> str | None:
        """The last whole checkpoint."""
        whole = [p.parent for p in self.path.glob("checkpoint-*/trainer_state.json")]  # written last
        return str(max(whole, key=lambda p: int(p.name.removeprefix("checkpoint-")))) if whole else None

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Record that the run is finished, and its facts."""
        self._write({"finished": True, **facts})

    @property
    def _inputs(self) -> dict[str, str]:
        """The digest of each file of rows."""
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
            "versions": _versions(),
            **facts,
        }
        with atomic(self.path / RECORD) as file:
            file.write(json.dumps(record, indent=2, ensure_ascii=False).encode())


def read_record(folder: Path) -> dict[str, Any] | None:
    """What a training run has recorded in its folder; None where there is no run."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def main_process() -> bool:
    """Whether this is the first process of all, or the only one."""
    return os.environ.get("RANK", "0") == "0"


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
