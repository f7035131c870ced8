"""``python -m pyserini_reasonrank COMMAND``: rerank a run, index, evaluate, validate, look and check."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from pyserini_reasonrank.cli.arguments import Parser
from pyserini_reasonrank.cli.help import flags_help
from pyserini_reasonrank.cli.summary import guarded, summary
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.records import Query, Request
from pyserini_reasonrank.run.candidates import child, follow, from_file, read_requests, stream
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers

PROGRAM = "python -m pyserini_reasonrank"
TEXTS = "pyserini_reasonrank.host.candidates"
INDEXING = "pyserini_reasonrank.host.indexing"

Command = Callable[[list[str]], int]


def main(argv: Sequence[str]) -> int:
    """Run a command. Returns the exit status: 0 well, 1 a failure or findings, 2 unusable input."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0 if argv else 2
    name, *rest = argv
    return guarded(lambda: _command(name)(rest))


def _command(name: str) -> Command:
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}{nearest(name, COMMANDS)}")
    return COMMANDS[name]


def _overview() -> str:
    lines = [f"usage: {PROGRAM} COMMAND [flags]; COMMAND --help says more", ""]
    return "\n".join([*lines, *(f"  {name:<10} {_about(command)}" for name, command in COMMANDS.items())])


def _about(command: Command) -> str:
    return (command.__doc__ or "").splitlines()[0]


def _parser(command: Command, name: str) -> Parser:
    return Parser(prog=f"{PROGRAM} {name}", description=_about(command), allow_abbrev=False)


def rerank_command(argv: list[str]) -> int:
    """Rerank a run of any first stage: texts from its index, a corpus, or a candidates file."""
    name, flags, rest = layers.lift(argv)
    parser = _parser(rerank_command, "rerank")
    parser.add_argument("--run", type=Path, metavar="path", help="first-stage run, TREC or MS MARCO format")
    parser.add_argument(
        "--topics", metavar="path", help="topics: TSV or JSON lines; with --index any of the host's formats"
    )
    parser.add_argument("--index", metavar="path", help="Lucene index that holds the texts")
    parser.add_argument("--corpus", type=Path, metavar="path", help="JSON lines that hold the texts")
    parser.add_argument(
        "--candidates", type=Path, metavar="path", help="JSON lines of qid, query, candidates, instead of these"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="path", help="run file to write")
    parser.add_argument("--output-format", default="trec", choices=[f.value for f in RunFormat])
    if {"-h", "--help"} & set(rest):
        parser.print_help()
        print("\n" + flags_help(f"{PROGRAM} rerank").split("\n\n", 1)[1])
        return 0
    options = parser.parse_args(rest)
    if name is None:
        raise UsageError(f"--rerank needs the name of a reranker: {', '.join(layers.rerankers())}")
    data = [str(name) for name in (options.topics, options.index, options.corpus, options.candidates) if name]
    made = plan(*layers.load(name, flags, data))
    command = ["python", "-m", "pyserini_reasonrank", "rerank", *argv]
    print(summary(asyncio.run(_rerank(made, options, command))))
    return 0


async def _rerank(plan: Plan, options: argparse.Namespace, command: Sequence[str]) -> RunRecord:
    depth, corpus = plan.settings.depth, options.corpus or plan.settings.corpus
    queries: Sequence[Query] = ()
    requests: AsyncIterator[Request]
    async with AsyncExitStack() as stack:
        if options.candidates:
            requests = from_file(options.candidates, depth)
        elif not options.run or not options.topics or not (options.index or corpus):
            raise UsageError("rerank needs --run, --topics and the texts (--index or --corpus), or else --candidates")
        elif corpus:
            known = list(read_requests(options.run, Path(options.topics), Path(corpus), depth))
            queries, requests = [request.query for request in known], stream(known)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyserini_reasonrank-"))
            candidates = Path(folder, "candidates.jsonl")
            wanted = ["--run", options.run, "--topics", options.topics, "--texts", options.index, "--depth", depth]
            texts = await stack.enter_async_context(child(TEXTS, *map(str, wanted), "--candidates", str(candidates)))
            requests = follow(candidates, texts, depth)
        first = options.run or options.candidates
        if options.output.resolve() == first.resolve():
            raise UsageError(f"--output {options.output} would overwrite the first stage: name another file")
        task = Task(requests, options.output, first, str(options.topics or first), command,
                    RunFormat(options.output_format), queries)  # fmt: skip
        return await rerank(plan, task)


def index_command(argv: list[str]) -> int:
    """Index a corpus of JSON lines with the host's own indexer."""
    return subprocess.call([sys.executable, "-m", INDEXING, *argv])


def evaluate_command(argv: list[str]) -> int:
    """First stage against reranked: measures, significance, queries answered. Qrels are never trimmed."""
    from pyserini_reasonrank.ir.evaluate import MEASURES, evaluate

    parser = _parser(evaluate_command, "evaluate")
    parser.add_argument("--qrels", required=True, metavar="path")
    parser.add_argument("--measures", nargs="+", default=list(MEASURES), metavar="name", help="ir_measures names")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("first", metavar="FIRST", help="the run to compare with")
    parser.add_argument("runs", metavar="RUN", nargs="*", help="reranked runs")
    options = parser.parse_args(argv)
    report = evaluate(options.qrels, options.first, options.runs, options.measures)
    print(json.dumps(report.as_json(), indent=2) if options.json else report)
    return 0


def validate_command(argv: list[str]) -> int:
    """Check a run: form, every topic, every candidate of the first stage exactly once."""
    from pyserini_reasonrank.ir.metadata import topics_without_candidates
    from pyserini_reasonrank.ir.topics import read_topics
    from pyserini_reasonrank.ir.validate import validate

    parser = _parser(validate_command, "validate")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--topics", metavar="path", help="TSV or JSON lines")
    parser.add_argument("--first", metavar="path", help="the first-stage run")
    options = parser.parse_args(argv)
    topics = [query.qid for query in read_topics(options.topics)] if options.topics else None
    found = validate(options.run, topics, options.first, topics_without_candidates(options.run))
    print(found)
    return 1 if found.findings else 0


def models_command(argv: list[str]) -> int:
    """The checkpoints known by name, and whether each fits the memory here."""
    from pyserini_reasonrank.cli.doctor import models_table

    _parser(models_command, "models").parse_args(argv)
    print(models_table())
    return 0


def prompts_command(argv: list[str]) -> int:
    """The prompts: their names, or one of them rendered for two passages."""
    from pyserini_reasonrank.prompts import sources

    parser = _parser(prompts_command, "prompts")
    parser.add_argument("action", choices=("list", "show"), nargs="?", default="list")
    parser.add_argument("name", nargs="?", help="a name, a YAML file, or rank_llm:NAME")
    options = parser.parse_args(argv)
    if options.action == "list":
        for name in sources.names():
            template = sources.load(name)
            print(f"{name:<22} {template.contract:<12} {template.spec.about}")
        return 0
    if options.name is None:
        raise UsageError(f"prompts show needs a name: {', '.join(sources.names())}")
    template = sources.load(options.name)
    prompt = template.render("QUERY", ["PASSAGE ONE", "PASSAGE TWO"])
    print(f"# {template.name}: {template.spec.about}\n# sha256 {template.sha256}")
    for message in prompt.messages:
        print(f"\n[{message.role}]\n{message.content}")
    if prompt.prefill:
        print(f"\n[assistant, begun]\n{prompt.prefill}")
    return 0


def doctor_command(argv: list[str]) -> int:
    """Will it run here? Java, Python, Pyserini, engines, accelerator, memory."""
    from pyserini_reasonrank.cli.doctor import State, doctor, render

    _parser(doctor_command, "doctor").parse_args(argv)
    checks = doctor()
    print(render(checks))
    return 1 if any(check.state is State.FAIL for check in checks) else 0


def explain_command(argv: list[str]) -> int:
    """What a reranker will cost, before anything is loaded: calls, chain of calls, tokens."""
    from pyserini_reasonrank.cli.cost_table import cost_table

    name, flags, rest = layers.lift(argv)
    parser = _parser(explain_command, "explain")
    parser.add_argument("--queries", type=int, default=1, metavar="num", help="queries of the run")
    options = parser.parse_args(rest)
    if name is None:
        raise UsageError(f"--rerank needs the name of a reranker: {', '.join(layers.rerankers())}")
    print(cost_table(plan(*layers.load(name, flags), here=False), options.queries))
    return 0


def trace_command(argv: list[str]) -> int:
    """The calls or the final orders of a run, out of its journal, as JSON lines."""
    from pyserini_reasonrank.journal import export, rankings

    parser = _parser(trace_command, "trace")
    parser.add_argument("action", choices=("export", "rankings"), help="every call; or every query's final order")
    parser.add_argument("journal", type=Path, metavar="JOURNAL")
    parser.add_argument("--qid", help="of one query only")
    options = parser.parse_args(argv)
    records = export if options.action == "export" else rankings
    for record in records(options.journal, options.qid):
        print(json.dumps(record, ensure_ascii=False))
    return 0


def demo_command(argv: list[str]) -> int:
    """The whole way on real text: this Python's documentation, indexed, searched, reranked, evaluated."""
    from pyserini_reasonrank.demo.run import demo

    parser = _parser(demo_command, "demo")
    parser.add_argument("--folder", type=Path, default=Path("demo"), metavar="path", help="where to work [demo]")
    parser.add_argument("--queries", type=int, default=10, metavar="num", help="topics to search [10]")
    options, rerank_flags = parser.parse_known_args(argv)
    demo(options.folder, options.queries, rerank_flags)
    return 0


def train_command(argv: list[str]) -> int:
    """Train a reranker, step by step or by a whole recipe: data, sft, grpo, ..., export."""
    from pyserini_reasonrank.train.command import train

    return train(argv)


COMMANDS: dict[str, Command] = {
    "rerank": rerank_command,
    "index": index_command,
    "evaluate": evaluate_command,
    "validate": validate_command,
    "explain": explain_command,
    "trace": trace_command,
    "models": models_command,
    "prompts": prompts_command,
    "doctor": doctor_command,
    "demo": demo_command,
    "train": train_command,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
