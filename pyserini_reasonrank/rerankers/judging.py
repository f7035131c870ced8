"""A judge that asks an LLM: questions of one query are numbered, shown in a seeded order, voted on and counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from statistics import fmean
from typing import Any, Literal
from weakref import WeakValueDictionary

from pyserini_reasonrank.errors import CallFailed
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.registry import judgement_of
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.records import Call, Completion, Judgement, Prompt, Repeat, Request, Sampling, Status, Tally
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.rerankers.preparation import Preparation
from pyserini_reasonrank.rerankers.scheduling import together


@dataclass(frozen=True, slots=True)
class LLMJudge:
    """A judge with the engine that answers it, for all queries of a run.

    ``on_error`` "fail" raises CallFailed for a call that fails; "keep" ends it in the status error.
    """

    judge: Judge
    fitter: Fitter
    endpoint: Endpoint
    tally: Tally
    on_error: Literal["fail", "keep"] = "fail"
    _preparations: WeakValueDictionary[int, Preparation] = field(default_factory=WeakValueDictionary, init=False)

    def preparation(self, request: Request) -> Preparation:
        """The preparation of ``request``, which several rankings of it share."""
        found = self._preparations.get(id(request))
        if found is None:
            found = self._preparations[id(request)] = Preparation(self.fitter, request)
        return found

    async def judgement(self, preparation: Preparation, shown: Sequence[int], call: Call) -> Judgement:
        """Show the candidates ``shown``, in this order, and read the answer. ``call`` describes the first LLM call.

        The prompt is written only once the endpoint has a free slot, since prompts are long. CallFailed as above.
        """
        request, prepared = preparation.request, await preparation.showing(shown)
        async with self.endpoint.question_slot(request.number, call.number):
            texts = [prepared.passages[i].text for i in shown]
            prompt = self.fitter.render(prepared, shown, call.keep)
            judgement = await judgement_of(self.judge, partial(self._complete, request, call, count()), prompt, texts)
        self.endpoint.journal.judged(call, judgement)
        self.tally.statuses[judgement.status] += 1
        return judgement

    async def _complete(
        self,
        request: Request,
        call: Call,
        turns: Iterator[int],
        prompt: Prompt,
        sampling: Sampling,
        *,
        attempt: int = 0,
    ) -> Completion:
        asked, turn = call, next(turns)
        if attempt or turn:
            asked = replace(call, repeat=replace(call.repeat, attempt=attempt), turn=turn)
        if prompt.prefill:  # it can contain the model's thought
            prompt = prompt.begun(self.fitter.defuser.thought(prompt.prefill))
        completion, from_journal = await self.endpoint.complete(prompt, sampling, asked, request.number)
        self.tally.add(completion, from_journal=from_journal)
        if completion.error is not None and self.on_error == "fail":
            raise CallFailed(call.qid, f"query {call.qid}, call {call.number}: {completion.error}")
        return completion


class QueryJudge:
    """An LLM judge bound to one query: what a strategy calls.

    ``part`` and ``samples`` distinguish several rankings of one query (see ``records.Call`` and ``Repeat``). ``scores``
    collects the scores of candidates that were judged alone, by position; ``statuses`` counts the judgements.
    """

    def __init__(self, llm: LLMJudge, request: Request, part: str = "", samples: tuple[int, ...] = ()) -> None:
        self._llm, self._request, self._preparation = llm, request, llm.preparation(request)
        self._part, self._samples = part, samples
        self._numbers = count()
        self.scores: dict[int, float] = {}
        self.statuses: Counter[Status] = Counter()
        self._reasonings: dict[int, str] = {}
        self._grades: dict[int, list[float]] = {}
        self._asked: dict[tuple[int, ...], int] = {}

    @property
    def grades(self) -> dict[int, float]:
        """The mean grade of each candidate that was graded beside others, by position."""
        return {i: fmean(found) for i, found in self._grades.items()}

    @property
    def reasoning(self) -> str:
        """The reasoning of all answers, in the order of the questions."""
        return "\n\n".join(text for _, text in sorted(self._reasonings.items()) if text)

    async def ask(
        self, indices: Sequence[int], label: str = "", keep: int | None = None, *, samples: int = 0, again: int = 0
    ) -> Any:
        """What the judge decides about the candidates ``indices``: an order, a score or a choice; ``keep``: how many to select.

        ``samples`` is how many answers are aggregated; 0: as many as the judge's votes. ``again`` is how often the strategy
        has asked this question before: the answers are new ones. If a vote fails, the other votes are cancelled. A vote
        without a readable answer holds only the order shown, so it counts only if no vote is readable, or if the judge's
        parser gives it an outcome.
        """
        judge = self._llm.judge
        answers = self._answers(tuple(indices), samples, again)
        if len(answers) == 1:
            outcome = judge.outcome(await self._vote(indices, next(self._numbers), answers[0], label, keep), indices)
        else:
            numbers = [next(self._numbers) for _ in answers]
            async with together() as spawn:
                numbered = zip(answers, numbers, strict=True)
                tasks = [spawn(self._vote(indices, number, answer, label, keep)) for answer, number in numbered]
            judgements = [task.result() for task in tasks]
            counted = [j for j in judgements if judge.counts_unreadable or not j.status.bad]
            outcome = judge.agreed([judge.outcome(j, indices) for j in counted or judgements], indices)
        of_one = len(indices) == 1 and isinstance(outcome, float)
        for i, score in judge.scores(outcome, indices).items():
            if of_one:
                self.scores[i] = score
            else:
                self._grades.setdefault(i, []).append(score)
        return outcome

    def _answers(self, question: tuple[int, ...], samples: int, again: int) -> range:
        """The numbers of the answers to ask for: after those of earlier calls about the same question, if ``again``."""
        votes: int = self._llm.judge.options.votes
        first = max(again * votes, self._asked.get(question, 0)) if again else 0
        answers = range(first, first + (samples or votes))
        if answers.stop > (again + 1) * votes:  # more than the next call would leave out
            self._asked[question] = max(answers.stop, self._asked.get(question, 0))
        return answers

    async def _vote(self, indices: Sequence[int], number: int, vote: int, label: str, keep: int | None) -> Judgement:
        """One judgement. Its order permutes the positions of ``indices``, whatever order they were shown in."""
        judge = self._llm.judge
        positions = self._shown_positions(number, len(indices))
        shown = [indices[position] for position in positions]
        docids = tuple(self._request.candidates[i].docid for i in shown)
        repeat = Repeat(self._samples, vote)
        ideal, qid = judge.ideal_for(shown, keep), self._request.query.qid
        call = Call(
            qid, number, docids, ideal, judge.ideal_choices, repeat, self._part, label, keep,
            request=self._request.number,
        )  # fmt: skip
        judgement = await self._llm.judgement(self._preparation, shown, call)
        self.statuses[judgement.status] += 1
        self._reasonings[number] = judgement.reasoning
        if not judge.options.shuffle and not judgement.status.bad:
            return judgement
        # without a readable answer the order is the one that was asked about, not the shuffled one
        order = range(len(shown)) if judgement.status.bad else [positions[position] for position in judgement.order]
        return replace(judgement, order=tuple(order))

    def _shown_positions(self, number: int, n: int) -> list[int]:
        """For each place in the prompt, the position in the question of the passage shown there."""
        positions, options = list(range(n)), self._llm.judge.options
        if options.shuffle:
            seed = " ".join(filter(None, (str(options.seed), self._request.query.qid, self._part, str(number))))
            random.Random(seed).shuffle(positions)
        return positions
