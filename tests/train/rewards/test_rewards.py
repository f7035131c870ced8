"""Rewards: the published golden values, and what holds of every one of them whatever the answer."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, permutations
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges.best import Best
from pyserini_reasonrank.judges.permutation import Permutation
from pyserini_reasonrank.judges.worst import Worst
from pyserini_reasonrank.records import Sampling
from pyserini_reasonrank.train import rewards
from pyserini_reasonrank.train.experimental.rarl import mutated
from pyserini_reasonrank.train.rewards import listwise, published_rewards, regression, relevance_scores, setwise
from pyserini_reasonrank.train.rewards.measures import concordance, ndcg, overlap, ranked_spans, recall, spans
from pyserini_reasonrank.train.rewards.reference import right_orders
from pyserini_reasonrank.train.rewards.rollouts import Rollout, Scored, flat_groups

Reward = Callable[[Rollout], Scored]


def listed(order: Sequence[int]) -> str:
    """A list of positions (from 0) as a model writes it."""
    return " > ".join(f"[{i + 1}]" for i in order)


def said(answer: str) -> str:
    return f"<think>so</think>\n<answer>{answer}</answer>"


def rollout(answer: str, gains: Sequence[float], **fields: Any) -> Rollout:
    return Rollout(text=said(answer), gains=tuple(gains), docids=tuple(f"d{i}" for i in range(len(gains))), **fields)


def gold_of(*ids: int) -> tuple[int, ...]:
    return tuple(i - 1 for i in ids)


# --- golden values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "gold", "relevant", "reward"),
    [
        ((1, 3, 2, 4), (3, 1, 2, 4), {3}, 0.90593),
        (tuple(range(1, 21)), tuple(range(1, 21)), {1, 5, 12}, 0.88415),
        (tuple(range(20, 0, -1)), tuple(range(1, 21)), {1, 5, 12}, 0.24106),
    ],
)
@pytest.mark.parametrize("multiview", [listwise.multiview, published_rewards.multiview])
def test_reasonrank_published_values(
    predicted: tuple[int, ...], gold: tuple[int, ...], relevant: set[int], reward: float, multiview: Reward
) -> None:
    gains = [float(i + 1 in relevant) for i in range(len(gold))]
    found = multiview(rollout(listed(gold_of(*predicted)), gains, gold=gold_of(*gold)))
    assert found.reward == pytest.approx(reward, abs=5e-6)


def test_two_relevant_of_twenty_why_there_are_several_views() -> None:
    spread, together = [0.0] * 20, [0.0] * 20
    spread[0] = spread[10] = together[8] = together[9] = 1.0
    assert ndcg(range(20), spread) == pytest.approx(0.6131, abs=5e-5)
    assert ndcg(range(20), together) == pytest.approx(0.3618, abs=5e-5)
    assert (recall(range(20), spread), recall(range(20), together)) == (0.5, 1.0)


def test_average_overlap_published_values() -> None:
    same = ranked_spans(range(20))
    assert overlap(range(20), same) == pytest.approx(1.0)
    assert overlap(range(19, -1, -1), same) == pytest.approx(0.3312, abs=5e-5)
    assert overlap(range(20), same, p=0.9) == pytest.approx(0.878, abs=5e-4)


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>a</think>\n<answer>[2]</answer>", 1.0),
        ("<think>\na\n</think>\n<answer>\n[2]\n</answer>", 1.0),
        ("<think>a</think>\n<answer>[1]</answer>", 0.0),  # the target
        ("<think>a</think>\n<answer>[3]</answer>", -0.5),
        ("<think>a</think>\n<answer>the second</answer>", -0.5),
        ("<think>a</think>\n<answer>I drop [2], the worst</answer>", -0.5),  # which serving would mend
        ("<think>a</think>\n<answer>[2] [2]</answer>", -0.5),
        ("<think>a</think>\n<answer>2</answer>", -0.5),
        ("<answer>[2]</answer>", 1.0 - 1 - 0.25 * 2),
        ("<think>a</think>\n<answer>[2]</answer> I am sure", 0.0),
        ("<think>a</think>\n<answer>[2]</answer></answer>", 1.0 - 0.25),
        ("<think>a</think>\n<answer> </answer>", -1.0),
        ("<think>never ends", -1.0 - 1 - 0.25 * 3),
    ],
)
def test_iranker_corrected_values(text: str, reward: float) -> None:
    assert setwise.exclusion(Rollout(text, (1.0, 0.0))).reward == pytest.approx(reward)


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("[2]\n[1]\n[3]", 1.0),
        ("[3]\n[1]\n[2]", 0.5),
        ("[2]", 1 - 2 / 3),
        ("[2]\n[2]\n[2]", 1 - 2 / 3),
        ("[1]\n[9]", -2 / 3),
        ("none", -1.0),
        ("", -1.0),
    ],
)
def test_dranker_ranks_and_covers(answer: str, reward: float) -> None:
    assert listwise.ranking_coverage(rollout(answer, (0.0, 1.0, 0.0))).reward == pytest.approx(reward)


def test_dranker_tells_the_perfect_order_from_the_worst() -> None:
    perfect, worst = (listwise.ranking_coverage(rollout(listed(o), (1, 0, 0, 0))) for o in (range(4), (3, 2, 1, 0)))
    assert perfect.reward > worst.reward + 0.5


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (said("[2]"), 1.0),
        (said(" [2] "), 1.0),
        (said("[1]"), 0.0),
        (said("2"), 0.0),
        (said("[2]."), 0.0),
        (said("[2] [1]"), 0.0),
        ("<answer>[2]</answer>", 0.0),
        ("[2]", 0.0),
    ],
)
def test_rank_r1_takes_the_exact_label_in_the_exact_form(text: str, reward: float) -> None:
    assert setwise.exact_label(Rollout(text, (0.0, 1.0, 0.0))).reward == reward


def test_rank_r1_without_a_thought_where_the_prompt_asks_for_none() -> None:
    assert setwise.exact_label(Rollout("[2]", (0.0, 1.0), tags=False)).reward == 1.0
    assert setwise.exact_label(Rollout("it is [2]", (0.0, 1.0), tags=False)).reward == 0.0


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("[1] > [2] > [3]", -1.0),
        ("<think>a</think> well <answer>[1] > [2] > [3]</answer>", -1.0),
        ("<think>a</think><answer>[1] > [2] > [3]", -1.0),
        ("<think>a</think><answer>[1] > [2]</answer>", 0.0),
        ("<think>a</think><answer>[1] > [2] > [2]</answer>", 0.0),
        ("<think>a</think><answer>[1] > [2] > [4]</answer>", 0.0),
        ("<think>a</think><answer>[0] > [1] > [2]</answer>", 0.0),
        ("<think>a</think><answer>[1] > [2] > [3] > [3]</answer>", 0.0),
        ("<think>a</think><answer>[1] > [2] > [3]</answer><answer>[3] > [2] > [1]</answer>", -1.0),
    ],
)
def test_reasonrank_forms_that_earn_nothing(text: str, reward: float) -> None:
    assert listwise.multiview(Rollout(text, (1.0, 0.0, 0.0))).reward == reward


def test_the_published_hole_is_a_switch() -> None:
    gains = (0.0, 0.0, 1.0)
    through = rollout("[0] > [8] > [9]", gains)  # id 0 is read as the last passage, the strays as nothing
    assert listwise.multiview(through).reward == 0.0
    assert published_rewards.multiview(through).reward == pytest.approx(1 + 0.2)  # the overlap has none of these ids
    twice = rollout("[0] > [3] > [1]", gains)
    assert published_rewards.multiview(twice).parts["ndcg"] == 1.0
    assert published_rewards.multiview(rollout("[3] > [1]", gains)).reward == 0.0


def test_a_list_without_tags_where_the_prompt_asks_for_none() -> None:
    bare = Rollout(listed((1, 0)), (0.0, 1.0), tags=False)
    assert listwise.multiview(bare).reward == pytest.approx(1.3)
    assert listwise.multiview(Rollout("no idea", (0.0, 1.0), tags=False)).reward == 0.0


def test_gr2_pays_for_the_form_only_where_the_order_became_better_or_was_perfect() -> None:
    gains = (0.0, 1.0, 0.0)
    pay = partial(listwise.conditional_format, alpha=0.25)
    before = ndcg(range(3), gains)
    assert pay(rollout("[2] > [1] > [3]", gains)).reward == pytest.approx(1 - before + 0.25)
    assert pay(rollout("[1] > [2] > [3]", gains)).reward == 0.0  # copied
    assert pay(rollout("[1] > [3] > [2]", gains)).reward == pytest.approx(0.5 - before)
    assert pay(rollout("[2]", gains)).reward == 0.0  # malformed: the order shown stays
    assert pay(Rollout("[2] > [1] > [3]", gains)).reward == 0.0
    assert pay(rollout("[1] > [2] > [3]", (1.0, 0.0, 0.0))).reward == 0.25
    assert pay(rollout("[2] > [1] > [3]", (1.0, 0.0, 0.0))).reward < 0


def test_gr2s_rewards_of_answer_and_form_add_up_to_the_one() -> None:
    gains = (0.0, 1.0, 0.0)
    for text in (
        said("[2] > [1] > [3]"),
        said("[1] > [2] > [3]"),
        said("[3] > [1] > [2]"),
        "[2] > [1] > [3]",
        said("?"),
    ):
        whole = listwise.conditional_format(Rollout(text, gains), alpha=0.3).reward
        gained = listwise.conditional_format(Rollout(text, gains), alpha=0.0).reward
        assert gained + 0.3 * listwise.format_bonus(Rollout(text, gains)).reward == pytest.approx(whole)
    assert listwise.format_bonus(Rollout(said("[2] > [1] > [3]"), gains)).reward == pytest.approx(1.0)
    assert listwise.format_bonus(Rollout(said("[1] > [2] > [3]"), gains)).reward == 0.0


def test_erank_pools_all_rollouts_of_a_query() -> None:
    scores = [9.0, 4.0, 6.0, 2.0, None, 0.0]
    positive = [True, True, False, False, False, False]
    found = relevance_scores.listwise_derived(scores, positive, [10, 10, 0, 1, 0, 0])
    assert found == pytest.approx([1.0, 0.5, -0.5, 0.5 * (1 - 0.01), -1.0, 0.5])
    found = relevance_scores.listwise_derived(scores, positive, [10, 10, 0, 1, 0, 0], published=True)
    assert found == pytest.approx([1.0, 1 / 3, -0.5, 0.5 * (1 - 0.01), -1.0, 0.5])  # the third of all


def test_erank_equal_scores_are_not_above_one_another() -> None:
    assert relevance_scores.listwise_derived([4.0, 4.0], [True, False], [10, 4]) == pytest.approx([1.0, 0.5])
    assert relevance_scores.listwise_derived([4.0, 4.0], [True, True], [10, 10], published=True) == [1.0, 1.0]
    assert relevance_scores.listwise_derived([4.0, 4.0, 4.0], [False] * 3, [4, 4, 9]) == pytest.approx(
        [0.5, 0.5, 0.375]
    )


def test_erank_reads_the_whole_batch_by_query() -> None:
    found = rewards.listwise_derived(
        [],
        [said("3"), said("5"), said("2"), said("12")],
        docids=[["a"], ["b"], ["a"], ["b"]],
        gains=[[1.0], [0.0], [1.0], [0.0]],
        qid=["q1", "q1", "q2", "q2"],
    )
    assert found == pytest.approx([0.5, -0.5, 1.0, -1.0])


def test_a_teacher_of_another_scale_is_refused_where_it_is_compared() -> None:
    columns: dict[str, Any] = {"docids": [["a"], ["b"]], "gains": [[1.0], [0.0]], "qid": ["q7", "q7"]}
    columns |= {"kind": ["score"] * 2, "teacher": [[96.7], [90.5]]}
    for reward in (rewards.listwise_derived, rewards.regression_ranking):
        with pytest.raises(UsageError, match=r"score 9\d\.\d in the rows of query q7 .* 0 to 10 .*--teacher_scale"):
            reward([], [said("10"), said("0")], **columns)
        assert reward([], [said("10"), said("0")], **(columns | {"teacher": [[10.0], [0.0]]}))[0] == 1.0
    with pytest.raises(UsageError, match="score -1 "):
        rewards.regression_ranking(
            [], [said("0")], **{name: of[:1] for name, of in columns.items()} | {"teacher": [[-1]]}
        )
    order = rollout("[2] > [1]", (0.0, 1.0), teacher=(90.5, 96.7))
    assert regression.regression_ranking(order).parts["ranking"] == 1.5  # an order knows no scale


@given(st.lists(st.tuples(st.one_of(st.none(), st.floats(0, 10)), st.booleans(), st.floats(-1e6, 1e6)), max_size=9))
def test_erank_is_bounded_whatever_the_teacher_says(pool: list[tuple[float | None, bool, float]]) -> None:
    scores, positive, teacher = [s for s, _, _ in pool], [p for _, p, _ in pool], [t for _, _, t in pool]
    found = relevance_scores.listwise_derived(scores, positive, teacher)
    assert all(-1 <= reward <= 1 for reward in found)
    assert all(
        reward >= 0
        for reward, score, good in zip(found, scores, positive, strict=True)
        if score is not None and not good and not any(positive)
    )


@pytest.mark.parametrize(
    ("answer", "grade", "reward"),
    [
        ("yes(3)", 3.0, 1.0),
        ("yes(4)", 3.0, (1 + 0.75) / 2),
        ("no(3)", 3.0, 0.0),
        ("yes(1)", 1.0, 0.0),
        ("no(1)", 2.0, (0 + 0.75) / 2),
        ("yes", 3.0, 0.5),
        ("3", 3.0, 1.0),
        ("true", 4.0, 0.5),
        ("7", 4.0, 0.0),
        ("perhaps", 3.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_tfrank_label_and_score_must_agree(answer: str, grade: float, reward: float) -> None:
    assert relevance_scores.graded(rollout(answer, (grade,), grade=grade), top=4.0).reward == pytest.approx(reward)


@pytest.mark.parametrize(
    ("answer", "choices", "grade", "reward"),
    [
        ("true", ("true", "false"), 1.0, 1.0),
        ("false", ("true", "false"), 1.0, 0.0),
        ("true", ("true", "false"), 0.0, 0.0),
        ("false", ("true", "false"), 0.0, 1.0),
        ("yes", ("yes", "no"), 1.0, 1.0),
        ("no", ("yes", "no"), None, 1.0),  # by the gain then
        ("yes", ("true", "false"), 1.0, 0.0),  # which serving does not look for
        ("1", ("true", "false"), 1.0, 0.0),
        ("true(10)", ("true", "false"), 1.0, 0.0),
        ("9", tuple(map(str, range(11))), 10.0, 0.95),
    ],
)
def test_tfrank_of_a_judge_that_answers_in_a_word(
    answer: str, choices: tuple[str, ...], grade: float | None, reward: float
) -> None:
    found = rewards.graded([], [said(answer)], docids=[["a"]], gains=[[grade or 0.0]], grade=[grade], choices=[choices])
    assert found == [pytest.approx(reward)]


def test_rarl_regression_and_ranking() -> None:
    assert regression.regression([5.0, 6.0, 9.0, None], [5.0, 5.0, 5.0, 5.0], delta=2.0) == pytest.approx(
        (1 + 0.75) / 4
    )
    valued = partial(regression.regression_ranking, valued=True)
    assert valued(rollout("[2] (10) > [1] (0)", (0.0, 1.0))).reward == pytest.approx(0.4 + 0.5 * 1.5 + 0.1)
    assert valued(rollout("[1] (10) > [2] (0)", (0.0, 1.0))).reward == pytest.approx(0.1)
    assert valued(rollout("[2] > [1]", (0.0, 1.0))).reward == pytest.approx(0.5 * 1.5 + 0.1)  # the values are missing
    bare = regression.regression_ranking(rollout("[2] > [1]", (0.0, 1.0)))
    assert bare.reward == pytest.approx((0.5 * 1.5 + 0.1) / 0.6)
    single = regression.regression_ranking(rollout("6", (0.0,), kind="score", teacher=(5.0,)))
    assert single.reward == pytest.approx((0.4 * 0.75 + 0.1) / 0.5)


# --- properties ------------------------------------------------------------------------------------------------------

some_gains = st.lists(st.sampled_from((0.0, 0.0, 1.0, 2.0, 3.0)), min_size=1, max_size=12)
LISTWISE: dict[str, tuple[Reward, float, float]] = {
    "multiview": (listwise.multiview, -1.0, 1.3),
    "published": (published_rewards.multiview, -1.0, 1.3),
    "p": (partial(listwise.multiview, p=0.9), -1.0, 1.3),
    "conditional_format": (listwise.conditional_format, -1.0, 1.1),
    "ranking_coverage": (listwise.ranking_coverage, -4.0, 1.0),
    "regression_ranking": (regression.regression_ranking, 0.0, 1.42),
    "valued": (partial(regression.regression_ranking, valued=True), 0.0, 1.25),
}
OTHERS: dict[str, tuple[Reward, float, float]] = {
    "exact_label": (setwise.exact_label, 0.0, 1.0),
    "published exact_label": (published_rewards.exact_label, 0.0, 1.0),
    "exclusion": (setwise.exclusion, -3.0, 1.0),
    "graded": (relevance_scores.graded, 0.0, 1.0),
}
answers = st.one_of(
    st.text(max_size=60),
    st.text("[]()<>123456789 0,yesno\n", max_size=60),
    st.lists(st.integers(0, 14), max_size=14).map(lambda ids: said(" > ".join(f"[{i}]" for i in ids))),
    st.lists(st.sampled_from(("<think>", "</think>", "<answer>", "</answer>", "[1]", "[2]", "x", "²")), max_size=9).map(
        "".join
    ),
)


@given(text=answers, gains=some_gains, tags=st.booleans())
def test_every_reward_is_bounded_whatever_the_model_writes(text: str, gains: list[float], tags: bool) -> None:
    for score, least, most in (LISTWISE | OTHERS).values():
        found = score(Rollout(text, tuple(gains), tags=tags))
        assert least - 1e-9 <= found.reward <= most + 1e-9


@given(data=st.data(), gains=some_gains)
def test_a_reward_depends_on_the_ranking_not_on_the_order_shown(data: st.DataObject, gains: list[float]) -> None:
    """The same passages shown in another order and ranked the same get the same reward."""
    order = data.draw(st.permutations(range(len(gains))))
    shown = data.draw(st.permutations(range(len(gains))))  # shown[i] is the passage now at position i
    relabelled = [shown.index(i) for i in order]
    moved = [gains[i] for i in shown]
    for name, (score, _, _) in LISTWISE.items():
        if name == "conditional_format":  # which by its nature compares with the order shown
            continue
        one, other = score(rollout(listed(order), gains)), score(rollout(listed(relabelled), moved))
        assert one.reward == pytest.approx(other.reward), name
    best = order[0]
    for choose in (setwise.exact_label, setwise.exclusion):
        one = choose(rollout(listed([best]), gains))
        assert one.reward == choose(rollout(listed([shown.index(best)]), moved)).reward


@given(data=st.data(), gains=some_gains)
def test_moving_a_better_passage_up_never_costs(data: st.DataObject, gains: list[float]) -> None:
    """Every listwise reward agrees with nDCG on which of two orders is better, where one is made from the other by
    putting neighbours right."""
    order = list(data.draw(st.permutations(range(len(gains)))))
    place = data.draw(st.integers(0, max(len(gains) - 2, 0)))
    better = list(order)
    better[place : place + 2] = sorted(order[place : place + 2], key=lambda i: -gains[i])
    assert ndcg(better, gains) >= ndcg(order, gains) - 1e-12
    for name, (score, _, _) in LISTWISE.items():
        assert score(rollout(listed(better), gains)).reward >= score(rollout(listed(order), gains)).reward - 1e-12, name


@given(data=st.data(), gains=some_gains)
def test_a_worse_order_by_ndcg_never_scores_higher(data: st.DataObject, gains: list[float]) -> None:
    """Of any two orders, for the rewards that are nDCG in the end (the other views left out of the multi-view one)."""
    one, other = data.draw(st.permutations(range(len(gains)))), data.draw(st.permutations(range(len(gains))))
    if ndcg(one, gains, 20) < ndcg(other, gains, 20):
        one, other = other, one
    alone = partial(listwise.multiview, phi=0.0, gamma=0.0)
    assert (
        listwise.ranking_coverage(rollout(listed(one), gains)).reward
        >= listwise.ranking_coverage(rollout(listed(other), gains)).reward - 1e-12
    )
    if ndcg(one, gains) < ndcg(other, gains):
        one, other = other, one
    for score in (alone, listwise.conditional_format):
        assert score(rollout(listed(one), gains)).reward >= score(rollout(listed(other), gains)).reward - 1e-12


def test_the_ideal_order_is_the_best_there_is() -> None:
    gains = (0.0, 2.0, 1.0, 0.0)
    ideal = listed(sorted(range(4), key=lambda i: -gains[i]))
    for name, (score, _, most) in LISTWISE.items():
        found = {order: score(rollout(listed(order), gains)).reward for order in permutations(range(4))}
        assert score(rollout(ideal, gains)).reward == pytest.approx(max(found.values())), name
        assert max(found.values()) <= most, name


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 10)), st.booleans()), min_size=1, max_size=12), st.data())
def test_erank_a_better_score_never_costs(pool: list[tuple[int | None, bool]], data: st.DataObject) -> None:
    scores = [None if s is None else float(s) for s, _ in pool]
    positive = [p for _, p in pool]
    before = relevance_scores.listwise_derived(scores, positive, [10.0 * p for p in positive])
    assert all(-1 <= reward <= 1 for reward in before)
    place = data.draw(st.integers(0, len(pool) - 1))
    score = scores[place]
    if score is None:
        return
    raised = [*scores[:place], min(score + 1, 10.0) if positive[place] else max(score - 1, 0.0), *scores[place + 1 :]]
    after = relevance_scores.listwise_derived(raised, positive, [10.0 * p for p in positive])
    assert after[place] >= before[place] - 1e-12


@given(data=st.data(), gains=some_gains)
def test_overlap_with_ties_is_the_mean_over_the_ways_to_break_them(data: st.DataObject, gains: list[float]) -> None:
    gains = gains[:5]
    order = data.draw(st.permutations(range(len(gains))))
    falling = [gold for gold in permutations(range(len(gains))) if all(gains[a] >= gains[b] for a, b in pairwise(gold))]
    p = data.draw(st.sampled_from((1.0, 0.9)))
    mean = fmean(overlap(order, ranked_spans(gold), p) for gold in falling)
    assert overlap(order, spans(gains), p) == pytest.approx(mean)


@settings(max_examples=30)
@given(data=st.data(), gains=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_ndcg_is_trec_evals(data: st.DataObject, gains: list[int]) -> None:
    import ir_measures

    order = data.draw(st.permutations(range(len(gains))))
    qrels = {"q": {f"d{i}": gain for i, gain in enumerate(gains)}}
    run = {"q": {f"d{i}": float(len(order) - rank) for rank, i in enumerate(order)}}
    measures = [ir_measures.nDCG @ 10, ir_measures.R @ 10]
    theirs = ir_measures.calc_aggregate(measures, qrels, run)
    assert ndcg(order, gains) == pytest.approx(theirs[measures[0]])
    if any(gains):
        assert recall(order, gains) == pytest.approx(theirs[measures[1]])


@given(order=st.permutations(range(6)), targets=st.lists(st.integers(0, 9), min_size=6, max_size=6, unique=True))
def test_concordance_is_kendalls_tau(order: list[int], targets: list[int]) -> None:
    from scipy.stats import kendalltau

    ranks = [-order.index(i) for i in range(6)]
    assert concordance(order, targets) == pytest.approx(kendalltau(ranks, targets).statistic)


# --- what serves and what rewards agree ------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [True, False])
def test_the_ideal_answer_of_a_judge_gets_the_full_reward(tags: bool) -> None:
    gains = (0.0, 1.0, 0.0, 0.0)

    def ideal(judge: type[Permutation] | type[Best] | type[Worst]) -> Rollout:
        made = judge(judge.Options(tags=tags), Sampling(), frozenset(), "")
        return Rollout(made.ideal(gains), gains, tags=tags)

    found = listwise.multiview(ideal(Permutation))
    assert found.reward == pytest.approx(1.2 + 0.1 * overlap((1, 0, 2, 3), spans(gains)))
    assert listwise.ranking_coverage(ideal(Permutation)).reward == 1.0
    assert setwise.exact_label(ideal(Best)).reward == 1.0
    assert setwise.exclusion(ideal(Worst)).reward == 1.0


# --- the batch -------------------------------------------------------------------------------------------------------

NAMES = [
    "multiview", "conditional_format", "ranking_coverage", "exact_label", "exclusion", "listwise_derived",
    "regression_ranking", "graded", "format_bonus",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_trl_finds_and_calls_each_by_its_dotted_path(name: str) -> None:
    reward = getattr(importlib.import_module("pyserini_reasonrank.train.rewards"), name)
    assert reward.__name__ == name
    logged: dict[str, float] = {}
    texts = [said("[1]"), "nothing"]
    for completions in (texts, [[{"role": "assistant", "content": text}] for text in texts]):
        found = reward(
            prompts=[[], []],
            completions=completions,
            completion_ids=[[1], [2]],
            docids=[["a"], ["a"]],
            gains=[[1.0], [1.0]],
            trainer_state=None,
            log_extra=lambda column, values: None,
            log_metric=logged.__setitem__,
        )
        assert len(found) == 2
        assert all(isinstance(r, float) for r in found)
    assert logged[f"{name}/no_reward"] == 0.0
    assert f"{name}/flat_groups" in logged
    assert f"{name}/format" in logged


def test_prefill_and_a_thought_set_apart_belong_to_the_text() -> None:
    whole = rewards.multiview([], [said("[1] > [2]")], docids=[["a", "b"]], gains=[[1.0, 0.0]])
    begun = rewards.multiview(
        [], [said("[1] > [2]").removeprefix("<think>")], docids=[["a", "b"]], gains=[[1.0, 0.0]], prefill=["<think>"]
    )
    parsed = [[{"role": "assistant", "reasoning_content": "so", "content": "<answer>[1] > [2]</answer>"}]]
    assert whole == begun == rewards.multiview([], parsed, docids=[["a", "b"]], gains=[[1.0, 0.0]])
    assert whole[0] == pytest.approx(1.3)


def test_words_that_lead_in_to_the_thought_do_not_spoil_the_form() -> None:
    [found] = rewards.exclusion(
        [], ["so</think>\n<answer>[2]</answer>"], docids=[["a", "b"]], gains=[[1.0, 0.0]], prefill=["Well.\n<think>"]
    )
    assert found == 1.0


def test_a_gold_order_is_by_docid() -> None:
    one: dict[str, Any] = {"docids": [["a", "b", "c"]], "gains": [[1.0, 0.0, 0.0]]}
    [right] = rewards.multiview([], [said("[1] > [3] > [2]")], gold=[["a", "c", "b"]], **one)
    [wrong] = rewards.multiview([], [said("[1] > [2] > [3]")], gold=[["a", "c", "b"]], **one)
    assert right == pytest.approx(1.3)
    assert wrong == pytest.approx(1.2 + 0.1 * (1 + 1 / 2 + 1) / 3)


def test_a_reward_that_is_no_number_is_none_and_counted() -> None:
    logged: dict[str, float] = {}
    found = rewards.multiview(
        [],
        [said("[1] > [2]"), said("[1] > [2]")],
        docids=[["a", "b"]] * 2,
        gains=[[1.0, 0.0], [math.nan, 1.0]],
        qid=["q1", "q2"],
        log_metric=logged.__setitem__,
    )
    assert found[0] == pytest.approx(1.3)
    assert found[1] is None
    assert logged["multiview/no_reward"] == 0.5


def test_groups_without_contrast_and_copied_orders_are_counted() -> None:
    logged: dict[str, float] = {}
    rewards.multiview(
        [],
        [said("[1] > [2]"), said("[1] > [2]"), said("[1] > [2]"), said("[2] > [1]")],
        docids=[["a", "b"], ["a", "b"], ["c", "d"], ["c", "d"]],
        gains=[[1.0, 0.0]] * 4,
        qid=["q1", "q1", "q2", "q2"],
        log_metric=logged.__setitem__,
    )
    assert logged["multiview/flat_groups"] == 0.5
    assert logged["multiview/copied"] == 0.75
    assert logged["multiview/format"] == 1.0
    assert flat_groups("aab", [1.0, 1.0, 0.0]) == (1, 1)
    assert flat_groups("aabb", [None, None, 0.0, 1.0]) == (1, 2)


def test_rows_of_another_making_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="lack the column gains"):
        rewards.multiview([], ["x"], docids=[["a"]])


# --- mutation and self-reward ----------------------------------------------------------------------------------------


def test_a_group_that_differs_is_left_alone() -> None:
    assert mutated([said("[1]"), said("[2]")], [0.0, 1.0], "[1]", good=1.0, seed=1) is None
    assert mutated([], [], "[1]", good=1.0, seed=1) is None


def test_a_bad_group_gets_the_right_answer_behind_its_own_thought() -> None:
    texts = ["<think>why", said(""), "<think>a</think> dunno", said("[1] > [2]") + " bye"]
    for seed in range(20):
        found = mutated(texts, [0.0] * 4, "[2] > [1]", good=1.0, seed=seed)
        assert found is not None
        thought = texts[found.place].split("</think>")[0]
        assert found.text.startswith(thought)
        score = listwise.multiview(Rollout(found.text, (0.0, 1.0)))
        assert score.reward == pytest.approx(1.3)
        assert listwise.ranking_coverage(Rollout(found.text, (0.0, 1.0))).reward == 1.0


@pytest.mark.parametrize("text", ["[2] > [1] I say", "why", "why</think> dunno", "why</think>\n<answer>[1]", ""])
@pytest.mark.parametrize("prefill", ["", "Well.\n<think>"])
def test_a_mutated_answer_is_whole_whatever_the_old_one_was(text: str, prefill: str) -> None:
    """A model that does not know the form yet, or whose thought was cut: the group earns what a right answer does."""
    found = mutated([text] * 2, [-1.0] * 2, "[2] > [1]", good=1.0, seed=0, prefill=prefill)
    assert found is not None
    assert found.text.startswith("<think>") == (not prefill)
    [earned] = rewards.multiview([], [found.text], docids=[["a", "b"]], gains=[[0.0, 1.0]], prefill=[prefill])
    assert earned == pytest.approx(1.3)
    assert found.thought == (text if "<" not in text else "why")


@pytest.mark.parametrize(
    ("text", "prefill", "expected"),
    [
        ("it is [1]", "", "[2]"),
        ("<think>why</think>\n[1]", "", "<think>why</think>\n[2]"),
        ("<think>why", "", "<think>why</think>\n[2]"),
        ("[1]</answer>", "\n<answer>", "[2]</answer>"),
    ],
)
def test_a_mutated_answer_has_no_tags_that_were_not_asked_for(text: str, prefill: str, expected: str) -> None:
    found = mutated([text], [0.0], "[2]", good=1.0, seed=0, prefill=prefill, tags=False)
    assert found is not None
    assert found.text == expected


@given(n=st.integers(2, 12), seed=st.integers(0, 1000))
def test_a_good_group_gets_a_nearly_right_answer(n: int, seed: int) -> None:
    gains = tuple(float(n - i) for i in range(n))
    found = mutated([said(listed(range(n)))] * 4, [1.3] * 4, "", good=1.0, seed=seed)
    assert found is not None
    before, after = (listwise.multiview(Rollout(t, gains)).reward for t in (said(listed(range(n))), found.text))
    assert 0 < after < before


@pytest.mark.parametrize(
    ("answer", "others"),
    [("0", {"1"}), ("10", {"9"}), ("5", {"4", "6"}), ("yes(3)", {"yes(2)", "yes(4)"})],
)
def test_a_good_score_is_put_off_by_one(answer: str, others: set[str]) -> None:
    for seed in range(10):
        found = mutated([said(answer)], [1.0], "", good=1.0, seed=seed)
        assert found is not None
        assert found.text in {said(other) for other in others}


def test_a_mutation_that_changes_nothing_is_none() -> None:
    assert mutated([said("[2] > [1]")], [0.0], "[2] > [1]", good=1.0, seed=0) is None
    assert mutated([said("no number")], [1.0], "", good=1.0, seed=0) is None


def test_self_reward_arithmetic() -> None:
    pytest.importorskip("torch")
    from pyserini_reasonrank.train.experimental.latro import best_likelihood, penalised

    assert best_likelihood([[-1.0, -3.0, -8.0]]) == -4.0
    assert best_likelihood([[-3.0], [-1.0, -3.0]]) == -2.0
    assert best_likelihood([[-3.0], [-1.0, -3.0]], published=True) == -3.0
    assert penalised([-1.0, -3.0], [True, False]) == [-1.0, -4.0]


def test_equally_right_orders_are_right_and_different() -> None:
    gains = (0.0, 1.0, 0.0, 2.0, 0.0)
    found = right_orders(gains, 8, seed=1)
    assert len(found) == len(set(found)) > 1
    assert all(order[:2] == (3, 1) and sorted(order) == [0, 1, 2, 3, 4] for order in found)
    assert all(len(order) == 10 for order in right_orders([0.0] * 30, 3, seed=1))
    assert right_orders(gains, 8, seed=1) == found
