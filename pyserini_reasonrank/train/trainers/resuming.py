"""Going on with an adapter whose frozen copy is the reference: a checkpoint brings both back."""

from __future__ import annotations

from typing import Any

OWN, REFERENCE = "default", "ref"


class WholeCheckpoint:
    """Goes before one of TRL's trainers. transformers reads the adapters in a checkpoint's subfolders or the one at its
    top, not both: the reference would come back and the policy would start anew."""

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(checkpoint, model)  # type: ignore[misc]
        policy: Any = self.model  # type: ignore[attr-defined]
        if REFERENCE in getattr(policy, "peft_config", {}):
            policy.load_adapter(checkpoint, OWN, is_trainable=True)
