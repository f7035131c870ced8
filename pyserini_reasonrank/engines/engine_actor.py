"""An engine in the process of an actor, on any machine of a cluster. It knows no cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyserini_reasonrank.engines import build_engine
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling


@dataclass(frozen=True, slots=True)
class Started:
    """An engine that has started: the identity of its weights, its context in tokens, its machine and its warnings."""

    weights: str | None
    context: int | None
    machine: str
    notices: tuple[str, ...]


class EngineActor:
    """The engine ``name`` with ``settings``. It returns UsageError and Failure, since Ray changes the class of raised errors."""

    def __init__(self, name: str, settings: Mapping[str, Any], model: Model) -> None:
        self._engine = build_engine(name, settings, model)

    async def start(self) -> Started | UsageError | Failure:
        """Load the model."""
        engine = self._engine
        try:
            await engine.start()
        except (UsageError, Failure) as error:
            return _plain(error)
        return Started(engine.weights_identity(), engine.max_model_len, os.uname().nodename, tuple(engine.notices))

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion | UsageError | Failure:
        """Answer a call."""
        try:
            return await self._engine.generate(prompt, sampling, call)
        except (UsageError, Failure) as error:
            return _plain(error)

    async def live(self) -> None:
        """Never return: the caller learns at once that this process has ended."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Free the model."""
        await self._engine.close()


def without_answers(call: Call) -> Call:
    """``call`` without the functions that write ideal answers, for engines with a model, which never call them."""
    return replace(call, ideal=_no_ideal, ideal_choices=_no_ideal_choices)


def _no_ideal(gains: Sequence[float]) -> str:
    raise NotImplementedError("an engine with a model writes its own answers")


def _no_ideal_choices(gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
    raise NotImplementedError("an engine with a model writes its own answers")


def _plain(error: UsageError | Failure) -> UsageError | Failure:
    """An error without the fields of its class, which would not survive the way to another process."""
    return UsageError(str(error)) if isinstance(error, UsageError) else Failure(str(error))
