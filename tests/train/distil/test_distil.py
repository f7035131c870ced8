"""Listwise distillation: packed likelihoods are those of serving, targets, blocks from text, a whole run that resumes."""

from __future__ import annotations

import asyncio
import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from ablations import BLOCKS, SHORT, VARIANTS, settings
from tiny import WORDS, tiny_model

from pyserini_reasonrank.engines.transformers import Transformers, TransformersOptions
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.likelihood import Likelihood
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.prompts.tokens import ModelTokens
from pyserini_reasonrank.records import Call, Candidate, Completion, Judgement, Prompt, Query, Request, Sampling
from pyserini_reasonrank.train.command import load
from pyserini_reasonrank.train.data.tfrank import tfrank_labels
from pyserini_reasonrank.train.distil.blocks import Block, blocks, held_back
from pyserini_reasonrank.train.distil.distillation import gather, run
from pyserini_reasonrank.train.distil.neighbours import Neighbours
from pyserini_reasonrank.train.distil.objective import block_ndcg, listwise_loss, targets
from pyserini_reasonrank.train.distil.optimisation import Config, Training, pack

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

BLOCK = Block(
    "test", ("gem house", "cloud", "drum flute igloo"), ("gem apple", "house cloud", "flute"), ((1.0, 0.0, 0.0),) * 3
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bodies that begin with their title: what a query's likelihood can learn at once."""
    chance = random.Random(0)
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for number in range(160):
        title = chance.sample(WORDS, 4)
        body = [*title, *chance.choices(WORDS, k=30)]
        lines.append(json.dumps({"id": f"d{number}", "contents": f"{' '.join(title)}\n{' '.join(body)}"}))
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def config(model: Path, corpus: Path, output: Path, **changes: Any) -> Config:
    source = {"kind": "titles", "path": "corpus.jsonl", "blocks": 1}  # the same one, again and again
    given = {"model": str(model), "data": corpus, "sources": {str(n): source for n in range(12)}, "output": output, "passages": 4,
             "passage_tokens": 48, "labels": 1.0, "learning_rate": 2e-2, "batch": 2, "warmup": 1}  # fmt: skip
    return Config.model_validate(given | changes)


def test_what_is_trained_is_what_is_served(model: Path) -> None:
    """Packed, with the queries behind one reading of the passage: the judge's own scores through an engine."""
    from pyserini_reasonrank.engines.local.prompt_trees import log_probabilities

    training = Training(config(model, Path(), Path()), [BLOCK])
    with torch.no_grad():
        packed = torch.stack(
            log_probabilities(training.policy.get_base_model(), pack(BLOCK, training.fitter, training.chat)), dim=1
        )
    assert packed.tolist() == [pytest.approx(row, abs=1e-4) for row in asyncio.run(served(model, BLOCK))]


async def served(model: Path, block: Block) -> list[list[float]]:
    engine = Transformers(Model("tiny", str(model)), TransformersOptions(device="cpu"))
    await engine.start()
    judge = Likelihood(Judge.Options(), Sampling(), engine.capabilities, "")
    fitter = Fitter(
        sources.load("query-likelihood"), ModelTokens(model / "tokenizer.json"),
        context=engine.max_model_len, output_tokens=1, passage_tokens=48, query_tokens=64,
    )  # fmt: skip
    candidates = tuple(Candidate(f"d{i}", 0.0, text) for i, text in enumerate(block.passages))

    async def score(query: str, place: int) -> float:
        prompt = fitter.render(fitter.prepare(Request(Query("q", query), candidates)), [place])
        call = Call("q", place, (f"d{place}",), judge.ideal, judge.ideal_choices)

        async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
            return await engine.generate(prompt, sampling, call)

        judgement: Judgement = await judge.judge(ask, prompt, [f"d{place}"])
        assert judgement.score is not None
        return judgement.score

    try:
        return [[await score(query, i) for i in range(len(candidates))] for query in block.queries]
    finally:
        await engine.close()


def test_targets_mix_labels_and_teacher_and_leave_it_to_the_teacher_where_there_is_no_label() -> None:
    cosines = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    found = targets([[2.0, 0.0], [0.0, 0.0]], cosines, labels=0.5, temperature=0.1)
    assert found[0].tolist() == pytest.approx([0.75, 0.25])
    assert found[1].tolist() == pytest.approx(torch.tensor([9.0, 1.0]).softmax(-1).tolist())
    assert found.sum(-1).tolist() == pytest.approx([1.0, 1.0])


def test_the_loss_is_nothing_where_the_softmax_is_right_and_allows_for_the_length() -> None:
    wanted = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    lengths = torch.tensor([4.0, 25.0])
    right = wanted.log() * lengths.sqrt()[:, None] - 40.0
    assert float(listwise_loss(right, wanted, lengths)) == pytest.approx(0.0, abs=1e-5)
    assert float(listwise_loss(right.flip(0), wanted, lengths)) > 0.5


def test_ndcg_within_a_block() -> None:
    assert block_ndcg([[1.0, 0.0], [0.0, 0.0]], [[2.0, 1.0], [0.0, 1.0]]) == 1.0
    assert block_ndcg([[1.0, 0.0]], [[1.0, 2.0]]) == pytest.approx(0.6309, abs=1e-4)


def test_neighbours_are_by_rare_words_and_length() -> None:
    texts = ["the wing of an aircraft", "the the the heat", "heat of a wing in a long passage on heat", "the tea"]
    near = Neighbours(dict(enumerate(texts)))
    assert near.like("heat of the wing", 2) == [2, 0]
    assert near.like("heat of the wing", 2, exclude=[2]) == [0, 1]
    assert near.like("tea", 3) == [3]


def test_titles_are_asked_for_among_neighbours_and_not_shown(corpus: Path) -> None:
    made = list(blocks("titles", corpus / "corpus.jsonl", 4, random.Random(1)))
    assert len(made) >= 6
    shown = [passage for block in made for passage in block.passages]
    assert len(shown) == len(set(shown))
    for block in made:
        assert len(block.queries) == len(block.passages) == 4
        assert block.gains == tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
        assert all(passage.startswith(query) for query, passage in zip(block.queries, block.passages, strict=True))
        assert all("\n" not in passage for passage in block.passages)


def test_grades_of_an_answer() -> None:
    assert tfrank_labels("[2] (3.0) = [3] (3.0) > [1] (0.5)", 3, "listwise") == ((0.0, 1.0, 1.0), (0.5, 3.0, 3.0))
    assert tfrank_labels("[1] < [2]", 2, "pairwise") == ((0.0, 1.0), None)
    assert (tfrank_labels("yes", 1, "pointwise"), tfrank_labels("no", 1, "pointwise")) == (
        ((1.0,), None),
        ((0.0,), None),
    )


@pytest.mark.soak_only
def test_blocks_of_the_real_data_are_sound_and_keep_queries_back(data: Path) -> None:
    for kind, folder in [("tfrank", data), ("claims", data), ("demo", data), ("judged", data / "nfcorpus-devtest")]:
        made = list(blocks(kind, folder, 6, random.Random(1)))  # type: ignore[arg-type]
        assert len(made) > 60
        kept = list(blocks(kind, folder, 6, random.Random(1), held=True))  # type: ignore[arg-type]
        assert kept
        assert all(held_back(query) for block in kept for query in block.queries)
        for block in made:
            assert 2 <= len(block.passages) == len(set(block.passages)) <= 6
            assert len(block.gains) == len(block.queries)
            assert all(len(row) == len(block.passages) and max(row) > 0 for row in block.gains)
            assert not any(map(held_back, block.queries))


def test_no_topic_for_testing_is_trained_on(data: Path) -> None:
    shipped = load("distil", Config, ["--config", "embedded", "--data", str(data)])
    trained = {" ".join(query.lower().split()) for block in gather(shipped) for query in block.queries}
    tests = ["msmarco-v1-dl19", "beir-scifact", "cacm", "cranfield", "vaswani", "birco-relic-test", "nfcorpus-devtest"]
    topics = [line for name in tests for line in (data / name / "topics.tsv").read_text(encoding="utf-8").splitlines()]
    demo = Path(__file__).parents[3] / "conf" / "demo" / "topics.tsv"
    topics += [line for line in demo.read_text(encoding="utf-8").splitlines() if line.startswith("t")]
    assert len(topics) > 800
    assert not trained & {" ".join(line.split("\t", 1)[1].lower().split()) for line in topics}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_ablation_is_the_recipe_but_for_one_thing(variant: str, data: Path) -> None:
    made = Config.model_validate(settings(VARIANTS[variant]) | {"data": data})
    shipped = load("distil", Config, ["--config", "embedded", "--data", str(data)])
    blocks = sum(source.blocks for source in made.sources.values())
    assert blocks == pytest.approx(0 if variant == "untrained" else BLOCKS, abs=3)
    same = made.model_copy(update={"sources": shipped.sources, **{name: getattr(shipped, name) for name in SHORT}})
    changed = {name for name, value in same if value != getattr(shipped, name)}
    assert changed == set(VARIANTS[variant]) - {"sources"}


def test_a_run_learns_and_goes_on_where_it_was_stopped(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    shared = {"checkpoint_seconds": 1e-9, "dev": 1, "dev_steps": 4}
    whole, stopped = (config(model, corpus, tmp_path / name, **shared) for name in ("whole", "stopped"))
    run(whole)
    with (tmp_path / "whole" / "dev.csv").open(encoding="utf-8") as lines:
        measured = list(csv.DictReader(lines))
    assert [row["step"] for row in measured] == ["0", "4", "6"]
    assert len({row["kl"] for row in measured}) == 3
    with (tmp_path / "whole" / "log.csv").open(encoding="utf-8") as lines:
        losses = [float(row["kl"]) for row in csv.DictReader(lines)]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.01
    page = (tmp_path / "whole" / "training.html").read_text(encoding="utf-8")
    assert all(f"<td>{name}</td>" in page for name in ("kl", "nDCG@10", "dev/kl titles"))

    step = Training._step

    def until_the_third(self: Training, number: int, at: Any) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, at)

    monkeypatch.setattr(Training, "_step", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(stopped)
    monkeypatch.undo()
    for log in ("log.csv", "dev.csv"):  # steps after the last checkpoint
        with (tmp_path / "stopped" / log).open("a", encoding="utf-8") as lines:
            lines.write("3,titles,1,1,1,1\n")
    run(stopped)
    for log in ("log.csv", "dev.csv"):
        ours, theirs = ((tmp_path / n / log).read_text(encoding="utf-8").splitlines() for n in ("stopped", "whole"))
        assert [row.split(",")[0] for row in ours] == [row.split(",")[0] for row in theirs]
    name = "adapter_model.safetensors"
    one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "stopped" / name)
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)
    assert not (tmp_path / "stopped" / "checkpoint.pt").exists()
