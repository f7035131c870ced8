"""Where a prompt comes from: one of our own by name, a file, a pinned file on the web, or a template of RankLLM.

The training prompt of a checkpoint is loaded from its publisher and not copied: ``rank_llm:NAME`` reads the YAML of the
installed ``rank-llm`` package and ``URL#sha256=HEX`` a publisher's file; conf/published-prompts.yaml has short names for them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.prompts.formats import convert
from pyserini_reasonrank.prompts.pinned import PinnedFile, is_url
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.resources import conf, parse_yaml, yaml_names

RANK_LLM = "rank_llm:"
_FILES = (".yaml", ".yml", ".toml")


class PublishedPrompt(BaseModel):
    """The schema of an entry of conf/published-prompts.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    origin: Annotated[str, Field(alias="from", description="rank_llm:NAME, or URL#sha256=HEX")]
    fields: Annotated[dict[str, Any], Field(description="fields that override those of the file")] = {}


def names() -> list[str]:
    """Return the names of our own prompts."""
    return yaml_names("prompts")


@cache
def published() -> Mapping[str, PublishedPrompt]:
    """Return the published prompts that have a short name."""
    data = parse_yaml(conf("published-prompts.yaml").read_text(encoding="utf-8"), "conf/published-prompts.yaml")
    return {name: PublishedPrompt.model_validate(entry) for name, entry in data.items()}


def load(source: str) -> Template:
    """Load the template that ``source`` names; download it if needed. UsageError if it is unavailable."""
    known = published().get(source)
    data = _read(known.origin) | known.fields if known else _read(source)
    converted = convert(data, source, _rank_llm)
    return Template.parse(source, {**converted, "about": known.about} if known else converted)


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
    if source not in names():
        raise UsageError(f"there is no prompt {source!r}{nearest(source, [*names(), *published()])}")
    return parse_yaml(conf("prompts", f"{source}.yaml").read_text(encoding="utf-8"), source)


def _parse(path: Path, source: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not UTF-8 text: {error.reason}") from error
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
