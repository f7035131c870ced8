"""Records of released files: JSON lines, a JSON array, Parquet, a folder of them, or a data set of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import read_lines

HUB = "hf:/"  # the start of a path that was hf://OWNER/NAME; a Path has one slash
SUFFIXES = (".parquet", ".jsonl", ".json")
_ARRAY = b"["


def record_files(path: Path) -> list[Path]:
    """The files that ``path`` names: a file, those of a folder, or those of a data set ``hf://OWNER/NAME[/FILE]``.

    UsageError if there is none, or if the hub does not give them.
    """
    if str(path).startswith(HUB):
        path = _from_hub(str(path).removeprefix(HUB).lstrip("/"))
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if is_records(file) and file.is_file())
    if not found:
        raise UsageError(f"{path} has no file of records ({', '.join(SUFFIXES)})")
    return found


def is_records(path: Path) -> bool:
    """Whether the file's name, without .gz, is one of a file of records."""
    return Path(path.name.removesuffix(".gz")).suffix in SUFFIXES


def holds_records(path: Path) -> bool:
    """Whether ``path`` names records: a file of them by its name, a folder, or a data set of the hub."""
    return is_records(path) or path.is_dir() or str(path).startswith(HUB)


def values(path: Path) -> Iterator[tuple[str, Any]]:
    """Each record of the files of ``path`` after its place (file and line, or file and row); None if it is not JSON.

    UsageError for a file that can't be read.
    """
    for file in record_files(path):
        if file.suffix == ".parquet":
            yield from _parquet(file)
        elif _is_array(file):
            yield from _array(file)
        else:
            for where, line in read_lines(file):
                try:
                    yield where, json.loads(line)
                except ValueError:
                    yield where, None


def _is_array(file: Path) -> bool:
    """Whether the file starts with a bracket, as a JSON array does; records as JSON lines are mappings."""
    if not file.is_file() or file.suffix not in (".json", ".jsonl"):
        return False
    with file.open("rb") as opened:
        return opened.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_ARRAY)


def _array(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UsageError(f"{file} starts as a JSON array and is not one: {error}") from None
    for number, record in enumerate(found, 1):
        yield f"{file}, record {number}", record


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=256):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", record
    except (OSError, ArrowException) as error:
        raise UsageError(f"{file} can't be read as Parquet: {' '.join(str(error).split())[:200]}") from None


def _from_hub(name: str) -> Path:
    """The local copy of a data set, or of one of its files."""
    from huggingface_hub import snapshot_download

    owner, _, rest = name.removeprefix("datasets/").partition("/")
    dataset, _, file = rest.partition("/")
    if not owner or not dataset:
        raise UsageError(f"hf://{name} does not name a data set: write hf://OWNER/NAME or hf://OWNER/NAME/FILE")
    wanted = [file, f"{file}/*"] if file else [f"*{suffix}*" for suffix in SUFFIXES]
    try:
        folder = Path(snapshot_download(f"{owner}/{dataset}", repo_type="dataset", allow_patterns=wanted))
    except Exception as error:  # the client's errors have no common class
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the data set hf://{name} can't be fetched: {reason}; download it and name its folder"
        ) from None
    return folder / file if file else folder
