"""Parts of other packages: found by name, imported late, checked, and refused in one sentence."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection

from pyserini_reasonrank import Reranker, plugins
from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.cli import doctor
from pyserini_reasonrank.cli import prompts as prompts_command
from pyserini_reasonrank.cli.rerank_help import flags_help
from pyserini_reasonrank.engines import ENGINE_PARTS, engine_class, is_without_model
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.environment import environment
from pyserini_reasonrank.judges.registry import JUDGE_PARTS
from pyserini_reasonrank.plugins import Registry, failure_of
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.resources import dump_yaml
from pyserini_reasonrank.run.known_flags import by_leaf
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.serve.service import Service
from pyserini_reasonrank.settings import layers, rerankers
from pyserini_reasonrank.strategies import STRATEGIES, STRATEGY_PARTS

Install = Callable[..., None]

STRATEGY = """
from pyserini_reasonrank.strategies import StrategyEntry
async def backwards(n, judge, *, step: int = 1):
    return list(await judge(range(n)))[::-1]
entry = StrategyEntry(backwards, frozenset({"permutation"}))
"""
ENGINE = """
from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.records import Completion
class Mute(Engine):
    name = "mute"
    without_model = True
    async def generate(self, prompt, sampling, call):
        return Completion("[1]")
"""
JUDGE = """
from pyserini_reasonrank.judges.permutation import Permutation
class Verdict(Permutation):
    kind = "verdict"
    class Options(Permutation.Options):
        harshness: int = 3
"""
PROMPT = """
prompt = {
    "about": "A prompt of another package", "contract": "permutation", "reminder": "Again.",
    "messages": [{"role": "user", "content": "{{ query }} {{ passages | join(' ') }}"}],
}
"""
RERANKER = """
reranker = {"about": "Upside down", "reranker": "reasonrank", "strategy": {"name": "backwards"}, "prompt": "plain"}
"""
KINDS = ("engines", "judges", "strategies", "prompts", "rerankers")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install("mypkg", source, strategies={"mine": "name_in_the_source"})``: a package with its metadata, on the path."""

    def install(package: str, source: str, **groups: Mapping[str, str]) -> None:
        site = tmp_path / package
        metadata = site / f"{package}-1.2.dist-info"
        metadata.mkdir(parents=True)
        (site / f"{package}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n", encoding="utf-8")
        lines = [
            line
            for group, entries in groups.items()
            for line in (f"[pyserini_reasonrank.{group}]", *(f"{n} = {package}:{o}" for n, o in entries.items()))
        ]
        (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, package, raising=False)

    return install


@pytest.fixture
def whole(install: Install) -> None:
    """A package with a part of each kind."""
    install(
        "whole",
        STRATEGY + ENGINE + JUDGE + PROMPT + RERANKER,
        strategies={"backwards": "entry"},
        engines={"mute": "Mute"},
        judges={"verdict": "Verdict"},
        prompts={"plain": "prompt"},
        rerankers={"upside-down": "reranker"},
    )


REGISTRIES: Mapping[str, Registry[object]] = {
    "strategies": STRATEGY_PARTS,
    "engines": ENGINE_PARTS,
    "judges": JUDGE_PARTS,
    "prompts": sources.PROMPT_PARTS,
    "rerankers": rerankers.RERANKER_PARTS,
}


@pytest.mark.usefixtures("whole")
def test_a_part_of_each_kind_ranks_together() -> None:
    documents = ["one", "two", "three"]
    with Reranker("upside-down", engine="mute") as reranker:
        ranked = reranker.rank("a query", documents)
    assert [result.document for result in ranked] == ["three", "two", "one"]
    assert repr(reranker) == "Reranker('upside-down', model='mute')"


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize("contract", ["verdict", "permutation"])
def test_a_judge_derived_from_ours_works_with_our_strategies_and_prompts(contract: str, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.yaml"
    prompt.write_text(dump_yaml({**sources.PROMPT_PARTS.get("plain"), "contract": contract}), encoding="utf-8")
    tree = {"engine": {"name": "mute"}, "judge": {"kind": "verdict", "harshness": 5}, "prompt": str(prompt)}
    made = plan(*layers.load("reasonrank", tree))
    assert isinstance(made, SinglePlan)
    assert made.judge.options.harshness == 5
    with pytest.raises(UsageError, match="the heapsort strategy needs a judge of kind best or best_token, not verdict"):
        plan(*layers.load("reasonrank", {**tree, "strategy": {"name": "heapsort"}}))


@pytest.mark.parametrize("name", [name for name, entry in STRATEGIES.items() if "best_token" not in entry.judges])
def test_a_judge_of_ours_that_is_derived_from_another_has_its_own_kind_only(name: str) -> None:
    tree = {"engine": {"name": "oracle"}, "strategy": {"name": name}, "depth": 20}
    with pytest.raises(UsageError, match=f"the {name} strategy needs a judge of kind .*, not best_token"):
        plan(*layers.load("setwise-likelihood", tree))


def test_nothing_is_imported_before_it_is_named(install: Install) -> None:
    install("explosive", "raise RuntimeError('imported')", strategies={"boom": "entry"}, engines={"bang": "E"})
    assert "boom" in STRATEGY_PARTS.names()
    assert "bang" in ENGINE_PARTS
    plan(*layers.load("setwise", {"engine": {"name": "oracle"}}))
    assert "children" in flags_help("setwise")
    assert "explosive" not in sys.modules


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_that_cannot_be_imported_is_named(kind: str, install: Install) -> None:
    install("absent", "import no_such_module", **{kind: {"mine": "entry"}})
    part = REGISTRIES[kind].part
    with pytest.raises(UsageError) as raised:
        REGISTRIES[kind].get("mine")
    assert str(raised.value) == (
        f"the {part} 'mine' of absent 1.2 (entry point absent:entry) of the group pyserini_reasonrank.{kind} can't be "
        "imported: ModuleNotFoundError: No module named 'no_such_module'; repair or uninstall the package"
    )


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "entry ="])
def test_whatever_goes_wrong_in_an_import_is_one_sentence(source: str, install: Install) -> None:
    install("rude", source, judges={"mine": "entry"})
    with pytest.raises(UsageError, match=r"rude 1\.2 .*can't be imported: (SystemExit|SyntaxError)"):
        JUDGE_PARTS.get("mine")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("strategies", "sliding"), ("engines", "oracle"), ("judges", "best"), ("prompts", "best"), ("rerankers", "upr"),
     ("prompts", "reasonrank:reasoning")],
)  # fmt: skip
def test_a_name_of_ours_is_refused(kind: str, name: str, install: Install) -> None:
    install("thief", "entry = 1", **{kind: {name: "entry"}})
    with pytest.raises(UsageError) as raised:
        REGISTRIES[kind].get(name)
    assert f"pyserini_reasonrank has a {REGISTRIES[kind].part} '{name}', and so has thief 1.2" in str(raised.value)
    assert REGISTRIES[kind].names().count(name) == 1


def test_a_name_of_two_packages_is_refused(install: Install) -> None:
    install("first", STRATEGY, strategies={"mine": "entry"})
    install("second", STRATEGY, strategies={"mine": "entry"})
    with pytest.raises(UsageError, match="several packages have a strategy 'mine'") as raised:
        STRATEGY_PARTS.get("mine")
    assert "first 1.2 (entry point first:entry)" in str(raised.value)
    assert "second 1.2 (entry point second:entry)" in str(raised.value)
    assert STRATEGY_PARTS.get("sliding") is STRATEGIES["sliding"]


HEAD = "from pyserini_reasonrank.strategies import StrategyEntry\nO = frozenset({'permutation'})\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("async def entry(n, judge): ...", r"wrong\.entry is not a StrategyEntry: write StrategyEntry\(entry, frozenset"),
        ("entry = 3", "int 3 is not a StrategyEntry"),
        ("def f(n, judge): ...\nentry = StrategyEntry(f, O)", r"wrong\.f is not a coroutine function: write async def"),
        ("async def f(judge, n): ...\nentry = StrategyEntry(f, O)",
         r"wrong\.f\(judge, n\): expected the parameters \(n, judge, \*, OPTION=DEFAULT, \.\.\.\)"),
        ("async def f(n, judge, k=1): ...\nentry = StrategyEntry(f, O)", r"wrong\.f\(n, judge, k=1\): expected"),
        ("async def f(n, judge, **more): ...\nentry = StrategyEntry(f, O)", r"wrong\.f\(n, judge, \*\*more\): expected"),
        ("async def f(n, judge): ...\nentry = StrategyEntry(f, O, takes_prior=True)", r"\(n, judge, prior, \*, OPTION"),
        ("async def f(n, judge): ...\nentry = StrategyEntry(f, frozenset())", "has to name the kinds of judge"),
        ("async def f(n, judge, *, k: 'Unknown' = 1): ...\nentry = StrategyEntry(f, O)",
         r"wrong\.f: its options can't be read \(NameError"),
        ("async def f(n, judge, *, name: str = 'a'): ...\nentry = StrategyEntry(f, O)", r"wrong\.f has an option name, the key"),
    ],
)  # fmt: skip
def test_a_wrong_strategy(source: str, message: str, install: Install) -> None:
    install("wrong", HEAD + source, strategies={"mine": "entry"})
    with pytest.raises(UsageError, match=rf"the strategy 'mine' of wrong 1\.2 .* can't be used: .*{message}"):
        STRATEGY_PARTS.get("mine")


JUDGE_HEAD = """
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.best import Best
"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class entry: ...", r"wrong\.entry: expected a subclass of pyserini_reasonrank\.judges\.Judge"),
        ("def entry(): ...", r"wrong\.entry, which is not a class: expected a subclass"),
        ("class entry(Judge): kind = 'mine'", r"wrong\.entry lacks the method agreed\(outcomes, indices\)"),
        ("class entry(Best):\n  kind = 'mine'\n  async def judge(self, ask, prompt): ...",
         r"wrong\.entry\.judge\(ask, prompt\) can't be called as judge\(ask, prompt, shown\): too many positional"),
        ("class entry(Best):\n  kind = 'mine'\n  def judge(self, ask, prompt, shown): ...",
         r"wrong\.entry\.judge is not a coroutine function: write async def judge\(ask, prompt, shown\)"),
        ("class entry(Best):\n  kind = 'mine'\n  @staticmethod\n  def outcome(judgement): ...",
         r"wrong\.entry\.outcome\(judgement\) can't be called as outcome\(judgement, indices\)"),
        ("class entry(Best):\n  kind = 'mine'\n  def __init__(self, options): ...", r"wrong\.entry\.__init__\(options\) can't"),
        ("class entry(Best):\n  kind = 'mine'\n  def calls(self): return 2", r"wrong\.entry\.calls is a method: expected a prop"),
        ("class entry(Best):\n  kind = 'mine'\n  ideal = 3", r"wrong\.entry\.ideal is not a method: expected ideal\(gains\)"),
        ("class entry(Best): kind = 'other'", r"wrong\.entry\.kind is 'other', and the entry point is named 'mine'"),
        ("class entry(Best):\n  kind = 'mine'\n  Options = dict",
         r"wrong\.entry\.Options is builtins\.dict: expected a subclass of pyserini_reasonrank\.judges\.Judge\.Options, a pyd"),
        ("class entry(Best):\n  kind = 'mine'\n  class Options(Best.Options):\n    kind: int = 3",
         r"wrong\.entry\.Options has an option kind, the key"),
    ],
)  # fmt: skip
def test_a_wrong_judge(source: str, message: str, install: Install) -> None:
    install("wrong", JUDGE_HEAD + source, judges={"mine": "entry"})
    with pytest.raises(UsageError, match=rf"the judge 'mine' of wrong 1\.2 .* can't be used: {message}"):
        JUDGE_PARTS.get("mine")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("entry = Engine", r"Engine lacks the method generate\(prompt, sampling, call\)"),
        ("class entry(Engine):\n  name = 'mine'\n  async def generate(self, prompt): ...",
         r"wrong\.entry\.generate\(prompt\) can't be called as generate\(prompt, sampling, call\)"),
        ("class entry(Engine):\n  async def generate(self, prompt, sampling, call): ...",
         r"wrong\.entry has no attribute name: set name = 'mine'"),
        ("class entry(Engine):\n  name = 'mine'\n  options_class = 5\n  async def generate(self, p, s, c): ...",
         r"wrong\.entry\.options_class is int 5: expected a subclass of .*EngineOptions"),
        ("from pyserini_reasonrank.engines import EngineOptions\nclass O(EngineOptions):\n  name: int = 3\n"
         "class entry(Engine):\n  name = 'mine'\n  options_class = O\n  async def generate(self, p, s, c): ...",
         r"wrong\.entry\.options_class has an option name, the key"),
    ],
)  # fmt: skip
def test_a_wrong_engine(source: str, message: str, install: Install) -> None:
    install("wrong", "from pyserini_reasonrank.engines import Engine\n" + source, engines={"mine": "entry"})
    with pytest.raises(UsageError, match=rf"the engine 'mine' of wrong 1\.2 .* can't be used: .*{message}"):
        engine_class("mine")


@pytest.mark.parametrize("kind", ["prompts", "rerankers"])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("entry = 3", "int 3: expected a mapping"),
        ("entry = '/no/such/file.yaml'", "the file /no/such/file.yaml does not"),
    ],
)
def test_a_wrong_prompt_or_reranker(kind: str, source: str, message: str, install: Install) -> None:
    install("wrong", source, **{kind: {"mine": "entry"}})
    with pytest.raises(UsageError, match=rf"'mine' of wrong 1\.2 .* can't be used: {message}"):
        REGISTRIES[kind].get("mine")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [0, 0, 1]", r"mine \(wrong\.f\) returned \[0, 0, 1\] for 3 candidates: expected each index once"),
        (
            "return 1 / 0",
            r"'mine' of wrong 1\.2 \(entry point wrong:entry\) failed in .*wrong\.py, line \d+: ZeroDivision",
        ),
    ],
)
def test_a_strategy_that_fails_is_one_sentence(body: str, message: str, install: Install) -> None:
    install("wrong", f"{HEAD}async def f(n, judge): {body}\nentry = StrategyEntry(f, O)", strategies={"mine": "entry"})
    with pytest.raises(Failure, match=f"the strategy {message}"):
        asyncio.run(STRATEGY_PARTS.get("mine").function(3, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("question", "said"),
    [("[3]", r"\[3\]"), ("[0, 0]", r"\[0, 0\]"), ("[]", r"\[\]"), ("1", "1"), ("['a']", r"\['a'\]")],
)
def test_a_strategy_that_asks_about_no_candidates_is_one_sentence(question: str, said: str, install: Install) -> None:
    body = f"return await judge({question})"
    install("wrong", f"{HEAD}async def f(n, judge): {body}\nentry = StrategyEntry(f, O)", strategies={"mine": "entry"})
    with pytest.raises(Failure, match=rf"the strategy mine \(wrong\.f\) asked about {said} of 3 candidates: expected"):
        asyncio.run(STRATEGY_PARTS.get("mine").function(3, None))  # type: ignore[arg-type]


def test_integers_of_numpy_in_a_strategy_become_those_of_python(install: Install) -> None:
    body = "import numpy as np\n    return np.array(await judge(np.arange(n)))"
    source = f"{HEAD}async def f(n, judge):\n    {body}\nentry = StrategyEntry(f, O)"
    install("wrong", source, strategies={"mine": "entry"})
    asked: list[list[int]] = []

    async def judge(indices: list[int]) -> list[int]:
        asked.append(indices)
        return indices[::-1]

    async def ranked() -> list[int]:
        return await STRATEGY_PARTS.get("mine").function(3, judge)

    order = asyncio.run(ranked())
    assert (asked, order) == ([[0, 1, 2]], [2, 1, 0])
    assert {type(i) for i in [*asked[0], *order]} == {int}


@pytest.mark.parametrize(
    ("judgement", "message"),
    [
        ("None", "returned None: expected a Judgement"),
        ("Judgement((1,), Status.OK)", r"returned the order \(1,\) of 2 passages: expected each position from 0 once"),
        ("Judgement((1, 2), Status.OK)", r"returned the order \(1, 2\) of 2 passages"),
        ("Judgement((0, 1), Status.OK, score=float('nan'))", "returned the score nan: expected a finite number"),
        ("len(1)", r"failed in .*mine\.py, line \d+: TypeError"),
    ],
)
def test_a_judge_that_returns_no_judgement_is_one_sentence(judgement: str, message: str, install: Install) -> None:
    source = (
        f"{JUDGE}    async def judge(self, ask, prompt, shown):\n        return {judgement}\n"
        + "from pyserini_reasonrank.records import Judgement, Status\n"
        + ENGINE
        + PROMPT.replace('"permutation"', '"verdict"')
    )
    install("mine", source, judges={"verdict": "Verdict"}, engines={"mute": "Mute"}, prompts={"plain": "prompt"})
    settings: dict[str, Any] = {"judge": {"kind": "verdict"}, "prompt": "plain", "strategy": {"name": "blitzrank"}}
    with (
        Reranker("reasonrank", engine="mute", **settings) as reranker,
        pytest.raises(Failure, match=rf"the judge .*verdict.*mine.*{message}"),
    ):
        reranker.rank("a query", ["one", "two"])


@pytest.mark.parametrize("answer", ["None", "'[1]'", "Completion(None)"])
def test_an_engine_that_returns_no_completion_is_one_sentence(answer: str, install: Install) -> None:
    source = ENGINE.replace('Completion("[1]")', answer).replace("mute", "dumb")
    install("mine", source, engines={"dumb": "Mute"})
    with (
        Reranker("reasonrank", engine="dumb") as reranker,
        pytest.raises(Failure, match=r"the engine dumb \(mine\.Mute\) returned .*: expected a Completion with a text"),
    ):
        reranker.rank("a query", ["one", "two"])


@pytest.mark.parametrize("score", ["3", "__import__('numpy').float32(3)"])
def test_every_number_is_a_score(score: str, install: Install) -> None:
    source = (
        "from pyserini_reasonrank.judges.rating import Rating\n"
        "from pyserini_reasonrank.records import Judgement, Status\n"
        "class Mark(Rating):\n    kind = 'mark'\n    async def judge(self, ask, prompt, shown):\n"
        f"        return Judgement((0,), Status.OK, score={score})\n{ENGINE}{PROMPT}"
    ).replace('"permutation"', '"mark"')
    install("mine", source, judges={"mark": "Mark"}, engines={"mute": "Mute"}, prompts={"plain": "prompt"})
    settings: dict[str, Any] = {"judge": {"kind": "mark"}, "prompt": "plain", "strategy": {"name": "pointwise"}}
    with Reranker("reasonrank", engine="mute", **settings) as reranker:
        assert [result.llm_score for result in reranker.rank("a query", ["one", "two"])] == [3.0, 3.0]


RAISING: dict[str, tuple[str, dict[str, dict[str, str]], list[str], str]] = {
    "strategy": (
        STRATEGY.replace("return list", "return {}['gone'] or list") + ENGINE,
        {"strategies": {"backwards": "entry"}, "engines": {"mute": "Mute"}},
        ["--rerank.strategy.name", "backwards"],
        "the strategy 'backwards' of mine 1.2 (entry point mine:entry) failed in {file}, line 4: KeyError: 'gone'",
    ),
    "engine": (
        ENGINE.replace('return Completion("[1]")', "raise OSError(5, 'out of tokens')"),
        {"engines": {"mute": "Mute"}},
        [],
        "the engine 'mute' of mine 1.2 (entry point mine:Mute) failed in {file}, line 8: OSError: [Errno 5] out of tokens",
    ),
    "a function of a package with several parts": (
        ENGINE.replace('return Completion("[1]")', "return helper()") + STRATEGY + "def helper():\n    return 1 / 0\n",
        {"strategies": {"backwards": "entry"}, "engines": {"mute": "Mute"}},
        [],
        "the package mine 1.2 failed in {file}, line 15: ZeroDivisionError: division by zero",
    ),
    "judge": (
        JUDGE + "    def read(self, completion, n):\n        raise ValueError('never')\n"
        + ENGINE + PROMPT.replace('"permutation"', '"verdict"'),
        {"judges": {"verdict": "Verdict"}, "engines": {"mute": "Mute"}, "prompts": {"plain": "prompt"}},
        ["--rerank.judge.kind", "verdict", "--rerank.prompt", "plain"],
        "the judge 'verdict' of mine 1.2 (entry point mine:Verdict) failed in {file}, line 8: ValueError: never",
    ),
}  # fmt: skip


@pytest.fixture
def words(collection: Collection, tmp_path: Path) -> list[str]:
    """A command with the engine ``mute``."""
    output = ["--output", str(tmp_path / "run.txt")]
    return ["rerank", *collection.inputs, *output, "--rerank", "reasonrank", "--rerank.engine.name", "mute"]


@pytest.mark.parametrize("part", RAISING)
def test_a_part_that_raises_is_one_sentence_that_names_it(
    part: str, install: Install, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, groups, flags, message = RAISING[part]
    install("mine", source, **groups)
    assert main([*words, *flags]) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if "warning:" not in line]
    place = tmp_path / "mine" / "mine.py"
    assert line == f"error: {message.format(file=place)}; python -X dev shows the traceback"


def test_the_development_mode_shows_the_traceback(install: Install, words: list[str], tmp_path: Path) -> None:
    install("mine", RAISING["engine"][0], engines={"mute": "Mute"})
    path = os.pathsep.join([str(tmp_path / "mine"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-X", "dev", "-m", "pyserini_reasonrank", *words]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("OSError: [Errno 5] out of tokens\n")


def test_a_part_that_raises_in_a_server_is_one_sentence(install: Install, tmp_path: Path) -> None:
    install("mine", RAISING["engine"][0], engines={"mute": "Mute"})

    async def rank() -> None:
        with Reranker("reasonrank", engine="mute") as reranker:
            await Service({"reasonrank": reranker}).rank(None, "q", ["a", "b"])

    with pytest.raises(
        Failure, match=r"the engine 'mute' of mine 1\.2 .* failed in .*, line 8: OSError: .* out of tokens"
    ):
        asyncio.run(rank())


def test_an_error_of_ours_is_not_blamed_on_another_package(whole: None) -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        int("ours")
    assert failure_of(raised.value) is None


def test_only_files_that_name_our_groups_are_parsed(whole: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing the entry points of a whole environment takes 50 ms."""
    parsed = list[str]()
    at = Distribution.at

    def noting(path: str) -> Distribution:
        parsed.append(path)
        return at(path)

    monkeypatch.setattr(Distribution, "at", noting)
    plugins._installed.cache_clear()
    assert "backwards" in STRATEGY_PARTS.names()
    assert [Path(path).name for path in parsed] == ["whole-1.2.dist-info"]
    ours = [entry for entry in entry_points() if entry.group.startswith("pyserini_reasonrank.")]
    assert sorted(plugins._installed(tuple(sys.path))) == sorted(ours)
    plugins._installed.cache_clear()


def test_the_first_package_of_a_name_counts(install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install("twin", STRATEGY, strategies={"older": "entry"})
    newer = tmp_path / "newer" / "Twin-2.0.dist-info"
    newer.mkdir(parents=True)
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: Twin\nVersion: 2.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "newer")
    assert "older" not in STRATEGY_PARTS.names()


@pytest.mark.parametrize("file", ["mine.yaml", "mine.yml"])
def test_a_name_without_the_end_of_its_file_is_suggested(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_text("reranker: upr\n", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"there is no reranker 'mine'; did you mean the file {file}\?"):
        layers.load("mine", {})


@pytest.mark.usefixtures("whole")
def test_help_and_lists_know_them(capsys: pytest.CaptureFixture[str]) -> None:
    text = flags_help()
    assert "upside-down" in text
    assert "Upside down" in text
    assert "strategy backwards (judges: permutation):" in text
    assert "--rerank.judge.harshness" in text
    assert "engine mute:" in text
    prompts_command.main(["list"])
    assert "A prompt of another package" in capsys.readouterr().out
    prompts_command.main(["show", "plain"])
    assert "PASSAGE ONE" in capsys.readouterr().out


@pytest.mark.usefixtures("whole")
def test_help_on_a_reranker_shows_the_options_of_its_parts() -> None:
    text = flags_help("upside-down", {"engine": {"name": "mute"}})
    assert "--rerank.strategy.step" in text
    assert "engine mute:" in text
    assert "strategy sliding" not in text


def test_help_names_what_is_broken(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    parts = {kind: {"broken": "entry"} for kind in KINDS}
    install("absent", "import no_such_module", **parts)
    text = flags_help()
    assert text.count("absent 1.2") == 4  # the reranker in its row, the others as warnings
    prompts_command.main(["list"])
    assert "broken                 the prompt 'broken' of absent 1.2" in capsys.readouterr().out


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    ("name", "tree", "near"),
    [
        ("upside-dwn", {}, "did you mean 'upside-down'"),
        ("reasonrank", {"strategy": {"name": "backwrds"}}, "did you mean 'backwards'"),
        ("reasonrank", {"judge": {"kind": "verdct"}}, "did you mean 'verdict'"),
        ("reasonrank", {"engine": {"name": "mut"}}, "did you mean 'mute'"),
        ("reasonrank", {"prompt": "plan"}, "did you mean 'plain'"),
    ],
)
def test_a_similar_name_is_suggested(name: str, tree: dict[str, object], near: str) -> None:
    with pytest.raises(UsageError, match=near):
        plan(*layers.load(name, {"engine": {"name": "oracle"}, **tree}))


@pytest.mark.usefixtures("whole")
def test_a_key_of_a_plug_in_is_suggested() -> None:
    by_leaf.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"did you mean --rerank\.judge\.harshness"):
            Reranker("reasonrank", engine="mute", harshness=2)
    finally:
        by_leaf.cache_clear()


@pytest.mark.usefixtures("whole")
def test_doctor_lists_them_with_their_state(install: Install) -> None:
    install("absent", "import no_such_module", engines={"broken": "entry"})
    found = {check.name: check for check in doctor._parts()}
    assert found.keys() == {
        "strategy backwards", "judge verdict", "engine mute", "engine broken", "prompt plain", "reranker upside-down"
    }  # fmt: skip
    assert (found["judge verdict"].state, found["judge verdict"].sentence) == (
        doctor.State.OK,
        "registered by whole 1.2",
    )
    assert found["engine broken"].state is doctor.State.WARN
    assert "No module named 'no_such_module'" in found["engine broken"].sentence


@pytest.mark.usefixtures("whole")
def test_the_metadata_record_their_versions() -> None:
    assert "whole==1.2" in environment()["software"]["libraries"]["python"]


def test_an_engine_of_another_package_may_have_a_model(install: Install) -> None:
    source = ENGINE.replace("    without_model = True\n", "")
    install("modelled", source, engines={"mute": "Mute"})
    assert not is_without_model("mute")
    assert is_without_model("oracle")
    assert not is_without_model("vllm")
    assert engine_class("oracle").without_model
    assert engine_class("recorded").without_model
