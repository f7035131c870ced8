"""What every reranker costs, measured beside what ``explain`` predicts; and every one of them with a model, on real topics.

    python tests/benchmarks/rerankers.py cost            # oracle, depth 20 and 100: calls, chain, tokens
    python tests/benchmarks/rerankers.py model           # the embedded model on two cores, 43 topics, depth 20
    python tests/benchmarks/rerankers.py model --topics 5 --depth 10 --only reasonrank iranker

Both over TREC DL 2019 (msmarco-v1-dl19 under $REASONRANK_DATA), tables on stdout in Markdown. Results are kept in
build/rerankers/, so that a second call goes on where the first ended. ``model`` runs the literal search command, two of
them side by side on one core each: small matrices keep two cores less busy together than apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from commands import must, run
from shortened import shortened

from pyserini_reasonrank.cli.explain import prompt_tokens
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.metadata import sidecar
from pyserini_reasonrank.models.embedded import ensure_embedded
from pyserini_reasonrank.run.candidates import read_requests, stream
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers, rerankers

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("REASONRANK_DATA") or ROOT.parent / "shared" / "data", "msmarco-v1-dl19")
BUILD = ROOT / "build" / "rerankers"
LANES = 2
LIMIT = 3600 * LANES  # seconds a reranker may take: an hour of all cores
PASSAGE_TOKENS, OUTPUT_TOKENS = 24, 16


def passages(name: str) -> bool:
    """Whether a reranker is for passages: others rank items, whose prompts ask for something else."""
    return not name.endswith(("-recommendation", "-routing"))


def cost(depth: int, topics: int, names: list[str]) -> Iterator[str]:
    """Measured with the oracle; a prediction that a good judge's answers can't change is met exactly."""
    tokenizer = str(ensure_embedded(None, progress=True) / "tokenizer.json")
    engine = {"name": "oracle", "qrels": str(DATA / "qrels.txt"), "tokenizer": tokenizer}
    yield f"| depth {depth} | calls | predicted | chain | prompt tokens | at most | output tokens |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name in names:
        flags = {"engine": engine, "depth": depth, "tokenizer": str(Path(tokenizer).parent)}
        with tempfile.TemporaryDirectory() as folder:
            made = plan(*layers.load(name, flags))
            requests = list(read_requests(DATA / "run.bm25.txt", DATA / "topics.tsv", DATA / "corpus.jsonl", depth))[
                :topics
            ]
            task = Task(stream(requests), Path(folder, "run"), DATA / "run.bm25.txt", "topics.tsv", ["bench"])
            outcome = asyncio.run(rerank(made, task))
        tally, n, predicted = outcome.tally, outcome.answered, estimate(made, depth)
        most = _most_tokens(made, depth)
        yield (
            f"| `{name}` | {tally.calls / n:,.1f} | {predicted.calls:,} | {predicted.chain} "
            f"| {tally.prompt_tokens / n:,.0f} | {most} | {tally.output_tokens / n:,.0f} |"
        )


def _most_tokens(made: Plan, depth: int) -> str:
    parts = estimate(made, depth).parts
    counts = [prompt_tokens(part, parts[name]) for name, part in made.parts.items() if name in parts]
    return "" if None in counts else f"{sum(filter(None, counts)):,}"


def model(depth: int, topics: int, names: list[str]) -> Iterator[str]:
    """The literal search command with the embedded model, each reranker for an hour at most."""
    BUILD.mkdir(parents=True, exist_ok=True)
    index, queries = BUILD / "index", BUILD / f"topics-{topics}.tsv"
    if not index.exists():
        must("pyserini_reasonrank", "index", "--corpus", DATA / "corpus.jsonl", "--index", index)
    queries.write_text("".join((DATA / "topics.tsv").read_text().splitlines(keepends=True)[:topics]))
    yield f"| {topics} topics, depth {depth} | CPU minutes | calls | tokens read | written | statuses | nDCG@10 |"
    yield "|---|--:|--:|--:|--:|---|--:|"

    def found(name: str) -> dict[str, Any]:
        kept = BUILD / f"{name}-{topics}-{depth}.json"
        if not kept.exists():
            kept.write_text(json.dumps(_measured(name, index, queries, depth)))
        return dict(json.loads(kept.read_text()))

    with ThreadPoolExecutor(LANES) as pool:
        for name, row in zip(names, pool.map(found, names), strict=True):
            yield _line(name, row)


def _measured(name: str, index: Path, topics: Path, depth: int) -> dict[str, Any]:
    output = BUILD / f"{name}.{topics.stem}.{depth}.txt"
    settings = BUILD / f"{name}.yaml"
    short = shortened(name, passage_tokens=PASSAGE_TOKENS, output_tokens=OUTPUT_TOKENS)
    settings.write_text(yaml.safe_dump(short))
    flags = ["--rerank", name, "--rerank.depth", depth, "--rerank.model", "smollm2-135m", "--rerank.config", settings]
    search = ["--index", index, "--topics", topics, "--bm25", "--hits", depth, "--output", output]
    wall = time.monotonic()
    done = run("pyserini.search", *search, *flags, limit=LIMIT)
    if time.monotonic() - wall > LIMIT:
        return {"seconds": LIMIT, "over": True}
    if done.status:
        return {"error": done.error}
    metadata = yaml.safe_load(sidecar(output).read_text())
    must("pyserini_reasonrank", "validate", output, "--topics", topics, "--first", f"{output}.first-stage.txt")
    report = evaluate(str(DATA / "qrels.txt"), f"{output}.first-stage.txt", [str(output)], ["nDCG@10"]).as_json()
    answered = {line.split()[0] for line in output.read_text().splitlines()}
    return {
        "cpu": done.cpu,
        "memory": done.memory,
        "seconds": time.monotonic() - wall,
        "llm": metadata["resources"]["llm"],
        "statuses": {k: v for k, v in metadata["outcome"]["statuses of calls"].items() if v},
        "nDCG@10": report["runs"][0]["scores"][0]["value"],
        "BM25": report["first"]["scores"][0]["value"],
        "topics": len(answered),
    }


def _line(name: str, found: dict[str, Any]) -> str:
    if "error" in found:
        return f"| `{name}` | {found['error']} | | | | | |"
    if "over" in found:
        return f"| `{name}` | more than {LIMIT // 60} | | | | | |"
    llm = found["llm"]
    statuses = ", ".join(f"{count:,} {status}" for status, count in found["statuses"].items())
    return (
        f"| `{name}` | {found['cpu'] / 60:.1f} | {llm['calls']:,} | {llm['prompt tokens']:,} "
        f"| {llm['output tokens']:,} | {statuses} | {found['nDCG@10']:.4f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("cost", "model"))
    parser.add_argument("--depth", type=int, action="append", metavar="num")
    parser.add_argument("--topics", type=int, metavar="num", help="the first of the 43 [cost: 5, model: 43]")
    parser.add_argument("--only", nargs="+", metavar="name")
    options = parser.parse_args()
    names = options.only or [name for name in rerankers.names() if passages(name)]
    for depth in options.depth or ([20, 100] if options.what == "cost" else [20]):
        lines = (
            cost(depth, options.topics or 5, names)
            if options.what == "cost"
            else model(depth, options.topics or 43, names)
        )
        for line in lines:
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
