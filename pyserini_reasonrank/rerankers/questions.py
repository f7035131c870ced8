"""The questions of one query to one judge: numbered, shown in a seeded order, voted on, counted and put on record."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.prompts.fitting import Fitter, Prepared
from pyserini_reasonrank.records import Call, Completion, Judgement, Prompt, Request, Sampling, Status
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.rerankers.scheduling import together


@dataclass
class Tally:
    """What a run has spent and how its questions ended. ``rankings``: how often it was asked to rank."""

    statuses: Counter[Status] = field(default_factory=Counter)
    calls: int = 0
    from_journal: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    rankings: int = 0

    @property
    def questions(self) -> int:
        return sum(self.statuses.values())

    @property
    def bad(self) -> int:
        return sum(count for status, count in self.statuses.items() if status.bad)

    def __str__(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items())) or "no calls"

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.statuses + other.statuses,
            self.calls + other.calls,
            self.from_journal + other.from_journal,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            self.rankings + other.rankings,
        )

    def add(self, completion: Completion, *, found: bool) -> None:
        self.calls += not found
        self.from_journal += found
        self.prompt_tokens += completion.prompt_tokens
        self.output_tokens += completion.output_tokens


@dataclass(frozen=True, slots=True)
class Asker:
    """What the questions of all queries have in common."""

    judge: Judge
    fitter: Fitter
    endpoint: Endpoint
    on_error: Literal["fail", "keep"]
    tally: Tally
    watch: Callable[[], None]


class Questions:
    """The judge bound to one query. ``part`` and ``sample`` tell several rankings of one query apart."""

    def __init__(self, asker: Asker, request: Request, prepared: Prepared, part: str, sample: int) -> None:
        self._asker, self._request, self._prepared = asker, request, prepared
        self._part, self._sample = part, sample
        self._numbers = iter(range(1 << 30))
        self.scores: dict[int, float] = {}
        self.statuses: Counter[Status] = Counter()
        self._thoughts: dict[int, str] = {}

    @property
    def reasoning(self) -> str:
        """All thoughts, in the order in which they were asked for."""
        return "\n\n".join(thought for _, thought in sorted(self._thoughts.items()) if thought)

    async def ask(self, indices: Sequence[int], label: str = "") -> Any:
        """What the judge finds about the candidates ``indices``. A vote that fails ends the others.

        A vote without a readable answer holds nothing but the order shown: it counts only where no other is there.
        """
        judge = self._asker.judge
        if judge.options.votes == 1:
            outcome = judge.outcome(await self._vote(indices, next(self._numbers), 0, label), indices)
        else:
            votes = [next(self._numbers) for _ in range(judge.options.votes)]
            async with together() as spawn:
                asked = [spawn(self._vote(indices, number, vote, label)) for vote, number in enumerate(votes)]
            found = [task.result() for task in asked]
            readable = [judgement for judgement in found if not judgement.status.bad]
            outcome = judge.agreed([judge.outcome(judgement, indices) for judgement in readable or found], indices)
        if len(indices) == 1 and isinstance(outcome, float):
            self.scores[indices[0]] = outcome
        return outcome

    async def _vote(self, indices: Sequence[int], number: int, vote: int, label: str) -> Judgement:
        """Ask once. The judgement's order permutes the positions of ``indices``, however they were shown."""
        asker, qid = self._asker, self._request.query.qid
        places = self._places(number, len(indices))
        shown = [indices[place] for place in places]
        docids = tuple(self._request.candidates[i].docid for i in shown)
        judge = asker.judge
        first = 2 * (self._sample * judge.options.votes + vote)  # the ladder's second ask lies between
        call = Call(qid, number, docids, judge.ideal, judge.ideal_choices, first, self._part, label)

        async def ask(prompt: Prompt, sampling: Sampling, *, sample: int = 0) -> Completion:
            asked = replace(call, sample=first + sample)
            completion, found = await asker.endpoint.complete(prompt, sampling, asked, self._request.number)
            asker.tally.add(completion, found=found)
            if completion.error is not None and asker.on_error == "fail":
                raise Failure(f"query {qid}, call {number}: {completion.error}")
            return completion

        async with asker.endpoint.question(self._request.number):  # prompts are long: none is written for the queue
            texts = [self._prepared.passages[i].text for i in shown]
            judgement = await judge.judge(ask, asker.fitter.render(self._prepared, shown), texts)
        asker.endpoint.journal.judged(call, judgement)
        asker.tally.statuses[judgement.status] += 1
        self.statuses[judgement.status] += 1
        asker.watch()
        self._thoughts[number] = judgement.reasoning
        # an answer that decided nothing leaves the order that was asked about, not the one it was shuffled to
        order = range(len(shown)) if judgement.status.bad else [places[position] for position in judgement.order]
        return replace(judgement, order=tuple(order))

    def _places(self, number: int, n: int) -> list[int]:
        """The position in the question of each passage shown."""
        places, options = list(range(n)), self._asker.judge.options
        if options.shuffle:
            of = " ".join(filter(None, (str(options.seed), self._request.query.qid, self._part, str(number))))
            random.Random(of).shuffle(places)
        return places
