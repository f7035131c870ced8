"""A prompt template: chat turns as Jinja, in YAML, rendered for a query and a window of passages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Message, Prompt

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
_TRIAL = "a query"


class Turn(BaseModel):
    """One chat turn; or, with ``each_passage``, turns repeated for every passage (``number`` from 1, ``passage``)."""

    model_config = ConfigDict(extra="forbid")
    role: str = ""
    content: str = ""
    each_passage: list[Turn] = []


class TemplateFile(BaseModel):
    """The schema of conf/prompts/*.yaml."""

    model_config = ConfigDict(extra="forbid")
    about: str
    contract: str = Field(description="the judge kind this prompt is for")
    messages: list[Turn]
    prefill: str = ""
    reminder: str


class Template:
    """Renders prompts. The template sees ``query``, ``passages`` (strings), ``numbered`` (pairs from 1) and ``count``, and
    of a judge's options the ``values`` that its question depends on: ``drop`` of the worst judge's.

    ``loop.index`` would do for the numbers, but costs a security check of the sandbox for each.
    """

    def __init__(self, name: str, spec: TemplateFile) -> None:
        self.name, self.spec = name, spec
        self.contract, self.reminder = spec.contract, spec.reminder
        self._turns = [(turn, _compile(turn.content), [(t, _compile(t.content)) for t in turn.each_passage])
                       for turn in spec.messages]  # fmt: skip
        self._prefill = _compile(spec.prefill)
        self.values: Mapping[str, Any] = {}

    @classmethod
    def parse(cls, name: str, data: Mapping[str, Any]) -> Template:
        """A template from the YAML's mapping. UsageError with what is wrong in it."""
        try:
            template = cls(name, TemplateFile.model_validate(data))
            trial = template.render(_TRIAL, ["", ""])
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            what = f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}"
            raise UsageError(f"prompt {name} can't be used: {what}") from None
        except TemplateError as error:
            raise UsageError(f"prompt {name} can't be used: {error}") from error
        if not any(_TRIAL in message.content for message in trial.messages):
            raise UsageError(f"prompt {name} can't be used: it does not show the query")
        return template

    @cached_property
    def sha256(self) -> str:
        """Over everything that decides what is rendered."""
        return hashlib.sha256(self.spec.model_dump_json().encode()).hexdigest()

    def render(self, query: str, passages: Sequence[str]) -> Prompt:
        numbered = list(enumerate(passages, 1))
        values = {**self.values, "query": query, "passages": passages, "numbered": numbered, "count": len(passages)}
        messages: list[Message] = []
        for turn, content, repeated in self._turns:
            if repeated:
                messages += [
                    Message(t.role, c.render(values, number=i, passage=passage))
                    for i, passage in numbered
                    for t, c in repeated
                ]
            else:
                messages.append(Message(turn.role, content.render(values)))
        return Prompt(tuple(messages), self._prefill.render(values))


def _compile(source: str) -> Any:
    return _ENVIRONMENT.from_string(source)
