"""The memory that a model needs, compared with the memory of this machine before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models import devices
from pyserini_reasonrank.models.describe import ModelConfig, quantization_method, read_config

HEADROOM = 0.9
"""The share of free memory for weights and cache; activations and the runtime need the rest."""

ON_A_CPU = {"dtype": "float32"}
"""How the transformers engine loads a model on a CPU unless its arguments say otherwise."""

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
SPREADS = (2, 4, 8)
"""The numbers of accelerators over which a model may be spread: they divide its attention heads."""


def gb(size: float) -> str:
    """Format bytes: ``15.2 GB``."""
    return f"{size / 1e9:.1f} GB"


class UnknownShape(Exception):
    """config.json does not describe a Llama-like decoder, so the memory it needs is unknown before loading."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of a model's weights, and of the key-value cache of one question of ``context`` tokens."""

    weights: int
    cache: int
    context: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """A model's need compared with ``free`` bytes, for ``concurrency`` questions in flight."""

    need: Need
    free: int
    concurrency: int = 1

    @property
    def at_once(self) -> int:
        """The number of questions of full context that fit beside the weights."""
        return self._room // self.need.cache

    @property
    def longest(self) -> int:
        """The longest context, in tokens, that fits beside the weights."""
        return self._room * self.need.context // self.need.cache

    @property
    def fits(self) -> bool:
        """Whether the weights and one question fit. Engines queue questions beyond ``at_once``."""
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
    """Return the smallest number of accelerators (at least 2) on which ``need`` fits; None if it does not fit."""
    found = devices.accelerators()
    return next((n for n in SPREADS if n <= len(found) and Verdict(need, devices.together(found[:n]).free).fits), None)


def memory_needed(
    model: Path | ModelConfig | float,
    *,
    context: int | None = None,
    cache: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Need:
    """Return the memory that a decoder needs, from its folder, its config.json, or its billions of parameters.

    Weights in a folder count as stored, otherwise in the config's dtype; if the engine's ``arguments`` name a dtype or a
    quantization, in that. The cache is that of full attention in every layer: an upper bound for models with sliding or
    compressed attention. ``context`` None means the model's own. For a number of parameters, ``cache`` is the bytes that a
    token takes in bf16; without it, the cache is estimated as a quarter of the weights.

    UsageError if the folder has no readable config.json; UnknownShape if that does not describe a Llama-like decoder.
    """
    arguments = arguments or {}
    smaller, wanted = _quantized_bytes(quantization_method(arguments)), DTYPE_BYTES.get(str(arguments.get("dtype")))
    if isinstance(model, int | float):
        width, context = wanted or DTYPE_BYTES["bfloat16"], context or 32768
        weights = int(model * 1e9 * (smaller or width))
        return Need(weights, cache * width // 2 * context if cache else weights // 4, context)
    config = _config(model) if isinstance(model, Path) else model
    stored = _stored(model) if isinstance(model, Path) else 0
    shape, context = config.shape, context or config.positions
    if shape is None or context is None:
        raise UnknownShape("config.json does not have the fields of a Llama-like decoder")
    own = DTYPE_BYTES.get(str(config.dtype))
    width = wanted or own or 2
    weights = stored * width // (own or width)
    if not weights or smaller:
        if shape.parameters is None:
            raise UnknownShape("config.json has no intermediate_size or no vocab_size")
        weights = weights or int(shape.parameters * (_quantized_bytes(config.quantization) or width))
        weights = min(weights, int(shape.parameters * smaller)) if smaller else weights
    return Need(weights, shape.cached_values * width * context, context)


def _quantized_bytes(method: str | None) -> float | None:
    """Bytes that a parameter takes at least under a quantization method; None without one."""
    if method is None:
        return None
    return 1.0 if "fp8" in method else 0.5


def _config(folder: Path) -> ModelConfig:
    config = read_config(str(folder)) if folder.is_dir() else None
    if config is None:
        raise UsageError(f"{folder} has no readable config.json: name the folder of a model with --rerank.model")
    return config


def _stored(folder: Path) -> int:
    """Bytes of the weight files in the folder, or the total in their index if only that is there; 0 if neither is."""
    for pattern in ("*.safetensors", "*.bin"):
        if size := sum(file.stat().st_size for file in folder.glob(pattern)):
            return size
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((folder / "model.safetensors.index.json").read_bytes())["metadata"]["total_size"])
    return 0
