"""What strategies know of a judge: a question about some candidates, with a label that says in the trace what it was for."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol


class Permute(Protocol):
    """Asks for an order: the same candidates come back, best first."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[Sequence[int]]: ...


class Choose(Protocol):
    """Asks for one of the candidates: the best of them."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[int]: ...


class Drop(Protocol):
    """Asks which of the candidates go: at least one, the worst first, and never all."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[Sequence[int]]: ...


class Rate(Protocol):
    """Asks what one candidate is worth: higher is better, None where the answer could not be read."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[float | None]: ...


class Grade(Protocol):
    """Asks what each of the candidates is worth, in their order; otherwise as ``Rate``."""

    def __call__(self, indices: Sequence[int], label: str = "", /) -> Awaitable[Sequence[float | None]]: ...
