"""The prompts of a query, written again: the journal stores their hashes, not their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.journal_reader import RecordedCall
from pyserini_reasonrank.records import Call, Completion, Prompt, Request, Sampling
from pyserini_reasonrank.rerankers.call_store import MemoryStore
from pyserini_reasonrank.run.parts import CombinedPlan, Plan
from pyserini_reasonrank.run.session import Session

Place = tuple[str, int, int]
"""A call of a query: part, number of the question, turn."""


class Replay(Engine[EngineOptions]):
    """Answers with the recorded calls of a query in place of ``engine``, and keeps the prompts."""

    name = "replay"

    def __init__(self, engine: Engine[Any], context: int | None, answers: Mapping[Place, Completion]) -> None:
        super().__init__(engine.model, EngineOptions())
        self.capabilities = engine.capabilities
        self.prompts: dict[Place, Prompt] = {}
        self._answers, self._context_then = answers, context or engine.max_model_len

    @property
    def max_model_len(self) -> int | None:
        return self._context_then

    def identity(self, call: Call) -> str:
        return f"{call.part}\n{call.number}\n{call.turn}"

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        place = (call.part, call.number, call.turn)
        self.prompts[place] = prompt
        return self._answers.get(place, Completion(finish_reason="error", error="this call is not in the journal"))


def answers_by_place(calls: Sequence[RecordedCall]) -> dict[Place, Completion]:
    """The recorded answers by place."""
    return {(call.part, call.number, call.turn): call.completion for call in calls}


async def prompts_of(
    plan: Plan, request: Request, calls: Sequence[RecordedCall], contexts: Mapping[str, int]
) -> dict[Place, Prompt]:
    """The prompts of ``calls``, all those of a query, by place. No model is loaded.

    The query is reranked again with the recorded answers. ``contexts`` are those of the models in the journal. A prompt is the
    one that was sent if it has the recorded hash. UsageError if a prompt does not fit.
    """
    answers = answers_by_place(calls)
    engines: dict[int, Replay] = {}
    session = Session(_with_engines(plan, engines, answers, contexts), MemoryStore())
    with suppress(Failure):  # a call that failed: the prompts before it are known
        await session.rerank(request)
    return {place: prompt for engine in engines.values() for place, prompt in engine.prompts.items()}


def _with_engines(
    plan: Plan, engines: dict[int, Replay], answers: Mapping[Place, Completion], contexts: Mapping[str, int]
) -> Plan:
    """``plan`` with its engines replaced."""
    if isinstance(plan, CombinedPlan):
        arms = {name: _with_engines(arm, engines, answers, contexts) for name, arm in plan.arms.items()}
        return replace(plan, arms=arms)
    if id(plan.engine) not in engines:
        identity = plan.engine.weights_identity() if contexts else None
        engines[id(plan.engine)] = Replay(plan.engine, contexts.get(identity or ""), answers)
    return replace(plan, engine=engines[id(plan.engine)])
