"""The report of a router training: each arm, the cross-validated router, and the best arm for each query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyserini_reasonrank.ir.significance import t_test
from pyserini_reasonrank.ir.tables import table
from pyserini_reasonrank.train.router.arm_rewards import Config
from pyserini_reasonrank.train.router.classifier import Array, Examples


class ArmComparison:
    """Quality, cost and reward of each arm, of the router on held-out queries, and of the best arm for each query."""

    def __init__(self, config: Config, examples: Examples, chosen: Sequence[int]) -> None:
        self.config, self.examples = config, examples
        every = np.arange(len(examples))
        self.router = np.array(chosen)
        self.rows: dict[str, Array] = {arm: np.full(len(examples), i) for i, arm in enumerate(examples.arms)}
        self.best = max(examples.arms, key=lambda arm: self.rewards(self.rows[arm]).mean())
        self.rows |= {f"router, {config.folds} folds": self.router}
        self.rows |= {"best arm of each query": examples.rewards[every].argmax(axis=1)}

    def rewards(self, arms: Any) -> Array:
        """The reward of each query with its arm in ``arms`` (indices)."""
        rewards: Array = self.examples.rewards[np.arange(len(self.examples)), arms]
        return rewards

    def figures(self, arms: Any) -> dict[str, float]:
        """The mean quality, cost and reward over the queries."""
        quality = self.examples.quality[np.arange(len(self.examples)), arms]
        means = quality.mean(), self.examples.costs[arms].mean(), self.rewards(arms).mean()
        return dict(zip((self.config.measure, self.config.unit, "reward"), map(float, means), strict=True))

    def __str__(self) -> str:
        names, unit = self.examples.arms, self.config.unit
        lines = []
        for name, arms in self.rows.items():
            quality, cost, reward = self.figures(arms).values()
            shares = [f"{np.mean(arms == i):.0%}" for i in range(len(names))]
            lines.append((name, f"{quality:.4f}", f"{cost:,.1f}", f"{reward:.4f}", *shares))
        header = ("", self.config.measure, f"{unit} a query", "reward", *(f"to {name}" for name in names))
        difference = self.rewards(self.router) - self.rewards(self.rows[self.best])
        p = t_test(difference.tolist())
        verdict = (
            f"{difference.mean():+.4f} against {self.best} alone, the best single arm (paired t-test: p = {p:.3g})"
        )
        return f"{table(header, lines)}\nreward    {verdict}"
