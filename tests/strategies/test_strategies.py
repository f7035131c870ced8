"""Strategies against an assessor in memory: window plans, what they guarantee, what they cost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError, validated
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.records import Sampling
from pyserini_reasonrank.run.cost import Cost, Meter, count
from pyserini_reasonrank.strategies import STRATEGIES, Strategy, options_model
from pyserini_reasonrank.strategies.bubblesort import bubblesort
from pyserini_reasonrank.strategies.full import full
from pyserini_reasonrank.strategies.groups import groups
from pyserini_reasonrank.strategies.pointwise import pointwise
from pyserini_reasonrank.strategies.protocols import Permute
from pyserini_reasonrank.strategies.sliding import sliding, windows
from pyserini_reasonrank.strategies.staged import staged
from pyserini_reasonrank.strategies.tournament import tournament


def published_windows(n: int, window_size: int, stride: int) -> list[tuple[int, int]]:
    """The loop of the published code, with its own way of suppressing a redundant last window."""
    window_size = min(window_size, n)
    plan, end, start = [], n, n - window_size
    while end > 0 and start + stride != 0:
        start = max(start, 0)
        plan.append((start, end))
        end, start = end - stride, start - stride
    return plan


def perfect(gains: Sequence[float], asked: list[list[int]]) -> Permute:
    async def judge(indices: Sequence[int], label: str = "", keep: int | None = None) -> list[int]:
        asked.append(list(indices))
        return sorted(indices, key=lambda i: -gains[i])

    return judge


@pytest.mark.parametrize(
    ("n", "window_size", "stride", "plan"),
    [
        (100, 20, 10, [(80, 100), (70, 90), (60, 80), (50, 70), (40, 60), (30, 50), (20, 40), (10, 30), (0, 20)]),
        (30, 20, 10, [(10, 30), (0, 20)]),
        (25, 20, 10, [(5, 25), (0, 15)]),
        (20, 20, 10, [(0, 20)]),
        (12, 20, 10, [(0, 12)]),
        (5, 2, 2, [(3, 5), (1, 3)]),
        (1, 20, 10, []),
        (0, 20, 10, []),
    ],
)
def test_window_plans(n: int, window_size: int, stride: int, plan: list[tuple[int, int]]) -> None:
    assert list(windows(n, window_size, stride)) == plan


def test_window_10_stride_5_takes_19_windows_for_100() -> None:
    assert len(list(windows(100, 10, 5))) == 19


@given(st.integers(0, 120), st.integers(2, 30), st.integers(1, 30))
def test_window_plans_are_the_published_ones(n: int, window_size: int, stride: int) -> None:
    stride = min(stride, window_size)
    published = [(start, end) for start, end in published_windows(n, window_size, stride) if end - start > 1]
    assert list(windows(n, window_size, stride)) == published


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(2, 25), st.integers(1, 25))
def test_sliding_ranks_the_best_first(gains: list[int], window_size: int, stride: int) -> None:
    stride = min(stride, window_size - 1)
    asked: list[list[int]] = []
    order = asyncio.run(sliding(len(gains), perfect(gains, asked), window_size=window_size, stride=stride))
    assert sorted(order) == list(range(len(gains)))
    exact = len(gains) if len(gains) <= window_size else window_size - stride
    assert [gains[i] for i in order[:exact]] == sorted(gains, reverse=True)[:exact]
    assert all(2 <= len(window) <= window_size for window in asked)
    assert {i for window in asked for i in window} == (set(order) if len(gains) > 1 else set())


def test_sliding_judges_windows_one_after_another() -> None:
    asked: list[list[int]] = []
    order = asyncio.run(sliding(6, perfect([0, 0, 0, 0, 0, 9], asked), window_size=3, stride=1))
    assert asked == [[3, 4, 5], [2, 5, 3], [1, 5, 2], [0, 5, 1]]
    assert order == [5, 0, 1, 2, 3, 4]


def test_a_second_pass_keeps_the_top_stride_ranks() -> None:
    asked: list[list[int]] = []
    order = asyncio.run(sliding(8, perfect(range(8), asked), window_size=4, stride=2, passes=2))
    assert order[:4] == [7, 6, 5, 4]
    first = asked[:3]
    assert all(7 not in window and 6 not in window for window in asked[len(first) :])


def test_a_stride_that_skips_candidates_is_rejected() -> None:
    with pytest.raises(UsageError, match="stride 11 is larger than window_size 10"):
        asyncio.run(sliding(30, perfect([0] * 30, []), window_size=10, stride=11))


@given(st.integers(2, 30), st.integers(0, 60))
def test_the_stride_is_half_the_window_unless_given(window_size: int, n: int) -> None:
    asked: list[list[int]] = []
    asyncio.run(sliding(n, perfect([0] * n, asked), window_size=window_size))
    spans = [(window[0], window[-1] + 1) for window in asked]
    assert spans == list(windows(n, window_size, window_size // 2))


@pytest.mark.parametrize("n", [6, 30])
def test_windows_that_do_not_overlap_are_rejected(n: int) -> None:
    with pytest.raises(UsageError, match=r"stride 10 equals window_size 10: windows do not overlap, .* such as 5"):
        asyncio.run(sliding(n, perfect([0] * n, []), window_size=10, stride=10))


def test_many_passes_over_a_short_list_end_at_once() -> None:
    asked: list[list[int]] = []
    asyncio.run(sliding(6, perfect(range(6), asked), window_size=4, stride=2, passes=10**12))
    assert len(asked) == len([w for p in range(9) for w in windows(6, 4, 2, first=2 * p)])


@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_full_is_one_question_about_all_candidates(n: int) -> None:
    asked: list[list[int]] = []
    order = asyncio.run(full(n, perfect(range(n), asked)))
    assert order == list(range(n))[::-1]
    assert asked == ([list(range(n))] if n > 1 else [])


@given(st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0])), max_size=30))
def test_pointwise_keeps_the_rank_of_candidates_without_a_score(scores: list[float | None]) -> None:
    async def judge(indices: Sequence[int], label: str = "") -> float | None:
        [index] = indices
        return scores[index]

    order = asyncio.run(pointwise(len(scores), judge))
    assert sorted(order) == list(range(len(scores)))
    assert all(order[i] == i for i, score in enumerate(scores) if score is None)
    scored = [i for i in order if scores[i] is not None]
    assert scored == sorted(scored, key=lambda i: (-(scores[i] or 0.0), i))


@given(n=st.integers(0, 60), window_size=st.integers(1, 25))
def test_groups_mix_ranks_and_keep_the_rank_of_candidates_without_a_grade(n: int, window_size: int) -> None:
    asked: list[list[int]] = []

    async def judge(indices: Sequence[int], label: str = "", *, again: int = 0) -> list[float | None]:
        asked.append(list(indices))
        return [None if i % 3 == 0 else float(i % 4) for i in indices]

    order = finished(groups(n, judge, window_size=window_size))
    assert sorted(i for group in asked for i in group) == sorted(order) == list(range(n))
    assert len(asked) == -(-n // window_size)
    sizes = [len(group) for group in asked]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert all(group == list(range(group[0], n, len(asked))) for group in asked)
    assert all(order[i] == i for i in range(0, n, 3))
    graded = [i for i in order if i % 3]
    assert graded == sorted(graded, key=lambda i: (-(i % 4), i))


@given(n=st.integers(0, 60), window_size=st.integers(1, 25), rounds=st.integers(2, 5), seed=st.integers(0, 3))
def test_rounds_grade_every_candidate_in_other_groups_and_average(
    n: int, window_size: int, rounds: int, seed: int
) -> None:
    asked: list[tuple[int, list[int]]] = []

    async def judge(indices: Sequence[int], label: str = "", *, again: int = 0) -> list[float | None]:
        asked.append((again, list(indices)))
        assert label.startswith(f"round {again + 1}, group ")
        unread = [i for i in indices if i % 3 == 0 or (i % 3 == 1 and again)]
        return [None if i in unread else float(i + again) for i in indices]

    options: dict[str, Any] = {"window_size": window_size, "rounds": rounds, "seed": seed}
    order = finished(groups(n, judge, **options))
    for turn in range(rounds):
        of_turn = [group for again, group in asked if again == turn]
        assert sorted(i for group in of_turn for i in group) == list(range(n))
        assert [len(group) for group in of_turn] == [min(window_size, n - i) for i in range(0, n, window_size)]
    assert n < 12 or len({tuple(i for again, group in asked if again == t for i in group) for t in range(rounds)}) > 1
    means = {i: i + (0.0 if i % 3 == 1 else (rounds - 1) / 2) for i in range(n) if i % 3}  # of the grades that are read
    graded = [i for i in order if i in means]
    assert graded == sorted(graded, key=lambda i: (-means[i], i))
    assert all(order[i] == i for i in range(0, n, 3))
    first, asked[:] = list(asked), []
    finished(groups(n, judge, **options))
    assert asked == first


def test_the_second_stage_averages_new_answers_about_the_top_of_the_first() -> None:
    asked: list[tuple[int, str, int, int]] = []
    first: list[float | None] = [5.0, 1.0, 9.0, None, 8.0, 7.0]
    means: dict[int, float | None] = {2: 1.0, 4: None, 5: 3.0, 0: 3.0, 3: 6.0}

    async def judge(indices: Sequence[int], label: str = "", *, samples: int = 0, again: int = 0) -> float | None:
        [index] = indices
        asked.append((index, label, samples, again))
        return means[index] if again else first[index]

    assert finished(staged(6, judge, k=5, samples=16)) == [3, 4, 5, 0, 2, 1]
    assert asked[:6] == [(i, "stage 1", 0, 0) for i in range(6)]
    assert asked[6:] == [(i, "stage 2", 16, 1) for i in (2, 4, 5, 3, 0)]


@given(n=st.integers(1, 30), k=st.integers(1, 5), data=st.data())
def test_ties_and_unranked_candidates_follow_prior(n: int, k: int, data: st.DataObject) -> None:
    before = data.draw(st.permutations(list(range(n))))
    gains = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    by_gain = sorted(before, key=lambda i: -gains[i])
    for name, options in (
        ("pointwise", {}),
        ("staged", {"k": k}),
        ("groups", {}),
        ("groups", {"rounds": 2}),
        ("allpairs", {}),
        ("heapsort", {"k": k}),
    ):
        strategy, kinds = STRATEGIES[name].function, STRATEGIES[name].judges
        judge = assessor(max(kinds), lambda i: -gains[i], [])
        order = finished(strategy(n, judge, before, **options))
        if name != "heapsort":
            assert order == by_gain
            continue
        assert [gains[i] for i in order[:k]] == [gains[i] for i in by_gain[:k]]
        assert order[k:] == [i for i in before if i not in order[:k]]


@pytest.mark.parametrize("n", [2, 3, 20, 21, 60])
def test_equal_points_in_a_tournament_follow_prior(n: int) -> None:
    tournament, judge = STRATEGIES["tournament"].function, perfect([0] * n, [])

    async def lowest(indices: Sequence[int], label: str = "", keep: int | None = None) -> list[int]:
        return sorted(await judge(indices))

    plain, turned = finished(tournament(n, lowest)), finished(tournament(n, lowest, range(n)[::-1]))
    assert len(plain) == len(turned) == n
    while plain:  # as many points as the next have, and they alone
        alike = next(k for k in range(1, n + 1) if set(plain[:k]) == set(turned[:k]))
        assert plain[:alike] == sorted(plain[:alike]) == turned[:alike][::-1]
        plain, turned = plain[alike:], turned[alike:]


@pytest.mark.parametrize(("gains", "order"), [([1, 2], [1, 0]), ([2, 1], [0, 1])])
def test_a_tournament_of_two_compares_them(gains: list[int], order: list[int]) -> None:
    asked: list[list[int]] = []
    assert finished(STRATEGIES["tournament"].function(2, perfect(gains, asked), tournaments=3)) == order
    assert len(asked) == 3


def test_pointwise_questions_are_concurrent() -> None:
    together, most = 0, 0

    async def judge(indices: Sequence[int], label: str = "") -> float:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0)
        together -= 1
        return indices[0]

    assert asyncio.run(pointwise(50, judge)) == list(range(50))[::-1]
    assert most == 50


def predict(strategy: Strategy, judge: type[Judge], n: int, options: dict[str, Any]) -> Cost:
    made = judge(judge.Options(), Sampling(), frozenset(), "")

    async def ranking(meter: Meter) -> None:
        async def unmoved(
            indices: Sequence[int], label: str = "", keep: int | None = None, *, samples: int = 0, again: int = 0
        ) -> Any:
            await meter.question("", len(indices), calls=1, votes=samples or 1)
            return made.unmoved(indices)

        await strategy(n, unmoved, **options)

    return count(ranking)


@pytest.mark.parametrize(
    ("name", "kind", "n", "options", "cost"),
    [
        ("sliding", "permutation", 100, {"window_size": 20, "stride": 10, "passes": 1}, (9, 9, 180, 20)),
        ("sliding", "permutation", 100, {"window_size": 10, "stride": 5, "passes": 1}, (19, 19, 190, 10)),
        ("sliding", "permutation", 100, {"window_size": 20, "stride": 10, "passes": 2}, (17, 17, 340, 20)),
        ("sliding", "permutation", 1, {"window_size": 20, "stride": 10, "passes": 1}, (0, 0, 0, 0)),
        ("full", "permutation", 100, {}, (1, 1, 100, 100)),
        ("pointwise", "score", 100, {}, (100, 1, 100, 1)),
        ("pointwise", "score", 0, {}, (0, 0, 0, 0)),
        ("staged", "rating", 100, {}, (580, 2, 580, 1)),
        ("staged", "rating", 20, {"k": 30, "samples": 4}, (100, 2, 100, 1)),
        ("staged", "rating", 0, {}, (0, 0, 0, 0)),
        ("groups", "grades", 100, {"rounds": 6}, (30, 1, 600, 20)),
        ("groups", "grades", 50, {"rounds": 2}, (6, 1, 100, 20)),
    ],
)
def test_predicted_cost(name: str, kind: str, n: int, options: dict[str, Any], cost: tuple[int, int, int, int]) -> None:
    strategy, kinds = STRATEGIES[name].function, STRATEGIES[name].judges
    assert kind in kinds
    found = predict(strategy, JUDGES[kind], n, options)
    assert (found.calls, found.chain, found.shown, found.widest) == cost


def test_a_strategy_declares_its_settings_by_its_arguments() -> None:
    model = options_model(sliding)
    assert model().model_dump() == {"window_size": 20, "stride": None, "passes": 1}
    with pytest.raises(UsageError, match=r"--rerank\.strategy\.windw_size is not known; did you mean 'window_size'\?"):
        validated(model, {"windw_size": 5}, "--rerank.strategy")
    with pytest.raises(UsageError, match=r"--rerank\.strategy\.window_size 1: .*greater than or equal to 2"):
        validated(model, {"window_size": 1}, "--rerank.strategy")
    assert options_model(full).model_fields == options_model(pointwise).model_fields == {}


# --- what holds for all of them


def finished(strategy: Awaitable[list[int]]) -> list[int]:
    async def run() -> list[int]:
        return await strategy

    return asyncio.run(run())


def assessor(
    kind: str, score: Callable[[int], Any], asked: list[list[int]]
) -> Callable[[Sequence[int]], Awaitable[Any]]:
    """A judge of a kind who prefers what has the lower ``score``."""

    async def judge(
        indices: Sequence[int], label: str = "", keep: int | None = None, *, samples: int = 0, again: int = 0
    ) -> Any:
        asked.append(list(indices))
        await asyncio.sleep(0)
        order = sorted(indices, key=score)
        found = {
            "permutation": order,
            "select": order,
            "best": order[0],
            "best_token": order[0],
            "worst": order[-1:],
            "score": -score(order[0]),
        }
        return [-score(i) for i in indices] if kind == "grades" else found[kind]

    return judge


EXACT: dict[str, Callable[[int], int]] = {
    "sliding": lambda n: n if n <= 20 else 10,
    "full": lambda n: n,
    "pivot": lambda n: n if n <= 20 else 10,
    "blitzrank": lambda n: n if n <= 20 else 10,
    "acurank": lambda n: n if n <= 20 else 1,
    "heapsort": lambda n: 10,
    "bubblesort": lambda n: 10,
    "allpairs": lambda n: n,
    "elimination": lambda n: n,
    "pointwise": lambda n: n,
    "staged": lambda n: n,
    "groups": lambda n: n,
    "tournament": lambda n: 1 if n <= 20 else 0,  # no more than a good guess
}
"""How many ranks from the top a consistent judge makes exact, with a strategy's own settings, for n candidates."""


def test_every_strategy_has_a_guarantee() -> None:
    assert EXACT.keys() == STRATEGIES.keys()


@pytest.mark.parametrize("name", [name for name in EXACT if name != "tournament"])
@given(n=st.integers(0, 70), seed=st.integers(0, 1000))
def test_a_consistent_judge_makes_the_top_exact(name: str, n: int, seed: int) -> None:
    strategy, kinds = STRATEGIES[name].function, STRATEGIES[name].judges
    kind = max(kinds)  # the others find the same
    n = min(n, 25) if name == "allpairs" else n
    rank = list(range(n))
    random.Random(seed).shuffle(rank)
    order = finished(strategy(n, assessor(kind, rank.__getitem__, [])))
    assert sorted(order) == list(range(n))
    exact = min(EXACT[name](n), n)
    assert [rank[i] for i in order[:exact]] == list(range(exact))


@pytest.mark.parametrize("name", list(STRATEGIES))
@given(n=st.integers(0, 60), seed=st.integers(0, 1000), data=st.data())
def test_a_random_judge_loses_no_candidate(name: str, n: int, seed: int, data: st.DataObject) -> None:
    strategy, kinds = STRATEGIES[name].function, STRATEGIES[name].judges
    kind = max(kinds)  # the others find the same
    options = data.draw(OPTIONS.get(name, st.just({})))
    n = (
        min(n, 12)
        if name == "allpairs"
        else min(n, options.get("window_size") or 20) ** 2
        if name == "tournament"
        else n
    )
    n = min(n, 60)
    chance, asked = random.Random(seed), list[list[int]]()
    order = finished(strategy(n, assessor(kind, lambda _: chance.random(), asked), **options))
    assert sorted(order) == list(range(n))
    for indices in asked:
        assert len(set(indices)) == len(indices) >= (1 if kind in ("score", "grades") else 2)
        assert set(indices) <= set(range(n))
        assert len(indices) <= options.get("window_size", options.get("children", 99) + 1)


def windowed(least: int, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"window_size": st.integers(least, 25), **more})


OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "sliding": windowed(10, stride=st.none() | st.integers(1, 9), passes=st.integers(1, 3)),
    "pivot": windowed(6, k=st.integers(1, 5), rounds=st.integers(1, 4)),
    "blitzrank": windowed(2, k=st.integers(1, 30)),
    "acurank": windowed(2, k=st.integers(1, 30), uncertain=st.integers(1, 12), calls=st.integers(1, 20)),
    "tournament": windowed(4, tournaments=st.integers(1, 3), seed=st.integers(0, 3)),
    "groups": windowed(1, rounds=st.integers(1, 3), seed=st.integers(0, 3)),
    "staged": st.fixed_dictionaries({"k": st.integers(1, 30), "samples": st.integers(1, 3)}),
    "elimination": windowed(2),
    "heapsort": st.fixed_dictionaries({"children": st.integers(1, 25), "k": st.integers(1, 30)}),
    "bubblesort": st.fixed_dictionaries(
        {"children": st.integers(1, 25), "k": st.integers(1, 30), "both_orders": st.booleans()}
    ),
}


@pytest.mark.parametrize("name", list(STRATEGIES))
@given(seed=st.integers(0, 100))
@settings(max_examples=10)
def test_questions_do_not_depend_on_answer_times(name: str, seed: int) -> None:
    strategy, kinds = STRATEGIES[name].function, STRATEGIES[name].judges
    kind = max(kinds)  # the others find the same
    options = {"tournament": {"tournaments": 3}, "groups": {"rounds": 3}}.get(name, {})

    def run(delays: random.Random | None) -> tuple[list[list[int]], list[int]]:
        asked: list[list[int]] = []
        answer = assessor(kind, lambda i: (7 * i + seed) % 11, asked)

        async def judge(
            indices: Sequence[int], label: str = "", keep: int | None = None, *, samples: int = 0, again: int = 0
        ) -> Any:
            found = asyncio.ensure_future(answer(indices))
            for _ in range(delays.randint(0, 9) if delays else 0):
                await asyncio.sleep(0)
            return await found

        order = finished(strategy(24, judge, **options))
        return asked, order

    assert run(random.Random(seed)) == run(None)


@pytest.mark.parametrize(
    ("name", "options", "calls", "chain"),
    [
        ("heapsort", {"children": 19, "k": 10}, range(15, 26), range(15, 26)),
        ("bubblesort", {"children": 19, "k": 10}, [54], [54]),
        ("tournament", {"window_size": 20, "tournaments": 1, "seed": 929}, [13], [5]),
        ("tournament", {"window_size": 20, "tournaments": 2, "seed": 929}, [26], [5]),
        ("elimination", {"window_size": None}, [99], [99]),
        ("elimination", {"window_size": 20}, [99], [99]),
        ("allpairs", {}, [9900], [1]),
        ("groups", {"window_size": 20}, [5], [1]),
        ("groups", {"window_size": 20, "rounds": 6}, [30], [1]),
        ("staged", {"k": 30, "samples": 16}, [580], [2]),
        ("pivot", {"window_size": 20, "k": 10, "rounds": 8}, range(6, 11), range(2, 6)),
        ("blitzrank", {"window_size": 20, "k": 10}, range(6, 9), range(2, 5)),
        ("acurank", {"window_size": 20, "k": 10}, range(9, 15), range(4, 9)),
    ],
)
def test_cost_of_a_hundred(name: str, options: dict[str, Any], calls: Sequence[int], chain: Sequence[int]) -> None:
    strategy, kinds = STRATEGIES[name].function, STRATEGIES[name].judges
    kind = max(kinds)  # the others find the same
    found = predict(strategy, JUDGES[kind], 100, options)
    assert found.calls in calls
    assert found.chain in chain


def test_acurank_ends_when_a_single_candidate_is_uncertain() -> None:
    asked: list[list[int]] = []
    judge = assessor("permutation", lambda i: i, asked)
    order = finished(STRATEGIES["acurank"].function(41, judge, window_size=20, k=1, uncertain=1))
    assert order[0] == 0
    assert len(asked) < 20


@pytest.mark.parametrize("name", [name for name, entry in STRATEGIES.items() if entry.independent])
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_the_declared_number_of_independent_questions_is_right(name: str, n: int) -> None:
    entry = STRATEGIES[name]
    assert entry.independent is not None
    questions, shown = entry.independent(n)
    found = predict(entry.function, JUDGES[max(entry.judges)], n, {})
    assert (found.questions, found.widest, found.chain) == (questions, shown * bool(questions), min(questions, 1))


@pytest.mark.parametrize(
    ("name", "n", "options", "says"),
    [
        ("pivot", 30, {"window_size": 10, "k": 10}, "k 10 has to be less than window_size 10"),
        (
            "blitzrank",
            2000,
            {"k": 501},
            "k 501 of 2000 candidates is too many to keep account of: set k to at most 500",
        ),
        (
            "tournament",
            441,
            {"window_size": 20},
            "window_size 20 is too small for a tournament of 441 candidates: set at least 21",
        ),
    ],
)
def test_incompatible_settings_are_rejected(name: str, n: int, options: dict[str, Any], says: str) -> None:
    strategy = STRATEGIES[name].function
    with pytest.raises(UsageError, match=says):
        finished(strategy(n, assessor("permutation", int, []), **options))


def test_sliding_pairs_ask_in_both_orders_and_change_nothing_on_a_contradiction() -> None:
    """PRP-Sliding-K: 2 x 99 questions in a pass over 100 candidates; a pair whose answers disagree keeps its order."""
    asked: list[tuple[int, ...]] = []

    async def first_shown(indices: Sequence[int], label: str = "") -> int:
        asked.append(tuple(indices))
        return indices[0]

    async def higher(indices: Sequence[int], label: str = "") -> int:
        return max(indices)

    options: dict[str, Any] = {"children": 1, "both_orders": True}
    assert asyncio.run(bubblesort(100, first_shown, k=1, **options)) == list(range(100))
    assert len(asked) == 198
    assert asked[:2] == [(98, 99), (99, 98)]
    assert asyncio.run(bubblesort(20, higher, k=10, **options))[:10] == list(range(19, 9, -1))


def test_a_tournament_says_how_many_go_on() -> None:
    kept: list[tuple[int, int]] = []

    async def judge(indices: Sequence[int], label: str, keep: int) -> list[int]:
        kept.append((len(indices), keep))
        return sorted(indices)

    asyncio.run(tournament(100, judge, window_size=20))
    assert kept == [(20, 10)] * 5 + [(10, 4)] * 5 + [(20, 10), (10, 5), (5, 2)]
