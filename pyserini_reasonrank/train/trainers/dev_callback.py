"""Evaluation on development topics during training, through the serving path; the best checkpoint is kept."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from typing import Any

from transformers import Trainer, TrainerCallback
from trl.models import unwrap_model_for_generation

from pyserini_reasonrank.engines.chat import Chat
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.file_io import atomic
from pyserini_reasonrank.ir.measure_names import parse_measure
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.journal import journal_of
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.run.candidates import read_requests, stream
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.train.folder import Folder, main_process
from pyserini_reasonrank.train.settings import Dev
from pyserini_reasonrank.train.trainers.dev_engine import InTraining


class DevCallback(TrainerCallback):  # type: ignore[misc]
    """Reranks the development topics every ``dev.every`` steps and at the end.

    The measure is logged as ``dev/MEASURE`` and the best model is saved in ``best/``. The runs and their journals are kept
    under ``dev/``, so that the answers can be inspected.
    """

    def __init__(self, dev: Dev, folder: Folder, trainer: Any, chat: Chat, context: int) -> None:
        """UsageError, before the first training step, for an unknown reranker, topic or measure."""
        self.dev, self.folder, self._trainer, self._chat = dev, folder, trainer, chat
        self._home = folder.path / "dev"
        self._model = Model("policy", str(self._home), context=context)
        parse_measure(dev.measure)
        chosen = {
            "max_bad": 1.0,
            **dev.settings,
            "engine": {"name": "oracle"},
        }  # early in training all answers may be bad
        self._settings, self._warnings = layers.load(dev.reranker, chosen)
        self._requests = list(islice(read_requests(dev.run, dev.topics, dev.corpus, self._settings.depth), dev.queries))
        judged = read_qrels(dev.qrels)
        self._judged = {r.query.qid: judged[r.query.qid] for r in self._requests if r.query.qid in judged}
        if not self._judged:
            raise UsageError(f"{dev.qrels} judges none of the development topics in {dev.topics}")
        plan(self._settings, self._warnings)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if main_process():
            self._home.mkdir(parents=True, exist_ok=True)
            self._trainer.processing_class.save_pretrained(self._home)
            self._write_qrels()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.dev.every == 0 or state.global_step == state.max_steps:
            should_log = control.should_log
            self._evaluate(state.global_step)
            control.should_log = should_log  # logging the measure has reset it

    def _evaluate(self, step: int) -> None:
        trainer = self._trainer
        accelerator, training = trainer.accelerator, trainer.model.training
        with unwrap_model_for_generation(trainer.model_wrapped, accelerator) as model:
            model.eval()
            value = self._measure(model, step) if main_process() else 0.0
            model.train(training)
        accelerator.wait_for_everyone()
        if main_process():
            Trainer.log(trainer, {f"dev/{self.dev.measure}": value})  # TRL's own log() would clear its metrics
        if accelerator.num_processes > 1:
            import torch

            value = float(accelerator.reduce(torch.tensor(value, device=accelerator.device), "sum"))
        if value > self._best():
            trainer.save_model(str(self.folder.best))
            if main_process():
                with atomic(self.folder.best / "dev.json") as file:
                    file.write(json.dumps({"step": step, "measure": self.dev.measure, "value": value}).encode())
        accelerator.wait_for_everyone()

    def _measure(self, model: Any, step: int) -> float:
        batch = self._trainer.args.per_device_eval_batch_size
        engine = InTraining(model, self._chat, self._trainer.processing_class, self._model, step, batch)
        made = plan(self._settings, self._warnings, engine=engine)
        output = self._home / f"step-{step}.txt"
        journal_of(output).unlink(missing_ok=True)
        task = Task(
            stream(iter(self._requests)), output, self.dev.run, str(self.dev.topics), ["train", self.folder.step]
        )
        asyncio.run(rerank(made, task))
        [score] = evaluate(self._home / "qrels.txt", self.dev.run, [output], [self.dev.measure]).runs[0].scores
        return score.value

    def _best(self) -> float:
        path = self.folder.best / "dev.json"
        return float(json.loads(path.read_text(encoding="utf-8"))["value"]) if path.is_file() else float("-inf")

    def _write_qrels(self) -> None:
        """Write the judgments of the development topics alone: unanswered topics would count 0."""
        lines = (
            f"{qid}\t0\t{docid}\t{grade}\n" for qid, found in self._judged.items() for docid, grade in found.items()
        )
        (self._home / "qrels.txt").write_text("".join(lines), encoding="utf-8")
