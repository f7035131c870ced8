"""Start ``python -m pyserini_reasonrank`` in processes that accelerate takes for GPUs, though each is on the CPU.

accelerate (1.15) uses FSDP between accelerators alone: on CPUs it would silently replicate the weights. Everything else is the
code that runs on GPUs, over gloo in place of NCCL. Set ACCELERATE_TORCH_DEVICE to cpu.
"""

from __future__ import annotations

import sys
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from pyserini_reasonrank.__main__ import main


def _gloo(*arguments: Any, **named: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


PartialState._prepare_backend = _gloo
sys.exit(main(sys.argv[1:]))
