"""The reader and writer of YAML, and the files that ship with the package (``conf/`` in the repository)."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml

from pyserini_reasonrank.errors import UsageError

SCALARS = {
    "null": re.compile(r"(?:~|null|Null|NULL|)\Z"),
    "bool": re.compile(r"(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)\Z"),
    "int": re.compile(r"(?:0|-?[1-9][0-9]{0,999})\Z"),
    "float": re.compile(
        r"(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
}
"""Patterns of the plain scalars that are not text, by YAML type."""


_MOST_VALUES = 100_000  # of a document; a few lines with aliases can have billions


class Loader(yaml.SafeLoader):
    """Loads YAML with the scalar types of ``SCALARS``, and rejects repeated keys.

    It differs from YAML 1.1: ``1e-5`` is a number; ``0123``, ``1_000``, ``12:30`` and ``2024-01-31`` are text. Only
    integers that Python formats in the same way are integers.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def get_single_data(self) -> Any:
        """The document. YAMLError if it is nested too deeply, or if its aliases contain themselves or repeat too much."""
        try:
            data = super().get_single_data()
        except RecursionError:
            raise yaml.YAMLError("it is nested too deeply") from None
        waiting, values = [data], 0
        while waiting:
            value = waiting.pop()
            values += 1
            if values + len(waiting) > _MOST_VALUES:
                raise yaml.YAMLError(f"it has more than {_MOST_VALUES:,} values, or an alias that contains itself")
            if isinstance(value, dict):
                waiting.extend(value.values())
            elif isinstance(value, list):
                waiting.extend(value)
        return data

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set[Any]()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise DuplicateKey(None, None, f"the key {key!r} is given twice", key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """Writes YAML that YAML 1.1 and ``Loader`` read alike: text that one of them would read as another type is quoted."""


class DuplicateKey(yaml.constructor.ConstructorError):
    """A mapping has a key twice."""


for _type, _pattern in {**SCALARS, "merge": re.compile(r"<<\Z")}.items():
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_type}", _pattern, None)


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The YAML mapping in ``text``. UsageError with ``source``, line and column if it is anything else."""
    try:
        tree = yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(f"{source}{place}: invalid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{source}: invalid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{source} does not contain a YAML mapping (lines of KEY: VALUE)")
    return tree


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """``tree`` as YAML, with its keys in their order."""
    text: str = yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return text


def conf(*parts: str) -> Traversable:
    """``conf/``, or a file or folder in it."""
    return files("pyserini_reasonrank.conf").joinpath(*parts)


def yaml_names(folder: str) -> list[str]:
    """The YAML files of a folder of ``conf/``, without their ending, sorted."""
    return sorted(f.name.removesuffix(".yaml") for f in conf(folder).iterdir() if f.name.endswith(".yaml"))
