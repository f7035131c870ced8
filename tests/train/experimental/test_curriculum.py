"""Domains in sequence: the order that harms least, replay, and a whole measured run."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny import best_rows, tiny_model

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Message
from pyserini_reasonrank.train.data.rows import write_rows
from pyserini_reasonrank.train.experimental import curriculum
from pyserini_reasonrank.train.experimental.curriculum import Transfer, best_order, mixed
from pyserini_reasonrank.train.folder import read_record


def test_the_order_spares_what_was_learned_before() -> None:
    """Training on c ruins a and b; a and b do each other no harm, b helps a: so c first, then a, then b."""
    transfer = {
        "a": {"b": 0.1, "c": -0.5},
        "b": {"a": 0.0, "c": -0.4},
        "c": {"a": -0.1, "b": -0.1},
    }
    assert best_order(transfer) == ["c", "a", "b"]


@given(st.integers(1, 4), st.randoms(use_true_random=False))
def test_no_order_is_better(count: int, chance: random.Random) -> None:
    names = "abcd"[:count]
    transfer: Transfer = {i: {j: chance.uniform(-1, 1) for j in names if j != i} for i in names}

    def harm(order: tuple[str, ...]) -> float:
        return -sum(min(transfer[i][j], 0.0) for i, j in itertools.combinations(order, 2))

    found = tuple(best_order(transfer))
    assert harm(found) == pytest.approx(min(map(harm, itertools.permutations(names))))


def test_replay_is_its_share_of_the_whole() -> None:
    rows, earlier = best_rows(85), [row.model_copy(update={"source": "old"}) for row in best_rows(60, seed=1)]
    counts = Counter(row.source for row in mixed(rows, earlier, 0.15, 1))
    assert counts == {"tiny": 85, "old": 15}
    assert Counter(row.source for row in mixed(rows, earlier[:4], 0.15, 1)) == {"tiny": 85, "old": 4}
    assert Counter(row.source for row in mixed(rows, [], 0.15, 1)) == {"tiny": 85}


def config(folder: Path, **changes: Any) -> curriculum.Config:
    domains = {name: {"data": [folder / f"{name}.jsonl"]} for name in ("first", "last")}
    args = {
        "learning_rate": 3e-3,
        "per_device_train_batch_size": 8,
        "max_steps": 40,
        "save_steps": 100,
        "lr_scheduler_type": "constant",
    }
    given = {"model": str(folder / "tiny"), "domains": domains, "output": folder / "out", "trainer": "sft",
             "settings": {"args": args, "max_length": 200}, "probe_steps": 40, "held_out": 8}  # fmt: skip
    return curriculum.Config.model_validate({**given, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two domains that contradict each other: answers to the one are always [1], to the other [3]."""
    torch.set_num_threads(1)
    made = tmp_path_factory.mktemp("curriculum")
    tiny_model(made / "tiny")
    for name, answer in {"first": "[1]", "last": "[3]"}.items():
        answered: dict[str, Any] = {"completion": (Message("assistant", answer),), "source": name}
        rows = [row.model_copy(update={"query": f"query {row.qid}"}) for row in best_rows(40, **answered)]
        write_rows(made / f"{name}.jsonl", rows)
    return made


@pytest.mark.soak_only
def test_transfer_is_measured_and_stages_follow_each_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = config(folder)
    curriculum.run(made)
    assert "first: 40 of 40 rows" in capsys.readouterr().out
    transfer = json.loads((folder / "out" / "transfer.json").read_text(encoding="utf-8"))["transfer"]
    assert transfer["first"]["last"] < -0.1  # each unteaches the other
    assert transfer["last"]["first"] < -0.1
    order = best_order(transfer)
    second = read_record(folder / "out" / f"2-{order[1]}")
    assert second is not None
    assert second["settings"]["model"] == str(folder / "out" / f"1-{order[0]}")
    rows = (folder / "out" / "rows" / f"2-{order[1]}.jsonl").read_text(encoding="utf-8").splitlines()
    assert Counter(json.loads(row)["source"] for row in rows) == {order[1]: 32, order[0]: 6}  # 8 of 40 are held out
    capsys.readouterr()
    curriculum.run(made)
    assert capsys.readouterr().out.count("is finished") == 2  # a second call does nothing anew
    with pytest.raises(UsageError, match=r"transfer.json was measured with other settings or rows"):
        curriculum.run(config(folder, held_out=9))
    with pytest.raises(UsageError, match=r"holds a run with earlier contents of .*2-.*jsonl"):
        curriculum.run(config(folder, replay=0.3))


def test_an_order_that_is_given_holds_nothing_back(folder: Path, tmp_path: Path) -> None:
    made = config(folder, output=tmp_path, order=["last", "first"], replay=0.0)
    made.settings["args"]["max_steps"] = 1
    curriculum.run(made)
    assert len((tmp_path / "rows" / "1-last.jsonl").read_text(encoding="utf-8").splitlines()) == 40


def test_what_can_not_be_compared_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are not comparable, so no order can be measured: set order"):
        curriculum.run(config(folder, output=tmp_path / "out", trainer="grpo", settings={"latro": {}}))


def test_a_domain_of_one_query_can_not_be_measured(folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "one.jsonl", best_rows(1))
    domains = {"first": {"data": [folder / "first.jsonl"]}, "one": {"data": [tmp_path / "one.jsonl"]}}
    with pytest.raises(UsageError, match="domain one has a single query"):
        curriculum.run(config(folder, output=tmp_path / "out", domains=domains))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"order": ["first"]}, "order must name each domain once: first, last"),
        ({"settings": {"model": "m"}}, "curriculum.settings.model is set by the curriculum"),
        ({"domains": {str(n): {"data": ["x"]} for n in range(7)}}, "7 domains can't be measured"),
        ({"settings": {"max_lenght": 1}, "order": ["first", "last"]}, "sft.max_lenght is not known"),
    ],
)
def test_faults_are_said_in_a_sentence(changes: dict[str, Any], said: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        curriculum.run(config(folder, **{"output": tmp_path / "out", **changes}))
