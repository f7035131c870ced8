"""Export: adapters merged or kept, the best checkpoint or the last, a card, and settings that serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from conftest import Collection
from tiny import tiny_model

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.train import export
from pyserini_reasonrank.train.folder import Folder
from pyserini_reasonrank.train.settings import PolicySettings
from pyserini_reasonrank.train.trainers import policy

SETTINGS = {"depth": 3, "sampling": {"max_tokens": 4}, "strategy": {"children": 2, "k": 2}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that trained an adapter, its best checkpoint another than its last."""
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("run")
    base = tiny_model(home / "base")
    folder = home / "sft"
    settings = {"model": str(base), "data": ["rows.jsonl"], "args": {"learning_rate": 0.1}}
    record = Folder(folder, "sft", settings)
    record.open()
    loaded = policy.load(PolicySettings(model=str(base)))
    model: Any = get_peft_model(loaded.model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
    for place, size in ((folder, 0.1), (folder / "best", 0.2)):
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(weight, size)
        model.save_pretrained(place)
        loaded.tokenizer.save_pretrained(place)
    left_out = {"no positive": 3}
    record.finish({"rows": [{"read": 9, "kept": 6, "left_out": left_out}], "steps": 2, "seconds": 3.4,
                   "metrics": {"loss": 0.5}, "log": [{"loss": 2.0, "step": 1}, {"loss": 0.5, "step": 2}]})  # fmt: skip
    return folder


def config(model: Path, output: Path, **changes: Any) -> export.Config:
    return export.Config.model_validate(
        {"model": model, "output": output, "reranker": "setwise", "settings": SETTINGS, **changes}
    )


def logits(folder: Path) -> Any:
    loaded = policy.load(PolicySettings(model=str(folder)))
    with torch.no_grad():
        return loaded.model.eval()(input_ids=torch.tensor([[5, 6, 7]])).logits


def test_merged_weights_are_those_of_base_and_adapter(run: Path, tmp_path: Path) -> None:
    export.run(config(run, tmp_path / "best"))
    export.run(config(run, tmp_path / "last", checkpoint="last"))
    for name, source in (("best", run / "best"), ("last", run)):
        assert not (tmp_path / name / "adapter_config.json").exists()
        assert torch.allclose(logits(tmp_path / name), logits(source), atol=1e-5)
    assert not torch.allclose(logits(tmp_path / "best"), logits(tmp_path / "last"), atol=1e-3)


def test_an_adapter_is_kept_beside_its_base(run: Path, tmp_path: Path) -> None:
    export.run(config(run, tmp_path / "kept", merge=False))
    tree = yaml.safe_load((tmp_path / "kept" / "reranker.yaml").read_text(encoding="utf-8"))
    assert tree["model"] == str(run.parent / "base")
    assert tree["adapter"] == str(tmp_path / "kept")
    assert not list((tmp_path / "kept").glob("checkpoint-*"))
    card = yaml.safe_load((tmp_path / "kept" / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert card["library_name"] == "peft"


@pytest.mark.parametrize("merge", [True, False])
def test_what_is_exported_serves(
    merge: bool, run: Path, tmp_path: Path, collection: Collection, run_reranker: Any
) -> None:
    export.run(config(run, tmp_path / "out", merge=merge))
    flags = {"config": str(tmp_path / "out" / "reranker.yaml"), "on_error": "fail", "max_bad": 1}
    settings, _ = layers.load("setwise", flags)
    assert (settings.depth, settings.sampling.max_tokens) == (3, 4)
    outcome = run_reranker("setwise", flags, requests=collection.requests[1:2])
    assert outcome.tally.judgements > 0
    assert outcome.answered == 1


def test_the_card_says_what_was_done_with_what(run: Path, tmp_path: Path) -> None:
    export.run(config(run, tmp_path / "out", licence="Apache-2.0"))
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "apache-2.0"
    assert head["base_model"] == str(run.parent / "base")
    for said in (
        "--rerank setwise --rerank.config reranker.yaml",
        "Data: rows.jsonl.",
        "6 of 9 rows used; left out: 3 no positive.",
        "2 steps in 3 s.",
        "| loss | 2 | 0.5 |",
        "learning_rate: 0.1",
        "trl ",
    ):
        assert said in text


def test_runs_are_followed_back_to_the_base(run: Path, tmp_path: Path) -> None:
    second = Folder(tmp_path / "grpo", "grpo", {"model": str(run), "data": ["rows.jsonl"]})
    second.open()
    assert [record["step"] for record in export.chain(tmp_path / "grpo")] == ["sft", "grpo"]
    named = Folder(tmp_path / "named", "dpo", {"model": str(run.parent / "base"), "adapter": str(run), "data": []})
    named.open()
    assert [record["step"] for record in export.chain(tmp_path / "named")] == ["sft", "dpo"]
    made = config(tmp_path / "grpo", tmp_path / "x")
    assert "is not finished" in export.card(made, export.chain(tmp_path / "grpo"), {"model": "m"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "/nowhere"}, "/nowhere has neither a model nor an adapter"),
        ({"reranker": "setwize"}, "no reranker 'setwize'"),
        ({"settings": {"depht": 1}}, "depht is not known"),
        ({"settings": {"strategy": {"name": "sliding"}}}, "the sliding strategy needs a judge of kind"),
    ],
)
def test_faults_are_said_in_a_sentence(changes: dict[str, Any], said: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        export.run(config(**{"model": run, "output": tmp_path / "out", **changes}))
    assert not (tmp_path / "out").exists()


def test_an_export_that_was_broken_off_is_made_anew(run: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export.run(config(run, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    export.run(config(run, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_is_written_over(run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        export.run(config(run, tmp_path))
    with pytest.raises(UsageError, match="has no best checkpoint"):
        export.run(config(run.parent / "base", tmp_path / "out", checkpoint="best"))
