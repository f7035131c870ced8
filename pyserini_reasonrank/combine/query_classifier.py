"""A router: logistic regression over a query's features, in a small JSON file, that says which reranker it deserves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pyserini_reasonrank.combine.features import FEATURES, features
from pyserini_reasonrank.errors import UsageError

NONE = "none"
"""The arm that asks nothing: the first stage's own order."""

LIMIT = 5.0
"""Standard deviations at which a feature is cut off, so that a query unlike all others does not decide by one number."""

Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Choice:
    """The arm that a query goes to and the probability of each; ``unsure``: none was probable enough."""

    arm: str
    probabilities: Mapping[str, float]
    unsure: bool


class Router(BaseModel):
    """What ``train route`` learned: weights of an arm by feature, features being standardised first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    arms: Annotated[tuple[str, ...], Field(min_length=2)]
    features: tuple[str, ...] = FEATURES
    means: tuple[Number, ...]
    scales: tuple[Annotated[Number, Field(gt=0)], ...]
    weights: tuple[tuple[Number, ...], ...]
    biases: tuple[Number, ...]
    depth: Annotated[int, Field(ge=1)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    fallback: str
    trained: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        k, arms = len(FEATURES), len(self.arms)
        if self.features != FEATURES:
            raise ValueError(f"its features are {', '.join(self.features)}, not {', '.join(FEATURES)}")
        if not len(self.means) == len(self.scales) == k or any(len(row) != k for row in self.weights):
            raise ValueError(f"means, scales and each arm's weights must be {k} numbers")
        if not len(self.weights) == len(self.biases) == arms == len(set(self.arms)):
            raise ValueError("weights and biases must be as many as arms, each of another name")
        if self.fallback not in self.arms:
            raise ValueError(f"its fallback {self.fallback!r} is none of its arms")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Router:
        """A router from its file. UsageError if it is missing or is none."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise UsageError(
                f"the router {path} can't be read: {error.strerror}; `python -m pyserini_reasonrank train route` makes one"
            ) from None
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "it"
            raise UsageError(f"{path} is no router: {where}: {fault['msg'].removeprefix('Value error, ')}") from None

    def write(self, path: Path) -> None:
        """Write the router's file, making its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def choose(
        self, query: str, scores: Sequence[float], threshold: float | None = None, fallback: str | None = None
    ) -> Choice:
        """The arm for a query whose candidates have these first-stage ``scores``, in the first stage's order.

        ``threshold`` and ``fallback`` are the router's own if not given.
        """
        probabilities = dict(zip(self.arms, self.probabilities(query, scores), strict=True))
        best = max(probabilities, key=lambda arm: probabilities[arm])
        unsure = probabilities[best] < (self.threshold if threshold is None else threshold)
        return Choice((fallback or self.fallback) if unsure else best, probabilities, unsure)

    def probabilities(self, query: str, scores: Sequence[float]) -> list[float]:
        """Of each arm, that it is the right one."""
        z = standardised(features(query, scores[: self.depth]), self.means, self.scales)
        logits = [
            bias + sum(w * x for w, x in zip(row, z, strict=True))
            for row, bias in zip(self.weights, self.biases, strict=True)
        ]
        return softmax(logits)


def standardised(values: Sequence[float], means: Sequence[float], scales: Sequence[float]) -> list[float]:
    """Each value in standard deviations from its mean, cut off at ``LIMIT``."""
    return [max(-LIMIT, min(LIMIT, (v - m) / s)) for v, m, s in zip(values, means, scales, strict=True)]


def softmax(values: Sequence[float]) -> list[float]:
    """Positive numbers that sum to 1, in the proportion of the exponentials of ``values``."""
    top = max(values)
    exponentials = [math.exp(value - top) for value in values]
    total = sum(exponentials)
    return [value / total for value in exponentials]
