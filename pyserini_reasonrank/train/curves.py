"""The training curves of a run as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyserini_reasonrank.ir.file_io import atomic

FIRST = ("loss", "kl", "nDCG@10", "dev/", "reward", "rewards/", "entropy", "completions/mean_length")
"""The first curves, in this order; the others follow by name."""

HIDDEN = ("epoch", "step", "total_flos", "train_", "num_tokens", "step_time", "completions/min_", "completions/max_")


def curves(log: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    """The steps and values of each number that was logged more than once, in the order of FIRST."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for entry in log:
        for name, value in entry.items():
            if isinstance(value, int | float) and not name.startswith(HIDDEN):
                steps, values = found.setdefault(name, ([], []))
                steps.append(entry["step"])
                values.append(value)
    order = {name: next((i for i, head in enumerate(FIRST) if name.startswith(head)), len(FIRST)) for name in found}
    names = sorted((name for name in found if len(found[name][0]) > 1), key=lambda name: (order[name], name))
    return {name: found[name] for name in names}


def write_page(path: Path, title: str, log: Sequence[Mapping[str, Any]]) -> None:
    """Write the page atomically. Writes nothing if no number was logged twice."""
    drawn = curves(log)
    if not drawn:
        return
    moving = {name: curve for name, curve in drawn.items() if len(set(curve[1])) > 1}
    image = base64.b64encode(_figure(moving or drawn)).decode()  # constant values are only in the table
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{values[0]:.4g}</td><td>{values[-1]:.4g}</td></tr>"
        for name, (_, values) in drawn.items()
    )
    page = (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>"
        "<style>body{font:15px sans-serif;margin:2em}img{max-width:100%}td,th{padding:.2em 1em;text-align:right}"
        "td:first-child,th:first-child{text-align:left}</style>"
        f"<h1>{html.escape(title)}</h1><img alt='training curves' src='data:image/png;base64,{image}'>"
        f"<table><tr><th>measure</th><th>first</th><th>last</th></tr>{rows}</table>\n"
    )
    with atomic(path) as file:
        file.write(page.encode())


def _figure(drawn: Mapping[str, tuple[list[int], list[float]]]) -> bytes:
    from matplotlib.figure import Figure

    columns = 3
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(4.6 * columns, 2.8 * rows), layout="constrained")
    for axes, (name, (steps, values)) in zip(
        figure.subplots(rows, columns, squeeze=False).flat, drawn.items(), strict=False
    ):
        axes.plot(steps, values, marker="." if len(steps) < 30 else "")
        axes.set_title(name, fontsize=10)
    for axes in figure.axes[len(drawn) :]:
        axes.set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=90)
    return stream.getvalue()
