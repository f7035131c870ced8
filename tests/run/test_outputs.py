"""What a command may write to, and what it refuses before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import Collection
from filelock import FileLock

from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.errors import Failure
from pyserini_reasonrank.ir.metadata import sidecar
from pyserini_reasonrank.ir.validate import validate
from pyserini_reasonrank.run import pipeline


def rerank(collection: Collection, output: object, *more: str, inputs: Sequence[str] = (), qrels: object = None) -> int:
    oracle = ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", str(qrels or collection.qrels)]
    words = ["--rerank", "reasonrank", *oracle]
    return main(["rerank", *(inputs or collection.inputs), "--output", str(output), *words, *more])


@pytest.mark.parametrize("name", ["run", "topics", "corpus", "qrels"])
@pytest.mark.parametrize("link", [False, True])
def test_an_output_that_is_an_input_is_refused(
    name: str, link: bool, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = getattr(collection, name)
    before = path.read_bytes()
    output = path
    if link:
        output = tmp_path / "linked"
        output.hardlink_to(path)
    assert rerank(collection, output, "--rerank.overwrite", "true") == 2
    assert "is an input of this command" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("output", ["/dev/null", "/dev/stdout", "/dev/new"])
def test_a_device_is_refused(output: str, collection: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    assert rerank(collection, output) == 2
    assert "is a device or a pipe" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run.txt.gz", "run.GZ", "run.txt.zst"])
def test_a_name_of_a_compressed_file_is_refused(
    name: str, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix = Path(name).suffix.lower()
    assert rerank(collection, tmp_path / name) == 2
    assert f"--output {tmp_path / name} would be written uncompressed; use a name without {suffix}" in (
        capsys.readouterr().err
    )
    assert rerank(collection, tmp_path / "run.txt") == 0
    for command in (
        ["merge", str(tmp_path / name), str(tmp_path / "run.txt")],
        ["report", str(tmp_path / "run.txt"), "--output", str(tmp_path / name)],
        [
            "rewrite",
            "--topics",
            str(collection.topics),
            "--output",
            str(tmp_path / name),
            "--rewrite",
            "keywords",
            "--rewrite.engine.name",
            "openai",
            "--rewrite.engine.base_url",
            "http://localhost:1/v1",
        ],
    ):
        assert main(command) == 2
        assert f"{tmp_path / name} would be written uncompressed" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("made", ["new", "new/deeper"])
def test_a_command_that_fails_leaves_no_empty_folder(
    made: str, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    monkeypatch.chdir(tmp_path)
    assert rerank(collection, f"{made}/run.txt", "--qids", "unknown") == 2
    assert rerank(collection, "old/run.txt", "--qids", "unknown") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert rerank(collection, f"{made}/run.txt") == 0
    assert Path(made, "run.txt").exists()


def test_a_run_that_another_process_writes_is_refused(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(tmp_path / "run.txt.lock"):
        assert rerank(collection, tmp_path / "run.txt") == 2
    assert "another process is writing" in capsys.readouterr().err
    assert rerank(collection, tmp_path / "run.txt") == 0
    assert not (tmp_path / "run.txt.lock").exists()


def test_a_command_that_ends_between_the_run_and_its_metadata_can_be_repeated(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, lock = tmp_path / "run.txt", tmp_path / "run.txt.lock"

    def full(*_: object) -> None:
        raise Failure("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_metadata", full)
        assert rerank(collection, output) == 1
    before = output.read_bytes()
    assert lock.exists()
    assert rerank(collection, output, "--rerank.depth", "5") == 2
    assert "was not made with these settings" in capsys.readouterr().err
    assert lock.exists()
    assert rerank(collection, output) == 0
    assert output.read_bytes() == before
    assert sidecar(output).exists()
    assert not lock.exists()


def test_an_existing_run_of_other_settings_is_kept(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run.txt"
    assert rerank(collection, output) == 0
    assert rerank(collection, output, "--rerank.engine.concurrency", "3") == 0
    before = output.read_bytes()
    assert rerank(collection, output, "--rerank.depth", "5") == 2
    assert "--rerank.overwrite true" in capsys.readouterr().err
    assert output.read_bytes() == before
    assert rerank(collection, output, "--rerank.depth", "5", "--rerank.overwrite", "true") == 0


@pytest.mark.parametrize("flag", ["--run", "--topics"])
@pytest.mark.parametrize("joined", [False, True])
def test_an_existing_run_of_other_inputs_is_kept(
    flag: str, joined: bool, collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rerank_with(path: Path, *more: str) -> int:
        given = {**as_given, flag: str(path)}.items()
        return rerank(
            collection, output, *more, inputs=[w for f, v in given for w in ([f"{f}={v}"] if joined else [f, v])]
        )

    as_given = dict(zip(collection.inputs[::2], collection.inputs[1::2], strict=True))
    output, own = tmp_path / "run.txt", Path(as_given[flag])
    other, renamed = tmp_path / "other.txt", tmp_path / "renamed.txt"
    other.write_bytes(own.read_bytes())
    renamed.symlink_to(own)
    assert rerank(collection, output) == 0
    assert rerank_with(renamed) == 0  # the same file
    before = output.read_bytes()
    assert rerank_with(other) == 2
    assert f"exists and was made from {flag} {renamed}: name another file" in capsys.readouterr().err
    assert output.read_bytes() == before
    assert rerank_with(other, "--rerank.overwrite", "true") == 0


def test_a_run_on_stdout(collection: Collection, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert rerank(collection, "-") == 0
    printed, said = capfd.readouterr()
    (tmp_path / "run.txt").write_text(printed)
    assert validate(tmp_path / "run.txt", first=collection.run).findings == ()
    assert "3 of 4 reranked" in said


@pytest.mark.parametrize(("flag", "value"), [("tag", "two words"), ("docid_blanks", "a b")])
@pytest.mark.parametrize("output", ["run.txt", "-"])
def test_what_a_run_can_not_contain_is_refused_before_an_engine_starts(
    flag: str, value: str, output: str, collection: Collection, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = str(tmp_path / output) if output != "-" else output
    assert rerank(collection, given, f"--rerank.{flag}", value, qrels="no such file") == 2
    printed, said = capfd.readouterr()
    assert f"{value!r} contains white space, which a run file can't represent" in said
    assert (printed, said.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())
