"""``--rerank.model auto``: a model that ranks, or a sentence that says where the reranker runs. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from pyserini_reasonrank.models.catalogue import EMBEDDED, EMBEDDED_SOURCE, Known, known_models
from pyserini_reasonrank.models.devices import CPU, Device, arguments_of, device_of, own_memory
from pyserini_reasonrank.models.memory import HEADROOM, ON_A_CPU, Need, Verdict, gb, spread

_EMBEDDED_RANKS_BY = ("likelihood",)
"""The kinds of question by which the embedded model ranks. What it writes is at chance level."""
_REWRITES = "rewrite"


@dataclass(frozen=True, slots=True)
class Choice:
    """The name of a model in conf/models.yaml. ``problem``: why it can't be used here, and what to do instead."""

    model: str
    problem: str | None = None


def choose(
    reranker: str,
    checkpoint: str | None,
    kind: str,
    engine: Mapping[str, Any],
    *,
    context: int | None = None,
    adapter: str | None = None,
    here: bool = True,
) -> Choice:
    """Return the model for ``auto``: the reranker's checkpoint, with a problem if it neither runs anywhere nor fits an
    accelerator of this machine.

    The embedded model replaces it only for questions of a ``kind`` by which it ranks, and as the base of ``adapter``, which
    is compared with it later. ``engine`` are the settings of the engine, which say how many accelerators it uses. With
    ``here`` False, and on the machines of a running Ray cluster, memory is not looked at.
    """
    known = known_models().get(checkpoint) if isinstance(checkpoint, str) else None  # settings are validated later
    if known is None or checkpoint is None:
        ranks = not here or may_be_embedded(kind, adapter)
        return Choice(EMBEDDED, None if ranks else f"{reranker} has no model of its own: name one with --rerank.model, or use "
                                                   "--rerank upr, which ranks on any machine")  # fmt: skip
    if known.base == EMBEDDED_SOURCE or (adapter is None and not (here and _is_here(engine))):
        return Choice(checkpoint)
    device = device_of(engine)
    if device.kind != CPU and Verdict(known.needs(context, arguments_of(engine)), device.free).fits:
        return Choice(checkpoint)
    if may_be_embedded(kind, adapter):
        return Choice(EMBEDDED)
    ways = [] if kind == _REWRITES else ["with --rerank upr (ranks on any machine)"]
    return Choice(checkpoint, _refusal(reranker, checkpoint, known, engine, device, context, ways))


def may_be_embedded(kind: str, adapter: str | None) -> bool:
    """Return whether the embedded model, with ``adapter`` if that is given, may rank by questions of this kind."""
    return adapter is not None or kind in _EMBEDDED_RANKS_BY


def _is_here(engine: Mapping[str, Any]) -> bool:
    """Whether the engine loads the model on this machine, and not on those of a running Ray cluster."""
    return engine.get("name") != "ray" or engine.get("address") is None


def _refusal(
    reranker: str,
    checkpoint: str,
    known: Known,
    engine: Mapping[str, Any],
    device: Device,
    context: int | None,
    elsewhere: Sequence[str],
) -> str:
    arguments = arguments_of(engine)
    need = known.needs(context, arguments)
    found = "no GPU was found" if device.kind == CPU else f"{device.name} has {gb(device.free)} free"
    ways = [
        *elsewhere,
        "with --rerank.engine.name openai --rerank.engine.base_url http://HOST:8000/v1 (a model server)",
        f"on a machine with a GPU that has {_free_for(need)} free",
    ]
    if device.kind != CPU:
        ways[len(elsewhere) : len(elsewhere)] = _on_accelerators(checkpoint, known, need, arguments, device, context)
    own = known.needs(context, {**ON_A_CPU, **arguments})
    if engine.get("name", "auto") in ("auto", "transformers") and Verdict(own, own_memory().free).fits:
        on_a_cpu = "" if device.kind == CPU else " --rerank.engine.name transformers --rerank.engine.device cpu"
        ways.insert(-1, f"with --rerank.model {checkpoint}{on_a_cpu} (slowly, on this CPU)")
    return (
        f"{reranker} needs a GPU: its model {checkpoint} takes {gb(need.weights + need.cache)} of GPU memory, and {found}; "
        f"run the same {', '.join(ways[:-1])}, or {ways[-1]}"
    )


def _on_accelerators(
    checkpoint: str, known: Known, need: Need, arguments: Mapping[str, Any], device: Device, context: int | None
) -> list[str]:
    """What fits the accelerators of this machine: the checkpoint over several, or a smaller one for the same reranker."""
    ways = [] if (n := spread(need)) is None else [f"with --rerank.engine.args.tensor_parallel_size {n} ({n} GPUs)"]
    smaller = {
        name: other.parameters
        for name, other in known_models().items()
        if other.reranker is not None and other.reranker == known.reranker and other.parameters < known.parameters
        if name != checkpoint and Verdict(other.needs(context, arguments), device.free).fits
    }
    if smaller:
        ways.append(f"with --rerank.model {max(smaller, key=lambda name: smaller[name])} (a smaller checkpoint)")
    return ways


def _free_for(need: Need) -> str:
    """The free memory in which ``need`` fits, in whole GB."""
    return f"{ceil((need.weights + need.cache) / HEADROOM / 1e9)} GB"
