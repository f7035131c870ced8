"""The order of the candidates after each call, where the calls alone explain the final order."""

from __future__ import annotations

from collections.abc import Sequence

MOST_STEPS = 60
"""More steps than this are not shown."""


def step_orders(
    first: Sequence[str], calls: Sequence[tuple[Sequence[str], Sequence[int]]], final: Sequence[str]
) -> list[list[str]] | None:
    """The docids after each call, beginning with ``first``; None if this does not lead to ``final``.

    Each call has the docids that it showed and their new order (positions, best first); it reorders the places where these
    documents are. This is what sliding windows do. Other strategies combine answers in other ways, and lead to another
    order, unless by chance.
    """
    if not calls or len(calls) > MOST_STEPS:
        return None
    steps = [list(first)]
    for docids, order in calls:
        before = steps[-1]
        place = {docid: index for index, docid in enumerate(before)}
        if len(docids) < 2 or not place.keys() >= set(docids) or sorted(order) != list(range(len(docids))):
            return None
        after = list(before)
        for index, position in zip(sorted(place[docid] for docid in docids), order, strict=True):
            after[index] = docids[position]
        steps.append(after)
    return steps if steps[-1][: len(final)] == list(final) else None
