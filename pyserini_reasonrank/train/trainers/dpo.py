"""Learn from pairs of answers: direct preference optimisation (TRL's DPOTrainer), optionally optimistic (SELM)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pyserini_reasonrank.train.folder import Folder
from pyserini_reasonrank.train.settings import TrainerSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from pyserini_reasonrank.train.data.rows import Audit
    from pyserini_reasonrank.train.trainers.pairs import Pair
    from pyserini_reasonrank.train.trainers.policy import Policy


class Config(TrainerSettings):
    """Settings of ``train dpo``; ``data`` are files of pairs."""

    max_length: Annotated[
        int, Field(ge=2, description="maximum tokens of prompt and answer; longer pairs are left out")
    ] = 4096
    optimism: Annotated[
        float, Field(ge=0, description="SELM's alpha, the weight of its optimism term (0.001 in the paper)")
    ] = 0.0


def run(config: Config) -> None:
    """Train. UsageError for pairs or settings that can't be used; Failure if training stops early."""
    folder = Folder(config.output, "dpo", config.model_dump(mode="json"))
    if not folder.begin():
        print(f"{config.output} is finished")
        return
    from trl import DPOConfig

    from pyserini_reasonrank.train.data.rows import Audit
    from pyserini_reasonrank.train.experimental.selm import PairTrainer
    from pyserini_reasonrank.train.trainers import policy
    from pyserini_reasonrank.train.trainers.fit import fit
    from pyserini_reasonrank.train.trainers.pairs import read_pairs

    pairs = [pair for path in config.data for pair in read_pairs(path)]
    args = policy.arguments(DPOConfig, config.args, output_dir=str(config.output), max_length=None)
    loaded = policy.load(config)
    audit = Audit()
    trainer = PairTrainer(
        model=loaded.model,
        args=args,
        train_dataset=dataset(pairs, loaded, min(config.max_length, loaded.context), audit),
        processing_class=loaded.tokenizer,
        peft_config=loaded.peft_config,
        optimism=config.optimism,
    )
    fit(trainer, loaded, config, folder, [audit])


def dataset(pairs: list[Pair], policy: Policy, max_length: int, audit: Audit) -> Dataset:
    """The pairs as tokens, with the prompt that serving sends. ``audit`` counts them. UsageError if none can be used."""
    from datasets import Dataset

    from pyserini_reasonrank.errors import UsageError
    from pyserini_reasonrank.records import Message, Prompt
    from pyserini_reasonrank.train.trainers.examples import Unfit, controls, end_of_turn

    end, specials = end_of_turn(policy), controls(policy)
    records: list[dict[str, Any]] = []
    for pair in pairs:
        prompt = policy.chat.tokens(Prompt(tuple(Message(t["role"], t["content"]) for t in pair.prompt), pair.prefill))
        chosen, rejected, own = (
            policy.tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (pair.chosen, pair.rejected, pair.own)
        )
        fault = None
        if specials.intersection((*chosen, *rejected)):
            fault = Unfit.CONTROL
        elif len(prompt) + max(map(len, (chosen, rejected, own))) + 1 > max_length:
            fault = Unfit.TOO_LONG
        if audit.note(fault, f"{pair.source} {pair.qid}"):
            ids = {"chosen_ids": chosen, "rejected_ids": rejected, "own_ids": own}
            records.append({"prompt_ids": prompt, **{name: [*tokens, end] for name, tokens in ids.items()}})
    if not records:
        raise UsageError(f"there is no pair to train on: {audit}")
    return Dataset.from_list(records)
