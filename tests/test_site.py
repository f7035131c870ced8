"""The documentation site: its navigation has every page, its links lead somewhere, and `make docs` builds it without a warning."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from conftest import ROOT

pytest.importorskip("mkdocs", reason="the site needs the packages of the extra docs")
pytest.importorskip("material", reason="the site needs the packages of the extra docs")
pytest.importorskip("mkdocstrings_handlers.python", reason="the site needs the packages of the extra docs")

DOCS = ROOT / "docs"
REPOSITORY = "https://github.com/pyserini-reasonrank/pyserini_reasonrank"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / ".site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Config:
    """The part of mkdocs' configuration that the hooks read."""

    docs_dir = str(DOCS)
    repo_url = REPOSITORY
    nav: list[Any]


def pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for item in nav for page in pages(list(item.values()) if isinstance(item, dict) else item)]


def test_the_navigation_has_every_page_once(hooks: ModuleType) -> None:
    nav = hooks.on_config(Config()).nav
    found = pages(nav)
    own = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert len(found) == len(set(found))
    assert {page for page in found if page.startswith("reference/")} == {*map(hooks._reference, hooks.REFERENCE)}
    assert {*found} - {page for page in found if page.startswith("reference/")} == own | {*hooks.OF_THE_ROOT.values()}


@pytest.mark.parametrize(
    ("page", "text", "led"),
    [
        ("usage-models.md", "[x](../conf/models.yaml)", f"[x]({REPOSITORY}/blob/main/conf/models.yaml)"),
        ("README.md", "[x](../README.md#install)", "[x](overview.md#install)"),
        ("rerankers/upr.md", "[x](../usage-fusion.md#measured)", "[x](../usage-fusion.md#measured)"),
        ("rerankers/upr.md", "[x](../../CHANGELOG.md)", "[x](../changelog.md)"),
        ("overview.md", "[x](docs/usage-search.md)", "[x](usage-search.md)"),
        ("overview.md", "![x](docs/embedded-results.svg)", "![x](embedded-results.svg)"),
        ("overview.md", '<img src="docs/embedded-curve.svg">', '<img src="embedded-curve.svg">'),
        ("contributing.md", "[x](docs/Dockerfile)", f"[x]({REPOSITORY}/blob/main/docs/Dockerfile)"),
        ("changelog.md", "[x](https://a.org/b.md) [y](#z)", "[x](https://a.org/b.md) [y](#z)"),
        ("usage-models.md", "[x](../conf/none.yaml)", "[x](../conf/none.yaml)"),
    ],
)
def test_links_of_the_pages_lead_to_pages_or_to_the_repository(
    hooks: ModuleType, page: str, text: str, led: str
) -> None:
    class File:
        src_uri = page

    class Page:
        file = File

    assert hooks.on_page_markdown(text, Page, Config, None) == led


def test_the_reference_documents_names_that_exist(hooks: ModuleType) -> None:
    for _, names in hooks.REFERENCE.values():
        for name in names:
            module, _, attribute = name.rpartition(".") if name.rsplit(".", 1)[1][0].isupper() else (name, "", "")
            path = ROOT / module.replace(".", "/")
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            assert re.search(rf"^class {attribute}\b", source.read_text(), re.MULTILINE) or not attribute, name


@pytest.mark.soak_only
def test_the_site_builds_without_a_warning_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text().split("markdown_extensions")[0])["strict"] is True
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    texts = {
        path.resolve(): path.read_text() for path in (tmp_path / "site").rglob("*.html") if path.name != "404.html"
    }
    ids = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    for path, text in texts.items():
        for link in map(html.unescape, re.findall(r'\b(?:href|src)="([^"]*)"', text)):
            if not re.match(r"\w+:|//", link):
                name, _, anchor = map(unquote, link.partition("#"))
                target = (path.parent / name).resolve() if name else path
                assert target.exists(), (path, link)
                assert not anchor or target not in ids or anchor in ids[target] | {"__skip"}, (path, link)
