"""The file: what it contains can't end an element or load anything, and it is written only where it may be."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from reported import HOSTILE

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.report.page import SCRIPTS, embedded_json, page
from pyserini_reasonrank.report.page_data import PageData

DATA = PageData({"queries": [HOSTILE], "lists": []}, {HOSTILE: "aGk="})


def elements(text: str) -> list[str]:
    """The beginnings of all elements that a parser finds, with their attributes."""
    outside = re.sub(r"(<(script|style)\b[^>]*>).*?</\2>", r"\1", text, flags=re.DOTALL)
    return re.findall(r"<[a-z!][^>]*>", outside)


def test_data_can_not_end_its_element() -> None:
    text = embedded_json({"text": HOSTILE})
    assert not {"<", ">", "&"} & set(text)
    assert json.loads(text) == {"text": HOSTILE}


def test_halves_of_characters_and_infinities_are_not_written() -> None:
    assert embedded_json(["\ud800"]) == '["?"]'
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json([float("nan")])


def test_hostile_names_add_no_element() -> None:
    harmless = PageData({"queries": ["a"], "lists": []}, {"a": "aGk="})
    hostile, plain = ("".join(page(data, title)) for data, title in ((DATA, HOSTILE), (harmless, "a")))
    assert elements(hostile) == elements(plain)


def test_only_the_style_and_the_script_of_the_page_are_allowed() -> None:
    text = "".join(page(DATA, "a page"))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert not re.findall(r"""\b(?:src|href)=["'](?!#)""", "".join(elements(text)))


def test_the_script_parses_no_markup() -> None:
    assets = Path(__file__).parents[2] / "pyserini_reasonrank" / "report" / "assets"
    script = "".join((assets / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    assert {path.stem for path in assets.glob("*.js")} == set(SCRIPTS)
    banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|https?://(?!www\.w3\.org/2000/svg)"
    assert not re.findall(banned, script)


def test_the_same_inputs_give_the_same_page() -> None:
    assert list(page(DATA, "a page")) == list(page(DATA, "a page"))


def test_a_page_is_replaced_and_another_file_is_not(reasoned: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    words = ["report", str(reasoned / "run.txt"), "--output", str(path)]
    assert main(words) == 0
    assert main(words) == 0
    path.write_text("my notes")
    assert main(words) == 2
    assert path.read_text() == "my notes"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--output", "RUN"], "is an input of this command; name another file"),
        (["--output", "FOLDER"], "is a folder; name the page itself"),
        (["--output", "FOLDER/none/page.html"], "none does not exist"),
        (["--output", "FOLDER/p.html", "--corpus", "a", "--index", "b"], "--corpus and --index can't both be given"),
        (["--output", "FOLDER/p.html", "--journal", "a", "--journal", "b"], "--journal names 2 journals for 1 runs"),
        (["--output", "FOLDER/p.html", "--depth", "0"], "--depth: 0 is not a number above 0"),
        (["--output", "FOLDER/p.html", "--qrels", "FOLDER/none.txt"], "none.txt does not exist"),
        (["--output", "FOLDER/p.html", "--journal", "FOLDER/none.sqlite"], "none.sqlite does not exist"),
    ],
)
def test_unusable_words_are_one_sentence(
    reasoned: Path, words: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("RUN", str(reasoned / "run.txt")).replace("FOLDER", str(reasoned)) for word in words]
    assert main(["report", str(reasoned / "run.txt"), *given]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert error in printed


def test_runs_may_follow_the_measures(reasoned: Path, tmp_path: Path) -> None:
    words = ["--qrels", str(reasoned / "qrels.txt"), "--output", str(tmp_path / "p.html"), "--measures", "ndcg@5", "RR"]
    assert main(["report", *words, str(reasoned / "run.txt")]) == 0
    assert '"measures":["nDCG@5","MRR"]' in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_the_command_names_the_page_and_what_is_missing(
    reasoned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(reasoned / "run.txt"), "--output", str(tmp_path / "page.html")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "queries   3, 3 of them with lists and calls"
    assert lines[1] == "note      The passages are not shown: pass --corpus or --index."
    assert lines[2].startswith(f"page      {tmp_path / 'page.html'} (")
