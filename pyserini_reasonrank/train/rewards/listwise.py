"""Rewards of a permutation: ReasonRank's multi-view, GR2's conditional format, DRanker's ranking and coverage."""

from __future__ import annotations

from pyserini_reasonrank.parsing.answer_lists import order_of, permutation
from pyserini_reasonrank.parsing.parts import split
from pyserini_reasonrank.train.rewards.answers import (
    bad_tags,
    blocks_alone,
    exact_order,
    well_formed,
)
from pyserini_reasonrank.train.rewards.measures import ndcg, overlap, ranked_spans, recall, spans
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored


def multiview(rollout: Rollout, *, phi: float = 0.2, gamma: float = 0.1, p: float = 1.0) -> Scored:
    """nDCG@10 + phi Recall@10 + gamma RBO in [0, 1 + phi + gamma]; -1 for a wrong format, 0 for a wrong set of ids.

    ReasonRank, arXiv 2508.07050, section 4.2. RBO compares with ``gold`` if the row has it, else with the gains (see
    ``measures.overlap`` for ``p``). Only the identifiers shown are accepted, each once.
    """
    if rollout.tags and not well_formed(rollout.text):
        return Scored(-1.0, {"format": 0.0, "ids": 0.0, "copied": 0.0})
    order = exact_order(rollout.text, rollout.n)
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
    """The gain in nDCG@10 over the order shown, in [-1, 1], plus the format bonus ``alpha`` under a condition.

    GR2, arXiv 2602.07774, adapted from the rank of one item to nDCG: the bonus is paid if the order improved, or if it
    was perfect and stayed perfect. An unconditional bonus teaches a model to copy its input. An answer that is not a
    complete order keeps the order shown, as in serving. The paper does not give its ``alpha``.
    """
    before = ndcg(range(rollout.n), rollout.gains)
    order = exact_order(rollout.text, rollout.n)
    well = order is not None and (well_formed(rollout.text) or not rollout.tags)
    after = ndcg(order, rollout.gains) if well and order is not None else before
    earned = well and (after > before or before == 1.0 == after)
    parts = {"format": float(well), "copied": float(well and order is not None and copied(order)), "ndcg": after}
    return Scored(after - before + alpha * earned, parts)


def format_bonus(rollout: Rollout) -> Scored:
    """GR2's format reward alone: 1 if the form is right and the order improved or stayed perfect, else 0.

    With ``conditional_format`` at ``alpha`` 0, answer and form have weights of their own.
    """
    paid = conditional_format(rollout, alpha=1.0)
    unpaid = conditional_format(rollout, alpha=0.0)
    return Scored(paid.reward - unpaid.reward, {"format": paid.parts["format"]})


def ranking_coverage(rollout: Rollout) -> Scored:
    """nDCG@20 of the named candidates, plus coverage in [-1, 0], plus format: at most 1, at least -3.

    DRanker, arXiv 2506.21638, as the paper describes it: the published code reads the first line of the answer letter by
    letter and also reads the prompt. Coverage is the share of candidates named, minus 1. Format is -1 unless the text is
    a thought and an answer and nothing else, and -0.25 for each tag that does not occur exactly once. Without an answer,
    ranking and coverage together are -1.
    """
    answer = split(rollout.text).answer
    form = tag_terms(rollout)
    if not (answer or "").strip():
        return Scored(-1.0 + form, {"format": form, "coverage": -1.0, "copied": 0.0})
    order, filled, _ = permutation(order_of(answer or "", rollout.n), rollout.n)
    named = order[: rollout.n - filled]
    coverage = len(named) / rollout.n - 1
    parts = {"ndcg": ndcg(named, rollout.gains, 20), "coverage": coverage, "format": form}
    return Scored(sum(parts.values()), {**parts, "copied": float(not filled and copied(order))})


def tag_terms(rollout: Rollout) -> float:
    """R1-Ranker's terms for the format of an answer, in [-2, 0]; 0 if the prompt does not ask for tags."""
    if not rollout.tags:
        return 0.0
    return -float(not blocks_alone(rollout.text)) - 0.25 * bad_tags(rollout.text)


def copied(order: tuple[int, ...]) -> bool:
    """Whether the answer is the order shown, which a reward must not favour."""
    return order == tuple(range(len(order)))
