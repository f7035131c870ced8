"""Pairs of a better and a worse answer, and learning from them, with and without optimism."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny import best_rows, tiny_model

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models import devices
from pyserini_reasonrank.records import Message
from pyserini_reasonrank.train.data.rows import Audit, Row, write_rows
from pyserini_reasonrank.train.folder import read_record
from pyserini_reasonrank.train.settings import PolicySettings
from pyserini_reasonrank.train.trainers import dpo, pairs, policy
from pyserini_reasonrank.train.trainers.pairs import Pair


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def listed(count: int) -> list[Row]:
    """Permutation rows with a bare list as the answer; the gem first, the others as shown."""
    rows = []
    for row in best_rows(count):
        order = sorted(range(3), key=lambda i: -row.gains[i])
        answer = " > ".join(f"[{i + 1}]" for i in order)
        rows.append(row.model_copy(update={"kind": "permutation", "completion": (Message("assistant", answer),)}))
    return rows


def written(path: Path, rows: list[Row]) -> Path:
    write_rows(path, rows)
    return path


def pair(chosen: str, rejected: str, own: str = "gem") -> Pair:
    turns = [{"role": "user", "content": "gem: [1] apple [2] gem"}]
    return Pair(
        qid="q", source="tiny", prompt=turns, prefill="", chosen=chosen, rejected=rejected, own=own, rewards=(1.0, 0.0)
    )


def trained(model: Path, folder: Path, made: list[Pair], name: str, **changes: Any) -> list[dict[str, float]]:
    file = folder / f"{name}.jsonl"
    pairs.write_pairs(file, made)
    args = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "max_steps": 8, "save_steps": 100, "beta": 0.1,
            "lr_scheduler_type": "constant"}  # fmt: skip
    dpo.run(
        dpo.Config.model_validate(
            {"model": str(model), "data": [file], "output": folder / name, "args": args, **changes}
        )
    )
    record = read_record(folder / name)
    assert record is not None
    return [entry for entry in record["log"] if "loss" in entry]


def test_the_better_answer_becomes_likelier_than_the_worse(model: Path, tmp_path: Path) -> None:
    log = trained(model, tmp_path, [pair("[2]", "[1]")] * 8, "run")
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert log[-1]["rewards/margins"] > 0.1


@pytest.mark.soak_only
def test_optimism_makes_what_the_policy_says_less_likely(model: Path, tmp_path: Path) -> None:
    made = [pair("[2]", "[1]", own="apple bear")] * 8
    plain = trained(model, tmp_path, made, "plain", optimism=0.0)
    assert all("logps/own" not in entry for entry in plain)
    bold = trained(model, tmp_path, made, "bold", optimism=2.0)
    assert bold[0]["loss"] == pytest.approx(plain[0]["loss"] + 2.0 * 0.1 * bold[0]["logps/own"], rel=1e-4)
    assert bold[-1]["logps/own"] < bold[0]["logps/own"] - 1


@pytest.mark.soak_only  # test_sft.py has it in each `make test`
def test_prilora_prunes_here_too(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    lora = {"r": 3, "alpha": 6, "prilora": {"first": 2, "last": 4, "every": 4, "share": 0.5}}
    trained(model, tmp_path, [pair("[2]", "[1]")] * 8, "run", lora=lora)
    found = {
        name: t for name, t in load_file(tmp_path / "run" / "adapter_model.safetensors").items() if "lora_A" in name
    }
    assert found
    for tensor in found.values():
        assert ((tensor == 0).sum(1) == tensor.shape[1] // 2).all()


def test_pairs_that_can_not_be_used_are_counted_and_named(model: Path) -> None:
    loaded = policy.load(PolicySettings(model=str(model)))
    audit = Audit()
    good, control, long = pair("[2]", "[1]"), pair("[2]<|im_end|>", "[1]"), pair("[2]", "gem " * 90)
    table = dpo.dataset([good, control, long], loaded, 100, audit)
    assert len(table) == 1
    assert loaded.tokenizer.decode(table[0]["chosen_ids"]) == "[2]<|im_end|>"
    assert loaded.tokenizer.decode(table[0]["prompt_ids"]).endswith("<|im_start|>assistant\n")
    assert (audit.read, audit.kept) == (3, 1)
    with pytest.raises(UsageError, match="no pair to train on"):
        dpo.dataset([control], loaded, 100, Audit())


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), ('\n{"qid": "q"}\n', "line 2 is not a pair of")])
def test_a_file_without_pairs(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(text)
    with pytest.raises(UsageError, match=said):
        pairs.read_pairs(tmp_path / "pairs.jsonl")


@pytest.mark.parametrize("blank", ["\u2028", "\u2029", "\x85", "\x1c", "\x0c", "\n", "\ud800"])
def test_pairs_are_read_as_they_were_written(blank: str, tmp_path: Path) -> None:
    made = [pair(f"[2]{blank}[1]", f"[1]{blank}"), pair("[1]", "[2]", own=blank)]
    pairs.write_pairs(tmp_path / "pairs.jsonl", made)
    assert [found.own for found in pairs.read_pairs(tmp_path / "pairs.jsonl")] == ["gem", blank.replace("\ud800", "?")]


def config(model: Path, rows: Path, output: Path, **changes: Any) -> pairs.Config:
    given = {"model": str(model), "data": rows, "output": output, "samples": 2, "max_tokens": 4}
    return pairs.Config.model_validate({**given, **changes})


def test_the_best_and_the_worst_of_samples_gold_and_order_shown(model: Path, tmp_path: Path) -> None:
    rows = listed(4)
    pairs.run(config(model, written(tmp_path / "rows.jsonl", rows), tmp_path / "pairs.jsonl", gap=0.3))
    found = {made.qid: made for made in pairs.read_pairs(tmp_path / "pairs.jsonl")}
    for row in rows:  # an untrained model's samples are no orders and worth 0, so the gold one is the best
        assert found[row.qid].chosen == row.demonstration
        assert list(found[row.qid].rewards) == [pytest.approx(1.3, abs=0.02), 0.0]
        assert found[row.qid].own
    asked = calls(tmp_path / "pairs.jsonl.journal.sqlite")
    pairs.run(config(model, tmp_path / "rows.jsonl", tmp_path / "pairs.jsonl", gap=0.3))  # nothing is sampled twice
    assert calls(tmp_path / "pairs.jsonl.journal.sqlite") == asked


def calls(journal: Path) -> list[tuple[int, float]]:
    """The place of each call in the journal and how long it took: both are others when it is made again."""
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        return connection.execute("SELECT rowid, seconds FROM calls").fetchall()


def test_rows_without_a_gap_give_no_pair(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = written(tmp_path / "rows.jsonl", listed(3))
    with pytest.raises(UsageError, match="no pair to train on"):
        pairs.run(config(model, rows, tmp_path / "pairs.jsonl", gap=9.0))
    assert "3 left out, best and worst answer are too close" in capsys.readouterr().out


def unsure(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(text.startswith("[1]")) if text.startswith("[") else math.nan for text in completions]


def test_an_answer_whose_reward_is_no_number_is_in_no_pair(model: Path, tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.jsonl", listed(3))
    pairs.run(config(model, rows, tmp_path / "pairs.jsonl", reward={"path": "test_dpo.unsure"}))
    found = pairs.read_pairs(tmp_path / "pairs.jsonl")
    assert found
    assert all(made.chosen.startswith("[1]") and made.rejected.startswith("[") for made in found)


def test_the_commands_sample_pair_and_learn(tmp_path: Path) -> None:
    """The literal commands of the documentation, with the embedded model."""
    rows = written(tmp_path / "rows.jsonl", listed(2))
    file = tmp_path / "new" / "pairs.jsonl"

    def train(*words: object) -> str:
        command = [sys.executable, "-m", "pyserini_reasonrank", "train", *map(str, words)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "--adjusted.reranker" in train("pairs", "--help")
    said = train("pairs", "--model", "smollm2-135m", "--data", rows, "--output", file, "--samples", 2, "--max_tokens", 8,
                 "--gap", 0.05)  # fmt: skip
    assert f"2 pairs in {file}" in said
    assert [made.chosen for made in pairs.read_pairs(file)] == [row.demonstration for row in listed(2)]
    train("dpo", "--model", "smollm2-135m", "--data", f"[{file}]", "--output", tmp_path / "dpo", "--lora.first_layer", 28,
          "--args", "{max_steps: 1, per_device_train_batch_size: 2, beta: 0.1}")  # fmt: skip
    record = read_record(tmp_path / "dpo")
    assert record is not None
    assert record["finished"]
    assert record["metrics"]["loss"] == pytest.approx(math.log(2), abs=1e-3)


def test_a_larger_reranker_that_can_not_run_here_is_refused_before_the_sampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "accelerators", tuple)
    rows = written(tmp_path / "rows.jsonl", listed(3))
    adjusted = {"reranker": "reasonrank", "corpus": str(tmp_path)}
    with pytest.raises(UsageError, match="reasonrank needs a GPU"):
        pairs.run(config(tmp_path, rows, tmp_path / "pairs.jsonl", adjusted=adjusted))


def test_an_order_is_rewarded_by_what_the_larger_reranker_makes_of_it(model: Path, tmp_path: Path) -> None:
    """The larger one here keeps the first passage it is shown first: the order that shows the gem first is the best."""
    rows = listed(3)
    corpus = tmp_path / "corpus.jsonl"
    texts = {docid: docid[1:] for row in rows for docid in row.docids}
    corpus.write_text("".join(json.dumps({"id": k, "contents": v}) + "\n" for k, v in texts.items()))
    answers = tmp_path / "answers.jsonl"
    calls = [{"qid": f"{n}.{k}", "call": 0, "response": "[1] > [2] > [3]"} for n in range(3) for k in range(9)]
    answers.write_text("".join(json.dumps(call) + "\n" for call in calls))
    settings = {
        "prompt": "listwise",
        "strategy": {"name": "full"},
        "engine": {"name": "recorded", "path": str(answers)},
    }
    adjusted = {"reranker": "rankgpt", "settings": settings, "corpus": str(corpus)}
    pairs.run(config(model, written(tmp_path / "rows.jsonl", rows), tmp_path / "pairs.jsonl", adjusted=adjusted))
    for made in pairs.read_pairs(tmp_path / "pairs.jsonl"):
        row = next(row for row in rows if row.qid == made.qid)
        assert made.chosen == row.demonstration
        assert made.rejected == "[1] > [2] > [3]"
        assert made.rewards[0] == 1.0
