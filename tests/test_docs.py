"""The pages keep up with the code: one for every reranker, with the cost that ``explain`` predicts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from pyserini_reasonrank.cli.cost_table import output_tokens
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers

PAGES = ROOT / "docs" / "rerankers"
ROW = re.compile(r"^\| a query \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| [\d,]+ \| ([\d,]+) \|", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", layers.rerankers())
def test_every_reranker_has_a_page_with_its_cost(name: str) -> None:
    page = PAGES / f"{name}.md"
    assert page.is_file()
    text = page.read_text(encoding="utf-8")
    assert "Published with" in text
    row = ROW.search(text)
    assert row is not None, (
        "no line '| a query | calls | longest chain | passages shown | prompt tokens | output tokens |'"
    )
    planned = plan(*layers.load(name, {"engine": {"name": "oracle", "qrels": "x"}}))
    cost = estimate(planned, 100)
    asked = {part: cost.parts[part] for part in planned.parts if not cost.parts[part].alternative}
    written = sum(output_tokens(planned.parts[part], found) for part, found in asked.items())
    assert [int(cell.replace(",", "")) for cell in row.groups()] == [cost.calls, cost.chain, cost.shown, written]


def test_every_page_is_about_a_reranker_and_listed() -> None:
    index = (ROOT / "docs" / "rerankers.md").read_text(encoding="utf-8")
    for page in PAGES.glob("*.md"):
        assert page.stem in layers.rerankers()
        assert f"(rerankers/{page.name})" in index


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
