"""What PyTorch, transformers and TRL are told before they are imported: to load and to keep no more, or no less, than is used."""

from __future__ import annotations

import ctypes
import os
from typing import Any


def before_torch() -> None:
    """Threads that wait sleep. Those that spin lose a slice of time whenever a core is shared."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def without_sklearn() -> None:
    """transformers imports scikit-learn for its speculative decoding alone, which takes as long as PyTorch itself."""
    from transformers import utils

    utils.is_sklearn_available = utils.import_utils.is_sklearn_available = _no


def without_vllm() -> None:
    """TRL imports vLLM where it is installed, also for rollouts without it: nine of some twenty seconds."""
    from trl import import_utils

    import_utils.is_vllm_available = _no


def keep_freed_memory() -> None:
    """Every layer of a training frees and takes tens of MB. The kernel clears these pages anew each time, an eighth of a
    step on a CPU, unless the C library keeps them."""
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc
        return
    no_mapping, no_trimming = (-4, 0), (-1, -1)  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    for option in (no_mapping, no_trimming):
        library.mallopt(*option)


def _no(*arguments: Any, **named: Any) -> bool:
    return False
