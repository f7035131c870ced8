"""Reranking in MTEB: a cross-encoder whose scores are the ranks of whole lists."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
from mteb.models import ModelMeta

from pyserini_reasonrank import __version__
from pyserini_reasonrank.api import Reranker
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.integrations.conversion import document

_NATIVE = ("Reranking", "InstructionReranking")
"""Task types whose lists no first stage ordered: many begin with the relevant documents."""


class ReasonRankCrossEncoder:
    """A model for ``mteb.evaluate``; it implements MTEB's ``CrossEncoderProtocol``.

    Args:
        model_name: a name for ``--rerank``.
        revision: the hub revision of the model.
        device: for MTEB only; choose devices with the settings of the engine.
        shuffle: shuffle each list before it is reranked, with a seed that depends on the query. By default the lists of
            reranking tasks are shuffled, because many begin with the relevant documents, and those of a first stage
            (``task.convert_to_reranking``) keep their order.
        settings: any setting of ``api.Reranker``: ``model="..."``, ``engine="vllm"``, ``journal="calls.sqlite"``, ...

    Consecutive pairs of one query are one list of n documents; the score of a document is n - rank, so it is n - 1 for the
    first and 0 for the last. The task's prompt for queries becomes the setting ``instruction`` if there is no other, and if
    the reranker's prompt shows instructions; otherwise a warning is issued.

    Raises:
        UsageError: the settings are invalid.
    """

    def __init__(
        self,
        model_name: str = "reasonrank",
        revision: str | None = None,
        device: str | None = None,
        *,
        shuffle: bool | None = None,
        **settings: Any,
    ) -> None:
        if device is not None:
            raise UsageError(f"device={device!r}: choose the device with the settings of the engine")
        self._settings = dict(settings) if revision is None else {**settings, "revision": revision}
        self._name, self._shuffle = model_name, shuffle
        self._reranker, self._instruction = Reranker(model_name, **self._settings), ""
        self.mteb_model_meta: ModelMeta = ModelMeta.create_empty(
            overwrites={
                "name": f"pyserini_reasonrank/{self._reranker.tag}",
                "revision": revision or __version__,
                "loader": type(self),
                "model_type": ["cross-encoder"],
                "use_instructions": True,
                # MTEB's cache tells results apart by these
                "experiment_kwargs": {key: str(value) for key, value in settings.items() if key != "journal"}
                | ({} if shuffle is None else {"shuffle": str(shuffle)}),
            }
        )

    def predict(
        self,
        inputs1: Iterable[Mapping[str, Any]],
        inputs2: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """A score per pair of the queries in ``inputs1`` and the documents in ``inputs2``, batches of equal length."""
        reranker = self._instructed(task_metadata)
        pairs = list(zip(_rows(inputs1), map(_document, _rows(inputs2)), strict=True))
        shuffled = task_metadata.type in _NATIVE if self._shuffle is None else self._shuffle
        lists, scores = [], np.zeros(len(pairs))
        for _, group in groupby(range(len(pairs)), key=lambda i: _identity(pairs[i][0])):
            places = list(group)
            if shuffled:
                random.Random(_query(pairs[places[0]][0])).shuffle(places)
            lists.append(places)
        requests = ((_query(pairs[places[0]][0]), [pairs[i][1] for i in places]) for places in lists)
        for ranked in reranker.rank_many(requests):
            places = lists[int(ranked.qid)]
            for found in ranked:
                scores[places[int(found.docid)]] = len(places) - found.rank
        return scores

    def close(self) -> None:
        """Free the model; the object can't be used afterwards."""
        self._reranker.close()

    def _instructed(self, task: Any) -> Reranker:
        """The reranker with the instruction of a task; there is one at a time, since each loads the model."""
        prompt = task.prompt.get("query") if isinstance(task.prompt, Mapping) else task.prompt
        instruction = "" if "instruction" in self._settings else prompt or ""
        if instruction != self._instruction:
            try:
                changed = Reranker(
                    self._name, **self._settings, **({"instruction": instruction} if instruction else {})
                )
            except UsageError as error:
                warnings.warn(f"the prompt of task {task.name} is not used: {error}", stacklevel=3)
                changed = Reranker(self._name, **self._settings)
            self._reranker.close()
            self._reranker, self._instruction = changed, instruction
        return self._reranker


def _rows(batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of batches, which are mappings from a column to its values."""
    for batch in batches:
        if "text" not in batch:
            raise UsageError(f"MTEB passed {', '.join(batch)} without text; only text tasks can be reranked")
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _identity(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """What distinguishes queries: tasks have different queries of the same text."""
    return row.get("id"), row["text"]


def _query(row: Mapping[str, Any]) -> str:
    """The text of a query; MTEB appends the query's own instruction, where the task has instructions per query."""
    return str(row["text"])


def _document(row: Mapping[str, Any]) -> dict[str, Any]:
    """A document with its title and body; MTEB also joins them in ``text``."""
    return document(row.get("body", row["text"]), {"title": row.get("title")})
