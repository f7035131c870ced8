"""``explain``: what a reranker will ask, computed by its strategy without a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyserini_reasonrank.cli.arguments import command_parser, positive
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.cli.rerank_help import add_rerank_flags, printed_help
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.prompts.fitting import frame_tokens
from pyserini_reasonrank.run.cost import Cost, PartCost, estimate
from pyserini_reasonrank.run.parts import CombinedPlan, Plan, SinglePlan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.rewriting.plan import RewritePlan, planned
from pyserini_reasonrank.settings import flags, layers, rewriters


def main(argv: list[str]) -> int:
    """Print the cost table. Returns the exit status."""
    name, tree, rest = flags.lift(argv)
    rewriter, rewriter_tree, rest = rewriters.lift(rest)
    parser = command_parser(
        "explain",
        "--rerank reasonrank --queries 43",
        "--rerank rank-r1 --rerank.depth 50 --rerank.model rank-r1-7b",
        "--rerank reasonrank --rerank.passage_tokens 512 --queries 1384 --tokens-per-second 5000 --gpus 8 --price 2.5",
        "--rewrite reasoning-query --rerank reasonrank --queries 43",
        usage="--rerank NAME [--rerank.KEY VALUE ...] [--rewrite NAME [--rewrite.KEY VALUE ...]] [--queries num]\n"
        "           [--document-tokens num] [--tokens-per-second num [--gpus num] [--price num]]",
    )
    parser.add_argument("--queries", type=positive(int), default=1, metavar="num", help="queries of the run [1]")
    _add_budget_flags(parser)
    parser.add_argument(
        "--document-tokens", type=positive(int), metavar="num",
        help="tokens of the longest document, to count segments by it [as many segments as may be judged]",
    )  # fmt: skip
    add_rerank_flags(parser)
    if printed_help(parser, name, tree, rest):
        return SUCCESS
    options = parser.parse_args(rest)
    budget = _budget(options)
    if options.document_tokens is not None and name is None and rewriter is not None:
        raise UsageError("--document-tokens counts the segments of a reranker: add --rerank NAME")
    rewriting = planned(rewriter, rewriter_tree, here=False) if rewriter is not None else None
    tables = [rewriting_table(rewriting, options.queries, budget)] if rewriting else []
    if name is not None or not tables:
        reranking = plan(*layers.load(name, tree, here=False), here=False)
        if options.document_tokens is not None:
            reranking = _of_length(reranking, options.document_tokens)
        tables.append(cost_table(reranking, options.queries, budget))
    print("\n\n".join(tables))
    return SUCCESS


def _of_length(planned: Plan, tokens: int) -> Plan:
    """``planned`` for documents of ``tokens`` tokens: they have no more segments than that. UsageError without segments."""
    if all(part.settings.segments is None for part in planned.parts.values()):
        raise UsageError("--document-tokens needs documents in segments: set --rerank.segments.tokens")
    return _with_most(planned, tokens)


def _with_most(planned: Plan, tokens: int) -> Plan:
    if isinstance(planned, CombinedPlan):
        arms = {name: _with_most(arm, tokens) for name, arm in planned.arms.items()}
        return replace(planned, arms=arms, costs={})
    segments = planned.settings.segments
    if segments is None:
        return planned
    fewer = segments.model_copy(update={"most": segments.count(tokens)})
    return replace(planned, settings=planned.settings.model_copy(update={"segments": fewer}), costs={})


@dataclass(frozen=True, slots=True)
class Budget:
    """The user's measurements: tokens, read and written, per second and GPU; GPUs; the price of a GPU for an hour."""

    tokens_per_second: float
    gpus: int = 1
    price: float | None = None


def _add_budget_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokens-per-second",
        type=positive(float),
        metavar="num",
        help="tokens that a GPU reads and writes in a second, as you measured it; the table then has hours",
    )
    parser.add_argument("--gpus", type=positive(int), metavar="num", help="GPUs that share the calls [1]")
    parser.add_argument(
        "--price", type=positive(float), metavar="num", help="price of a GPU for an hour, in any currency"
    )


def _budget(options: argparse.Namespace) -> Budget | None:
    """The budget that the flags describe. UsageError for flags that need a speed, without one."""
    if options.tokens_per_second is None:
        if given := [flag for flag in ("gpus", "price") if getattr(options, flag) is not None]:
            raise UsageError(f"--{given[0]} needs --tokens-per-second, the speed of a GPU")
        return None
    return Budget(options.tokens_per_second, options.gpus or 1, options.price)


def cost_table(plan: Plan, queries: int, budget: Budget | None = None) -> str:
    """Calls and tokens, and hours with a ``budget``, for one query of ``depth`` candidates and for ``queries`` of them.

    Tokens are upper bounds: every passage and every answer is as long as its limit. Without a limit on passages there
    is no row for prompt tokens. UsageError for a budget without such a limit.
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
    if budget is not None:
        if None in read:
            raise UsageError("--tokens-per-second needs a limit on passages: set --rerank.passage_tokens")
        rows += _budget_rows(total + written, queries, budget)
    on = " and ".join(dict.fromkeys(f"{part.engine.model.name} on {part.engine.name}" for part in plan.parts.values()))
    exact = all(part.tokens.exact for part in plan.parts.values())
    return "\n".join(
        [
            f"{plan.settings.name} with {on}, depth {depth}",
            *_aligned(rows, queries),
            *(
                ["a query uses one of the arms; the totals are for the arm with the most calls"]
                if len(counted) < len(plan.parts)
                else []
            ),
            *_counted_for(cost, depth),
            *_segments_of(plan),
            _counted_how(exact),
            *(f"warning: {warning}" for warning in dict.fromkeys(plan.warnings)),
        ]
    )


def rewriting_table(plan: RewritePlan, queries: int, budget: Budget | None = None) -> str:
    """Calls and tokens, and hours with a ``budget``, of rewriting one query and ``queries`` of them; bounds as above.

    UsageError for a budget without a limit on the passages that later rounds show.
    """
    rounds = plan.settings.rounds
    shown = (rounds - 1) * plan.settings.depth
    rows = [
        ("calls", f"{rounds:,}", f"{rounds * queries:,}"),
        ("searches", f"{rounds:,}", f"{rounds * queries:,}"),
        ("passages shown", f"{shown:,}", f"{shown * queries:,}"),
    ]
    read, written = plan.prompt_tokens, plan.output_tokens
    if read is not None:
        rows.append(("prompt tokens, at most", f"{read:,}", f"{read * queries:,}"))
    rows.append(("output tokens, at most", f"{written:,}", f"{written * queries:,}"))
    if budget is not None:
        if read is None:
            raise UsageError("--tokens-per-second needs a limit on passages: set --rewrite.passage_tokens")
        rows += _budget_rows(read + written, queries, budget)
    engine = plan.part.engine
    return "\n".join([
        f"{plan.settings.name} with {engine.model.name} on {engine.name}, before the search",
        *_aligned(rows, queries),
        _counted_how(plan.part.tokens.exact),
        *(f"warning: {warning}" for warning in plan.warnings),
    ])  # fmt: skip


def _aligned(rows: Sequence[tuple[str, str, str]], queries: int) -> list[str]:
    head = ("", "a query", f"{queries} queries" if queries > 1 else "the run")
    return [f"{a:<26}{b:>14}{c:>16}" for a, b, c in [head, *rows]]


def _counted_how(exact: bool) -> str:
    return f"tokens: {'exact' if exact else 'estimated at three characters a token'}; without queries and repairs"


def _budget_rows(tokens: int, queries: int, budget: Budget) -> list[tuple[str, str, str]]:
    """The rows of the table on time and price for ``tokens`` a query."""
    hours = tokens / budget.tokens_per_second / 3600
    rows = [("GPU hours, at most", _amount(hours), _amount(hours * queries))]
    if budget.gpus > 1:
        on = f"hours on {budget.gpus} GPUs, at most"
        rows.append((on, "", _amount(hours * queries / budget.gpus)))  # the calls of one query depend on one another
    if budget.price is not None:
        rows.append(("price, at most", _amount(hours * budget.price), _amount(hours * queries * budget.price)))
    return rows


def _amount(value: float) -> str:
    """``value`` with two decimal places, or as many as its first two digits need."""
    return f"{value:,.2f}" if value >= 0.1 or not value else f"{value:.2g}"


def _counted_for(cost: Cost, depth: int) -> list[str]:
    """A line if the cost is counted for fewer candidates than the depth."""
    if cost.candidates == depth:
        return []
    return [
        f"counted for {cost.candidates:,} candidates: a cost for more is not computed, and a query with more costs more"
    ]


def _segments_of(plan: Plan) -> list[str]:
    """A line for each reranker that judges segments: for how many of a document the cost is counted."""
    judged = {name: found for name, part in plan.parts.items() if (found := part.settings.segments) is not None}
    return [
        f"{f'{name}: ' if name else ''}counted for {found.judged} segment{'s' * (found.judged != 1)} of every document; "
        "shorter documents have fewer"
        for name, found in judged.items()
    ]


def prompt_tokens(part: SinglePlan, cost: PartCost) -> int | None:
    """Upper bound on the tokens a reranker reads for a query; None if passages have no limit."""
    if (shown := part.settings.shown_tokens) is None:
        return None
    frame = frame_tokens(part.template, part.tokens, cost.shown // max(cost.calls, 1), reserve=False)
    return cost.calls * frame + cost.shown * shown + cost.questions * part.judge.carried_tokens


def output_tokens(part: SinglePlan, cost: PartCost) -> int:
    """Upper bound on the tokens a reranker writes for a query, without repairs."""
    return cost.questions * part.judge.written_tokens
