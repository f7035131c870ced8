"""``threshold``: the threshold of ``--rerank.keep relevant``, chosen on judged queries."""

from __future__ import annotations

from pathlib import Path

from pyserini_reasonrank.cli.arguments import command_parser, positive
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.ir.thresholds import KeptAt, Scored, best_threshold, kept_at
from pyserini_reasonrank.journal_reader import rankings
from pyserini_reasonrank.run.named_inputs import local_file
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.recorded_run import RecordedRun, recorded_run, restored


def main(argv: list[str]) -> int:
    """Print the best threshold, and what it keeps. Returns the exit status."""
    parser = command_parser("threshold", "run.txt --qrels qrels.train.txt", "run.txt --qrels dl19-passage --relevant 2")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run of a reranker that grades documents")
    parser.add_argument(
        "--qrels", required=True, metavar="path", help="judgments of its topics: a file, or a name as in evaluate"
    )
    parser.add_argument(
        "--relevant", type=positive(int), default=1, metavar="grade", help="the least relevant grade [1]"
    )
    options = parser.parse_args(argv)
    run = recorded_run(options.run)
    plan = _plan(run)
    low, high = plan.judge.scale or (0.0, 0.0)
    scores = _scores(run, plan.settings.depth)
    with local_file("qrels", options.qrels) as path:
        qrels = read_qrels(path)
    if not scores.keys() & qrels.keys():
        raise UsageError(f"{options.run} has no query that {options.qrels} judges: pass the qrels of its topics")
    best = best_threshold(scores, qrels, options.relevant)
    if best is None or best <= low:
        found = kept_at(low, scores, qrels, options.relevant)
        print(_line("all", found))
        print("No threshold is better than keeping all candidates.")
        return SUCCESS
    for name, threshold in (("all", low), ("default", (low + high) / 2), ("best", best)):
        print(_line(name, kept_at(threshold, scores, qrels, options.relevant)))
    print(f"use      --rerank.keep relevant --rerank.threshold {best!r}")
    return SUCCESS


def _line(name: str, found: KeptAt) -> str:
    empty = f"{found.empty:,} empty" + (
        f", {found.right:,} of the {found.without_relevant:,} without a relevant document"
        if found.without_relevant
        else ""
    )
    return f"{name:<9}threshold {found.threshold:<7.5g} mean F1 {found.f1:.4f} of {found.queries:,} queries; {empty}"


def _plan(run: RecordedRun) -> SinglePlan:
    """The plan of a run. UsageError if its scores mean something for one query only, or if it has none."""
    plan = restored(run).plan
    if not isinstance(plan, SinglePlan) or plan.judge.scale is None:
        raise UsageError(
            f"{run.output} was reranked by {plan.settings.name}, whose scores do not mean the same for all queries: use the run "
            "of a reranker that grades documents, such as rank1, erank, orderchain or grouprank"
        )
    return plan


def _scores(run: RecordedRun, depth: int) -> dict[str, Scored]:
    """The scores of the ``depth`` candidates of each query that were judged, by qid."""
    found: dict[str, Scored] = {}
    for ranking in rankings(run.journal, run=run.name):
        judged = [line for line in ranking["ranking"] if line["first_stage"][0] <= depth]
        found[ranking["qid"]] = {line["docid"]: line.get("score") for line in judged}
    return found
