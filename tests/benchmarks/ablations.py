"""What of the embedded ranker's recipe matters: the ablations of docs/experiments-embedded.md.

    python tests/benchmarks/ablations.py --teacher FOLDER            # all, four minutes of a core each
    python tests/benchmarks/ablations.py --teacher FOLDER --only rank-4 labels

Each is ``train distil --config embedded`` with one thing changed and fewer blocks; the measure is the divergence from labels
and teacher (KL) and nDCG@10 over held-out training queries, so no test topic is looked at. Results are kept in
build/ablations/: a second call goes on where the first ended.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from commands import must
from embedded import DATA, LANES, ROOT

from pyserini_reasonrank.resources import conf

BUILD = ROOT / "build" / "ablations"
BLOCKS = 64
SHORT = {"batch": 2, "warmup": 4, "dev_steps": None}  # of every variant: so few blocks are too few steps else

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "untrained": {"sources": []},
    "as-shipped": {},
    "rank-4": {"rank": 4, "alpha": 8},
    "rank-64": {"rank": 64, "alpha": 128},
    "all-layers": {"first_layer": 0},
    "labels": {"labels": 1.0},
    "teacher": {"labels": 0.0},
    "msmarco": {"sources": ["msmarco"]},
    "claims": {"sources": ["claims"]},
    "titles": {"sources": ["scifact-titles", "cranfield-titles", "cacm-titles"]},
}
"""What is changed; ``sources``: those that are trained on, all being measured."""


def settings(changes: Mapping[str, Any], *, shrunk: int = BLOCKS) -> dict[str, Any]:
    """The shipped recipe with these changes and those for a short run, ``shrunk`` blocks in the recipe's proportions."""
    shipped: dict[str, Any] = yaml.safe_load(conf("train", "embedded.yaml").read_text(encoding="utf-8"))
    sources, kept = shipped["sources"], changes.get("sources", list(shipped["sources"]))
    total = sum(sources[name]["blocks"] for name in kept)
    shares = {name: round(shrunk * sources[name]["blocks"] / total) if name in kept else 0 for name in sources}
    mixed = {name: source | {"blocks": shares[name]} for name, source in sources.items()}
    return shipped | SHORT | dict(changes) | {"sources": mixed}


def measured(name: str, teacher: Path | None) -> dict[str, tuple[float, float]]:
    """Trains; KL and nDCG@10 of each source."""
    home = BUILD / name
    if not (home / "adapter_model.safetensors").exists():
        home.mkdir(parents=True, exist_ok=True)
        recipe = home / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(settings(VARIANTS[name])), encoding="utf-8")
        flags = ["--teacher", teacher.resolve()] if teacher else []
        must("pyserini_reasonrank", "train", "distil", "--config", recipe, "--data", DATA, "--output", home, *flags)
    with (home / "dev.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return {row["source"]: (float(row["kl"]), float(row["nDCG@10"])) for row in rows}


def _mean(values: Iterator[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def table(names: list[str], teacher: Path | None) -> Iterator[str]:
    with ThreadPoolExecutor(LANES) as pool:
        for i, (name, found) in enumerate(zip(names, pool.map(lambda n: measured(n, teacher), names), strict=True)):
            if not i:
                yield f"| KL, nDCG@10 | {' | '.join(found)} | mean |"
                yield f"|---|{'--:|' * (len(found) + 1)}"
            mean = _mean(kl for kl, _ in found.values()), _mean(gain for _, gain in found.values())
            yield f"| {name} | {' | '.join(map(_cell, found.values()))} | {_cell(mean)} |"


def _cell(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f}, {pair[1]:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--teacher", type=Path, metavar="folder", help="of all-MiniLM-L6-v2, if its wheel is not installed"
    )
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="variant")
    options = parser.parse_args()
    for line in table(options.only or list(VARIANTS), options.teacher):
        print(line, flush=True)


if __name__ == "__main__":
    main()
