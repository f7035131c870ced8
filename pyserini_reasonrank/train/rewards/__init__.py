"""Reward functions with TRL's signature. Each has a dotted path: ``trl grpo --reward_funcs
pyserini_reasonrank.train.rewards.multiview``. Settings are keyword arguments: set them with ``functools.partial``.

Each reads the columns ``docids`` and ``gains`` of the rows that ``train data`` writes, and, if the rows have them,
``prefill``, ``tags``, ``kind``, ``qid``, ``gold``, ``grade``, ``choices`` and ``teacher``. The reward of one completion is
a pure function of the same name in a module of this package.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pyserini_reasonrank.train.rewards import listwise, published_rewards, regression, relevance_scores, setwise
from pyserini_reasonrank.train.rewards.rollouts import (
    Rewards,
    Scored,
    Turns,
    completion_text,
    each,
    prompt_text,
    rollouts,
    settle,
)


def multiview(
    prompts: Sequence[Any],
    completions: Sequence[Turns],
    *,
    phi: float = 0.2,
    gamma: float = 0.1,
    p: float = 1.0,
    published: bool = False,
    **columns: Any,
) -> Rewards:
    """ReasonRank: nDCG@10 + phi Recall@10 + gamma RBO; -1 for a wrong format, 0 for wrong ids (``listwise.multiview``).

    ``published`` computes it as the released code does (``published_rewards.multiview``).
    """
    reward = published_rewards.multiview if published else listwise.multiview
    return each("multiview", completions, columns, lambda r: reward(r, phi=phi, gamma=gamma, p=p))


def conditional_format(
    prompts: Sequence[Any], completions: Sequence[Turns], *, alpha: float = 0.1, **columns: Any
) -> Rewards:
    """GR2: the nDCG@10 gained over the order shown, and a format bonus only with a gain (``listwise.conditional_format``)."""
    return each("conditional_format", completions, columns, lambda r: listwise.conditional_format(r, alpha=alpha))


def format_bonus(prompts: Sequence[Any], completions: Sequence[Turns], **columns: Any) -> Rewards:
    """GR2: 1 for the right format if the order gained something, else 0; weighted apart (``listwise.format_bonus``)."""
    return each("format_bonus", completions, columns, listwise.format_bonus)


def ranking_coverage(prompts: Sequence[Any], completions: Sequence[Turns], **columns: Any) -> Rewards:
    """DRanker: nDCG@20 of the named candidates, coverage and format (``listwise.ranking_coverage``)."""
    return each("ranking_coverage", completions, columns, listwise.ranking_coverage)


def exact_label(
    prompts: Sequence[Any], completions: Sequence[Turns], *, published: bool = False, **columns: Any
) -> Rewards:
    """Rank-R1: 1 for the right label in the right format, else 0 (``setwise.exact_label``).

    ``published`` computes it as the released code does (``published_rewards.exact_label``).
    """
    reward = published_rewards.exact_label if published else setwise.exact_label
    return each("exact_label", completions, columns, reward)


def exclusion(
    prompts: Sequence[Any], completions: Sequence[Turns], *, published: bool = False, **columns: Any
) -> Rewards:
    """IRanker: 1 for dropping a passage that is not the target (``setwise.exclusion``).

    ``published`` computes it as the released code does, from the prompt and the answer together
    (``published_rewards.exclusion``). The labels are the row's ``choices``, or else ``[1]``, ``[2]`` and so on.
    """
    if not published:
        return each("exclusion", completions, columns, setwise.exclusion)
    batch = rollouts(completions, columns)
    prefills = columns.get("prefill") or [""] * len(batch)
    scored = []
    for rollout, prompt, completion, prefill in zip(batch, prompts, completions, prefills, strict=True):
        labels = rollout.choices or tuple(f"[{place}]" for place in range(1, rollout.n + 1))
        best = max(rollout.gains)
        targets = [label for label, gain in zip(labels, rollout.gains, strict=True) if gain == best]
        text = prompt_text(prompt, prefill or "") + completion_text(completion)
        scored.append(published_rewards.exclusion(text, labels, targets))
    return settle("exclusion", batch, scored, columns)


def listwise_derived(
    prompts: Sequence[Any],
    completions: Sequence[Turns],
    *,
    top: float = 10.0,
    published: bool = False,
    **columns: Any,
) -> Rewards:
    """ERank: scores rewarded by the ranking they produce (``relevance_scores.listwise_derived``).

    Pools the completions of a query by ``qid``: the sampler must put all candidates of a query into one batch. The
    teacher's score is ``teacher``, or else ``grade``, or else ``top`` for a positive and 0 for a negative. UsageError for
    a ``teacher`` that is not on the scale from 0 to ``top``. With ``published``, positives compete with one another.
    """
    batch = rollouts(completions, columns)
    pools: dict[str, list[int]] = defaultdict(list)
    for place, rollout in enumerate(batch):
        pools[rollout.qid].append(place)
    scored = [Scored(0.0)] * len(batch)
    for places in pools.values():
        pool = [batch[place] for place in places]
        scores = [relevance_scores.score_of(rollout, top) for rollout in pool]
        positive = [rollout.gains[0] > 0 for rollout in pool]
        teacher = [relevance_scores.target(rollout, top) for rollout in pool]
        rewards = relevance_scores.listwise_derived(scores, positive, teacher, top=top, published=published)
        one_sided = float(len(set(positive)) < 2)
        for place, score, reward in zip(places, scores, rewards, strict=True):
            scored[place] = Scored(reward, {"format": float(score is not None), "one_sided_pool": one_sided})
    return settle("listwise_derived", batch, scored, columns)


def regression_ranking(
    prompts: Sequence[Any],
    completions: Sequence[Turns],
    *,
    delta: float = 2.0,
    top: float = 10.0,
    top_gain: float = 1.0,
    valued: bool = False,
    **columns: Any,
) -> Rewards:
    """RARL: values and order in one reward (``regression.regression_ranking``)."""
    return each(
        "regression_ranking",
        completions,
        columns,
        lambda r: regression.regression_ranking(r, delta=delta, top=top, top_gain=top_gain, valued=valued),
    )


def graded(prompts: Sequence[Any], completions: Sequence[Turns], *, top: float = 10.0, **columns: Any) -> Rewards:
    """TFRank: the label and the closeness of the score (``relevance_scores.graded``)."""
    return each("graded", completions, columns, lambda r: relevance_scores.graded(r, top=top))
