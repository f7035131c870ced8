"""Passage forms: each key, and the forms of RankLLM's checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError, validated
from pyserini_reasonrank.ir.documents import read_document
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.prompts.passage_form import PassageForm
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.prompts.tokens import EstimatedTokens, Tokens
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.settings.schema import Settings

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TITLED = {"title": "T", "text": "X\n  y", "url": "U"}


def form_of(model: str, **more: Any) -> PassageForm:
    return validated(PassageForm, known_models()[model].settings["passage"] | more, "passage")


def candidate(record: dict[str, Any]) -> Candidate:
    document = read_document(record)
    assert document is not None
    return Candidate("d", 0.0, document.text, document.fields)


def fitter(form: PassageForm, tokens: Tokens, template: Template | None = None, **limits: int) -> Fitter:
    limit = {"passage_tokens": None, "query_tokens": None} | limits
    return Fitter(template or sources.load("listwise"), tokens, context=None, output_tokens=0, form=form, **limit)


@pytest.mark.parametrize("model", ["rank-zephyr-7b", "rank-vicuna-7b", "first-mistral-7b", "first-zephyr-7b"])
def test_rankllms_checkpoints_see_title_and_300_words(model: str) -> None:
    shown = form_of(model).passage(candidate({"id": "1", "title": "A title", "text": "one\ntwo " * 300}))
    assert shown.split() == ["Title:", "A", "title", "Content:", *["one", "two"] * 148]
    assert shown == " ".join(shown.split())
    assert known_models()[model].settings["passage_tokens"] is None


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ({}, "T. X y"),
        ({"whitespace": "keep"}, "T. X\n  y"),
        ({"template": "{{ url }}|{{ text }}", "whitespace": "keep"}, "U|X\n  y"),
        ({"template": "{{ missing }}{{ text }}"}, "X y"),
        ({"whitespace": "newlines"}, "T. X   y"),
        ({"whitespace": "newlines", "characters": 5}, "T. X "),
        ({"words": 2, "whitespace": "keep"}, "T. X"),
        ({"characters": 5, "whitespace": "keep"}, "T. X\n"),
        ({"words": 9, "characters": 99}, "T. X y"),
        ({"template": "it’s &amp;", "mend": "none"}, "it’s &amp;"),
        ({"template": "it’s &amp;", "mend": "passage"}, "it's &"),
        ({"template": "it’s &amp;", "mend": "whole"}, "it's &amp;"),
    ],
)
def test_each_key_of_a_form(form: dict[str, Any], shown: str) -> None:
    assert PassageForm(**form).passage(candidate(TITLED)) == shown


def test_a_text_without_fields_is_the_field_text() -> None:
    form = form_of("reasonrank-7b")
    assert form.passage(Candidate("d", 0.0, " code:\n  x ")) == "code:\n  x"


def test_a_template_that_shows_nothing_of_a_document_is_rejected() -> None:
    with pytest.raises(UsageError, match="shows nothing of document d, which has the fields title, text, url"):
        PassageForm(template="{{ contents }}").passage(candidate(TITLED))


def test_a_template_that_is_not_jinja_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"--rerank.passage.template .*is not a Jinja template"):
        validated(Settings, {"passage": {"template": "{% if %}"}}, "--rerank")


def test_code_keeps_its_lines_and_indices_where_the_form_says_so() -> None:
    code = "def top(xs):\n    if xs[0] > xs[1]:\n        return xs[0]\n"
    asked = Request(Query("q", code), (Candidate("c", 0.0, code),))
    fit = fitter(PassageForm(whitespace="keep", defuse="none"), EstimatedTokens())
    prepared = fit.prepare(asked)
    assert (prepared.query.text, prepared.passages[0].text) == (code, code)


def test_documents_with_the_same_text_and_other_fields_are_prepared_separately() -> None:
    documents = [{"contents": "T. X", "title": "T", "text": text} for text in ("X", "Y")]
    fit = fitter(PassageForm(template="{{ text }}"), EstimatedTokens())
    for record, shown in zip(documents, "XY", strict=True):
        asked = Request(Query("q", ""), (candidate(record),))
        assert fit.prepare(asked).passages[0].text == shown


@given(st.text(), st.integers(1, 9))
def test_words_are_the_first_words_of_the_text(text: str, words: int) -> None:
    kept = PassageForm(whitespace="keep", words=words).passage(Candidate("d", 0.0, text))
    assert kept.split() == text.split()[:words]
    assert text.startswith(kept)


def test_letters_in_brackets_are_defused_where_letters_are_the_identifiers() -> None:
    asked = Request(Query("q", "see [A]"), (Candidate("c", 0.0, "[B] of [3] <think>"),))
    prepared = fitter(PassageForm(defuse="letters"), EstimatedTokens()).prepare(asked)
    assert (prepared.query.text, prepared.passages[0].text) == ("see (A)", "(B) of [3] <think>")
