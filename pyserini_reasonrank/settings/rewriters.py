"""The rewriters, ``--rewrite NAME``: the YAML files of ``conf/rewriters``, and a YAML file by its path.

Their settings are those of a reranker that concern the LLM and its prompt, and some of their own. They come in the same
layers (``settings/layers.py``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pyserini_reasonrank.errors import UnknownKey, UsageError, nearest
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.settings import files, flags, layers
from pyserini_reasonrank.settings.flags import CONFIG
from pyserini_reasonrank.settings.overlay import merge
from pyserini_reasonrank.settings.relative import YAML
from pyserini_reasonrank.settings.schema import Settings, Tree

PREFIX = "--rewrite"
KIND = "rewrite"
"""The kind of judge that rewrites, which prompts and checkpoints name."""
BASE = "rewriter"
"""The key of a rewriter's YAML that names the rewriter it starts from."""
_FOLDER = "rewriters"
MOST_TERMS = 1024
"""The clauses of a query that Lucene accepts; each different term is one."""


class RewriteSettings(Settings):
    """Everything that ``--rewrite.*`` sets."""

    judge: Annotated[Tree, Field(description="how the answer is read")] = {"kind": KIND}
    rounds: Annotated[
        int, Field(ge=1, description="times each query is rewritten; later rounds show what the last query found")
    ] = 1
    depth: Annotated[int, Field(ge=1, description="passages that later rounds show")] = 5
    originals: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="times the original query is put before the rewrite; BM25 counts each; 0: rewrite alone",
        ),
    ] = 1
    most_terms: Annotated[
        int | None,
        Field(ge=1, description="different words of a rewritten query, which is cut there; null: any number"),
    ] = MOST_TERMS


OF_RERANKERS = frozenset({
    "as", "as_", "strategy", "combine", "arms", "fuse", "tag", "collection", "docid_blanks", "topics", "exclude", "segments",
    "keep", "threshold",
})  # fmt: skip
"""Keys of rerankers that a rewriter does not have."""


def names() -> list[str]:
    """Names for ``--rewrite``, sorted."""
    return yaml_names(_FOLDER)


def is_file(name: str) -> bool:
    """Whether ``name`` is the path of a YAML file."""
    return name.endswith(YAML)


def label(name: str) -> str:
    """The name of a rewriter in messages and metadata: of a file, its stem."""
    return Path(name).stem if is_file(name) else name


def read(name: str) -> Tree:
    """The settings of the rewriter ``name``. UsageError if there is none."""
    own, given = definition(name)
    return merge(own, given)


def definition(name: str, users: tuple[str, ...] = ()) -> tuple[Tree, Tree]:
    """The settings of the rewriter ``name``: those that a checkpoint's override, and those that override both.

    ``users`` are the rewriters that start from it. UsageError if there is none of this name, or if one starts from itself.
    """
    place = os.path.realpath(name) if is_file(name) else name
    if place in users:
        raise UsageError(f"the rewriter {name} starts from itself")
    if not is_file(name):
        if name not in names():
            raise UsageError(f"there is no rewriter {name!r}{nearest(name, names())}")
        return files.shipped_file(_FOLDER, name), {}
    tree = dict(files.read(name, flag=PREFIX))
    base = tree.pop(BASE, None)
    if base is None:
        if "prompt" not in tree:
            raise UsageError(f"{name} has neither a rewriter to start from ({BASE}: NAME) nor a prompt")
        return {}, tree
    own, given = definition(str(base), (*users, place))
    return own, merge(given, tree)


def load(name: str, tree: Tree, data: Sequence[str] = (), *, here: bool = True) -> tuple[RewriteSettings, list[str]]:
    """The settings of the rewriter ``name`` under the flags ``tree``, and warnings. UsageError for the first fault.

    ``data`` are the names of index and topics, and ``here`` is as for ``layers.load``.
    """
    own, given = definition(name)
    typed = {key: value for key, value in tree.items() if key != CONFIG}
    if (file := tree.get(CONFIG)) is not None:
        typed = merge(files.read(str(file), flag=f"{PREFIX}.{CONFIG}"), typed)
    given = merge(given, typed)
    for key in given:
        if key in OF_RERANKERS:
            raise UnknownKey(PREFIX, key, [key for key in RewriteSettings.model_fields if key not in OF_RERANKERS])
    own = merge({"judge": {"kind": KIND}}, own)
    settings, warnings = layers.load_single(label(name), own, given, PREFIX, layers.Use(data, here), RewriteSettings)
    return settings, warnings


def lift(argv: Sequence[str]) -> tuple[str | None, Tree, list[str]]:
    """Take ``--rewrite NAME`` and ``--rewrite.KEY VALUE`` out of ``argv``: the name, the tree of keys, the rest.

    UsageError for a flag without a value, and for keys without a name.
    """
    name, tree, rest = flags.lift(argv, PREFIX, RewriteSettings)
    if PREFIX in rest or (tree and name is None):
        raise without_name()
    return name, tree, rest


def without_name() -> UsageError:
    """The error for a command line without ``--rewrite NAME``."""
    return UsageError(f"{PREFIX} needs the name of a rewriter: {', '.join(names())}")
