"""Rerankers with short passages and answers and no second ask: what a model of 135 M parameters is through with on a laptop."""

from __future__ import annotations

from typing import Any

from pyserini_reasonrank.settings import rerankers


def shortened(name: str, *, passage_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Settings over those of the reranker ``name``. A bisection, which asks seven times, asks without a thought."""
    given = rerankers.read(name)
    most = min(output_tokens, given.get("sampling", {}).get("max_tokens", output_tokens))
    short: dict[str, Any] = {"passage_tokens": passage_tokens, "sampling": {"max_tokens": most}}
    once: dict[str, Any] = {"judge": {"repair": "none"}}
    if "arms" in given:
        return short | {"arms": dict.fromkeys(given["arms"], once)}
    if given.get("judge", {}).get("kind") == "bisection":
        once["judge"]["think"] = False
    return short | once
