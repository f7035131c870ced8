"""The judges that strategies call: a question about some candidates, with a label that names the step in the trace."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol


class Permute(Protocol):
    """Returns the same candidates, best first."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[Sequence[int]]: ...


class Select(Protocol):
    """Returns the same candidates, the best ``keep`` first."""

    def __call__(self, indices: Sequence[int], label: str, keep: int, /) -> Awaitable[Sequence[int]]: ...


class Choose(Protocol):
    """Returns the best of the candidates."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[int]: ...


class Drop(Protocol):
    """Returns the candidates to drop, worst first: at least one, and not all."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[Sequence[int]]: ...


class Rate(Protocol):
    """Returns the score of one candidate: higher is better; None if the answer is unreadable."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[float | None]: ...


class Sample(Protocol):
    """Returns the mean score of ``samples`` answers to the same question; 0: one answer, or as many as the judge's votes.

    ``again`` is how often the strategy has asked this question before: the answers are new ones.
    """

    def __call__(
        self, indices: Sequence[int], label: str = "", /, *, samples: int = 0, again: int = 0
    ) -> Awaitable[float | None]: ...


class Grade(Protocol):
    """Returns the score of each candidate, in their order; otherwise as ``Rate``. ``again`` as for ``Sample``."""

    def __call__(
        self, indices: Sequence[int], label: str = "", /, *, again: int = 0
    ) -> Awaitable[Sequence[float | None]]: ...
