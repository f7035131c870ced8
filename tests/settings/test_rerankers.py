"""A YAML file as a reranker: what it starts from, what overrides what, and paths relative to the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Collection, Command

from pyserini_reasonrank import Reranker
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import files, layers, rerankers
from pyserini_reasonrank.settings.relative import resolved_paths

ORACLE = {"engine": {"name": "oracle"}}
PROMPT = """
about: A short question
contract: best
messages: [{role: user, content: "{{ query }} {{ passages | join(' ') }}"}]
reminder: Again.
"""
Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write("a/mine.yaml", text)``: the path of a new file."""

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_a_file_starts_from_a_reranker(write: Write) -> None:
    made = layers.load(write("mine.yaml", "reranker: setwise\ndepth: 20\nstrategy: {children: 9}\n"), ORACLE)[0]
    own = rerankers.read("setwise")
    assert (made.name, made.depth) == ("mine", 20)
    assert made.strategy == {**own["strategy"], "children": 9}
    assert (made.prompt, made.judge) == (own["prompt"], own["judge"])
    assert made.run_tag("oracle") == "mine-oracle"


def test_flags_go_over_the_config_goes_over_the_file_goes_over_the_checkpoint(write: Write) -> None:
    brings = known_models()["rank-r1-7b"].settings
    assert {"prompt", "passage_tokens"} <= brings.keys()
    file = write(
        "mine.yaml", f"reranker: rank-r1\nprompt: {write('p.yaml', PROMPT)}\npassage_tokens: 7\ndepth: 3\ntag: a\n"
    )
    config = write("config.yaml", "depth: 4\ntag: b\n")
    made = layers.load(file, {"model": "rank-r1-7b", "config": config, "tag": "c"})[0]
    assert (Path(made.prompt).name, made.passage_tokens, made.depth, made.tag) == ("p.yaml", 7, 4, "c")
    plain = layers.load("rank-r1", {"model": "rank-r1-7b"})[0]
    assert plain.prompt != made.prompt


def test_a_file_starts_from_a_file_that_starts_from_a_reranker(write: Write) -> None:
    write("below/first.yaml", "reranker: reasonrank\ndepth: 30\nstrategy: {window_size: 10}\n")
    made = layers.load(write("second.yaml", "reranker: below/first.yaml\nstrategy: {stride: 3}\n"), ORACLE)[0]
    assert (made.name, made.depth) == ("second", 30)
    assert made.strategy == {"name": "sliding", "window_size": 10, "stride": 3}
    assert rerankers.published(str(write("third.yaml", "reranker: tourrank"))) == rerankers.published("tourrank")


def test_a_file_may_start_from_nothing(write: Write) -> None:
    write("p.yaml", PROMPT)
    text = "judge: {kind: best}\nstrategy: {name: heapsort, children: 2}\nprompt: p.yaml\n"
    made = plan(*layers.load(write("mine.yaml", text), ORACLE))
    assert isinstance(made, SinglePlan)
    assert made.template.spec.about == "A short question"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "depth: 3\n",
            r"mine\.yaml has neither a reranker to start from \(reranker: NAME\) nor a prompt nor a combination",
        ),
        ("reranker: setwize\n", "there is no reranker 'setwize'; did you mean 'setwise'"),
        ("reranker: mine.yaml\n", r"mine\.yaml starts from itself: .*mine\.yaml -> .*mine\.yaml"),
        ("reranker: sub/../mine.yaml\n", r"mine\.yaml starts from itself"),
        ("reranker: other.yaml\n", r"--rerank .*other\.yaml does not exist"),
        ("reranker: setwise\nstrategy: {childern: 3}\n", r"--rerank\.strategy\.childern is not known"),
        ("- a\n", "does not contain a YAML mapping"),
        ("reranker: [\n", r"mine\.yaml, line 2, column 1: invalid YAML"),
    ],
)
def test_a_wrong_file(text: str, message: str, write: Write) -> None:
    write("sub/unused.yaml", "")
    with pytest.raises(UsageError, match=message):
        plan(*layers.load(write("mine.yaml", text), ORACLE))


def test_a_config_file_is_not_a_reranker(write: Write) -> None:
    file = write("mine.yaml", "reranker: setwise\n")
    with pytest.raises(
        UsageError, match=rf"{file} is a reranker that starts from setwise: pass it with --rerank {file}"
    ):
        layers.load("setwise", {"config": file, **ORACLE})


def test_an_arm_may_be_a_file(write: Write) -> None:
    write("arms/short.yaml", "reranker: setwise\npassage_tokens: 33\nstrategy: {children: 4}\n")
    text = "reranker: coranking\narms: {large: {reranker: arms/short.yaml, strategy: {k: 2}}}\n"
    made = layers.load(write("mine.yaml", text), ORACLE)[0]
    large = made.arms["large"]
    assert (large.name, large.passage_tokens) == ("short", 33)
    assert large.strategy == {"name": "heapsort", "children": 4, "k": 2}


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    for name in ("adapter", "exclude.txt", "tokens"):
        (tmp_path / name).mkdir()
    given = {
        "prompt": "p.yaml", "corpus": "texts/c.jsonl", "journal": "j.sqlite", "adapter": "adapter", "model": "org/model",
        "topics": "dl19-passage", "exclude": "exclude.txt", "tag": "p.yaml", "engine": {"qrels": "q.txt", "tokenizer": "tokens"},
        "combine": {"router": "r.json", "name": "route"}, "arms": {"a": {"prompt": "../b.toml", "reranker": "c.yaml"}, "b": None},
    }  # fmt: skip
    assert resolved_paths(given, tmp_path) == {
        "prompt": f"{tmp_path}/p.yaml", "corpus": f"{tmp_path}/texts/c.jsonl", "journal": f"{tmp_path}/j.sqlite",
        "adapter": f"{tmp_path}/adapter", "model": "org/model", "topics": "dl19-passage", "exclude": f"{tmp_path}/exclude.txt",
        "tag": "p.yaml", "engine": {"qrels": f"{tmp_path}/q.txt", "tokenizer": f"{tmp_path}/tokens"},
        "combine": {"router": f"{tmp_path}/r.json", "name": "route"},
        "arms": {"a": {"prompt": f"{tmp_path}/../b.toml", "reranker": f"{tmp_path}/c.yaml"}, "b": None},
    }  # fmt: skip


@pytest.mark.parametrize("prompt", ["best", "rank_llm:a.yaml", "https://example.org/p.yaml#sha256=00", "/abs/p.yaml"])
def test_names_and_whole_paths_stay(prompt: str, tmp_path: Path) -> None:
    assert resolved_paths({"prompt": prompt}, tmp_path) == {"prompt": prompt}


def test_a_config_finds_its_prompt_from_any_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("sub/p.yaml", PROMPT)
    write("sub/config.yaml", "prompt: p.yaml\n")
    monkeypatch.chdir(tmp_path)
    assert files.read("sub/config.yaml", flag="--rerank.config") == {"prompt": "sub/p.yaml"}
    made = plan(*layers.load("setwise", {"config": "sub/config.yaml", **ORACLE}))
    assert isinstance(made, SinglePlan)
    assert made.template.name == "sub/p.yaml"


def test_python_takes_the_path(write: Write, collection: Collection) -> None:
    write("p.yaml", PROMPT)
    file = write(
        "mine.yaml", f"reranker: setwise\nprompt: p.yaml\nengine: {{name: oracle, qrels: {collection.qrels}}}\n"
    )
    with Reranker(Path(file), depth=3) as reranker:
        ranked = reranker.rank("query", [{"docid": f"long-d{i}", "text": "a"} for i in range(3)], qid="long")
    assert reranker.name == "mine"
    grades = [collection.grades["long"][result.docid] for result in ranked]
    assert grades == sorted(grades, reverse=True)


def test_commands_take_the_path(write: Write, collection: Collection, command: Command, tmp_path: Path) -> None:
    write("p.yaml", PROMPT)
    file = write("mine.yaml", "reranker: setwise\nprompt: p.yaml\ndepth: 5\nabout: My own reranker\n")
    oracle = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(collection.qrels)]
    done = command("rerank", *collection.inputs, "--output", str(tmp_path / "run.txt"), "--rerank", file, *oracle)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run.txt").read_text().splitlines()[0].endswith("mine-oracle")
    shown = command("rerank", "--help", "--rerank", file)
    assert "My own reranker" in shown.stdout
    written_over = command("rerank", *collection.inputs, "--output", file, "--rerank", file, *oracle)
    assert written_over.returncode == 2
    assert os.path.basename(file) in written_over.stderr
    assert Path(file).read_text().startswith("reranker: setwise")
