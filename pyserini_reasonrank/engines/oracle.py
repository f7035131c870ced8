"""The perfect assessor: writes the ideal answer for the documents of each prompt, from qrels.

Through prompt, parser and strategy, so a run of it is the upper bound that a first stage allows, and a test of the
whole path without a model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank import engines
from pyserini_reasonrank.engines import Capability, Engine
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling


class Options(engines.Options):
    """Settings of the oracle."""

    qrels: Annotated[str, Field(description="TREC qrels")] = ""


class Oracle(Engine[Options]):
    """Gains are the grades of ``--rerank.engine.qrels``; an unjudged document gains 0."""

    name = "oracle"
    options_class = Options

    def __init__(self, model: Model, options: Options) -> None:
        super().__init__(model, options)
        self.capabilities = frozenset({Capability.PREFILL, Capability.CHOICES})
        self._grades: dict[str, dict[str, int]] = {}
        self._sha256 = ""

    async def start(self) -> None:
        if not self.options.qrels:
            raise UsageError("the oracle engine needs --rerank.engine.qrels, a file of relevance judgments")
        from pyserini_reasonrank.evaluate import read_qrels

        self._grades = read_qrels(self.options.qrels)
        self._sha256 = hashlib.sha256(Path(self.options.qrels).read_bytes()).hexdigest()

    def identity(self, call: Call) -> str:
        return f"{self.name}\n{self._sha256}\n{call.qid}\n{call.docids}"

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        grades = self._grades.get(call.qid, {})
        gains = [grades.get(docid, 0) for docid in call.docids]
        if sampling.choices:
            return Completion(choices=call.ideal_choices(gains, sampling.choices))
        return Completion(call.ideal(gains))
