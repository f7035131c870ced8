"""A message about a setting in the wrong place names its flag, and help on a reranker shows what that reranker uses."""

from __future__ import annotations

import re
import sys

import pytest

from pyserini_reasonrank import search
from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.api import Reranker
from pyserini_reasonrank.cli.rerank_help import flags_help
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.run.known_flags import by_leaf, option_groups
from pyserini_reasonrank.settings import rerankers
from pyserini_reasonrank.settings.schema import Settings

NESTED = sorted(leaf for leaf in by_leaf() if leaf not in Settings.model_fields and leaf != "as")


def said(line: list[str], capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    assert main(line) == status
    return capsys.readouterr().err


@pytest.mark.parametrize("leaf", NESTED)
def test_every_nested_setting_without_its_group_is_named_with_it(leaf: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(
        ["explain", "--rerank", "reasonrank", "--rerank.engine.name", "oracle", f"--rerank.{leaf}", "1"], capsys
    )
    assert found.startswith(f"error: --rerank.{leaf} is not known; did you mean --rerank.")
    proposed = re.findall(r"--rerank\.[\w.]+", found)[1:]
    assert proposed == by_leaf()[leaf][: len(proposed)]
    assert all(flag.count(".") >= 2 for flag in proposed)


@pytest.mark.parametrize(
    ("flag", "proposed"),
    [
        ("--rerank.strategy.depth", "--rerank.depth"),
        ("--rerank.engine.window_size", "--rerank.strategy.window_size"),
        ("--rerank.strategy.temperature", "--rerank.sampling.temperature"),
        ("--rerank.judge.base_url", "--rerank.engine.base_url"),
        ("--rerank.windowsize", "--rerank.strategy.window_size"),
        ("--rerank.maxtokens", "--rerank.sampling.max_tokens"),
        ("--rerank.temprature", "--rerank.sampling.temperature"),
        ("--rerank.strategy.windw_size", "'window_size'"),
        ("--rerank.dept", "'depth'"),
    ],
)
def test_near_misses(flag: str, proposed: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(["explain", "--rerank", "reasonrank", "--rerank.engine.name", "oracle", flag, "1"], capsys)
    assert found.startswith(f"error: {flag} is not known; did you mean {proposed}")


@pytest.mark.parametrize(
    ("name", "flag", "message"),
    [
        ("rank1", "strategy.window_size", "the pointwise strategy has no setting window_size (--rerank.strategy.window_size); "
         "strategies with this setting: "),
        ("rank1", "judge.identifiers", "the score judge has no setting identifiers (--rerank.judge.identifiers); judges with "
         "this setting: "),
        ("rank1", "engine.base_url", "the oracle engine has no setting base_url (--rerank.engine.base_url); engines with this "
         "setting: openai"),
        ("coranking", "combine.samples", "the cascade combination has no setting samples (--rerank.combine.samples); "
         "combinations with this setting: aggregate"),
        ("coranking", "arms.small.strategy.tournaments", "strategy has no setting tournaments "
         "(--rerank.arms.small.strategy.tournaments); strategies with this setting: tournament"),
    ],
)  # fmt: skip
def test_a_setting_of_another_part_of_its_kind(
    name: str, flag: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["explain", "--rerank", name, "--rerank.engine.name", "oracle", f"--rerank.{flag}", "1"]
    found = said(line, capsys)
    assert message in found
    assert "did you mean" not in found


def test_a_setting_of_another_strategy_in_python() -> None:
    with pytest.raises(UsageError, match=r"the pointwise strategy has no setting window_size .*: .*sliding"):
        Reranker("rank1", engine="oracle", strategy={"window_size": 10})


def test_a_near_miss_in_an_arm_and_in_python(capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        "explain",
        "--rerank",
        "coranking",
        "--rerank.engine.name",
        "oracle",
        "--rerank.arms.small.window_size",
        "1",
    ]
    assert "did you mean --rerank.arms.small.strategy.window_size?" in said(line, capsys)
    with pytest.raises(UsageError, match=r"did you mean --rerank\.strategy\.window_size\?"):
        Reranker("reasonrank", engine="oracle", window_size=10)


def sections(text: str) -> set[str]:
    return set(re.findall(r"^((?:judge|strategy|combine|engine) [^\s:]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", rerankers.names())
def test_help_on_a_reranker_shows_what_it_uses(name: str) -> None:
    text = flags_help(name)
    tree = rerankers.read(name)
    assert text.startswith(f"{name}: {tree['about']}")
    expected = {"judge (all)", "engine (all)", "engine vllm", "engine transformers", "engine openai"}
    if "combine" in tree:
        expected |= {f"combine {tree['combine']['name']}"}
        assert expected <= sections(text)
    else:
        expected |= {f"judge {tree['judge']['kind']}", f"strategy {tree['strategy']['name']}"}
        assert sections(text) == expected
    assert "--rerank.depth" in text


def test_help_follows_the_other_flags() -> None:
    found = sections(flags_help("reasonrank", {"engine": {"name": "oracle"}, "strategy": {"name": "pivot"}}))
    assert found == {"judge (all)", "judge permutation", "strategy pivot", "engine (all)", "engine oracle"}


def test_help_on_all_shows_the_rest() -> None:
    every = {"judge (all)", "engine (all)"} | {f"{group.key} {group.name}" for group in option_groups()}
    assert sections(flags_help("upr", everything=True)) == sections(flags_help()) == every


@pytest.mark.parametrize("command", ["rerank", "explain"])
def test_the_help_of_commands_shows_the_flag(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert re.search(r"^  --rerank NAME  +the reranker", capsys.readouterr().out, re.MULTILINE)
    assert main([command, "--rerank", "upr", "--help"]) == 0
    assert "judge likelihood:" in (one := capsys.readouterr().out)
    assert "judge permutation:" not in one
    assert main([command, "--rerank", "upr", "--help-all"]) == 0
    assert "judge permutation:" in capsys.readouterr().out
    assert main([command, "--rerank", "urp", "--help"]) == 2
    assert "did you mean 'upr'" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "others"), [("--help", False), ("--help-all", True)])
def test_the_help_of_a_search(
    flag: str, others: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "FIRST_STAGE", "this")  # Pyserini's own help, printed by another process
    monkeypatch.setattr(sys, "executable", "/bin/true")
    assert search.main(["--rerank", "upr", flag], "pyserini.search.lucene") == 0
    printed = capfd.readouterr().out
    assert "judge likelihood:" in printed
    assert ("judge permutation:" in printed) is others


def test_the_help_names_the_timeout() -> None:
    assert re.search(r"--rerank\.engine\.timeout  +seconds until .* sent again.*\[3600\.0\]", flags_help("reasonrank"))
