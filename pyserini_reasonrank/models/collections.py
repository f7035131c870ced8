"""Settings that differ by collection: BRIGHT's passages are shown at five times the length of MS MARCO's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_WORD = re.compile(r"[a-z0-9]+")


def for_collection(
    collections: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> tuple[str | None, Mapping[str, Any]]:
    """Which of ``collections`` the index and topics ``names`` belong to, and its settings; None and none if to no one.

    A collection is a word of such a name (``bright`` of the prebuilt index ``bright-biology``) or, of a path, of its
    last two parts (``data/bright/biology.tsv``). The first collection that any name has a word of counts.
    """
    words = {word for name in names for part in Path(name).parts[-2:] for word in _WORD.findall(part.lower())}
    return next(((name, settings) for name, settings in collections.items() if name in words), (None, {}))
