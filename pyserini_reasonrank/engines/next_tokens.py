"""Log-probabilities of given answers, from the probabilities of the likeliest next tokens that a server reports.

A token may begin several answers ("1" begins "1" and "10"), or only a part of one. All probabilities here are of one next
token, by its text; results are natural logs by answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import log

_KNOWN_MASS = 0.99  # of the next token, above which the choices that are not reported are unlikely


def of_one_token(tokens: Mapping[str, float], choices: tuple[str, ...]) -> dict[str, float]:
    """The log-probabilities of choices that are one token each; those not among ``tokens`` are left out."""
    exactly = {c: sum(p for token, p in tokens.items() if token.strip() == c) for c in choices}
    return {c: log(p) for c, p in exactly.items() if p}


def continued(choices: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Pairs of a choice and a longer one that it begins, which only the token after it tells apart."""
    return ((short, long) for short in choices for long in choices if long != short and long.startswith(short))


class ChoiceMass:
    """The probability of each of ``choices``, from the next tokens and from those that follow a choice."""

    def __init__(self, tokens: Mapping[str, float], choices: tuple[str, ...]) -> None:
        self._tokens = tokens
        self._mass = {c: _mass(tokens, c, choices) for c in choices}

    def divide(self, short: str, long: str, following: Mapping[str, float]) -> bool:
        """Divide what ``short`` and ``long`` share by the tokens that follow ``short``.

        Returns False if these are needed and there are none.
        """
        both = sum(p for token, p in self._tokens.items() if token.strip() == short.strip())
        goes_on = sum(p for token, p in following.items() if token == long.removeprefix(short))
        self._mass[short], self._mass[long] = both * (1 - goes_on), both * goes_on + self._mass[long]
        return bool(following) or not both

    def logs(self) -> dict[str, float]:
        """The log-probabilities of all choices; one that no token begins gets half of the least that was reported.

        {} if too few tokens are reported to know anything of a choice that is not among them.
        """
        unseen = sum(not p for p in self._mass.values())
        few = len(self._tokens) < len(self._mass) and sum(self._tokens.values()) < _KNOWN_MASS
        if unseen == len(self._mass) or (unseen and few):
            return {}
        floor = min(p for p in self._tokens.values() if p) / 2
        return {c: log(p or floor) for c, p in self._mass.items()}


def _mass(tokens: Mapping[str, float], choice: str, choices: tuple[str, ...]) -> float:
    """The probability of the tokens that begin ``choice`` and no other choice."""

    def begins(token: str, c: str) -> bool:
        return bool(token.strip()) and c.lstrip().startswith((token.strip(), token.strip().lower()))

    return sum(p for t, p in tokens.items() if begins(t, choice) and sum(begins(t, c) for c in choices) == 1)
