"""The memory of this machine for models: accelerators and main memory.

PyTorch must be loaded to see an accelerator, so a process of its own does that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Device:
    """Memory for a model: ``kind`` is ``cuda:0``, ``mps``, ``cpu``, ...; ``free`` and ``total`` are in bytes."""

    kind: str
    name: str
    free: int
    total: int


CPU = "cpu"
"""The kind of main memory."""

_ACCELERATOR_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, either under Windows' Linux
_PROBE = """
import json, torch
found = []
for i in range(torch.cuda.device_count()):
    free, total = torch.cuda.mem_get_info(i)
    found.append((f"cuda:{i}", torch.cuda.get_device_name(i), free, total))
if torch.backends.mps.is_available():
    total = torch.mps.recommended_max_memory()
    found.append(("mps", "Apple GPU", total - torch.mps.driver_allocated_memory(), total))
print(json.dumps(found))
"""


@cache
def accelerators() -> tuple[Device, ...]:
    """Return the accelerators that PyTorch can use, in its order, with their memory at the first call.

    The first call takes seconds on a machine with an accelerator, and no time without one.
    """
    possible = sys.platform == "darwin" or any(map(os.path.exists, _ACCELERATOR_FILES))
    if not possible or not find_spec("torch"):
        return ()
    with suppress(subprocess.SubprocessError, ValueError):
        answer = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=120, check=True)
        return tuple(Device(*found) for found in json.loads(answer.stdout))
    return ()


def own_memory() -> Device:
    """Return the main memory that this process may use, limited by its control group."""
    total = free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        free = next(int(columns[1]) * 1024 for columns in lines if columns[0] == "MemAvailable:")
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no control group, or no limit ("max")
        limit = int((group / "memory.max").read_text())
        total = min(total, limit)
        free = min(free, limit - int((group / "memory.current").read_text()))
    return Device(CPU, "this machine", free, total)


def device_of(engine: Mapping[str, Any]) -> Device:
    """Return the memory that an engine with these settings (``--rerank.engine``) uses: one accelerator, several if its arguments
    spread the model, or main memory. Several count as their number times the smallest of them."""
    found, wanted, arguments = accelerators(), engine.get("device"), arguments_of(engine)
    if not found or wanted == CPU:
        return own_memory()
    if "device_map" in arguments:
        return together(found)
    sizes = [arguments.get(f"{how}_parallel_size", 1) for how in ("tensor", "pipeline")]
    number = prod(size for size in sizes if isinstance(size, int))
    return together([device for device in found if device.kind == wanted] or found[:number])


def arguments_of(engine: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments for the engine's library from its settings, which may not have been validated yet."""
    given = engine.get("args")
    return given if isinstance(given, Mapping) else {}


def together(devices: Sequence[Device]) -> Device:
    """Return the memory of several accelerators of the same kind: their number times the smallest of them."""
    first, n = devices[0], len(devices)
    free, total = (n * min(getattr(device, what) for device in devices) for what in ("free", "total"))
    return first if n == 1 else Device(first.kind, f"{n} x {first.name}", free, total)
