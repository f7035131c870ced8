"""Run a trainer: start or resume, stop on signals, evaluate on development topics, save, and record the run."""

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
from pyserini_reasonrank.train.curves import write_page
from pyserini_reasonrank.train.data.rows import Audit
from pyserini_reasonrank.train.folder import Folder, main_process
from pyserini_reasonrank.train.settings import TrainerSettings
from pyserini_reasonrank.train.trainers.dev_callback import DevCallback
from pyserini_reasonrank.train.trainers.policy import Policy

LINES = 20  # progress lines of a run
OWN, REFERENCE = "default", "ref"  # PEFT's names of the trained adapter and of its frozen copy
HALF = (torch.bfloat16, torch.float16)
PRINTED = ("loss", "reward", "groups/equal", "completions/mean_length")


def fit(
    trainer: Any, policy: Policy, settings: TrainerSettings, folder: Folder, audits: Sequence[Audit], *, every: int = 1
) -> None:
    """Train to the end, from the last checkpoint if there is one. Saves model, tokenizer, log and curves in the folder.

    A run can be resumed exactly only from checkpoints at multiples of ``every`` steps. UsageError for weights in 16 bits
    that training can't update, and for settings that FSDP or ZeRO-3 does not run. Failure after a checkpoint if a signal
    stops training (SIGINT, SIGTERM), or if the loss is NaN or infinite.
    """
    began = time.monotonic()
    check_precision(trainer)
    check_sharding(trainer, settings)
    dev = DevCallback(settings.dev, folder, trainer, policy.chat, policy.context) if settings.dev else None
    folder.open()
    if main_process():
        for audit in audits:
            print(audit)
    trainer.remove_callback(PrinterCallback)
    if settings.lora is not None and settings.lora.prilora is not None:
        from pyserini_reasonrank.train.experimental.prilora import Pruning

        trainer.add_callback(Pruning(settings.lora.prilora))  # before the callbacks that use the weights
    stop = StopOnSignal(trainer, every)
    trainer.add_callback(stop)
    trainer.add_callback(ProgressLog(folder))
    if dev is not None:
        trainer.add_callback(dev)
    with stop.on_signals():
        trainer.train(resume_from_checkpoint=folder.checkpoint())
    if stop.stopped:
        raise Failure(f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}: "
                      f"run the same command to continue")  # fmt: skip
    save(trainer, str(folder.path))
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
        f"{folder.step}: {trainer.state.global_step} steps; model in {folder.path}, curves in {folder.path / 'training.html'}"
    )


def save(trainer: Any, folder: str) -> None:
    """Save the trained model in ``folder``; every process has to call this.

    With FSDP's sharded checkpoints, transformers' ``save_model`` writes nothing.
    """
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(folder)


def check_precision(trainer: Any) -> None:
    """UsageError if full weights are trained in 16 bits without a 32-bit copy.

    Near 0.02, bfloat16 numbers are 1.2e-4 apart, so an update of 1e-6 is rounded away.
    """
    upcast = trainer.is_fsdp_enabled and trainer.accelerator.mixed_precision != "no"
    if hasattr(trainer.model, "peft_config") or trainer.is_deepspeed_enabled or upcast:
        return
    coarse = {weight.dtype for weight in trainer.model.parameters() if weight.requires_grad}.intersection(HALF)
    if coarse:
        raise UsageError(
            f"all weights would be trained in {str(coarse.pop()).removeprefix('torch.')}, which rounds small updates away: "
            f"remove dtype from model_args (args.bf16 computes in bfloat16 without it), or launch with DeepSpeed"
        )


def check_sharding(trainer: Any, settings: TrainerSettings) -> None:
    """UsageError for a setting that needs whole weights, if FSDP or ZeRO-3 partitions them.

    ``dev`` gathers the weights of ZeRO-3. With FSDP the processes would wait for each other without end.
    """
    fsdp = trainer.is_fsdp_enabled
    if not fsdp and not (trainer.is_deepspeed_enabled and trainer.accelerator.state.deepspeed_plugin.zero_stage == 3):
        return
    prilora = settings.lora and settings.lora.prilora
    parts = {
        "rank_loss": getattr(settings, "rank_loss", None),
        "lora.prilora.every": prilora and prilora.every,
        "dev": fsdp and settings.dev,
    }
    for name, given in parts.items():
        if given:
            raise UsageError(
                f"{name} needs whole weights, which {'FSDP' if fsdp else 'ZeRO-3'} partitions: leave it out, or launch with "
                f"conf/train/accelerate/zero2.yaml"
            )


def last_values(log: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The last value of each logged measure."""
    return {
        k: v for entry in log for k, v in entry.items() if isinstance(v, int | float) and k not in ("step", "epoch")
    }


class WholeCheckpoint:
    """Mixin before a TRL trainer: a checkpoint restores both the trained adapter and its frozen reference copy.

    transformers loads either the adapters in a checkpoint's subfolders or the adapter at its top: without this mixin it
    would restore the reference and restart the policy.
    """

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(checkpoint, model)  # type: ignore[misc]
        policy: Any = self.model  # type: ignore[attr-defined]
        if REFERENCE in getattr(policy, "peft_config", {}):
            policy.load_adapter(checkpoint, OWN, is_trainable=True)


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """After a signal, saves a checkpoint at the next step from which the run can be resumed exactly, and stops."""

    def __init__(self, trainer: Any, every: int) -> None:
        self._trainer, self._every = trainer, every
        self._asked = False
        self.stopped = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM; a second signal has its usual effect."""
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
        """Whether any process received a signal: all processes stop at the same step."""
        accelerator = self._trainer.accelerator
        if accelerator.num_processes == 1:
            return self._asked
        asked = torch.tensor(float(self._asked), device=accelerator.device)
        return bool(accelerator.reduce(asked, "sum").item())


class ProgressLog(TrainerCallback):  # type: ignore[misc]
    """Prints about LINES progress lines and redraws the curves at each checkpoint. Stops training on a non-finite loss."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._turn = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        printed = {name: logs[name] for name in logs if name in PRINTED or name.startswith("dev/")}
        turn = state.global_step * LINES // max(state.max_steps, 1)
        if printed and state.is_world_process_zero and (turn > self._turn or "loss" not in printed):
            self._turn = turn
            values = ", ".join(f"{name} {value:.4g}" for name, value in printed.items())
            print(f"step {state.global_step} of {state.max_steps}: {values}", flush=True)
        loss = logs.get("loss")
        if loss is not None and not math.isfinite(loss):
            raise Failure(f"the loss is {loss} at step {state.global_step}: lower args.learning_rate or check the rows; "
                          f"earlier checkpoints are in {self._folder.path}")  # fmt: skip

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            write_page(self._folder.path / "training.html", self._folder.step, state.log_history)
