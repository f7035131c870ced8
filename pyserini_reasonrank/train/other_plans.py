"""Plans of what is not one training by TRL: a recipe's trainings, rows, synthesis, the embedded model, the router."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pyserini_reasonrank.errors import validated
from pyserini_reasonrank.train import command, recipe
from pyserini_reasonrank.train.settings import Published, TrainerSettings

if TYPE_CHECKING:
    from pyserini_reasonrank.train.forecast import Config

TRAINERS = ("sft", "grpo", "dpo")
NO_GPU = ["steps: none", "memory: no GPU is used", "hours: no GPU is used"]
_PLACEHOLDER = Path("out")
_IDENTIFIER = 12  # tokens of the brackets, numbers and line breaks of a passage, at most


def trainings(settings: Mapping[str, Any]) -> list[tuple[str, TrainerSettings, str]]:
    """The trainings of a recipe, in order, each with the model that the first of its line starts from.

    UsageError if a step has a fault.
    """
    whole = validated(recipe.Config, {"output": _PLACEHOLDER, "data": _PLACEHOLDER, **settings}, "recipe")
    found, bases = [], dict[str, str]()
    for name, given in recipe.check(whole):
        if name in TRAINERS:
            own = cast(TrainerSettings, validated(command.step(name).Config, given, name))
            bases[str(own.output)] = bases.get(own.model, own.model)
            found.append((name, own, bases[str(own.output)]))
    return found


def plan_of(config: Config, settings: Mapping[str, Any]) -> list[str] | None:
    """The lines for the settings of a step that is not a trainer of TRL; None for those of a trainer."""
    if "sources" in settings:
        return _distillation(config, settings)
    if "teacher" in settings:
        return _synthesis(settings)
    if "reranker" in settings:
        return _rows(config, settings)
    if "arms" in settings or "unit" in settings:
        return _router()
    return None


def _rows(config: Config, settings: Mapping[str, Any]) -> list[str]:
    from pyserini_reasonrank.train.data import prepare
    from pyserini_reasonrank.train.forecast import differences

    own = validated(prepare.Config, {"output": _PLACEHOLDER, **settings}, "data")
    rows = config.rows or (own.published.rows if own.published else None)
    context, answer = own.rerank.get("max_model_len"), own.rerank.get("sampling", {}).get("max_tokens", 0)
    tokens = f"{context - answer:,} prompt, {answer:,} answer (at most)" if context else "the model's context (at most)"
    return [
        "step: data",
        f"rows: {'unknown, set --rows' if rows is None else f'{rows:,}'}",
        f"tokens of a row: {tokens}",
        *NO_GPU,
        *differences(own.published),
    ]


def _synthesis(settings: Mapping[str, Any]) -> list[str]:
    from pyserini_reasonrank.train.data.labelling import Config as Synthesis
    from pyserini_reasonrank.train.forecast import differences

    given = {"topics": _PLACEHOLDER, "run": _PLACEHOLDER, "corpus": _PLACEHOLDER, "output": _PLACEHOLDER, **settings}
    own = validated(Synthesis, given, "synthesize")
    limit = own.rerank.get("passage_tokens", 0) + _IDENTIFIER
    return [
        "step: synthesize",
        "rows: at most one for each topic",
        f"tokens of a row: {own.size * limit:,} in passages, "
        f"{own.rerank.get('sampling', {}).get('max_tokens', 0):,} answer (at most)",
        *NO_GPU,
        "teacher: `train synthesize --cost true` predicts its calls and tokens",
        *differences(own.published),
    ]


def _distillation(config: Config, settings: Mapping[str, Any]) -> list[str]:
    from pyserini_reasonrank.train import forecast
    from pyserini_reasonrank.train.distil.optimisation import Config as Distillation

    own = validated(Distillation, {"data": _PLACEHOLDER, "output": _PLACEHOLDER, **settings}, "distil")
    blocks = sum(source.blocks for source in own.sources.values())
    args = {
        "per_device_train_batch_size": own.batch * own.passages,
        "num_train_epochs": 1,
        "gradient_checkpointing": False,
    }
    lora = {"r": own.rank, "alpha": own.alpha, "first_layer": own.first_layer}
    like = {
        "model": own.model,
        "lora": lora,
        "args": args,
        "max_length": own.passage_tokens + own.passages * own.query_tokens,
    }
    step, trained = forecast.training(like)
    found = forecast.lines(config.model_copy(update={"rows": blocks * own.passages}), step, trained)
    return ["step: distil", *found[1:]]


def _router() -> list[str]:
    from pyserini_reasonrank.train.forecast import differences

    paper = Published(
        paper="arXiv 2311.08692, section 3",
        rows=47_986,
        differs=["nDCG@10 minus the cost in place of a reward model", "logistic regression in place of mDeBERTa"],
    )
    return ["step: route", "rows: the judged queries", "tokens of a row: none", *NO_GPU, *differences(paper)]
