"""Masking of secrets in commands, settings and texts."""

from __future__ import annotations

import re
from collections.abc import Sequence

MASK = "***"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = {"apikey", "auth", "authorization", "credential", "credentials", "passphrase", "passwd", "password"}
_SECRET_WORDS |= {"secret", "secrets"}
_SECRET_LAST_WORDS = {"key", "keys", "token"}  # last only: "stop_token_ids" and "max_tokens" are not secrets
_URL_USER = re.compile(r"(?<=://)[^/\s]+(?=@)")  # user and password of a URL
_SECRET_TEXT = re.compile(
    rf"{_URL_USER.pattern}"
    r"|(?<=[Bb]earer )[^\s\"']+"
    r"|\bsk-[\w-]{20,}|\b(?:hf|gsk|ghp)_\w{20,}"  # keys as the usual providers issue them
)
_ASSIGNED = re.compile(
    r"""(?ix) ( (?: api[-_]?key | (?<![a-z])key | token | secret | passw(?:or)?d | passphrase | authorization )
        ["']? \s* [:=] \s* ) (?: "[^"]*" | '[^']*' | [^"'&;,\s}]+ )"""
)


def secret_name(name: str) -> bool:
    """Whether a flag, key or variable of this name contains a secret: ``api_key``, ``HF_TOKEN``, ``clientSecret``."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and (not _SECRET_WORDS.isdisjoint(words) or words[-1] in _SECRET_LAST_WORDS)


def without_passwords(text: str) -> str:
    """``text`` with the users and passwords of its URLs masked."""
    return _URL_USER.sub(MASK, text)


def masked(text: str) -> str:
    """``text`` with its secrets masked: URL passwords, bearer tokens, providers' keys, ``api_key=...``."""
    return _ASSIGNED.sub(rf"\1{MASK}", _SECRET_TEXT.sub(MASK, text))


def masked_command(command: Sequence[str]) -> list[str]:
    """The arguments of a command with secrets masked: in texts, and as values of flags whose name is that of a secret."""
    arguments = []
    hide = False
    for argument in command:
        if hide and not argument.startswith("--"):
            arguments.append(MASK)
            hide = False
            continue
        flag, equals, _ = argument.partition("=")
        hide = argument.startswith("-") and secret_name(flag)
        arguments.append(f"{flag}={MASK}" if hide and equals else masked(argument))
        hide = hide and not equals
    return arguments
