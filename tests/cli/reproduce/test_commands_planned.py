"""Every command of conf/2cr, parsed and planned by the parsers that run it, without a model, a network or a JVM."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from string import Template

import pytest
import yaml
from conftest import SOAK

from pyserini_reasonrank.cli import evaluate as evaluate_command
from pyserini_reasonrank.cli import rerank as rerank_command
from pyserini_reasonrank.cli.arguments import Parser
from pyserini_reasonrank.cli.reproduce import conversions
from pyserini_reasonrank.cli.reproduce.matrix import Matrix, load, names
from pyserini_reasonrank.cli.reproduce.steps import Step, steps
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import flags, layers, rerankers
from pyserini_reasonrank.settings.host_flags import read_host_flags

pytestmark = pytest.mark.skipif(
    not (find_spec("pyserini") and find_spec("torch")), reason="needs Pyserini, and an engine to plan for"
)

DATA, FOLDER = Path("/collections"), Path("/out")
PROGRAMS = {"curl", "cp", "hf"}
SEARCH = "pyserini.search.lucene"
FIRST_STAGE = "pyserini_reasonrank.host.first_stage"
SEARCH_FLAGS = {"--index", "--topics", "--output", "--output-format", "--hits", "--bm25", "--remove-query"}


@pytest.fixture(autouse=True)
def _prompts_of_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published prompts count as available; those that are not downloaded are replaced when a plan is made."""
    monkeypatch.setattr(sources, "missing", lambda source: None)
    monkeypatch.setattr(sources, "missing_instruction", lambda text: None)


@cache
def pyserini_names() -> dict[str, set[str]]:
    """Names of indexes, topics and qrels in Pyserini's own two-click reproductions: its catalogues are on the web."""
    folder = files("pyserini").joinpath("2cr")
    names: dict[str, set[str]] = {"index": set(), "topics": set(), "qrels": set()}
    for file in ("bright", "beir", "msmarco-v1-passage", "msmarco-v2-passage"):
        text = folder.joinpath(f"{file}.yaml").read_text(encoding="utf-8")
        for condition in yaml.load(text, yaml.CSafeLoader)["conditions"]:
            words = condition["command"].split()
            given = dict(pairwise(words))
            for each in condition.get("datasets", condition.get("topics")):
                fields = {"dataset": each.get("dataset", ""), "topics": each.get("topic_key", "")}
                topics = Template(given["--topics"]).safe_substitute(fields)
                names["index"].add(Template(given["--index"]).safe_substitute(fields))
                names["topics"].add(topics)
                names["qrels"].add(each.get("eval_key", topics))
    return names


def check_name(kind: str, value: str) -> None:
    """A file, or a name that Pyserini knows."""
    known = pyserini_names()[kind]
    if not value.startswith("/") and value not in known:
        raise UsageError(f"Pyserini has no {kind} {value!r}")


def check_plan(words: list[str], data: list[str]) -> None:
    """Plan the ``--rerank`` flags of ``words``. UsageError as the command raises it."""
    name, tree, _ = flags.lift(words)
    model = tree.get("model")
    if model is not None and "/" not in model and model not in known_models():
        raise UsageError(f"unknown model {model!r}{nearest(model, known_models())}")
    settings, _ = layers.load(name, tree, data)
    if not available(settings.prompt):
        tree["prompt"] = rerankers.definition(str(name)).own["prompt"]
    if settings.instruction and settings.instruction.partition(":")[0] in sources.published():
        tree["instruction"] = "relevant to {query}"
    plan(*layers.load(name, tree, data), here=False)


@cache
def available(prompt: str) -> bool:
    """Whether a prompt can be loaded here: those of RankLLM and our own can, others need a download."""
    return not sources.published().get(prompt) or sources.published()[prompt].origin.startswith(sources.RANK_LLM)


def check(command: str, *, planned: bool = True) -> None:
    """Parse a command as the program that it names does, and plan it. UsageError if it would be refused."""
    program, *words = shlex.split(command)
    if program != "python":
        assert program in PROGRAMS, program
        return
    if words[0] == "-c":
        compile(words[1], "command", "exec")
        return
    dash, module, *words = words
    assert dash == "-m"
    if module == SEARCH:
        _, _, rest = flags.lift(words)
        found = read_host_flags(rest)
        assert {word for word in rest if word.startswith("--")} <= SEARCH_FLAGS
        assert found.output
        assert found.index
        assert found.topics
        if not found.index.startswith("/"):
            check_name("index", found.index)
        check_name("topics", found.topics)
        if planned and len(rest) < len(words):
            check_plan(words, [found.topics, found.index])
    elif module == FIRST_STAGE:
        ours, theirs = words[: words.index("--")], words[words.index("--") + 1 :]
        assert ours[::2] == ["--module", "--run", "--candidates", "--depth"]
        assert {word for word in theirs if word.startswith("--")} <= SEARCH_FLAGS
        assert read_host_flags(theirs).index
    elif module == conversions.__name__:
        count, _ = conversions.CONVERSIONS[words[0]]
        assert len(words) == count + 1
    else:
        assert module == "pyserini_reasonrank"
        check_own(words[0], words[1:], planned=planned)


def check_own(name: str, words: list[str], *, planned: bool) -> None:
    """Check a command of this package."""
    if name == "evaluate":
        parser = Parser()
        parser.add_argument("--measures", nargs="+")
        parser.add_argument("--qrels")
        parser.add_argument("runs", nargs="+")
        parser.parse_args(evaluate_command.separate_runs(parser, words))
    elif name == "index":
        assert words[::2] == ["--corpus", "--index", "--threads"]
    else:
        assert name == "rerank"
        _, _, rest = flags.lift(words)
        options = rerank_command._parser().parse_args(rest)
        if options.topics:
            check_name("topics", options.topics)
        if options.index:
            check_name("index", options.index)
        data = [str(path) for path in (options.topics, options.index, options.corpus, options.candidates) if path]
        if planned:
            check_plan(words, data)


def planned(matrix: Matrix) -> Iterator[Step]:
    yield from steps(matrix, matrix.conditions, None, DATA, FOLDER)


@pytest.mark.parametrize("name", names())
def test_every_command_is_accepted(name: str) -> None:
    """The reranker is planned for the first topic set of each condition; in `make soak` for all of them."""
    matrix = load(name)
    for each in planned(matrix):
        for command in [*each.commands, each.evaluation]:
            check(command, planned=SOAK or each.topics is each.condition.topics[0])
        check_name("qrels", each.qrels)
        assert each.run.is_relative_to(FOLDER if each.command else DATA)


@pytest.mark.parametrize("name", names())
def test_every_field_is_used_and_no_run_is_written_twice(name: str) -> None:
    matrix = load(name)
    for condition in matrix.conditions:
        texts = [condition.command or "", condition.run or "", *(f"{p.creates} {p.command}" for p in condition.prepare)]
        for topics in condition.topics:
            unused = [f for f in topics.fields if not any(f"${f}" in t or f"${{{f}}}" in t for t in texts)]
            assert set(unused) <= {"dataset"}, (condition.name, unused)
            assert all(0 < value < 1 for value in topics.expected.values())
    made = [each.run for each in planned(matrix) if each.command]
    assert len(made) == len(set(made))
    conditions = [condition.name for condition in matrix.conditions]
    assert len(conditions) == len(set(conditions))


def test_the_matrices_of_the_field_are_there() -> None:
    sizes = {name: {len(condition.topics) for condition in load(name).conditions} for name in names()}
    assert sizes["bright"] == {12}
    assert sizes["r2med"] == {8}
    assert sizes["beir"] == {7}
    assert sizes["trec-dl"] == {4}
    for name in ("bright", "r2med", "beir", "trec-dl"):
        text = " ".join(condition.command or "" for condition in load(name).conditions)
        for model in ("reasonrank-7b", "reasonrank-32b", "rank-r1-14b", "rank-r1-32b-v0.2", "rank1-7b", "erank-4b"):
            assert f"--rerank.model {model} " in f"{text} ", (name, model)
        assert "--rerank.model rank-zephyr-7b" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--rerank.depth 100", "--rerank.dept 100"), "dept is not known"),
        (("--rerank reasonrank ", "--rerank reasonrnk "), "reasonrnk"),
        (("--rerank.model reasonrank-7b", "--rerank.model reasonrank-8x"), "unknown model"),
        (("--index bright-biology", "--index bright-biologie"), "no index 'bright-biologie'"),
        (("--topics bright-biology", "--topics bright-bio"), "no topics 'bright-bio'"),
        (("--output /out", "--outptu /out"), "has no flag --outptu"),
    ],
)
def test_a_wrong_command_is_found(change: tuple[str, str], message: str) -> None:
    matrix = load("bright")
    [step] = steps(matrix, [matrix.condition("reasonrank-7b")], "biology", DATA, FOLDER)
    check(step.commands[-1])
    assert change[0] in step.commands[-1]
    with pytest.raises(UsageError, match=message):
        check(step.commands[-1].replace(*change))
