"""Single files of a model from its folder, the hub's cache, or the hub, without long waits if there is no network.

The hub's own client retries a missing network for 24 seconds per file. Here one short request decides for all files.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

REQUEST_SECONDS = 3.0
SILENT_SECONDS = 60.0
"""How long no further request is sent to a hub that did not answer."""

_silent_until = 0.0


class Unreachable(Exception):
    """It can't be found out whether the model has the file; the message says why."""


def offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def model_file(source: str, name: str, revision: str | None = None) -> Path | None:
    """Return the file ``name`` of the model or adapter ``source`` (a folder or a hub id); None if it has no such file.

    A cached file is used without asking the hub for a newer one. Unreachable if the file is not cached and the hub does not
    answer, or not to this user.
    """
    if Path(source).is_dir():
        return file if (file := Path(source, name)).is_file() else None
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(source, name, revision=revision)
    except HFValidationError as error:
        raise Unreachable(f"{source} is not a hub id") from error
    if cached is _CACHED_NO_EXIST:
        return None
    return Path(cached) if isinstance(cached, str) else _fetched(source, name, revision)


def cached_commit(source: str, revision: str | None) -> str | None:
    """The commit of the hub model ``source`` in the local cache; ``revision`` itself if the cache does not have it."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in ("config.json", "adapter_config.json"):
        try:
            cached = try_to_load_from_cache(source, name, revision=revision)
        except HFValidationError:
            break
        if isinstance(cached, str):
            return Path(cached).parent.name
    return revision


def _fetched(source: str, name: str, revision: str | None) -> Path | None:
    global _silent_until
    if offline():
        raise Unreachable("HF_HUB_OFFLINE is set")
    if time.monotonic() < _silent_until:
        raise Unreachable("the hub does not answer")
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError

    try:
        with suppress(RemoteEntryNotFoundError):  # also an answer; the call below records it in the cache
            get_hf_file_metadata(hf_hub_url(source, name, revision=revision), timeout=REQUEST_SECONDS)
        return Path(hf_hub_download(source, name, revision=revision))
    except RemoteEntryNotFoundError:
        return None
    except HfHubHTTPError as error:
        raise Unreachable(f"the hub answers {error.response.status_code} for {source}") from error
    except Exception as error:  # no route, unknown host, timeout: the client has an exception for each
        _silent_until = time.monotonic() + SILENT_SECONDS
        raise Unreachable("the hub does not answer") from error


def answers() -> bool:
    """Whether the hub answers a short request. Nothing is asked if ``HF_HUB_OFFLINE`` forbids the network."""
    from huggingface_hub import constants, get_session

    try:
        return not offline() and get_session().head(constants.ENDPOINT, timeout=REQUEST_SECONDS) is not None
    except Exception:  # no route, unknown host, timeout: the client has an exception for each
        return False
