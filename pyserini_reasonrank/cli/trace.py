"""``trace``: the calls and final orders of a run, in the terminal, as JSON lines, or packed to be replayed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyserini_reasonrank.cli.arguments import Parser, command_parser, exclusive
from pyserini_reasonrank.cli.commands import PROGRAM
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.errors import UsageError, nearest
from pyserini_reasonrank.journal_reader import export, rankings, recorded_runs
from pyserini_reasonrank.run.recorded_run import NAMED, RecordedRun, is_journal, recorded_run
from pyserini_reasonrank.run.rewriting.recorded import RecordedRewriting, pack_rewriting, recorded_rewriting

_RUN = "a run file or rewritten topics, whose journal is found, or a journal"
_ACTIONS = {
    "show": "a query in the terminal: the ranking, and every call with prompt, answer, reasoning",
    "export": "every call, as JSON lines",
    "rankings": "the final order of every query with its scores, as JSON lines",
    "pack": "write the answers of a run to a file that the engine `recorded` replays",
}


def main(argv: list[str]) -> int:
    """Show, export or pack the calls of a run. Returns the exit status."""
    actions: Mapping[str, Callable[[list[str]], int]] = {
        "show": _show, "export": _export, "rankings": _rankings, "pack": _pack
    }  # fmt: skip
    if argv and argv[0] in actions:
        return actions[argv[0]](argv[1:])
    parser = command_parser(
        "trace", "show run.txt --qid 42", "export run.txt --qid 42", "rankings run.txt", "pack run.txt -o answers.jsonl.gz",
        usage="ACTION RUN [flags]",
    )  # fmt: skip
    width = max(map(len, _ACTIONS))
    listed = [f"  {name:<{width}}  {about}" for name, about in _ACTIONS.items()]
    parser.epilog = "\n".join(["actions (trace ACTION --help has their flags):", *listed, "", str(parser.epilog)])
    parser.add_argument("action", metavar="ACTION", help=", ".join(_ACTIONS))
    parser.add_argument("rest", metavar="RUN", nargs="*", help=_RUN)
    action = parser.parse_args(argv).action
    raise UsageError(f"trace has no action {action!r}{nearest(action, _ACTIONS)}")


def _parser(action: str, *examples: str) -> Parser:
    parser = command_parser("trace", *(f"{action} {example}" for example in examples))
    parser.prog = f"{PROGRAM} trace {action}"
    parser.description = f"{_ACTIONS[action][0].upper()}{_ACTIONS[action][1:]}."
    parser.add_argument("run", type=Path, metavar="RUN", help=_RUN)
    return parser


def _recorded(path: Path) -> RecordedRun:
    """The run or the rewriting of the file ``path``. UsageError if it is neither, or without a journal."""
    return recorded_rewriting(path) or recorded_run(path)


def _export(argv: list[str]) -> int:
    return _print_records("export", export, argv)


def _rankings(argv: list[str]) -> int:
    return _print_records("rankings", rankings, argv)


def _print_records(action: str, records: Callable[..., Iterator[dict[str, Any]]], argv: list[str]) -> int:
    """Print the records of a run; of a journal, those of all its runs."""
    parser = _parser(action, "run.txt --qid 42", "run.txt.journal.sqlite")
    parser.add_argument("--qid", help="print this query only")
    options = parser.parse_args(argv)
    journal, name = options.run, None
    several = is_journal(journal) and len(recorded_runs(journal)) != 1
    if not several:
        run = _recorded(options.run)
        journal, name = run.journal, run.name
        if options.qid is not None:
            run.check_qid(options.qid)
    found = False
    for record in records(journal, options.qid, name):
        found = True
        print(json.dumps(record, ensure_ascii=False))
    if options.qid is not None and not found and several:
        raise UsageError(f"no run of the journal {journal} has a query {options.qid!r}")
    return SUCCESS


def _show(argv: list[str]) -> int:
    from pyserini_reasonrank.cli.terminal import coloured, width
    from pyserini_reasonrank.cli.trace_text import TraceText
    from pyserini_reasonrank.cli.traced_query import Texts, traced
    from pyserini_reasonrank.cli.traced_rewrite import traced_rewrite

    parser = _parser("show", "run.txt --qid 42", "run.txt --qid 42 --call 3", "run.txt --qid 42 --corpus corpus.jsonl")
    parser.add_argument("--qid", required=True, help="the query")
    parser.add_argument("--call", metavar="N", help="show this call only, in full; PART:N in a combination")
    parser.add_argument("--full", action="store_true", help="cut nothing: all documents, whole prompts and answers")
    texts = parser.add_argument_group(
        "texts", "The files that the run was made from are read, unless these flags name others."
    )
    texts.add_argument("--topics", metavar="path", help="topics")
    texts.add_argument("--index", metavar="path", help="Lucene index that stores the texts")
    texts.add_argument("--corpus", metavar="path", help="JSON lines file with the texts")
    texts.add_argument("--candidates", metavar="path", help="JSON lines of qid, query and candidates")
    options = parser.parse_args(argv)
    exclusive(options, "--candidates", "--topics", "--index", "--corpus")
    exclusive(options, "--index", "--corpus")
    run, wanted = _recorded(options.run), Texts.of(options)
    if isinstance(run, RecordedRewriting):
        query = traced_rewrite(run, options.qid, wanted)
    else:
        query = traced(run, options.qid, wanted)
    calls = _chosen(query.judgements, options)
    text = TraceText(width(), coloured(), full=options.full or options.call is not None)
    for line in text.lines(query, calls, ranking=options.call is None):
        print(line)
    return SUCCESS


def _chosen(judgements: Any, options: argparse.Namespace) -> list[Mapping[str, Any]]:
    """The judgements that ``--call`` names, or all of them. UsageError for an unknown call."""
    if options.call is None:
        return list(judgements)
    found = [one for one in judgements if options.call in (str(one["call"]), f"{one['part']}:{one['call']}")]
    if not found:
        names = [f"{one['part']}:{one['call']}" if one["part"] else str(one["call"]) for one in judgements]
        known = ", ".join(names[:NAMED]) + (f", ... {names[-1]}" if len(names) > NAMED else "")
        raise UsageError(f"query {options.qid} has no call {options.call!r}; its calls: {known or 'none'}")
    return found


def _pack(argv: list[str]) -> int:
    from pyserini_reasonrank.run.packing import pack

    parser = _parser("pack", "run.txt -o answers.jsonl.gz")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="path", help="the file to write, gzipped")
    options = parser.parse_args(argv)
    run = _recorded(options.run)
    print(pack_rewriting(run, options.output) if isinstance(run, RecordedRewriting) else pack(run, options.output))
    return SUCCESS
