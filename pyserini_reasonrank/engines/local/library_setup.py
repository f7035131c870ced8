"""What is set before PyTorch, transformers and TRL are imported, so that they load and keep only what is used."""

from __future__ import annotations

import ctypes
import os
from typing import Any


def before_torch() -> None:
    """Let waiting OpenMP threads sleep. Spinning ones lose a slice of time whenever a core is shared."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def without_sklearn() -> None:
    """Keep transformers from importing scikit-learn, which takes as long as PyTorch and serves speculative decoding only."""
    from transformers import utils

    utils.is_sklearn_available = utils.import_utils.is_sklearn_available = _no


def without_vllm() -> None:
    """Keep TRL from importing an installed vLLM where rollouts do not use it: nine of about twenty seconds."""
    from trl import import_utils

    import_utils.is_vllm_available = _no


def keep_freed_memory() -> None:
    """Let the C library keep freed memory. Each layer of a training step frees and allocates tens of MB, and the kernel
    would clear these pages anew each time: an eighth of a step on a CPU."""
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc
        return
    no_mapping, no_trimming = (-4, 0), (-1, -1)  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    for option in (no_mapping, no_trimming):
        library.mallopt(*option)


def _no(*arguments: Any, **named: Any) -> bool:
    return False
