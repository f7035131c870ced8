"""Settings that depend on the collection: for instance, BRIGHT's passages are shown at five times the length of MS MARCO's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_WORD = re.compile(r"[a-z0-9]+")


def for_collection(
    collections: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> tuple[str | None, Mapping[str, Any]]:
    """Return which of ``collections`` the ``names`` of index and topics belong to, and its settings; (None, {}) if none.

    A collection matches if its words are words in a name (``bright``, or ``bright-biology``, in the prebuilt index
    ``bright-biology``) or in the last two parts of a path (``data/bright/biology.tsv``). The first matching one counts.
    """
    words = {word for name in names for part in Path(name).parts[-2:] for word in _WORD.findall(part.lower())}
    return next(
        ((name, found) for name, found in collections.items() if words.issuperset(_WORD.findall(name))), (None, {})
    )
