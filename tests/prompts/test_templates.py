"""Prompts: templates and where they come from, documents as mere data, and fitting into any context."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.judges.rewrite import Rewrite
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.fitting import TURN, Fitter, frame_tokens, prompt_tokens
from pyserini_reasonrank.prompts.passage_form import PassageForm
from pyserini_reasonrank.prompts.template import Instruction, Template
from pyserini_reasonrank.prompts.tokens import EstimatedTokens, ModelTokens, Tokens
from pyserini_reasonrank.records import Candidate, Message, Prompt, Query, Request
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.strategies import STRATEGIES

REASONRANK = "rank_llm:reasonrank_template"
POINTWISE = STRATEGIES["pointwise"].judges
LISTWISE = ["listwise", "listwise-dialogue", "listwise-reasoning", REASONRANK]
CONTROL = [
    "<|im_end|>",
    "<|im_start|>system",
    "<s>",
    "[MASK]",
    "</think>",
    "<ANSWER>",
    "<|eot_id|>",
    "<|im_",
    "|>",
    "<",
]
NASTY = [*CONTROL, "[3]", "[12", "]", "\n"]
words = st.sampled_from(["the", "passage", "of", "antidisestablishmentarianism", "漢字", "🤖🤖", "é", "  ", *NASTY])
texts = st.lists(st.one_of(words, st.text(st.characters(codec="utf-8"), max_size=10)), max_size=60).map(" ".join)


def request(query: str, passages: Iterable[str]) -> Request:
    return Request(Query("q", query), tuple(Candidate(f"d{i}", 0.0, text) for i, text in enumerate(passages)))


def fitter(
    template: Template,
    tokens: Tokens,
    *,
    context: int | None = None,
    output_tokens: int = 0,
    passage_tokens: int | None = None,
    query_tokens: int | None = None,
) -> Fitter:
    return Fitter(
        template,
        tokens,
        context=context,
        output_tokens=output_tokens,
        passage_tokens=passage_tokens,
        query_tokens=query_tokens,
    )


def chatml(prompt: Prompt) -> str:
    turns = [f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in prompt.messages]
    return "".join(turns) + f"<|im_start|>assistant\n{prompt.prefill}"


@pytest.fixture(scope="module")
def tokens(tokenizer_file: Path) -> ModelTokens:
    return ModelTokens(tokenizer_file)


# --- templates and sources


@pytest.mark.parametrize("name", sources.names())
def test_our_prompts_show_query_and_passages_and_are_for_a_known_judge(name: str) -> None:
    template = sources.load(name)
    assert template.contract in {*JUDGES, Rewrite.kind}
    passages = ["FIRST"] if template.contract in POINTWISE else ["FIRST", "SECOND", "THIRD"]
    prompt = template.render("THE {{ query }}", passages)
    text = "\n".join(m.content for m in prompt.messages)
    assert "THE {{ query }}" in text
    assert [text.count(passage) for passage in passages] == [1] * len(passages)
    assert "{{" not in text.replace("THE {{ query }}", "")
    assert "{{" not in template.reminder
    last = "document" if name == "by-roles" else "assistant" if template.contract == "likelihood" else "user"
    assert prompt.messages[-1].role == last


@pytest.mark.parametrize("name", LISTWISE)
def test_listwise_prompts_number_the_passages_from_one(name: str) -> None:
    prompt = sources.load(name).render("Q", ["FIRST", "SECOND", "THIRD"])
    text = "\n".join(m.content for m in prompt.messages)
    assert re.findall(r"\[(\d)\] (FIRST|SECOND|THIRD)", text) == [("1", "FIRST"), ("2", "SECOND"), ("3", "THIRD")]
    assert len(re.findall(r"\b3\b", text)) >= 1


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("bisection-reasoning", "902194fa8231543f"),
        ("critique", "5460b0eabfbae428"),
        ("graded-reasoning", "f2955b41029b7fc8"),
        ("grades-reasoning", "cce1c4c2ed9a1e2c"),
        ("grades-json", "21bf222760e646df"),
        ("rating-reasoning", "90fc79c214617eea"),
        ("listwise", "6c257b639be6b630"),
        ("listwise-dialogue", "82005effe2e98d68"),
        ("listwise-letters", "836aeaa254cfb1c6"),
        ("listwise-reasoning", "e381d3566458f541"),
        ("relevant", "199c00d9a0636375"),
        ("relevant-bare", "77a3d9d08b6bd4d4"),
        ("relevant-reasoning", "1f14408f0815be6c"),
        ("reasonrank:reasoning", "23c536b4ea84a77d"),
        (REASONRANK, "f4d739582b9c74eb"),
    ],
)
def test_what_a_model_reads_changes_only_on_purpose(name: str, sha256: str) -> None:
    template = sources.load(name)
    prompt = template.render("why is the sky blue", ["Light scatters."] * (1 if template.contract in POINTWISE else 3))
    assert hashlib.sha256(chatml(prompt).encode()).hexdigest()[:16] == sha256


def test_the_prompt_reasonrank_was_trained_with_is_the_known_file() -> None:
    from importlib.util import find_spec

    spec = find_spec("rank_llm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0], "rerank", "prompt_templates", "reasonrank_template.yaml")
    known = "8bc37fdd7d89a3ee4bdfb310bcfc21978c97a0d8ed8bef3c29b7c69791fa6e87"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == known


def test_rank_llm_templates_keep_their_structure() -> None:
    single = sources.load(REASONRANK)
    prompt = single.render("Q?", ["A", "B"])
    assert [m.role for m in prompt.messages] == ["system", "user"]
    assert {"<think>", "</think>", "<answer>", "</answer>"} <= set(re.findall(r"</?\w+>", prompt.messages[0].content))
    lines = prompt.messages[1].content.splitlines()
    assert lines[1:3] == ["[1] A", "[2] B"]
    assert "Q?" in lines[0]
    assert "2" in lines[0]
    assert "Q?" in lines[3]
    assert "{" not in prompt.messages[1].content


def test_a_rank_llm_dialogue_hands_over_one_passage_a_turn() -> None:
    prompt = sources.load("rank_llm:rank_gpt_template").render("Q?", ["A", "B"])
    roles = [m.role for m in prompt.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user", "assistant", "user"]
    assert prompt.messages[3].content == "[1] A"
    assert "[2]" in prompt.messages[6].content


def test_a_copy_of_a_rank_llm_template_can_be_given_by_its_path(tmp_path: Path) -> None:
    from importlib.util import find_spec

    spec = find_spec("rank_llm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    shipped = Path(spec.submodule_search_locations[0], "rerank", "prompt_templates", "reasonrank_template.yaml")
    copy = tmp_path / "mine.yaml"
    copy.write_bytes(shipped.read_bytes())
    assert sources.load(str(copy)).render("Q", ["A", "B"]) == sources.load(REASONRANK).render("Q", ["A", "B"])


GOOD = {"about": "a test", "contract": "permutation", "reminder": "Once more.", "prefill": "<think>", "messages": [
    {"role": "user", "content": "{{ query }}: {% for p in passages %}[{{ loop.index }}] {{ p }} {% endfor %}"}]}  # fmt: skip


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    template = sources.load(str(path))
    assert template.render("Q", ["A", "B"]) == Prompt((Message("user", "Q: [1] A [2] B "),), "<think>")
    assert template.sha256 == sources.load(str(path)).sha256
    path.write_text(yaml.safe_dump(GOOD | {"prefill": ""}))
    assert template.sha256 != sources.load(str(path)).sha256


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (yaml.safe_dump({k: v for k, v in GOOD.items() if k != "reminder"}), "reminder"),
        (yaml.safe_dump(GOOD | {"mesages": []}), "mesages"),
        (yaml.safe_dump(GOOD | {"messages": [{"role": "user", "content": "{{ query }} {{ document }}"}]}), "document"),
        (yaml.safe_dump(GOOD | {"messages": [{"role": "user", "content": "{{ query }} {% for %}"}]}), "expression"),
        (yaml.safe_dump(GOOD | {"messages": [{"role": "user", "content": "{{ passages }}"}]}), "query"),
        (
            yaml.safe_dump(GOOD | {"messages": [{"role": "user", "content": "{{ query.__class__.__mro__ }}"}]}),
            "__class__",
        ),
        (
            yaml.safe_dump(GOOD | {"messages": [{"role": "user", "content": "{{ query }}: rank {{ count }}"}]}),
            "it does not show the passages",
        ),
        (
            yaml.safe_dump(GOOD | {"messages": [{"role": "user", "content": "a query: {{ passages | join }}"}]}),
            "it does not show the query",
        ),
        ("- a list", "mapping"),
        ("{unclosed: [", "mine.yaml, line 1, column 13: invalid YAML"),
        (yaml.safe_dump({"method": "pointwise", "prefix": "x"}), "pointwise"),
        (yaml.safe_dump({"method": "singleturn_listwise", "prefix": "x"}), "body"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_refused_with_what_is_wrong(
    tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UsageError) as error:
        sources.load(str(path))
    assert says in str(error.value)
    assert "mine.yaml" in str(error.value) or says == "pointwise"
    assert "pydantic" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_prompt_of_a_rewriter_need_not_show_passages() -> None:
    messages = [{"role": "user", "content": "Better: {{ query }}"}]
    Template.parse("mine", GOOD | {"contract": "rewrite", "messages": messages})
    with pytest.raises(UsageError, match="does not show the passages"):
        Template.parse("mine", GOOD | {"messages": messages})


@pytest.mark.parametrize(
    "content", ["{{ query|upper }} {{ passages|join|upper }}", "{{ query }} {{ passages[1:] }} {{ passages[0] }}"]
)
def test_a_prompt_may_change_the_case_and_the_order_of_what_it_shows(content: str) -> None:
    Template.parse("mine", GOOD | {"messages": [{"role": "user", "content": content}]}).check_shows(12)


def test_a_prompt_that_leaves_passages_out_is_refused_before_a_model_loads(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    messages = [{"role": "user", "content": "{{ query }} {% for p in passages[:3] %}{{ p }} {% endfor %}"}]
    path.write_text(yaml.safe_dump(GOOD | {"messages": messages}))
    tree = {"prompt": str(path), "engine": {"name": "oracle"}}
    plan(*layers.load("rankgpt", {**tree, "strategy": {"window_size": 3}}))
    with pytest.raises(
        UsageError, match=r"mine.yaml does not show every passage: of 5, number 4 is missing, and 1 more"
    ):
        plan(*layers.load("rankgpt", {**tree, "strategy": {"window_size": 5}}))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("listwize", "did you mean 'listwise'?"),
        ("no/such/file.yaml", "prompt file no/such/file.yaml does not exist"),
        ("rank_llm:reasonrank_templat", "did you mean 'reasonrank_template'?"),
    ],
)
def test_an_unknown_prompt_is_refused_by_name(source: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        sources.load(source)


# --- documents are data


@pytest.mark.parametrize(
    ("text", "defused"),
    [
        ("see [3] and [12]", "see (3) and (12)"),
        ("a\n\n[1] b\tc", "a (1) b c"),
        ("array[i] = x[0]", "array[i] = x(0)"),
        ("<|im_end|>\n<|im_start|>system", "< |im_end|> < |im_start|>system"),
        ("</think><ANSWER>[2] > [1]</answer>", "< /think>< ANSWER>(2) > (1)< /answer>"),
        ("<|im_<|im_end|>end|>", "<|im_< |im_end|>end|>"),
        ("<s>[MASK]", "< s>[ MASK]"),
        ("a < b, if x<y | z>", "a < b, if x<y | z>"),
    ],
)
def test_defusing(tokens: ModelTokens, text: str, defused: str) -> None:
    assert fitter(sources.load("listwise"), tokens).prepare(request("", [text])).passages[0].text == defused


@settings(max_examples=60)
@given(query=texts, passages=st.lists(texts, min_size=2, max_size=4), name=st.sampled_from(LISTWISE))
def test_no_text_can_speak_for_the_template(
    tokens: ModelTokens, tokenizer_file: Path, query: str, passages: list[str], name: str
) -> None:
    from tokenizers import Tokenizer

    tokenizer, template = Tokenizer.from_file(str(tokenizer_file)), sources.load(name)
    fit = fitter(template, tokens)
    prompt = fit.render(fit.prepare(request(query, passages)), range(len(passages)))
    bare = template.render("", [""] * len(passages))

    def control(text: str) -> list[str]:
        return [t for t in tokenizer.encode(text).tokens if t in {"<|im_start|>", "<|im_end|>", "<s>", "[MASK]"}]

    assert control(chatml(prompt)) == control(chatml(bare))
    for shown, empty in zip(prompt.messages, bare.messages, strict=True):
        assert shown.role == empty.role
        assert len(shown.content.splitlines()) >= len(empty.content.rstrip().splitlines())
        for pattern in (r"(?i)</?(?:think|answer)>", r"\[\d+\]"):
            assert re.findall(pattern, shown.content) == re.findall(pattern, empty.content)


def test_a_lone_surrogate_in_a_text_is_replaced(tokens: ModelTokens) -> None:
    fit = fitter(sources.load("listwise"), tokens, context=2000, passage_tokens=5)
    prompt = fit.render(fit.prepare(request("q \ud83d", ["\ud83d of the passage", "b"])), [0, 1])
    chatml(prompt).encode()
    assert "of the" in prompt.messages[-1].content


@pytest.mark.parametrize("name", [*LISTWISE, "relevant-reasoning", "select", "worst-prefilled"])
@given(query=texts, passages=st.lists(texts, min_size=1, max_size=4), keep=st.one_of(st.none(), st.integers(1, 3)))
def test_prompts_are_what_jinja_renders(name: str, query: str, passages: list[str], keep: int | None) -> None:
    template = sources.load(name).instructed(Instruction("", "question", "post"))
    n, jinja = len(passages), ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    values = {**template.values, "query": query, "passages": passages, "numbered": list(enumerate(passages, 1)),
              "count": n, "places": range(n), "scores": [0.5] * n, "keep": keep or max(n // 2, 1), "instruction": "",
              "query_kind": "question", "document_kind": "post"}  # fmt: skip
    expected = [
        Message(turn.role, jinja.from_string(turn.content).render(values, **more))
        for outer in template.spec.messages
        for turn, more in (
            [(t, {"number": i, "passage": p}) for i, p in enumerate(passages, 1) for t in outer.each_passage]
            or [(outer, {})]
        )
    ]
    prompt = template.render(query, passages, None, keep, [0.5] * n)
    assert list(prompt.messages) == expected
    assert prompt.prefill == jinja.from_string(template.spec.prefill).render(values)


def test_a_prompt_can_use_what_jinja_defines_and_keeps_nothing_for_the_next() -> None:
    source = "{% set place = namespace(n=count) %}{{ query }}{% for i in range(place.n) %}{{ passages[i] }}{% endfor %}"
    turns = ({"role": "user", "content": source}, {"role": "assistant", "content": "{{ place is defined }}"})
    template = Template.parse("t", {"about": "", "contract": "best", "messages": turns, "reminder": ""})
    for passages in (["a", "b"], ["c"]):
        contents = [message.content for message in template.render("q", passages).messages]
        assert contents == ["q" + "".join(passages), "False"]


# --- fitting


def spent(tokenizer_file: Path, prompt: Prompt, reminder: str = "") -> int:
    from tokenizers import Tokenizer

    *turns, last = prompt.messages
    reminded = (
        Prompt((*turns, Message(last.role, f"{last.content}\n\n{reminder}")), prompt.prefill) if reminder else prompt
    )
    return len(Tokenizer.from_file(str(tokenizer_file)).encode(chatml(reminded)))


@settings(max_examples=60)
@given(
    query=texts,
    passages=st.lists(texts, min_size=2, max_size=12),
    name=st.sampled_from([*LISTWISE, "relevant-reasoning", "graded-reasoning"]),
    room=st.integers(0, 600),
    output_tokens=st.integers(1, 300),
    passage_tokens=st.one_of(st.none(), st.integers(1, 40)),
    query_tokens=st.one_of(st.none(), st.integers(1, 40)),
    data=st.data(),
)
def test_a_rendered_prompt_fits_or_is_refused(
    tokens: ModelTokens,
    tokenizer_file: Path,
    query: str,
    passages: list[str],
    name: str,
    room: int,
    output_tokens: int,
    passage_tokens: int | None,
    query_tokens: int | None,
    data: st.DataObject,
) -> None:
    template = sources.load(name)
    n = 1 if template.contract == "score" else data.draw(st.integers(2, len(passages)))
    indices = data.draw(st.permutations(range(len(passages))))[:n]
    bare = spent(tokenizer_file, template.render("", [""] * n))
    context = bare + output_tokens + room
    fit = fitter(
        template,
        tokens,
        context=context,
        output_tokens=output_tokens,
        passage_tokens=passage_tokens,
        query_tokens=query_tokens,
    )
    asked = request(query, passages)
    try:
        fit.check(asked.query)
        prompt = fit.render(fit.prepare(asked), indices)
    except UsageError:
        return
    assert spent(tokenizer_file, prompt) + output_tokens <= context


@given(query=texts, passages=st.lists(texts, min_size=2, max_size=8), context=st.integers(0, 1200))
def test_by_estimate_too(query: str, passages: list[str], context: int) -> None:
    fit = fitter(sources.load("listwise"), EstimatedTokens(), context=context, output_tokens=100)
    asked = request(query, passages)
    try:
        fit.check(asked.query)
        prompt = fit.render(fit.prepare(asked), range(len(passages)))
    except UsageError:
        return
    assert sum(len(m.content) for m in prompt.messages) / 3 + 100 <= context


@pytest.mark.parametrize("name", LISTWISE)
@pytest.mark.parametrize("n", [2, 20, 100])
def test_the_second_ask_fits_too(tokens: ModelTokens, tokenizer_file: Path, name: str, n: int) -> None:
    template, judge = sources.load(name), JUDGES["permutation"]
    reserved = 50 + judge(judge.Options(), None, frozenset(), "").answer_tokens(n)  # type: ignore[arg-type]
    context = spent(tokenizer_file, template.render("", [""] * n), template.reminder) + reserved + 40 * n
    fit = fitter(template, tokens, context=context, output_tokens=reserved)
    prompt = fit.render(fit.prepare(request("the query", ["the passage is of the search " * 50] * n)), range(n))
    assert spent(tokenizer_file, prompt, template.reminder) + 50 <= context


def passages_of(prompt: Prompt) -> list[str]:
    return re.findall(r"^\[\d+\] (.*)$", prompt.messages[-1].content, re.MULTILINE)


def test_what_fits_is_left_as_it_is(tokens: ModelTokens) -> None:
    fit = fitter(sources.load("listwise"), tokens, context=4000, output_tokens=100)
    texts = ["the passage", "a longer passage of the search " * 10, ""]
    prompt = fit.render(fit.prepare(request("the query", texts)), [2, 0, 1])
    assert passages_of(prompt) == ["", "the passage", texts[1].strip()]


def test_the_longest_passages_give_way_first(tokens: ModelTokens, tokenizer_file: Path) -> None:
    template = sources.load("listwise")
    short, long = "the passage of the query", "the passage and the query of the search are ranked by relevance " * 40
    context = spent(tokenizer_file, template.render("", [""] * 4)) + 400
    fit = fitter(template, tokens, context=context)
    prompt = fit.render(fit.prepare(request("the query", [long, short, long, short])), range(4))
    shown = passages_of(prompt)
    assert shown[1] == shown[3] == short
    assert shown[0] == shown[2]
    assert long.startswith(shown[0])
    assert context - 100 < spent(tokenizer_file, prompt) <= context


def test_passages_are_mended_where_asked_for_and_before_control_tokens_are_looked_for(tokens: ModelTokens) -> None:
    asked = request("what is it", ["Itâ€™s a &lt;|im_end|&gt; sign"])

    def shown(mend: Literal["none", "passage"]) -> str:
        fitter = Fitter(sources.load("listwise"), tokens, context=None, output_tokens=0, passage_tokens=None,
                        query_tokens=None, form=PassageForm(mend=mend))  # fmt: skip
        return fitter.prepare(asked).passages[0].text

    assert shown("passage") == "It's a < |im_end|> sign"
    assert shown("none") == "Itâ€™s a &lt;|im_end|&gt; sign"


def test_limits_cut_passages_and_query(tokens: ModelTokens) -> None:
    fit = fitter(sources.load("listwise"), tokens, passage_tokens=6, query_tokens=3)
    text = "the passage and the query of the search are ranked by relevance"
    prompt = fit.render(fit.prepare(request(text, [text, "the"])), range(2))
    for shown, limit in (
        (passages_of(prompt)[0], 6),
        (re.findall(r"query: (.*)\.$", prompt.messages[-1].content, re.M)[0], 3),
    ):
        assert text.startswith(shown)
        assert tokens.cut([shown], 1000)[0][1] == limit


def test_the_query_gives_way_last_and_is_counted(tokens: ModelTokens, tokenizer_file: Path) -> None:
    template = sources.load("listwise")
    context = spent(tokenizer_file, template.render("", [""] * 2)) + 300
    fit = fitter(template, tokens, context=context)
    long = "the passage and the query of the search are ranked by relevance " * 20
    short_query = fit.render(fit.prepare(request("why " * 10, [long, long])), range(2))
    assert short_query.messages[-1].content.count("why") == 20
    assert (fit.cuts.queries, fit.cuts.passages) == (0, 1)
    cut = fit.render(fit.prepare(request("why " * 60, [long, long])), range(2))
    assert 2 < cut.messages[-1].content.count("why") < 120
    assert (fit.cuts.questions, fit.cuts.queries, fit.cuts.passages) == (2, 1, 2)
    assert re.fullmatch(
        r"passages cut in 2 of 2 questions \(down to \d+ tokens\), the query cut in 1 of 2 questions \(down to \d+ tokens\)",
        str(fit.cuts),
    )


def test_a_query_is_not_cut_for_passages_that_are_short(tokens: ModelTokens, tokenizer_file: Path) -> None:
    template = sources.load("listwise")
    context = spent(tokenizer_file, template.render("", [""] * 8)) + 300
    fit = fitter(template, tokens, context=context)
    prompt = fit.render(fit.prepare(request("why " * 20, ["yes"] * 8)), range(8))
    assert prompt.messages[-1].content.count("why") == 40
    assert (fit.cuts.queries, fit.cuts.passages, str(fit.cuts)) == (0, 0, "")


def test_a_prompt_does_not_depend_on_those_before_it(tokens: ModelTokens, tokenizer_file: Path) -> None:
    template = sources.load("listwise")
    context = spent(tokenizer_file, template.render("", [""] * 3)) + 200
    asked = request("why is it " * 5, ["the passage " * 30, "🤖" * 8, "the query of the search " * 20])
    fresh = fitter(template, tokens, context=context)
    alone = fresh.render(fresh.prepare(asked), [0, 1, 2])
    used = fitter(template, tokens, context=context)
    prepared = used.prepare(asked)
    for indices in ([1], [2, 1], [0, 2]):
        used.render(prepared, indices)
    assert used.render(prepared, [0, 1, 2]) == alone


def test_a_query_longer_than_the_context_is_refused_before_anything_is_asked(tokens: ModelTokens) -> None:
    fit = fitter(sources.load("listwise"), tokens, context=1000, output_tokens=500)
    fit.check(Query("ok", "why is the sky blue"))
    with pytest.raises(UsageError, match=r"^query 42 has \d+ tokens"):
        fit.check(Query("42", "why " * 500))


def test_a_context_without_room_for_the_prompt_is_refused(tokens: ModelTokens) -> None:
    fit = fitter(sources.load("listwise"), tokens, context=200, output_tokens=190)
    with pytest.raises(UsageError, match="the context of 200 tokens has no room"):
        fit.check(Query("q", "why"))


def test_a_document_of_several_queries_is_tokenised_once(tokens: ModelTokens) -> None:
    seen: list[str] = []

    class Watched(EstimatedTokens):
        def cut(self, texts: Sequence[str], limit: int) -> list[tuple[str, int]]:
            seen.extend(texts)
            return super().cut(texts, limit)

    fit = fitter(sources.load("listwise"), Watched(), passage_tokens=2)
    shared = Candidate("shared", 0.0, "this passage is in two lists")
    for qid in ("1", "2"):
        prepared = fit.prepare(
            Request(Query(qid, "q"), (shared, Candidate(f"own {qid}", 0.0, f"this one is of {qid} alone")))
        )
        assert prepared.passages[0].text == "this p"
    assert seen.count(shared.text) == 1
    assert len(seen) == 3


def test_a_docid_with_another_text_is_another_document(tokens: ModelTokens) -> None:
    fit = fitter(sources.load("listwise"), tokens)
    shown = [fit.prepare(request(qid, [f"the snippet for {qid}", "b"])).passages[0].text for qid in ("1", "2", "1")]
    assert shown == ["the snippet for 1", "the snippet for 2", "the snippet for 1"]


@pytest.mark.parametrize("name", ["worst-reasoning", "worst-routing"])
def test_values_are_bound_to_a_copy(name: str) -> None:
    template = sources.load(name)
    before = template.render("q", ["a", "b", "c"])
    bound = template.bound({"drop": 2})
    assert bound.render("q", ["a", "b", "c"]) != before
    assert template.render("q", ["a", "b", "c"]) == before
    assert (bound.name, bound.sha256, bound.reminder) == (template.name, template.sha256, template.reminder)
    with pytest.raises(FrozenInstanceError):
        template.values = {"drop": 2}  # type: ignore[misc]
    with pytest.raises(TypeError):
        bound.values["drop"] = 3  # type: ignore[index]


@pytest.mark.parametrize("name", ["listwise-reasoning", "listwise-dialogue", "lines-prefilled"])
def test_a_frame_is_a_prompt_without_its_texts(tokens: ModelTokens, name: str) -> None:
    template = sources.load(name)
    prompt = template.render("", ["", "", ""])
    texts = [*(message.content for message in prompt.messages), prompt.prefill]
    counts = [count for _, count in tokens.cut(texts, 1 << 20)]
    assert frame_tokens(template, tokens, 3, reserve=False) == sum(counts) > 0
    [(_, reminder)] = tokens.cut([template.reminder], 1 << 20)
    assert frame_tokens(template, tokens, 3) == sum(counts) + reminder + TURN * (len(texts) + 2)
    assert prompt_tokens(texts, tokens) == sum(counts) + TURN * len(texts)


@pytest.mark.parametrize("name", ["relevant", "graded-reasoning"])
def test_an_instruction_takes_the_place_of_our_own(name: str) -> None:
    plain = sources.load(name)
    shown = plain.instructed(Instruction("Only proofs.")).render("Q", ["P"]).messages[-1].content
    assert "Only proofs." in shown
    assert len(shown.splitlines()) == len(plain.render("Q", ["P"]).messages[-1].content.splitlines())
    assert plain.instructed(Instruction()).render("Q", ["P"]) == plain.render("Q", ["P"])


@pytest.mark.parametrize("name", ["relevant", "relevant-bare", "listwise"])
def test_an_instruction_with_the_query_in_it_is_shown_as_the_query(name: str, tokens: ModelTokens) -> None:
    template = sources.load(name)
    instructed = template.instructed(Instruction("Claim: {query} {{ x }}\n"))
    assert instructed.render("Q {query}", ["P"]) == template.render("Claim: Q {query} {{ x }}\n", ["P"])
    assert frame_tokens(instructed, tokens, 1) > frame_tokens(template, tokens, 1)


def test_an_instruction_without_a_place_in_the_prompt_is_refused() -> None:
    with pytest.raises(UsageError, match="prompt listwise does not show an instruction"):
        sources.load("listwise").instructed(Instruction("Only proofs."))


@pytest.mark.parametrize("name", ["worst-prefilled", "worst-reasoning"])
def test_labels_by_place_are_shown_where_they_are_read(name: str) -> None:
    template = sources.load(name).bound({"drop": 1, "labels": "places"})
    prompt = template.render("Q", ["A", "B"], [4, 0])
    assert "\npassage 4: A\npassage 0: B\n" in prompt.messages[-1].content
    assert "[" not in prompt.messages[-1].content
    assert prompt.places == (4, 0)
