"""Prompt files on the web: a URL pinned by SHA-256, downloaded once into the cache."""

from __future__ import annotations

import hashlib
import http.client
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.interrupts import temporary_folder
from pyserini_reasonrank.models.embedded import cache_folder
from pyserini_reasonrank.models.hub import offline

SECONDS = 10.0
MOST_BYTES = 1 << 20
_PINNED = re.compile(r"(https?://[^\s#]+)#sha256=([0-9a-fA-F]{64})\Z")


def is_url(source: str) -> bool:
    """Whether ``source`` names a file on the web."""
    return source.startswith(("https://", "http://"))


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file on the web, identified by its content."""

    url: str
    sha256: str

    @classmethod
    def parse(cls, source: str) -> PinnedFile:
        """Parse ``URL#sha256=HEX``. UsageError for a URL without a hash."""
        found = _PINNED.match(source)
        if found is None:
            raise UsageError(f"prompt {source} is not pinned: add #sha256= and the file's 64 hexadecimal digits")
        return cls(found[1], found[2].lower())

    @property
    def path(self) -> Path:
        """The file's path in the cache."""
        return cache_folder() / "prompts" / f"{self.sha256[:12]}-{urlsplit(self.url).path.rsplit('/', 1)[-1]}"

    def fetch(self) -> Path:
        """Return the cached file, downloaded if needed. UsageError says what to do if that fails.

        The hash is checked each time, because the file may have been put there by hand.
        """
        path = self.path
        try:
            if not path.is_file():
                content = self._download()
                self._check(content, self.url, "the publisher may have changed it")
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary_folder(".", path.parent) as scratch:
                    file = Path(scratch, path.name)
                    file.write_bytes(content)
                    file.replace(path)  # atomic, also if several processes download it
            self._check(path.read_bytes(), str(path), "delete it, so that it is downloaded again")
        except OSError as error:
            raise UsageError(
                f"prompt {self.url} can't be saved to {path} ({error.strerror or error}): "
                "free room there or set REASONRANK_CACHE to another folder"
            ) from error
        return path

    def _download(self) -> bytes:
        try:
            if offline():
                raise ConnectionError("HF_HUB_OFFLINE is set")
            with urlopen(self.url, timeout=SECONDS) as response:
                content: bytes = response.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = " ".join(str(getattr(error, "reason", "") or error).split()) or type(error).__name__
            raise UsageError(
                f"prompt {self.url} can't be downloaded ({reason}): put the file at {self.path} by hand, "
                "or name another prompt with --rerank.prompt"
            ) from error
        if len(content) > MOST_BYTES:
            raise UsageError(f"prompt {self.url} is larger than {MOST_BYTES} bytes: it is not a prompt file")
        return content

    def _check(self, content: bytes, where: str, remedy: str) -> None:
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise UsageError(
                f"{where} is not the pinned prompt file (sha256 {found}, expected {self.sha256}): {remedy}"
            )
