"""A prompt template: chat turns as Jinja, in YAML, rendered for a query and a window of passages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import jinja2
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.records import Message, Prompt

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
_SYNTAX = re.compile(r"\{[{%#]|\r")  # Jinja also makes all line ends alike
_TRIAL_QUERY = "querymarker"
_TRIAL_PASSAGES = 2
_WITHOUT_PASSAGES = ("rewrite",)
"""The kinds of judge whose prompts need not show passages."""
_LONG_SCORE = -12345.678  # where a prompt without candidates is measured
QUERY_SLOT = "{query}"
"""The place of the query in an instruction."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What is relevant in a collection, and what its queries and documents are, in prompts that name them."""

    text: str = ""
    query_kind: str = "query"
    document_kind: str = "document"


class Turn(BaseModel):
    """One chat turn; or, with ``each_passage``, turns repeated for every passage (``number`` from 1, ``passage``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    role: str = ""
    content: str = ""
    each_passage: tuple[Turn, ...] = ()


class TemplateFile(BaseModel):
    """The schema of conf/prompts/*.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    about: str
    contract: str = Field(description="the judge kind this prompt is for")
    messages: tuple[Turn, ...]
    prefill: str = ""
    reminder: str


@dataclass(frozen=True, eq=False)
class Template:
    """Renders prompts; immutable.

    The Jinja source sees ``query``, ``passages`` (strings), ``numbered`` (pairs of number and passage, from 1), ``count``,
    ``places`` (positions of the passages among the query's candidates, from 0), ``scores`` (the first stage's scores of the
    passages), ``keep`` (how many to select), ``instruction`` (what is relevant, "" by default), ``query_kind`` and
    ``document_kind`` (such as "biology post"; by default "query" and "document"), and ``values``: options of the judge that
    change its question, such as ``drop`` of the worst judge (see :meth:`bound`). ``loop.index`` could replace ``numbered``,
    but costs a security check of the sandbox each time.

    An instruction that contains ``{query}`` is shown, with the query in it, in the place of the query.
    """

    name: str
    spec: TemplateFile
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    instruction: Instruction = Instruction()

    @classmethod
    def parse(cls, name: str, data: Mapping[str, Any]) -> Template:
        """Build a template from the mapping in a YAML file. UsageError describes the first fault in it."""
        try:
            template = cls(name, TemplateFile.model_validate(data))
            trial = template.render(_TRIAL_QUERY, _markers(_TRIAL_PASSAGES))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            what = f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}"
            raise UsageError(f"prompt {name} can't be used: {what}") from None
        except TemplateError as error:
            raise UsageError(f"prompt {name} can't be used: {error}") from error
        if not _shown(_TRIAL_QUERY, trial):
            raise UsageError(f"prompt {name} can't be used: it does not show the query")
        if template.contract not in _WITHOUT_PASSAGES and not _shown(_markers(1)[0], trial):
            raise UsageError(f"prompt {name} can't be used: it does not show the passages")
        return template

    def check_shows(self, count: int) -> None:
        """UsageError if a prompt about ``count`` passages does not show each of them."""
        markers = _markers(count)
        trial = self.render(_TRIAL_QUERY, markers)
        text = _text(trial)
        if missing := [number for number, marker in enumerate(markers, 1) if marker not in text]:
            raise UsageError(
                f"prompt {self.name} does not show every passage: of {count}, number {missing[0]} is missing"
                + (f", and {len(missing) - 1} more" if missing[1:] else "")
            )

    def bound(self, values: Mapping[str, Any]) -> Template:
        """Return the same template with ``values`` for its judge-dependent variables."""
        return replace(self, values=MappingProxyType(dict(values)))

    def instructed(self, instruction: Instruction) -> Template:
        """Return the same template with an instruction. UsageError if the prompt has no place for it."""
        template = replace(self, instruction=instruction)
        if instruction.text and template.render(_TRIAL_QUERY, [""]) == self.render(_TRIAL_QUERY, [""]):
            raise UsageError(
                f"prompt {self.name} does not show an instruction: write {QUERY_SLOT} into --rerank.instruction, in the place "
                "of the query, or name a prompt that has {{ instruction }} with --rerank.prompt"
            )
        return template

    @property
    def contract(self) -> str:
        """The judge kind that the template is for."""
        return self.spec.contract

    @cached_property
    def shows_scores(self) -> bool:
        """Whether a prompt shows the first stage's scores of the passages."""
        low, high = (self.render(_TRIAL_QUERY, [""], scores=[score]) for score in (0.0, 1.0))
        return low != high

    @property
    def reminder(self) -> str:
        """The sentence on the form of the answer that is added when the judge asks a second time."""
        return self.spec.reminder

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of all that is rendered. ``values`` and the instruction are recorded with the settings."""
        return hashlib.sha256(self.spec.model_dump_json(exclude={"about"}).encode()).hexdigest()

    def render(
        self,
        query: str,
        passages: Sequence[str],
        places: Sequence[int] | None = None,
        keep: int | None = None,
        scores: Sequence[float] | None = None,
    ) -> Prompt:
        """Return the chat turns for ``query`` and ``passages``, shown in this order. Jinja's TemplateError can pass.

        ``places`` are the positions of the passages in the query's candidates; by default from 0. ``keep`` is how many of
        them to select, if the prompt asks for a selection; by default half of them. ``scores`` are the first stage's; by
        default a number with more digits than scores have.
        """
        numbered = list(enumerate(passages, 1))
        places = range(len(passages)) if places is None else places
        instruction = self.instruction.text
        if QUERY_SLOT in instruction:
            query, instruction = instruction.replace(QUERY_SLOT, query), ""
        values = {**self._constants, "query": query, "passages": passages, "numbered": numbered, "count": len(passages),
                  "places": places, "scores": [_LONG_SCORE] * len(passages) if scores is None else scores,
                  "keep": keep or half(len(passages)), "instruction": instruction}  # fmt: skip
        messages: list[Message] = []
        for turn, content, repeated in self._turns:
            if repeated:
                messages += [
                    Message(t.role, c.render({**values, "number": i, "passage": passage}))
                    for i, passage in numbered
                    for t, c in repeated
                ]
            else:
                messages.append(Message(turn.role, content.render(values)))
        return Prompt(tuple(messages), self._prefill.render(values), tuple(places), keep)

    @cached_property
    def _constants(self) -> dict[str, Any]:
        """The variables that are the same in all prompts, with Jinja's own."""
        kinds = {"query_kind": self.instruction.query_kind, "document_kind": self.instruction.document_kind}
        return {**_ENVIRONMENT.globals, **self.values, **kinds}

    @cached_property
    def _turns(self) -> list[tuple[Turn, _Source, list[tuple[Turn, _Source]]]]:
        """Each turn with its compiled content and the compiled turns it repeats."""
        return [
            (turn, _compile(turn.content), [(t, _compile(t.content)) for t in turn.each_passage])
            for turn in self.spec.messages
        ]

    @cached_property
    def _prefill(self) -> _Source:
        return _compile(self.spec.prefill)


def _markers(count: int) -> list[str]:
    """Passages that can be recognised in a prompt; none is a part of another."""
    return [f"passagemarker{number:09d}" for number in range(1, count + 1)]


def _shown(marker: str, prompt: Prompt) -> bool:
    return marker in _text(prompt)


def _text(prompt: Prompt) -> str:
    """The messages in lower case, as markers are: a template may change the case."""
    return "\n".join(message.content for message in prompt.messages).lower()


def half(n: int) -> int:
    """Return how many of ``n`` passages are selected by default."""
    return max(n // 2, 1)


class _Source(Protocol):
    """The content of a turn, compiled."""

    def render(self, values: dict[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True)
class _Fixed:
    """The content of a turn without variables; rendering it by Jinja would take as long as a turn with passages."""

    text: str

    def render(self, values: dict[str, Any]) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Compiled:
    """The content of a turn with variables. Rendered as ``jinja2.Template.render`` does, but without copying ``values``
    twice; so they have to contain Jinja's own variables."""

    template: jinja2.Template

    def render(self, values: dict[str, Any]) -> str:
        context = self.template.new_context(values, shared=True)
        try:
            return "".join(self.template.root_render_func(context))
        except Exception:
            _ENVIRONMENT.handle_exception()


def _compile(source: str) -> _Source:
    return _Compiled(_ENVIRONMENT.from_string(source)) if _SYNTAX.search(source) else _Fixed(source)
