"""A whole recipe from one command: data, imitation, rewards, export, and the exported model behind the host's search."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny import WORDS, tiny_model

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.validate import validate
from pyserini_reasonrank.train import recipe
from pyserini_reasonrank.train.folder import read_record

PROMPT = """\
about: Name the best.
contract: best
messages:
  - role: user
    content: "{{ query }}:{% for number, passage in numbered %} [{{ number }}] {{ passage }}{% endfor %}"
reminder: A label.
"""
SERVING = {"strategy": {"children": 2, "k": 3}, "depth": 4, "sampling": {"max_tokens": 6}}
SFT = {"learning_rate": 3e-3, "per_device_train_batch_size": 16, "max_steps": 16, "lr_scheduler_type": "constant"}
GRPO = {"learning_rate": 1e-3, "per_device_train_batch_size": 64, "num_generations": 8, "max_steps": 60,
        "max_completion_length": 6, "lr_scheduler_type": "constant"}  # fmt: skip


def collection(folder: Path) -> None:
    """A document a word; a topic asks for the gem and three words besides, and the gem alone is relevant."""
    corpus = [json.dumps({"id": f"d-{word}", "contents": word}) for word in WORDS]
    topics = [f"t{n}\tgem {' '.join(words)}" for n, words in enumerate(itertools.combinations(WORDS[:-1], 3))]
    qrels = [f"t{n} 0 d-gem 1" for n in range(len(topics))]
    hits = [f"{topic.split()[0]} Q0 d-{word} 1 1 x" for topic in topics for word in topic.split()[1:]]
    for name, lines in {"corpus.jsonl": corpus, "topics.tsv": topics, "qrels.txt": qrels, "run.txt": hits}.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def steps(folder: Path, model: Path) -> list[dict[str, Any]]:
    prompt = str(folder / "prompt.yaml")
    search = ["python", "-m", "pyserini.search", "--index", "$output/index", "--bm25", "--hits", "4"]
    settings = {"prompt": prompt, **SERVING}
    index = ["python", "-m", "pyserini_reasonrank", "index", "--corpus", f"{folder}/corpus.jsonl"]
    return [
        {"command": [*index, "--index", "$output/index"]},
        {"data": {"reranker": "setwise", "model": str(model), "rerank": settings, "topics": f"{folder}/topics.tsv",
                  "qrels": f"{folder}/qrels.txt", "run": f"{folder}/run.txt",
                  "corpus": f"{folder}/corpus.jsonl", "draw": {"size": 3, "positives": 1}, "copies": 3, "dev": 0.2,
                  "output": "$output/rows.jsonl"}},
        {"sft": {"model": str(model), "data": ["$output/rows.jsonl"], "output": "$output/sft", "max_length": 200, "args": SFT,
                 "dev": {"reranker": "setwise", "settings": settings, "topics": f"{folder}/topics.tsv",
                         "run": f"{folder}/run.txt", "corpus": f"{folder}/corpus.jsonl",
                         "qrels": f"{folder}/qrels.txt", "queries": 6, "every": 8}}},
        {"grpo": {"model": "$output/sft", "data": ["$output/rows.jsonl"], "output": "$output/grpo",
                  "rewards": [{"path": "exact_label"}], "args": GRPO}},
        {"export": {"model": "$output/grpo", "output": "$output/model", "reranker": "setwise", "settings": settings}},
        {"command": [*search, "--topics", f"{folder}/topics.tsv", "--output", "$output/reranked.txt", "--rerank", "setwise",
                     "--rerank.config", "$output/model/reranker.yaml"]},
    ]  # fmt: skip


def ours(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyserini_reasonrank", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=environment)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    collection(folder)
    (folder / "prompt.yaml").write_text(PROMPT, encoding="utf-8")
    model = tiny_model(folder / "tiny")
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({"output": str(folder / "out"), "steps": steps(folder, model)}), encoding="utf-8")
    done = ours("train", "recipe", "--config", file)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def logged(folder: Path, name: str) -> list[float]:
    record = read_record(folder)
    assert record is not None
    return [entry[name] for entry in record["log"] if name in entry]


def test_loss_falls_and_reward_rises(trained: Path) -> None:
    loss, reward = logged(trained / "out" / "sft", "loss"), logged(trained / "out" / "grpo", "reward")
    assert loss[0] > 3.0
    assert loss[-1] < 1.5  # the form is half learned
    assert fmean(reward[:5]) < 0.12
    assert fmean(reward[-10:]) > fmean(reward[:5]) + 0.1  # five times the standard error of either


def test_the_exported_model_reranks(trained: Path) -> None:
    out = trained / "out"
    found = validate(out / "reranked.txt", None, out / "reranked.txt.first-stage.txt", [])
    assert not found.findings
    metadata = yaml.safe_load((out / "reranked.txt.ir-metadata.yml").read_text(encoding="utf-8"))
    assert str(out / "model") in str(metadata)
    calls = [
        json.loads(line) for line in ours("trace", "export", out / "reranked.txt.journal.sqlite").stdout.splitlines()
    ]
    well = [call for call in calls if call["status"] == "ok"]
    assert len(calls) >= 84
    assert len(well) > 0.5 * len(calls)  # an untrained model answers none


def test_the_export_says_where_it_comes_from(trained: Path) -> None:
    card = (trained / "out" / "model" / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---")[1])
    assert header["tags"] == ["reranking", "pyserini-reasonrank", "sft", "grpo"]
    assert "## Step 1: sft" in card
    assert "## Step 2: grpo" in card
    assert "rows.jsonl" in card
    assert "| reward |" in card
    assert "licence: unknown" in card
    serving = yaml.safe_load((trained / "out" / "model" / "reranker.yaml").read_text(encoding="utf-8"))
    assert serving["model"] == str(trained / "out" / "model")
    assert Path(serving["prompt"]).parent == trained / "out" / "model"  # its wording goes with the model


def test_dev_topics_went_the_way_of_serving_and_the_best_was_kept(trained: Path) -> None:
    values = logged(trained / "out" / "sft", "dev/nDCG@10")
    assert len(values) == 2
    best = json.loads((trained / "out" / "sft" / "best" / "dev.json").read_text(encoding="utf-8"))
    assert best["value"] == max(values)
    assert (trained / "out" / "sft" / "best" / "model.safetensors").is_file()
    assert (trained / "out" / "sft" / "dev" / "step-8.txt").is_file()
    assert "dev/nDCG@10" in (trained / "out" / "sft" / "training.html").read_text(encoding="utf-8")


def test_what_is_done_is_not_done_again(trained: Path) -> None:
    done = ours("train", "recipe", "--config", trained / "recipe.yaml")
    assert done.returncode == 0
    assert done.stdout.strip() == ""


# without training


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"sft": {}, "grpo": {}}, "one name and its settings"),
        ({"gpro": {}}, "can't have a step 'gpro'; did you mean 'grpo'"),
        ({"recipe": {}}, "can't have a step 'recipe'"),
        ({"command": "ls"}, "a list of words"),
        ({"sft": {"model": "m", "data": ["d"], "output": "o", "lern": 1}}, "sft.lern is not known"),
    ],
)
def test_a_faulty_step_is_found_before_the_first_runs(entry: dict[str, Any], said: str, tmp_path: Path) -> None:
    first = {"command": ["touch", str(tmp_path / "begun")]}
    with pytest.raises(UsageError, match=said):
        recipe.run(recipe.Config(output=tmp_path / "out", steps=[first, entry]))
    assert not (tmp_path / "begun").exists()


def test_a_step_that_fails_ends_the_recipe_and_is_tried_again(tmp_path: Path) -> None:
    note = ["sh", "-c", f"echo x >> {tmp_path}/notes"]
    config = recipe.Config(
        output=tmp_path / "out", steps=[{"command": note}, {"command": ["test", "-e", "$output/go"]}]
    )
    with pytest.raises(Failure, match=r"the step above failed \(exit status 1\)"):
        recipe.run(config)
    (tmp_path / "out" / "go").touch()
    recipe.run(config)
    assert (tmp_path / "notes").read_text() == "x\n"


def test_a_changed_step_does_not_leave_later_ones_stale(tmp_path: Path) -> None:
    def made(*notes: str) -> recipe.Config:
        steps = [{"command": ["sh", "-c", f"echo {note} >> $output/notes"]} for note in notes]
        return recipe.Config(output=tmp_path / "out", steps=steps)

    recipe.run(made("a", "b"))
    with pytest.raises(UsageError, match=r"step 1 \(command\) has changed since step 2 .* was built on it"):
        recipe.run(made("c", "b"))
    recipe.run(made("a", "c", "d"))  # nothing went on from the last
    assert (tmp_path / "out" / "notes").read_text() == "a\nb\nc\nd\n"
