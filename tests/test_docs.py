"""The documentation matches the code: reranker pages and their costs, the file tree, links, commands and plain words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from pyserini_reasonrank.cli import two_click
from pyserini_reasonrank.cli.explain import output_tokens
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import flags as flags_of_rerank
from pyserini_reasonrank.settings import layers, rerankers

DOCS = ROOT / "docs"
PAGES = DOCS / "rerankers"
PACKAGE = ROOT / "pyserini_reasonrank"
README = ROOT / "README.md"
AGENTS = ROOT / "AGENTS.md"
EVERY_PAGE = [README, AGENTS, *sorted(DOCS.rglob("*.md"))]
ROW = re.compile(r"^\| a query \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| [\d,]+ \| ([\d,]+) \|", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\((?!https?:)([^)#]*)#([^)]+)\)")
WIDTH = 100
STARTUP_FILES = (".pth", ".start")

# Phrases of a private dialect, each with the plain form to write instead.
PRIVATE = {
    r"\b(is|are|was|were) no (?!longer|more than)": "is not a ...",
    r"\bthe host\b": "Pyserini",
    r"\b(told|tells?)\b": "reports, recognises",
    r"\bstands?\b": "is",
    r"\b(is|was|are|were) due\b|\d is due": "expected",
    r"\bone that\b": "name the thing",
    r"\bbecomes? of\b|\bbecame of\b": "what happened to",
    r"\bhad from\b|\bcan't be had\b": "is unavailable",
    r"\bgo(es)? on\b": "continues",
    r"\bfor want of\b": "without",
    r"\breckoned\b|\bforetold\b|\bunheld\b": "counted, predicted",
    r"\b(is|are|was|were) said\b": "is set",
    r"\bwithout a word\b": "silently",
    r"\banew\b": "again",
    r"\bside by side\b": "in parallel, concurrently",
    r"\bthe whole way\b": "end to end",
    r"\banother sort\b": "an unsupported type",
    r"\b(a|one) (question|call|passage|line|query|row|token|window) an? (?!time)": "per",
    r"\bwordings?\b": "prompt",
    r"\b[Pp]rinted (is|are)\b|\b[Ww]ritten are\b": "it reports, it writes",
    r"\bby itself\b|\bby themselves\b": "automatically",
    r"\bis asked in\b|\basked about\b": "name the prompt",
    r"\bsome (\d+|thirty|hundred)\b": "about",
    r"\bwhat (lies|follows) below\b": "candidates below the depth",
    r"\b(came|comes) (to be|about)\b": "provenance",
    r"\bof equals\b": "ties",
    r"\b[Rr]ehears": "estimate",
    r"\btakes no \w+ like\b": "rejects",
    r"\b(whoever|let who|who looks)\b": "name the person or the module",
    r"\bbring(s)? (it|them|this|that) (along|with)\b": "includes",
}


@pytest.mark.parametrize("name", rerankers.names())
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


@pytest.mark.parametrize("name", rerankers.names())
def test_every_page_says_what_differs_from_the_publication(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    _, table, rows = text.partition("\n| | published | ours by default | why |\n|---|---|---|---|\n")
    assert table
    cells = [row.strip("|").split(" | ") for row in rows.partition("\n\n")[0].splitlines()]
    assert len(cells) >= 2
    assert all(len(row) == 4 for row in cells)
    assert "`--rerank.as published" in text


def test_every_page_is_about_a_reranker_and_listed() -> None:
    index = (DOCS / "rerankers.md").read_text(encoding="utf-8")
    for page in PAGES.glob("*.md"):
        assert page.stem in rerankers.names()
        assert f"(rerankers/{page.name})" in index


def test_every_reranker_has_a_row_and_its_measured_cost() -> None:
    about, _, costs = (DOCS / "rerankers.md").read_text(encoding="utf-8").partition("\n## Cost\n")
    links = re.findall(r"\(rerankers/([\w-]+)\.md\)", "\n".join(re.findall(r"^\|.*$", about, re.MULTILINE)))
    assert sorted(links) == sorted(rerankers.names())
    measured = re.findall(r"^\| `([\w-]+)` \|", costs.partition("\n### ")[0], re.MULTILINE)
    of_passages = [name for name in rerankers.names() if not name.endswith(("-recommendation", "-routing"))]
    assert sorted(measured) == sorted(2 * of_passages)  # at depth 20 and 100


def test_the_matrices_of_reproductions_are_listed_as_the_command_lists_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert two_click.main(["list"]) == 0
    listed = capsys.readouterr().out.rstrip().splitlines()
    page = (DOCS / "usage-2cr.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in listed if f"    {line}" not in page] == []


@pytest.mark.parametrize("page", EVERY_PAGE, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", EVERY_PAGE, ids=str)
def test_anchors_are_headings(page: Path) -> None:
    for target, anchor in ANCHOR.findall(page.read_text(encoding="utf-8")):
        linked = (page.parent / target) if target else page
        headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_lists_every_page_once() -> None:
    listed = LINK.findall((DOCS / "README.md").read_text(encoding="utf-8"))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if page.parent != PAGES}
    assert sorted(listed) == sorted(pages - {"README.md"} | {"../README.md"})


def test_the_tree_of_the_readme_is_the_tree_of_the_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*") if path.suffix in (".py", ".json") and path.is_file()}
    rooms = {
        f"{folder.relative_to(PACKAGE)}/" for folder in folders if folder != PACKAGE and "conf" not in folder.parts
    }
    rooms |= {f"{parent}/" for room in rooms for parent in Path(room).parents if parent != Path()}
    modules = {path.name for path in PACKAGE.glob("*.py")}
    assert set(_tree("pyserini_reasonrank/")) == rooms | modules
    shipped = set(_tree("conf/"))
    assert shipped == {path.name + "/" * path.is_dir() for path in (ROOT / "conf").iterdir() if path.name[0] != "_"}


def _tree(root: str) -> Iterator[str]:
    """Paths below ``root`` in README's file tree, folders with a slash at the end."""
    block = README.read_text(encoding="utf-8").split("\n## Files\n")[1].split("\n## ")[0]
    folders: list[tuple[int, str]] = []  # of the line above: indentation and path, outermost first
    for line in block.splitlines():
        if not line.strip():
            continue
        name = line.split()[0]
        depth = len(line) - len(line.lstrip())
        folders = [folder for folder in folders if folder[0] < depth]
        path = "".join(part for _, part in folders) + name
        if path.startswith(root) and path != root:
            yield path.removeprefix(root)
        if name.endswith("/"):
            folders.append((depth, name))


def test_commands_and_rerankers_named_in_the_pages_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in EVERY_PAGE)
    names = set(re.findall(r"--rerank ([a-z][\w-]*)(?![\w/-]|\.yaml)", text))
    assert len(names) > 15
    assert names <= {*rerankers.names(), "stars"}  # registered by the package of docs/extend.md
    command = [sys.executable, "-m", "pyserini_reasonrank", "--help"]
    overview = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    commands = set(re.findall(r"-m pyserini_reasonrank ([a-z]+)", text))
    assert len(commands) > 8
    assert commands <= set(re.findall(r"^ +([a-z]+)", overview, re.MULTILINE))


def test_make_targets_named_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name for page in EVERY_PAGE for name in re.findall(r"^ +make ([a-z-]+)", page.read_text(encoding="utf-8"), re.M)
    }
    assert {"setup", "check", "demo"} <= named <= targets


def test_the_image_runs_the_server_that_its_page_describes() -> None:
    words = re.search(r"^CMD (\[.+\])$", (DOCS / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert words is not None
    python, dash, program, command, *flags = json.loads(words[1])
    assert (python, dash, program, command) == ("python", "-m", "pyserini_reasonrank", "serve")
    name, _, rest = flags_of_rerank.lift(flags)
    assert (name, rest) == ("upr", ["--host", "0.0.0.0"])


@pytest.mark.parametrize("page", EVERY_PAGE, ids=str)
def test_files_and_names_of_the_package_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|conf|docs|pyserini_reasonrank)/[\w./-]*)`", text):
        assert (ROOT / path.replace("NAME", "upr")).exists(), path
    for name in re.findall(r"\bpyserini_reasonrank((?:\.\w+)+)", text):
        assert name in STARTUP_FILES or _is_defined(name[1:].split(".")), name


def _is_defined(parts: list[str]) -> bool:
    """Whether a dotted name below the package is a folder, a module, or a name in the text of one."""
    place = PACKAGE
    for index, part in enumerate(parts):
        if (place / part).is_dir():
            place /= part
            continue
        module = place / f"{part}.py"
        source, names = (module, parts[index + 1 :]) if module.is_file() else (place / "__init__.py", parts[index:])
        return all(re.search(rf"\b{name}\b", source.read_text(encoding="utf-8")) for name in names)
    return True


@pytest.mark.parametrize("page", EVERY_PAGE, ids=str)
def test_prose_is_at_most_100_columns_wide(page: Path) -> None:
    wide = [f"{page.name}:{number}" for number, line in _prose(page) if len(line) > WIDTH and line[0] not in "|!"]
    assert not wide


@pytest.mark.parametrize("page", EVERY_PAGE, ids=str)
def test_prose_is_plain(page: Path) -> None:
    numbered = list(_prose(page))
    text = re.sub(r"`[^`]*`", "``", "\n".join(line for _, line in numbered))
    found = {phrase: plain for phrase, plain in PRIVATE.items() if re.search(phrase.replace(" ", r"\s+"), text)}
    assert not found


@pytest.mark.parametrize("folder", ["rerankers", "rewriters", "prompts"])
def test_descriptions_of_what_ships_are_plain(folder: str) -> None:
    for path in (ROOT / "conf" / folder).glob("*.yaml"):
        about = yaml.safe_load(path.read_text(encoding="utf-8"))["about"]
        assert not [phrase for phrase in PRIVATE if re.search(phrase, about)], path


def test_descriptions_of_known_models_are_plain() -> None:
    known = yaml.safe_load((ROOT / "conf" / "models.yaml").read_text(encoding="utf-8"))
    assert not [
        (name, phrase) for name, model in known.items() for phrase in PRIVATE if re.search(phrase, model["about"])
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "A loss that is no number ends the run.",
        "Printed is what became of every query.",
        "They are told by their model list.",
        "rank 17 where 5 is due",
        "a checkpoint whose wording can't be had",
        "The same command goes on from there.",
        "The host searches, untouched.",
        "All groups are graded side by side.",
    ],
)
def test_the_phrases_find_the_private_dialect(sentence: str) -> None:
    assert any(re.search(phrase, sentence, re.IGNORECASE) for phrase in PRIVATE)


def _prose(page: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are neither blank nor code: no fenced block and no indented one outside of a list."""
    fenced = False
    above = ""
    listed = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and line.strip():
            listed = line.startswith(("- ", "1. ")) or (listed and (bool(above) or line.startswith(" ")))
            if listed or not line.startswith("    "):
                yield number, line
        above = line.strip()
