"""The embedded model as the policy: its own chat template and tokens, a loss that falls, answers that get a reward."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.resources import conf
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.row_builder import RowBuilder
from pyserini_reasonrank.train.data.rows import Audit, Row, write_rows
from pyserini_reasonrank.train.folder import read_record
from pyserini_reasonrank.train.settings import PolicySettings
from pyserini_reasonrank.train.trainers import examples, grpo, sft
from pyserini_reasonrank.train.trainers.policy import load

STUDENT = {"prompt": str(conf("train", "prompts", "student.yaml")), "passage_tokens": 10, "query_tokens": 20,
           "strategy": {"window_size": 3, "stride": 1}, "sampling": {"max_tokens": 16}}  # fmt: skip
PASSAGES = (
    "copy.copy(x) Shallow copy operation.",
    "heapq.heappush(heap, item)",
    "os.getcwd() Return the working folder.",
)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    asking = RowBuilder("rankgpt", "smollm2-135m", STUDENT, widest=3)
    made = []
    for n, query in enumerate(("duplicate a list", "keep a queue sorted by priority", "where am I on the disk")):
        candidates = tuple(Candidate(f"d{i}", 0.0, text) for i, text in enumerate(PASSAGES))
        gains = tuple(float(i == n) for i in range(3))
        made += list(asking.rows(LabelledList(Query(f"q{n}", query), candidates, gains, (1, 2, 3), "made-up")))
    return made


def test_tokens_are_the_chat_templates_and_the_answer_ends_the_turn(rows: list[Row]) -> None:
    policy = load(PolicySettings(model="smollm2-135m"))
    [example] = examples.demonstrations(rows[1:2], policy, 200, Audit())
    messages = [{"role": turn.role, "content": turn.content} for turn in (*rows[1].prompt, *rows[1].completion)]
    whole = policy.tokenizer.apply_chat_template(messages, tokenize=False)
    assert policy.tokenizer.decode([*example.prompt, *example.completion]) == whole.rstrip("\n")
    assert policy.tokenizer.decode(example.completion) == "[2] > [1] > [3]<|im_end|>"


def test_loss_falls_and_rewards_come_in(rows: list[Row], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", rows)
    args = {"learning_rate": 1e-3, "per_device_train_batch_size": 3, "max_steps": 4, "lr_scheduler_type": "constant"}
    lora = {"r": 8, "alpha": 16, "first_layer": 20}
    given = {"model": "smollm2-135m", "data": [tmp_path / "rows.jsonl"], "max_length": 200, "lora": lora, "args": args}
    sft.run(sft.Config.model_validate({**given, "output": tmp_path / "sft"}))
    record = read_record(tmp_path / "sft")
    assert record is not None
    losses = [entry["loss"] for entry in record["log"] if "loss" in entry]
    assert losses[-1] < 0.6 * losses[0]
    asked = {"per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 14, "max_steps": 1}
    rewarded = {"model": str(tmp_path / "sft"), "data": [tmp_path / "rows.jsonl"], "output": tmp_path / "grpo",
                "rewards": [{"path": "multiview"}], "args": asked}  # fmt: skip
    grpo.run(grpo.Config.model_validate(rewarded))
    record = read_record(tmp_path / "grpo")
    assert record is not None
    assert 0.0 <= record["metrics"]["reward"] <= 1.3
    assert {"multiview/format", "multiview/copied", "entropy", "completions/mean_length"} <= record["metrics"].keys()
