"""Parameters of measures out of their range are errors: some abort the interpreter in a library."""

import re

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.measure_names import parse_measure

MOST = 2**31 - 1


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("nDCG@0", f"the cut-off must be an integer from 1 to {MOST}, not 0"),
        ("ndcg_cut_0", "the cut-off must be an integer from 1"),
        ("nDCG@-1", "the cut-off must be an integer from 1"),
        ("P@2.0", "the cut-off must be an integer from 1"),
        ("P@True", "the cut-off must be an integer from 1"),
        (f"P@{MOST + 1}", "the cut-off must be an integer from 1"),
        ("P(rel=0)@10", "the parameter rel must be an integer from 1"),
        ("AP(rel=-2)", "the parameter rel must be an integer from 1"),
        ("P", "the measure P needs a cut-off: P@10"),
        ("R", "the measure R needs a cut-off: R@10"),
        ("IPrec", "the measure IPrec needs a recall: IPrec@0.5"),
        ("IPrec@1.5", "the recall must be from 0 to 1, not 1.5"),
        ("INST", "the measure INST needs the parameter max_rel"),
        ("SetF(beta=0.0)", "the parameter beta must be above 0"),
        ("AP(cut=3)", "AP has no parameter 'cut'; did you mean 'cutoff'?"),
        ("NumQ@3", "NumQ has no parameter 'cutoff'"),
        ("nDCG(dcg='log')@3", "the parameter dcg must be one of 'log2', 'exp-log2', not 'log'"),
        ("nDCG(gains={'a': 2})@3", "gains must map grades to gains"),
        ("AP(judged_only=1)", "the parameter judged_only must be of type bool, not 1"),
    ],
)
def test_parameters_out_of_their_range(written: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        parse_measure(written)
    assert "object at" not in str(error.value)


@pytest.mark.parametrize(
    "written", [f"nDCG@{MOST}", "P(rel=3)@1", "IPrec@0.0", "iprec_at_recall_1.0", "SetF(beta=0.5)"]
)
def test_parameters_within_their_range(written: str) -> None:
    parse_measure(written)
