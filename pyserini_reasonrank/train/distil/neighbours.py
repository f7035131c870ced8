"""Documents with similar words: BM25 over texts in memory, for hard negatives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

K1, B = 0.9, 0.4
_WORD = re.compile(r"[a-z0-9]+")


class Neighbours[K: Hashable]:
    """BM25 over ``texts`` (by key) with Lucene's formula and Pyserini's k1 and b, without stemming and stop words."""

    def __init__(self, texts: Mapping[K, str]) -> None:
        self._keys = list(texts)
        self._counts = [Counter(_WORD.findall(text.lower())) for text in texts.values()]
        self._words = {word: i for i, word in enumerate(sorted({w for c in self._counts for w in c}))}

    @cached_property
    def _weights(self) -> Any:
        """The sparse matrix of BM25 weights, words x texts."""
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

    def like(self, query: str, n: int, *, exclude: Collection[K] = ()) -> list[K]:
        """The keys of the ``n`` texts most similar to ``query``, best first, without those of ``exclude``.

        Fewer, if fewer texts share a word with the query.
        """
        known = [self._words[w] for w in set(_WORD.findall(query.lower())) if w in self._words]
        scores = np.asarray(self._weights[known].sum(axis=0)).ravel()
        found = (int(i) for i in np.argsort(-scores, kind="stable") if scores[i] > 0)
        keys = (self._keys[i] for i in found)
        return list(islice((key for key in keys if key not in exclude), n))
