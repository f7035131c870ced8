"""Checkpoints against the kind of question that a reranker asks."""

from __future__ import annotations

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.kinds import check_kind


def test_a_checkpoint_trained_for_other_questions_is_refused_with_its_own_reranker() -> None:
    with pytest.raises(UsageError) as error:
        check_kind("rank-r1-7b", "permutation", "reasonrank")
    assert str(error.value) == (
        "model rank-r1-7b was trained to pick the best of a set, but reasonrank asks it to order passages; use --rerank "
        "rank-r1, name another model, or use this one anyway with --rerank.model Qwen/Qwen2.5-7B-Instruct "
        "--rerank.adapter ielabgroup/Rank-R1-7B-v0.1"
    )


@pytest.mark.parametrize(("name", "kind"), [("rank-r1-7b", "best"), ("smollm2-135m", "worst"), ("any/model", "score")])
def test_other_models_answer_what_they_are_asked(name: str, kind: str) -> None:
    check_kind(name, kind, "any")
