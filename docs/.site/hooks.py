"""What the site has beside the files of docs/: its navigation, pages from the root of the repository, and the API reference.

The navigation is that of docs/README.md. The pages of docs/ are written for GitHub: their links to files outside docs/ lead to
the page made from that file, or else to the repository.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
BRANCH = "blob/main"

OF_THE_ROOT = {"README.md": "overview.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""The files of the root that are pages, and the names of the pages."""

FOLDERS = {"rerankers.md": ("Each reranker", "rerankers"), "usage-2cr.md": ("Each matrix", "2cr")}
"""The pages of the index that are followed by the pages of a folder: its title and its name."""

REFERENCE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Python API": (
        "`Reranker`, `Rewriter` and their results. [Python](../usage-python.md) has examples.",
        (
            "pyserini_reasonrank.api.reranker.Reranker",
            "pyserini_reasonrank.api.rewriter.Rewriter",
            "pyserini_reasonrank.results",
            "pyserini_reasonrank.errors.UsageError",
            "pyserini_reasonrank.errors.Failure",
        ),
    ),
    "Data classes": (
        "The classes that engines, judges, strategies and the journal share.",
        ("pyserini_reasonrank.records",),
    ),
    "Parts": (
        "What engines, judges and strategies of another package implement. [Parts of your own](../extend.md) has examples.",
        (
            "pyserini_reasonrank.engines.Engine",
            "pyserini_reasonrank.engines.EngineOptions",
            "pyserini_reasonrank.judges.Judge",
            "pyserini_reasonrank.strategies.protocols",
            "pyserini_reasonrank.plugins",
        ),
    ),
    "Integrations": (
        "[PyTerrier](../usage-pyterrier.md), [MTEB](../usage-mteb.md), "
        "[LangChain and LlamaIndex](../usage-python.md#langchain-and-llamaindex).",
        (
            "pyserini_reasonrank.integrations.pyterrier",
            "pyserini_reasonrank.integrations.mteb",
            "pyserini_reasonrank.integrations.langchain",
            "pyserini_reasonrank.integrations.llama_index",
        ),
    ),
    "Files": (
        "Readers of runs, topics, qrels and journals, and the file of `trace pack`.",
        (
            "pyserini_reasonrank.ir.runs",
            "pyserini_reasonrank.ir.topics",
            "pyserini_reasonrank.ir.qrels",
            "pyserini_reasonrank.ir.packed_answers",
            "pyserini_reasonrank.journal",
        ),
    ),
}
"""The pages of the API reference: introduction, and the names that are documented."""

_LINK = re.compile(r"(\]\(|\bsrc=\"|\bsrcset=\"|\bhref=\")(?!\w+:|#)([^)\s\"#]+)")
_SECTION = re.compile(r"^\*\*(.+)\*\*$|^- \[([^]]+)\]\(([^)]+)\)", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation: the sections of docs/README.md, the pages of rerankers, the reference, the project."""
    sections: list[tuple[str, list[Any]]] = []
    for title, name, target in _SECTION.findall(Path(config.docs_dir, "README.md").read_text(encoding="utf-8")):
        if title:
            sections.append((title, []))
            continue
        page = _page_of(posixpath.normpath(posixpath.join("docs", target)))
        if page is None:
            raise PluginError(f"docs/README.md: {target} is not a page")
        sections[-1][1].append({name: page})
        if page in FOLDERS:
            about, folder = FOLDERS[page]
            paths = sorted(Path(config.docs_dir, folder).glob("*.md"))
            sections[-1][1].append({about: [{path.stem: f"{folder}/{path.name}"} for path in paths]})
    sections.append(("Reference", [{title: _reference(title)} for title in REFERENCE]))
    sections.append(
        ("Project", [{"Changes": OF_THE_ROOT["CHANGELOG.md"]}, {"Contributing": OF_THE_ROOT["CONTRIBUTING.md"]}])
    )
    config.nav = [{"Documentation": "README.md"}, *({title: pages} for title, pages in sections)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root and of the reference."""
    for name, page in OF_THE_ROOT.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for title, (about, names) in REFERENCE.items():
        documented = "\n\n".join(f"::: {name}" for name in names)
        files.append(File.generated(config, _reference(title), content=f"# {title}\n\n{about}\n\n{documented}\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links to files outside docs/ to their page, or to the repository."""
    place = page.file.src_uri
    source = next((name for name, uri in OF_THE_ROOT.items() if uri == place), f"docs/{place}")

    def led(match: re.Match[str]) -> str:
        before, target = match.groups()
        return before + _led(target, source, place, str(config.repo_url))

    return _LINK.sub(led, markdown)


def _led(target: str, source: str, place: str, repository: str) -> str:
    """``target``, a link in the file ``source`` of the repository, as a link in the page ``place`` of the site."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    page = _page_of(path)
    if page is not None:
        return posixpath.relpath(page, posixpath.dirname(place) or ".")
    if path.startswith("..") or not (ROOT / path).exists():
        return target  # the build reports it
    return f"{repository.rstrip('/')}/{BRANCH}/{path}"


def _page_of(path: str) -> str | None:
    """The page or the file of the site for ``path`` in the repository; None if it has none."""
    if path in OF_THE_ROOT:
        return OF_THE_ROOT[path]
    inside = path.removeprefix("docs/")
    return inside if inside != path and os.path.splitext(path)[1] and not path.startswith("docs/Dockerfile") else None


def _reference(title: str) -> str:
    return f"reference/{title.lower().replace(' ', '-')}.md"
