"""The demo corpus: the documentation strings of the standard library, one document per documented object."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import MappingProxyType

from pyserini_reasonrank.demo.stdlib import Entry, Module, read_modules
from pyserini_reasonrank.ir.file_io import atomic

MIN_WORDS = 4
"""The number of words below which a docstring is dropped: it says too little to judge its relevance."""

RENAMED = MappingProxyType({"posixpath": "os.path"})
"""The public names of modules that are known by another name."""

IMPLEMENTATION = frozenset({"genericpath", "nt", "posix"})
"""Private modules whose names do not begin with an underscore."""

STANDARD_OUTPUT = "-"

_Key = tuple[str, str]  # (defining module, name in it)


def write_corpus(path: str | os.PathLike[str]) -> int:
    """Write the corpus as JSON lines ``{"id", "contents"}`` in docid order and return the number of documents.

    The bytes are the same for the same interpreter; other Python versions and builds document other objects.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = _lines()
    with atomic(target) as file:
        file.write(lines)
    return lines.count(b"\n")


def documents() -> list[tuple[str, str]]:
    """Every (docid, text), sorted by docid: the dotted name, and name, signature and docstring on one line.

    Docstrings of fewer than ``MIN_WORDS`` words are dropped. Of objects with the same docstring (an override that repeats
    that of its base, ``bytes`` and ``bytearray``) one is kept: builtins first, then the name with the fewest dots, then
    the shortest, then the first in the alphabet.
    """
    records = map(json.loads, _lines().splitlines())
    return [(record["id"], record["contents"]) for record in records]


def _lines() -> bytes:
    """The corpus, read by an interpreter of its own: in this one, libraries may have replaced builtins (Ray: print)."""
    command = [sys.executable, "-m", "pyserini_reasonrank.demo.collection", STANDARD_OUTPUT]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def _documents() -> list[tuple[str, str]]:
    entries = sorted(_Library(read_modules()).entries(), key=lambda pair: _precedence(pair[0]))
    chosen: dict[str, str] = {}
    docstrings: set[str] = set()
    for docid, entry in entries:
        docstring = " ".join(entry.docstring.split())
        # if a class overrides a member of a private base, the name occurs twice, with its own documentation first
        if docid not in chosen and docstring not in docstrings and len(docstring.split()) >= MIN_WORDS:
            chosen[docid] = " ".join(f"{docid}{entry.signature} {docstring}".split())
            docstrings.add(docstring)
    return sorted(chosen.items())


def _precedence(name: str) -> tuple[bool, int, int, str]:
    return not name.startswith("builtins."), name.count("."), len(name), name


class _Library:
    """All modules. It follows the imports between them to find the public name of each object."""

    def __init__(self, modules: Iterable[Module]) -> None:
        self._modules = {module.name: module for module in modules}

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Yield the documented objects that have a public name, under that name."""
        names = self._names()
        for module in self._modules.values():
            if _public(module.name):
                yield RENAMED.get(module.name, module.name), Entry("", "", self._docstring(module))
            for name, entries in module.objects.items():
                if public := names.get((module.name, name)):
                    yield from ((public + entry.member, entry) for entry in entries)

    def _docstring(self, module: Module) -> str:
        borrowed = (self._modules[source].docstring for source, name, _ in module.imports if name == "__doc__")
        return module.docstring or next(borrowed, "")

    def _names(self) -> dict[_Key, str]:
        """The public name of each object: the one with the fewest dots, then the first in the alphabet, among

        - its own name, if its module is public;
        - the names under which public modules import it, if it is defined in a private module (``_struct.pack`` is
          ``struct.pack``) or in a submodule of the importing package (``asyncio.tasks.gather`` is ``asyncio.gather``).
        """
        names: dict[_Key, list[str]] = {}
        for module in self._modules.values():
            if _public(module.name):
                for name in {*module.objects, *self._imported(module)}:
                    key = self._origin(module.name, name)
                    if key and (key[0] == module.name or self._republishes(key[0], module, name)):
                        names.setdefault(key, []).append(f"{RENAMED.get(module.name, module.name)}.{name}")
        return {key: min(found, key=lambda name: (name.count("."), name)) for key, found in names.items()}

    def _republishes(self, definer: str, module: Module, name: str) -> bool:
        """Whether ``module``, which imports ``name`` from ``definer``, publishes it as its own."""
        if definer.startswith(f"{module.name}."):
            return True
        if _public(definer):
            return False
        wholesale = (found for source, theirs, _ in module.imports if theirs == "*" for found in self._star(source))
        return definer.strip("_") == module.name or name in module.exported or name in wholesale

    def _imported(self, module: Module) -> Iterator[str]:
        for source, name, own in module.imports:
            yield from self._star(source) if name == "*" else [own]

    def _star(self, source: str) -> list[str]:
        """The names that ``from source import *`` imports."""
        module = self._modules.get(source)
        if module is None:
            return []
        return [name for name in module.exported or [*module.objects, *self._imported(module)] if _public(name)]

    def _origin(self, module: str, name: str) -> _Key | None:
        """The module and name of the object that ``module`` calls ``name``: the first of its sources that documents it."""
        found = self._modules.get(module)
        if found is None or not _public(name):
            return None
        if name in found.objects:
            return module, name
        for source, theirs, own in found.imports:
            brings = own == name or (theirs == "*" and name in self._star(source))
            if brings and source != module and (key := self._origin(source, name if theirs == "*" else theirs)):
                return key
        return None


def _public(name: str) -> bool:
    return name not in IMPLEMENTATION and not any(part.startswith("_") for part in name.split("."))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pyserini_reasonrank.demo.collection", description=__doc__)
    parser.add_argument("output", metavar="OUT.jsonl", help="the corpus file to write; - for standard output")
    output = parser.parse_args().output
    if output == STANDARD_OUTPUT:
        records = ({"id": docid, "contents": text} for docid, text in _documents())
        lines = "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
        sys.stdout.buffer.write(lines.encode())
    else:
        print(f"{write_corpus(output)} documents written to {output}")


if __name__ == "__main__":
    main()
