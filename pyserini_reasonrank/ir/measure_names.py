"""Measures by name: the notation of ir_measures, without regard to case, and the names of trec_eval."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from pyserini_reasonrank.errors import UsageError, nearest

if TYPE_CHECKING:
    from ir_measures import Measure

MEASURES = ("nDCG@10", "R@100", "AP")


def measure_name(measure: Measure) -> str:
    """The name of the mean over queries: MAP and MRR for AP and RR."""
    name = repr(measure)
    return f"M{name}" if measure.NAME in ("AP", "RR") else name


def parse_measure(text: str) -> Measure:
    """The ir_measures measure that ``text`` names: ``nDCG@10``, ``ap(rel=2)``, ``P(rel=2)@5``, ``ndcg_cut_10``.

    UsageError, with the nearest name, if ir_measures has no such measure; UsageError if no installed library computes it.
    """
    import ir_measures

    parsed = _parts(text) or (_parts("_") if _of_trec_eval(text) else None)
    if parsed is None:
        raise UsageError(f"{text!r} is not a measure; write, for example, nDCG@10, AP or P(rel=2)@5")
    name, parameters, cutoff = parsed
    registry = ir_measures.measures.registry
    if (known := _known(name)) is not None:
        measure: Measure = registry[known](**parameters)
    elif (of_trec_eval := _of_trec_eval(text)) is not None:
        measure = of_trec_eval
    else:
        raise UsageError(f"there is no measure {name!r}{nearest(name, registry)}")
    if cutoff is not None:
        measure = measure @ cutoff
    try:
        supported = ir_measures.DefaultPipeline.supports(measure)
    except AssertionError as error:
        raise UsageError(f"the measure {text} is incomplete or invalid: {error}") from None
    if not supported:
        raise UsageError(f"no installed library computes the measure {text}; see https://ir-measur.es")
    return measure


def names_a_measure(text: str) -> bool:
    """Whether the name in ``text`` is a measure of ir_measures or trec_eval; its parameters may be wrong."""
    parsed = _parts(text)
    return (parsed is not None and _known(parsed[0]) is not None) or _of_trec_eval(text) is not None


def has_the_form_of_a_measure(text: str) -> bool:
    """Whether ``text`` is written as measures are (``name@10``), whatever its name."""
    return _parts(text) is not None


def _parts(text: str) -> tuple[str, dict[str, object], object] | None:
    """The name, the parameters and the cut-off in ``text``; None if it is not the notation of a measure."""
    # ir_measures.parse_measure uses parts of ast that Python 3.14 removed
    try:
        node = ast.parse(text.strip(), mode="eval").body
        parameters: dict[str, object] = {}
        cutoff: object = None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            cutoff, node = ast.literal_eval(node.right), node.left
        if isinstance(node, ast.Call) and not node.args:
            parameters = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
            node = node.func
    except (SyntaxError, ValueError):
        return None
    return (node.id, parameters, cutoff) if isinstance(node, ast.Name) else None


def _known(name: str) -> str | None:
    """The name in ir_measures' registry: the same, or else equal without regard to case."""
    import ir_measures

    registry = ir_measures.measures.registry
    if name in registry:
        return name
    # names that differ only in case (NDCG, nDCG) are aliases of one measure
    return next((known for known in registry if known.casefold() == name.casefold()), None)


def _of_trec_eval(text: str) -> Measure | None:
    """The measure that trec_eval names so (``ndcg_cut_10``); None for none, and for names of several measures."""
    import ir_measures

    lower = text.strip().lower()
    for name in (text.strip(), lower, lower.capitalize()):  # capitalised as in P_10 and Rprec
        try:
            measures = ir_measures.parse_trec_measure(name)
        except ValueError:
            continue
        return measures[0] if len(measures) == 1 else None
    return None
