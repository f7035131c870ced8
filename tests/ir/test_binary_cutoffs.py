"""Which qrels are of TREC Deep Learning's passage tasks, and which measures their cut-off changes."""

import pytest

from pyserini_reasonrank.ir.binary_cutoffs import collection_with_cutoff, with_cutoff
from pyserini_reasonrank.ir.measure_names import parse_measure
from pyserini_reasonrank.ir.qrels import Qrels


@pytest.mark.parametrize(
    ("qrels", "collection"),
    [
        ({"19335": {"1017759": 0, "109063": 3}, "47923": {"1": 1}}, "TREC DL 2019"),
        ({"23849": {"1017759": 1}}, "TREC DL 2020"),
        ({"2082": {"msmarco_passage_01_552803451": 1, "msmarco_passage_02_1": 2}}, "TREC DL 2021-2023"),
        ({"2082": {"msmarco_passage_01_552803451": 1}}, None),
        ({"19335": {"D1017759": 2}}, None),
        ({"19335": {"1017759": 2}, "1": {"2": 3}}, None),
        ({"1": {"184": 3, "29": 2}}, None),
    ],
)
def test_collections(qrels: Qrels, collection: str | None) -> None:
    assert collection_with_cutoff(qrels) == collection


@pytest.mark.parametrize(
    ("written", "name"),
    [("AP", "AP(rel=2)"), ("RR@10", "RR(rel=2)@10"), ("R@100", "R(rel=2)@100"), ("P@5", "P(rel=2)@5"),
     ("Success@5", "Success(rel=2)@5"), ("AP(rel=1)", "AP"), ("nDCG@10", "nDCG@10"), ("bpref", "Bpref(rel=2)"),
     ("Judged@10", "Judged@10"), ("ERR@10", "ERR@10"), ("NumRel", "NumRel")],
)  # fmt: skip
def test_binary_measures_have_the_cutoff(written: str, name: str) -> None:
    assert repr(with_cutoff(parse_measure(written))) == name
