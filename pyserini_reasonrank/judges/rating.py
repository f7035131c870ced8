"""Score one passage by the number that the model writes after its analysis, not by probabilities (Retro*, arXiv 2509.24869)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.judges import published
from pyserini_reasonrank.judges.score import TOP_GAIN, Pointwise
from pyserini_reasonrank.judges.written import Written
from pyserini_reasonrank.parsing.ratings import CLOSE_SCORE, OPEN_SCORE, read_rating
from pyserini_reasonrank.records import Completion, Judgement


class Rating(Written):
    """Shows one passage and reads a whole number from 0 to ``top``, between score tags at the end of the answer."""

    kind = "rating"
    outcome = staticmethod(Pointwise.outcome)
    agreed = staticmethod(Pointwise.agreed)
    unmoved = staticmethod(Pointwise.unmoved)

    class Options(Written.Options):
        tags: Annotated[bool, Field(description="the prompt asks for a <score> tag")] = True
        top: Annotated[int, Field(ge=1, description="the highest score")] = 100
        parser: Annotated[
            published.RatingParser,
            Field(description="retro-star: read as its release does; an unreadable answer is a score of 0"),
        ] = "careful"

    @property
    def thought_tag(self) -> str:
        return ""

    @property
    def answer_tag(self) -> str:
        return "score" if self.options.tags else ""

    @property
    def begins(self) -> str:
        return ""

    @property
    def counts_unreadable(self) -> bool:
        return bool(self.options.parser != "careful")

    @property
    def scale(self) -> tuple[float, float]:
        return (0.0, float(self.options.top))

    @property
    def wording(self) -> dict[str, int]:
        return {"top": self.options.top}

    def read(self, completion: Completion, n: int) -> Judgement:
        if self.options.parser == "retro-star":
            return published.read_retro_star(completion)
        return read_rating(completion, self.options.top, tags=self.options.tags)

    def pattern(self, n: int) -> str:
        number = _up_to(self.options.top)
        return rf"\n?{number}\n?" if self.options.tags else number

    def ideal(self, gains: Sequence[float]) -> str:
        score = round(self.options.top * min(max(gains[0] / TOP_GAIN, 0.0), 1.0))
        analysis = f"The gain is {gains[0]:g}.\n{OPEN_SCORE}\n{score}\n{CLOSE_SCORE}"
        return analysis if self.options.tags else f"{score}"


def _up_to(top: int) -> str:
    """Return a regular expression for the whole numbers from 0 to ``top``, without leading zeros."""
    digits, shorter = str(top), len(str(top)) - 1
    forms = ["[1-9]" + "[0-9]" * (length - 1) if length > 1 else "[0-9]" for length in range(1, shorter + 1)]
    for place, digit in enumerate(digits):
        least = 1 if place == 0 and shorter else 0
        if int(digit) > least:
            forms.append(f"{digits[:place]}[{least}-{int(digit) - 1}]" + "[0-9]" * (shorter - place))
    return f"({'|'.join([*forms, digits])})"
