"""A teacher selects passages from a list: the relevant ones and, separately, the hard negatives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import batched

import yaml

from pyserini_reasonrank.judges.written import Written, identifier
from pyserini_reasonrank.parsing import unanswered
from pyserini_reasonrank.parsing.identifiers import identifiers
from pyserini_reasonrank.parsing.parts import parts_of
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.records import Completion, Judgement, Request, Status, Tally
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.rerankers.judging import LLMJudge, QueryJudge
from pyserini_reasonrank.resources import conf
from pyserini_reasonrank.run.parts import SinglePlan

NONE = "None"


class RelevanceSelection(Written):
    """A judge that selects the passages on which the answer depends, possibly none."""

    kind = "select"

    def read(self, completion: Completion, n: int) -> Judgement:
        """A judgement whose order starts with the ``chosen`` passages."""
        kept = tuple(range(n))
        if bad := unanswered(completion):
            return Judgement(kept, bad, filled=n, detail=completion.error or "")
        parts = parts_of(completion, tags=self.options.tags)
        if parts.answer is None:
            return Judgement(kept, Status.TRUNCATED, parts.reasoning, n, detail="the reasoning was cut")
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
        """The selected indices; None if the answer can't be read."""
        return None if judgement.status.bad else [indices[i] for i in judgement.order[: judgement.chosen]]

    @staticmethod
    def agreed(outcomes: Sequence[Sequence[int] | None], indices: Sequence[int]) -> list[int]:
        """The indices that more than half of the readable votes select."""
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


class HardNegativeSelection(RelevanceSelection):
    """A judge that selects the passages that look relevant and are not."""

    def ideal(self, gains: Sequence[float]) -> str:
        return self._ideal([i for i, gain in enumerate(gains) if gain <= 0])


class Selector:
    """Has a teacher select from windows of ``window`` passages. ``purpose`` names the judge and its prompt."""

    PURPOSES: dict[str, type[RelevanceSelection]] = {
        "useful": RelevanceSelection,
        "misleading": HardNegativeSelection,
    }

    def __init__(self, purpose: str, teacher: SinglePlan, endpoint: Endpoint, window: int) -> None:
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
            form=settings.passage,
        )
        self.purpose, self.window, self.tally, self._fitter = purpose, window, Tally(), fitter
        self._llm = LLMJudge(judge, fitter, endpoint, self.tally, settings.on_error)

    async def select(self, request: Request) -> list[int] | None:
        """The indices of the selected candidates; None if an answer can't be read."""
        judge = QueryJudge(self._llm, request, self.purpose)
        selected: list[int] = []
        for window in batched(range(len(request.candidates)), self.window):
            found: list[int] | None = await judge.ask(window)
            if found is None:
                return None
            selected += found
        return selected


def template_of(purpose: str) -> Template:
    """The shipped prompt of a purpose (conf/train/prompts)."""
    text = conf("train", "prompts", f"{purpose}.yaml").read_text(encoding="utf-8")
    return Template.parse(purpose, yaml.safe_load(text))
