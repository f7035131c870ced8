"""``validate``: check a run against its topics and its first stage."""

from __future__ import annotations

from pyserini_reasonrank.cli.arguments import add_duplicates, command_parser
from pyserini_reasonrank.cli.exit import FAILURE, SUCCESS
from pyserini_reasonrank.ir.boards import BOARDS, board
from pyserini_reasonrank.ir.metadata import recorded_verdict, topics_without_candidates
from pyserini_reasonrank.ir.runs import KEEP_FIRST_CHOICE
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.ir.validate import RULES, validate
from pyserini_reasonrank.run.named_inputs import local_file, read_selection


def main(argv: list[str]) -> int:
    """Print what is wrong with a run. Returns the exit status: 1 if anything is."""
    parser = command_parser(
        "validate",
        "run.txt --topics topics.tsv --first run.txt.first-stage.txt",
        "run.txt --topics topics.tsv --board trec",
    )
    parser.add_argument("run", metavar="RUN", help="the run to check")
    parser.add_argument(
        "--topics", metavar="path",
        help="topics, TSV or JSON lines, or a name that Pyserini or ir_datasets (irds:NAME) knows: each must be in the run",
    )  # fmt: skip
    parser.add_argument(
        "--first", metavar="path", help="first-stage run: the run must hold its candidates, each exactly once"
    )
    add_duplicates(parser, "a document that a query of the first stage lists twice")
    parser.add_argument(
        "--exclude",
        metavar="path",
        help="documents that the run was made without, as in rerank: they must not be in it",
    )
    parser.add_argument("--board", metavar="name", help=f"check what a board requires too: {', '.join(BOARDS)}")
    parser.epilog = f"{_rules()}\n\n{parser.epilog}"
    options = parser.parse_args(argv)
    keep_first = options.duplicates == KEEP_FIRST_CHOICE
    topics = None
    if options.topics:
        with local_file("topics", options.topics) as path:
            topics = [query.qid for query in read_topics(path)]
    found = validate(
        options.run, topics, options.first, topics_without_candidates(options.run), keep_first=keep_first,
        board=board(options.board) if options.board else None,
        selection=read_selection(None, None, None, options.exclude), verdict=recorded_verdict(options.run),
    )  # fmt: skip
    print(found)
    return FAILURE if found.findings else SUCCESS


def _rules() -> str:
    """The rules, as a finding names them, and the boards."""
    width = max(map(len, [*RULES, *BOARDS]))
    return "\n".join([
        "rules (each finding has file, line and [rule]):",
        *(f"  {name:<{width}}  {about}" for name, about in RULES.items()),
        "",
        "boards (--board; rules board-format, board-depth, board-qid, board-tag):",
        *(f"  {name:<{width}}  {known.about}" for name, known in BOARDS.items()),
    ])  # fmt: skip
