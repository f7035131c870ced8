"""Names of measures: ir_measures' in any case, and trec_eval's."""

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.measure_names import (
    has_the_form_of_a_measure,
    measure_name,
    names_a_measure,
    parse_measure,
)


@pytest.mark.parametrize(
    ("written", "name"),
    [("nDCG@10", "nDCG@10"), ("MAP", "MAP"), ("RR@10", "MRR@10"), ("P(rel=2)@5", "P(rel=2)@5"), ("R@100", "R@100"),
     ("nDCG(gains={2: 5})@3", "nDCG(gains={2:5})@3"),
     ("ndcg@10", "nDCG@10"), ("map", "MAP"), ("mrr@10", "MRR@10"), ("err@10", "ERR@10"),
     ("ndcg_cut_10", "nDCG@10"), ("ndcg_cut.10", "nDCG@10"), ("recip_rank", "MRR"),
     ("RECALL_100", "R@100"), ("P_10", "P@10"), ("p_10", "P@10")],
)  # fmt: skip
def test_names_of_measures(written: str, name: str) -> None:
    assert measure_name(parse_measure(written)) == name


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("nDGC@10", "no measure 'nDGC'; did you mean 'nDCG'"),
        ("ndgc@10", "no measure 'ndgc'; did you mean 'nDCG'"),
        ("ndcg 10", "is not a measure"),
        ("P(2)@5", "is not a measure"),
        ("P@five", "is not a measure"),
        ("", "is not a measure"),
        ("P@", "is not a measure"),
        ("nDCG@10@20", "is not a measure"),
        ("nDCG(dcg=foo)@10", "is not a measure"),
        ("P(rel=1, rel=2)@5", "is not a measure"),
        ("ndcg_cut_10abc", "there is no measure 'ndcg_cut_10abc'"),
        ("official", "there is no measure 'official'"),
        ("ndcg_cut", "'ndcg_cut' is trec_eval's name of 9 measures: name one of them, such as ndcg_cut_10"),
        ("ndcg_cut_10,map", "'ndcg_cut_10,map' names 2 measures or cut-offs: write each in full, separated by spaces"),
        ("ndcg_cut.10,20", "names 2 measures or cut-offs"),
        ("nDCG@10,AP", "names 2 measures or cut-offs"),
        ("accuracy@10", "accuracy@10 has no value for a query without relevant documents in the run"),
        ("alpha_nDCG@10", "no installed library computes the measure alpha_nDCG@10"),
    ],
)
def test_invalid_measures(written: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_measure(written)


def test_names_that_differ_only_in_case_are_one_measure() -> None:
    from ir_measures.measures import registry

    names: dict[str, set[str]] = {}
    for name, measure in registry.items():
        names.setdefault(name.casefold(), set()).add(measure.NAME)
    assert [name for name, measures in names.items() if len(measures) > 1] == []


@pytest.mark.parametrize(
    ("word", "form"),
    [("P@", True), ("nDCG@10@20", True), ("nDCG(dcg=foo)@10", True), ("ndcg_cut_5,10", True), ("ndcg,map", True),
     ("first.txt", False), ("runs/bm25", False), ("a-b", False)],
)  # fmt: skip
def test_words_in_the_form_of_a_measure(word: str, form: bool) -> None:
    assert has_the_form_of_a_measure(word) is form


@pytest.mark.parametrize(
    ("word", "measure"),
    [("nDCG@10", True), ("ndcg", True), ("P(2)@5", False), ("ndcg_cut_10", True), ("first.txt", False), ("run", False),
     ("runs/bm25.txt", False), ("R", True)],
)  # fmt: skip
def test_words_that_name_a_measure(word: str, measure: bool) -> None:
    assert names_a_measure(word) == measure
