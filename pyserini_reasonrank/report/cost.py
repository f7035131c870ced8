"""The table behind ``explain``: what a plan will ask, computed by the strategy itself."""

from __future__ import annotations

from pyserini_reasonrank.planning import Plan, tokens_for
from pyserini_reasonrank.prompts.budget import WHOLE


def cost_table(plan: Plan, queries: int) -> str:
    """Calls and tokens, for one query of ``depth`` candidates and for ``queries`` of them.

    Prompt tokens are the most that can be: every passage as long as its limit (or, without one, not told).
    """
    settings = plan.settings
    cost = plan.cost(settings.depth)
    tokens = tokens_for(settings, plan.engine.model, plan.warnings)
    written = cost.calls * settings.sampling.max_tokens
    rows = [
        ("calls", f"{cost.calls:,}", f"{cost.calls * queries:,}"),
        ("longest chain of calls", f"{cost.chain:,}", f"{cost.chain:,}"),
        ("passages shown", f"{cost.shown:,}", f"{cost.shown * queries:,}"),
    ]
    if settings.passage_tokens:
        prompt = plan.template.render("", [""] * (cost.shown // max(cost.calls, 1)))
        frame = sum(count for _, count in tokens.cut([m.content for m in prompt.messages], WHOLE))
        read = cost.calls * frame + cost.shown * settings.passage_tokens
        rows.append(("prompt tokens, at most", f"{read:,}", f"{read * queries:,}"))
    rows.append(("output tokens, at most", f"{written:,}", f"{written * queries:,}"))
    title = f"{settings.name} with {plan.engine.model.name} on {plan.engine.name}, depth {settings.depth}"
    kind = "exact" if tokens.exact else "estimated at three characters a token"
    head = ("", "a query", f"{queries} queries" if queries > 1 else "the run")
    lines = [f"{a:<26}{b:>14}{c:>16}" for a, b, c in [head, *rows]]
    return "\n".join([title, *lines, f"tokens: {kind}; queries not counted"])
