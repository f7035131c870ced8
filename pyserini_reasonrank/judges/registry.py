"""The judges by kind, as a reranker's YAML names them."""

from __future__ import annotations

from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.permutation import Permutation
from pyserini_reasonrank.judges.score import Score
from pyserini_reasonrank.judges.selection import Best, Worst

JUDGES: dict[str, type[Judge]] = {judge.kind: judge for judge in (Permutation, Score, Best, Worst)}
