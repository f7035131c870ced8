"""Learning from rewards: served prompts, whole queries in a batch, groups without contrast, KL's sign, exact resume."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import grpo_from_scratch as course
from tiny import best_rows, tiny_model

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Message
from pyserini_reasonrank.train.data.rows import Audit, Row, write_rows
from pyserini_reasonrank.train.experimental.rarl import ResponseMutation, mutated
from pyserini_reasonrank.train.folder import read_record
from pyserini_reasonrank.train.rewards.reference import right_answer, wrong_answer
from pyserini_reasonrank.train.settings import PolicySettings
from pyserini_reasonrank.train.trainers import grpo, policy, ranking_trainer, sft
from pyserini_reasonrank.train.trainers.batching import PromptSampler
from pyserini_reasonrank.train.trainers.examples import end_of_turn, prompt_of
from pyserini_reasonrank.train.trainers.ranking_trainer import Grouping, RankingTrainer

ARGS = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 6,
    "save_steps": 1000,
    "max_steps": 2,
}
SEEN: list[Counter[str]] = []


def constant(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
    return [0.5] * len(completions)


def length(prompts: Sequence[str], completions: Sequence[str], *, scale: float = 1.0, **columns: Any) -> list[float]:
    return [scale * (len(text) % 3) for text in completions]


def lost(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
    return [math.nan if i % 4 == 0 else float(len(text) % 3) for i, text in enumerate(completions)]


def infinite(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float | None]:
    return [(math.inf, None, 1.0, 2.0)[i % 4] for i in range(len(completions))]


def noted(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
    SEEN.append(Counter(columns["qid"]))
    return length(prompts, completions)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(path, best_rows(12))
    return path


def config(start: Path, rows: Path, output: Path, train: dict[str, Any] | None = None, **changes: Any) -> grpo.Config:
    given = {"rewards": [{"path": "test_grpo.length"}], **changes}
    return grpo.Config.model_validate(
        {"model": str(start), "data": [rows], "output": output, "args": {**ARGS, **(train or {})}, **given}
    )


def log(output: Path, name: str) -> list[float]:
    record = read_record(output)
    assert record is not None
    return [entry[name] for entry in record["log"] if name in entry]


def trainer(model: Path, output: Path, grouping: Grouping, mutation: Any = None, **args: Any) -> RankingTrainer:
    from trl import GRPOConfig

    loaded = policy.load(PolicySettings(model=str(model)))
    made = policy.arguments(GRPOConfig, {**ARGS, **args}, output_dir=str(output))
    return RankingTrainer(
        model=loaded.model,
        reward_funcs=[length],
        args=made,
        train_dataset=grpo.prompts(best_rows(12), loaded, 500, None, Audit()),
        processing_class=loaded.tokenizer,
        grouping=grouping,
        mutation=mutation,
    )


def test_rollouts_by_vllm_that_do_not_start_are_one_sentence(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL checks vLLM while it makes the trainer; vLLM itself is not loaded here."""

    def refuses(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("The vLLM server can't be reached\n at http://localhost:8000")

    monkeypatch.setattr(ranking_trainer, "RankingTrainer", refuses)
    with pytest.raises(UsageError, match=r"args.use_vllm: The vLLM server can't be reached at http://localhost:8000$"):
        grpo.run(config(model, data, tmp_path / "run", {"use_vllm": True, "vllm_mode": "server"}))
    with pytest.raises(ConnectionError):
        grpo.run(config(model, data, tmp_path / "run"))
    assert not list((tmp_path / "run").glob("*"))


# samplers


def sampler(qids: Sequence[str], **changes: Any) -> PromptSampler:
    values: dict[str, Any] = {
        "prompts": 2,
        "generations": 3,
        "repeats": 2,
        "per_query": None,
        "shuffle": True,
        "seed": 1,
    }
    return PromptSampler(qids, [True] * len(qids), **(values | changes))


def test_a_prompt_comes_once_for_each_answer_and_a_batch_once_for_each_slice() -> None:
    order = list(sampler(list("abcde"), shuffle=False))
    assert order == [0, 0, 0, 1, 1, 1] * 2 + [2, 2, 2, 3, 3, 3] * 2  # e does not fill a batch


@given(st.lists(st.integers(1, 7), min_size=1, max_size=9), st.integers(2, 4), st.integers(1, 3), st.integers(0, 3))
def test_a_batch_holds_whole_queries(sizes: list[int], per_query: int, queries: int, epoch: int) -> None:
    qids = [f"q{n}" for n, size in enumerate(sizes) for _ in range(size)]
    made = sampler(qids, per_query=per_query, prompts=per_query * queries, generations=2, repeats=1)
    made.set_epoch(epoch)
    order = list(made)
    assert len(order) == len(made)
    assert made.left_out == sum(size < per_query for size in sizes)
    assert made.batches == (len(sizes) - made.left_out) // queries
    width = per_query * queries * 2
    for start in range(0, len(order), width):
        batch = order[start : start + width]
        assert set(Counter(batch).values()) == {2}
        assert set(Counter(qids[i] for i in set(batch)).values()) == {per_query}
    assert max(Counter(order).values(), default=2) == 2  # no row in two batches


def test_of_a_query_with_more_rows_a_positive_is_always_drawn() -> None:
    positive = [i % 5 == 3 for i in range(20)]
    made = PromptSampler(["a"] * 5 + ["b"] * 5 + ["c"] * 10, positive, prompts=2, generations=1, repeats=1,
                         per_query=2, shuffle=True, seed=0)  # fmt: skip
    drawn = []
    for epoch in range(9):
        made.set_epoch(epoch)
        order = list(made)
        drawn.append(tuple(order))
        assert all(any(positive[i] for i in order[k : k + 2]) for k in range(0, len(order), 2))
    assert len(set(drawn)) > 1


def test_the_order_is_the_epochs_own() -> None:
    made = sampler([str(i) for i in range(10)])
    first = list(made)
    assert list(made) == first
    made.set_epoch(1)
    second = list(made)
    assert second != first
    again = sampler([str(i) for i in range(10)])
    again.set_epoch(1)
    assert list(again) == second


# prompts


def test_prompts_are_those_that_serve(model: Path, tmp_path: Path) -> None:
    loaded = policy.load(PolicySettings(model=str(model)))
    [row] = best_rows(1)
    begun = row.model_copy(update={"prefill": "<think>"})
    table = grpo.prompts([begun], loaded, 500, None, Audit())
    prompts = list(table["prompt"])
    assert prompts == [loaded.chat.text(prompt_of(begun))]
    made = trainer(model, tmp_path, Grouping())
    ids, _, _ = made._tokenize_prompts(prompts)
    assert ids == [loaded.chat.tokens(prompt_of(begun))]


def test_prompts_that_do_not_fit_are_left_out_and_named(model: Path) -> None:
    loaded = policy.load(PolicySettings(model=str(model)))
    rows = best_rows(3)
    rows[1] = rows[1].model_copy(update={"prompt": (Message("user", "gem " * 100),)})
    audit = Audit()
    assert grpo.prompts(rows, loaded, 500, 100, audit)["qid"] == ["q0", "q2"]
    assert "1 left out, a prompt longer than max_prompt_length, or than the context leaves: tiny q1" in str(audit)
    with pytest.raises(UsageError, match="no prompt has at most 10 tokens"):
        grpo.prompts(rows, loaded, 10, None, Audit())


# settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rewards": []}, "grpo needs --rewards"),
        ({"rewards": [{"path": "multivew"}]}, "unknown reward function .*multivew; did you mean 'multiview'"),
        ({"rewards": [{"path": "no.such.module.reward"}]}, "unknown reward function no.such.module.reward"),
        ({"rewards": [{"path": "multiview", "args": {"phy": 1}}]}, "the reward multiview has no argument phy"),
        ({"train": {"steps_per_generation": 2, "save_steps": 3}}, "save_steps 3 is between two generations"),
        (
            {"train": {"num_generations": 8, "per_device_train_batch_size": 1, "steps_per_generation": 4}},
            "rejects these args",
        ),
        ({"train": {"per_device_train_batch_size": 64}}, "too few prompts for one batch of 16"),
        ({"per_query": 3}, "not a multiple of the group size 12"),
        ({"per_query": 2}, "12 queries have fewer than 2"),
        ({"max_prompt_length": 5}, "no prompt has at most 5 tokens"),
    ],
)
def test_faults_are_said_in_a_sentence(
    changes: dict[str, Any], said: str, model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        grpo.run(config(model, data, tmp_path / "run", **changes))
    assert not list((tmp_path / "run").glob("*"))  # nothing stands in the way of the corrected command


def test_arguments_of_a_reward_reach_it() -> None:
    made = grpo.function(grpo.Reward(path="test_grpo.length", args={"scale": 10}))
    assert made([""], ["ab"]) == [20]
    assert made.__name__ == "length"


# rewards and groups


def test_groups_of_equal_rewards_take_no_part_and_are_counted(model: Path, data: Path, tmp_path: Path) -> None:
    rewards = [{"path": "test_grpo.constant"}]
    grpo.run(config(model, data, tmp_path / "dropped", {"beta": 1.0, "max_steps": 3}, rewards=rewards))
    assert log(tmp_path / "dropped", "groups/equal") == [1.0] * 3
    assert log(tmp_path / "dropped", "loss") == [0.0] * 3
    assert log(tmp_path / "dropped", "grad_norm") == [0.0] * 3


def test_groups_with_contrast_are_kept(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import GRPOTrainer

    made = trainer(model, tmp_path, Grouping())
    rewards = torch.tensor([[0.0], [1.0], [0.0], [0.0], [2.0], [2.0], [2.0], [2.0]])
    made.model.train()
    monkeypatch.setattr(GRPOTrainer, "_calculate_rewards", lambda *arguments: rewards)
    made._calculate_rewards([{}] * 8, [""] * 8, [""] * 8, [[0]] * 8)
    assert made._left_out.tolist() == [False] * 4 + [True] * 4
    assert made._metrics["train"]["groups/equal"] == [0.5]


def test_a_reward_that_is_nan_moves_nothing(model: Path, data: Path, tmp_path: Path) -> None:
    grpo.run(config(model, data, tmp_path / "run", {"max_steps": 3}, rewards=[{"path": "test_grpo.lost"}]))
    assert all(map(math.isfinite, log(tmp_path / "run", "loss")))
    assert all(map(math.isfinite, log(tmp_path / "run", "reward")))
    assert log(tmp_path / "run", "completions/no_reward") == [0.25] * 3


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
@pytest.mark.parametrize("drop_equal", [True, False])
@pytest.mark.parametrize("names", [["infinite"], ["constant", "infinite"]])
def test_a_completion_without_a_finite_reward_is_left_out_of_its_group(
    names: list[str], drop_equal: bool, scale: str, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of each four rewards the first is infinite and the second None; what other functions say of them does not count."""
    made = trainer(model, tmp_path, Grouping(drop_equal=drop_equal), scale_rewards=scale)
    made.reward_funcs, made.reward_func_names = [globals()[name] for name in names], names
    made.reward_weights = torch.ones(len(names))
    made.reward_processing_classes = [None] * len(names)
    made.model.train()
    rows = list(made.train_dataset.select([0] * 4 + [1] * 4))
    with caplog.at_level(logging.WARNING, "pyserini_reasonrank"):
        batch = made._generate_and_score_completions(rows)
    first, second, third, fourth = batch["advantages"][:4].tolist()
    assert batch["advantages"][4:].tolist() == [first, second, third, fourth]
    assert (first, second) == (0.0, 0.0)
    assert third == -fourth
    spread = {"none": 1.0, "group": (1 / 2) ** 0.5, "batch": (1 / 3) ** 0.5}  # of 1 and 2, and of these twice
    assert fourth == pytest.approx(0.5 / spread[scale], rel=1e-3)
    assert batch["completion_mask"].any(1).tolist() == [False, False, True, True] * 2
    assert batch["num_items_in_batch"] == batch["completion_mask"].sum()
    assert made._metrics["train"]["completions/no_reward"] == [0.5]
    said = [record.message for record in caplog.records if record.name.startswith("pyserini_reasonrank")]
    assert said == ["4 of 8 completions have no finite reward from infinite and are left out of the loss "
                    "(queries ['q0', 'q1'])"]  # fmt: skip


def test_mutation_sees_the_same_rewards_as_training(model: Path, tmp_path: Path) -> None:
    made = trainer(model, tmp_path, Grouping())
    made.reward_weights = torch.tensor([1.0, 0.5])
    given = torch.tensor([[1.0, 2.0], [math.nan, 2.0], [1.0, math.inf], [-math.inf, math.inf]])
    assert made.totals(given).tolist() == [2.0, *[pytest.approx(math.nan, nan_ok=True)] * 3]


def test_the_kl_term_pulls_towards_the_reference(model: Path, tmp_path: Path) -> None:
    """The published IRanker code subtracts it, so that rewards drift. TRL adds it: without any advantage the loss is
    beta times the (never negative) k3 estimate, and a step against its gradient lowers the divergence."""
    made = trainer(model, tmp_path, Grouping(), beta=0.5)
    torch.manual_seed(0)
    ids = torch.randint(4, 30, (8, 5))
    batch = {
        "prompt_ids": torch.randint(4, 30, (8, 7)),
        "prompt_mask": torch.ones(8, 7, dtype=torch.long),
        "completion_ids": ids,
        "completion_mask": torch.ones_like(ids),
        "advantages": torch.zeros(8),
        "num_items_in_batch": torch.tensor(ids.numel()),
    }
    whole = torch.cat([batch["prompt_ids"], ids], 1)

    def logprobs() -> Any:
        return made._get_per_token_logps_and_entropies(made.model, whole, torch.ones_like(whole), 5)[0]

    made.model.train()
    made.current_gradient_accumulation_steps = 1
    batch["ref_per_token_logps"] = logprobs().detach()
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    now = logprobs().detach()
    ratio = batch["ref_per_token_logps"] - now
    k3 = (ratio.exp() - ratio - 1).mean().item()
    loss = made._compute_loss(made.model, batch)
    assert k3 > 0.01
    assert loss.item() == pytest.approx(0.5 * k3, rel=1e-4)
    loss.backward()
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.sub_(0.05 * parameter.grad)
    assert made._compute_loss(made.model, batch).item() < 0.9 * loss.item()


def test_a_reward_sees_all_candidates_of_a_query(model: Path, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"qid": f"q{n // 3}"}) for n, row in enumerate(best_rows(18))]
    write_rows(tmp_path / "rows.jsonl", rows)
    SEEN.clear()
    steps = {"per_device_train_batch_size": 24, "max_steps": 3}
    rewards = [{"path": "test_grpo.noted"}]
    grpo.run(config(model, tmp_path / "rows.jsonl", tmp_path / "run", steps, per_query=3, rewards=rewards))
    assert len(SEEN) == 3
    for batch in SEEN:
        assert len(batch) == 2
        assert set(batch.values()) == {3 * 4}


def test_interrupted_training_resumes_to_the_same_curve(model: Path, data: Path, tmp_path: Path) -> None:
    """Each generation serves two steps; 12 prompts of which 4 are asked at once are 3 generations, 6 steps, an epoch."""
    args = {"max_steps": 10, "save_steps": 4, "steps_per_generation": 2, "beta": 0.1, "lr_scheduler_type": "cosine"}
    same_curve(model, data, tmp_path, args, 7)


@pytest.mark.soak_only
def test_an_adapter_and_its_reference_both_come_back(model: Path, data: Path, tmp_path: Path) -> None:
    """The reference is a copy of the adapter that training started from: a second adapter in the checkpoint."""
    start = {"max_steps": 3, "per_device_train_batch_size": 8, "learning_rate": 1e-2}
    sft.run(sft.Config.model_validate(
        {"model": str(model), "data": [data], "output": tmp_path / "sft", "lora": {"r": 4, "dropout": 0.1}, "args": start}
    ))  # fmt: skip
    same_curve(
        tmp_path / "sft", data, tmp_path, {"max_steps": 6, "save_steps": 3, "beta": 0.5, "learning_rate": 1e-2}, 4
    )


def same_curve(start: Path, data: Path, folder: Path, args: dict[str, Any], stop: int) -> None:
    grpo.run(config(start, data, folder / "whole", args))
    made = config(start, data, folder / "parts", args)
    interrupted(made, stop)
    assert len(list((folder / "parts").glob("checkpoint-*"))) == 1
    grpo.run(made)
    assert max(log(folder / "whole", "kl")) > 0
    for name in ("loss", "reward", "kl", "entropy"):
        assert log(folder / "parts", name) == log(folder / "whole", name), name


def interrupted(made: grpo.Config, step: int) -> None:
    """Run until ``step`` and break off there, as a crash would."""
    kept = RankingTrainer.training_step

    def step_or_crash(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step >= step:
            raise RuntimeError("the power went out")
        return kept(self, *args, **kwargs)

    RankingTrainer.training_step = step_or_crash
    try:
        with pytest.raises(RuntimeError, match="power"):
            grpo.run(made)
    finally:
        RankingTrainer.training_step = kept


@pytest.mark.soak_only  # test_sft.py has it in each `make test`
def test_prilora_prunes_here_too(model: Path, data: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    lora = {"r": 3, "alpha": 6, "prilora": {"first": 2, "last": 4, "every": 2, "share": 0.5}}
    grpo.run(config(model, data, tmp_path / "run", lora=lora))
    found = {
        name: t for name, t in load_file(tmp_path / "run" / "adapter_model.safetensors").items() if "lora_A" in name
    }
    assert found
    for tensor in found.values():
        assert ((tensor == 0).sum(1) == tensor.shape[1] // 2).all()


def test_answering_is_no_part_of_what_prilora_watches() -> None:
    from pyserini_reasonrank.train.experimental.prilora import Pruning
    from pyserini_reasonrank.train.settings import Prilora

    network = torch.nn.ModuleDict(
        {"layer": torch.nn.ModuleDict({"lora_A": torch.nn.ModuleDict({"default": torch.nn.Linear(2, 1)})})}
    )
    read = network["layer"]["lora_A"]["default"]
    watching = Pruning(Prilora())
    watching.on_train_begin(SimpleNamespace(output_dir="nowhere"), SimpleNamespace(global_step=0), None, model=network)
    with torch.no_grad():
        read(torch.ones(3, 2))
    assert not watching._norms
    read(torch.ones(4, 2))
    assert [norm.tolist() for norm in watching._norms.values()] == [[2.0, 2.0]]


# RARL's mutation, LaTRO's self-reward


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gains": (0.0, 2.0, 1.0), "kind": "permutation"}, "[2] > [3] > [1]"),
        ({"gains": (0.0, 2.0, 1.0)}, "[2]"),
        ({"gains": (1.0, 2.0, 0.0), "kind": "worst"}, "[3]"),
        ({"gains": (3.0,), "kind": "score", "grade": None}, "3"),
        ({"gains": (1.0,), "kind": "score", "grade": 7.0}, "7"),
        ({"gains": (1.0,), "kind": "score", "grade": 7.0, "choices": tuple(map(str, range(11)))}, "7"),
        ({"gains": (1.0,), "kind": "score", "grade": 1.0, "choices": ("true", "false")}, "true"),
        ({"gains": (1.0,), "kind": "score", "grade": 0.0, "choices": ("yes", "no")}, "no"),
    ],
)
def test_the_right_answer_to_a_row(changes: dict[str, Any], expected: str) -> None:
    assert right_answer(best_rows(1)[0].model_copy(update=changes).model_dump()) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gains": (0.0, 2.0, 1.0), "kind": "permutation"}, None),
        ({"gains": (1.0, 2.0, 0.0)}, "[3]"),
        ({"gains": (1.0, 2.0, 0.0), "kind": "worst"}, "[2]"),
        ({"gains": (3.0,), "kind": "score", "grade": 7.0}, None),
        ({"gains": (1.0,), "kind": "score", "grade": 1.0, "choices": ("true", "false")}, "false"),
        ({"gains": (1.0,), "kind": "score", "grade": 0.0, "choices": ("yes", "no")}, "yes"),
    ],
)
def test_a_wrong_answer_to_a_row(changes: dict[str, Any], expected: str | None) -> None:
    """To drop another passage that is not the target would be as right: the group stayed as flat as before."""
    row = best_rows(1)[0].model_copy(update=changes).model_dump()
    assert wrong_answer(row) == expected
    if expected is not None:
        form = "<think>a</think>\n<answer>{}</answer>"
        found = mutated(
            [form.format(right_answer(row))], [1.0], right_answer(row), good=0.5, seed=0, wrong=wrong_answer(row)
        )
        assert found is not None
        assert found.text == form.format(expected)


def test_a_flat_group_gets_one_answer_that_differs(model: Path, tmp_path: Path) -> None:
    loaded = policy.load(PolicySettings(model=str(model)))
    end = end_of_turn(loaded)
    made = trainer(model, tmp_path, Grouping(), mutation=ResponseMutation(0.5, 0.8, end))
    made.reward_funcs = [grpo.function(grpo.Reward(path="exact_label"))]
    made.state.max_steps = 10
    row = best_rows(1)[0].model_dump()
    right = right_answer(row)
    rows = [{**row, "prompt": "p"}] * 8
    texts = ["gem"] * 4 + [right, "gem", "gem", "gem"]
    ids = [[5, end] for _ in texts]
    assert made.mutation is not None
    found = made.mutation(made, rows, ([], ids, None, list(texts), None, {}, None, None))
    changed = [i for i, (old, new) in enumerate(zip(texts, found[3], strict=True)) if old != new]
    assert len(changed) == 1  # the second group has contrast
    assert changed[0] < 4
    assert found[3][changed[0]] == right
    assert loaded.tokenizer.decode(found[1][changed[0]]) == f"{right}<|im_end|>"
    assert made._metrics["train"]["groups/mutated"] == [0.5]
    made.state.global_step = 8
    late = made.mutation(made, rows, ([], ids, None, list(texts), None, {}, None, None))
    assert late[3] == texts


def test_a_thought_gives_way_to_the_answer_that_a_mutation_puts_behind_it(model: Path, tmp_path: Path) -> None:
    """What is rewarded is what is learnt from, and as long as a completion may be."""
    loaded = policy.load(PolicySettings(model=str(model)))
    end = end_of_turn(loaded)
    made = trainer(model, tmp_path, Grouping(), mutation=ResponseMutation(0.5, 0.8, end), max_completion_length=30)
    made.reward_funcs = [grpo.function(grpo.Reward(path="multiview"))]
    made.state.max_steps = 10
    [row] = thoughtful_rows(1)
    rows = [{**row.model_dump(), "prompt": "p", "prefill": "<think>"}] * 4
    endless = " ".join(["gem bear"] * 8)[:-5]
    ids = loaded.tokenizer(endless, add_special_tokens=False)["input_ids"][:30]

    def applied() -> tuple[list[str], list[list[int]]]:
        generated: Any = (
            [],
            [list(ids) for _ in rows],
            None,
            [endless] * 4,
            [[-1.0] * len(ids) for _ in rows],
            {},
            None,
            None,
        )
        assert made.mutation is not None
        found = made.mutation(made, rows, generated)
        return found[3], found[1]

    texts, spelled = applied()
    [place] = [i for i, text in enumerate(texts) if text != endless]
    assert len(spelled[place]) == 30
    assert spelled[place][-1] == end
    assert loaded.tokenizer.decode(spelled[place][:-1]) == texts[place]
    assert texts[place].startswith("gem bear ")
    assert texts[place].endswith("</think>\n<answer>[1] > [2] > [3]</answer>")
    columns: dict[str, Any] = {"docids": [row.docids], "gains": [row.gains], "prefill": ["<think>"]}
    assert made.reward_funcs[0](prompts=[""], completions=[texts[place]], **columns) == [pytest.approx(1.3)]
    made.max_completion_length = 12  # less than the answer takes: nothing is changed, or counted
    texts, _ = applied()
    assert texts == [endless] * 4
    assert made._metrics["train"]["groups/mutated"] == [1.0, 0.0]


def test_mutations_make_a_gradient_where_there_was_none(model: Path, data: Path, tmp_path: Path) -> None:
    rewards = [{"path": "exact_label"}]
    grpo.run(config(model, data, tmp_path / "flat", {"max_steps": 1}, rewards=rewards))
    assert log(tmp_path / "flat", "groups/equal") == [1.0]
    grpo.run(config(model, data, tmp_path / "run", {"max_steps": 1}, rewards=rewards, mutation={}))
    assert log(tmp_path / "run", "groups/mutated") == [1.0]
    assert log(tmp_path / "run", "groups/equal") == [0.0]
    assert log(tmp_path / "run", "grad_norm")[0] > 0


def thoughtful_rows(count: int) -> list[Row]:
    answer = (Message("assistant", "<think>gem</think>\n<answer>[1] > [2] > [3]</answer>"),)
    return best_rows(count, kind="permutation", tags=True, completion=answer, gains=(3.0, 2.0, 1.0))


def test_the_self_reward_is_the_likelihood_of_the_right_answer(model: Path, tmp_path: Path) -> None:
    from pyserini_reasonrank.train.experimental.latro import ANSWER, SelfReward

    made = trainer(model, tmp_path, Grouping())
    own = SelfReward(lambda: made.accelerator.unwrap_model(made.model), made.processing_class, 2)
    [row] = thoughtful_rows(1)
    prompt = made.processing_class.decode([1, 5, 6])
    told, untold = "gem</think> bear", "cloud drum"
    found = own([prompt, prompt], [told, untold], kind=[row.kind] * 2, gains=[list(row.gains)] * 2)
    encode = made.processing_class

    def by_hand(thought: str) -> float:
        head = encode(prompt + thought + ANSWER, add_special_tokens=False)["input_ids"]
        said = encode("[1] > [2] > [3]", add_special_tokens=False)["input_ids"]
        logits = made.model(input_ids=torch.tensor([head + said])).logits[0, len(head) - 1 : -1]
        chosen = logits.log_softmax(-1)[range(len(said)), said]
        return float(chosen.mean().item())

    expected = [by_hand("gem"), by_hand("cloud drum")]
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    assert found[1] == pytest.approx(2 * sum(expected) / 2, rel=1e-4)  # never stopped: twice the mean


def test_latro_trains_without_a_reward_function(model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", thoughtful_rows(12))
    args = {"scale_rewards": "none", "max_steps": 2}
    grpo.run(config(model, tmp_path / "rows.jsonl", tmp_path / "run", args, rewards=[], latro={"orders": 2}))
    assert all(value < 0 for value in log(tmp_path / "run", "rewards/self_reward/mean"))
    assert max(log(tmp_path / "run", "grad_norm")) > 0


def test_the_self_reward_of_a_score_is_that_of_its_grade(model: Path, tmp_path: Path) -> None:
    from pyserini_reasonrank.train.experimental.latro import SelfReward

    made = trainer(model, tmp_path, Grouping())
    own = SelfReward(lambda: made.accelerator.unwrap_model(made.model), made.processing_class)
    asked: list[Sequence[str]] = []
    inner = own._logprobs

    def noted(head: Any, answers: Any) -> Any:
        asked.append(answers)
        return inner(head, answers)

    own._logprobs = noted  # type: ignore[method-assign]
    own(
        ["p"] * 2,
        ["gem</think>"] * 2,
        kind=["score"] * 2,
        gains=[[1.0]] * 2,
        grade=[7.0, 1.0],
        choices=[["7", "8", "9"], ["yes", "no"]],
    )
    assert asked == [["7"], ["yes"]]


@pytest.mark.parametrize("sampled", [True, False])
def test_only_the_thought_is_learnt_by_latro(sampled: bool, model: Path) -> None:
    from pyserini_reasonrank.train.experimental.latro import cut_after_thought

    tokenizer = policy.load(PolicySettings(model=str(model))).tokenizer
    made = SimpleNamespace(processing_class=tokenizer)
    texts = ["gem</think>\n<answer>[1]</answer>", "gem bear", "</think>", ""]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    logprobs = [[-float(i) for i in range(len(spelled))] for spelled in ids] if sampled else None
    found = cut_after_thought(made, [], ([], [list(i) for i in ids], None, list(texts), logprobs, {}, None, None))
    assert found[3] == ["gem</think>", "gem bear", "</think>", ""]
    assert found[1] == [ids[0][:2], *ids[1:]]
    if sampled:
        assert found[4] == [[0.0, -1.0], [0.0, -1.0, -2.0], [0.0], []]


def test_vllm_stops_a_thought_where_latro_ends_it() -> None:
    vllm = pytest.importorskip("vllm")
    from pyserini_reasonrank.train.command import load

    made = load("grpo", grpo.Config, ["--config=grpo-latro", "--data=[rows.jsonl]", "--output=run"])
    sampling = vllm.SamplingParams(max_tokens=500, **made.args["generation_kwargs"])
    assert sampling.stop == ["</think>"]
    assert sampling.include_stop_str_in_output


@pytest.mark.parametrize("alone", [True, False])
def test_what_follows_a_thought_is_no_part_of_latro_s_loss(
    alone: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside other rewards, which read the answer, it stays."""
    from trl import GRPOTrainer

    generate, masked = GRPOTrainer._generate, []

    def whole(self: Any, prompts: list[str]) -> Any:
        found = list(generate(self, prompts))
        text = "gem</think> bear"
        found[3] = [text] * len(prompts)
        found[1] = [self.processing_class(text, add_special_tokens=False)["input_ids"] for _ in prompts]
        return tuple(found)

    compute = RankingTrainer._compute_loss

    def noted(self: Any, model: Any, inputs: Any) -> Any:
        masked.append(inputs["completion_mask"].sum(1).tolist())
        return compute(self, model, inputs)

    monkeypatch.setattr(GRPOTrainer, "_generate", whole)
    monkeypatch.setattr(RankingTrainer, "_compute_loss", noted)
    write_rows(tmp_path / "rows.jsonl", thoughtful_rows(12))
    rewards = [] if alone else [{"path": "test_grpo.length"}]
    args = {"scale_rewards": "none", "max_steps": 1}
    grpo.run(
        config(model, tmp_path / "rows.jsonl", tmp_path / "run", args, rewards=rewards, latro={}, drop_equal=False)
    )
    assert {n for batch in masked for n in batch} == {2 if alone else 4}


# GRPO from scratch, docs/course


@pytest.mark.parametrize("kl_weight", [0.0, 0.3])
def test_the_loss_of_the_course_and_its_gradient_are_those_of_trl(
    kl_weight: float, model: Path, tmp_path: Path
) -> None:
    from trl import GRPOConfig, GRPOTrainer

    settings = {"loss_type": "grpo", "beta": kl_weight, "epsilon": 0.2, "use_bias_correction_kl": False,
                "per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 6}  # fmt: skip
    loaded = policy.load(PolicySettings(model=str(model)))
    trainer = GRPOTrainer(
        model=loaded.model,
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        args=policy.arguments(GRPOConfig, settings, output_dir=str(tmp_path)),
        train_dataset=grpo.prompts(best_rows(4), loaded, 500, None, Audit()),
        processing_class=loaded.tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1
    draw = torch.Generator().manual_seed(3)
    tokens = torch.randint(5, 30, (4, 11), generator=draw)
    mask = torch.tensor([[1.0] * length + [0.0] * (6 - length) for length in (6, 2, 4, 5)])
    advantage = torch.tensor([1.5, -0.5, 0.3, -1.3])
    network = loaded.model.eval()
    with torch.no_grad():
        now = course.token_log_probabilities(network, tokens, 6)
    old = now + 0.4 * torch.randn(4, 6, generator=draw)  # ratios on both sides of the clipping range
    reference = now + 0.4 * torch.randn(4, 6, generator=draw)
    inputs = {
        "prompt_ids": tokens[:, :5], "prompt_mask": torch.ones(4, 5, dtype=torch.long),
        "completion_ids": tokens[:, 5:], "completion_mask": mask.long(), "advantages": advantage,
        "old_per_token_logps": old, "ref_per_token_logps": reference, "num_items_in_batch": mask.sum(),
    }  # fmt: skip

    theirs = trainer._compute_loss(network, inputs)
    new = course.token_log_probabilities(network, tokens, 6)
    ours = course.grpo_loss(new, old, reference, advantage, mask, clip=0.2, kl_weight=kl_weight)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    gradients = zip(
        torch.autograd.grad(ours, weights, allow_unused=True),
        torch.autograd.grad(theirs, weights, allow_unused=True),
        strict=True,
    )
    for own, other in gradients:
        assert (own is None) == (other is None)
        assert own is None or torch.allclose(own, other, atol=1e-5)
    ratio = (now - old).exp()
    assert ((ratio > 1.2) & (mask > 0)).any()
    assert ((ratio < 0.8) & (mask > 0)).any()
