"""What strategies know of a judge: a question about some candidates, with a label that says in the trace what it was for."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol


class Permute(Protocol):
    """Asks for an order: the same candidates come back, best first."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[Sequence[int]]: ...


class Choose(Protocol):
    """Asks for one of the candidates: the best or the worst of them."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[int]: ...


class Rate(Protocol):
    """Asks what one candidate is worth: higher is better, None where the answer could not be read."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[float | None]: ...
