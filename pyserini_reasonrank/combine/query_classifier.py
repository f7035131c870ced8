"""The classifier that routes queries: multinomial logistic regression over query features, in a small JSON file.

With an encoder, the dimensions of the query's vector are features too.
"""

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
"""The arm without LLM calls: the first-stage order."""

LIMIT = 5.0
"""The number of standard deviations at which features are clipped, so that one outlier does not decide the class."""

QUERY_TOKENS = 128
"""The tokens of a query that an encoder reads: as many as all-MiniLM-L6-v2 was trained on."""

Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Choice:
    """The arm of a query and the probability of each arm. ``unsure``: no probability reached the threshold."""

    arm: str
    probabilities: Mapping[str, float]
    unsure: bool


class Router(BaseModel):
    """A trained router: for each arm, a bias and a weight for each standardised feature.

    ``encoder`` names a sentence encoder; the ``dimensions`` of its vector follow the features of ``FEATURES``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    arms: Annotated[tuple[str, ...], Field(min_length=2)]
    features: tuple[str, ...] = FEATURES
    encoder: str | None = None
    dimensions: Annotated[int, Field(ge=0)] = 0
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
        k, arms = len(FEATURES) + self.dimensions, len(self.arms)
        if self.features != FEATURES:
            raise ValueError(f"features are {', '.join(self.features)}, not {', '.join(FEATURES)}")
        if (self.encoder is None) != (self.dimensions == 0):
            raise ValueError("an encoder needs its number of dimensions, and dimensions an encoder")
        if not len(self.means) == len(self.scales) == k or any(len(row) != k for row in self.weights):
            raise ValueError(f"means, scales and the weights of each arm must have {k} numbers")
        if not len(self.weights) == len(self.biases) == arms == len(set(self.arms)):
            raise ValueError("weights and biases must have one entry per arm, and arms different names")
        if self.fallback not in self.arms:
            raise ValueError(f"fallback {self.fallback!r} is not one of the arms")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Router:
        """Read a router file. UsageError if it is missing or invalid."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise UsageError(
                f"the router {path} can't be read: {error.strerror}; `python -m pyserini_reasonrank train route` writes one"
            ) from None
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "the file"
            raise UsageError(
                f"{path} is not a router file: {where}: {fault['msg'].removeprefix('Value error, ')}"
            ) from None

    def write(self, path: Path) -> None:
        """Write the router file, and create its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def load(self) -> None:
        """Load the encoder, if there is one; otherwise the first query does. UsageError if it can't be loaded."""
        if self.encoder:
            encode(self.encoder, [])

    def choose(
        self,
        query: str,
        scores: Sequence[float],
        threshold: float | None = None,
        fallback: str | None = None,
        vector: Sequence[float] | None = None,
    ) -> Choice:
        """The arm for a query whose candidates have these first-stage ``scores``, best first.

        ``threshold`` and ``fallback`` default to those of the router, ``vector`` to the encoder's of the query.
        """
        probabilities = dict(zip(self.arms, self.probabilities(query, scores, vector), strict=True))
        best = max(probabilities, key=lambda arm: probabilities[arm])
        unsure = probabilities[best] < (self.threshold if threshold is None else threshold)
        return Choice((fallback or self.fallback) if unsure else best, probabilities, unsure)

    def probabilities(self, query: str, scores: Sequence[float], vector: Sequence[float] | None = None) -> list[float]:
        """The probability of each arm, in the order of ``arms``. UsageError if the encoder can't be loaded."""
        if vector is None:
            vector = encode(self.encoder, [query])[0] if self.encoder else ()
        z = standardised([*features(query, scores[: self.depth]), *vector], self.means, self.scales)
        logits = [
            bias + sum(w * x for w, x in zip(row, z, strict=True))
            for row, bias in zip(self.weights, self.biases, strict=True)
        ]
        return softmax(logits)


def encode(encoder: str, texts: Sequence[str]) -> list[list[float]]:
    """The vectors of ``texts`` by a sentence encoder, which is loaded on first use. UsageError if that fails."""
    from pyserini_reasonrank.engines.local.sentence_encoder import loaded

    vectors: list[list[float]] = loaded(encoder, QUERY_TOKENS).encode(texts).tolist()
    return vectors


def standardised(values: Sequence[float], means: Sequence[float], scales: Sequence[float]) -> list[float]:
    """Each value as standard deviations from its mean, clipped to ``LIMIT``."""
    return [max(-LIMIT, min(LIMIT, (v - m) / s)) for v, m, s in zip(values, means, scales, strict=True)]


def softmax(values: Sequence[float]) -> list[float]:
    """The softmax of ``values``."""
    top = max(values)
    exponentials = [math.exp(value - top) for value in values]
    total = sum(exponentials)
    return [value / total for value in exponentials]
