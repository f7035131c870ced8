"""Development topics during training: the model in memory answers as the served one would; the best is kept."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny import best_rows, tiny_dev, tiny_model

from pyserini_reasonrank.engines.transformers import Transformers, TransformersOptions
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling
from pyserini_reasonrank.train.curves import curves, write_page
from pyserini_reasonrank.train.folder import Folder
from pyserini_reasonrank.train.settings import Dev, PolicySettings
from pyserini_reasonrank.train.trainers import policy
from pyserini_reasonrank.train.trainers.dev_callback import DevCallback
from pyserini_reasonrank.train.trainers.dev_engine import InTraining
from pyserini_reasonrank.train.trainers.examples import prompt_of

CALL = Call("q", 0, (), lambda gains: "", lambda gains, choices: {})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def answers(engine: Any, prompts: list[Prompt], *samplings: Sampling) -> list[Completion]:
    async def ask() -> list[Completion]:
        await engine.start()
        try:
            return list(await asyncio.gather(*(engine.generate(p, s, CALL) for p in prompts for s in samplings)))
        finally:
            await engine.close()

    return asyncio.run(ask())


def test_it_answers_as_the_serving_engine_does(model: Path) -> None:
    loaded = policy.load(PolicySettings(model=str(model)))
    described = Model("tiny", str(model), context=512)
    prompts = [prompt_of(row) for row in best_rows(5)] + [Prompt(prompt_of(best_rows(1)[0]).messages, "[")]
    samplings = Sampling(max_tokens=5), Sampling(max_tokens=1, choices=("1", "2", "3"))
    loaded.model.eval()
    own = InTraining(loaded.model, loaded.chat, loaded.tokenizer, described, step=3, batch=4)
    found = answers(own, prompts, *samplings)
    served = answers(Transformers(described, TransformersOptions(device="cpu")), prompts, *samplings)
    for here, there in zip(found, served, strict=True):
        assert (here.text, here.finish_reason, here.prompt_tokens) == (
            there.text,
            there.finish_reason,
            there.prompt_tokens,
        )
        assert here.choices == pytest.approx(there.choices, abs=1e-4)


def test_a_stop_string_ends_an_answer(model: Path) -> None:
    loaded = policy.load(PolicySettings(model=str(model)))
    loaded.model.eval()
    prompts = [prompt_of(best_rows(1)[0])]

    def ask(*stop: str) -> Completion:
        engine = InTraining(loaded.model, loaded.chat, loaded.tokenizer, Model("t", str(model), context=512), 0, 4)
        return answers(engine, prompts, Sampling(max_tokens=6, stop=stop))[0]

    whole = ask()
    assert whole.finish_reason == "length"
    middle = whole.text[len(whole.text) // 2]
    cut = ask(middle)
    assert cut.text == whole.text[: whole.text.index(middle)]
    assert cut.finish_reason == "stop"


@pytest.mark.parametrize(("given", "said"), [("", "RuntimeError"), (" out of\n memory ", "out of memory")])
def test_an_answer_that_fails_says_why(model: Path, given: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(given)

    loaded = policy.load(PolicySettings(model=str(model)))
    monkeypatch.setattr(loaded.model, "generate", fails)
    engine = InTraining(loaded.model, loaded.chat, loaded.tokenizer, Model("t", str(model), context=512), 0, 4)
    [answer] = answers(engine, [prompt_of(best_rows(1)[0])], Sampling(max_tokens=6))
    assert (answer.finish_reason, answer.error) == ("error", said)


def test_sampling_leaves_the_random_numbers_of_training_alone(model: Path) -> None:
    loaded = policy.load(PolicySettings(model=str(model)))
    before = torch.get_rng_state()
    engine = InTraining(loaded.model, loaded.chat, loaded.tokenizer, Model("t", str(model), context=512), 0, 4)
    answers(engine, [prompt_of(best_rows(1)[0])], Sampling(max_tokens=6, temperature=1.0))
    assert torch.equal(before, torch.get_rng_state())


def watch(model: Path, folder: Path, **changes: Any) -> DevCallback:
    loaded = policy.load(PolicySettings(model=str(model)))
    trainer = SimpleNamespace(processing_class=loaded.tokenizer, model=loaded.model)
    return DevCallback(
        Dev.model_validate(tiny_dev(folder, **changes)), Folder(folder / "run", "sft", {}), trainer, loaded.chat, 512
    )


def test_the_measure_is_over_the_topics_looked_at(model: Path, tmp_path: Path) -> None:
    made = watch(model, tmp_path, queries=1)
    assert not (tmp_path / "run").exists()  # nothing is written before all is checked
    made.on_train_begin(None, None, None)
    assert (tmp_path / "run" / "dev" / "qrels.txt").read_text() == "t1\t0\tg\t1\n"
    made._trainer.args = SimpleNamespace(per_device_eval_batch_size=8)
    value = made._measure(made._trainer.model.eval(), 5)
    assert value in (pytest.approx(1.0), pytest.approx(0.6309, abs=1e-4))
    assert len((tmp_path / "run" / "dev" / "step-5.txt").read_text().splitlines()) == 2


def test_judgments_are_read_as_by_evaluate_and_may_be_of_beir(model: Path, tmp_path: Path) -> None:
    judged = tmp_path / "beir.tsv.gz"
    judged.write_bytes(gzip.compress(b"query-id\tcorpus-id\tscore\nt1\tg\t1\nother\tg\t1\n"))
    made = watch(model, tmp_path, qrels=judged)
    made.on_train_begin(None, None, None)
    assert read_qrels(tmp_path / "run" / "dev" / "qrels.txt") == {"t1": {"g": 1}}
    judged.write_bytes(gzip.compress(b"other\t0\tg\t1\n"))
    with pytest.raises(UsageError, match=r"beir\.tsv\.gz judges none of the development topics"):
        watch(model, tmp_path, qrels=judged)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reranker": "setwize"}, "no reranker 'setwize'; did you mean 'setwise'"),
        ({"measure": "nDGC@10"}, "no measure 'nDGC'"),
        ({"topics": "/nowhere.tsv"}, "/nowhere.tsv does not exist"),
        ({"settings": {"depht": 3}}, "depht is not known"),
        ({"qrels": "/nowhere.txt"}, "/nowhere.txt does not exist"),
        ({"qrels": Path(__file__)}, "4: qid, iteration, docid, relevance"),
    ],
)
def test_faults_are_found_before_a_step_is_trained(
    changes: dict[str, Any], said: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        watch(model, tmp_path, **changes)


def test_the_page_shows_what_was_logged_more_than_once(tmp_path: Path) -> None:
    log = [{"step": n, "loss": 1.0 / (n + 1), "dev/nDCG@10": 0.5, "epoch": n} for n in range(3)]
    log.append({"step": 3, "train_runtime": 9.0, "once": 1.0})
    assert list(curves(log)) == ["loss", "dev/nDCG@10"]
    write_page(tmp_path / "page.html", "a <run>", log)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "a &lt;run&gt;" in page
    assert "<td>1</td><td>0.3333</td>" in page
    write_page(tmp_path / "none.html", "a run", log[3:])
    assert not (tmp_path / "none.html").exists()
