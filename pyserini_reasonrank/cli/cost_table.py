"""The table behind ``explain``: what a plan will ask, computed by the strategy itself."""

from __future__ import annotations

from pyserini_reasonrank.prompts.fitting import frame_tokens
from pyserini_reasonrank.run.cost import PartCost, estimate
from pyserini_reasonrank.run.parts import Plan, SinglePlan


def cost_table(plan: Plan, queries: int) -> str:
    """Calls and tokens, for one query of ``depth`` candidates and for ``queries`` of them.

    Tokens are the most that can be: every passage as long as its limit (or, without one, not told), every answer too.
    """
    depth = plan.settings.depth
    cost = estimate(plan, depth)
    rows = [
        ("questions", f"{cost.questions:,}", f"{cost.questions * queries:,}"),
        ("calls", f"{cost.calls:,}", f"{cost.calls * queries:,}"),
        ("longest chain of calls", f"{cost.chain:,}", f"{cost.chain:,}"),
        ("passages shown", f"{cost.shown:,}", f"{cost.shown * queries:,}"),
    ]
    if len(plan.parts) > 1:
        for name in plan.parts:
            part_cost = cost.parts.get(name, PartCost())
            calls = part_cost.calls
            instead = " instead" if part_cost.alternative else ""
            rows.append((f"calls of {name}{instead}", f"{calls:,}", f"{calls * queries:,}"))
    counted = {name: part for name, part in plan.parts.items() if not cost.parts.get(name, PartCost()).alternative}
    read = [prompt_tokens(part, cost.parts.get(name, PartCost())) for name, part in counted.items()]
    if None not in read:
        total = sum(filter(None, read))
        rows.append(("prompt tokens, at most", f"{total:,}", f"{total * queries:,}"))
    written = sum(output_tokens(part, cost.parts.get(name, PartCost())) for name, part in counted.items())
    rows.append(("output tokens, at most", f"{written:,}", f"{written * queries:,}"))
    on = " and ".join(dict.fromkeys(f"{part.engine.model.name} on {part.engine.name}" for part in plan.parts.values()))
    exact = all(part.tokens.exact for part in plan.parts.values())
    head = ("", "a query", f"{queries} queries" if queries > 1 else "the run")
    return "\n".join(
        [
            f"{plan.settings.name} with {on}, depth {depth}",
            *(f"{a:<26}{b:>14}{c:>16}" for a, b, c in [head, *rows]),
            *(
                ["a query asks one of the arms; the totals are of the one with the most calls"]
                if len(counted) < len(plan.parts)
                else []
            ),
            f"tokens: {'exact' if exact else 'estimated at three characters a token'}; queries and repairs not counted",
            *(f"warning: {warning}" for warning in dict.fromkeys(plan.warnings)),
        ]
    )


def prompt_tokens(part: SinglePlan, cost: PartCost) -> int | None:
    """Tokens that a reranker reads for a query at most; None where nothing limits a passage."""
    if part.settings.passage_tokens is None:
        return None
    frame = frame_tokens(part.template, part.tokens, cost.shown // max(cost.calls, 1), reserve=False)
    return cost.calls * frame + cost.shown * part.settings.passage_tokens + cost.questions * part.judge.carried_tokens


def output_tokens(part: SinglePlan, cost: PartCost) -> int:
    """Tokens that a reranker writes for a query at most, repairs not counted."""
    return cost.questions * part.judge.written_tokens
