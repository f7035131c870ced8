"""Routing: each query goes to one of several rerankers, chosen before any LLM call (Zooter, arXiv 2311.08692)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pyserini_reasonrank.combine.arms import Arm
from pyserini_reasonrank.combine.query_classifier import NONE, Choice, Router
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.records import Ranked, Request

_ENCODING = ThreadPoolExecutor(1, "encoder")
"""The thread of the routers' encoders: an encoder takes one query at a time, and would block the event loop."""


def _read(value: Any) -> Any:
    return Router.read(value) if isinstance(value, str) else value


async def route(
    request: Request,
    arms: Mapping[str, Arm],
    *,
    router: Annotated[
        Router | None,
        BeforeValidator(_read),
        Field(description="router file, written by `train route`"),
    ] = None,
    threshold: Annotated[
        float | None, Field(ge=0, le=1, description="probability below which the fallback is used; default: the router's")
    ] = None,
    fallback: Annotated[
        str | None, Field(description=f"an arm, or {NONE} for the first-stage order; default: the router's")
    ] = None,
    unrouted: Annotated[str | None, Field(description="the arm of every query if there is no router")] = None,
) -> Ranked:  # fmt: skip
    """The order of the arm to which the router gives the highest probability of being worth its cost, or of ``fallback``.

    The arm ``none`` is the first-stage order, without any LLM call.
    """
    chosen = Choice(unrouted or NONE, {}, True)
    if router is not None:
        scores = [candidate.score for candidate in request.candidates]
        choose = partial(router.choose, request.query.text, scores, threshold, fallback)
        chosen = await asyncio.get_running_loop().run_in_executor(_ENCODING, choose) if router.encoder else choose()
    everything = range(len(request.candidates))
    ranked = Ranked(tuple(everything)) if chosen.arm == NONE else await arms[chosen.arm](everything)
    notes: dict[str, Any] = {"arm": chosen.arm, "fallback": chosen.unsure}
    notes["probabilities"] = {arm: round(probability, 4) for arm, probability in chosen.probabilities.items()}
    return replace(ranked, notes=notes | ({"of the arm": dict(ranked.notes)} if ranked.notes else {}))


def load(*, router: Router | None, **_: Any) -> None:
    """Load the encoder of the router, if it has one. UsageError if that fails."""
    if router is not None:
        router.load()


def check(
    arms: Collection[str],
    where: str,
    *,
    router: Router | None,
    threshold: float | None,
    fallback: str | None,
    unrouted: str | None,
) -> list[str]:
    """UsageError if the arms of the router, of the options and of the settings differ; a warning if there is no router."""
    if NONE in arms:
        raise UsageError(
            f"the arm {NONE} is the first-stage order and can't have a reranker: remove {where}.arms.{NONE}"
        )
    choices = [NONE, *arms]
    for key, arm in (("fallback", fallback), ("unrouted", unrouted)):
        if arm is not None and arm not in choices:
            raise UsageError(f"{where}.combine.{key} {arm!r} is not an arm{nearest(arm, choices)}")
    if router is None:
        if unrouted is None:
            raise UsageError(
                f"the route combination needs a router: set {where}.combine.router FILE; `train route` writes one"
            )
        return [f"{where}.combine.router is not set: every query goes to the arm {unrouted}"]
    if unknown := [arm for arm in router.arms if arm not in choices]:
        raise UsageError(f"the router has an arm {unknown[0]}: set {where}.arms.{unknown[0]}.reranker NAME")
    if idle := [arm for arm in arms if arm not in (*router.arms, fallback)]:
        raise UsageError(f"the router has no arm {idle[0]!r}; its arms: {', '.join(router.arms)}")
    return []
