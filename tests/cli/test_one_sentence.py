"""What clumsy hands type and what full disks do ends in one sentence and the right status, never in a traceback."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Collection
from pytest_httpserver import HTTPServer
from tiny import tiny_model

from pyserini_reasonrank import journal, search
from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.engines import transformers
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.run import compatibility

SECRET = "s3cret-of-mine"
Words = Callable[..., list[str]]
Refused = Callable[..., str]


@pytest.fixture
def words(collection: Collection, tmp_path: Path) -> Words:
    def line(*more: object) -> list[str]:
        oracle = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(collection.qrels)]
        output = ["--output", str(tmp_path / "run.txt")]
        return ["rerank", *collection.inputs, *output, "--rerank", "reasonrank", *oracle, *map(str, more)]

    return line


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Refused:
    """``refused(status, words)``: the only line that a failing command prints, without its beginning."""

    def run(status: int, line: list[str], command: Callable[[list[str]], int] = main) -> str:
        assert command(line) == status
        printed, said = capfd.readouterr()
        assert printed == ""
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert SECRET not in said
        return said.removeprefix("error: ").strip()

    return run


# --- full disks


@pytest.mark.parametrize("name", ["run.txt.partial", "run.txt.tmp", "run.txt.ir-metadata.yml.tmp"])
def test_a_full_disk_while_an_output_is_written(name: str, words: Words, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    said = refused(1, words())
    assert said == f"{tmp_path / name.removesuffix('.tmp')} can't be written: No space left on device"
    assert not (tmp_path / "run.txt").exists() or "metadata" in name


def test_a_full_disk_while_the_journal_is_written(
    words: Words, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, connections = Journal._connect, []

    def full(opened: Journal) -> sqlite3.Connection:
        connection = connect(opened)
        connections.append(connection)
        if len(connections) == 2:  # the one that writes
            [pages] = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(Journal, "_connect", full)
    said = refused(1, words("--rerank.strategy.window_size", "2"))
    assert said.startswith(
        f"the journal {tmp_path / 'run.txt.journal.sqlite'} can't be written: database or disk is full"
    )
    assert not (tmp_path / "run.txt").exists()


@pytest.mark.parametrize("statement", ["_RANKING", "_JUDGEMENT", "_ASKED"])
def test_a_journal_that_loses_a_row_that_nobody_waits_for(
    statement: str, words: Words, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, statement, "INSERT INTO gone VALUES (?)")
    assert "run.txt.journal.sqlite can't be written: no such table: gone" in refused(1, words())
    assert not (tmp_path / "run.txt").exists()


@pytest.mark.parametrize(
    "line", [["models"], ["--help"], ["explain", "--rerank", "upr", "--rerank.engine.name", "oracle"]]
)
def test_a_full_disk_behind_stdout(line: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pyserini_reasonrank", *line],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "error: stdout: No space left on device\n")


# --- addresses and keys


@pytest.mark.parametrize("where", ["flag", "list", "environment"])
def test_a_password_in_an_address_is_refused_and_never_printed(
    where: str, words: Words, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://me:{SECRET}/@x@host/v1"
    given = {"flag": url, "list": f"http://a/v1, {url}"}.get(where)
    if given is None:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    more = ["--rerank.engine.name", "openai", *(["--rerank.engine.base_url", given] if given else [])]
    line = words()[: words().index("--rerank.engine.name")] + more
    assert "contains a user name or a password: remove it" in refused(2, line)


@pytest.mark.parametrize(
    "flag", ["--rerank.engine", "--rerank.prompt", "--rerank.depth", "--rerank.judge.kind", "--rerank.x"]
)
def test_a_password_in_any_other_value_is_masked(flag: str, words: Words, refused: Refused) -> None:
    assert refused(2, words(flag, f"http://me:{SECRET}@host/x"))


@pytest.mark.parametrize("key", [f"{SECRET}\u2026", f"{SECRET} {SECRET}", f"{SECRET}\x7f", f"a\n{SECRET}"])
def test_a_key_with_odd_characters_is_refused_and_never_printed(
    key: str, words: Words, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    line = words()[: words().index("--rerank.engine.name")]
    said = refused(2, [*line, "--rerank.engine.name", "openai", "--rerank.tokenizer", "", "--rerank.model", "auto"])
    assert said.startswith("OPENAI_API_KEY contains a character that no key has")


def test_an_address_without_a_scheme(words: Words, refused: Refused) -> None:
    line = words()[: words().index("--rerank.engine.name")]
    said = refused(2, [*line, "--rerank.engine.name", "openai", "--rerank.engine.base_url", "localhost:8000/v1"])
    assert "'localhost:8000/v1' is not a URL: it has to begin with http:// or https://" in said


ANSWER = {"choices": [{"message": {"content": "<answer>[2] > [1]</answer>"}, "finish_reason": "stop"}]}


@pytest.fixture
def http() -> Iterator[HTTPServer]:
    with HTTPServer() as server:
        yield server


def served(words: Words, http: HTTPServer, path: str, *more: str) -> list[str]:
    line = words()[: words().index("--rerank.engine.name")]
    return [*line, "--rerank.engine.name", "openai", "--rerank.engine.base_url", http.url_for(path).rstrip("/"), *more]


def test_an_address_without_v1_is_tried_with_it(
    words: Words, http: HTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    http.expect_request("/v1/models").respond_with_json({"data": [{"id": "m"}]})
    http.expect_request("/v1/chat/completions").respond_with_json(ANSWER)
    assert main(served(words, http, "/")) == 0
    said = capsys.readouterr().err
    assert f"{http.url_for('/').rstrip('/')}/v1 has one and is used: add /v1 to --rerank.engine.base_url" in said


def test_an_address_that_works_as_it_is_stays(
    words: Words, http: HTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    http.expect_request("/models").respond_with_json({"data": [{"id": "m"}]})
    http.expect_request("/chat/completions").respond_with_json(ANSWER)
    assert main(served(words, http, "/")) == 0
    assert "/v1" not in capsys.readouterr().err


def test_a_404_names_its_url(words: Words, http: HTTPServer, capsys: pytest.CaptureFixture[str]) -> None:
    http.expect_request("/api/models").respond_with_json({"data": [{"id": "m"}]})
    http.expect_request("/api/chat/completions").respond_with_data("not here", status=404)
    assert main(served(words, http, "/api")) == 1
    assert f"POST {http.url_for('/api/chat/completions')}: " in capsys.readouterr().err


# --- flags


@pytest.mark.parametrize(
    "line", [["rerank", "--output", "x", "--rerank"], ["explain", "--rerank"], ["rerank", "--rerank", "--run", "x"]]
)
def test_the_flag_without_a_name_lists_the_names(line: list[str], refused: Refused) -> None:
    assert refused(2, line).startswith("--rerank needs the name of a reranker: acurank, aor, ")


@pytest.mark.parametrize("line", [["--rerank"], ["--index", "i", "--rerank", "--topics", "t"], ["--rerank="]])
def test_the_flag_without_a_name_in_a_search(line: list[str], refused: Refused) -> None:
    said = refused(2, line, lambda words: search.main(words, "pyserini.search.lucene"))
    assert said.startswith("--rerank needs the name of a reranker: acurank, aor, ")


@pytest.mark.parametrize("hits", ["0", "-3", "many"])
def test_no_hits_in_a_search(hits: str, refused: Refused) -> None:
    line = ["--index", "i", "--topics", "t", "--output", "o", f"--hits={hits}", "--rerank", "reasonrank"]
    said = refused(2, line, lambda words: search.main(words, "pyserini.search.lucene"))
    assert said == f"--hits {hits}: expected the number of hits per query, at least 1"


@pytest.mark.parametrize(
    "flag",
    ["--rerank.", "--rerank..", "--rerank.a b", "--rerank.d\u00e9pth", "--rerank.\udcff", "--rerank.depth.", "--rerank.depth.x",
     "--rerank.\n", "--rerank.engine.\x00", "--rerank.sampling.", "--rerank.arms.", "--rerank.arms.x.", "--rerank.[]",
     "--rerank.strategy..x", "--rerank.__class__", "--rerank.judge.\u2028"],
)  # fmt: skip
def test_keys_of_odd_characters(flag: str, words: Words, refused: Refused) -> None:
    assert refused(2, words(flag, "1"))


@pytest.mark.parametrize("folder", ["/proc/x", "/dev/x", "{run}/x"])
def test_a_folder_that_nobody_can_write_to(folder: str, collection: Collection, words: Words, refused: Refused) -> None:
    output = f"{folder.format(run=collection.run)}/run.txt"
    line = words()
    line[line.index("--output") + 1] = output
    assert output in refused(2, line)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--rerank.adapter", "/no/such/adapter", "--rerank.adapter /no/such/adapter does not exist"),
        ("--rerank.adapter", "./adapter", "--rerank.adapter ./adapter does not exist"),
        ("--rerank.prompt", "/no/such/prompt.yaml", "/no/such/prompt.yaml"),
    ],
)
def test_a_missing_adapter_or_prompt_is_found_before_a_model_loads(
    flag: str, value: str, says: str, words: Words, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    line = with_model(words(), tmp_path, capfd, monkeypatch)
    assert says in refused(2, [*line, flag, value])


def with_model(
    line: list[str], folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The command ``line`` with a model in place of the oracle, which fails the test when it is loaded."""
    model = tiny_model(folder / "model")
    capfd.readouterr()
    monkeypatch.setattr(transformers, "_loaded", lambda *_: pytest.fail("the model was loaded"))
    line = line[: line.index("--rerank.engine.name")]
    line += ["--rerank.engine.name", "transformers", "--rerank.model", str(model), "--rerank.sampling.max_tokens", "8"]
    return [*line, "--rerank.strategy.window_size", "2", "--rerank.passage_tokens", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "", "\x00", '{"qid": '])
@pytest.mark.parametrize("flag", ["--run", "--topics", "--corpus", "--candidates"])
def test_a_missing_or_odd_input_is_found_before_a_model_loads(
    flag: str, content: str | None, words: Words, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "input"
    if content is not None:
        file.write_text(content)
    line = with_model(words(), tmp_path, capfd, monkeypatch)
    if flag == "--candidates":
        inputs = [line.index(name) for name in ("--run", "--topics", "--corpus")]
        line = [word for i, word in enumerate(line) if not {i, i - 1} & set(inputs)] + [flag, "x"]
    line[line.index(flag) + 1] = str(file)
    assert str(file) in refused(2, line)


def test_an_adapter_for_the_shipped_model_is_checked_too() -> None:
    model = Model("smollm2-135m-rank", "smollm2-135m", None, "/no/such/adapter", None)
    demand = compatibility.Demand("upr", 100, [])
    with pytest.raises(UsageError, match=r"--rerank\.adapter /no/such/adapter does not exist"):
        compatibility.check(model, demand)


def test_a_line_break_in_a_value_keeps_the_message_in_one_line(words: Words, refused: Refused) -> None:
    assert "many" in refused(2, words("--rerank.depth", "many\nlines"))


def test_a_candidates_file_that_vanishes(words: Words, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    line = ["rerank", "--candidates", str(tmp_path / "c"), *words()[words().index("--output") :]]
    assert str(tmp_path / "c") in refused(2, line)
