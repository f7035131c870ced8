"""Conversion of other projects' prompts: RankLLM's YAML, the TOML of llm-rankers and ReasonRank, strings of Python files.

They fill ``{query}``, ``{docs}`` and so on by string formatting; ours are Jinja. The wording is not changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from pyserini_reasonrank.errors import UsageError

Data = Mapping[str, Any]

_LISTWISE_REMINDER = "Give the ranking itself: every identifier once, best first, in the form [2] > [1]."
_LETTERS_REMINDER = "Give the ranking itself: every letter once, best first, in the form [B] > [A]."
_BEST_REMINDER = "Answer with the label of one document in square brackets, between <answer> and </answer>."
_ANSWER_TAGS = " Write the ranking between <answer> and </answer>."
_QUERY = {"query": "{{ query }}", "num": "{{ count }}"}
_NUMBER = "{{ number }}"
_SCORE = '{{ "%.3f" | format(scores[number - 1]) }}'
_LETTER = '{{ "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number - 1] }}'
_EACH, _END = "{% for number, passage in numbered %}", "{% endfor %}"
_FIELD = re.compile(r"\{(\w+)\}")
_RANK_LLM_FIELDS = {
    "singleturn_listwise": ("prefix", "body", "suffix"),
    "multiturn_listwise": ("prefix_user", "prefix_assistant", "body_user", "body_assistant", "suffix_user"),
}
_LISTED = f"{_EACH}{{% if number > 1 %}}\n{{% endif %}}passage {{{{ places[number - 1] }}}}: {{{{ passage }}}}{_END}"
_RAW = {**_QUERY, "doc_content": "{{ passages[0] }}", "passages_text": _LISTED}
_PASSAGE = {"number": _NUMBER, "passage": "{{ passage }}"}
_TURNS = {
    "QUERY": "{{ query }}",
    "TOPK": "{{ count }}",
    "query": "{{ query }}",
    "doc": "{{ passages[0] }}",
    "query_type": "{{ query_kind }}",
    "doc_type": "{{ document_kind }}",
}
_PUBLISHED = re.compile(r"\{\{ published\.(\w+) \}\}")
_CHATML_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(<\|im_end\|>\n?|\Z)", re.DOTALL)
_REASONRANK_SYSTEM = {"reasoning": "system_prompt_reasoning", "qwen3": "system_prompt"}


def convert(data: Data, source: str, rank_llm: Callable[[str], Data]) -> Data:
    """Convert a prompt file's content to our schema. ``rank_llm`` reads a template of that package by name.

    ``strings`` in ``data`` are fields in the form of ``str.format``.
    """
    if "layout" in data:
        return from_layout(data, source)
    if "raw" in data.get("strings", {}):
        return from_raw(data, source)
    if "user" in data.get("strings", {}):
        return from_turns(data, source)
    if "strings" in data:
        parts = {field: _as_in_rank_llm(text, source) for field, text in data["strings"].items()}
        data = {field: value for field, value in data.items() if field != "strings"} | parts
    if "method" in data:
        return from_rank_llm(data, source)
    if "system_prompt" in data or "system_prompt_reasoning" in data:
        return from_reasonrank(data, source, rank_llm)
    if "prompt_user" in data or "user" in data:
        return from_llm_rankers(data, source)
    return data


def from_rank_llm(data: Data, source: str) -> Data:
    """Convert RankLLM's listwise schema: prefix, body for every passage, suffix, in one turn or as a dialogue.

    A template whose example orders letters is for the judge that reads the first letter after a bracket, as in RankLLM
    (FIRST, arXiv 2406.15657). ``before_passages`` is our addition: text between prefix and body.
    """
    method = data.get("method")
    if method not in _RANK_LLM_FIELDS:
        raise UsageError(
            f"{source} is a RankLLM template of method {method!r}; supported: {', '.join(_RANK_LLM_FIELDS)}"
        )
    if missing := [field for field in _RANK_LLM_FIELDS[method] if not isinstance(data.get(field), str)]:
        raise UsageError(f"{source} is a RankLLM template without {', '.join(missing)}")
    letters = any(re.search(r"\[[A-Z]\] > \[[A-Z]\]", data.get(field, "")) for field in ("suffix", "suffix_user"))
    passage = {**_QUERY, "rank": _LETTER if letters else _NUMBER, "candidate": "{{ passage }}", "score": _SCORE}

    def text(field: str, values: Mapping[str, str]) -> str:
        return _FIELD.sub(lambda found: _value(found[1], values, source), data[field])

    system = [{"role": "system", "content": text("system_message", _QUERY)}] if data.get("system_message") else []
    if method == "singleturn_listwise":
        user = f"{text('prefix', _QUERY)}{data.get('before_passages', '')}{_EACH}{text('body', passage)}{_END}"
        turns: list[dict[str, Any]] = [{"role": "user", "content": user + text("suffix", _QUERY)}]
    else:
        each = [(role, f"body_{role}", passage) for role in ("user", "assistant")]
        turns = [
            {"role": "user", "content": text("prefix_user", _QUERY)},
            {"role": "assistant", "content": text("prefix_assistant", _QUERY)},
            {"each_passage": [{"role": role, "content": text(field, values)} for role, field, values in each]},
            {"role": "user", "content": text("suffix_user", _QUERY)},
        ]
    form = {"contract": "permutation", "reminder": _LISTWISE_REMINDER}
    if letters:
        form = {"contract": "first_token", "reminder": _LETTERS_REMINDER, "prefill": "["}
    return {"about": "a RankLLM template", "messages": system + turns, **form}


def from_llm_rankers(data: Data, source: str) -> Data:
    """Convert the TOML of llm-rankers.

    It has ``prompt_system`` and ``prompt_user`` with ``{query}`` and ``{docs}`` (in newer files ``system`` and ``user``), and
    ``doc_prefix`` and ``doc_separator`` for the list of documents. Files without these two are from Rank-R1 v0.1, whose
    training code wrote ``[1] text``, one per line. A prompt with the number of documents, ``{num}``, asks for their order,
    any other prompt for the best document.
    """
    system, user = (data.get(f"prompt_{role}", data.get(role)) for role in ("system", "user"))
    labels = data.get("labels", ["[1]"])
    if not isinstance(user, str) or "{docs}" not in user:
        raise UsageError(f"{source} is a prompt of llm-rankers without {{docs}}, so it does not show its documents")
    if labels[:1] != ["[1]"]:
        raise UsageError(f"{source} labels its documents {labels[0]}, ...; only [1], [2], ... is supported")
    number = {"num": _NUMBER, "label": f"[{_NUMBER}]"}
    prefix, separator = data.get("doc_prefix", "[{num}] "), _literal(data.get("doc_separator", "\n"))
    documents = (
        f"{_EACH}{{% if number > 1 %}}{separator}{{% endif %}}{_format(prefix, number, source)}{{{{ passage }}}}{_END}"
    )
    listwise = "{num}" in user
    turns = [{"role": "user", "content": _format(user, {**_QUERY, "docs": documents}, source)}]
    if system:
        turns.insert(0, {"role": "system", "content": _literal(system)})
    return {"about": "a prompt of llm-rankers", "contract": "permutation" if listwise else "best", "messages": turns,
            "reminder": _LISTWISE_REMINDER if listwise else _BEST_REMINDER}  # fmt: skip


def from_reasonrank(data: Data, source: str, rank_llm: Callable[[str], Data]) -> Data:
    """Convert the TOML of ReasonRank, which has system messages only: ``system_prompt_reasoning`` and, for its Qwen3 model,
    ``system_prompt``.

    ``mode`` is our addition and chooses one. The user's turn is in the authors' code: ``prefix`` and ``suffix`` if they are
    given, else that of RankLLM, which has the same words for ``reasoning``.
    """
    mode = data.get("mode", "reasoning")
    if mode not in _REASONRANK_SYSTEM:
        raise UsageError(f"{source} has mode {mode!r}; the modes of ReasonRank are {' and '.join(_REASONRANK_SYSTEM)}")
    system = data.get(_REASONRANK_SYSTEM[mode])
    if not isinstance(system, str):
        raise UsageError(f"{source} is a ReasonRank prompt file without {_REASONRANK_SYSTEM[mode]}")
    template = dict(rank_llm("reasonrank_template"))
    template |= {"system_message": _literal(system), "before_passages": "\n"}
    if mode == "qwen3":
        template["suffix"] += _ANSWER_TAGS
    template |= {part: data[part] for part in ("prefix", "suffix") if part in data}
    return {**from_rank_llm(template, source), "about": "ReasonRank's system message and user turn"}


def from_raw(data: Data, source: str) -> Data:
    """Convert a prompt that its publisher writes as one of the ``strings``, ``raw``, with ChatML's turns or without turns.

    What follows the last slot, or an assistant's turn without an end, is the prefill; with ``turn: user``, a text without
    turns is the user's to its end. ``task``, if given, fills the slot ``query`` of ``raw``, and ``system`` is the system
    message. ``turn``, ``contract`` and ``reminder`` are our additions.
    """
    strings, values = data["strings"], _RAW
    if "task" in strings:
        values = {**_RAW, "query": _format(strings["task"], _RAW, source)}
    system = _format(strings["system"], _RAW, source) if "system" in strings else None
    return _of_chatml(_format(strings["raw"], values, source), data, system)


def from_layout(data: Data, source: str) -> Data:
    """Convert published words in a layout of ours: ``layout``, a Jinja text with ChatML's turns, in which
    ``{{ published.NAME }}`` stands for one of the ``strings``.

    The slots of the strings are those of ``raw`` (see ``from_raw``) and those that ``slots`` in ``data`` fills with Jinja.
    """
    values = {**_RAW, **data.get("slots", {})}
    words = {name: _format(text, values, source) for name, text in data["strings"].items()}
    return _of_chatml(_PUBLISHED.sub(lambda found: _value(found[1], words, source), data["layout"]), data)


def _of_chatml(text: str, data: Data, system: str | None = None) -> Data:
    """Split a Jinja text into chat turns and the prefill. A ``system`` message comes before them."""
    turns = [{"role": role, "content": content, "end": end} for role, content, end in _CHATML_TURN.findall(text)]
    prefill = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" and not turns[-1]["end"] else ""
    if not turns and data.get("turn") == "user":
        turns = [{"role": "user", "content": text}]
    elif not turns:
        content, closing, prefill = text.rpartition("}}")
        turns = [{"role": "user", "content": content + closing}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    form = {"contract": data.get("contract", ""), "reminder": data.get("reminder", "")}
    return {"about": "a prompt of a Python file", "messages": messages, "prefill": prefill, **form}


def from_turns(data: Data, source: str) -> Data:
    """Convert a prompt whose turns are ``strings``: ``user``, and ``system`` if there is one.

    ``passage`` is the form of each passage of a list. ``instruction``, if given, is the string that says what is relevant
    if no instruction is set. ``contract`` and ``reminder`` are our additions.
    """
    strings = data["strings"]
    passage = _format(data.get("passage", "[{number}] {passage}\n"), _PASSAGE, source)
    values = {**_TURNS, "PASSAGES": f"{_EACH}{passage}{_END}"}
    default = _format(strings["instruction"], values, source) if "instruction" in strings else ""
    values["relevance_definition"] = f"{{% if instruction %}}{{{{ instruction }}}}{{% else %}}{default}{{% endif %}}"
    messages = [
        {"role": role, "content": _format(strings[role], values, source)}
        for role in ("system", "user")
        if role in strings
    ]
    form = {"contract": data.get("contract", ""), "reminder": data.get("reminder", "")}
    return {"about": "the turns of a Python file", "messages": messages, **form}


def _as_in_rank_llm(text: str, source: str) -> str:
    """Convert a ``str.format`` string to a field of RankLLM's schema, which has no escapes for braces."""
    return "".join(_literal(literal) + f"{{{field}}}" * (field is not None) for literal, field in _parts(text, source))


def _format(text: str, values: Mapping[str, str], source: str) -> str:
    """Convert a ``str.format`` string to Jinja."""
    parts = _parts(text, source)
    return "".join(_literal(text) + ("" if field is None else _value(field, values, source)) for text, field in parts)


def _parts(text: str, source: str) -> list[tuple[str, str | None]]:
    """Return the literal texts of a ``str.format`` string, each with the field that follows it."""
    try:
        return [(literal, field) for literal, field, _, _ in Formatter().parse(text)]
    except ValueError as error:
        raise UsageError(f"{source} can't be read as a format string: {str(error).lower()}") from None


def _value(field: str, values: Mapping[str, str], source: str) -> str:
    if field not in values:
        raise UsageError(f"{source} uses the unknown field {{{field}}}; known: {', '.join(values)}")
    return values[field]


def _literal(text: str) -> str:
    """Escape ``text`` so that Jinja renders it unchanged."""
    return text.replace("{", "{{ '{' }}")
