"""The settings that the trainers share: model, adapter, rows, output folder, development topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Prilora(BaseModel):
    """PRILoRA: the ranks of the first and the last layer, and the pruning of A."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: Annotated[int, Field(ge=1, description="rank of the first layer")] = 4
    last: Annotated[int, Field(ge=1, description="rank of the last layer")] = 12
    every: Annotated[int, Field(ge=0, description="steps between two prunings; 0 disables pruning")] = 40
    share: Annotated[float, Field(ge=0, lt=1, description="share of each row of A that a pruning sets to zero")] = 0.5
    memory: Annotated[float, Field(ge=0, lt=1, description="decay of the running norm of an input feature")] = 0.9

    def ranks(self, layers: int) -> list[int]:
        """The rank of each layer: from ``first`` to ``last`` in equal steps, rounded to integers."""
        step = (self.last - self.first) / max(layers - 1, 1)
        return [round(self.first + step * layer) for layer in range(layers)]


class Lora(BaseModel):
    """A LoRA adapter (PEFT's LoraConfig)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: Annotated[int, Field(ge=1, description="rank")] = 16
    alpha: Annotated[int, Field(ge=1, description="LoRA's alpha: the scale times r")] = 32
    dropout: Annotated[float, Field(ge=0, lt=1, description="LoRA's dropout")] = 0.0
    targets: Annotated[
        str | list[str] | None,
        Field(description="modules with an adapter; all-linear, or PEFT's choice for the model if null"),
    ] = "all-linear"
    first_layer: Annotated[
        int, Field(ge=0, description="first layer with an adapter; lower layers are not trained")
    ] = 0
    prilora: Annotated[Prilora | None, Field(description="PRILoRA: ranks that grow with depth, and pruning")] = None


class PolicySettings(BaseModel):
    """The model settings of every trainer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[
        str, Field(description="model to train: a name (`models`), a folder (also of an adapter) or a hub id")
    ]
    revision: Annotated[str | None, Field(description="hub revision of the model")] = None
    adapter: Annotated[str | None, Field(description="LoRA adapter to start from; merged if a new one is trained")] = (
        None
    )
    lora: Annotated[Lora | None, Field(description="train a LoRA adapter; all weights if null")] = None
    model_args: Annotated[dict[str, Any], Field(description="arguments of from_pretrained: dtype, ...")] = {}
    chat_template_args: Annotated[dict[str, Any], Field(description="arguments of the chat template")] = {}


class RankLoss(BaseModel):
    """FIRST's ranking loss on the logits of the answer's first identifier, added to the language-model loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[
        Literal["weighted-ranknet", "ranknet", "listnet", "lambdarank"],
        Field(description="weighted-ranknet is FIRST's, ranknet that of permutation distillation"),
    ] = "weighted-ranknet"
    weight: Annotated[
        float | None, Field(gt=0, description="weight relative to the language-model loss; default: as published")
    ] = None


class Dev(BaseModel):
    """Development topics, reranked during training as in serving."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reranker: Annotated[str, Field(description="name of the reranker")]
    settings: Annotated[dict[str, Any], Field(description="settings of the reranker, as under --rerank")] = {}
    topics: Annotated[Path, Field(description="topics as TSV or JSON lines")]
    run: Annotated[Path, Field(description="first-stage run")]
    corpus: Annotated[Path, Field(description="corpus as JSON lines")]
    qrels: Annotated[Path, Field(description="TREC qrels")]
    queries: Annotated[int, Field(ge=1, description="number of topics to use, from the start")] = 50
    every: Annotated[
        int, Field(ge=1, description="steps between two evaluations; the last step is always evaluated")
    ] = 50
    measure: Annotated[str, Field(description="measure in ir_measures' notation; it selects the best checkpoint")] = (
        "nDCG@10"
    )


class Published(BaseModel):
    """The published run that a recipe reproduces, for ``train plan``. Training does not read it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: Annotated[str, Field(description="paper and section")]
    code: Annotated[str | None, Field(description="released code: repository and file; null if none is released")] = (
        None
    )
    rows: Annotated[int | None, Field(ge=1, description="rows of its data; null if not published")] = None
    gpus: Annotated[int, Field(ge=1, description="number of GPUs")] = 8
    differs: Annotated[list[str], Field(description="where the recipe differs from that run; empty if nowhere")] = []


class TrainerSettings(PolicySettings):
    """The settings of every trainer: model, rows, folder, TRL's settings, development topics."""

    data: Annotated[list[Path], Field(min_length=1, description="files of rows written by `train data`")]
    output: Annotated[Path, Field(description="folder for checkpoints, the trained model, the log and its curves")]
    dev: Annotated[Dev | None, Field(description="evaluation on development topics during training")] = None
    args: Annotated[dict[str, Any], Field(description="TRL's settings: learning_rate, num_train_epochs, ...")] = {}
    published: Annotated[Published | None, Field(description="the published run that these settings reproduce")] = None
