"""The memory a model needs against the memory there, known before anything is loaded.

torch must load to see an accelerator, so it is asked in a process of its own.
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

from pyserini_reasonrank.errors import UsageError

HEADROOM = 0.9
"""The share of free memory that weights and cache may take; activations and the runtime need the rest."""

ON_A_CPU = {"dtype": "float32"}
"""As the transformers engine loads a model there, unless it is told otherwise."""

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
SPREADS = (2, 4, 8)
"""Over how many accelerators a model is spread: numbers that divide its attention heads."""


def gb(size: float) -> str:
    """Bytes as they are talked about: ``15.2 GB``."""
    return f"{size / 1e9:.1f} GB"


# There --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model can be held: ``kind`` is ``cuda:0``, ``mps``, ``cpu``, ...; ``free`` and ``total`` in bytes."""

    kind: str
    name: str
    free: int
    total: int


OWN = "cpu"
"""The kind of the machine's own memory."""

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
    """The accelerators torch can use, in its order, as they were when first asked.

    That takes seconds where the machine has one, and no time where it has none.
    """
    possible = sys.platform == "darwin" or any(map(os.path.exists, _ACCELERATOR_FILES))
    if not possible or not find_spec("torch"):
        return ()
    with suppress(subprocess.SubprocessError, ValueError):
        answer = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=120, check=True)
        return tuple(Device(*found) for found in json.loads(answer.stdout))
    return ()


def own_memory() -> Device:
    """What this process may use: the machine's available memory, or what its control group leaves of it."""
    total = free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        free = next(int(columns[1]) * 1024 for columns in lines if columns[0] == "MemAvailable:")
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no control group, or one without a limit ("max")
        limit = int((group / "memory.max").read_text())
        total = min(total, limit)
        free = min(free, limit - int((group / "memory.current").read_text()))
    return Device(OWN, "this machine", free, total)


def held_by(engine: Mapping[str, Any]) -> Device:
    """What an engine of these settings (``--rerank.engine``) fills: one accelerator, unless its arguments spread the model
    over several, or the machine's own memory. Several are as large together as the smallest of them times their number."""
    found, wanted, arguments = accelerators(), engine.get("device"), arguments_of(engine)
    if not found or wanted == OWN:
        return own_memory()
    if "device_map" in arguments:
        return _together(found)
    sizes = [arguments.get(f"{how}_parallel_size", 1) for how in ("tensor", "pipeline")]
    number = prod(size for size in sizes if isinstance(size, int))
    return _together([device for device in found if device.kind == wanted] or found[:number])


def arguments_of(engine: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an engine of these settings, which nobody may have checked yet, is given for its library."""
    given = engine.get("args")
    return given if isinstance(given, Mapping) else {}


def _together(devices: Sequence[Device]) -> Device:
    first, n = devices[0], len(devices)
    free, total = (n * min(getattr(device, what) for device in devices) for what in ("free", "total"))
    return first if n == 1 else Device(first.kind, f"{n} x {first.name}", free, total)


# Needed -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes for a model's weights, and for the key-value cache of one question of ``context`` tokens."""

    weights: int
    cache: int
    context: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """A model's need against ``free`` bytes, with ``concurrency`` questions wanted in flight."""

    need: Need
    free: int
    concurrency: int = 1

    @property
    def at_once(self) -> int:
        """How many questions of full context there is room for beside the weights."""
        return self._room // self.need.cache

    @property
    def longest(self) -> int:
        """The longest context for which there is room beside the weights."""
        return self._room * self.need.context // self.need.cache

    @property
    def fits(self) -> bool:
        """Whether the weights and one question fit. With room for fewer than ``concurrency`` an engine queues them."""
        return self.at_once >= 1

    @property
    def _room(self) -> int:
        return max(0, int(self.free * HEADROOM) - self.need.weights)

    def __str__(self) -> str:
        n = min(self.concurrency, max(self.at_once, 1))
        return (
            f"needs {gb(self.need.weights)} + {gb(self.need.cache * n)} ({n} x {self.need.context:,} tokens in "
            f"flight), {gb(self.free)} free: {'fits' if self.fits else 'does not fit'}"
        )


def spread(need: Need) -> int | None:
    """The fewest accelerators here, more than one, that hold ``need`` together; None if they don't."""
    found = accelerators()
    return next((n for n in SPREADS if n <= len(found) and Verdict(need, _together(found[:n]).free).fits), None)


def memory_needed(
    model: Path | Mapping[str, Any] | float,
    *,
    context: int | None = None,
    cache: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Need:
    """What a decoder needs: from its folder, from the content of its config.json, or from its billions of parameters.

    Weights in a folder are counted as they are stored, else in the config's dtype; in that of the engine's ``arguments``
    if they name one, and as these or the config quantize them. The cache is that of plain attention in every layer, an
    upper bound for models with sliding or compressed attention. ``context`` None stands for the model's own longest. For
    parameters alone ``cache`` is the bytes a token takes in bf16; without it a quarter of the weights is reckoned for
    ``context`` tokens. UsageError if the folder has no readable config.json.
    """
    arguments = arguments or {}
    smaller, wanted = _quantized(arguments), DTYPE_BYTES.get(str(arguments.get("dtype")))
    if isinstance(model, int | float):
        width, context = wanted or DTYPE_BYTES["bfloat16"], context or 32768
        weights = int(model * 1e9 * (smaller or width))
        return Need(weights, cache * width // 2 * context if cache else weights // 4, context)
    config = _config(model) if isinstance(model, Path) else model
    config = {**config, **config.get("text_config", {})}
    stored = _stored(model) if isinstance(model, Path) else 0
    context = context or int(config["max_position_embeddings"])
    own = DTYPE_BYTES.get(str(config.get("dtype") or config.get("torch_dtype")))
    width = wanted or own or 2
    per_token = 2 * config["num_hidden_layers"] * _kv_heads(config) * _head_dim(config)
    weights = stored * width // (own or width) or int(parameters(config) * (_quantized(config) or width))
    if smaller:
        weights = min(weights, int(parameters(config) * smaller))
    return Need(weights, per_token * width * context, context)


def _quantized(settings: Mapping[str, Any]) -> float | None:
    """Bytes a parameter takes at least under a config or an engine's arguments that quantize; None where they don't."""
    names = ("quantization", "quantization_config", "load_in_4bit", "load_in_8bit")
    if (how := next(filter(None, map(settings.get, names)), None)) is None:
        return None
    method = how.get("quant_method") if isinstance(how, Mapping) else how
    return 1.0 if "fp8" in str(method) else 0.5


def parameters(config: Mapping[str, Any]) -> int:
    """The parameters of a Llama-like decoder, dense or mixture of experts, but for biases and norms (under 0.1 %)."""
    hidden = config["hidden_size"]
    attention = 2 * hidden * _head_dim(config) * (config["num_attention_heads"] + _kv_heads(config))
    experts = config.get("num_experts") or config.get("num_local_experts") or 1
    inner = config.get("moe_intermediate_size") or config["intermediate_size"]
    embeddings = config["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return int(config["num_hidden_layers"] * (attention + experts * 3 * hidden * inner) + embeddings)


def _kv_heads(config: Mapping[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config: Mapping[str, Any] = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        raise UsageError(f"{folder} has no readable config.json; --rerank.model takes a model's folder.") from None
    return config


def _stored(folder: Path) -> int:
    """Bytes of the weight files in the folder; what the index says if only that is there; 0 if neither is."""
    for pattern in ("*.safetensors", "*.bin"):
        if size := sum(file.stat().st_size for file in folder.glob(pattern)):
            return size
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((folder / "model.safetensors.index.json").read_bytes())["metadata"]["total_size"])
    return 0
