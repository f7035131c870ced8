"""An oracle that writes the ideal answer for the documents of each prompt, from qrels.

Its answers pass through prompt, parser and strategy, so its run is the upper bound for a first stage, and it tests the whole
pipeline without a model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.prompts.tokens import ModelTokens, Tokens
from pyserini_reasonrank.records import Call, Capability, Completion, Prompt, Sampling


class OracleOptions(EngineOptions):
    """Settings of the oracle."""

    qrels: Annotated[str, Field(description="TREC qrels")] = ""
    tokenizer: Annotated[
        str | None, Field(description="a tokenizer.json to count the tokens that a model would read and write")
    ] = None


class Oracle(Engine[OracleOptions]):
    """Answers by the grades in ``--rerank.engine.qrels``; the gain of an unjudged document is 0."""

    name = "oracle"
    without_model = True
    options_class = OracleOptions

    def __init__(self, model: Model, options: OracleOptions) -> None:
        super().__init__(model, options)
        self.capabilities = frozenset(Capability) - {Capability.REASK}
        self._grades: dict[str, dict[str, int]] = {}
        self._sha256 = ""
        self._tokens: Tokens | None = None

    async def start(self) -> None:
        if not self.options.qrels:
            raise UsageError("the oracle engine needs --rerank.engine.qrels, a file of relevance judgments")
        from pyserini_reasonrank.ir.qrels import read_qrels

        self._grades = read_qrels(self.options.qrels)
        self._sha256 = hashlib.sha256(Path(self.options.qrels).read_bytes()).hexdigest()
        if self.options.tokenizer:
            self._tokens = ModelTokens(Path(self.options.tokenizer))

    def identity(self, call: Call) -> str:
        return f"{self.name}\n{self._sha256}\n{call.qid}\n{call.docids}"

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        grades = self._grades.get(call.qid, {})
        gains = [grades.get(docid, 0) for docid in call.docids]
        read = self._count(*(message.content for message in prompt.messages), prompt.prefill)
        if sampling.choices:
            return Completion(choices=call.ideal_choices(gains, sampling.choices), prompt_tokens=read)
        answer = call.ideal(gains)
        return Completion(answer, prompt_tokens=read, output_tokens=self._count(answer))

    def _count(self, *texts: str) -> int:
        return sum(count for _, count in self._tokens.cut(texts, 1 << 20)) if self._tokens else 0
