"""The page in Chromium: it draws itself, the keyboard works, it fits the screen, and nothing from the data is executed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reported import HOSTILE, answered, requests, write_collection

from pyserini_reasonrank.__main__ import main

sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the program chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(reasoned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    words = ["--qrels", "qrels.txt", "--corpus", "corpus.jsonl"]
    words = [str(reasoned / word) if "." in word else word for word in words]
    assert main(["report", str(reasoned / "run.txt"), *words, "--output", str(path)]) == 0
    return path


def opened(browser: Any, path: Path, address: str = "", **options: Any) -> Any:
    """A new tab with the page, drawn; ``errors`` of the tab collects what its script reports."""
    tab = browser.new_page(**options)
    tab.errors = []
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.on("console", lambda message: message.type == "error" and tab.errors.append(message.text))
    tab.goto(f"{path.as_uri()}{address}")
    tab.wait_for_selector("main[data-drawn]")
    return tab


def drawn(tab: Any, qid: str) -> None:
    """Wait until the query ``qid`` is drawn; "" is the overview."""
    tab.wait_for_selector(f"main[data-drawn={json.dumps(qid)}]")


def test_a_reader_finds_scores_queries_lists_and_calls(browser: Any, report: Path) -> None:
    tab = opened(browser, report)
    assert tab.locator("#scores tbody tr").count() == 2
    assert tab.locator("#queries tbody tr").count() == 3
    assert tab.locator("#calls .figures").inner_text().split()[:2] == ["judgements", "3"]
    tab.locator("#search").fill("topic 1")
    assert tab.locator("#queries tbody th").all_inner_texts() == ["q1"]
    tab.locator("#search").fill("")
    tab.locator("#queries a", has_text="q0").click()
    drawn(tab, "q0")
    assert tab.locator(".list.left .docid").first.inner_text() == "q0-d0"
    row = tab.locator(".list.right .document").first
    assert row.locator(".docid").inner_text() == "q0-d11"
    assert row.locator(".move").inner_text() == "▲11"
    assert "Passage 11 is about topic 0." in row.inner_text()
    assert tab.locator("#moves path.line").count() == 12
    tab.locator("details.call > summary").click()
    tab.locator(".reasoning button", has_text="[3]").click()
    assert "Passage 2 is about topic 0." in tab.locator("#card").inner_text()
    assert tab.locator(".document.on .docid").all_inner_texts() == ["q0-d2", "q0-d2"]
    tab.go_back()
    drawn(tab, "")
    assert tab.errors == []
    tab.close()


def test_the_keyboard_reaches_everything(browser: Any, report: Path) -> None:
    tab = opened(browser, report)
    for key in "jj":
        tab.keyboard.press(key)
    second = tab.evaluate("document.activeElement.textContent")
    tab.keyboard.press("Enter")
    drawn(tab, second)
    tab.keyboard.press("n")
    tab.wait_for_function(f"document.getElementById('main').dataset.drawn !== {json.dumps(second)}")
    tab.keyboard.press("p")
    drawn(tab, second)
    tab.keyboard.press("j")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert tab.locator(".list.right .document.on .rank").inner_text() == "2"
    tab.keyboard.press("Escape")
    drawn(tab, "")
    tab.keyboard.press("/")
    tab.keyboard.type("topic 2?")  # no shortcut while a field is written
    assert tab.locator("#search").input_value() == "topic 2?"
    assert not tab.evaluate("document.getElementById('keys').open")
    tab.keyboard.press("Escape")
    tab.keyboard.press("?")
    assert tab.evaluate("document.getElementById('keys').open")
    assert tab.errors == []
    tab.close()


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_the_page_fits_the_screen(browser: Any, report: Path, width: int) -> None:
    tab = opened(browser, report, viewport={"width": width, "height": 900})
    for address, name in (("#/", ""), ("#/q/q0", "q0")):
        tab.evaluate(f"location.hash = {json.dumps(address)}")
        drawn(tab, name)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator(".list.left").is_visible() == (width > 720)
    tab.close()


def test_the_colours_are_those_of_the_system_until_the_reader_chooses(browser: Any, report: Path) -> None:
    def background(tab: Any) -> str:
        return str(tab.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = (opened(browser, report, color_scheme=scheme) for scheme in ("light", "dark"))
    of_light, of_dark = background(light), background(dark)
    assert of_light != of_dark
    light.keyboard.press("t")
    assert background(light) == of_light
    light.keyboard.press("t")
    assert background(light) == of_dark
    light.emulate_media(media="print")
    assert background(light) == "rgb(255, 255, 255)"
    light.close()
    dark.close()


def test_nothing_from_the_data_is_executed(browser: Any, tmp_path: Path) -> None:
    hostile = requests(2, 3, HOSTILE)
    write_collection(tmp_path, hostile)
    for name in ("topics.jsonl", "corpus.jsonl", "first.txt", "qrels.txt"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("q0", "q0<img/src=x/onerror=hacked=3>"), encoding="utf-8")
    qid = "q0<img/src=x/onerror=hacked=3>"
    answered(
        tmp_path,
        {(qid, 0): f"<think>[1] {HOSTILE}</think><answer>[2] > [1] > [3]</answer>{HOSTILE}", ("q1", 0): HOSTILE},
    )
    words = ["--qrels", str(tmp_path / "qrels.txt"), "--corpus", str(tmp_path / "corpus.jsonl")]
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "run.txt"), *words, "--output", str(page)]) == 0
    tab = opened(browser, page)
    assert "<img src=x" in tab.locator("#queries").inner_text()
    tab.locator("#queries a").first.click()
    tab.wait_for_selector("#lists")
    for summary in tab.locator("details > summary").all():
        summary.click()
    shown = tab.locator("main").inner_text()
    assert shown.count("window.hacked = 1") > 6
    assert tab.evaluate("document.querySelectorAll('img').length") == 0
    assert tab.evaluate("window.hacked") is None
    assert tab.errors == []
    # the policy is a second wall: the page itself could neither parse markup nor add a handler
    for attempt, refused in (
        ("document.body.innerHTML = '<p>'", "TrustedHTML"),
        ("document.createElement('img').setAttribute('onerror', 'window.hacked = 4')", "TrustedScript"),
    ):
        with pytest.raises(sync_api.Error, match=refused):
            tab.evaluate(attempt)
    tab.close()


def test_queries_without_details_say_so(browser: Any, reasoned: Path, tmp_path: Path) -> None:
    page = tmp_path / "small.html"
    assert main(["report", str(reasoned / "run.txt"), "--megabytes", "0.0001", "--output", str(page)]) == 0
    tab = opened(browser, page, "#/q/q1")
    assert "The page has figures only for this query" in tab.locator("main").inner_text()
    tab.close()
