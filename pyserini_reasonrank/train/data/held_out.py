"""The held-out split: which training queries are kept for development. The query's text decides, never its qid.

A query therefore stays on its side when other queries are added or removed.
"""

from __future__ import annotations

import hashlib
import random
import re


def held_out(query: str, share: float, seed: int | None) -> bool:
    """Whether ``query`` belongs to the held-out ``share`` (from 0 to 1) of the queries."""
    return split_position(query, seed) < share


def split_position(query: str, seed: int | None) -> float:
    """The position of ``query`` in [0, 1): a split holds out the queries with the lowest positions.

    With a ``seed``, queries that differ only in case and punctuation share a position. None is the fixed split of the
    shipped ranker: the decimal digits of the SHA-256 of the lower-cased query, last digit first.
    """
    if seed is not None:
        return random.Random(f"{seed} {' '.join(re.findall(r'\w+', query.casefold()))}").random()
    digits = int(hashlib.sha256(query.strip().lower().encode()).hexdigest(), 16) % 10**9
    return int(f"{digits:09}"[::-1]) / 10**9
