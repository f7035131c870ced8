"""The settings that the trainers share: model, adapter, where the result goes, what is watched meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Prilora(BaseModel):
    """The ranks of the first and the last layer, and how A is pruned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: Annotated[int, Field(ge=1, description="rank in the first layer")] = 4
    last: Annotated[int, Field(ge=1, description="rank in the last layer")] = 12
    every: Annotated[int, Field(ge=0, description="steps between two prunings; 0 is never")] = 40
    share: Annotated[float, Field(ge=0, lt=1, description="of each row of A that a pruning sets to zero")] = 0.5
    memory: Annotated[float, Field(ge=0, lt=1, description="weight of the past in the running norm of a feature")] = 0.9

    def ranks(self, layers: int) -> list[int]:
        """The rank of each layer: from ``first`` to ``last`` in equal steps, rounded."""
        step = (self.last - self.first) / max(layers - 1, 1)
        return [round(self.first + step * layer) for layer in range(layers)]


class Lora(BaseModel):
    """A LoRA adapter (PEFT's LoraConfig)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: Annotated[int, Field(ge=1, description="rank")] = 16
    alpha: Annotated[int, Field(ge=1, description="scale, times r")] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[
        str | list[str] | None, Field(description="modules; all-linear, or PEFT's choice for the model if null")
    ] = "all-linear"
    first_layer: Annotated[int, Field(ge=0, description="adapters from this layer on; below, nothing is trained")] = 0
    prilora: Annotated[Prilora | None, Field(description="ranks that grow with depth, weights pruned meanwhile")] = None


class PolicySettings(BaseModel):
    """What every trainer asks about its model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(description="a name (`models`), a folder (an adapter's too) or a hub id")]
    revision: Annotated[str | None, Field(description="hub revision of the model")] = None
    adapter: Annotated[str | None, Field(description="LoRA to start from: trained on, or merged below a new one")] = (
        None
    )
    lora: Annotated[Lora | None, Field(description="train an adapter; without it, all weights")] = None
    model_args: Annotated[dict[str, Any], Field(description="passed to from_pretrained: dtype, ...")] = {}
    chat_template_args: Annotated[dict[str, Any], Field(description="passed to the chat template")] = {}


class RankLoss(BaseModel):
    """A ranking loss on the logits of the answer's first identifier, beside the language-model loss (FIRST)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[
        Literal["weighted-ranknet", "ranknet", "listnet", "lambdarank"],
        Field(description="weighted-ranknet is FIRST's, ranknet that of permutation distillation"),
    ] = "weighted-ranknet"
    weight: Annotated[float | None, Field(gt=0, description="beside the language-model loss, if not the published")] = (
        None
    )


class Dev(BaseModel):
    """Development topics, reranked while the model trains, the way it will serve."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reranker: Annotated[str, Field(description="a reranker's name")]
    settings: Annotated[dict[str, Any], Field(description="its settings, as under --rerank")] = {}
    topics: Annotated[Path, Field(description="TSV or JSON lines")]
    run: Annotated[Path, Field(description="first-stage run")]
    corpus: Annotated[Path, Field(description="JSON lines that hold the texts")]
    qrels: Path
    queries: Annotated[int, Field(ge=1, description="the first so many topics")] = 50
    every: Annotated[int, Field(ge=1, description="steps between two looks; the last step is one")] = 50
    measure: Annotated[str, Field(description="as ir_measures writes it; the best checkpoint is by it")] = "nDCG@10"


class TrainerSettings(PolicySettings):
    """What every trainer asks beside its own: rows, folder, TRL's settings, development topics."""

    data: Annotated[list[Path], Field(min_length=1, description="files of rows, as `train data` writes them")]
    output: Annotated[Path, Field(description="folder for checkpoints, the trained model, log and page")]
    dev: Annotated[Dev | None, Field(description="development topics to watch")] = None
    args: Annotated[dict[str, Any], Field(description="TRL's own settings: learning_rate, num_train_epochs, ...")] = {}
