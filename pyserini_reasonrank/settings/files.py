"""The reader of settings files: a path, or the name of a file that ships in a folder of ``conf/``."""

from __future__ import annotations

from pathlib import Path

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.resources import conf, parse_yaml, yaml_names
from pyserini_reasonrank.settings.relative import resolved_paths
from pyserini_reasonrank.settings.schema import Tree


def read(source: str, *, flag: str, folder: str | None = None) -> Tree:
    """The YAML mapping in the file ``source``, or in the file of that name in ``folder`` of ``conf/``.

    Without ``folder`` it is a settings file of a reranker: its paths are relative to it.

    UsageError that names ``flag`` if there is no such file, and one that names file, line and column if it is not
    a YAML mapping in UTF-8 (a byte order mark is skipped).
    """
    shipped = yaml_names(folder) if folder else []
    path = Path(source)
    if path.is_file():
        tree = parse_yaml(_text(path, source), source)
        return tree if folder else resolved_paths(tree, path.parent)
    if source in shipped:
        return shipped_file(f"{folder}", source)
    if folder:
        raise UsageError(
            f"{flag} {source}: no such file, and conf/{folder} has no {path.stem}{nearest(path.stem, shipped)}"
        )
    raise UsageError(f"{flag} {source} does not exist" if not path.exists() else f"{flag} {source} is not a file")


def shipped_file(folder: str, name: str) -> Tree:
    """The YAML mapping in ``FOLDER/NAME.yaml`` of ``conf/``."""
    return parse_yaml(conf(folder, f"{name}.yaml").read_text(encoding="utf-8"), f"conf/{folder}/{name}.yaml")


def _text(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not text in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"{source} can't be read: {error.strerror}") from None
