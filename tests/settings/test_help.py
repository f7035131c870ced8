"""The help on declared settings: every key, with its description, choices and default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from pyserini_reasonrank.settings.help import setting_lines


class Inner(BaseModel):
    path: Annotated[Path, Field(description="a file")]
    size: Annotated[int, Field(description="how many")] = 3


class Outer(BaseModel):
    name: Annotated[str, Field(description="what it is called")]
    kind: Annotated[Literal["a", "b"], Field(description="which")] = "a"
    kinds: list[Literal["c", "d"]] = ["c"]
    opening: str = "\n<answer>"
    inner: Annotated[Inner | None, Field(description="more of it")] = None
    made: Annotated[Inner | None, Field(description="read from a file"), BeforeValidator(lambda value: value)] = None
    tree: Annotated[dict[str, Any], Field(description="name and settings")] = {"name": "x", "size": 2}
    each: Annotated[dict[str, Inner], Field(description="one a name")] = {}
    count: int | None = None
    hidden: int = 1


def test_every_key_has_a_line() -> None:
    assert setting_lines(Outer, "--x.", skip=["hidden"], more={"other.KEY": "anything else"}) == [
        "  --x.name        what it is called (required)",
        "  --x.kind        which; a | b [a]",
        "  --x.kinds       c | d [['c']]",
        "  --x.opening     str ['\\n<answer>']",
        "  --x.inner       more of it",
        "  --x.inner.path  a file (required with --x.inner)",
        "  --x.inner.size  how many [3]",
        "  --x.made        read from a file",
        "  --x.tree        name and settings [name: x, size: 2]",
        "  --x.each        one a name",
        "  --x.count       int",
        "  --x.other.KEY   anything else",
    ]


def test_a_model_without_keys_has_no_lines() -> None:
    assert setting_lines(BaseModel) == []
