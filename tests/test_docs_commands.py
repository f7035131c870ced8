"""The commands of the pages run as written, over a real collection, with the oracle in place of the model.

A command that needs a network, a GPU, a server or a release is in ``ELSEWHERE``, with the reason. Its flags are checked
where it plans a reranker.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.cli.commands import COMMANDS
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.rewriting.plan import planned
from pyserini_reasonrank.settings import flags, layers, rewriters

pytestmark = pytest.mark.skipif(not find_spec("torch"), reason="needs an engine to plan for")

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("usage-*.md")))]
CODE = re.compile(r"(?:^    .*\n?)+|^```\w*\n.*?^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\s*(?:\$ )?python -m (pyserini_reasonrank|pyserini\.search(?:\.lucene)?) (.*)$", re.MULTILINE)

ELSEWHERE = {
    r"^2cr run bright --condition reasonrank-32b": "needs GPUs",
    r"^evaluate .* 2cr/run": "evaluates what a run on a GPU wrote",
    r"^index ": "tests/real/test_readme.py runs it",
    r"^prompts show reasonrank:reasoning": "downloads a prompt",
    r"^(merge|rerank .*\$)": "the scripts of a cluster: tests/cli/test_selection_flags.py runs them",
    r"\.engine\.name (ray|openai)": "needs a cluster or a server: tests/engines and tests/serve run them",
    r"^serve ": "starts a server: tests/serve runs it",
    r"^train (data|sft|recipe|export|decontaminate|synthesize --config)(?!.*--help)": "needs a release, a trainer or minutes: "
    "tests/train runs each step",
    r"films|run\.jsonl|iranker-recommendation": "films for a person: tests/real/test_tasks.py runs them",
    r"\.path answers\.jsonl ": "answers of RankLLM's release: tests/orders/test_fusion.py runs it",
    r"fused\.txt": "evaluates its run",
    r"--candidates rewritten\.jsonl": "candidates of a search",
}
SAME = {"IDX": "index", "q1": "1037798"}
RANKGPT = "--rerank rankgpt --rerank.prompt listwise --rerank.judge.identifiers digits --rerank.fuse.method min-max "
RUNS = {"docs/usage-trace.md": f"{RANKGPT} --rerank.fuse.weight 0.9", "docs/usage-cutoff.md": "--rerank rank1"}
"""The reranker of the run that the commands of a page read; ``upr`` on the others."""


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """The module and the words of each command in the code of a page."""
    for block in CODE.findall((ROOT / page).read_text(encoding="utf-8")):
        for module, line in COMMAND.findall(block.replace("\\\n", " ")):
            words = shlex.split(line.split(" | head")[0], comments=True)
            if words and "..." not in words and "|" not in words:
                yield module, [SAME.get(word, word) for word in words]


def elsewhere(words: Sequence[str]) -> bool:
    return any(re.search(pattern, " ".join(words)) for pattern in ELSEWHERE)


@pytest.fixture(scope="module")
def files(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages name, of five topics."""
    folder, source = tmp_path_factory.mktemp("files"), data / "msmarco-v1-dl19"
    topics = sorted((source / "topics.tsv").read_text().splitlines(keepends=True))[:5]
    qids = {line.split("\t")[0] for line in topics}
    (folder / "topics.tsv").write_text("".join(topics))
    for target in ("bm25.txt", "first.txt", "tasb.txt", "repllama.txt", "qrels.txt"):
        name = target if target == "qrels.txt" else f"run.{target.replace('first', 'bm25')}"
        lines = (source / name).read_text().splitlines(keepends=True)
        (folder / target).write_text("".join(line for line in lines if line.split()[0] in qids))
    for name in ("originals.tsv", "questions.tsv", "rewritten.tsv"):
        shutil.copy(folder / "topics.tsv", folder / name)
    shutil.copy(folder / "bm25.txt", folder / "run.bm25.txt")
    (folder / "corpus.jsonl").symlink_to(source / "corpus.jsonl")
    shutil.copytree(ROOT / "docs" / "2cr", folder / "docs" / "2cr")
    return folder


def answered(words: list[str]) -> list[str]:
    """The words of ``rerank`` or ``rewrite`` with the oracle in place of a model, without an output of before."""
    output = Path(words[words.index("--output") + 1])
    for file in output.parent.glob(f"{output.name}*"):
        file.unlink()
    engine = f"--{words[0]}.engine"
    return words if f"{engine}.name" in words else [*words, f"{engine}.name", "oracle", f"{engine}.qrels", "qrels.txt"]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(
    page: str, data: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [words for module, words in commands(page) if module == "pyserini_reasonrank" and not elsewhere(words)]
    if not found:
        pytest.skip("the page has no command that runs here")
    folder = shutil.copytree(files, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REASONRANK_DATA", str(data.resolve()))
    inputs = "--run bm25.txt --topics topics.tsv --corpus corpus.jsonl --output run.txt"
    assert main(answered(["rerank", *f"{inputs} {RUNS.get(page, '--rerank upr')}".split()])) == 0
    shutil.copy("bm25.txt", "run.txt.first-stage.txt")
    for words in found:
        line = [words[0], "--help"] if len(words) == 1 and words[0] in COMMANDS else words
        try:
            status = main(answered(line) if line[0] in ("rerank", "rewrite") and len(line) > 2 else line)
        except SystemExit as ended:  # as --help ends
            status = int(ended.code or 0)
        assert status == 0, f"{page}: {shlex.join(words)}"


@pytest.mark.parametrize("page", PAGES)
def test_the_rerankers_of_a_page_can_be_planned(page: str) -> None:
    for _, words in commands(page):
        name, tree, rest = flags.lift([word.replace("$head:$port", "head:6379") for word in words])
        if name is not None and "config" not in tree:
            plan(*layers.load(name, tree, here=False), here=False)
        rewriter, tree, _ = rewriters.lift(rest)
        if rewriter is not None:
            planned(rewriter, tree, here=False)


def test_no_exception_is_out_of_date() -> None:
    every = [" ".join(words) for page in PAGES for _, words in commands(page)]
    unused = [pattern for pattern in ELSEWHERE if not any(re.search(pattern, line) for line in every)]
    assert not unused
