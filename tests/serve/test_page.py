"""The page /docs: no other server is needed, the policy for browsers is strict, and a real browser shows and tries it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Collection
from test_app import serving

from pyserini_reasonrank import Reranker
from pyserini_reasonrank.serve.app import create_app
from pyserini_reasonrank.serve.page import POLICY
from pyserini_reasonrank.serve.service import Service

FILES = {"/docs": "text/html", "/docs/page.css": "text/css", "/docs/page.js": "text/javascript"}
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def url(collection: Collection) -> Iterator[str]:
    oracle = {"name": "oracle", "qrels": str(collection.qrels)}
    with (
        Reranker("reasonrank", engine=oracle) as reranker,
        serving(create_app(Service({"reasonrank": reranker}))) as it,
    ):
        yield it


@pytest.mark.parametrize("path", FILES)
def test_files_name_no_other_server_and_have_the_policy(url: str, path: str) -> None:
    response = httpx.get(f"{url}{path}")
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == FILES[path]
    assert response.headers["content-security-policy"] == POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "//" not in re.sub(r"/\*\*.*\*/", "", response.text)
    assert "innerHTML" not in response.text  # what the description says is shown as text


def test_the_page_names_only_files_that_exist(url: str) -> None:
    text = httpx.get(f"{url}/docs").text
    named = re.findall(r'(?:src|href)="([^":]+)"', text)
    assert {"docs/page.css", "docs/page.js", "openapi.json"} == set(named)
    assert "<style" not in text
    assert not re.search(r"<script[^>]*>[^<]", text)
    for name in named:
        assert httpx.get(f"{url}/{name}").status_code == 200


def test_the_policy_allows_nothing_from_elsewhere() -> None:
    assert POLICY.startswith("default-src 'none'")
    assert "unsafe" not in POLICY
    assert not re.search(r"https?:|\*", POLICY)


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect"])
def test_pages_that_load_scripts_from_elsewhere_are_not_served(url: str, path: str) -> None:
    assert httpx.get(f"{url}{path}").status_code == 404


def test_a_browser_without_a_network_shows_and_tries_the_api(url: str) -> None:
    """REASONRANK_SHOTS names a folder for a picture of the page."""
    library = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    elsewhere, said = [], []

    def only_here(route: Any) -> None:
        if route.request.url.startswith(url):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    with library.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.route("**/*", only_here)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{url}/docs")
        page.wait_for_selector("details")
        shown = page.locator("summary code").all_text_contents()
        paths = httpx.get(f"{url}/openapi.json").json()["paths"]
        assert shown == [path for path, methods in paths.items() for _ in methods]
        first = page.locator("details").first
        first.locator("summary").click()
        first.get_by_role("button").click()
        first.locator("pre", has_text="200").wait_for()
        answer = first.locator("pre").text_content()
        assert '"relevance_score": 1' in answer
        if folder := os.environ.get("REASONRANK_SHOTS"):
            Path(folder).mkdir(exist_ok=True)
            page.screenshot(path=f"{folder}/openapi.png", full_page=True)
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert (elsewhere, said) == ([], [])
