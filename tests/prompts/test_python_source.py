"""Strings of published Python files: where they are found, how they are read, and the prompts that are made of them.

The files are written here, with the structure of the published ones and words of our own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.embedded import cache_folder
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.pinned import PinnedFile
from pyserini_reasonrank.prompts.python_source import read_string
from pyserini_reasonrank.prompts.sources import PublishedPrompt
from pyserini_reasonrank.prompts.template import Instruction, Template
from pyserini_reasonrank.records import Prompt

PUBLISHED_CACHE = cache_folder()
GOLDEN = Path(__file__).parents[1] / "data" / "golden"

BRANCHES = '''
import torch  # not installed where prompts are read; and never imported

raise SystemExit("this file is read, not run")


def add_tail(mode: str, query: str, num: int) -> str:
    """Not one of the strings."""
    if mode in [str(Mode.PLAIN)]:
        example = "[2] > [1]"
        return f"Find: {query}.\\nOrder all {num}, e.g., {example}."
    elif mode == "short":
        example = "[2] [1]"
        return f"Find: {query}. As {example}."
    elif mode == "none":
        return ""
    else:
        raise ValueError("unknown")


class Ranker:
    def prompt(self, query, text):
        query = self.form.replace("QUERY", query) if self.form else query
        return "Is it relevant? " \\
            f"Query: {query}\\n" \\
            f"Text: {text}\\n" \\
            "<think>"  # the beginning of the answer

    def grown(self, query):
        prompt = "One, "
        prompt += f"two {query}, "
        if self.more:
            prompt += "three and four."
        else:
            prompt = prompt + "five."
        return prompt

    def chosen(self, letters, query):
        example = "[B] > [A]" if letters else "[2] > [1]"
        return f"{query}, as {example}"

    def outer(self):
        def inner(query):
            return "\\n".join(["first", f"then {query}", self.last])
        return inner


FORMS = {
    "news": "Claim: QUERY " "and its evidence",
    "pair": ("a post", ["one", "two"]),
    "nested": {"template": "Rate {query} " + "with {{braces}}."},
}
FORMS["sports"] = FORMS["news"]
FORMS["later"] = "added"
'''


@pytest.mark.parametrize(
    ("place", "characters", "template"),
    [
        ("add_tail", 27, "Find: {query}.\nOrder all {num}, e.g., [2] > [1]."),
        ("add_tail", 12, "Find: {query}. As [2] [1]."),
        ("Ranker.prompt", 38, "Is it relevant? Query: {query}\nText: {text}\n<think>"),
        ("prompt", 38, "Is it relevant? Query: {query}\nText: {text}\n<think>"),
        ("Ranker.grown", 26, "One, two {query}, three and four."),
        ("Ranker.grown", 16, "One, two {query}, five."),
        ("Ranker.chosen", 5, "{query}, as {example}"),
        ("inner", 12, "first\nthen {query}\n{last}"),
        ("FORMS.news", None, "Claim: QUERY and its evidence"),
        ("FORMS.sports", None, "Claim: QUERY and its evidence"),
        ("FORMS.later", 5, "added"),
        ("FORMS.pair.0", None, "a post"),
        ("FORMS.pair.1.1", None, "two"),
        ("FORMS.nested.template", None, "Rate {{query}} with {{{{braces}}}}."),
    ],
)
def test_a_string_by_place_and_length(place: str, characters: int | None, template: str) -> None:
    assert read_string(BRANCHES, place, characters=characters) == template


def test_a_named_value_without_a_slot() -> None:
    found = read_string(BRANCHES, "Ranker.chosen", characters=5, values={"example": "{C} > {A}"})
    assert found == "{query}, as {{C}} > {{A}}"
    assert found.format(query="Q") == "Q, as {C} > {A}"


@pytest.mark.parametrize(
    ("place", "characters", "says"),
    [
        (
            "add_tail",
            26,
            "expected one string of 26 characters at add_tail, found strings of 0, 4, 5, 7, 9, 12, 27 characters",
        ),
        ("add_tail", None, "expected one string at add_tail, found strings of"),
        ("remove_tail", 27, "at remove_tail, found no string"),
        ("FORMS.missing", None, "at FORMS.missing, found no string"),
        ("FORMS.nested", None, "at FORMS.nested, found no string"),
        ("FORMS.pair", None, "at FORMS.pair, found no string"),
        ("FORMS.pair.2", None, "at FORMS.pair.2, found no string"),
        ("FORMS.pair.last", None, "at FORMS.pair.last, found no string"),
        ("FORMS", None, "at FORMS, found no string"),
    ],
)
def test_a_string_that_is_not_there(place: str, characters: int | None, says: str) -> None:
    with pytest.raises(UsageError) as error:
        read_string(BRANCHES, place, characters=characters)
    assert says in str(error.value)


@pytest.mark.parametrize("code", ["def f(:", "x = '\0'", "(" * 300])
def test_a_file_that_is_not_python(code: str) -> None:
    with pytest.raises(UsageError, match="is not readable Python"):
        read_string(code, "f")


@given(st.lists(st.one_of(st.text(), st.sampled_from(["query", "num"]).map(lambda name: (name,)))))
def test_any_f_string_is_read_back(parts: list[str | tuple[str]]) -> None:
    """Slots and literals of any text, braces and line ends included, in one f-string or joined by +."""
    literal = "".join(part for part in parts if isinstance(part, str))
    code = " + ".join(repr(p) if isinstance(p, str) else f"f'{{{p[0]}}}'" for p in ["", *parts])
    template = read_string(f"def f(query, num):\n    return {code}\n", "f", characters=len(literal))
    shown = "".join(p if isinstance(p, str) else f"<{p[0]}>" for p in parts)
    assert template.format(query="<query>", num="<num>") == shown


@given(st.text())
def test_any_text_without_the_function_is_refused(code: str) -> None:
    with pytest.raises(UsageError) as error:
        read_string(code, "f")
    assert "\n" not in str(error.value)


# --- prompts of pinned Python files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REASONRANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache"


def pinned(server: HTTPServer, text: str, name: str) -> str:
    server.expect_request(f"/{name}").respond_with_data(text)
    return f"{server.url_for(f'/{name}')}#sha256={hashlib.sha256(text.encode()).hexdigest()}"


def load(monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any]) -> Template:
    known = {"test:prompt": PublishedPrompt.model_validate({"about": "a test", **entry})}
    monkeypatch.setattr(sources, "published", lambda: known)
    return sources.load("test:prompt")


def test_a_tail_for_reasonranks_system_message(
    cache: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = pinned(httpserver, 'system_prompt = "Be brief."\nsystem_prompt_reasoning = "Think."\n', "prompt.toml")
    code = """
def head(query, num):
    return f"{num} passages {{as they are}} for {query}.\\n"
def tail(query, num):
    example = "[2] > [1]"
    return f"Find: {query}.\\nOrder {num}, e.g., {example}."
"""
    python = pinned(httpserver, code, "code.py")
    strings = {
        "prefix": {"from": python, "place": "head", "characters": 30},
        "suffix": {"from": python, "place": "tail", "characters": 23},
    }
    template = load(monkeypatch, {"from": system, "fields": {"mode": "qwen3"}, "strings": strings})
    prompt = template.render("Q?", ["FIRST {x}", "SECOND"])
    assert template.contract == "permutation"
    assert [m.content for m in prompt.messages] == [
        "Be brief.",
        "2 passages {as they are} for Q?.\n\n[1] FIRST {x}\n[2] SECOND\nFind: Q?.\nOrder 2, e.g., [2] > [1].",
    ]


def test_a_plain_prompt_whose_end_begins_the_answer(
    cache: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "class R:\n def p(self, query, doc_content):\n  return f'Q: {query}\\nP: {doc_content}\\n<think>'\n"
    strings = {"raw": {"place": "R.p", "characters": 15}}
    entry = {
        "from": pinned(httpserver, code, "r.py"),
        "fields": {"contract": "score", "reminder": "r"},
        "strings": strings,
    }
    prompt = load(monkeypatch, entry).render("{x}", ["{{ y }}"])
    assert ([m.content for m in prompt.messages], prompt.prefill) == (["Q: {x}\nP: {{ y }}"], "\n<think>")


def test_a_prompt_with_turns_of_its_own(cache: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    code = '''
CONFIG = {"five": {"template": "For {query}:\\n{passages_text}\\nDrop one. "}}
def prefix(query: str) -> str:
    return f"""<|im_start|>system\\nBe kind.<|im_end|>\\n<|im_start|>user\\n {query} Think.<|im_end|>
<|im_start|>assistant\\nWell.\\n<think>"""
'''
    strings = {"raw": {"place": "prefix"}, "task": {"place": "CONFIG.five.template", "format": True}}
    entry = {
        "from": pinned(httpserver, code, "i.py"),
        "fields": {"contract": "worst", "reminder": "r"},
        "strings": strings,
    }
    template = load(monkeypatch, entry)
    assert chatml(template.render("Q?", ["A", "B\nC"], [3, 0])) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n For Q?:\npassage 3: A\npassage 0: B\nC\nDrop one.  Think."
        "<|im_end|>\n<|im_start|>assistant\nWell.\n<think>"
    )


def test_instructions_by_collection(cache: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'FORMS = {"a": """Claim: QUERY\\n\\n{as} is""", "b": "all of QUERY"}\nFORMS["c"] = FORMS["b"]\n'
    entry = {"about": "a test", "from": "rank_llm:x", "instructions": {"place": "FORMS", "query": "QUERY"}}
    entry["instructions"]["from"] = pinned(httpserver, code, "forms.py")  # type: ignore[index]
    monkeypatch.setattr(sources, "published", lambda: {"test": PublishedPrompt.model_validate(entry)})
    assert sources.instruction("test:a") == Instruction("Claim: {query}\n\n{as} is")
    assert sources.instruction("test:c") == Instruction("all of {query}")
    assert sources.instruction("Only proofs: all of them") == Instruction("Only proofs: all of them")
    assert "expected one string at FORMS.d, found no string" in str(sources.missing_instruction("test:d"))


def test_a_changed_python_file_is_refused(cache: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url, _, digits = pinned(httpserver, "def f(query):\n  return f'{query}'\n", "f.py").partition("#sha256=")
    entry = {"fields": {"contract": "score", "reminder": "r"}, "strings": {"raw": {"place": "f"}}}
    with pytest.raises(UsageError, match="is not the pinned prompt file"):
        load(monkeypatch, {"from": f"{url}#sha256={digits[::-1]}", **entry})
    with pytest.raises(UsageError, match=r"f\.py: expected one string at g, found no string"):
        load(monkeypatch, {"from": f"{url}#sha256={digits}", **entry, "strings": {"raw": {"place": "g"}}})


def test_every_published_string_is_in_a_pinned_file() -> None:
    for known in sources.published().values():
        for string in known.strings.values():
            file = PinnedFile.parse(string.origin or known.origin)
            assert file.url.endswith(".py")
            assert string.characters is not None


# --- the published files, where they are in the cache


def golden(name: str) -> list[Any]:
    cases: list[Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return cases


def chatml(prompt: Prompt) -> str:
    turns = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in prompt.messages)
    return f"{turns}<|im_start|>assistant\n{prompt.prefill}"


def loaded(name: str) -> Template:
    """The published prompt ``name``; skips if its files are neither cached nor downloadable."""
    if reason := sources.missing(name):
        pytest.skip(reason)
    return sources.load(name)


@pytest.mark.parametrize("case", golden("rank1_prompts"), ids=lambda case: case["case"])
def test_rank1s_prompt_is_the_published_one(case: dict[str, Any]) -> None:
    prompt = loaded("rank1").render(case["query"], [case["passage"]])
    text = "".join(m.content for m in prompt.messages) + prompt.prefill
    assert (len(text), hashlib.sha256(text.encode()).hexdigest()) == (case["prompt_characters"], case["prompt_sha256"])


@pytest.mark.parametrize("case", golden("iranker_passage_prompts"), ids=lambda case: case["case"])
def test_irankers_prompt_is_the_published_one(case: dict[str, Any]) -> None:
    text = chatml(loaded("iranker:passages").render(case["query"], list(case["candidates"].values())))
    assert (len(text), hashlib.sha256(text.encode()).hexdigest()) == (case["prompt_characters"], case["prompt_sha256"])


@pytest.mark.parametrize("name", ["reasonrank:qwen3", "first"])
def test_the_other_published_strings_load(name: str) -> None:
    user = loaded(name).render("Q?", ["FIRST", "SECOND"]).messages[-1].content
    assert user.count("Q?") == 2
    assert "\n\n[" in user


DIALOGUE = '''
def create_permutation_instruction_rearank(item=None):
    query, num = item["query"], len(item["hits"])
    instruction = (
        f"Look for {{query}}."
        f"{prefix}{{num}}"
    )
    messages = [{{"role": "system", "content": "{system}"}}, {{"role": "user", "content": instruction}}]
    for rank, hit in enumerate(item["hits"], 1):
        messages.append({{"role": "user", "content": f"[{{rank}}] {{hit[:400]}}"}})
    messages.append({{"role": "user", "content": f"""{suffix} "{{query}}" """}})
    return messages
'''
"""A file of the form of REARANK's, to be filled with text of the pinned lengths."""


def test_rearanks_strings_replace_those_of_the_dialogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"system": "s" * 214, "prefix": "p" * (435 - len("Look for .")), "suffix": "x" * (455 - len(' "" '))}
    file = tmp_path / "rank_gpt.py"
    file.write_text(DIALOGUE.format(**parts))
    monkeypatch.setattr(PinnedFile, "fetch", lambda self: file)
    messages = sources.load("rearank:reasoning").render("Q?", ["FIRST", "SECOND"]).messages
    roles = ["system", "user", "assistant", "user", "assistant", "user", "assistant", "user"]
    assert [message.role for message in messages] == roles
    contents = [message.content for message in messages]
    assert contents[:2] == [parts["system"], f"Look for Q?.{parts['prefix']}2"]
    assert contents[3::2] == ["[1] FIRST", "[2] SECOND", f'{parts["suffix"]} "Q?" ']


GROUPS = """
class GroupReranker:
    def __init__(self, path):
        self.group_system_prompt = '''{system}
'''
        self.group_user_prompt = '''{{TOPK}} for {{QUERY}}
{{PASSAGES}}
As {{{{"[1]": 5}}}}.{user}
'''
"""
"""A file of the form of GroupRank's, to be filled with text of the pinned lengths."""

SCORES = """
class SGLangReasoningLLMReranker:
    def __init__(self, definition=None, query_type="query", doc_type="document"):
        if definition is None:
            definition = f"A ({{query_type}}) and a ({{doc_type}}){default}"
        self.prompt_template = self.get_prompt_template()

    def get_prompt_template(self):
        prompt_template = '''\\
Here: {{relevance_definition}}
{{query}} ({{query_type}}), {{doc}} ({{doc_type}}).{rest}'''
        return prompt_template
"""
"""A file of the form of Retro*'s."""


def test_grouprank_numbers_its_passages_between_two_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rerank_groupwise.py"
    user = "u" * (837 - len('{TOPK} for {QUERY}\n{PASSAGES}\nAs {{"[1]": 5}}.\n'))
    file.write_text(GROUPS.format(system="s" * 1284, user=user))
    monkeypatch.setattr(PinnedFile, "fetch", lambda self: file)
    template = sources.load("grouprank")
    assert template.contract == "grades"
    assert [(m.role, m.content) for m in template.render("Q {x}?", ["FIRST {{ y }}", "SECOND"]).messages] == [
        ("system", "s" * 1284 + "\n"),
        ("user", f'2 for Q {{x}}?\n[1]. FIRST {{{{ y }}}}\n\n[2]. SECOND\n\n\nAs {{"[1]": 5}}.{user}\n'),
    ]


def test_retro_star_says_what_is_relevant_and_what_the_texts_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = "Here: {relevance_definition}\n{query} ({query_type}), {doc} ({doc_type})."
    rest, default = "r" * (1940 - len(slots)), "d" * (116 - len("A () and a ()"))
    code, forms = tmp_path / "reranker_sglang.py", tmp_path / "reranker_prompts.py"
    code.write_text(SCORES.format(rest=rest, default=default))
    forms.write_text('ReasoningBrightShortInstructions = {"aops": ("maths", "proof", "Same (maths) theorem.")}\n')
    monkeypatch.setattr(PinnedFile, "fetch", lambda self: forms if self.url.endswith("prompts.py") else code)
    template = sources.load("retro-star")
    assert template.contract == "rating"
    [plain] = template.render("Q?", ["TEXT"]).messages
    assert plain.content == f"Here: A (query) and a (document){default}\nQ? (query), TEXT (document).{rest}"
    found = sources.instruction("retro-star:aops")
    assert found == Instruction("Same (maths) theorem.", "maths", "proof")
    [told] = template.instructed(found).render("Q?", ["TEXT"]).messages
    assert told.content == f"Here: Same (maths) theorem.\nQ? (maths), TEXT (proof).{rest}"
    [own] = template.instructed(sources.instruction("Only proofs.")).render("Q?", ["TEXT"]).messages
    assert own.content == f"Here: Only proofs.\nQ? (query), TEXT (document).{rest}"


# --- published words in a layout of ours


def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    file = tmp_path / "published.py"
    file.write_text(text)
    monkeypatch.setattr(PinnedFile, "fetch", lambda self: file)


def _system(characters: int) -> tuple[str, str]:
    """A system message, and the beginning of a prompt with it that has this many characters."""
    before, after = "<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n"
    system = "s" * (characters - len(before + after))
    return system, before + system + after


def test_qwen3_rerankers_words_and_its_default_instruction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, prefix = _system(190)
    _file(tmp_path, monkeypatch, f"prefix = {prefix!r}\ninstruction = {'{' + 'i' * 73!r}\n")
    template = sources.load("qwen3-reranker")
    messages = template.render("Q?", ["FIRST"]).messages
    assert [(m.role, m.content) for m in messages] == [
        ("system", system),
        ("user", "<Instruct>: {" + "i" * 73 + "\n<Query>: Q?\n<Document>: FIRST"),
    ]
    assert template.contract == "score"
    assert template.render("Q?", ["FIRST"]).prefill == ""
    own = template.instructed(Instruction("Wanted are proofs.")).render("Q?", ["FIRST"])
    assert own.messages[1].content == "<Instruct>: Wanted are proofs.\n<Query>: Q?\n<Document>: FIRST"


def test_mxbai_reranks_words_are_below_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, prefix = _system(115)
    text = (
        f"class MxbaiRerankV2:\n    task_prompt = {'t' * 269!r}\n    chat_template: dict = {{'prefix': {prefix!r}}}\n"
    )
    _file(tmp_path, monkeypatch, text)
    template = sources.load("mxbai-rerank")
    user = f"query: Q?\ndocument: FIRST\n{'t' * 269}"
    assert [m.content for m in template.render("Q?", ["FIRST"]).messages] == [system, user]
    assert (
        template.instructed(Instruction("I.")).render("Q?", ["FIRST"]).messages[1].content == f"instruction: I.\n{user}"
    )


def test_lightons_passages_have_a_colon_after_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "o" * (68 - len("Of : .\n"))
    _file(
        tmp_path,
        monkeypatch,
        "class LightOnListwiseRerankerWrapper:\n    def _build_text_prompt(self, query, docs):\n"
        '        body = "\\n".join(f"[{i + 1}]: {d}" for i, d in enumerate(docs))\n'
        f'        return f"Of {{query}}: {words}.\\n{{body}}"\n',
    )
    [message] = sources.load("lighton-rerank:listwise").render("Q?", ["FIRST", "SECOND"]).messages
    assert (message.role, message.content) == ("user", f"Of Q?: {words}.\n[1]: FIRST\n[2]: SECOND")


def test_a_layout_names_the_words_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path, monkeypatch, "known = 'words'\n")
    entry = {
        "about": "x",
        "from": "https://example.org/x.py#sha256=" + "0" * 64,
        "fields": {"contract": "score", "reminder": "x", "layout": "{{ published.other }} {{ query }}"},
        "strings": {"known": {"place": "known"}},
    }
    monkeypatch.setattr(sources, "published", lambda: {"x": PublishedPrompt.model_validate(entry)})
    with pytest.raises(UsageError, match=r"x uses the unknown field \{other\}"):
        sources.load("x")


@pytest.mark.parametrize(
    ("name", "turns", "ends"),
    [
        ("qwen3-reranker", 2, "FIRST"),
        ("mxbai-rerank", 2, "Relevance:"),
        ("lighton-rerank:listwise", 1, "Ranking:"),
        ("dear:listwise", 8, "no explanations."),
    ],
)
def test_the_prompts_of_newer_checkpoints_load(name: str, turns: int, ends: str) -> None:
    messages = loaded(name).render("Q?", ["FIRST", "SECOND"]).messages
    assert len(messages) == turns
    assert messages[-1].content.endswith(ends)
