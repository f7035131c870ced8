"""``explain``: what a reranker will ask, computed by its strategy without a model."""

from __future__ import annotations

from pyserini_reasonrank.cli.arguments import command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.cli.rerank_help import add_rerank_flags, printed_help
from pyserini_reasonrank.prompts.fitting import frame_tokens
from pyserini_reasonrank.run.cost import Cost, PartCost, estimate
from pyserini_reasonrank.run.parts import Plan, SinglePlan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import flags, layers


def main(argv: list[str]) -> int:
    """Print the cost table. Returns the exit status."""
    name, tree, rest = flags.lift(argv)
    parser = command_parser(
        "explain",
        "--rerank reasonrank --queries 43",
        "--rerank rank-r1 --rerank.depth 50 --rerank.model rank-r1-7b",
        usage="--rerank NAME [--rerank.KEY VALUE ...] [--queries num]",
    )
    parser.add_argument("--queries", type=int, default=1, metavar="num", help="queries of the run [1]")
    add_rerank_flags(parser)
    if printed_help(parser, name, tree, rest):
        return SUCCESS
    options = parser.parse_args(rest)
    print(cost_table(plan(*layers.load(name, tree), here=False), options.queries))
    return SUCCESS


def cost_table(plan: Plan, queries: int) -> str:
    """Calls and tokens, for one query of ``depth`` candidates and for ``queries`` of them.

    Tokens are upper bounds: every passage and every answer is as long as its limit. Without a limit on passages there
    is no row for prompt tokens.
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
                ["a query uses one of the arms; the totals are for the arm with the most calls"]
                if len(counted) < len(plan.parts)
                else []
            ),
            *_counted_for(cost, depth),
            f"tokens: {'exact' if exact else 'estimated at three characters a token'}; without queries and repairs",
            *(f"warning: {warning}" for warning in dict.fromkeys(plan.warnings)),
        ]
    )


def _counted_for(cost: Cost, depth: int) -> list[str]:
    """A line if the cost is counted for fewer candidates than the depth."""
    if cost.candidates == depth:
        return []
    return [f"counted for {cost.candidates:,} candidates: a cost for more is not computed, and few runs have more"]


def prompt_tokens(part: SinglePlan, cost: PartCost) -> int | None:
    """Upper bound on the tokens a reranker reads for a query; None if passages have no limit."""
    if part.settings.passage_tokens is None:
        return None
    frame = frame_tokens(part.template, part.tokens, cost.shown // max(cost.calls, 1), reserve=False)
    return cost.calls * frame + cost.shown * part.settings.passage_tokens + cost.questions * part.judge.carried_tokens


def output_tokens(part: SinglePlan, cost: PartCost) -> int:
    """Upper bound on the tokens a reranker writes for a query, without repairs."""
    return cost.questions * part.judge.written_tokens
