"""The addresses of servers and the key, from the settings and the environment."""

from __future__ import annotations

import os

from pyserini_reasonrank.errors import UsageError

OFFICIAL = "https://api.openai.com/v1"
"""OpenAI's own address."""


def addresses(base_url: str) -> list[str]:
    """The addresses of the servers, from the setting or OPENAI_BASE_URL; [] for OpenAI's own."""
    urls = base_url or os.environ.get("OPENAI_BASE_URL", "")
    return [url.strip() for url in urls.split(",")] if urls else []


def check_address(url: str) -> None:
    """UsageError for an address that is not a URL, or that contains a password, which would get into logs."""
    if "@" in url:
        raise UsageError(
            "--rerank.engine.base_url contains a user name or a password: remove it, and pass a key with OPENAI_API_KEY"
        )
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--rerank.engine.base_url {url!r} is not a URL: it has to begin with http:// or https://")


def key() -> str:
    """The key in OPENAI_API_KEY; "" without one. UsageError, without the key, if it can't be sent in a header."""
    found = os.environ.get("OPENAI_API_KEY", "").strip()
    if odd := [place for place, character in enumerate(found, 1) if not "!" <= character <= "~"]:
        raise UsageError(
            f"OPENAI_API_KEY contains a character that no key has (the {odd[0]}. of {len(found)}): copy the key again"
        )
    return found
