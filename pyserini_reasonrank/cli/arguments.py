"""argparse with errors of one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from pyserini_reasonrank.errors import UsageError, nearest


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one sentence, with the nearest flag for one it does not know."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.prog} --help says more")

    def parse_args(self, words: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            if flag not in known:
                raise UsageError(f"{self.prog} has no flag {flag}{nearest(flag, known)}")
        return super().parse_args(words)
