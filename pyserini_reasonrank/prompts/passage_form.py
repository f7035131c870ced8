"""The passage form: how a checkpoint was trained to see documents, and with them the query.

Order of the steps: the template over the document's fields, mending, white space, the cut by words and characters. The
fitter then defuses the text and cuts it to its tokens.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, Literal

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.prompts.defusing import Defuse
from pyserini_reasonrank.prompts.mending import mended
from pyserini_reasonrank.records import Candidate

_ENVIRONMENT = ImmutableSandboxedEnvironment(autoescape=False, keep_trailing_newline=True)
_WORD = re.compile(r"\S+")
_NEWLINES = re.compile(r"\n+")


class PassageForm(BaseModel):
    """The settings ``--rerank.passage.NAME``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: Annotated[
        str,
        Field(
            description="Jinja over the document's fields: title, text, url, ... [title and text as one sentence each]"
        ),
    ] = ""
    whitespace: Annotated[
        Literal["flatten", "strip", "keep", "newlines"],
        Field(
            description="of passages and queries; flatten: one blank for any white space; strip: remove it at the ends; "
            "newlines: one blank for line breaks, in passages only"
        ),
    ] = "flatten"
    words: Annotated[int | None, Field(ge=1, description="words of each passage to show [all]")] = None
    characters: Annotated[int | None, Field(ge=1, description="characters of each passage to show [all]")] = None
    defuse: Annotated[
        Defuse,
        Field(
            description="what to make harmless in passages and queries; numbers: [3] becomes (3); letters: [C] becomes (C); "
            "all: numbers and control tokens"
        ),
    ] = "all"
    mend: Annotated[
        Literal["none", "passage", "prompt", "whole"],
        Field(
            description="repair wrongly decoded text (â€™, &amp;) with ftfy; prompt: that of the query too; "
            "whole: both, and entities stay, as ftfy does for a prompt with tags"
        ),
    ] = "none"

    @field_validator("template")
    @classmethod
    def _renders(cls, template: str) -> str:
        try:
            _compiled(template).render(title="", text="")
        except TemplateError as error:
            raise ValueError(f"is not a Jinja template: {error}") from None
        return template

    def passage(self, candidate: Candidate) -> str:
        """The text of a candidate before defusing. UsageError if the template shows nothing of it."""
        text = candidate.text
        if self.template:
            fields = candidate.fields or {"text": text}
            rendered = _rendered(self.template, fields)
            if not rendered.strip() and text.strip():
                raise UsageError(
                    f"--rerank.passage.template shows nothing of document {candidate.docid}, which has the fields "
                    f"{', '.join(fields)}"
                )
            text = rendered
        text = self._spaced(text if self.mend == "none" else mended(text, entities=self.mend != "whole"))
        return self._limited(_NEWLINES.sub(" ", text) if self.whitespace == "newlines" else text)

    def query(self, text: str) -> str:
        """The text of a query before defusing. Its HTML entities are kept, as by ftfy for a text that has tags."""
        return self._spaced(mended(text, entities=False) if self.mend in ("prompt", "whole") else text)

    def _spaced(self, text: str) -> str:
        if self.whitespace == "flatten":
            return " ".join(text.split())
        return text.strip() if self.whitespace == "strip" else text

    def _limited(self, text: str) -> str:
        if self.words is not None:
            ends = (found.end() for found, _ in zip(_WORD.finditer(text), range(self.words), strict=False))
            text = text[: max(ends, default=len(text))]
        return text[: self.characters]


def _rendered(template: str, fields: Any) -> str:
    try:
        return str(_compiled(template).render(fields))
    except TemplateError as error:
        raise UsageError(f"--rerank.passage.template can't be rendered: {error}") from None


@cache
def _compiled(template: str) -> Any:
    return _ENVIRONMENT.from_string(template)
