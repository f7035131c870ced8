"""How well the embedded model ranks, over every collection: the tables of docs/experiments-embedded.md.

    python tests/benchmarks/embedded.py                              # the shipped adapter, all collections
    python tests/benchmarks/embedded.py --model smollm2-135m         # without it
    python tests/benchmarks/embedded.py --adapter runs/mine --only dl19 demo
    python tests/benchmarks/embedded.py --dtype bfloat16             # faster on CPUs that compute in bfloat16

The first stage's top 20 (RELIC: its pools, E5's order) reranked by ``upr`` through the literal command, alone and fused;
nDCG@10 with a paired t-test against the first stage. Journals in build/embedded/ make a second call go on where the
first ended. All of them are two million tokens, about an hour and a half of two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import must, run

from pyserini_reasonrank.demo.collection import write_corpus
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.resources import conf

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("REASONRANK_DATA") or ROOT.parent / "shared" / "data")
BUILD = ROOT / "build" / "embedded"
DEPTH = 20
LANES = 2  # commands side by side, a core each


@dataclass(frozen=True, slots=True)
class Collection:
    """What is reranked, as flags of ``rerank``, the run it comes from, and the judgments."""

    inputs: Sequence[object]
    first: Path
    qrels: Path


def bm25(
    folder: str, *, corpus: str = "corpus.jsonl", run: str = "run.bm25.anserini.top100.txt", qrels: str = "qrels.txt"
) -> Collection:
    """A collection with a run of BM25 beside it."""
    home = DATA / folder
    inputs = ["--run", home / run, "--topics", home / "topics.tsv", "--corpus", home / corpus]
    return Collection(inputs, home / run, home / qrels)


def relic() -> Collection:
    home, first = DATA / "birco-relic-test", BUILD / "relic.txt"
    candidates = home / "candidates.jsonl"
    with candidates.open(encoding="utf-8") as pools, first.open("w", encoding="utf-8") as run:
        for pool in map(json.loads, pools):
            run.writelines(f"{pool['qid']} Q0 {c['docid']} {c['rank']} {c['score']} E5\n" for c in pool["candidates"])
    return Collection(["--candidates", candidates], first, home / "qrels.txt")


def demo() -> Collection:
    """The demo's test topics, searched here."""
    home = BUILD / "demo"
    candidates = home / "candidates.jsonl"
    topics = conf("demo", "topics.tsv")
    if not candidates.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        corpus, index = home / "corpus.jsonl", home / "index"
        write_corpus(corpus)
        must("pyserini_reasonrank", "index", "--corpus", corpus, "--index", index)
        search = ["--index", index, "--topics", topics, "--bm25", "--hits", 100]
        written = ["--run", home / "bm25.txt", "--candidates", candidates]
        must("pyserini_reasonrank.host.first_stage", *written, "--depth", DEPTH, "--", *search)
    qids = {line.split("\t")[0] for line in topics.read_text(encoding="utf-8").splitlines()}
    judged = conf("demo", "qrels.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (home / "qrels.txt").write_text("".join(line for line in judged if line.split()[0] in qids), encoding="utf-8")
    return Collection(["--candidates", candidates], home / "bm25.txt", home / "qrels.txt")


COLLECTIONS: dict[str, Callable[[], Collection]] = {
    "dl19": lambda: bm25("msmarco-v1-dl19", run="run.bm25.txt"),
    "demo": demo,
    "cacm": lambda: bm25("cacm", corpus="corpus.clean.jsonl", qrels="qrels.anserini-unpadded.txt"),
    "vaswani": lambda: bm25("vaswani"),
    "relic": relic,
    "cranfield": lambda: bm25("cranfield"),
    "nfcorpus": lambda: bm25("nfcorpus-devtest"),
    "scifact": lambda: bm25("beir-scifact"),
}


def measured(name: str, collection: Collection, model: Sequence[object], home: Path) -> dict[str, Any]:
    """Reranks alone and fused from one journal, and evaluates both."""
    kept = home / f"{name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    alone, fused = home / f"{name}.txt", home / f"{name}.fused.txt"
    shared = [*collection.inputs, "--rerank", "upr", *model, "--rerank.depth", DEPTH]
    shared += ["--rerank.journal", home / f"{name}.sqlite"]
    first = run("pyserini_reasonrank", "rerank", *shared, "--output", alone, "--rerank.fuse.method", "none")
    for done in (first, run("pyserini_reasonrank", "rerank", *shared, "--output", fused, *FUSED)):
        if done.status:
            raise SystemExit(f"{name}: {done.error}")
    report = evaluate(collection.qrels, collection.first, [alone, fused], ["nDCG@10"])
    scores = [evaluated.scores[0] for evaluated in (report.first, *report.runs)]
    found: dict[str, Any] = {"cpu": first.cpu, "memory": first.memory, "topics": report.queries}
    for kind, score in zip(("first", "alone", "fused"), scores, strict=True):
        compared = score.comparison
        found[kind] = [score.value, *((compared.p, compared.won, compared.lost) if compared else (None, 0, 0))]
    kept.write_text(json.dumps(found))
    return found


FUSED = ["--rerank.fuse.method", "z-score", "--rerank.fuse.weight", 0.75]
"""As the shipped preset does."""


def rows(names: Sequence[str], model: Sequence[object], home: Path) -> Iterator[str]:
    home.mkdir(parents=True, exist_ok=True)  # in BUILD
    yield f"| {home.name} | topics | first stage | alone | p | won, lost | fused | p | won, lost | CPU s a query | GB |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    made = {name: COLLECTIONS[name]() for name in names}
    with ThreadPoolExecutor(LANES) as pool:
        for name, found in zip(made, pool.map(lambda n: measured(n, made[n], model, home), made), strict=True):
            yield f"| {name} | {found['topics']} | {found['first'][0]:.4f} | {_cells(found['alone'])} | {_cells(found['fused'])} " \
                  f"| {found['cpu'] / found['topics']:.1f} | {found['memory']:.1f} |"  # fmt: skip


def _cells(score: Sequence[Any]) -> str:
    value, p, won, lost = score
    shown = "" if p is None else "< 0.0001" if p < 0.0001 else f"{p:.4f}"
    return f"{value:.4f} | {shown} | {won}, {lost}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-rank", metavar="name")
    parser.add_argument(
        "--adapter", type=Path, metavar="folder", help="of an adapter of smollm2-135m, instead of --model"
    )
    parser.add_argument("--passage-tokens", type=int, default=64, metavar="num")
    parser.add_argument("--dtype", default="float32", metavar="name", help="of the computation, such as bfloat16")
    parser.add_argument("--only", nargs="+", choices=COLLECTIONS, metavar="collection")
    options = parser.parse_args()
    model = ["--rerank.model", options.model]
    if options.adapter:
        model = ["--rerank.model", "smollm2-135m", "--rerank.adapter", options.adapter.resolve()]
    limits = ["--rerank.passage_tokens", options.passage_tokens, "--rerank.query_tokens", 64]
    home = BUILD / f"{options.adapter.name if options.adapter else options.model}-{options.passage_tokens}"
    if options.dtype != "float32":
        home = home.with_name(f"{home.name}-{options.dtype}")
        model += ["--rerank.engine.args.dtype", options.dtype]
    for row in rows(options.only or list(COLLECTIONS), [*model, *limits], home):
        print(row, flush=True)


if __name__ == "__main__":
    main()
