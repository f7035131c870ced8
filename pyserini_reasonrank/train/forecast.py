"""Predict the rows, tokens, steps, memory and hours of a training, and list its differences from the published run.

Nothing is loaded. ``--config`` names the settings of a step, or of a recipe, whose trainings are planned one after the
other; every key of a training is also a flag. Tokens are those of the rows if ``data`` has been written, estimated at four
bytes each, else the limits of the settings. Hours count the matrix products of the weights alone: long contexts take
longer, by the attention over them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError, nearest, validated
from pyserini_reasonrank.train.settings import Published, TrainerSettings

GPUS: dict[str, tuple[float, float]] = {
    "A100-80GB": (312, 80), "A800-80GB": (312, 80), "B200": (2250, 180), "H100-80GB": (989, 80), "H200": (989, 141),
    "H800-80GB": (989, 80), "L40S": (362, 48), "RTX-4090": (165, 24),
}  # fmt: skip
"""Dense bf16 teraflops per second (data sheets) and gigabytes of memory of each GPU."""
TRAINING, SAMPLING = 0.4, 0.1  # of those teraflops, while training and while sampling answers
BYTES_PER_TOKEN = 4
ASSUMED = 10_000  # rows, if nothing gives their number
ADAPTER = 0.01  # of the weights, for a LoRA of rank 16 to 32 on all linear layers
VOCABULARY = 152_000  # of Qwen2.5 and Qwen3; others are smaller

_SIZE = re.compile(r"(\d+(?:\.\d+)?)(b|m)\b", re.IGNORECASE)
_SHAPES = {
    0.5: (24, 896), 1.5: (28, 1536), 3.1: (36, 2048), 4.0: (36, 2560), 7.6: (28, 3584), 8.2: (36, 4096),
    14.8: (48, 5120), 32.8: (64, 5120),
}  # fmt: skip
"""Layers and hidden size by billions of parameters, as in Qwen2.5 and Qwen3."""


class Config(BaseModel):
    """Settings of ``train plan``; other keys are those of the training."""

    model_config = ConfigDict(extra="allow", frozen=True)

    gpu: Annotated[str, Field(description=f"GPU: {', '.join(GPUS)}")] = "H100-80GB"
    processes: Annotated[
        int | None, Field(ge=1, description="number of GPUs; default: those of the published run, or 1")
    ] = None
    zero: Annotated[
        Literal[0, 2, 3] | None,
        Field(
            description="ZeRO stage of DeepSpeed; default: 0 for an adapter whose base fits half a GPU, 2 for what does "
            "not work with 3 (rank_loss, prilora), else 3"
        ),
    ] = None
    rows: Annotated[
        int | None,
        Field(ge=1, description="number of rows; default: those of data, or of the published run, or 10,000"),
    ] = None
    parameters: Annotated[
        float | None, Field(gt=0, description="billions of parameters; default: by the name of the model")
    ] = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """A prediction. Tokens are of one row; ``memory`` is in gigabytes per GPU.

    ``rows`` is an assumption if ``assumed``, and 0 if it is unknown and not needed, as the settings give the steps.
    """

    step: str
    rows: int
    assumed: bool
    prompt_tokens: float
    answer_tokens: float
    measured: bool
    steps: int
    per_step: int
    memory: dict[str, float]
    hours: float
    warnings: list[str]


def run(config: Config) -> None:
    """Print the prediction. UsageError if the settings are not those of a step, or if the model's size is unknown."""
    from pyserini_reasonrank.train import other_plans

    if config.gpu not in GPUS:
        raise UsageError(f"--gpu {config.gpu} is unknown{nearest(config.gpu, GPUS)}")
    settings = config.model_extra or {}
    if "steps" in settings:
        plans = []
        for step, own, base in other_plans.trainings(settings):
            sized = config if config.parameters else config.model_copy(update={"parameters": size_of(base)})
            plans.append("\n".join(lines(sized, step, own)))
        print("\n\n".join(plans))
        return
    print("\n".join(other_plans.plan_of(config, settings) or lines(config, *training(settings))))


def lines(config: Config, step: str, settings: TrainerSettings) -> list[str]:
    """The lines of the prediction for one training, and its differences from the published run."""
    processes = config.processes or (settings.published.gpus if settings.published else 1)
    return [*_lines(forecast(config, step, settings, processes), config, processes), *differences(settings.published)]


def training(settings: dict[str, Any]) -> tuple[str, TrainerSettings]:
    """The step that ``settings`` belong to, and the settings. UsageError if they are not those of a training."""
    from pyserini_reasonrank.train import command

    if "model" not in settings:
        raise UsageError("train plan needs --config with the settings of a step, or --model with those of a training")
    args = settings.get("args") or {}
    if settings.get("rewards") or settings.get("latro"):
        step = "grpo"
    else:
        step = "dpo" if "optimism" in settings or "beta" in args else "sft"
    given = {"data": ["rows.jsonl"], "output": "runs", **settings}
    return step, validated(command.step(step).Config, given, step)  # type: ignore[return-value]


def forecast(config: Config, step: str, settings: TrainerSettings, processes: int) -> Forecast:
    """The prediction for a training on ``processes`` GPUs."""
    args = settings.args
    billions = config.parameters or size_of(settings.model)
    batch, accumulation = args.get("per_device_train_batch_size", 8), args.get("gradient_accumulation_steps", 1)
    group = args.get("num_generations", 8) if step == "grpo" else 1
    per_step = batch * accumulation * processes
    count, prompt, answer = _measured(settings.data)
    measured = count > 0
    if not measured:
        prompt, answer = _limits(step, settings)
    known = config.rows or count or (settings.published.rows if settings.published else None)
    steps = args.get("max_steps") if args.get("max_steps", -1) > 0 else None
    rows = known or (ASSUMED if steps is None else 0)
    if steps is None:
        steps = math.ceil(rows * group * args.get("num_train_epochs", 3) / per_step)
    zero = config.zero if config.zero is not None else _stage(settings, billions, GPUS[config.gpu][1])
    memory = _memory(step, settings, billions, batch * (prompt + answer), batch * answer, processes, zero)
    warnings = []
    if args.get("use_vllm") and args.get("vllm_mode", "colocate") == "colocate":
        memory["vLLM"] = args.get("vllm_gpu_memory_utilization", 0.3) * GPUS[config.gpu][1]
        held = 2 * billions / args.get("vllm_tensor_parallel_size", 1)
        if held > memory["vLLM"]:
            warnings.append(f"vLLM: its {memory['vLLM']:.0f} GB do not hold the weights of {held:.0f} GB: raise "
                            f"args.vllm_gpu_memory_utilization or args.vllm_tensor_parallel_size")  # fmt: skip
    tokens = steps * per_step * (prompt + answer)
    seconds = _seconds(step, settings, billions, tokens, GPUS[config.gpu][0] * processes)
    return Forecast(
        step,
        rows,
        rows > 0 and known is None,
        prompt,
        answer,
        measured,
        steps,
        per_step,
        memory,
        seconds / 3600,
        warnings,
    )


def _stage(settings: TrainerSettings, billions: float, room: float) -> Literal[0, 2, 3]:
    """The ZeRO stage that a training is planned with; ``room`` is the memory of a GPU in gigabytes."""
    if settings.lora is not None and 2 * billions <= room / 2:
        return 0
    whole = getattr(settings, "rank_loss", None) or (settings.lora and settings.lora.prilora)
    return 2 if whole else 3


def size_of(model: str) -> float:
    """Billions of parameters by the name of a model. UsageError if the name does not have them."""
    named = _SIZE.findall(model)
    if not named:
        raise UsageError(f"the name {model} does not have the model's size: set --parameters, in billions")
    number, unit = named[-1]
    size = float(number) / (1000 if unit.lower() == "m" else 1)
    close = min(_SHAPES, key=lambda known: abs(known - size))
    return close if abs(close - size) < 0.15 * size else size


def differences(published: Published | None) -> list[str]:
    """Lines on the published run and where the settings differ from it."""
    if published is None:
        return ["published run: none is named in the settings"]
    code = f"; {published.code}" if published.code else "; no released code"
    if not published.differs:
        return [f"published run: {published.paper}{code}", "differences from it: none known"]
    return [f"published run: {published.paper}{code}", "differences from it:", *(f"  - {d}" for d in published.differs)]


def _lines(found: Forecast, config: Config, processes: int) -> list[str]:
    room = GPUS[config.gpu][1]
    total = sum(found.memory.values())
    parts = ", ".join(f"{name} {value:.0f}" for name, value in found.memory.items())
    known = "as written" if found.measured else "at most"
    hours = f"{found.hours:,.1f}" if found.hours >= 0.05 else "less than 0.1"
    unit = "answers" if found.step == "grpo" else "rows"
    rows = f"{found.rows:,}" if found.rows else "unknown; args.max_steps gives the steps"
    if found.assumed:
        rows += ", an assumption, as their number is not published: set --rows"
    tokens = f"{found.prompt_tokens:,.0f} prompt, {found.answer_tokens:,.0f} answer"
    if not found.measured and not found.answer_tokens:
        tokens = f"{found.prompt_tokens:,.0f} prompt and answer"
    return [
        f"step: {found.step}",
        f"rows: {rows}",
        f"tokens of a row: {tokens} ({known})",
        f"steps: {found.steps:,} of {found.per_step:,} {unit}",
        f"memory: {total:.0f} of {room:.0f} GB per GPU ({parts}){'' if total <= room else ': more than there is'}",
        f"hours: {hours} on {processes} x {config.gpu}" + ("" if found.measured else ", at most"),
        *found.warnings,
    ]


def _measured(paths: list[Path]) -> tuple[int, float, float]:
    """The number of rows in the files that exist, and the mean tokens of their prompts and answers."""
    from pyserini_reasonrank.train.data.rows import read_rows

    rows = [row for path in paths if path.is_file() for row in read_rows(path)[0]]
    if not rows:
        return 0, 0.0, 0.0
    prompts = sum(len(m.content.encode()) for row in rows for m in row.prompt)
    answers = sum(len(row.demonstration.encode()) for row in rows)
    return len(rows), prompts / len(rows) / BYTES_PER_TOKEN, answers / len(rows) / BYTES_PER_TOKEN


def _limits(step: str, settings: TrainerSettings) -> tuple[float, float]:
    """The most tokens of a prompt and of an answer. Of ``sft`` and ``dpo`` an answer is within the whole length."""
    if step == "grpo":
        answer = settings.args.get("max_completion_length", 256)
        return getattr(settings, "max_prompt_length", None) or 4096, answer
    return getattr(settings, "max_length", None) or 1024, 0


def _memory(
    step: str, settings: TrainerSettings, billions: float, tokens: float, answers: float, processes: int, zero: int
) -> dict[str, float]:
    """Gigabytes per GPU of weights, of gradients and optimiser, of the reference, and of the activations of one pass.

    ``tokens`` are those of one pass; a pass of ``dpo`` has two answers to each prompt.
    """
    if step == "dpo":
        tokens, answers = 2 * tokens, 2 * answers
    width = 2 if settings.model_args.get("dtype") == "bfloat16" and settings.lora else 4
    trained = billions * (ADAPTER if settings.lora else 1.0)
    reference = step == "dpo" or (step == "grpo" and settings.args.get("beta", 0.0) > 0)
    weights, state = width * billions, 12 * trained
    kept = 4 * billions if reference and not settings.lora else 0.0
    layers, hidden = _SHAPES[min(_SHAPES, key=lambda known: abs(known - billions))]
    stored = layers if _checkpoints(settings) else 16 * layers
    activations = 2 * tokens * hidden * stored / 1e9
    logits = 6 * (tokens if step == "sft" else answers or tokens) * VOCABULARY / 1e9
    shared = processes if zero == 3 else 1
    return {
        "weights": weights / shared,
        "gradients and optimiser": state / (processes if zero in (2, 3) else 1),
        **({"reference": kept / shared} if kept else {}),
        "activations": activations + logits,
    }


def _checkpoints(settings: TrainerSettings) -> bool:
    """Whether activations are computed again instead of kept; the default on a GPU."""
    return bool(settings.args.get("gradient_checkpointing", True))


def _seconds(step: str, settings: TrainerSettings, billions: float, tokens: float, teraflops: float) -> float:
    """Seconds of training and, for ``grpo``, of sampling, on GPUs with ``teraflops`` together."""
    forward = 2 * billions * 1e9 * tokens
    passes = 2.0 if settings.lora else 3.0  # an adapter needs no gradients of the weights
    if _checkpoints(settings):
        passes += 1.0
    if step == "dpo":
        forward, passes = 2 * forward, passes + 1.0  # two answers, and the reference
    if step == "grpo":
        passes += 1.0 + (settings.args.get("beta", 0.0) > 0)  # the old policy and the reference
    trained = forward * passes / (TRAINING * teraflops * 1e12)
    sampled = (
        forward / settings.args.get("num_iterations", 1) / (SAMPLING * teraflops * 1e12) if step == "grpo" else 0.0
    )
    return trained + sampled
