"""The page: one HTML file with its style, its script and its data, which loads nothing and runs nothing else."""

from __future__ import annotations

import hashlib
import html
import json
from base64 import b64encode
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic, check_plain
from pyserini_reasonrank.report.page_data import PageData

MARK = "<!doctype html><!-- pyserini_reasonrank report -->"
"""The beginning of every page, by which a later command recognises it."""

SCRIPTS = ("dom", "charts", "state", "overview", "queries", "lists", "calls", "query", "keyboard", "main")
"""The parts of the script in ``assets/``, in their order."""


def write_page(path: Path, data: PageData, title: str) -> None:
    """Write the page in one step. UsageError if the file exists and is not a page of this command."""
    with atomic(path) as file:
        for part in page(data, title):
            file.write(part.encode())


def check_output(path: Path) -> None:
    """UsageError if ``path`` can't become a page.

    It is a folder, has the name of a compressed file, or is a file that is not a page of this command.
    """
    check_plain(path)
    if path.is_dir():
        raise UsageError(f"--output {path} is a folder; name the page itself")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(MARK)) != MARK.encode():
                raise UsageError(f"--output {path} exists and is not a report page; name another file")
    elif not path.parent.is_dir():
        raise UsageError(f"--output {path}: the folder {path.parent} does not exist")


def page(data: PageData, title: str) -> Iterator[str]:
    """Yield the parts of the page."""
    style = _asset("page.css")
    script = '"use strict";\n' + "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    yield (
        f'{MARK}\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
    )
    yield _asset("body.html")
    yield f'<script type="application/json" id="overview-data">{embedded_json(data.overview)}</script>\n'
    yield f"<script>{script}</script>\n"
    for number, text in enumerate(data.details.values()):
        yield f'<script type="text/plain" id="details-{number}">{text}</script>\n'
    yield "</body>\n</html>\n"


def embedded_json(value: Any) -> str:
    """JSON that can't end the element that contains it: ``<``, ``>`` and ``&`` are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.encode(errors="replace").decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return files("pyserini_reasonrank.report").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
