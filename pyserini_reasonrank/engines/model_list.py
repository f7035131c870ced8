"""What a server's model list, the answer to ``GET /v1/models``, says about the model that it serves."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]


def read_models(answer: bytes) -> list[Entry]:
    """The entries of a model list; [] if the answer is not one."""
    try:
        return [m for m in json.loads(answer)["data"] if isinstance(m["id"], str)]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []


def of_model(entries: Sequence[Entry], name: str) -> list[Entry]:
    """The entries of the model ``name``."""
    return [entry for entry in entries if entry["id"] == name]


def server_type(entries: Sequence[Entry], name: str, known: Collection[str]) -> str:
    """The server's type: the owner of the model, or of all models if it is not listed; "other" if it is not ``known``."""
    owners = {str(entry.get("owned_by")) for entry in of_model(entries, name) or entries}
    return owners.pop() if len(owners) == 1 and owners <= set(known) else "other"


def contexts(entries: Sequence[Entry], name: str) -> list[int]:
    """The context of the model in tokens, if the server reports one."""
    return [n for entry in of_model(entries, name) if isinstance(n := entry.get("max_model_len"), int)]


def checkpoints(entries: Sequence[Entry], name: str) -> set[str]:
    """The last part of the checkpoint's name, which vLLM and SGLang report: its folder may differ between machines."""
    roots = (entry.get("root") for entry in of_model(entries, name))
    return {root.rstrip("/").rpartition("/")[2] for root in roots if isinstance(root, str)}


@dataclass(frozen=True, slots=True)
class Expected:
    """The model that the servers of a run serve, with the model lists of those that were reached.

    ``context`` is the least of their contexts. ``kind`` is their type, if requests are written for what they report.
    """

    name: str
    context: int | None
    kind: str | None
    lists: Sequence[Entry]

    @property
    def checkpoints(self) -> set[str]:
        """The checkpoints that are served under the name: several if the servers differ."""
        return checkpoints(self.lists, self.name)

    def difference(self, entries: Sequence[Entry], known: Collection[str]) -> str:
        """How a server with this model list differs, to follow its name; "" if it serves the same model, or has no list."""
        name, found = self.name, checkpoints(entries, self.name)
        if not entries:
            return ""
        if of_model(self.lists, name) and not of_model(entries, name):
            return f"serves {', '.join(entry['id'] for entry in entries)} instead of {name}"
        if found and self.checkpoints and not found <= self.checkpoints:
            return f"serves {', '.join(found)} as {name}, and the other servers {', '.join(sorted(self.checkpoints))}"
        if self.kind not in (None, kind := server_type(entries, name, known)):
            return f"is of type {kind}, and the other servers are of type {self.kind}"
        for length in contexts(entries, name):
            if self.context is not None and length < self.context:
                return f"has a context of {length} tokens, and prompts with their answers may have {self.context}"
        return ""
