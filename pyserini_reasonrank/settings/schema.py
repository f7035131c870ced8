"""The declared settings of a reranker: YAML keys and dotted flags, with their types, defaults and help."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pyserini_reasonrank.ir.fusion import Fusion
from pyserini_reasonrank.models.catalogue import AUTO
from pyserini_reasonrank.prompts.passage_form import PassageForm
from pyserini_reasonrank.prompts.segments import Segments
from pyserini_reasonrank.records import Sampling

Tree = dict[str, Any]
"""Settings before validation: nested mappings, as in YAML."""


class SamplingSettings(BaseModel):
    """Sampling under vLLM's names. Other SamplingParams of vLLM are accepted and passed to the engine."""

    model_config = ConfigDict(extra="allow", frozen=True)

    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False, description="0 is greedy")] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, description="0 is off")] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_tokens: Annotated[int, Field(ge=1, description="tokens of reasoning and answer")] = 3172
    seed: int | None = None
    stop: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _finite(self) -> Self:
        try:
            json.dumps(self.model_extra, default=str, allow_nan=False)
        except ValueError:
            raise ValueError("it contains NaN or infinity, which no engine takes") from None
        return self

    def sampling(self) -> Sampling:
        return Sampling(**{n: getattr(self, n) for n in type(self).model_fields}, extra=dict(self.model_extra or {}))


class Settings(BaseModel):
    """Everything that ``--rerank.*`` sets."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    name: str = ""
    about: str = ""
    as_: Annotated[
        Literal["careful", "published"],
        Field(
            alias="as", description="published: prompt, limits, parser, fall-backs and repair of the model's release"
        ),
    ] = "careful"
    judge: Annotated[Tree, Field(description="kind (see the judges below) and its settings")] = {"kind": "permutation"}
    strategy: Annotated[Tree, Field(description="name (see the strategies below) and its settings")] = {
        "name": "sliding"
    }
    prompt: Annotated[
        str, Field(description="a name (`prompts list`), a YAML or TOML file, rank_llm:NAME, or URL#sha256=HEX")
    ] = ""
    model: Annotated[str, Field(description="auto, a name (`models`), a folder or a hub id")] = AUTO
    checkpoint: Annotated[str | None, Field(description="the model that auto means, if it fits here")] = None
    revision: Annotated[str | None, Field(description="hub revision of the model")] = None
    adapter: Annotated[str | None, Field(description="LoRA adapter: a folder or a hub id")] = None
    tokenizer: Annotated[str | None, Field(description="folder or hub id whose tokenizer.json counts tokens")] = None
    max_model_len: Annotated[int | None, Field(ge=1, description="context in tokens [the model's own]")] = None
    engine: Annotated[Tree, Field(description="name (auto, vllm, transformers, openai, ...) and its settings")] = {
        "name": "auto"
    }
    sampling: SamplingSettings = SamplingSettings()
    chat_template_args: Annotated[
        Tree, Field(description="arguments of the model's chat template: enable_thinking, ...")
    ] = {}
    bos: Annotated[
        bool, Field(description="begin prompts with the tokenizer's BOS token, if the chat template does not")
    ] = False
    combine: Annotated[
        Tree, Field(description="name (cascade, ...) of a combination of the rerankers in arms, and its settings")
    ] = {}
    arms: Annotated[
        dict[str, Settings],
        Field(
            description="arms.NAME.reranker is a reranker, arms.NAME.KEY one of its settings; other keys apply to all "
            "arms; arms.NAME none removes an arm"
        ),
    ] = {}
    fuse: Annotated[Fusion, Field(description="fusion of the reranked order with the first stage's scores")] = Fusion()
    keep: Annotated[
        Literal["all", "relevant"],
        Field(
            description="candidates of the run: all, or those that the judge finds relevant, which may be none; for judges that "
            "give scores with an absolute meaning"
        ),
    ] = "all"
    threshold: Annotated[
        float | None,
        Field(description="least score of a relevant candidate, with keep relevant [the middle of the judge's scale]"),
    ] = None
    depth: Annotated[int, Field(ge=1, description="candidates to rerank; those below keep their order")] = 100
    passage_tokens: Annotated[int | None, Field(ge=1, description="tokens of each passage to show [all that fit]")] = (
        None
    )
    segments: Annotated[
        Segments | None,
        Field(description="long documents: judge segments in place of passage_tokens; any of these keys turns it on"),
    ] = None
    query_tokens: Annotated[int | None, Field(ge=1, description="tokens of the query to show [all that fit]")] = None
    instruction: Annotated[
        str,
        Field(
            description="what is relevant, for prompts that show it; with {query} in it, it replaces the query; "
            "rank1:SciFact is a published one"
        ),
    ] = ""
    passage: Annotated[PassageForm, Field(description="the form in which the LLM sees passages")] = PassageForm()
    tag: Annotated[str | None, Field(description="run tag [reranker and model]")] = None
    on_error: Annotated[
        Literal["fail", "keep"],
        Field(
            description="what a failed call does: fails its query (the others are finished), or keeps its candidates' order"
        ),
    ] = "fail"
    max_bad: Annotated[float, Field(ge=0, le=1, description="share of bad judgements above which the run fails")] = 0.5
    strict: Annotated[bool, Field(description="make every warning an error")] = False
    overwrite: Annotated[bool, Field(description="replace an existing run that has other settings or inputs")] = False
    collection: Annotated[
        str | None,
        Field(description="collection whose published limits apply [found in the names of index and topics]"),
    ] = None
    docid_blanks: Annotated[
        str | None, Field(description="replacement for white space in docids [white space is an error]")
    ] = None
    corpus: Annotated[str | None, Field(description="JSON lines file with the texts, if the index stores none")] = None
    topics: Annotated[
        str | None, Field(description="topics whose texts are reranked, in place of the texts that were searched")
    ] = None
    exclude: Annotated[
        str | None,
        Field(description="file of qids and docids that are removed from the candidates before the depth, or bright-aops, "
              "bright-leetcode, bright-theoremqa-questions"),
    ] = None  # fmt: skip
    journal: Annotated[str | None, Field(description="journal file [OUTPUT.journal.sqlite]")] = None

    @property
    def shown_tokens(self) -> int | None:
        """The most tokens of a passage that are shown: of a document, or of a segment with its title. None: no limit."""
        return self.passage_tokens if self.segments is None else self.segments.shown_tokens

    def run_tag(self, *model_names: str) -> str:
        """The run tag: ``tag``, or reranker and models, without blanks."""
        models = "+".join(os.path.basename(name.rstrip("/")) for name in model_names)
        return self.tag or f"{self.name}-{models}".replace(" ", "_")


def local_engine(engine: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the engine in the replicas of ``ray``, without those of ``ray`` itself; of any other, ``engine``."""
    if engine.get("name") != "ray":
        return engine
    from pyserini_reasonrank.engines.ray import RayOptions

    own = RayOptions.model_fields.keys() - {"concurrency", "deterministic"}
    name = engine.get("of") or RayOptions.model_fields["of"].default
    return {**{key: value for key, value in engine.items() if key not in own}, "name": name}


def answering_engine(engine: Mapping[str, Any]) -> str:
    """The name of the engine that produces the answers; for ``faulty`` and ``ray``, the wrapped engine."""
    engine = local_engine(engine)
    inner = engine.get("inner", {})
    if engine.get("name") == "faulty" and isinstance(inner, Mapping):
        return answering_engine({"name": "oracle", **inner})
    return str(engine.get("name", AUTO))
