"""The argparse base of the commands: help with examples, and errors of one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import takewhile
from math import inf
from typing import NoReturn

from pyserini_reasonrank.cli.commands import COMMANDS, PROGRAM
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.settings.flags import twice


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError with one sentence, and proposes the nearest flag for an unknown one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse_args(self, words: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        flags = takewhile(lambda word: word != "--", words)
        for flag in (word.partition("=")[0] for word in flags if word.startswith("--")):
            if flag not in known:
                raise UsageError(f"{self.prog} has no flag {flag}{nearest(flag, known)}")
        self._check_repeated(words)
        return super().parse_args(words)

    def _check_repeated(self, words: Sequence[str]) -> None:
        """UsageError for a flag with a value that is given twice, unless it collects its values."""
        seen: list[argparse.Action] = []
        for word in takewhile(lambda word: word != "--", words):
            action = self._option_string_actions.get(word.partition("=")[0])
            if action is None or action.nargs == 0 or isinstance(action, argparse._AppendAction):
                continue
            if action in seen:
                raise twice(word.partition("=")[0])
            seen.append(action)


def positive[N: (int, float)](kind: type[N]) -> Callable[[str], N]:
    """Return a converter of a flag's value to a finite number above 0."""

    def number(text: str) -> N:
        value = kind(text)
        if not 0 < value < inf:
            raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
        return value

    number.__name__ = kind.__name__
    return number


def between(least: int, most: int) -> Callable[[str], int]:
    """Return a converter of a flag's value to an integer from ``least`` to ``most``."""

    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not a number from {least} to {most}")
        return value

    number.__name__ = int.__name__
    return number


def exclusive(options: argparse.Namespace, flag: str, *others: str) -> None:
    """UsageError if ``flag`` is given with one of ``others``, which the command would then not read."""
    given = {name: getattr(options, name.removeprefix("--").replace("-", "_")) for name in (flag, *others)}
    if given[flag] is None:
        return
    for other in others:
        if given[other] is not None:
            raise UsageError(f"{flag} and {other} can't both be given")


def add_duplicates(group: argparse._ActionsContainer, document: str = "a document that a query lists twice") -> None:
    """The flag ``--duplicates``; ``document`` says of what."""
    from pyserini_reasonrank.ir.runs import DUPLICATES  # most commands read no run

    group.add_argument(
        "--duplicates", default=DUPLICATES[0], choices=DUPLICATES,
        help=f"{document}: an error, or kept at its better place [refuse]",
    )  # fmt: skip


def command_parser(name: str, *examples: str, usage: str | None = None) -> Parser:
    """The parser of the command ``name``; ``examples`` are its arguments, to show below the flags."""
    lines = ["examples:", *(f"  {PROGRAM} {name} {example}".rstrip() for example in examples)]
    return Parser(
        prog=f"{PROGRAM} {name}",
        usage=usage and f"{PROGRAM} {name} {usage}",
        description=f"{COMMANDS[name].purpose}.",
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
