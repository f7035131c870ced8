"""``report``: one HTML page that shows what a reranker did, query by query and call by call."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from pyserini_reasonrank.cli.arguments import Parser, add_duplicates, command_parser, exclusive, positive
from pyserini_reasonrank.cli.evaluate import separate_runs
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.measure_names import MEASURES
from pyserini_reasonrank.ir.runs import KEEP_FIRST_CHOICE
from pyserini_reasonrank.report.page import check_output, write_page
from pyserini_reasonrank.report.page_data import ReportOptions, page_data
from pyserini_reasonrank.report.passages import TextSource
from pyserini_reasonrank.report.run_inputs import NO_JOURNAL, read_run_input
from pyserini_reasonrank.run.named_inputs import local_file
from pyserini_reasonrank.run.outputs import same_file


def main(argv: list[str]) -> int:
    """Write the page. Returns the exit status."""
    parser = _parser()
    options = parser.parse_args(separate_runs(parser, argv))
    exclusive(options, "--corpus", "--index")
    if options.journal is not None and len(options.journal) != len(options.runs):
        raise UsageError(
            f"--journal names {len(options.journal)} journals for {len(options.runs)} runs; name one for each"
        )
    if options.measures and not options.qrels:
        raise UsageError("--measures needs --qrels, the relevance judgments")
    output: Path = options.output
    inputs = [*options.runs, options.qrels, options.topics, options.corpus, *(options.journal or ())]
    if any(each is not None and same_file(output, Path(each)) for each in inputs):
        raise UsageError(f"--output {output} is an input of this command; name another file")
    check_output(output)
    keep_first = options.duplicates == KEEP_FIRST_CHOICE
    journals = options.journal or [None] * len(options.runs)
    runs = [
        read_run_input(Path(path), journal, keep_first=keep_first)
        for path, journal in zip(options.runs, journals, strict=True)
    ]
    with ExitStack() as stack:
        qrels = None if options.qrels is None else stack.enter_context(local_file("qrels", options.qrels))
        data = page_data(
            runs,
            ReportOptions(
                qrels=qrels,
                qrels_name=options.qrels or "",
                topics=options.topics,
                texts=TextSource(options.corpus, options.index, options.passage_words),
                measures=options.measures or MEASURES,
                depth=options.depth,
                megabytes=options.megabytes,
                keep_first=keep_first,
            ),
        )
    write_page(output, data, f"Report: {', '.join(run.path.name for run in runs)}")
    queries = len(data.overview["queries"])
    print(f"queries   {queries:,}, {len(data.details):,} of them with lists and calls")
    for note in data.overview["notes"]:
        print(f"note      {note}")
    print(f"page      {output} ({output.stat().st_size / 1e6:.1f} MB)")
    return SUCCESS


def _parser() -> Parser:
    parser = command_parser(
        "report",
        "run.txt --qrels qrels.txt --corpus corpus.jsonl --output report.html",
        "upr.txt rankgpt.txt --qrels dl19-passage --index msmarco-v1-passage --topics dl19-passage --output report.html",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="runs; the files beside each are read too")
    parser.add_argument("--output", type=Path, required=True, metavar="path", help="HTML page to write")
    parser.add_argument(
        "--qrels", metavar="path",
        help="relevance judgments: a file, or a name that Pyserini or ir_datasets (irds:NAME) knows",
    )  # fmt: skip
    parser.add_argument(
        "--topics", metavar="path",
        help="topics: TSV or JSON lines, or a name that Pyserini or ir_datasets knows [the file that the metadata name]",
    )  # fmt: skip
    parser.add_argument("--corpus", type=Path, metavar="path", help="JSON lines file with the texts")
    parser.add_argument("--index", metavar="path", help="Lucene index that stores the texts")
    parser.add_argument(
        "--measures", nargs="+", metavar="name",
        help=f"measures as ir_measures or trec_eval names them [{' '.join(MEASURES)}]; runs may follow",
    )  # fmt: skip
    parser.add_argument(
        "--journal", action="append", metavar="path",
        help=f"journal of a run, once for each run in their order; {NO_JOURNAL}: without one [RUN.journal.sqlite]",
    )  # fmt: skip
    parser.add_argument("--depth", type=positive(int), default=100, metavar="num", help="documents of each list [100]")
    parser.add_argument(
        "--passage-words", type=positive(int), default=120, metavar="num", help="words of each passage [120]"
    )
    parser.add_argument(
        "--megabytes", type=positive(float), default=50, metavar="num",
        help="most size of the lists and calls; queries that do not fit have figures only [50]",
    )  # fmt: skip
    add_duplicates(parser)
    return parser
