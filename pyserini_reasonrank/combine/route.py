"""One of several rerankers, chosen for each query before an LLM is asked (Zooter, arXiv 2311.08692)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.combine.query_classifier import NONE, Choice, Router
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.records import Ranked, Request


def _read(value: Any) -> Any:
    return Router.read(value) if isinstance(value, str) else value


async def route(
    request: Request,
    arms: Mapping[str, Arm],
    *,
    router: Annotated[
        Router | None,
        BeforeValidator(_read),
        Field(description="JSON file, as `train route` writes it"),
    ] = None,
    threshold: Annotated[
        float | None, Field(ge=0, le=1, description="probability below which the fallback is asked, if not the router's")
    ] = None,
    fallback: Annotated[
        str | None, Field(description=f"an arm, or {NONE}: the first stage's order; if not the router's own")
    ] = None,
    unrouted: Annotated[str | None, Field(description="the arm of every query as long as no router is given")] = None,
) -> Ranked:  # fmt: skip
    """The order of the arm that the router finds most probable to be worth its cost, or of the ``fallback``.

    The arm ``none`` is the first stage's order, which asks nothing.
    """
    chosen = Choice(unrouted or NONE, {}, True)
    if router is not None:
        scores = [candidate.score for candidate in request.candidates]
        chosen = router.choose(request.query.text, scores, threshold, fallback)
    everything = range(len(request.candidates))
    ranked = Ranked(tuple(everything)) if chosen.arm == NONE else await arms[chosen.arm](everything)
    notes: dict[str, Any] = {"arm": chosen.arm, "fallback": chosen.unsure}
    notes["probabilities"] = {arm: round(probability, 4) for arm, probability in chosen.probabilities.items()}
    return replace(ranked, notes=notes | ({"of the arm": dict(ranked.notes)} if ranked.notes else {}))


def check(
    arms: Collection[str],
    where: str,
    *,
    router: Router | None,
    threshold: float | None,
    fallback: str | None,
    unrouted: str | None,
) -> list[str]:
    """UsageError if router, options and arms do not speak of the same arms; a warning if there is no router."""
    if NONE in arms:
        raise UsageError(f"the arm {NONE} is the first stage's order and takes no reranker: drop {where}.arms.{NONE}")
    choices = [NONE, *arms]
    for key, arm in (("fallback", fallback), ("unrouted", unrouted)):
        if arm is not None and arm not in choices:
            raise UsageError(f"{where}.combine.{key} {arm!r} is no arm{nearest(arm, choices)}")
    if router is None:
        if unrouted is None:
            raise UsageError(f"the route combination needs {where}.combine.router FILE, as `train route` writes it")
        return [f"{where}.combine.router is not given: every query goes to the arm {unrouted}"]
    if unknown := [arm for arm in router.arms if arm not in choices]:
        raise UsageError(f"the router chooses an arm {unknown[0]} too: say {where}.arms.{unknown[0]}.reranker NAME")
    if idle := [arm for arm in arms if arm not in (*router.arms, fallback)]:
        raise UsageError(f"the router knows no arm {idle[0]!r}: it chooses from {', '.join(router.arms)}")
    return []
