"""What a run cost, from the metadata beside it: LLM calls, tokens, seconds and GPUs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.metadata import nested, read_metadata, sidecar


@dataclass(frozen=True, slots=True)
class RunCost:
    """Totals of a run. ``seconds`` is the wall time of reranking, without loading the model; ``gpu`` names the GPUs.

    ``calls`` are the LLM calls of the run, ``from_journal`` the calls that a journal answered, which cost no time here.
    The tokens are those of both.
    """

    calls: int
    from_journal: int
    prompt_tokens: int
    output_tokens: int
    seconds: float | None
    gpu: str

    @property
    def tokens(self) -> int:
        """Prompt and output tokens."""
        return self.prompt_tokens + self.output_tokens


def recorded_cost(run: str | os.PathLike[str]) -> RunCost | None:
    """The cost in the metadata of a run; None without metadata, and if they have none.

    UsageError for metadata that are not YAML, or whose counts are missing or not numbers.
    """
    metadata = read_metadata(run)
    llm = nested(metadata, "resources", "llm")
    if not llm or not isinstance(llm, Mapping):
        return None
    try:
        counts = [
            int(llm[name]) for name in ("calls", "calls answered from the journal", "prompt tokens", "output tokens")
        ]
        seconds = nested(metadata, "resources", "runtime in seconds", "rerank")
        return RunCost(
            counts[0], counts[1], counts[2], counts[3], None if seconds is None else float(seconds), gpus(metadata)
        )
    except KeyError as missing:
        raise UsageError(f"{sidecar(run)}: resources.llm lacks {missing}; delete or repair the file") from None
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"{sidecar(run)}: the counts below resources are not numbers; delete or repair the file"
        ) from None


def gpus(metadata: Mapping[str, Any] | None) -> str:
    """The GPUs of the machine of a run: ``2 x NVIDIA H200``; empty without one."""
    found = nested(metadata, "platform", "hardware", "gpu")
    models = (
        Counter(str(nested(each, "model") or "GPU") for each in found) if isinstance(found, list) else Counter[str]()
    )
    return ", ".join(model if count == 1 else f"{count} x {model}" for model, count in models.items())
