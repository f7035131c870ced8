"""Where a prompt comes from: the project's own wording by name, a file, or a template that RankLLM ships.

A checkpoint's trained wording belongs to the checkpoint, so it is loaded, never restated: ``rank_llm:NAME`` reads the
YAML of the installed ``rank-llm`` package.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.resources import conf, yaml_names
from pyserini_reasonrank.suggest import nearest

RANK_LLM = "rank_llm:"
_LISTWISE_REMINDER = "Give the ranking itself: every identifier once, best first, in the form [2] > [1]."
_RANK_LLM_FIELDS = {
    "singleturn_listwise": ("prefix", "body", "suffix"),
    "multiturn_listwise": ("prefix_user", "prefix_assistant", "body_user", "body_assistant", "suffix_user"),
}


def names() -> list[str]:
    """The project's own prompts."""
    return yaml_names("prompts")


def load(source: str) -> Template:
    """The template that ``source`` names. UsageError where there is none."""
    if source.startswith(RANK_LLM):
        return Template.parse(source, _from_rank_llm(source.removeprefix(RANK_LLM)))
    if source.endswith((".yaml", ".yml")):
        path = Path(source)
        if not path.is_file():
            raise UsageError(f"prompt file {source} does not exist")
        data = _yaml(path.read_text(encoding="utf-8"), source)
        return Template.parse(source, _convert(data, source) if "method" in data else data)
    if source not in names():
        raise UsageError(f"there is no prompt {source!r}{nearest(source, names())}")
    return Template.parse(source, _yaml(conf("prompts", f"{source}.yaml").read_text(encoding="utf-8"), source))


def available(source: str) -> bool:
    """Whether a prompt that lies outside the project can be read here."""
    return not source.startswith(RANK_LLM) or find_spec("rank_llm") is not None


def _yaml(text: str, source: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{source} holds no YAML mapping")
    return data


def _from_rank_llm(name: str) -> dict[str, Any]:
    spec = find_spec("rank_llm")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"prompt {RANK_LLM}{name} is shipped by the package rank-llm: pip install rank-llm")
    folder = Path(spec.submodule_search_locations[0], "rerank", "prompt_templates")
    path = folder / f"{name}.yaml"
    if not path.is_file():
        found = sorted(p.stem for p in folder.glob("*.yaml"))
        raise UsageError(f"rank-llm ships no prompt template {name!r}{nearest(name, found)}")
    return _convert(_rank_llm_yaml(path), path.name)


def _rank_llm_yaml(path: Path) -> dict[str, Any]:
    # Some of these files write a regex as r"..." (no YAML); only the fields up to the regexes matter here.
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return _yaml("".join(line for line in lines if not line.startswith("output_")), path.name)


def _convert(data: dict[str, Any], source: str) -> dict[str, Any]:
    """RankLLM's listwise schema (prefix, body, suffix with {num}, {query}, {rank}, {candidate}) as ours."""
    method = data.get("method")
    if method not in _RANK_LLM_FIELDS:
        raise UsageError(f"{source} is a RankLLM template of method {method!r}; only the two listwise ones can be read")
    if missing := [field for field in _RANK_LLM_FIELDS[method] if not isinstance(data.get(field), str)]:
        raise UsageError(f"{source} is a RankLLM template without {', '.join(missing)}")
    system = [{"role": "system", "content": _jinja(data["system_message"])}] if data.get("system_message") else []
    if method == "singleturn_listwise":
        body = _jinja(data["body"], rank="number", candidate="passage")
        user = (
            _jinja(data["prefix"])
            + "{% for number, passage in numbered %}"
            + body
            + "{% endfor %}"
            + _jinja(data["suffix"])
        )
        turns: list[dict[str, Any]] = [{"role": "user", "content": user}]
    else:
        passage = [
            {"role": "user", "content": _jinja(data["body_user"], rank="number", candidate="passage")},
            {"role": "assistant", "content": _jinja(data["body_assistant"], rank="number", candidate="passage")},
        ]
        turns = [
            {"role": "user", "content": _jinja(data["prefix_user"])},
            {"role": "assistant", "content": _jinja(data["prefix_assistant"])},
            {"each_passage": passage},
            {"role": "user", "content": _jinja(data["suffix_user"])},
        ]
    return {"about": "a RankLLM template", "contract": "permutation", "messages": system + turns,
            "reminder": _LISTWISE_REMINDER}  # fmt: skip


def _jinja(text: str, **names: str) -> str:
    for old, new in {"num": "count", "query": "query", **names}.items():
        text = text.replace("{" + old + "}", "{{ " + new + " }}")
    return text
