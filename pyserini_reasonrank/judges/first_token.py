"""Read the probabilities of the first identifier without decoding: an order (FIRST, arXiv 2406.15657), or the best of a set
(Setwise by likelihood, arXiv 2310.09497)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log
from string import ascii_uppercase
from typing import Annotated, Any

from pydantic import Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges import Ask
from pyserini_reasonrank.judges.best import Best
from pyserini_reasonrank.judges.ordering import Ordering
from pyserini_reasonrank.parsing import unanswered
from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Capability, Judgement, Prompt, Sampling, Status

_ELSE = "use a reranker that writes its answer, such as rankgpt"


class FirstToken(Ordering):
    """Shows n passages under letters and reads the probability of each letter as the next token after the prefill.

    Letters whose probability the engine does not report come last and count as filled in.
    """

    kind = "first_token"
    needs = frozenset({Capability.CHOICES, Capability.PREFILL})
    written_tokens = 0

    class Options(Ordering.Options):
        apart: Annotated[
            bool,
            Field(
                description="read letters as tokens of their own, also if the tokenizer would merge one with the prefill"
            ),
        ] = False

    def __init__(self, options: Any, sampling: Sampling, can: frozenset[Capability], reminder: str) -> None:
        super().__init__(options, sampling, can, reminder)
        self._samplings: dict[int, Sampling] = {}

    def check(self, widest: int, tokens: Tokens, prefill: str) -> None:
        if widest > len(ascii_uppercase):
            raise UsageError(
                f"the {self.kind} judge has {len(ascii_uppercase)} one-letter identifiers, too few for the {widest} passages "
                f"of a question: show fewer (window_size, depth), or {_ELSE}"
            )
        if bad := single_tokens(tokens, "" if self.options.apart else prefill, ascii_uppercase[:widest]):
            raise UsageError(
                f"this model's tokenizer does not write {', '.join(bad)} as one token after {prefill!r}, which the "
                f"{self.kind} judge needs: {_ELSE}"
            )

    def _wanted(self, n: int) -> Sampling:
        """The sampling for ``n`` passages, made once."""
        if n not in self._samplings:
            letters, apart = tuple(ascii_uppercase[:n]), self.options.apart
            self._samplings[n] = replace(self.sampling, max_tokens=1, choices=letters, one_token=True, apart=apart)
        return self._samplings[n]

    async def judge(self, ask: Ask, prompt: Prompt, shown: Sequence[str]) -> Judgement:
        n = len(shown)
        wanted = self._wanted(n)
        letters = wanted.choices
        answer = await ask(prompt, wanted)
        bad = unanswered(answer)
        known = {i: answer.choices[letter] for i, letter in enumerate(letters) if letter in answer.choices}
        if bad or not known:
            return Judgement(tuple(range(n)), bad or Status.EMPTY, filled=n, detail=answer.error or "no probabilities")
        missing = [i for i in range(n) if i not in known]
        return Judgement(
            (*sorted(known, key=lambda i: -known[i]), *missing),
            Status.REPAIRED if missing else Status.OK,
            filled=len(missing),
            detail=f"{len(missing)} not among the likeliest tokens" if missing else "",
        )

    def ideal(self, gains: Sequence[float]) -> str:
        """Return the whole order in letters, continuing a prefill of one bracket. A model trains on it, although only the
        first letter is ever read."""
        order = sorted(range(len(gains)), key=lambda i: -gains[i])
        return " > ".join(f"[{ascii_uppercase[i]}]" for i in order).removeprefix("[")

    def ideal_choices(self, gains: Sequence[float], choices: Sequence[str]) -> Mapping[str, float]:
        """Multiply the probability by ten for each additional gain."""
        top = max(gains)
        total = log(sum(10.0 ** (gain - top) for gain in gains))
        return {choice: (gain - top) * log(10) - total for choice, gain in zip(choices, gains, strict=True)}

    def answer_tokens(self, n: int) -> int:
        return 1


class BestToken(FirstToken):
    """Reads the likeliest letter of the same question: the best of the set."""

    kind = "best_token"
    outcome = staticmethod(Best.outcome)  # type: ignore[assignment]
    agreed = staticmethod(Best.agreed)  # type: ignore[assignment]

    def unmoved(self, indices: Sequence[int]) -> Any:
        return indices[0]

    def ideal(self, gains: Sequence[float]) -> str:
        """Return the letter of the best passage, continuing a prefill of one bracket."""
        return f"{ascii_uppercase[max(range(len(gains)), key=lambda i: gains[i])]}]"


def single_tokens(tokens: Tokens, prefill: str, choices: Sequence[str]) -> list[str]:
    """Return the ``choices`` that are not a single token after ``prefill``; none of them if ``tokens`` only estimates."""
    if not tokens.exact:
        return []
    before = prefill or "\n"  # the end of the chat template's header
    whole = 1 << 20
    [(_, head)] = tokens.cut([before], whole)
    written = [before + choice for choice in choices]
    counts = [count for _, count in tokens.cut(written, whole)]
    heads = [text for text, _ in tokens.cut(written, head)]
    return [
        choice
        for choice, count, text in zip(choices, counts, heads, strict=True)
        if count != head + 1 or text != before  # two tokens, or one that begins before it
    ]
