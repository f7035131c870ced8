"""The warnings of a run: each is announced once, and all are in its record. With the setting strict they are errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pyserini_reasonrank.ir.masking import without_passwords


class Notices:
    """The warnings of a run so far. ``announce`` is called with each new one."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self.found: list[str] = []

    def add(self, warnings: Iterable[str]) -> list[str]:
        """Add those of ``warnings`` that are new, and return them."""
        new = [warning for warning in dict.fromkeys(map(without_passwords, warnings)) if warning not in self.found]
        self.found += new
        for warning in new:
            self._announce(warning)
        return new


def as_error(warnings: Sequence[str]) -> str:
    """The message of an error for warnings under the setting strict."""
    return f"{'; '.join(warnings)} (--rerank.strict true makes warnings errors)"
