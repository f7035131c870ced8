"""Score one passage by the likelihood of the query given the passage (query likelihood; UPR, arXiv 2204.07496)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pyserini_reasonrank.judges import Ask, Judge
from pyserini_reasonrank.judges.score import TOP_GAIN, Pointwise, unchosen
from pyserini_reasonrank.records import Capability, Judgement, Prompt, Status


def asked_and_said(prompt: Prompt) -> tuple[Prompt, str]:
    """Split a prompt before its last turn, an assistant's: the query, which is scored and not generated."""
    *asked, said = prompt.messages
    return Prompt(tuple(asked)), said.content


class Likelihood(Judge):
    """The score is log P(query | passage), summed over the query's tokens (section 2.2 there).

    Language models learn in pre-training which words go with a passage, so a small model can rank by this score even if it
    can't answer whether a passage is relevant. Scores of different queries are not comparable.
    """

    kind = "likelihood"
    needs = frozenset({Capability.LIKELIHOOD})
    outcome = staticmethod(Pointwise.outcome)
    agreed = staticmethod(Pointwise.agreed)
    unmoved = staticmethod(Pointwise.unmoved)
    written_tokens = 0

    async def judge(self, ask: Ask, prompt: Prompt, shown: Sequence[str]) -> Judgement:
        asked, said = asked_and_said(prompt)
        answer = await ask(asked, replace(self.sampling, max_tokens=1, choices=(said,)))
        if bad := unchosen(answer, (said,)):
            return Judgement((0,), bad, filled=1, detail=answer.error or "")
        return Judgement((0,), Status.OK, score=answer.choices[said])

    def ideal(self, gains: Sequence[float]) -> str:
        return ""

    def ideal_choices(self, gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
        """Make the query likelier for a higher gain."""
        return dict.fromkeys(choices, float(gains[0] - TOP_GAIN))
