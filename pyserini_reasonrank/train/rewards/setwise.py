"""Rewards of one chosen passage: Rank-R1's exact label, IRanker's step-wise exclusion."""

from __future__ import annotations

from pyserini_reasonrank.parsing import read_label
from pyserini_reasonrank.parsing.parts import split
from pyserini_reasonrank.records import Completion, Status
from pyserini_reasonrank.train.rewards.answers import exact_label as labelled
from pyserini_reasonrank.train.rewards.answers import well_formed
from pyserini_reasonrank.train.rewards.listwise import tag_terms
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored


def exact_label(rollout: Rollout) -> Scored:
    """1 if the format is right and the answer is the label of a best passage and nothing else, else 0.

    Rank-R1, arXiv 2503.06034, section 3.2. Any passage with the highest gain is right.
    """
    position = labelled(rollout.text, rollout.n, tags=rollout.tags)
    right = position is not None and rollout.gains[position] == max(rollout.gains)
    return Scored(float(right), {"format": float(well_formed(rollout.text) or not rollout.tags)})


def exclusion(rollout: Rollout) -> Scored:
    """1 for dropping a passage that is not a target, 0 for dropping a target, -0.5 for an answer that is not one label.

    IRanker, arXiv 2506.21638, as the paper describes it: the reward reads only the answer, including the prefill. The
    label of a passage, or its name if the row has ``choices``, must be the whole answer, although serving also finds it
    among words. A missing answer has the reward -1. The format terms (``listwise.tag_terms``) are added. The targets are
    the passages with the highest gain.
    """
    form = tag_terms(rollout)
    if not (split(rollout.text).answer or "").strip():
        return Scored(-1.0 + form, {"format": form, "kept_target": 0.0})
    position = _dropped(rollout)
    if position is None:
        return Scored(-0.5 + form, {"format": form, "kept_target": 0.0})
    kept = float(rollout.gains[position] < max(rollout.gains))
    return Scored(kept + form, {"format": form, "kept_target": kept})


def _dropped(rollout: Rollout) -> int | None:
    """The position that the answer drops; None unless the answer is one label, or one name of ``choices``."""
    if rollout.choices:
        name = (split(rollout.text).answer or "").strip()
        return rollout.choices.index(name) if name in rollout.choices else None
    position, judgement = read_label(Completion(rollout.text), rollout.n, tags=rollout.tags)
    return position if judgement.status is Status.OK else None
