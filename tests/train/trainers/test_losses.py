"""Ranking losses against figures worked out by hand, and against what any of them must do."""

from __future__ import annotations

from math import exp, log, log2

import pytest

torch = pytest.importorskip("torch")

from pyserini_reasonrank.train.trainers.losses import LOSSES, gains, lambdarank, listnet, ranknet, weighted_ranknet

SCORES = torch.tensor([[0.3, 1.1, -0.5]])
RANKS = torch.tensor([[2, 1, 3]])


def pair(better: float, worse: float) -> float:
    return log(1 + exp(worse - better))


PAIRS = {(1, 2): pair(1.1, 0.3), (1, 3): pair(1.1, -0.5), (2, 3): pair(0.3, -0.5)}  # by ranks


def test_ranknet_is_the_mean_over_the_pairs() -> None:
    assert ranknet(SCORES, RANKS).item() == pytest.approx(sum(PAIRS.values()) / 3)


def test_first_weighs_a_pair_by_its_ranks() -> None:
    expected = sum(loss / (i + j) for (i, j), loss in PAIRS.items()) / 3
    assert weighted_ranknet(SCORES, RANKS).item() == pytest.approx(expected)


def test_listnet_is_the_cross_entropy_to_reciprocal_ranks() -> None:
    target = [exp(1 / r) for r in (2, 1, 3)]
    predicted = [exp(s) for s in (0.3, 1.1, -0.5)]
    expected = -sum(t / sum(target) * log(p / sum(predicted)) for t, p in zip(target, predicted, strict=True))
    assert listnet(SCORES, RANKS).item() == pytest.approx(expected)


def test_lambdarank_weighs_a_pair_by_the_ndcg_of_its_exchange() -> None:
    ideal = sum(1 / r / log2(r + 1) for r in (1, 2, 3))
    # the scores already stand in the right order, so predicted ranks are the ranks
    weight = {(i, j): (1 / i - 1 / j) * (1 / log2(i + 1) - 1 / log2(j + 1)) / ideal for i, j in PAIRS}
    expected = sum(weight[ranks] * loss for ranks, loss in PAIRS.items()) / 3
    assert lambdarank(SCORES, RANKS).item() == pytest.approx(expected)


def test_gains_are_reciprocal_ranks() -> None:
    assert gains(torch.tensor([[1, 2, 4, 0]])).tolist() == [[1.0, 0.5, 0.25, 0.0]]


@pytest.mark.parametrize("name", LOSSES)
def test_padding_changes_nothing(name: str) -> None:
    loss, _ = LOSSES[name]
    padded = (
        torch.cat([SCORES, torch.tensor([[9.0, -9.0]])], 1),
        torch.cat([RANKS, torch.zeros(1, 2, dtype=torch.long)], 1),
    )
    assert loss(*padded).item() == pytest.approx(loss(SCORES, RANKS).item())


@pytest.mark.parametrize("name", LOSSES)
def test_descending_puts_the_passages_in_order(name: str) -> None:
    loss, _ = LOSSES[name]
    scores = torch.tensor([[0.2, -0.1, 0.4, 0.0]], requires_grad=True)
    ranks = torch.tensor([[3, 1, 4, 2]])
    for _ in range(400):
        (gradient,) = torch.autograd.grad(loss(scores, ranks), scores)
        scores = (scores - 1.0 * gradient).detach().requires_grad_()
    assert scores[0].argsort(descending=True).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ranks", [[[0, 0, 0]], [[1, 0, 0]], [[1, 1, 1]]])
def test_nothing_to_compare_is_finite_with_a_finite_gradient(name: str, ranks: list[list[int]]) -> None:
    loss, _ = LOSSES[name]
    scores = SCORES.clone().requires_grad_()
    value = loss(scores, torch.tensor(ranks))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()
    if name != "listnet":
        assert value.item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_ties_are_not_pulled_apart(name: str) -> None:
    loss, _ = LOSSES[name]
    scores = torch.tensor([[0.1, 0.5, 0.5]], requires_grad=True)
    loss(scores, torch.tensor([[1, 2, 2]])).backward()
    assert scores.grad[0, 1].item() == pytest.approx(scores.grad[0, 2].item(), abs=1e-6) or name == "lambdarank"
    assert scores.grad[0, 0].item() < 0
