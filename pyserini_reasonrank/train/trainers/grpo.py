"""Learn from rewards: group relative policy optimisation (TRL's GRPOTrainer) with the rewards of train/rewards."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.engines.local.library_setup import without_vllm
from pyserini_reasonrank.errors import UsageError, message_of, nearest
from pyserini_reasonrank.train.folder import Folder
from pyserini_reasonrank.train.settings import TrainerSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from pyserini_reasonrank.train.data.rows import Audit, Row
    from pyserini_reasonrank.train.trainers.policy import Policy

OWN_REWARDS = "pyserini_reasonrank.train.rewards"


class Reward(BaseModel):
    """A reward function."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Field(description="dotted path, or the name of a reward of train.rewards")]
    weight: Annotated[float, Field(description="weight in the sum of the rewards")] = 1.0
    args: Annotated[dict[str, Any], Field(description="keyword arguments of the reward function")] = {}


class LatroSettings(BaseModel):
    """LaTRO's self-reward, instead of reward functions or in addition to them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: Annotated[float, Field(description="weight in the sum of the rewards")] = 1.0
    orders: Annotated[int, Field(ge=1, description="number of equally right answers to score if gains tie")] = 4
    published: Annotated[
        bool,
        Field(description="sum over all tokens of the whole right answer, as in the paper; else the mean of ten ids"),
    ] = False


class MutationSettings(BaseModel):
    """RARL's response mutation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    good: Annotated[float, Field(description="reward from which a group counts as good")] = 0.5
    until: Annotated[
        float, Field(gt=0, le=1, description="share of the training steps with mutation, from the start")
    ] = 0.8


class Config(TrainerSettings):
    """Settings of ``train grpo``."""

    rewards: Annotated[list[Reward], Field(description="reward functions: list of {path, weight, args}")] = []
    latro: Annotated[LatroSettings | None, Field(description="LaTRO's self-reward")] = None
    mutation: Annotated[MutationSettings | None, Field(description="RARL's response mutation")] = None
    max_prompt_length: Annotated[
        int | None, Field(ge=1, description="maximum tokens of a prompt, longer rows are left out; the context if null")
    ] = None
    per_query: Annotated[
        int | None, Field(ge=2, description="number of rows of a query that share a batch (ERank)")
    ] = None
    drop_equal: Annotated[bool, Field(description="leave groups with equal rewards out of the loss")] = True


def run(config: Config) -> None:
    """Train. UsageError for rows, rewards or settings that can't be used; Failure if training stops early."""
    functions = [function(reward) for reward in config.rewards]
    if not functions and config.latro is None:
        raise UsageError(f"grpo needs --rewards, such as '[{{path: multiview}}]'{nearest('', _own())}")
    folder = Folder(config.output, "grpo", config.model_dump(mode="json"))
    if not folder.begin():
        print(f"{config.output} is finished")
        return
    if not config.args.get("use_vllm"):
        without_vllm()
    from trl import GRPOConfig

    from pyserini_reasonrank.train.data.rows import Audit, check_written
    from pyserini_reasonrank.train.trainers import examples, policy
    from pyserini_reasonrank.train.trainers.fit import fit
    from pyserini_reasonrank.train.trainers.ranking_trainer import Grouping

    rows, audits = examples.rows_of(config.data)
    check_written(rows)
    weights = [reward.weight for reward in config.rewards]
    if config.latro is not None:
        weights.append(config.latro.weight)
    args = policy.arguments(GRPOConfig, config.args, output_dir=str(config.output), reward_weights=weights)
    loaded = policy.load(config)
    rewrite, mutation = None, None
    if config.latro is not None:
        from pyserini_reasonrank.train.experimental.latro import SelfReward, cut_after_thought

        functions.append(
            SelfReward(
                lambda: trainer.accelerator.unwrap_model(trainer.model),
                loaded.tokenizer,
                config.latro.orders,
                published=config.latro.published,
            )
        )
        rewrite = None if config.rewards else cut_after_thought
    if config.mutation is not None:
        from pyserini_reasonrank.train.experimental.rarl import ResponseMutation

        mutation = ResponseMutation(config.mutation.good, config.mutation.until, examples.end_of_turn(loaded))
    fitting = Audit()
    data = prompts(rows, loaded, loaded.context - args.max_completion_length, config.max_prompt_length, fitting)
    trainer = _trainer(
        model=loaded.model,
        reward_funcs=functions,
        args=args,
        train_dataset=data,
        processing_class=loaded.tokenizer,
        peft_config=loaded.peft_config,
        grouping=Grouping(config.per_query, config.drop_equal),
        rewrite=rewrite,
        mutation=mutation,
    )
    check(trainer, config)
    fit(trainer, loaded, config, folder, [*audits, fitting], every=trainer.steps_per_batch)


def _trainer(**parts: Any) -> Any:
    """The trainer. UsageError if vLLM can't sample its answers: no server, another version, no CUDA device."""
    from pyserini_reasonrank.train.trainers.ranking_trainer import RankingTrainer

    try:
        return RankingTrainer(**parts)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        if not parts["args"].use_vllm:
            raise
        raise UsageError(f"TRL can't start with args.use_vllm: {message_of(error)}") from error


def function(reward: Reward) -> Callable[..., Any]:
    """The function that a reward names, with its arguments. UsageError for an unknown function or argument.

    The check is needed because reward functions swallow unknown keyword arguments as columns.
    """
    path = reward.path if "." in reward.path else f"{OWN_REWARDS}.{reward.path}"
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        known = _own() if module == OWN_REWARDS else []
        raise UsageError(f"unknown reward function {path}{nearest(name, known) if known else ''}") from None
    parameters = inspect.signature(found).parameters
    for argument in reward.args:
        if argument not in parameters:
            raise UsageError(f"the reward {reward.path} has no argument {argument}")
    return functools.wraps(found)(functools.partial(found, **reward.args))


def prompts(rows: list[Row], policy: Policy, room: int, longest: int | None, audit: Audit) -> Dataset:
    """The rows with their prompts as the text that serving sends. ``audit`` counts the rows; longer prompts are left out.

    The limit is the smaller of ``room`` and ``longest``, in tokens. UsageError if no prompt is short enough.
    """
    from pyserini_reasonrank.train.data.rows import to_dataset
    from pyserini_reasonrank.train.trainers.examples import Unfit, prompt_of

    limit = min(room, longest or room)
    kept, texts = [], []
    for row in rows:
        prompt = prompt_of(row)
        fits = len(policy.chat.tokens(prompt)) <= limit
        if audit.note(None if fits else Unfit.LONG_PROMPT, f"{row.source} {row.qid}"):
            kept.append(row)
            texts.append(policy.chat.text(prompt))
    if not kept:
        raise UsageError(f"no prompt has at most {limit} tokens: {audit}")
    return to_dataset(kept).remove_columns("prompt").add_column("prompt", texts)


def check(trainer: Any, config: Config) -> None:
    """UsageError for batch sizes that split groups, or for checkpoints between two generations."""
    args, every = trainer.args, trainer.steps_per_batch
    slices, accumulated = args.steps_per_generation * args.num_iterations, args.gradient_accumulation_steps
    if slices % accumulated and accumulated % slices:
        raise UsageError(f"a generation takes {slices} passes and an update {accumulated}: make one of "
                         f"args.steps_per_generation and args.gradient_accumulation_steps a multiple of the other")  # fmt: skip
    if "save_steps" not in config.args:
        args.save_steps = -(-args.save_steps // every) * every
    here = args.per_device_train_batch_size * args.steps_per_generation
    whole = trainer.num_generations * (config.per_query or 1)
    if (config.per_query or config.mutation or config.latro) and here % whole:
        raise UsageError(f"a process generates {here} completions at once, which is not a multiple of the group size {whole}: "
                         f"change args.per_device_train_batch_size or args.steps_per_generation")  # fmt: skip
    if args.save_strategy == "steps" and args.save_steps % every:
        raise UsageError(f"args.save_steps {args.save_steps:g} is between two generations, where a run can't be resumed "
                         f"exactly: make it a multiple of {every}")  # fmt: skip
    sampler = trainer._get_train_sampler()
    if not sampler.batches:
        few = f"; {sampler.left_out} queries have fewer than {config.per_query} rows" if config.per_query else ""
        raise UsageError(f"there are too few prompts for one batch of {sampler.prompts}{few}")
    if sampler.left_out:
        print(f"{sampler.left_out} queries left out: fewer than {config.per_query} rows")


def _own() -> list[str]:
    module = import_module(OWN_REWARDS)
    return [
        name for name, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == OWN_REWARDS
    ]
