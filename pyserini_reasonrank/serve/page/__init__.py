"""The page ``/docs``: the API as a person reads and tries it. Its files are in this folder, so it needs no other server."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response

PATH = "/docs"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: the page loads files of this server only, and no script is written in it."""

_FILES = {
    PATH: ("index.html", "text/html"),
    f"{PATH}/page.css": ("page.css", "text/css"),
    f"{PATH}/page.js": ("page.js", "text/javascript"),
}
_HEADERS = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


def add_page(app: FastAPI) -> None:
    """Add the routes of the page."""
    for path, (name, kind) in _FILES.items():
        _add(app, path, (Path(__file__).parent / name).read_bytes(), kind)


def _add(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    @app.get(path, include_in_schema=False)
    async def file() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)
