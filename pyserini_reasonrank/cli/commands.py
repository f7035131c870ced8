"""The commands of ``python -m pyserini_reasonrank``: the module of each and what it is for."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from pyserini_reasonrank.errors import UsageError, nearest

PROGRAM = "python -m pyserini_reasonrank"


class Command(NamedTuple):
    """``module`` has a ``main(argv)`` that returns the exit status; it is imported when the command runs."""

    module: str
    purpose: str

    def main(self, argv: list[str]) -> int:
        status: int = import_module(f"pyserini_reasonrank.{self.module}").main(argv)
        return status


COMMANDS = {
    "rerank": Command("cli.rerank", "Rerank a run of any first stage; the texts come from its index or a corpus file"),
    "rewrite": Command("cli.rewrite", "Rewrite topics with an LLM, for a search of your own: one query each, in TSV"),
    "serve": Command(
        "serve.command", "Serve rerankers over HTTP, in the APIs of Cohere, Jina, vLLM and TEI, or as MCP tools"
    ),
    "index": Command("cli.index", "Index a corpus of JSON lines with Pyserini, texts included"),
    "merge": Command("cli.merge", "Join the parts of a run, made with --shard or --qids: runs, metadata and journals"),
    "evaluate": Command("cli.evaluate", "Compare reranked runs with the first stage: measures and significance"),
    "threshold": Command("cli.threshold", "Choose the score from which a document is relevant, on judged queries"),
    "2cr": Command("cli.two_click", "Reproduce published figures in two clicks: list, show, run, report, log"),
    "report": Command("cli.report", "Write one HTML page of runs: scores, both orders of each query, every call"),
    "validate": Command("cli.validate", "Check a run: format, topics, and every first-stage candidate exactly once"),
    "explain": Command("cli.explain", "Predict the cost of a reranker before anything is loaded: calls and tokens"),
    "trace": Command(
        "cli.trace", "Show the calls behind a run, export them as JSON lines, or pack them to be replayed"
    ),
    "models": Command("cli.models", "List the models known by name, and whether each fits this machine"),
    "prompts": Command("cli.prompts", "List the prompts, or show one of them with two passages"),
    "doctor": Command("cli.doctor", "Check this machine: Python, Java, Pyserini, engines, accelerators, memory"),
    "demo": Command(
        "demo.end_to_end", "Run an end-to-end demo on Python's documentation: index, search, rerank, evaluate, report"
    ),
    "train": Command("train.command", "Train a reranker, step by step or with a whole recipe: data, sft, grpo, export"),
}


def command(name: str) -> Command:
    """The command called ``name``. UsageError if there is none."""
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}{nearest(name, COMMANDS)}")
    return COMMANDS[name]


def overview() -> str:
    """The usage of the program, with one line for each command."""
    width = max(map(len, COMMANDS))
    return "\n".join([
        f"usage: {PROGRAM} COMMAND [flags]",
        "",
        "Rerank search results with reasoning LLMs, evaluate the runs, train rerankers. COMMAND --help explains a command.",
        "",
        *(f"  {name:<{width}}  {entry.purpose}" for name, entry in COMMANDS.items()),
        "",
        "To search and rerank in one command: python -m pyserini.search ... --rerank NAME (--help lists the flags)",
    ])  # fmt: skip
