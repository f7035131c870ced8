"""Whether a small model learns to order passages that it reads beside each other: docs/experiments-embedded.md.

    python tests/benchmarks/orders.py                      # all variants
    python tests/benchmarks/orders.py --only letters

Lists of the embedded ranker's training queries, each of five passages, whose order is that of the labels and, within equal
labels, of query likelihood (``upr`` with the shipped adapter). The model reads a list once and is taught to name the
passages by letter, with FIRST's ranking loss on the first letter. Measured through ``rerank`` on held-out lists in random
order, as in judges.py; no test topic is looked at. About half an hour of a core with bfloat16 instructions each, and some
minutes for the lists. Results are kept in build/orders/.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import judges
import yaml
from commands import must
from embedded import DATA, ROOT

from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.resources import conf
from pyserini_reasonrank.train.distil.distillation import gather
from pyserini_reasonrank.train.distil.optimisation import Config

BUILD = ROOT / "build" / "orders"
LISTS, SIZE = 400, 5
SHOWN = {"passage_tokens": 48, "query_tokens": 48, "strategy": {"window_size": SIZE, "stride": 2}}
LORA = {"r": 16, "alpha": 32, "first_layer": 0}
LETTERS_AFTER = """\
about: Name passages by letter; each letter follows its passage, so that its position has seen query and passage.
contract: first_token
messages:
  - role: user
    content: |-
      Search query: {{ query }}

      {% for number, passage in numbered %}{{ passage }} [{{ "ABCDE"[number - 1] }}]
      {% endfor %}
      Search query: {{ query }}

      Letters of the passages that answer it, best first:
prefill: "["
reminder: Write the letters only.
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """The model to begin with, the reranker it is trained for and its prompt, and the loss beside that of imitation."""

    model: str = "smollm2-135m-rank"
    reranker: str = "first"
    prompt: str = ""
    rank_loss: str | None = "weighted-ranknet"

    def settings(self, home: Path) -> dict[str, Any]:
        """How the reranker asks; the prompt is written into ``home``."""
        if not self.prompt:
            return SHOWN
        path = home / "prompt.yaml"
        path.write_text(self.prompt, encoding="utf-8")
        return SHOWN | {"prompt": str(path)}


VARIANTS: Mapping[str, Variant] = {
    "letters-after": Variant(prompt=LETTERS_AFTER),
    "letters": Variant(),
    "letters-from-base": Variant(model="smollm2-135m"),
    "written": Variant(reranker="rankgpt", rank_loss=None),
}
"""``letters``: from the weights that know query likelihood; ``written``: the order as text, without a ranking loss."""


def lists() -> list[tuple[str, list[str], list[float]]]:
    """Query, passages and gains of the lists to learn from, one for each query with a positive."""
    recipe = yaml.safe_load(conf("train", "embedded.yaml").read_text(encoding="utf-8"))
    config = Config.model_validate(recipe | {"data": DATA, "output": BUILD / "unused"})
    chance, found = random.Random(929), []
    for block in gather(config):
        for query, gains in zip(block.queries, block.gains, strict=True):
            shuffled = chance.sample(range(len(gains)), len(gains))
            best = sorted(shuffled, key=[-gain for gain in gains].__getitem__)[:SIZE]
            if len(best) == SIZE and max(gains) > 0:
                shown = chance.sample(best, SIZE)
                found.append((query, [block.passages[i] for i in shown], [gains[i] for i in shown]))
    return chance.sample(found, min(LISTS, len(found)))


def taught() -> Path:
    """The lists in the form of TFRank's release, ordered by label and then by the likelihood of the query."""
    path, candidates, run = (BUILD / name for name in ("lists.jsonl", "candidates.jsonl", "upr.txt"))
    if path.exists():
        return path
    BUILD.mkdir(parents=True, exist_ok=True)
    found = lists()
    with candidates.open("w", encoding="utf-8") as file:
        for number, (query, passages, _) in enumerate(found):
            rows = [{"docid": f"d{i}", "score": -i, "text": text} for i, text in enumerate(passages)]
            file.write(json.dumps({"qid": f"q{number}", "query": query, "candidates": rows}) + "\n")
    alone = ["--rerank", "upr", "--rerank.fuse.method", "none", "--rerank.depth", SIZE]
    alone += ["--rerank.engine.args.dtype", "bfloat16"]
    must("pyserini_reasonrank", "rerank", "--candidates", candidates, "--output", run, *alone)
    likely = {qid: [hit.docid for hit in hits] for qid, hits in read_run(run).items()}
    with path.open("w", encoding="utf-8") as file:
        for number, (query, passages, gains) in enumerate(found):
            keys = [(-gains[i], likely[f"q{number}"].index(f"d{i}")) for i in range(SIZE)]
            order = sorted(range(SIZE), key=keys.__getitem__)
            answer = " > ".join(f"[{i + 1}]" for i in order)
            row = {"task": "listwise", "query": query, "passages": passages, "answer": answer}
            file.write(json.dumps(row) + "\n")
    return path


def trained(name: str) -> Path:
    """The folder of a variant's adapter."""
    variant, home = VARIANTS[name], BUILD / name
    home.mkdir(parents=True, exist_ok=True)
    rows = home / "rows.jsonl"
    if not rows.exists():
        asked = {
            "reranker": variant.reranker,
            "model": judges.MODEL,
            "rerank": variant.settings(home),
            "format": "tfrank",
        }
        judges.step("data", asked | {"path": str(taught()), "copies": 1, "output": str(rows)}, home)
    args = {
        "learning_rate": 5e-4,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 10,
        "num_train_epochs": 1,
        "seed": 929,
        "bf16": True,
    }
    settings: dict[str, Any] = {
        "model": variant.model,
        "data": [str(rows)],
        "output": str(home / "model"),
        "max_length": 1024,
    }
    settings |= {"lora": LORA, "args": args | {"per_device_train_batch_size": 8, "logging_steps": 5, "save_steps": 20}}
    if variant.rank_loss:
        settings["rank_loss"] = {"name": variant.rank_loss}
    judges.step("sft", settings, home)
    return home / "model"


def measured(name: str) -> list[list[float]]:
    """nDCG@1 and @10 of the order given, before training, and after."""
    variant, adapter = VARIANTS[name], trained(name)
    home = adapter.parent
    settings = home / "served.yaml"
    settings.write_text(yaml.safe_dump(variant.settings(home)), encoding="utf-8")
    runs = []
    merged = adapter / "base"  # what an adapter was trained on, if that was an adapter itself
    base = ["--rerank.model", merged if merged.is_dir() else judges.MODEL]
    for run, flags in (("before", base), ("after", [*base, "--rerank.adapter", adapter])):
        runs.append(home / f"{run}.txt")
        inputs = ["--candidates", judges.BUILD / "candidates.jsonl", "--output", runs[-1]]
        asked = ["--rerank", variant.reranker, "--rerank.config", settings, *flags]
        must("pyserini_reasonrank", "rerank", *inputs, *asked)
    report = evaluate(judges.BUILD / "qrels.txt", judges.BUILD / "run.txt", runs, ["nDCG@1", "nDCG@10"])
    return [[score.value for score in one.scores] for one in (report.first, *report.runs)]


def table(names: list[str]) -> Iterator[str]:
    judges.lists()
    judges.written()
    taught()
    yield "| variant | nDCG@1, before | trained | nDCG@10, before | trained |"
    yield from judges.rows(names, measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="variant")
    for line in table(parser.parse_args().only or list(VARIANTS)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
