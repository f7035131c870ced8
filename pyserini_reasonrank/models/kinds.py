"""The kind of question that a checkpoint was trained to answer, against the kind a reranker asks."""

from __future__ import annotations

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import known_models

_TASKS = {
    "permutation": "order passages",
    "first_token": "order passages by its first token",
    "best": "pick the best of a set",
    "best_token": "pick the best of a set by its first token",
    "worst": "drop the worst of a set",
    "score": "judge one passage",
    "rating": "write a score of one passage",
    "grades": "grade a group of passages",
    "likelihood": "estimate how likely a query is",
    "rewrite": "rewrite queries",
}


def check_kind(name: str, kind: str, reranker: str) -> None:
    """UsageError if the checkpoint ``name`` of conf/models.yaml was trained for questions of another kind than ``kind``.

    Other models may be asked anything.
    """
    known = known_models().get(name)
    if known is None or known.kind in (None, kind):
        return
    trained, asked = _TASKS.get(str(known.kind), str(known.kind)), _TASKS.get(kind, kind)
    weights = known.source if known.base is None else f"{known.base} --rerank.adapter {known.source}"
    flags = ["--rewrite" if each == "rewrite" else "--rerank" for each in (known.kind, kind)]
    raise UsageError(
        f"model {name} was trained to {trained}, but {reranker} asks it to {asked}; use {flags[0]} {known.reranker}, name "
        f"another model, or use this one anyway with {flags[1]}.model {weights}"
    )
