"""Select the best passages of a set (TourRank, arXiv 2406.11678, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pyserini_reasonrank.judges.ordering import Ordering
from pyserini_reasonrank.judges.written import Written, identifier
from pyserini_reasonrank.parsing import read_permutation
from pyserini_reasonrank.prompts.template import half
from pyserini_reasonrank.records import Completion, Judgement, Prompt, Status

_MISSING = "missing"


class Select(Ordering, Written):
    """Shows a set and reads which passages to keep, as many as the strategy goes on with (``Prompt.keep``; half by default).

    The outcome is the order shown, with the selected passages first. An unreadable answer selects the first ones shown.
    """

    kind = "select"

    def reader_for(self, prompt: Prompt, shown: Sequence[str]) -> Callable[[Completion], Judgement]:
        return partial(self.read, n=len(shown), keep=prompt.keep)

    def read(self, completion: Completion, n: int, keep: int | None = None) -> Judgement:
        """Return a judgement whose order begins with the selected passages; ``filled`` counts those the answer lacks."""
        wanted = keep or half(n)
        judgement = read_permutation(completion, n, tags=self.options.tags)
        if judgement.status.bad:
            return judgement
        named = n - judgement.filled
        faults = [fault for fault in judgement.detail.split(", ") if fault and not fault.endswith(_MISSING)]
        if named != wanted:
            faults.append(f"{named} selected instead of {wanted}")
        status = Status.REPAIRED if faults else Status.OK
        return replace(judgement, status=status, filled=max(wanted - named, 0), detail=", ".join(faults))

    def pattern(self, n: int) -> str:
        """Match any number of identifiers, since the number to select differs from call to call."""
        return rf"{identifier(n)}(, {identifier(n)})*"

    def ideal_for(self, places: Sequence[int], keep: int | None) -> Callable[[Sequence[float]], str]:
        return partial(self.ideal, keep=keep)

    def ideal(self, gains: Sequence[float], keep: int | None = None) -> str:
        """Return the passages with the highest gains, the best first; ties in the order shown."""
        order = sorted(range(len(gains)), key=lambda i: -gains[i])[: keep or half(len(gains))]
        labels = ", ".join(f"[{i + 1}]" for i in order)
        return self.written(f"The best are {labels}.", labels)

    def answer_tokens(self, n: int) -> int:
        return 8 * n + 16
