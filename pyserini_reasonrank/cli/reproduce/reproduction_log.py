"""The lines of a reproduction log, in the form of Pyserini's pages."""

from __future__ import annotations

import re
import subprocess
from datetime import date
from pathlib import Path

from pyserini_reasonrank.cli.reproduce.matrix_page import LOG_HEADING
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic

REPOSITORY = "https://github.com/pyserini-reasonrank/pyserini_reasonrank"
PROFILES = "https://github.com"


def log_line(name: str, url: str | None, day: str, commit: str, condition: str) -> str:
    """The line for a reproduction of ``condition`` by ``name`` at ``commit``. UsageError for a malformed argument."""
    name = name.removeprefix("@")
    if not re.fullmatch(r"[\w.-]+", name):
        raise UsageError(f"--by {name!r} is not an account name: letters, digits, dots, hyphens")
    if url is not None and not re.fullmatch(r"https?://[^\s()<>]+", url):
        raise UsageError(f"--url {url!r} is not the address of a page: https://...")
    if not re.fullmatch(r"[0-9a-f]{7,40}", commit):
        raise UsageError(f"--commit {commit!r} is not a commit: 7 to 40 hexadecimal digits")
    try:
        when = date.fromisoformat(day).isoformat()
    except ValueError:
        raise UsageError(f"--date {day!r} is not a date: YYYY-MM-DD") from None
    link = f"[`{commit[:7]}`]({REPOSITORY}/commit/{commit})"
    return f"+ Results reproduced by [@{name}]({url or f'{PROFILES}/{name}'}) on {when} (commit {link}): `{condition}`"


def current_commit() -> str:
    """The commit of the checkout that this package is imported from. UsageError if it is not a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        done = None
    if done is None or done.returncode:
        raise UsageError("the commit is unknown, because this package is not a git checkout: pass --commit")
    return done.stdout.strip()


def append(page: Path, line: str) -> None:
    """Add ``line`` to the log at the end of ``page``. UsageError if the page has no log, or has this line already."""
    try:
        text = page.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{page} does not exist; make it with 2cr report") from None
    if f"\n{LOG_HEADING}\n" not in text:
        raise UsageError(f"{page} has no section {LOG_HEADING!r}")
    if line in text.splitlines():
        raise UsageError(f"{page} has this line already")
    rest = text.rstrip("\n")
    gap = "\n" if rest.splitlines()[-1].startswith("+") else "\n\n"
    with atomic(page) as file:
        file.write(f"{rest}{gap}{line}\n".encode())
