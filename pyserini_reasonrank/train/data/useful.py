"""Which passages a teacher picks out of a list when it may know the answer: positives, and hard negatives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import batched

import yaml

from pyserini_reasonrank.judges.written import Written, identifier
from pyserini_reasonrank.parsing import identifiers, parts_of, unanswered
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.records import Completion, Judgement, Request, Status, Tally
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.rerankers.judging import LLMJudge, QueryJudge
from pyserini_reasonrank.resources import conf
from pyserini_reasonrank.run.parts import SinglePlan

NONE = "None"


class Useful(Written):
    """Shows passages, reads which of them the answer rests on; the prompt allows for none."""

    kind = "select"

    def read(self, completion: Completion, n: int) -> Judgement:
        """A judgement whose order begins with the ``chosen`` passages."""
        kept = tuple(range(n))
        if bad := unanswered(completion):
            return Judgement(kept, bad, filled=n, detail=completion.error or "")
        parts = parts_of(completion, tags=self.options.tags)
        if parts.answer is None:
            return Judgement(kept, Status.TRUNCATED, parts.reasoning, n, detail="the thought was cut")
        ids = identifiers(parts.answer)
        named = list(dict.fromkeys(i - 1 for i in ids if 1 <= i <= n))
        if not named and NONE.lower() not in parts.answer.lower():
            return Judgement(kept, Status.EMPTY, parts.reasoning, n, detail="neither identifiers nor None")
        status = Status.OK if len(named) == len(ids) and parts.tagged >= self.options.tags else Status.REPAIRED
        order = (*named, *(i for i in kept if i not in named))
        return Judgement(order, status, parts.reasoning, chosen=len(named))

    def pattern(self, n: int) -> str:
        return rf"({NONE}|{identifier(n)}( {identifier(n)}){{0,{n - 1}}})"

    @property
    def begins(self) -> str:
        return ""

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> list[int] | None:
        """The indices picked; None where the answer could not be read."""
        return None if judgement.status.bad else [indices[i] for i in judgement.order[: judgement.chosen]]

    @staticmethod
    def agreed(outcomes: Sequence[Sequence[int] | None], indices: Sequence[int]) -> list[int]:
        """Those that more than half of the readable votes pick."""
        votes = [outcome for outcome in outcomes if outcome is not None]
        return [index for index in indices if 2 * sum(index in vote for vote in votes) > len(votes)]

    def unmoved(self, indices: Sequence[int]) -> list[int]:
        return []

    def ideal(self, gains: Sequence[float]) -> str:
        return self._ideal([i for i, gain in enumerate(gains) if gain > 0])

    def _ideal(self, positions: Sequence[int]) -> str:
        picked = " ".join(f"[{i + 1}]" for i in positions) or NONE
        return self.written(f"It is {picked}.", picked)

    def answer_tokens(self, n: int) -> int:
        return 6 * n + 16


class Misleading(Useful):
    """Shows passages, reads which of them look right and are not."""

    def ideal(self, gains: Sequence[float]) -> str:
        return self._ideal([i for i, gain in enumerate(gains) if gain <= 0])


class Selector:
    """Asks a teacher's engine to select, ``window`` passages at a time. ``purpose`` names judge and prompt."""

    PURPOSES: dict[str, type[Useful]] = {"useful": Useful, "misleading": Misleading}

    def __init__(
        self, purpose: str, teacher: SinglePlan, endpoint: Endpoint, window: int, watch: Callable[[], None]
    ) -> None:
        settings, engine, judge_class = teacher.settings, teacher.engine, self.PURPOSES[purpose]
        template = template_of(purpose)
        judge = judge_class(judge_class.Options(), settings.sampling.sampling(), engine.capabilities, template.reminder)
        fitter = Fitter(
            template,
            teacher.tokens,
            context=teacher.context,
            output_tokens=settings.sampling.max_tokens + judge.answer_tokens(window),
            passage_tokens=settings.passage_tokens,
            query_tokens=None,
            mend=settings.mend,
        )
        self.purpose, self.window, self.tally, self._fitter = purpose, window, Tally(), fitter
        self._llm = LLMJudge(judge, fitter, endpoint, self.tally, settings.on_error, watch)

    async def select(self, request: Request) -> list[int] | None:
        """The candidates picked, by index; None where an answer could not be read."""
        prepared = await asyncio.to_thread(self._fitter.prepare, request)
        judge = QueryJudge(self._llm, request, prepared, self.purpose)
        picked: list[int] = []
        for window in batched(range(len(request.candidates)), self.window):
            found: list[int] | None = await judge.ask(window)
            if found is None:
                return None
            picked += found
        return picked


def template_of(purpose: str) -> Template:
    """The prompt that ships for selecting."""
    text = conf("train", "prompts", f"{purpose}.yaml").read_text(encoding="utf-8")
    return Template.parse(purpose, yaml.safe_load(text))
