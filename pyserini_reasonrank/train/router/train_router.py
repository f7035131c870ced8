"""Train a router that chooses a reranker for each query, from the runs of several rerankers on judged queries.

Zooter (arXiv 2311.08692) for ranking: the reward of an arm is its nDCG@10 minus its weighted cost, and the router learns
the softmax of the rewards from features that need no LLM, and from the vector of a sentence encoder if one is named. The
printed figures are from held-out queries in cross-validation.
"""

from __future__ import annotations

from typing import Any

from pyserini_reasonrank.ir.metadata import sha256
from pyserini_reasonrank.train.router.arm_rewards import Config, check_arms, read
from pyserini_reasonrank.train.router.classifier import Examples, Fit, check, cross_validated, train
from pyserini_reasonrank.train.router.comparison import ArmComparison


def run(config: Config) -> None:
    """Train the router, evaluate it by cross-validation, and write it. UsageError for files that can't be used."""
    check_arms(config)
    examples, left_out = read(config)
    check(examples, str(config.run), config.depth)
    fit = Fit(config.temperature, config.beta, config.C, config.depth, config.threshold, config.fallback,
              config.encoder, config.features)  # fmt: skip
    choices = cross_validated(examples, fit, config.folds, config.seed)
    chosen = [examples.arms.index(choice.arm) for choice in choices]
    rows = list(range(len(examples)))
    report = ArmComparison(config, examples, chosen)
    router = train(examples, rows, fit, _facts(config, examples, report))
    router.write(config.output)
    fallback = sum(choice.unsure for choice in choices)
    print(
        f"queries   {len(examples)} judged, with hits in {config.run}" + (f"; {left_out} without" if left_out else "")
    )
    print(report)
    print(
        f"unsure    {fallback} held-out queries below {config.threshold:g} went to the fallback; it is {router.fallback}"
    )
    print(f"router    {config.output}")


def _facts(config: Config, examples: Examples, report: ArmComparison) -> dict[str, Any]:
    """The provenance of the router, which its file records."""
    files = {"topics": config.topics, "qrels": config.qrels, "first stage": config.run} | config.arms
    return {
        "files": {name: {"path": str(path), "sha256": sha256(path)} for name, path in files.items()},
        "queries": len(examples),
        **config.model_dump(
            include={"mu", "measure", "unit", "features", "temperature", "tags", "beta", "C", "folds", "seed"}
        ),
        "costs": dict(zip(examples.arms, examples.costs.tolist(), strict=True)),
        "figures": {name: report.figures(arms) for name, arms in report.rows.items()},
    }
