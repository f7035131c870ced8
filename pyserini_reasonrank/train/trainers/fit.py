"""Running a trainer: begin or go on, stop at a word, watch, save, record."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.train.data.rows import Audit
from pyserini_reasonrank.train.experimental.prilora import Pruning
from pyserini_reasonrank.train.folder import Folder, main_process
from pyserini_reasonrank.train.page import write_page
from pyserini_reasonrank.train.settings import TrainerSettings
from pyserini_reasonrank.train.trainers.dev_callback import Watch
from pyserini_reasonrank.train.trainers.policy import Policy

LINES = 20
HALF = (torch.bfloat16, torch.float16)
TOLD = ("loss", "reward", "groups/equal", "completions/mean_length")


def fit(
    trainer: Any, policy: Policy, settings: TrainerSettings, folder: Folder, audits: Sequence[Audit], *, every: int = 1
) -> None:
    """Train to the end, from the last checkpoint if there is one, and leave model, tokenizer, log and page in the folder.

    ``every``: checkpoints are whole only at multiples of so many steps. UsageError for weights too coarse to be trained.
    Failure if it is told to stop (SIGINT, SIGTERM), after a checkpoint, or if the loss is no number any more.
    """
    began = time.monotonic()
    check_precision(trainer)
    watches = [Watch(dev, folder, trainer, policy.chat, policy.context) for dev in (settings.dev,) if dev is not None]
    folder.open()
    if main_process():
        for audit in audits:
            print(audit)
    trainer.remove_callback(PrinterCallback)
    if settings.lora is not None and settings.lora.prilora is not None:
        trainer.add_callback(Pruning(settings.lora.prilora))  # before whoever looks at the weights
    stop = Stop(trainer, every)
    trainer.add_callback(stop)
    trainer.add_callback(Log(folder))
    for watch in watches:
        trainer.add_callback(watch)
    with stop.on_signals():
        trainer.train(resume_from_checkpoint=folder.checkpoint())
    if stop.stopped:
        raise Failure(f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}: "
                      f"the same command goes on from there")  # fmt: skip
    trainer.save_model(str(folder.path))
    if not trainer.is_world_process_zero():
        return
    log = trainer.state.log_history
    folder.finish(
        {
            "rows": [
                {"read": a.read, "kept": a.kept, "left_out": {str(k): n for k, n in a.faults.items()}} for a in audits
            ],
            "steps": trainer.state.global_step,
            "seconds": round(time.monotonic() - began, 1),
            "metrics": last_values(log),
            "log": log,
        }
    )
    write_page(folder.path / "training.html", folder.step, log)
    print(
        f"{folder.step}: {trainer.state.global_step} steps, {folder.path}; the curves are in {folder.path / 'training.html'}"
    )


def check_precision(trainer: Any) -> None:
    """UsageError if all weights are trained in 16 bits and nothing keeps them in 32: around 0.02 the numbers of bfloat16
    are 1.2e-4 apart, so a step of 1e-6 rounds to nothing."""
    upcast = trainer.is_fsdp_enabled and trainer.accelerator.mixed_precision != "no"
    if hasattr(trainer.model, "peft_config") or trainer.is_deepspeed_enabled or upcast:
        return
    coarse = {weight.dtype for weight in trainer.model.parameters() if weight.requires_grad}.intersection(HALF)
    if coarse:
        raise UsageError(
            f"all weights would be trained in {str(coarse.pop()).removeprefix('torch.')}, where small steps round to nothing: "
            f"take dtype out of model_args (args.bf16 computes in bfloat16 without it), or launch with DeepSpeed"
        )


def last_values(log: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The last value of everything that was logged."""
    return {
        k: v for entry in log for k, v in entry.items() if isinstance(v, int | float) and k not in ("step", "epoch")
    }


class Stop(TrainerCallback):  # type: ignore[misc]
    """Ends training at the next step after which a checkpoint is whole, once a signal has come."""

    def __init__(self, trainer: Any, every: int) -> None:
        self._trainer, self._every = trainer, every
        self._asked = False
        self.stopped = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask to stop; a second one ends the process as ever."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def ask(number: int, frame: Any) -> None:
            self._asked = True
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self._every or state.global_step >= state.max_steps or not self._agreed():
            return
        self.stopped = control.should_save = control.should_training_stop = True

    def _agreed(self) -> bool:
        """Whether any process was asked: all have to end at the same step."""
        accelerator = self._trainer.accelerator
        if accelerator.num_processes == 1:
            return self._asked
        asked = torch.tensor(float(self._asked), device=accelerator.device)
        return bool(accelerator.reduce(asked, "sum").item())


class Log(TrainerCallback):  # type: ignore[misc]
    """Says how it goes, some LINES times a run; redraws the page at each checkpoint; ends a run whose loss is no number."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._said = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        told = {name: logs[name] for name in logs if name in TOLD or name.startswith("dev/")}
        turn = state.global_step * LINES // max(state.max_steps, 1)
        if told and state.is_world_process_zero and (turn > self._said or "loss" not in told):
            self._said = turn
            values = ", ".join(f"{name} {value:.4g}" for name, value in told.items())
            print(f"step {state.global_step} of {state.max_steps}: {values}", flush=True)
        loss = logs.get("loss")
        if loss is not None and not math.isfinite(loss):
            raise Failure(f"the loss is {loss} at step {state.global_step}: lower args.learning_rate or look at the rows; "
                          f"{self._folder.path} holds the checkpoints before")  # fmt: skip

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            write_page(self._folder.path / "training.html", self._folder.step, state.log_history)
