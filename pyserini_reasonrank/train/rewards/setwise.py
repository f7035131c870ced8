"""Rewards of one choice: Rank-R1's exact label, IRanker's step-wise exclusion."""

from __future__ import annotations

from pyserini_reasonrank.parsing import read_label, split
from pyserini_reasonrank.records import Completion, Status
from pyserini_reasonrank.train.rewards.answers import exact_label as labelled
from pyserini_reasonrank.train.rewards.answers import formed
from pyserini_reasonrank.train.rewards.listwise import tag_terms
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored


def exact_label(rollout: Rollout) -> Scored:
    """1 if the form is right and the answer is the label of a best passage and nothing else, else 0.

    Rank-R1, arXiv 2503.06034, section 3.2. Of passages that share the highest gain any is right.
    """
    position = labelled(rollout.text, rollout.n, tags=rollout.tags)
    right = position is not None and rollout.gains[position] == max(rollout.gains)
    return Scored(float(right), {"format": float(formed(rollout.text) or not rollout.tags)})


def exclusion(rollout: Rollout) -> Scored:
    """1 for dropping a passage that is not the target, 0 for dropping the target, -0.5 for anything but one label.

    IRanker, arXiv 2506.21638, as it was meant: on the answer alone, prefill included. The label of a passage shown has to
    be the whole answer, although serving finds it among words. -1 stands for no answer at all; the form's terms
    (``listwise.tag_terms``) are added. The targets are the passages of the highest gain.
    """
    form = tag_terms(rollout)
    if not (split(rollout.text).answer or "").strip():
        return Scored(-1.0 + form, {"format": form, "kept_target": 0.0})
    position, judgement = read_label(Completion(rollout.text), rollout.n, tags=rollout.tags)
    if position is None or judgement.status is not Status.OK:
        return Scored(-0.5 + form, {"format": form, "kept_target": 0.0})
    kept = float(rollout.gains[position] < max(rollout.gains))
    return Scored(kept + form, {"format": form, "kept_target": kept})
