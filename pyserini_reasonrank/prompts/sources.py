"""Where a prompt comes from: one of our own by name, a file, a pinned file on the web, or a template of RankLLM.

The training prompt of a checkpoint is loaded from its publisher and not copied: ``rank_llm:NAME`` reads the YAML of the
installed ``rank-llm`` package and ``URL#sha256=HEX`` a publisher's file; conf/published-prompts.yaml has short names for them,
and the places of the strings that are in Python files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.plugins import Registry, mapping_of
from pyserini_reasonrank.prompts.formats import convert
from pyserini_reasonrank.prompts.pinned import PinnedFile, is_url
from pyserini_reasonrank.prompts.python_source import read_string
from pyserini_reasonrank.prompts.template import QUERY_SLOT, Instruction, Template
from pyserini_reasonrank.resources import conf, parse_yaml, yaml_names

RANK_LLM = "rank_llm:"
_FILES = (".yaml", ".yml", ".toml")


class PublishedString(BaseModel):
    """A string of a pinned Python file, see ``prompts/python_source.py``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: Annotated[str | None, Field(alias="from", description="URL#sha256=HEX, if not that of the prompt")] = None
    place: Annotated[str, Field(description="function, Class.method, or NAME.KEY of a dictionary")]
    characters: Annotated[int | None, Field(description="literal characters, without those of named values")] = None
    values: Annotated[dict[str, str], Field(description="named values that the template has no slot for")] = {}
    format: Annotated[bool, Field(description="the string is itself a str.format template")] = False

    def read(self, origin: str) -> str:
        """Return the string as a ``str.format`` template. UsageError if the file or the string is unavailable."""
        source = self.origin or origin
        path = PinnedFile.parse(source).fetch()
        try:
            text = read_string(_text(path, source), self.place, characters=self.characters, values=self.values)
            return text.format() if self.format else text
        except UsageError as error:
            raise UsageError(f"{source.partition('#')[0]}: {error}") from None


class PublishedInstructions(BaseModel):
    """Instructions by collection: a dictionary of a pinned Python file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: Annotated[str, Field(alias="from", description="URL#sha256=HEX")]
    place: Annotated[str, Field(description="name of the dictionary")]
    query: Annotated[str | None, Field(description="the word in them that the query replaces, if there is one")] = None
    parts: Annotated[
        dict[Literal["text", "query_kind", "document_kind"], int],
        Field(description="places of an instruction's parts, if each is a tuple of them"),
    ] = {}

    def read(self, collection: str) -> Instruction:
        """Return the instruction for ``collection``, a key of the dictionary. UsageError if it is unavailable."""
        places = {name: f"{self.place}.{collection}.{place}" for name, place in self.parts.items()}
        places = places or {"text": f"{self.place}.{collection}"}
        strings = {name: PublishedString.model_validate({"place": place}) for name, place in places.items()}
        texts = {name: string.read(self.origin).format() for name, string in strings.items()}
        if self.query is not None:
            texts["text"] = texts["text"].replace(self.query, QUERY_SLOT)
        return Instruction(**texts)


class PublishedPrompt(BaseModel):
    """The schema of an entry of conf/published-prompts.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    origin: Annotated[str, Field(alias="from", description="rank_llm:NAME, or URL#sha256=HEX")]
    fields: Annotated[dict[str, Any], Field(description="fields that override those of the file")] = {}
    strings: Annotated[dict[str, PublishedString], Field(description="fields read from Python files")] = {}
    instructions: Annotated[
        PublishedInstructions | None, Field(description="instructions by collection, for --rerank.instruction")
    ] = None

    def read(self) -> dict[str, Any]:
        """Return the fields of the prompt. UsageError if a file is unavailable."""
        content = {} if self.origin.partition("#")[0].endswith(".py") else _read(self.origin)
        strings = {name: string.read(self.origin) for name, string in self.strings.items()}
        return content | self.fields | ({"strings": strings} if strings else {})


def names() -> list[str]:
    """Return the names of our own prompts, and of those of other packages."""
    return [name for name in PROMPT_PARTS.names() if name not in published()]


@cache
def published() -> Mapping[str, PublishedPrompt]:
    """Return the published prompts that have a short name."""
    data = parse_yaml(conf("published-prompts.yaml").read_text(encoding="utf-8"), "conf/published-prompts.yaml")
    return {name: PublishedPrompt.model_validate(entry) for name, entry in data.items()}


def load(source: str) -> Template:
    """Load the template that ``source`` names; download it if needed. UsageError if it is unavailable."""
    known = published().get(source)
    data = known.read() if known else _read(source)
    converted = convert(data, source, _rank_llm)
    return Template.parse(source, {**converted, "about": known.about} if known else converted)


def instruction(text: str) -> Instruction:
    """Return an instruction: ``PROMPT:COLLECTION`` is a published one, any other text is its own.

    UsageError if the published one is unavailable.
    """
    prompt, _, collection = text.partition(":")
    known = published().get(prompt)
    return Instruction(text) if known is None or known.instructions is None else known.instructions.read(collection)


def missing_instruction(text: str) -> str | None:
    """Return why an instruction is unavailable, or None."""
    try:
        instruction(text)
    except UsageError as error:
        return str(error)
    return None


def missing(source: str) -> str | None:
    """Return why the prompt ``source`` is unavailable, or None. A file on the web is downloaded to find out."""
    try:
        load(source)
    except UsageError as error:
        return str(error)
    return None


def available(source: str) -> bool:
    """Whether the prompt ``source`` is available."""
    return missing(source) is None


def _read(source: str) -> dict[str, Any]:
    """Read the content of the file that ``source`` names."""
    if source.startswith(RANK_LLM):
        return _rank_llm(source.removeprefix(RANK_LLM))
    if is_url(source):
        return _parse(PinnedFile.parse(source).fetch(), source)
    if source.endswith(_FILES):
        if not Path(source).is_file():
            raise UsageError(f"prompt file {source} does not exist")
        return _parse(Path(source), source)
    return PROMPT_PARTS.get(source)


def _own(name: str) -> dict[str, Any]:
    return parse_yaml(conf("prompts", f"{name}.yaml").read_text(encoding="utf-8"), name)


def _registered(name: str, found: Any) -> dict[str, Any]:
    """Read a prompt of another package. Unsuitable unless it is a mapping or a file."""
    return mapping_of(found, lambda path: _parse(path, str(path)), "YAML or TOML")


PROMPT_PARTS = Registry("prompt", "prompts", lambda: [*yaml_names("prompts"), *published()], _own, _registered)
"""Our prompts, and those that other packages register in the entry-point group ``pyserini_reasonrank.prompts``."""


def _text(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not UTF-8 text: {error.reason}") from error


def _parse(path: Path, source: str) -> dict[str, Any]:
    text = _text(path, source)
    return _toml(text, source) if path.suffix == ".toml" else parse_yaml(text, source)


def _toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not TOML: {error}") from error


def _rank_llm(name: str) -> dict[str, Any]:
    spec = find_spec("rank_llm")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"prompt {RANK_LLM}{name} comes with the package rank-llm: pip install rank-llm")
    folder = Path(spec.submodule_search_locations[0], "rerank", "prompt_templates")
    path = folder / f"{name}.yaml"
    if not path.is_file():
        found = sorted(p.stem for p in folder.glob("*.yaml"))
        raise UsageError(f"rank-llm has no prompt template {name!r}{nearest(name, found)}")
    # Some of these files write a regex as r"...", which is not YAML; the regexes are not used here.
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return parse_yaml("".join(line for line in lines if not line.startswith("output_")), path.name)
