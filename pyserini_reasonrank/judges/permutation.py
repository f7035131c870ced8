"""Order a window of passages: the listwise judge of RankGPT, ReasonRank and DRanker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from pyserini_reasonrank.judges.ordering import Ordering
from pyserini_reasonrank.judges.published import PermutationParser, read_reasonrank
from pyserini_reasonrank.judges.written import Written, identifier
from pyserini_reasonrank.parsing import Untagged, read_permutation
from pyserini_reasonrank.parsing.identifiers import Identifiers
from pyserini_reasonrank.records import Completion, Judgement

SEPARATORS = {"arrows": " > ", "lines": "\n", "blanks": " "}


class Permutation(Ordering, Written):
    """Shows n passages and reads all their identifiers, best first."""

    kind = "permutation"

    class Options(Written.Options):
        identifiers: Annotated[
            Identifiers,
            Field(
                description="brackets: [2] or beside >, other numbers ignored; digits: every number, as in published code"
            ),
        ] = "brackets"
        untagged: Annotated[
            Untagged,
            Field(
                description="unfinished thought: identity keeps the order, mention_order takes the order of mention (ReasonRank)"
            ),
        ] = "identity"
        form: Annotated[
            Literal["arrows", "lines", "blanks"],
            Field(
                description="form of the answer that the prompt asks for: [2] > [1], one per line, [2] [1]; all are read"
            ),
        ] = "arrows"

        parser: Annotated[
            PermutationParser,
            Field(description="reasonrank: read answers as its release does; identifiers and untagged have no effect"),
        ] = "careful"

    def read(self, completion: Completion, n: int) -> Judgement:
        o = self.options
        if o.parser == "reasonrank":
            return read_reasonrank(completion, n)
        return read_permutation(completion, n, tags=o.tags, how=o.identifiers, untagged=o.untagged)

    def pattern(self, n: int) -> str:
        """Match as many identifiers as passages. Repeats are allowed: a pattern without them has n! branches."""
        one = identifier(n)
        return one + rf"({SEPARATORS[self.options.form]}{one}){{{n - 1}}}" * (n > 1)

    def ideal(self, gains: Sequence[float]) -> str:
        """Return the passages by falling gain, ties in the order shown, in the form that the prompt asks for."""
        order = sorted(range(len(gains)), key=lambda i: -gains[i])
        thought = f"The gains are {', '.join(f'{gains[i]:g}' for i in order)}."
        return self.written(thought, SEPARATORS[self.options.form].join(f"[{i + 1}]" for i in order))

    def answer_tokens(self, n: int) -> int:
        return 8 * n + 16  # "[100] > " takes up to seven tokens
