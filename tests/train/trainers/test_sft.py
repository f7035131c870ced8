"""Supervised fine-tuning: what is seen is what serves, loss on the answer alone, adapters, FIRST's loss, exact resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from string import ascii_uppercase
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import more

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny import best_rows, tiny_dev, tiny_model
from transformers import AutoTokenizer

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.records import Candidate, Message, Query
from pyserini_reasonrank.train import export
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.row_builder import RowBuilder
from pyserini_reasonrank.train.data.rows import Audit, check_written, fault_of, write_rows
from pyserini_reasonrank.train.folder import read_record
from pyserini_reasonrank.train.settings import PolicySettings, Prilora
from pyserini_reasonrank.train.trainers import examples, sft
from pyserini_reasonrank.train.trainers.examples import prompt_of
from pyserini_reasonrank.train.trainers.fit import check_precision, check_sharding, save
from pyserini_reasonrank.train.trainers.policy import load

ARGS = {"learning_rate": 3e-3, "per_device_train_batch_size": 16, "lr_scheduler_type": "constant", "save_steps": 1000}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(path, best_rows(96))
    return path


def config(start: Path, rows: Path, output: Path, train: dict[str, Any] | None = None, **changes: Any) -> sft.Config:
    return sft.Config.model_validate(
        {"model": str(start), "data": [rows], "output": output, "args": {**ARGS, **(train or {})}, **changes}
    )


def losses(output: Path) -> list[float]:
    record = read_record(output)
    assert record is not None
    return [entry["loss"] for entry in record["log"] if "loss" in entry]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(next(p for p in folder.iterdir() if p.suffix == ".safetensors")))


def test_loss_is_on_the_answer_alone_and_the_prompt_is_the_one_that_serves(model: Path) -> None:
    policy = load(PolicySettings(model=str(model)))
    [row] = best_rows(1)
    begun = row.model_copy(update={"prefill": "<think>", "completion": (Message("assistant", "</think>[2]"),)})
    [example] = examples.demonstrations([begun], policy, 500, Audit())
    columns = examples.labelled(example)
    seen = columns["input_ids"][: columns["labels"].count(examples.IGNORED)]
    taught = [label for label in columns["labels"] if label != examples.IGNORED]
    assert policy.tokenizer.decode(seen) == policy.chat.text(examples.prompt_of(begun))
    assert seen == policy.chat.tokens(examples.prompt_of(begun))
    assert policy.tokenizer.decode(seen).endswith("<|im_start|>assistant\n<think>")
    assert policy.tokenizer.decode(taught) == "</think>[2]<|im_end|>"
    assert columns["labels"][len(seen) :] == columns["input_ids"][len(seen) :]


def test_rows_that_can_not_be_imitated_are_counted_and_named(model: Path) -> None:
    policy = load(PolicySettings(model=str(model)))
    rows = best_rows(4)
    rows[0] = rows[0].model_copy(update={"completion": ()})
    rows[1] = rows[1].model_copy(update={"completion": (Message("assistant", "[1]<|im_end|>"),)})
    rows[2] = rows[2].model_copy(update={"prompt": (Message("user", "gem " * 300),)})
    audit = Audit()
    [kept] = examples.demonstrations(rows, policy, 400, audit)
    assert kept.row is rows[3]
    assert (audit.read, audit.kept) == (4, 1)
    assert "1 left out, no answer to imitate: tiny q0" in str(audit)
    assert "1 left out, control tokens in the answer: tiny q1" in str(audit)
    assert "1 left out, longer than max_length with its answer: tiny q2" in str(audit)
    with pytest.raises(UsageError, match="no row with an answer to imitate"):
        examples.demonstrations(rows[:3], policy, 400, Audit())


def test_training_learns_records_itself_and_does_not_begin_twice(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = config(model, data, tmp_path / "run", {"max_steps": 40})
    sft.run(made)
    found = losses(tmp_path / "run")
    assert len(found) == 40
    assert sum(found[:3]) / 3 > 2.0
    assert sum(found[-3:]) / 3 < 0.5  # ln 3 / 4 = 0.27 is what the form without the choice leaves
    record = read_record(tmp_path / "run")
    assert record is not None
    assert record["finished"]
    assert record["rows"][0] == {"read": 96, "kept": 96, "left_out": {}}
    assert record["settings"]["model"] == str(model)
    page = (tmp_path / "run" / "training.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "<td>loss</td>" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "96 of 96 rows" in capsys.readouterr().out
    stamp = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    sft.run(made)
    assert "is finished" in capsys.readouterr().out
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == stamp


def test_other_settings_do_not_go_on_in_the_same_folder(model: Path, data: Path, tmp_path: Path) -> None:
    sft.run(config(model, data, tmp_path / "run", {"max_steps": 1}))
    with pytest.raises(UsageError, match=r"a run with a different args.max_steps \(1, now 2\)"):
        sft.run(config(model, data, tmp_path / "run", {"max_steps": 2}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and is not the folder of a training run"):
        sft.run(config(model, data, tmp_path / "full"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"args": {"lerning_rate": 1}},
            "args.lerning_rate is not a setting of TRL's SFTConfig; did you mean 'learning_rate'",
        ),
        ({"args": {"output_dir": "x"}}, "args.output_dir is set by the step itself"),
        ({"args": {"eval_strategy": "never"}}, "SFTConfig rejects these args"),
        ({"model": "/nowhere"}, "there is no model '/nowhere'"),
        ({"data": ["/nowhere.jsonl"]}, "/nowhere.jsonl does not exist"),
        ({"max_length": 5}, "no row with an answer to imitate"),
        ({"lora": {"first_layer": 2}}, "leaves no layer to train: the model has 2 layers"),
        (
            {"model_args": {"dtype": "bfloat16"}},
            "all weights would be trained in bfloat16, which rounds small updates away",
        ),
    ],
)
def test_faults_are_said_in_a_sentence(
    changes: dict[str, Any], said: str, model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        sft.run(config(model, data, tmp_path / "run", **changes))
    assert not list((tmp_path / "run").glob("*"))  # nothing stands in the way of the corrected command


@pytest.mark.parametrize(
    ("dtype", "changes", "refused"),
    [
        ("float32", {}, False),
        ("float16", {}, True),
        ("bfloat16", {}, True),
        ("bfloat16", {"is_deepspeed_enabled": True}, False),
        ("bfloat16", {"is_fsdp_enabled": True, "accelerator": SimpleNamespace(mixed_precision="bf16")}, False),
        ("bfloat16", {"is_fsdp_enabled": True}, True),
    ],
)
def test_all_weights_need_a_copy_in_32_bits(dtype: str, changes: dict[str, Any], refused: bool) -> None:
    given = {
        "is_deepspeed_enabled": False,
        "is_fsdp_enabled": False,
        "accelerator": SimpleNamespace(mixed_precision="no"),
    }
    network = torch.nn.Linear(2, 2).to(getattr(torch, dtype))
    with pytest.raises(UsageError, match=f"trained in {dtype}") if refused else nullcontext():
        check_precision(SimpleNamespace(model=network, **(given | changes)))


@pytest.mark.parametrize(
    ("changes", "fsdp", "stage", "refused"),
    [
        ({"rank_loss": {}}, False, 2, None),
        ({"rank_loss": {}}, False, 3, "rank_loss needs whole weights, which ZeRO-3 partitions"),
        ({"rank_loss": {}}, True, 0, "rank_loss needs whole weights, which FSDP partitions"),
        ({"lora": {"prilora": {}}}, True, 0, "lora.prilora.every needs"),
        ({"lora": {"prilora": {"every": 0}}}, True, 0, None),
        ({"dev": {}}, False, 3, None),
        ({"dev": {}}, True, 0, "dev needs"),
        ({}, True, 0, None),
    ],
)
def test_what_needs_whole_weights_is_not_partitioned(
    changes: dict[str, Any], fsdp: bool, stage: int, refused: str | None, tmp_path: Path
) -> None:
    given = {"model": "m", "data": ["rows.jsonl"], "output": "out", **changes}
    if "dev" in given:
        given["dev"] = tiny_dev(tmp_path)
    state = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=stage))
    trainer = SimpleNamespace(
        is_fsdp_enabled=fsdp, is_deepspeed_enabled=stage > 0, accelerator=SimpleNamespace(state=state)
    )
    with pytest.raises(UsageError, match=refused) if refused else nullcontext():
        check_sharding(trainer, sft.Config.model_validate(given))


def test_fsdp_saves_the_whole_model_at_the_end() -> None:
    """transformers' save_model writes nothing while FSDP's state dicts are sharded."""
    done: list[str] = []
    plugin = SimpleNamespace(set_state_dict_type=done.append)
    accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
    save(SimpleNamespace(is_fsdp_enabled=True, accelerator=accelerator, save_model=done.append), "out")
    save(SimpleNamespace(is_fsdp_enabled=False, save_model=done.append), "other")
    assert done == ["FULL_STATE_DICT", "out", "other"]


def test_an_adapter_on_weights_in_16_bits_is_trained_in_32(model: Path, data: Path, tmp_path: Path) -> None:
    made = config(model, data, tmp_path / "run", {"max_steps": 1}, lora={"r": 2}, model_args={"dtype": "bfloat16"})
    sft.run(made)
    assert {tensor.dtype for tensor in weights(tmp_path / "run").values()} == {torch.float32}


def test_a_loss_that_is_no_number_ends_the_run(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"the loss is (nan|inf) at step"):
        sft.run(config(model, data, tmp_path / "run", {"learning_rate": 1e30, "max_grad_norm": 0.0, "max_steps": 9}))


def test_an_adapter_is_trained_saved_alone_and_can_be_gone_on_from(model: Path, data: Path, tmp_path: Path) -> None:
    sft.run(config(model, data, tmp_path / "first", {"max_steps": 5}, lora={"r": 4, "alpha": 8}))
    assert not (tmp_path / "first" / "model.safetensors").exists()
    assert all(".lora_" in name for name in weights(tmp_path / "first"))
    again = config(tmp_path / "first", data, tmp_path / "second", {"max_steps": 5})
    sft.run(again)
    assert all(".lora_" in name for name in weights(tmp_path / "second"))
    assert losses(tmp_path / "second")[0] < losses(tmp_path / "first")[0]


def test_an_adapter_on_an_adapter_keeps_what_the_first_one_learned(model: Path, data: Path, tmp_path: Path) -> None:
    """Training, its resumption, what serves it and its export all stand on the same weights."""
    sft.run(config(model, data, tmp_path / "first", {"max_steps": 5}, lora={"r": 4, "alpha": 8}))
    second = config(tmp_path / "first", data, tmp_path / "second", {"max_steps": 4, "save_steps": 2}, lora={"r": 2})
    tiny_model(tmp_path / "second" / "base", seed=5)  # of a try with another start, ended before it recorded itself
    broken_after(second, 3)
    sft.run(second)
    assert losses(tmp_path / "second")[0] < losses(tmp_path / "first")[0]
    with torch.no_grad():
        first, base = (logits(tmp_path / name) for name in ("first", "second/base"))
        served, exported = logits(tmp_path / "second"), tmp_path / "exported"
    assert torch.allclose(first, base, atol=1e-5)
    assert not torch.allclose(served, base, atol=1e-3)
    export.run(export.Config(model=tmp_path / "second", output=exported, reranker="setwise"))
    assert torch.allclose(served, logits(exported), atol=1e-5)
    assert not (exported / "base").exists()


def logits(folder: Path) -> Any:
    """As the transformers engine loads the model in ``folder``."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()(input_ids=torch.tensor([[5, 6, 7]])).logits


def test_a_runs_template_arguments_are_in_what_it_saves(model: Path, data: Path, tmp_path: Path) -> None:
    start = tiny_model(tmp_path / "thinker")
    tokenizer = AutoTokenizer.from_pretrained(start)
    tokenizer.chat_template += "{%- if enable_thinking is not defined or enable_thinking %}<think>{% endif -%}"
    tokenizer.save_pretrained(start)
    asked = {"chat_template_args": {"enable_thinking": False}}
    sft.run(config(start, data, tmp_path / "first", {"max_steps": 1}, **asked))
    first, second = (load(PolicySettings(model=str(folder))).chat for folder in (start, tmp_path / "first"))
    [row] = best_rows(1)
    prompt = examples.prompt_of(row)
    assert first.text(prompt) == second.text(prompt) + "<think>"
    other = load(PolicySettings(model=str(tmp_path / "first"), chat_template_args={"enable_thinking": True}))
    assert other.chat.text(prompt) == first.text(prompt)
    replaced = load(PolicySettings(model=str(start), chat_template_args={"chat_template": "{{ messages[0].content }}"}))
    assert replaced.tokenizer.chat_template == "{{ messages[0].content }}"


def test_other_rows_in_the_same_file_are_another_run(model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", best_rows(32))
    made = config(model, tmp_path / "rows.jsonl", tmp_path / "run", {"max_steps": 1})
    sft.run(made)
    write_rows(tmp_path / "rows.jsonl", best_rows(16))
    with pytest.raises(UsageError, match=r"holds a run with earlier contents of .*rows.jsonl: name another --output"):
        sft.run(made)


@pytest.mark.parametrize("prilora", [None, *more({"first": 2, "last": 6, "every": 3})])
def test_interrupted_training_resumes_to_the_same_curve(
    prilora: dict[str, int] | None, model: Path, data: Path, tmp_path: Path
) -> None:
    """96 rows are 6 steps an epoch: 15 steps cross two ends of an epoch, and dropout draws random numbers throughout."""
    args = {"max_steps": 15, "save_steps": 4, "lr_scheduler_type": "cosine"}
    lora = {"r": 4, "alpha": 8, "dropout": 0.2, "prilora": prilora}
    sft.run(config(model, data, tmp_path / "whole", args, lora=lora))
    made = config(model, data, tmp_path / "parts", args, lora=lora)
    for stop in (5, 9):
        broken_after(made, stop)
    sft.run(made)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.equal(tensor, weights(tmp_path / "parts")[name])


def broken_after(made: sft.Config, step: int) -> None:
    """Run until ``step`` and break off there, as a crash would."""
    from transformers import Trainer

    kept = Trainer.training_step

    def step_or_crash(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step >= step:
            raise RuntimeError("the power went out")
        return kept(self, *args, **kwargs)

    Trainer.training_step = step_or_crash
    try:
        with pytest.raises(RuntimeError, match="power"):
            sft.run(made)
    finally:
        Trainer.training_step = kept


def test_a_signal_stops_after_a_step_with_a_checkpoint(model: Path, data: Path, tmp_path: Path) -> None:
    settings = tmp_path / "sft.yaml"
    made = config(model, data, tmp_path / "run", {"max_steps": 2000})
    settings.write_text(json.dumps(made.model_dump(mode="json")), encoding="utf-8")
    words = [sys.executable, "-u", "-m", "pyserini_reasonrank", "train", "sft", "--config", str(settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step "):
            process.send_signal(signal.SIGTERM)
            break
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    stopped = int(said.split("stopped after step ")[1].split()[0])
    assert "run the same command to continue" in said
    assert (tmp_path / "run" / f"checkpoint-{stopped}" / "trainer_state.json").is_file()


def test_first_finds_the_identifiers_in_their_place(model: Path) -> None:
    policy = load(PolicySettings(model=str(model)))
    [row] = best_rows(1)
    text = "<think>[1] apple</think>\n<answer>[2] > [3] > [1]</answer>"
    made = row.model_copy(update={"kind": "permutation", "completion": (Message("assistant", text),)})
    [example] = examples.demonstrations([made], policy, 500, Audit())
    first = examples.first_id(example, policy)
    assert first is not None
    assert policy.tokenizer.decode(example.completion[first.index - 1 : first.index + 2]) == "[2]"
    assert policy.tokenizer.convert_ids_to_tokens(first.tokens) == ["1", "2", "3"]
    assert first.ranks == [3, 1, 2]
    tied = row.model_copy(update={"gains": (0.0, 2.0, 0.0)})
    assert examples.ranks(tied) == [2, 1, 2]


def test_first_ranks_by_the_letters_that_serving_reads(tmp_path: Path) -> None:
    """Rows of ``first``: 20 passages, the answer going on from the opening bracket after which the judge looks."""
    model = tiny_model(tmp_path / "model", more=ascii_uppercase)
    policy = load(PolicySettings(model=str(model)))
    candidates = tuple(Candidate(f"d{i}", 0.0, f"passage {i}") for i in range(20))
    gains = tuple(float(i == 11) + 2.0 * (i == 16) for i in range(20))
    listed = LabelledList(Query("q", "what"), candidates, gains, tuple(range(1, 21)), "made-up")
    [row] = RowBuilder("first", str(model), {"max_model_len": 8192}, widest=20).rows(listed)
    assert (row.kind, row.prefill, row.demonstration[:11]) == ("first_token", "[", "Q] > [L] > ")
    assert fault_of(row) is None
    assert fault_of(
        row.model_copy(update={"docids": row.docids[:19], "gains": gains[:19], "first_stage": row.first_stage[:19]})
    )
    [example] = examples.demonstrations([row], policy, 10_000, Audit())
    first = examples.first_id(example, policy)
    assert first is not None
    assert first.index == 0
    assert first.tokens == [
        policy.chat.alternatives(prompt_of(row), [letter])[1][0][0] for letter in ascii_uppercase[:20]
    ]
    assert (first.ranks[16], first.ranks[11]) == (1, 2)
    with pytest.raises(UsageError, match="no answer to sample"):
        check_written([row])


def test_first_joint_loss_adds_the_ranking_term(model: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    write_rows(few, best_rows(8))
    sft.run(config(model, few, tmp_path / "joint", {"max_steps": 60}, rank_loss={"name": "weighted-ranknet"}))
    record = read_record(tmp_path / "joint")
    assert record is not None
    entries = [entry for entry in record["log"] if "rank_loss" in entry]
    assert len(entries) == 60
    assert entries[-1]["rank_loss"] < 0.5 * entries[0]["rank_loss"]
    assert {entry["rank_loss_skipped"] for entry in entries} == {0.0}
    sft.run(config(model, few, tmp_path / "alone", {"max_steps": 1}))
    expected = losses(tmp_path / "alone")[0] + 10 * entries[0]["rank_loss"]
    assert entries[0]["loss"] == pytest.approx(expected, rel=1e-3)


def test_a_ranking_term_that_is_nan_is_left_out_and_counted(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyserini_reasonrank.train.trainers import losses as ours

    monkeypatch.setitem(ours.LOSSES, "ranknet", (lambda scores, ranks: scores.sum() * float("nan"), 1.0))
    sft.run(config(model, data, tmp_path / "run", {"max_steps": 2}, rank_loss={"name": "ranknet"}))
    record = read_record(tmp_path / "run")
    assert record is not None
    assert [entry["rank_loss_skipped"] for entry in record["log"] if "rank_loss_skipped" in entry] == [1.0, 1.0]
    assert losses(tmp_path / "run")[1] < losses(tmp_path / "run")[0]


def test_prilora_ranks_grow_with_depth_and_a_is_pruned(model: Path, data: Path, tmp_path: Path) -> None:
    assert Prilora().ranks(5) == [4, 6, 8, 10, 12]
    assert Prilora().ranks(1) == [4]
    lora = {"r": 3, "alpha": 6, "prilora": {"first": 2, "last": 4, "every": 3, "share": 0.5}}
    sft.run(config(model, data, tmp_path / "run", {"max_steps": 6}, lora=lora))
    found = {name: tensor for name, tensor in weights(tmp_path / "run").items() if "lora_A" in name}
    assert {name.split("layers.")[1][0]: tensor.shape[0] for name, tensor in found.items()} == {"0": 2, "1": 4}
    for tensor in found.values():
        assert ((tensor == 0).sum(1) == tensor.shape[1] // 2).all()
    settings = json.loads((tmp_path / "run" / "adapter_config.json").read_text(encoding="utf-8"))
    assert sorted(settings["alpha_pattern"].values()) == [4, 8]  # twice the rank, so the scale is the same everywhere


def test_pruning_takes_the_least_important_of_each_row() -> None:
    from pyserini_reasonrank.train.experimental.prilora import prune

    weight = torch.tensor([[1.0, -2.0, 3.0, 4.0], [4.0, 3.0, 2.0, -1.0]])
    prune(weight, torch.tensor([10.0, 1.0, 1.0, 0.1]), 0.5)
    assert weight.tolist() == [[1.0, 0.0, 3.0, 0.0], [4.0, 3.0, 0.0, 0.0]]
