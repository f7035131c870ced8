"""Documents that look alike: BM25 over texts in memory, for negatives that share words with the positive."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

K1, B = 0.9, 0.4
_WORD = re.compile(r"[a-z0-9]+")


class Neighbours:
    """BM25 (Lucene's formula and Pyserini's k1 and b; neither stems nor stops) over ``texts``."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(_WORD.findall(text.lower())) for text in texts]
        self._words = {word: i for i, word in enumerate(sorted({w for c in self._counts for w in c}))}

    @cached_property
    def _weights(self) -> Any:
        """Words x texts, sparse."""
        from scipy.sparse import csr_matrix

        lengths = np.array([c.total() for c in self._counts], dtype=float)
        norms = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
        rows, columns, values = [], [], []
        for text, counts in enumerate(self._counts):
            for word, count in counts.items():
                rows.append(self._words[word])
                columns.append(text)
                values.append(count / (count + norms[text]))
        table = csr_matrix((values, (rows, columns)), shape=(len(self._words), len(self._counts)))
        found = np.diff(table.indptr)
        idf = np.log1p((len(self._counts) - found + 0.5) / (found + 0.5))
        return table.multiply(idf[:, None]).tocsr()

    def like(self, query: str, n: int, *, but: Sequence[int] = ()) -> list[int]:
        """The indices of the ``n`` texts nearest to ``query``, best first, those of ``but`` left out.

        Fewer, where fewer share a word with it.
        """
        known = [self._words[w] for w in set(_WORD.findall(query.lower())) if w in self._words]
        scores = np.asarray(self._weights[known].sum(axis=0)).ravel()
        scores[list(but)] = 0.0
        return [int(i) for i in np.argsort(-scores, kind="stable")[:n] if scores[i] > 0]
