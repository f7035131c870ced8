"""Measures by name: the notation of ir_measures, without regard to case, and the names of trec_eval."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.measure_parameters import check_parameters

if TYPE_CHECKING:
    from ir_measures import Measure

MEASURES = ("nDCG@10", "R@100", "AP")


def measure_name(measure: Measure) -> str:
    """The name of the mean over queries: MAP and MRR for AP and RR."""
    name = repr(measure)
    return f"M{name}" if measure.NAME in ("AP", "RR") else name


def parse_measure(text: str) -> Measure:
    """The ir_measures measure that ``text`` names: ``nDCG@10``, ``ap(rel=2)``, ``P(rel=2)@5``, ``ndcg_cut_10``.

    UsageError, with the nearest name, if ir_measures has no such measure; for several measures in one text; for a parameter
    that is missing, unknown or out of its range; if no installed library computes the measure; and for Accuracy, which has
    no value for a query without relevant documents in the run.
    """
    import ir_measures

    if len(several := _between_commas(text)) > 1:
        raise UsageError(
            f"{text!r} names {len(several)} measures or cut-offs: write each in full, separated by spaces (nDCG@5 nDCG@10)"
        )
    named = _of_trec_eval(text)
    parsed = _parts(text) or (_parts("_") if named else None)
    if parsed is None:
        raise UsageError(f"{text!r} is not a measure; write, for example, nDCG@10, AP or P(rel=2)@5")
    name, parameters, cutoff = parsed
    registry = ir_measures.measures.registry
    if (known := _known(name)) is not None:
        measure: Measure = registry[known](**parameters)
    elif len(named) > 1:
        raise UsageError(
            f"{text!r} is trec_eval's name of {len(named)} measures: name one of them, such as ndcg_cut_10"
        )
    elif named:
        measure = named[0]
    else:
        raise UsageError(f"there is no measure {name!r}{nearest(name, registry)}")
    if cutoff is not None:
        measure = measure @ cutoff
    check_parameters(measure, text)
    if not ir_measures.DefaultPipeline.supports(measure):
        raise UsageError(f"no installed library computes the measure {text}; see https://ir-measur.es")
    if measure.NAME == "Accuracy":
        raise UsageError(
            f"the measure {text} has no value for a query without relevant documents in the run, so it has no mean over all "
            "queries; use Bpref, which is 0 for such a query"
        )
    return measure


def names_a_measure(text: str) -> bool:
    """Whether the name in ``text`` is a measure of ir_measures or trec_eval; its parameters may be wrong."""
    parsed = _parts(text)
    return (parsed is not None and _known(parsed[0]) is not None) or bool(_of_trec_eval(text))


def has_the_form_of_a_measure(text: str) -> bool:
    """Whether ``text`` is written as measures are (``name(...)@10``, also several with commas), whatever is in it."""
    return all(_FORM.fullmatch(part) for part in _between_commas(text)[:1])


_FORM = re.compile(r"\s*[^\W\d]\w*([._]\d+)?\s*(\(.*\)?)?\s*(@.*)?", re.DOTALL)
_OF_TREC_EVAL = re.compile(r"([^\W\d]\w*?)(?:[._](\d+(?:\.\d+)?))?", re.ASCII)


def _between_commas(text: str) -> list[str]:
    """The parts of ``text`` between the commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


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
            if len({word.arg for word in node.keywords}) < len(node.keywords):
                return None
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


def _of_trec_eval(text: str) -> list[Measure]:
    """The measures that trec_eval names so: one for ``ndcg_cut_10``, several for ``ndcg_cut``, none for no name of its."""
    import ir_measures
    import pytrec_eval

    match = _OF_TREC_EVAL.fullmatch(text.strip())
    # ir_measures ignores what follows the number of a name
    if match is None or re.search(r"[._]\d", match[1]) or match[1] in pytrec_eval.supported_nicknames:
        return []
    lower = text.strip().lower()
    for name in (text.strip(), lower, lower.capitalize()):  # capitalised as in P_10 and Rprec
        try:
            measures: list[Measure] = ir_measures.parse_trec_measure(name)
        except ValueError:
            continue
        return measures
    return []
