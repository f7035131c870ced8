"""The rewards of the releases, rule by rule: the switch ``published`` of ReasonRank's, Rank-R1's and IRanker's.

The careful rewards follow the papers. These follow the released code where it differs: they accept answers that the
careful ones reject (tag words within the thought, a second answer, identifiers of passages that were not shown).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pyserini_reasonrank.judges.published import answer_after_thought, digit_runs, iranker_answer
from pyserini_reasonrank.train.rewards.measures import ndcg, overlap, ranked_spans, recall, spans
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored

_BAD_FORMAT, _BAD_TAG, _NO_ANSWER, _NO_LABEL = -1.0, -0.25, -1.0, -0.5
_PADDED_BLOCKS = re.compile(
    r"<think>\s.*?\s</think>\n<answer>\s.*?\s</answer>$", re.DOTALL | re.MULTILINE
)  # the end of any line
_PADDED_TAGS = tuple(map(re.compile, (r"<think>\s", r"\s</think>\n", r"\n<answer>\s", r"\s</answer>")))


def multiview(rollout: Rollout, *, phi: float = 0.2, gamma: float = 0.1, p: float = 1.0) -> Scored:
    """ReasonRank's reward as its veRL code computes it, in [-1, 1 + phi + gamma].

    The answer is the first block directly after a thought; without one the reward is -1. Every run of digits in it is an
    identifier. The reward is 0 unless there are as many different identifiers as passages. Their values are not checked:
    those above the number of passages are left out of nDCG and recall and match nothing in the overlap, and 0 is the last
    passage. The overlap compares identifiers as text, so 03 is not 3.
    """
    answer = answer_after_thought(rollout.text)
    if answer is None:
        return Scored(-1.0, {"format": 0.0, "ids": 0.0, "copied": 0.0})
    named, n = digit_runs(answer), rollout.n
    ids = _numbers(named) if len(named) == len(set(named)) == n else None
    if ids is None:
        return Scored(0.0, {"format": 1.0, "ids": 0.0, "copied": 0.0})
    shown = [i - 1 if i else n - 1 for i in ids if i <= n]
    order = [*dict.fromkeys(shown[::-1])][::-1]  # a passage named twice keeps its later place, as in a run
    places = {str(place + 1): place for place in range(n)}
    gold = spans(rollout.gains) if rollout.gold is None else ranked_spans(rollout.gold)
    parts = {
        "ndcg": ndcg(order, rollout.gains),
        "recall": recall(order, rollout.gains),
        "overlap": overlap([places.get(name) for name in named], gold, p),
    }
    reward = parts["ndcg"] + phi * parts["recall"] + gamma * parts["overlap"]
    return Scored(reward, {"format": 1.0, "ids": 1.0, "copied": float(order == [*range(n)]), **parts})


def exact_label(rollout: Rollout) -> Scored:
    """Rank-R1's reward as its release computes it: 1 if the first answer directly after a thought is the right label."""
    answer = answer_after_thought(rollout.text)
    best = max(rollout.gains)
    labels = [f"[{place}]" for place, gain in enumerate(rollout.gains, 1) if gain == best]
    return Scored(float(answer is not None and answer.strip() in labels), {"format": float(answer is not None)})


def exclusion(text: str, labels: Sequence[str], targets: Collection[str]) -> Scored:
    """IRanker's reward as its release computes it, of ``text``: the prompt and the answer together.

    1 if the first line of the answer is one of ``labels``, 0 if it is one of ``targets``, -0.5 if it is not a label, -1
    without an answer; -1 if the text does not start with a thought padded by white space; -0.25 for each padded tag that
    does not occur exactly once. A prompt that mentions the tags therefore costs the format and turns the tag term around.
    """
    form = 0.0 if _PADDED_BLOCKS.match(text) else _BAD_FORMAT
    form += _BAD_TAG * sum(len(tag.findall(text)) != 1 for tag in _PADDED_TAGS)
    answer = iranker_answer(text)
    if answer is None:
        return Scored(_NO_ANSWER + form, {"format": form, "kept_target": 0.0})
    label = answer.split("\n")[0]
    if label not in labels:
        return Scored(_NO_LABEL + form, {"format": form, "kept_target": 0.0})
    kept = float(label not in targets)
    return Scored(kept + form, {"format": form, "kept_target": kept})


def _numbers(names: Sequence[str]) -> list[int] | None:
    """The identifiers as integers; None if a digit is not decimal, such as a superscript, or a number is too long."""
    try:
        return [int(name) for name in names]
    except ValueError:
        return None
