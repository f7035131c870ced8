"""The declared settings of a reranker: one model for YAML keys and dotted flags, with defaults, errors and help."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.models.catalogue import AUTO
from pyserini_reasonrank.orders.fusion import Fusion
from pyserini_reasonrank.records import Sampling

Tree = dict[str, Any]


class SamplingSettings(BaseModel):
    """vLLM's names. Others of its SamplingParams are taken too and handed to the engine."""

    model_config = ConfigDict(extra="allow", frozen=True)

    temperature: Annotated[float, Field(ge=0, description="0 is greedy")] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, description="0 is off")] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_tokens: Annotated[int, Field(ge=1, description="tokens of thought and answer")] = 3172
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def sampling(self) -> Sampling:
        return Sampling(**{n: getattr(self, n) for n in type(self).model_fields}, extra=dict(self.model_extra or {}))


class Settings(BaseModel):
    """All that ``--rerank.*`` sets."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    name: str = ""
    about: str = ""
    judge: Annotated[Tree, Field(description="kind (see the judges below) and its settings")] = {"kind": "permutation"}
    strategy: Annotated[Tree, Field(description="name (see the strategies below) and its settings")] = {
        "name": "sliding"
    }
    prompt: Annotated[
        str, Field(description="a name (`prompts list`), a YAML or TOML file, rank_llm:NAME, or URL#sha256=HEX")
    ] = ""
    model: Annotated[str, Field(description="auto, a name (`models`), a folder or a hub id")] = AUTO
    checkpoint: Annotated[str | None, Field(description="what auto means where an accelerator can hold it")] = None
    revision: Annotated[str | None, Field(description="hub revision of the model")] = None
    adapter: Annotated[str | None, Field(description="LoRA adapter: a folder or a hub id")] = None
    tokenizer: Annotated[str | None, Field(description="folder or hub id whose tokenizer.json counts tokens")] = None
    max_model_len: Annotated[int | None, Field(ge=1, description="context in tokens, if not the model's own")] = None
    engine: Annotated[Tree, Field(description="name (auto, vllm, transformers, openai, ...) and its settings")] = {
        "name": "auto"
    }
    sampling: SamplingSettings = SamplingSettings()
    chat_template_args: Annotated[Tree, Field(description="for the model's chat template: enable_thinking, ...")] = {}
    combine: Annotated[
        Tree, Field(description="name (cascade, ...) and its settings: combines the rerankers in arms")
    ] = {}
    arms: Annotated[
        dict[str, Settings],
        Field(
            description="arms.NAME.reranker names a reranker, arms.NAME.KEY sets it; other keys set all arms; "
            "arms.NAME none drops it"
        ),
    ] = {}
    fuse: Annotated[Fusion, Field(description="of the reranked head with the first stage's scores")] = Fusion()
    depth: Annotated[int, Field(ge=1, description="candidates to rerank; the others stay below")] = 100
    passage_tokens: Annotated[int | None, Field(ge=1, description="tokens of a passage the model sees")] = None
    query_tokens: Annotated[int | None, Field(ge=1, description="tokens of a query the model sees")] = None
    mend: Annotated[bool, Field(description="mend passages that were decoded wrongly (â€™, &amp;), as ftfy does")] = (
        False
    )
    tag: Annotated[str | None, Field(description="run tag, if not reranker and model")] = None
    on_error: Annotated[
        Literal["fail", "keep"], Field(description="a failed call ends the run, or keeps its order")
    ] = "fail"
    max_bad: Annotated[float, Field(ge=0, le=1, description="share of bad calls above which the run fails")] = 1.0
    collection: Annotated[
        str | None, Field(description="whose published limits apply, if the names of index and topics don't tell")
    ] = None
    docid_blanks: Annotated[str | None, Field(description="what replaces white space in docids")] = None
    corpus: Annotated[str | None, Field(description="JSON lines with the texts, if the index has none")] = None
    journal: Annotated[str | None, Field(description="journal to use, if not OUTPUT.journal.sqlite")] = None
