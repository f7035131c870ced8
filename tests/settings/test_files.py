"""The reader of settings files: types, where a fault is, and what is written is read back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.resources import dump_yaml, parse_yaml, yaml_names
from pyserini_reasonrank.settings import files

FLAG = "--rerank.config"


def read(folder: Path, content: str | bytes) -> dict[str, Any]:
    path = folder / "mine.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return files.read(str(path), flag=FLAG)


def test_values_have_the_types_of_flags(tmp_path: Path) -> None:
    content = """
rate: 1e-5
large: 1E+5
half: .5
count: 20
revision: 0123
time: 12:30
thousand: 1_000
date: 2024-01-31
hexadecimal: 0x1F
plus: +5
on_error: keep
empty:
none: null
flag: true
list: [1, 1e3, 007]
quoted: "1e-5"
infinite: .inf
"""
    assert read(tmp_path, content) == {
        "rate": 1e-5, "large": 1e5, "half": 0.5, "count": 20, "revision": "0123", "time": "12:30", "thousand": "1_000",
        "date": "2024-01-31", "hexadecimal": "0x1F", "plus": "+5", "on_error": "keep", "empty": None, "none": None,
        "flag": True, "list": [1, 1000.0, "007"], "quoted": "1e-5", "infinite": math.inf,
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path, "tag: Größe\r\ndepth: 5\r\n".encode(encoding)) == {"tag": "Größe", "depth": 5}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "depth: 5\nsampling:\n  seed: 1\n  seed: 2\n",
            "line 4, column 3: invalid YAML: the key 'seed' is given twice",
        ),
        ("depth: 5\ntag: x\ndepth: 6\n", "line 3, column 1: invalid YAML: the key 'depth' is given twice"),
        ("depth: 5\n tag: [", "line 2, column 5: invalid YAML: "),
        ("a: b: c", "line 1, column 5: invalid YAML: "),
        ("a: !!python/object:os.system x", "line 1, column 4: invalid YAML: "),
        ("a: \x00", ": invalid YAML: "),
        ("- a", " does not contain a YAML mapping (lines of KEY: VALUE)"),
        ("", " does not contain a YAML mapping (lines of KEY: VALUE)"),
        (b"a: \xff", " is not text in UTF-8 (byte 3)"),
    ],
)
def test_a_fault_is_located(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, content)
    assert f"mine.yaml{says}" in str(error.value).replace("mine.yaml, ", "mine.yaml")
    assert "\n" not in str(error.value)


def test_a_merge_may_override_keys_of_its_base(tmp_path: Path) -> None:
    content = "base: &base {a: 1, b: 2}\nmine: {<<: *base, b: 3}\n"
    assert read(tmp_path, content)["mine"] == {"a": 1, "b": 3}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--rerank\.config no\.yaml does not exist$"):
        files.read("no.yaml", flag=FLAG)
    with pytest.raises(UsageError, match=r"is not a file$"):
        files.read(str(tmp_path), flag=FLAG)
    with pytest.raises(
        UsageError, match=r"^--config x/sft-rank-r.yaml: no such file, .* did you mean 'sft-rank-r1'\?$"
    ):
        files.read("x/sft-rank-r.yaml", flag="--config", folder="train")


@pytest.mark.parametrize(
    ("folder", "name"), [(f, name) for f in ("rerankers", "rewriters", "train") for name in yaml_names(f)]
)
def test_shipped_files_are_read_by_name(folder: str, name: str) -> None:
    assert files.read(name, flag="--config", folder=folder)


TEXT = st.text(st.characters(exclude_characters="\x85\u2028\u2029", codec="utf-8"))  # PyYAML folds these line breaks
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.from_regex(r"\A[-+.0-9eE_:x]{1,6}\Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(TEXT, TREES, max_size=3))
def test_what_is_written_is_read_back(tree: dict[str, Any]) -> None:
    text = dump_yaml(tree)
    assert parse_yaml(text, "written") == tree
    assert yaml.safe_load(text) == tree
