"""``2cr``: two-click reproductions of published figures, in the manner of Pyserini's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from pathlib import Path

from pyserini_reasonrank.cli.arguments import Parser, command_parser
from pyserini_reasonrank.cli.exit import FAILURE, SUCCESS
from pyserini_reasonrank.cli.reproduce import matrix as matrices
from pyserini_reasonrank.cli.reproduce.execution import execute, show_commands
from pyserini_reasonrank.cli.reproduce.matrix import ALL, Matrix
from pyserini_reasonrank.cli.reproduce.matrix_page import logged, page
from pyserini_reasonrank.cli.reproduce.reproduction_log import append, current_commit, log_line
from pyserini_reasonrank.cli.reproduce.steps import DATA, DEFAULT_DATA, Step, check_data, data_folder, steps, wrapped
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic

ACTIONS = {
    "list": "the matrices, or the conditions of one",
    "show": "conditions with commands, published scores and sources",
    "run": "run the commands, evaluate, and compare with the published scores",
    "report": "write the page of a matrix, or of all of them",
    "log": "the line of a reproduction log",
}

FLAGS: dict[str, tuple[str, ...]] = {
    "list": (),
    "show": ("condition", "topics", "data", "output"),
    "run": ("condition", "topics", "data", "output", "dry_run"),
    "report": ("output",),
    "log": ("condition", "by", "url", "date", "commit", "append"),
}
"""The flags that each action reads."""


def main(argv: list[str]) -> int:
    """Run an action. Returns the exit status: 1 if a score of ``run`` differs from the published one."""
    own = list(takewhile(lambda word: word != "--", argv))
    options = _parser().parse_args(own)
    options.more = argv[len(own) + 1 :]
    _check_flags(options)
    if options.more and options.action != "run":
        raise UsageError("flags after -- are added to the commands of 2cr run; the other actions run none")
    if options.matrix is None and options.action not in ("list", "report"):
        raise UsageError(f"2cr {options.action} needs the name of a matrix; known: {', '.join(matrices.names())}")
    match options.action:
        case "list":
            _list(options.matrix)
        case "show":
            _show(options)
        case "run":
            return _run(options)
        case "report":
            _report(options)
        case "log":
            _log(options)
    return SUCCESS


def _check_flags(options: argparse.Namespace) -> None:
    """UsageError for a flag that the action does not read."""
    for name in dict.fromkeys(name for names in FLAGS.values() for name in names):
        if name not in FLAGS[options.action] and getattr(options, name):
            having = ", ".join(action for action, names in FLAGS.items() if name in names)
            raise UsageError(f"2cr {options.action} does not read --{name.replace('_', '-')}, a flag of: {having}")


def _parser() -> Parser:
    parser = command_parser(
        "2cr",
        "list",
        "run bright-runs --condition reasonir",
        "run bright --condition reasonrank-7b --dry-run",
        "run bright --condition reasonrank-32b -- --rerank.engine.args.tensor_parallel_size 4",
        "log embedded --condition upr --by castorini",
        usage="ACTION [MATRIX] [--condition C] [flags] [-- flags to add to the commands]",
    )
    about = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
    parser.add_argument("action", choices=tuple(ACTIONS), help=about)
    parser.add_argument("matrix", nargs="?", metavar="MATRIX", help="a name that list prints")
    parser.add_argument("--condition", metavar="name", help=f"a condition of the matrix, or {ALL}")
    parser.add_argument("--topics", metavar="name", help="one topic set of the condition [all of them]")
    parser.add_argument(
        "--data", type=Path, metavar="folder", help=f"folder of the collections [${DATA}, else {DEFAULT_DATA}]"
    )
    parser.add_argument(
        "--output", type=Path, metavar="path",
        help="run: folder for runs, which are never overwritten [2cr]; report: the page to write, or a folder [stdout]",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="run: print the commands, ready to copy")
    entry = parser.add_argument_group("log")
    entry.add_argument("--by", metavar="account", help="who reproduced the results")
    entry.add_argument("--url", metavar="url", help="page of the account [on GitHub]")
    entry.add_argument("--date", metavar="YYYY-MM-DD", help="[today]")
    entry.add_argument("--commit", metavar="sha", help="commit of this package [the checkout's]")
    entry.add_argument("--append", type=Path, metavar="path", help="page to add the line to, instead of printing it")
    return parser


def _list(name: str | None) -> None:
    if name is None:
        width = max(map(len, matrices.names()))
        for matrix in map(matrices.load, matrices.names()):
            count = sum(len(condition.topics) for condition in matrix.conditions)
            print(
                f"{matrix.name:<{width}}  {matrix.hardware}  {len(matrix.conditions):>3} conditions  {count:>4} runs  "
                f"{matrix.display}"
            )
        return
    matrix = matrices.load(name)
    width = max(len(condition.name) for condition in matrix.conditions)
    for condition in matrix.conditions:
        topics = ", ".join(each.name for each in condition.topics)
        print(f"{condition.name:<{width}}  {condition.display} ({topics})")


def _show(options: argparse.Namespace) -> None:
    matrix, planned = _planned(options)
    for each in planned:
        print(f"# condition {each.condition.name}, topics {each.topics.name}: {each.condition.display}")
        print(f"# source: {each.condition.source.strip()}")
        scores = each.topics.expected
        shown = ", ".join(f"{measure} {value:.4f}" for measure, value in scores.items()) or "not published here"
        print(f"# expected: {shown}; [OKish] up to a difference of {matrix.tolerance_of(each.condition):g}")
        for command in each.commands or [f"# a published run: {each.run}"]:
            print(wrapped(command))
        print()


def _run(options: argparse.Namespace) -> int:
    if options.condition is None:
        known = [condition.name for condition in matrices.load(options.matrix).conditions]
        raise UsageError(f"2cr run needs --condition: {', '.join([*known, ALL])}")
    matrix, planned = _planned(options)
    say = partial(print, flush=True)
    if options.dry_run:
        show_commands(planned, say)
        return SUCCESS
    if options.more and not any(each.command for each in planned):
        raise UsageError("flags after -- are added to commands, and a published run is evaluated without one")
    check_data(matrix, planned, data_folder(options.data))
    return FAILURE if execute(matrix, planned, say).failed else SUCCESS


def _planned(options: argparse.Namespace) -> tuple[Matrix, Sequence[Step]]:
    matrix = matrices.load(options.matrix)
    chosen = matrix.chosen(options.condition or ALL)
    output = options.output or Path("2cr")
    return matrix, steps(matrix, chosen, options.topics, data_folder(options.data), output, options.more)


def _report(options: argparse.Namespace) -> None:
    names = matrices.names() if options.matrix is None else [options.matrix]
    loaded = [matrices.load(name) for name in names]
    output: Path | None = options.output
    if output is None:
        print("\n".join(page(matrix) for matrix in loaded), end="")
        return
    if len(loaded) > 1 and output.exists() and not output.is_dir():
        raise UsageError(f"--output {output} is a file, and {len(loaded)} pages need a folder; or name one matrix")
    alone = len(loaded) == 1 and not output.is_dir()
    for matrix in loaded:
        path = output if alone else output / f"{matrix.name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        log = logged(path.read_text(encoding="utf-8")) if path.exists() else []
        with atomic(path) as file:
            file.write(page(matrix, log).encode())
        print(path)


def _log(options: argparse.Namespace) -> None:
    if options.condition is None or options.by is None:
        raise UsageError("2cr log needs --condition and --by: which condition was reproduced, and by whom")
    matrix = matrices.load(options.matrix)
    names = [condition.name for condition in matrix.chosen(options.condition)]
    name = options.condition if options.condition == ALL else names[0]
    day = options.date or datetime.now(UTC).date().isoformat()
    line = log_line(options.by, options.url, day, options.commit or current_commit(), name)
    if options.append is None:
        print(line)
        return
    append(options.append, line)
    print(f"{options.append}: {line}")
