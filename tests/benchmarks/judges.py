"""Which judge a small model learns: the comparison of docs/experiments-embedded.md.

    python tests/benchmarks/judges.py

The same 64 lists of TFRank's (MS MARCO passages), labels alone, seen once as each judge asks: query likelihood, yes or no, the
first letter of an order, the best of a set. Measured before and after on held-out lists in a random order, through
`rerank`; no test topic is looked at. Some 40 minutes of a core. Results are kept in build/judges/.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from commands import must
from embedded import DATA, LANES, ROOT

from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.resources import conf
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.release import Release
from pyserini_reasonrank.train.data.rows import Audit
from pyserini_reasonrank.train.data.tfrank import tfrank
from pyserini_reasonrank.train.distil.blocks import held_back

BUILD = ROOT / "build" / "judges"
RELEASE = DATA / "training" / "tfrank_normalised.jsonl.gz"
MODEL = "smollm2-135m"
LISTS, HELD = 64, 30
SHOWN = {"passage_tokens": 64, "query_tokens": 64}
LORA = {"r": 16, "alpha": 32, "first_layer": 15}  # as the shipped adapter
ARGS = {"learning_rate": 5e-4, "lr_scheduler_type": "cosine", "num_train_epochs": 1, "seed": 929}


@dataclass(frozen=True, slots=True)
class Kind:
    """A judge: the reranker that asks it, what is set of that, and how it is trained."""

    reranker: str
    settings: Mapping[str, Any]
    train: Callable[[Kind, Path], None]
    trainer: Mapping[str, Any]
    """Over the settings of `train sft`."""


def imitate(kind: Kind, home: Path) -> None:
    """`train data` of the chosen lists, and `train sft`."""
    rows = home / "rows.jsonl"
    asked = {"reranker": kind.reranker, "model": MODEL, "rerank": dict(kind.settings), "format": "tfrank", "output": str(rows),
             "path": str(lists()), "queries": LISTS}  # fmt: skip
    step("data", asked, home)
    step(
        "sft", {"model": MODEL, "data": [str(rows)], "lora": LORA, "output": str(home / "model"), **kind.trainer}, home
    )


def distil(kind: Kind, home: Path) -> None:
    """`train distil`, without its teacher."""
    shipped = yaml.safe_load(conf("train", "embedded.yaml").read_text(encoding="utf-8"))
    source = {"sources": {"msmarco": {"kind": "tfrank", "blocks": LISTS}}, "data": str(DATA), "dev": 0}
    step("distil", shipped | source | {"labels": 1.0, "output": str(home / "model")}, home)


def _args(batch: int) -> dict[str, Any]:
    return {"max_length": 2048, "args": ARGS | {"per_device_train_batch_size": batch}}


KINDS: Mapping[str, Kind] = {
    "query likelihood": Kind("upr", SHOWN, distil, {}),
    "yes or no": Kind(
        "rank1",
        SHOWN | {"judge": {"scale": "yes-no", "think": False, "opening": ""}, "prompt": "relevant"},
        imitate,
        _args(24),
    ),
    "first letter": Kind("first", SHOWN, imitate, _args(4) | {"rank_loss": {"name": "weighted-ranknet"}}),
    "best of the set": Kind(
        "setwise", SHOWN | {"strategy": {"name": "heapsort", "children": 19, "k": 1}}, imitate, _args(4)
    ),
}


def lists() -> Path:
    """The release without the queries that are held out."""
    path = BUILD / "train.jsonl"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with gzip.open(RELEASE, "rt", encoding="utf-8") as lines:
            kept = [line for line in lines if not held_back(json.loads(line)["query"])]
        path.write_text("".join(kept), encoding="utf-8")
    return path


def held() -> list[LabelledList]:
    release = Release(RELEASE, None, None, "tfrank", "listwise")
    found = [listed for listed in tfrank(release, Audit()) if held_back(listed.query.text)]
    found = [listed for listed in found if len({c.docid for c in listed.candidates}) == len(listed.candidates)]
    chance = random.Random(929)
    return [one.shown(chance.sample(range(n), n)) for one in found[:HELD] for n in [len(one.candidates)]]


def written() -> tuple[Path, Path, Path]:
    """Candidates, the order they come in as a run, judgments."""
    candidates, run, qrels = (BUILD / name for name in ("candidates.jsonl", "run.txt", "qrels.txt"))
    with candidates.open("w") as asked, run.open("w") as ranked, qrels.open("w") as judged:
        for one in held():
            qid, n = one.query.qid, len(one.candidates)
            rows = [{"docid": c.docid, "score": n - i, "text": c.text} for i, c in enumerate(one.candidates)]
            asked.write(json.dumps({"qid": qid, "query": one.query.text, "candidates": rows}) + "\n")
            ranked.writelines(f"{qid} Q0 {r['docid']} {i} {r['score']} shuffled\n" for i, r in enumerate(rows, 1))
            judged.writelines(
                f"{qid} 0 {c.docid} {gain:g}\n" for c, gain in zip(one.candidates, one.gains, strict=True)
            )
    return candidates, run, qrels


def measured(name: str) -> list[list[float]]:
    """nDCG@1 and @10 of the order given, before training, and after."""
    kind, home = KINDS[name], BUILD / name.replace(" ", "-")
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "model" / "adapter_model.safetensors").exists():
        kind.train(kind, home)
    settings = home / "served.yaml"
    settings.write_text(yaml.safe_dump(dict(kind.settings)), encoding="utf-8")
    runs = [home / "before.txt", home / "after.txt"]
    for run, adapter in zip(runs, ([], ["--rerank.adapter", home / "model"]), strict=True):
        flags = ["--rerank", kind.reranker, "--rerank.config", settings, "--rerank.model", MODEL, *adapter]
        must("pyserini_reasonrank", "rerank", "--candidates", BUILD / "candidates.jsonl", "--output", run, *flags)
    report = evaluate(BUILD / "qrels.txt", BUILD / "run.txt", runs, ["nDCG@1", "nDCG@10"])
    return [[score.value for score in one.scores] for one in (report.first, *report.runs)]


def table(names: list[str]) -> Iterator[str]:
    lists()
    written()
    yield "| judge | nDCG@1, untrained | trained | nDCG@10, untrained | trained |"
    yield from rows(names, measured)


def rows(names: list[str], measure: Callable[[str], list[list[float]]]) -> Iterator[str]:
    """The lines of a table: nDCG@1 and @10 of each name that ``measure`` returns, side by side on the cores."""
    yield "|---|--:|--:|--:|--:|"
    with ThreadPoolExecutor(LANES) as pool:
        for i, (name, (shuffled, before, after)) in enumerate(zip(names, pool.map(measure, names), strict=True)):
            if not i:
                yield f"| none: a random order | {shuffled[0]:.3f} | | {shuffled[1]:.3f} | |"
            yield f"| {name} | {before[0]:.3f} | {after[0]:.3f} | {before[1]:.3f} | {after[1]:.3f} |"


def step(name: str, settings: Mapping[str, Any], home: Path) -> None:
    """`train NAME` with these settings, which are kept in ``home``."""
    file = home / f"{name}.yaml"
    file.write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
    must("pyserini_reasonrank", "train", name, "--config", file)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="judge")
    for line in table(parser.parse_args().only or list(KINDS)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
