"""``2cr run`` of the conditions that need no GPU: the published figures come out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import more

from pyserini_reasonrank.cli import two_click
from pyserini_reasonrank.cli.reproduce.matrix import ALL, load, names

QUICK = [
    ("bright-runs", "reasonir", None),
    ("first-stages", "bm25", None),
    ("rankllm-replay", "rankvicuna", "bm25"),
]
"""Matrix, condition and topic set; None for all topic sets."""


def others() -> Iterator[tuple[str, str, str | None]]:
    """All other conditions on a CPU. Those of the embedded model share a journal for each topic set."""
    for matrix in (found for found in map(load, names()) if found.hardware == "cpu"):
        if matrix.name == "embedded":
            yield from ((matrix.name, ALL, topics.name) for topics in matrix.conditions[0].topics)
            continue
        for condition in matrix.conditions:
            if (matrix.name, condition.name, None) not in QUICK:
                sets = [topics.name for topics in condition.topics] if condition.command else [None]
                yield from ((matrix.name, condition.name, name) for name in sets)


@pytest.mark.parametrize(
    ("name", "condition", "topics"), [*QUICK, *more(*(each for each in others() if each not in QUICK))]
)
def test_the_published_figures_come_out_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, condition: str, topics: str | None
) -> None:
    words = ["run", name, "--condition", condition, "--data", str(data), "--output", str(tmp_path)]
    status = two_click.main([*words, "--topics", topics] if topics else words)
    said = capsys.readouterr().out
    assert status == 0, said
    matrix = load(name)
    expected = [
        score
        for each in matrix.chosen(condition)
        for known in each.topics
        if topics in (None, known.name)
        for score in known.expected
    ]
    assert said.count("[OK]") + said.count("[OKish]") - 2 >= len(expected) > 0
