"""From which grade on a document is relevant for binary measures: 2 in the passage tasks of TREC Deep Learning.

Grade 1 means "related" in TREC DL: the topic is the same, but the passage does not answer the query (Craswell et al. 2020,
arXiv:2003.07820). The track computes MAP, MRR and recall with grade 2 as the lowest relevant grade
(``trec_eval -l 2``). Its document tasks count grade 1 as relevant.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyserini_reasonrank.ir.qrels import Qrels

if TYPE_CHECKING:
    from ir_measures import Measure

CUTOFF = 2

_DL_2019 = """
19335 47923 87181 87452 104861 130510 131843 146187 148538 156493 168216 182539 183378 207786 264014
359349 405717 443396 451602 489204 490595 527433 573724 833860 855410 915593 962179 1037798 1063750
1103812 1106007 1110199 1112341 1113437 1114646 1114819 1115776 1117099 1121402 1121709 1124210
1129237 1133167
"""

_DL_2020 = """
23849 42255 47210 67316 118440 121171 135802 141630 156498 169208 174463 258062 324585 330975 332593
336901 390360 405163 555530 583468 640502 673670 701453 730539 768208 877809 911232 914916 938400
940547 997622 1030303 1037496 1043135 1051399 1064670 1071750 1105792 1106979 1108651 1109707
1110678 1113256 1115210 1116380 1121353 1122767 1127540 1131069 1132532 1133579 1136043 1136047
1136962
"""

_JUDGED = {"TREC DL 2019": frozenset(_DL_2019.split()), "TREC DL 2020": frozenset(_DL_2020.split())}
"""The qids that NIST judged over the MS MARCO v1 passages, whose docids are numbers."""

_V2 = re.compile(r"msmarco_passage_\d+_\d+")
"""The docids of the passages of MS MARCO v2, whose development topics have binary judgments."""


def collection_with_cutoff(qrels: Qrels) -> str | None:
    """The collection of ``qrels`` if it is a passage task of TREC Deep Learning; else None.

    Qids identify the tasks over MS MARCO v1, docids and grades above 1 those over v2.
    """
    docids = [docid for judged in qrels.values() for docid in judged]
    if all(docid.isdecimal() for docid in docids):
        return next((name for name, qids in _JUDGED.items() if qrels.keys() <= qids), None)
    graded = any(grade >= CUTOFF for judged in qrels.values() for grade in judged.values())
    return "TREC DL 2021-2023" if graded and all(map(_V2.fullmatch, docids)) else None


def with_cutoff(measure: Measure) -> Measure:
    """``measure`` with ``rel=2`` if it is binary, names no cut-off and can be computed with this one; else the same measure."""
    import ir_measures

    parameter = measure.SUPPORTED_PARAMS.get("rel")
    binary = parameter is not None and parameter.default == 1
    if not binary or "rel" in measure.params:
        return measure
    adapted = measure(rel=CUTOFF)
    return adapted if ir_measures.DefaultPipeline.supports(adapted) else measure
