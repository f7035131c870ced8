"""Imitate answers: supervised fine-tuning of all weights or an adapter, with the loss on the answer (TRL's SFTTrainer)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pyserini_reasonrank.train.folder import Folder
from pyserini_reasonrank.train.settings import RankLoss, TrainerSettings


class Config(TrainerSettings):
    """Settings of ``train sft``."""

    max_length: Annotated[
        int, Field(ge=2, description="maximum tokens of prompt and answer; longer rows are left out")
    ] = 4096
    rank_loss: Annotated[
        RankLoss | None, Field(description="FIRST's joint loss; each identifier must be one token")
    ] = None


def run(config: Config) -> None:
    """Train. UsageError for rows or settings that can't be used; Failure if training stops early."""
    folder = Folder(config.output, "sft", config.model_dump(mode="json"))
    if not folder.begin():
        print(f"{config.output} is finished")
        return
    from trl import SFTConfig, SFTTrainer

    from pyserini_reasonrank.train.data.rows import Audit
    from pyserini_reasonrank.train.trainers import examples, policy
    from pyserini_reasonrank.train.trainers.fit import fit

    rows, audits = examples.rows_of(config.data)
    args = policy.arguments(SFTConfig, config.args, output_dir=str(config.output), max_length=None,
                            dataset_kwargs={"skip_prepare_dataset": True})  # fmt: skip
    loaded = policy.load(config)
    taught = Audit()
    shown = examples.demonstrations(rows, loaded, min(config.max_length, loaded.context), taught)
    parts = {
        "model": loaded.model,
        "args": args,
        "processing_class": loaded.tokenizer,
        "peft_config": loaded.peft_config,
    }
    audits = [*audits, taught]
    trainer: Any
    if config.rank_loss is None:
        trainer = SFTTrainer(**parts, train_dataset=examples.dataset(shown))
    else:
        from pyserini_reasonrank.train.trainers import joint_trainer

        audits.append(Audit())
        data = joint_trainer.dataset(shown, loaded, audits[-1])
        trainer = joint_trainer.JointTrainer(**parts, train_dataset=data, rank_loss=config.rank_loss)
    fit(trainer, loaded, config, folder, audits)
