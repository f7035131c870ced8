"""The data of the page: what is shown of all queries, and the details of as many queries as the page has room for."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyserini_reasonrank.interrupts import temporary_folder
from pyserini_reasonrank.ir.evaluate import evaluate
from pyserini_reasonrank.ir.evaluation_notes import notes as evaluation_notes
from pyserini_reasonrank.ir.measure_names import MEASURES
from pyserini_reasonrank.ir.qrels import Qrels, read_qrels
from pyserini_reasonrank.ir.rank_similarity import rank_biased_overlap
from pyserini_reasonrank.ir.recorded_cost import recorded_cost
from pyserini_reasonrank.ir.runs import Run
from pyserini_reasonrank.ir.scores import Analysis, Evaluation, RunScores
from pyserini_reasonrank.report.call_statistics import CallStatistics, call_statistics
from pyserini_reasonrank.report.metadata_facts import facts, metadata_text
from pyserini_reasonrank.report.passages import NO_TEXTS, TextSource, query_texts, read_passages
from pyserini_reasonrank.report.query_details import query_details
from pyserini_reasonrank.report.run_inputs import RunInput, check_same_topics, readable

TOP = 10
"""The ranks that count for what is new at the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What the page has. ``depth`` is the documents per list, ``megabytes`` the most size of all details of queries."""

    qrels: Path | None = None
    qrels_name: str = ""
    topics: str | None = None
    texts: TextSource = NO_TEXTS
    measures: Sequence[str] = MEASURES
    depth: int = 100
    megabytes: float = 50.0
    keep_first: bool = False


@dataclass(frozen=True, slots=True)
class PageData:
    """``overview`` is JSON of all queries; ``details`` has the gzipped details by qid, in base64."""

    overview: dict[str, Any]
    details: dict[str, str]


@dataclass(frozen=True, slots=True)
class ShownList:
    """A list of the page: a run, or the first stage of one. ``run`` is the number of the run."""

    label: str
    path: str
    hits: Run
    kind: str
    file: Path | None
    run: int | None = None


def page_data(runs: Sequence[RunInput], options: ReportOptions) -> PageData:
    """Read everything that the page shows. UsageError for unusable inputs."""
    notes = [note for run in runs for note in run.notes] + list(check_same_topics(runs))
    lists, first_of = shown_lists(runs)
    qrels = read_qrels(options.qrels) if options.qrels else {}
    evaluation = _evaluation(lists, options) if options.qrels else None
    texts, about = query_texts(runs, options.topics)
    notes += about
    if options.texts.missing:
        notes.append("The passages are not shown: pass --corpus or --index.")
    statistics = [_statistics(run) for run in runs]
    queries = _queries(lists, first_of, runs, texts, evaluation, statistics)
    order = by_interest(queries, evaluation is not None)
    details = _details(order, lists, runs, qrels, statistics, options)
    if left := len(queries) - len(details):
        notes.append(
            f"{left:,} of {len(queries):,} queries are shown without lists and calls, to keep the page below "
            f"{options.megabytes:g} MB (--megabytes); those with the largest changes were kept. "
            "All figures are over all queries."
        )
    numbers = {qid: number for number, qid in enumerate(details)}
    for query in queries:
        query["details"] = numbers.get(query["qid"])
    overview = {
        "notes": notes,
        "lists": [{"label": each.label, "path": each.path, "kind": each.kind, "run": each.run} for each in lists],
        "evaluation": _evaluation_json(evaluation) if evaluation else None,
        "queries": queries,
        "runs": [
            _run_json(run, number, first_of[number], lists, statistics[number]) for number, run in enumerate(runs)
        ],
        "depth": options.depth,
        "words": None if options.texts.missing else options.texts.words,
        "top": TOP,
    }
    return PageData(overview, details)


def _statistics(run: RunInput) -> CallStatistics | None:
    if run.journal is None:
        return None
    with readable(run.journal):
        return call_statistics(run.journal, run.journal_run)


def shown_lists(runs: Sequence[RunInput]) -> tuple[list[ShownList], list[int | None]]:
    """The lists of the page, first stages before their runs, each list once; and for each run its first stage, if any."""
    lists: list[ShownList] = []
    first_of: list[int | None] = []
    labels = _labels([run.path for run in runs])
    for number, run in enumerate(runs):
        place: int | None = None
        if run.first_hits is not None:
            path = run.first_run or Path(f"{run.path} (first stage)")
            place = next((i for i, each in enumerate(lists) if _same_lists(each.hits, run.first_hits)), None)
            if place is None:
                place = len(lists)
                lists.append(ShownList(path.name, str(path), run.first_hits, "first", run.first_run))
        shown = ShownList(labels[number], str(run.path), run.hits, "run", run.path, number)
        same = None
        if run.first_hits is None:  # it may be the first stage of a run before it, which was given as a run too
            same = next(
                (i for i, each in enumerate(lists) if each.run is None and _same_lists(each.hits, run.hits)), None
            )
        if same is None:
            lists.append(shown)
        else:
            lists[same] = shown
        first_of.append(place)
    return lists, first_of


def _same_lists(one: Run, other: Run) -> bool:
    return one.keys() == other.keys() and all(
        [hit.docid for hit in hits] == [hit.docid for hit in other[qid]] for qid, hits in one.items()
    )


def _labels(paths: Sequence[Path]) -> list[str]:
    """The file names of runs; the paths of those with the same name."""
    names = [path.name for path in paths]
    return [path.name if names.count(path.name) == 1 else str(path) for path in paths]


def _evaluation(lists: Sequence[ShownList], options: ReportOptions) -> Evaluation:
    """The scores of all lists; the first list is the base of comparisons."""
    with temporary_folder() as folder:
        files = [each.file or _written(each, Path(folder, f"{number}.jsonl")) for number, each in enumerate(lists)]
        found = evaluate(
            str(options.qrels), files[0], files[1:], options.measures,
            keep_first=options.keep_first, analysis=Analysis(per_query=True, intervals=True),
        )  # fmt: skip
        names = {str(file): each.path for file, each in zip(files, lists, strict=True)}
        warnings = tuple(_renamed(warning, names) for warning in found.warnings)
        first, *others = (replace(each, run=names[each.run]) for each in found.every)
        qrels = options.qrels_name or found.qrels
        return replace(found, qrels=qrels, first=first, runs=tuple(others), warnings=warnings)


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for file, name in names.items():
        text = text.replace(file, name)
    return text


def _written(each: ShownList, path: Path) -> Path:
    """A file of a list that is known only from a journal, with its scores."""
    with path.open("w", encoding="utf-8") as file:
        for qid, hits in each.hits.items():
            ranking = [{"docid": hit.docid, "rank": rank, "score": hit.score} for rank, hit in enumerate(hits, 1)]
            file.write(json.dumps({"qid": qid, "tag": each.label, "ranking": ranking}) + "\n")
    return path


def _queries(
    lists: Sequence[ShownList],
    first_of: Sequence[int | None],
    runs: Sequence[RunInput],
    texts: Mapping[str, str],
    evaluation: Evaluation | None,
    statistics: Sequence[CallStatistics | None],
) -> list[dict[str, Any]]:
    """A row for each query of a list, in the order of the lists."""
    of_runs = [qids for run in runs for qids in (run.hits, run.empty)]
    qids = dict.fromkeys(qid for each in (*of_runs, *[one.hits for one in lists]) for qid in each)
    scores: dict[str, list[tuple[float, ...]]] = {}
    for each in evaluation.per_query if evaluation else ():
        scores.setdefault(each.qid, []).append(each.values)
    rows = []
    for qid in qids:
        row: dict[str, Any] = {"qid": qid, "text": texts.get(qid, "")}
        if qid in scores:
            row["scores"] = [[round(value, 6) for value in values] for values in scores[qid]]
        row["moved"] = [_moved(lists, first_of[number], run, qid) for number, run in enumerate(runs)]
        found = [each.by_query.get(qid) if each else None for each in statistics]
        row["calls"] = [each.as_json() if each else None for each in found]
        rows.append(row)
    return rows


def _moved(lists: Sequence[ShownList], first: int | None, run: RunInput, qid: str) -> dict[str, Any] | None:
    """How far a run's list is from that of its first stage: RBO, and the number of documents that are new at the top."""
    if first is None:
        return None
    before = [hit.docid for hit in lists[first].hits.get(qid, ())]
    after = [hit.docid for hit in run.hits.get(qid, ())]
    if not before or not after:
        return None
    return {"rbo": round(rank_biased_overlap(before, after), 4), "new": len({*after[:TOP]} - {*before[:TOP]})}


def by_interest(queries: Sequence[Mapping[str, Any]], evaluated: bool) -> list[str]:
    """The qids, those with the largest change of the first measure first; else the most bad calls, then the most moved."""

    def interest(row: Mapping[str, Any]) -> tuple[float, ...]:
        values = row["scores"][0] if evaluated and "scores" in row else [0.0]
        bad = max((calls["bad"] for calls in row["calls"] if calls), default=0)
        moved = max((1 - moved["rbo"] for moved in row["moved"] if moved), default=0.0)
        return (min(values) - max(values), -bad, -moved)

    return [row["qid"] for row in sorted(queries, key=interest)]


def _details(
    order: Sequence[str],
    lists: Sequence[ShownList],
    runs: Sequence[RunInput],
    qrels: Qrels,
    statistics: Sequence[CallStatistics | None],
    options: ReportOptions,
) -> dict[str, str]:
    """The packed details of queries, in ``order``, until they have the size of ``megabytes``."""
    shown = [each.hits for each in lists]
    docids = set[str]()
    for qid in order:
        docids.update(hit.docid for hits in shown for hit in hits.get(qid, ())[: options.depth])
        for each in statistics:
            if each and (query := each.by_query.get(qid)):
                docids |= query.docids
    passages = read_passages(options.texts, docids)
    room = options.megabytes * 1e6
    found: dict[str, str] = {}
    for qid in order:
        details = query_details(qid, shown, runs, qrels.get(qid, {}), passages, options.depth)
        text = packed(details)
        if len(text) > room:
            break
        found[qid], room = text, room - len(text)
    return found


def packed(details: Any) -> str:
    """JSON, gzipped and in base64."""
    text = json.dumps(details, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    return b64encode(gzip.compress(text, compresslevel=6, mtime=0)).decode()


def _evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "qrels": evaluation.qrels,
        "queries": evaluation.queries,
        "measures": [score.measure for score in evaluation.first.scores],
        "notes": evaluation_notes(evaluation),
        "rows": [_scores_json(each) for each in evaluation.every],
    }


def _scores_json(scores: RunScores) -> dict[str, Any]:
    found = []
    for each in scores.scores:
        entry: dict[str, Any] = {"value": each.value, "answered": each.answered_value}
        if each.interval:
            entry["interval"] = list(each.interval)
        if (compared := each.comparison) is not None:
            entry |= {
                "change": compared.change, "p": compared.corrected, "won": compared.won, "tied": compared.tied,
                "lost": compared.lost,
            }  # fmt: skip
        found.append(entry)
    return {"answered": scores.answered, "unjudged": scores.unjudged, "scores": found}


def _run_json(
    run: RunInput, number: int, first: int | None, lists: Sequence[ShownList], statistics: CallStatistics | None
) -> dict[str, Any]:
    cost = recorded_cost(run.path)
    return {
        "list": next(i for i, each in enumerate(lists) if each.run == number),
        "first": first,
        "calls": statistics.as_json() if statistics else None,
        "cost": None if cost is None else {
            "calls": cost.calls, "journal": cost.from_journal, "prompt": cost.prompt_tokens,
            "output": cost.output_tokens, "seconds": cost.seconds, "gpu": cost.gpu,
        },
        "facts": facts(run.metadata),
        "metadata": metadata_text(run.metadata),
    }  # fmt: skip
