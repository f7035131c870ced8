"""The reader of ``conf/2cr``: a matrix is a file of conditions, in the schema of Pyserini's two-click reproductions.

A condition has a command with ``$fields`` and, for each topic set, the key of the topics, the key of the qrels and the
published scores. Beside Pyserini's keys there are a source, a tolerance, what to prepare, and a mean over topic sets.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pyserini_reasonrank.errors import UsageError, nearest, validated
from pyserini_reasonrank.resources import conf, parse_yaml, yaml_names

FOLDER = "2cr"
ALL = "all"
DEFAULT_MEASURES = ("nDCG@10",)
"""Measures of a topic set without a published score."""

Scores = list[dict[str, float]]
"""Values by measure. Pyserini writes a list, usually of one mapping."""


class TopicSet(BaseModel):
    """Topics, qrels and published scores. Any other key is a field of the command, ``$key``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    topic_key: Annotated[str, Field(description="topics: Pyserini's name, or a path")]
    eval_key: Annotated[str, Field(description="qrels: Pyserini's name, or a path")]
    scores: Scores = []

    @property
    def fields(self) -> dict[str, str]:
        return {name: str(value) for name, value in (self.model_extra or {}).items()}

    @property
    def name(self) -> str:
        """``dataset`` if the set has that field, else the key of its topics."""
        return self.fields.get("dataset", self.topic_key)

    @property
    def expected(self) -> dict[str, float]:
        return merged(self.scores)


class Preparation(BaseModel):
    """A command that runs first, unless the path ``creates`` exists."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    creates: str
    command: str


class Condition(BaseModel):
    """A system of a matrix: a command that writes ``$output``, or a published run that is only evaluated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    display: str
    source: Annotated[str, Field(description="paper and table, or page, of the scores")]
    command: str | None = None
    run: Annotated[str | None, Field(description="path of a published run, instead of a command")] = None
    prepare: list[Preparation] = []
    tolerance: Annotated[float | None, Field(description="instead of the matrix's")] = None
    topics: list[TopicSet]
    average: Annotated[Scores, Field(description="published means over the topic sets")] = []

    @model_validator(mode="after")
    def _one_origin(self) -> Condition:
        if (self.command is None) == (self.run is None):
            raise ValueError(f"condition {self.name} needs either a command or a run")
        return self

    def topic_set(self, name: str) -> TopicSet:
        """The topic set called ``name``. UsageError if there is none."""
        known = {topics.name: topics for topics in self.topics}
        if name not in known:
            raise UsageError(f"condition {self.name} has no topics {name!r}{nearest(name, known)}")
        return known[name]


class Matrix(BaseModel):
    """The conditions of one file of ``conf/2cr``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    display: str
    about: str
    hardware: Literal["cpu", "gpu"]
    tolerance: Annotated[float, Field(description="largest difference that is still OKish")] = 0.0005
    downloads: Annotated[
        dict[str, str], Field(description="by folder of the collections: what it is, and where from")
    ] = {}
    conditions: list[Condition]

    def condition(self, name: str) -> Condition:
        """The condition called ``name``. UsageError if there is none."""
        known = {condition.name: condition for condition in self.conditions}
        if name not in known:
            raise UsageError(f"matrix {self.name} has no condition {name!r}{nearest(name, [*known, ALL])}")
        return known[name]

    def chosen(self, name: str) -> list[Condition]:
        """The condition called ``name``, or all of them for ``all``."""
        return self.conditions if name == ALL else [self.condition(name)]

    def tolerance_of(self, condition: Condition) -> float:
        return self.tolerance if condition.tolerance is None else condition.tolerance


def names() -> list[str]:
    """The matrices that ship with the package."""
    return yaml_names(FOLDER)


@cache
def load(name: str) -> Matrix:
    """The matrix called ``name``. UsageError if there is none, or if its file is malformed."""
    if name not in names():
        raise UsageError(f"there is no matrix {name!r}{nearest(name, names())}")
    source = f"conf/{FOLDER}/{name}.yaml"
    tree = parse_yaml(conf(FOLDER, f"{name}.yaml").read_text(encoding="utf-8"), source)
    anchors = {key for key in tree if key.startswith("x-")}  # parts that other entries refer to
    kept = {key: value for key, value in tree.items() if key not in anchors}
    return validated(Matrix, {"name": name, **kept}, source)


def merged(scores: Scores) -> dict[str, float]:
    """The mappings of a list of scores as one."""
    return {measure: value for each in scores for measure, value in each.items()}
