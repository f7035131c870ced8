"""The pictures of docs/experiments-embedded.md: the training curve from a run's log, the results from the page's own table.

python tests/benchmarks/pictures.py --run runs/embedded      # the folder of `train distil --config embedded`
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "experiments-embedded.md"
COLOURS = {"tfrank": "#3b6ea8", "claims": "#c2572b", "demo": "#3d8b5f", "judged": "#8a5ba6", "titles": "#8c7a2f"}
CALLED = {"tfrank": "MS MARCO", "judged": "NFCorpus"}
AROUND = 61  # steps that a point of a curve is the mean of
_ROW = re.compile(r"^\| (?P<name>[^|]+) \| +(?P<topics>\d+) \|(?P<cells>.+)\|$")


class Result(NamedTuple):
    """A row of the table: nDCG@10 of the first stage and of the fused reranker, and whether the difference is chance."""

    name: str
    first: float
    fused: float
    significant: bool


def curve(run: Path) -> Figure:
    """KL and nDCG@10 of each source over the steps, every block before it is trained on."""
    with (run / "log.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("kl", "nDCG@10"), strict=True):
        points: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for row in rows:
            points[row["source"]].append((int(row["step"]), float(row[name])))
        last = max(int(row["step"]) for row in rows)
        for source, colour in COLOURS.items():
            found = points[source]
            values = [fmean(v for at, v in found if abs(at - step) <= AROUND // 2) for step, _ in found]
            axes.plot([step for step, _ in found], values, color=colour, label=CALLED.get(source, source))
        axes.set(xlabel="step", title={"kl": "KL"}.get(name, name), xlim=(0, last))
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


def results(text: str) -> Iterator[Result]:
    """The rows of the page's table of results."""
    table = text[text.index("## Results") :]
    for row in filter(None, map(_ROW.match, table[: table.index("\n\n!")].splitlines())):
        cells = [cell.strip().strip("*") for cell in row["cells"].split("|")]
        yield Result(row["name"], float(cells[0]), float(cells[4]), float(cells[5].strip("< ")) < 0.05)


def dumbbells(rows: Sequence[Result]) -> Figure:
    """From the first stage to the fused reranker, a line a collection; filled where it is more than chance."""
    figure = Figure(figsize=(7, 0.36 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        colour = "#3d8b5f" if row.fused > row.first else "#c2572b"
        axes.plot([row.first, row.fused], [place, place], color=colour, linewidth=2, zorder=1)
        axes.scatter(row.first, place, color="#777777", s=28, zorder=2)
        axes.scatter(
            row.fused, place, facecolor=colour if row.significant else "white", edgecolor=colour, s=46, zorder=3
        )
    axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    axes.set_xlabel("nDCG@10; grey: the first stage\nfilled: more than chance (p < 0.05)", fontsize=9)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def save(figure: Figure, name: str) -> None:
    """The same bytes for the same figures."""
    settings: Any = {"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(settings):
        figure.savefig(DOCS / name, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, metavar="folder", help="draw its training curve too")
    options = parser.parse_args()
    save(dumbbells(list(results(PAGE.read_text(encoding="utf-8")))), "embedded-results.svg")
    if options.run:
        save(curve(options.run), "embedded-curve.svg")


if __name__ == "__main__":
    main()
