"""Rewards of a whole order: ReasonRank's multi-view, GR2's conditional format, DRanker's ranking and coverage."""

from __future__ import annotations

from typing import Literal

from pyserini_reasonrank.parsing import identifiers, permutation, split
from pyserini_reasonrank.train.rewards.answers import (
    bad_tags,
    blocks_alone,
    exact_order,
    formed,
    has_blocks,
    published_order,
)
from pyserini_reasonrank.train.rewards.measures import ndcg, overlap, ranked_spans, recall, spans
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored

Ids = Literal["exact", "counted"]


def multiview(rollout: Rollout, *, phi: float = 0.2, gamma: float = 0.1, p: float = 1.0, ids: Ids = "exact") -> Scored:
    """nDCG@10 + phi Recall@10 + gamma RBO in [0, 1 + phi + gamma]; -1 for a wrong form, 0 for a wrong set of ids.

    ReasonRank, arXiv 2508.07050, section 4.2. RBO is against ``gold`` where the row has it, else against the gains
    (see ``measures.overlap`` for ``p``). ``ids="counted"`` opens the hole of the published code
    (``answers.published_order``); ``exact`` takes nothing but the identifiers shown, each once.
    """
    counted = ids == "counted"
    if rollout.tags and not (has_blocks(rollout.text) if counted else formed(rollout.text)):
        return Scored(-1.0, {"format": 0.0, "ids": 0.0, "copied": 0.0})
    order = (published_order if counted else exact_order)(rollout.text, rollout.n)
    if order is None:
        return Scored(0.0, {"format": 1.0, "ids": 0.0, "copied": 0.0})
    gold = spans(rollout.gains) if rollout.gold is None else ranked_spans(rollout.gold)
    parts = {
        "ndcg": ndcg(order, rollout.gains),
        "recall": recall(order, rollout.gains),
        "overlap": overlap(order, gold, p),
    }
    reward = parts["ndcg"] + phi * parts["recall"] + gamma * parts["overlap"]
    return Scored(reward, {"format": 1.0, "ids": 1.0, "copied": float(copied(order)), **parts})


def conditional_format(rollout: Rollout, *, alpha: float = 0.1) -> Scored:
    """The gain in nDCG@10 over the order shown, in [-1, 1], plus ``alpha`` for the form only where it is earned.

    GR2, arXiv 2602.07774, carried over from the rank of one item to nDCG: the bonus is paid if the order became
    better, or was perfect and still is as good. Paid without condition it teaches a model to copy its input. An answer
    that is no whole order leaves the order shown, as serving does. ``alpha``: the paper's value is not known.
    """
    before = ndcg(range(rollout.n), rollout.gains)
    order = exact_order(rollout.text, rollout.n)
    well = order is not None and (formed(rollout.text) or not rollout.tags)
    after = ndcg(order, rollout.gains) if well and order is not None else before
    earned = well and (after > before or before == 1.0 == after)
    parts = {"format": float(well), "copied": float(well and order is not None and copied(order)), "ndcg": after}
    return Scored(after - before + alpha * earned, parts)


def ranking_coverage(rollout: Rollout) -> Scored:
    """nDCG@20 of the candidates named, plus coverage in [-1, 0], plus form: at most 1, at least -3.

    DRanker, arXiv 2506.21638, as it was meant: the published code reads the first line of the answer letter by letter
    and looks at the prompt as well. Coverage is the share of candidates named, less one. Form: -1 unless the text is a
    thought and an answer and nothing else, and -0.25 for each tag that does not occur exactly once. Without any
    answer -1 stands for ranking and coverage.
    """
    answer = split(rollout.text).answer
    form = tag_terms(rollout)
    if not (answer or "").strip():
        return Scored(-1.0 + form, {"format": form, "coverage": -1.0, "copied": 0.0})
    order, filled, _ = permutation(identifiers(answer or ""), rollout.n)
    named = order[: rollout.n - filled]
    coverage = len(named) / rollout.n - 1
    parts = {"ndcg": ndcg(named, rollout.gains, 20), "coverage": coverage, "format": form}
    return Scored(sum(parts.values()), {**parts, "copied": float(not filled and copied(order))})


def tag_terms(rollout: Rollout) -> float:
    """R1-Ranker's terms for the form of an answer, in [-2, 0]; 0 where the prompt asks for no tags."""
    if not rollout.tags:
        return 0.0
    return -float(not blocks_alone(rollout.text)) - 0.25 * bad_tags(rollout.text)


def copied(order: tuple[int, ...]) -> bool:
    """Whether the answer is the order shown: the easy way out that a reward must not pay for."""
    return order == tuple(range(len(order)))
