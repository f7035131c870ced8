"""Make training rows: from topics, qrels, a first-stage run and a corpus, or from released training data."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic, check_plain, folder_for
from pyserini_reasonrank.ir.topics import read_topics, write_topics
from pyserini_reasonrank.records import Query
from pyserini_reasonrank.train.data.from_collection import NO_CONTRAST, collection_lists
from pyserini_reasonrank.train.data.held_out import held_out
from pyserini_reasonrank.train.data.lists import LabelledList, exclusions, shuffled
from pyserini_reasonrank.train.data.negatives import Draw, redrawn
from pyserini_reasonrank.train.data.prompted import FORMS, prompted_rows
from pyserini_reasonrank.train.data.reasonrank import reasonrank
from pyserini_reasonrank.train.data.release import Release, TfrankTask
from pyserini_reasonrank.train.data.row_builder import RowBuilder
from pyserini_reasonrank.train.data.rows import Audit, Row, as_line, write_rows
from pyserini_reasonrank.train.data.tfrank import tfrank
from pyserini_reasonrank.train.data.triples import triples
from pyserini_reasonrank.train.settings import Published

READERS: Mapping[str, Callable[[Release, Audit], Iterator[LabelledList]]] = {
    "reasonrank": reasonrank,
    "tfrank": tfrank,
    "triples": triples,
}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
COLLECTION = ("topics", "qrels", "run", "corpus")
TOP = 10.0  # of the scale of the teacher's scores in rows


class Config(BaseModel):
    """Settings of ``train data``: the labels, the reranker to train, and the output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reranker: Annotated[str, Field(description="reranker to train; its judge decides the kind of the rows")]
    model: Annotated[str, Field(description="model to train; its tokenizer cuts the passages")]
    like: Annotated[
        str | None, Field(description="known checkpoint (`models`) whose prompt and passage form the rows have")
    ] = None
    rerank: Annotated[dict[str, Any], Field(description="settings of the reranker, as under --rerank")] = {}
    output: Annotated[Path, Field(description="file of training rows; held-out rows go to a .dev file beside it")]
    format: Annotated[
        Literal["collection", "reasonrank", "tfrank", "triples", "turns", "verl", "ranking-bench"],
        Field(description="format of the labels; of turns, verl and ranking-bench the prompts are complete"),
    ] = "collection"
    path: Annotated[
        Path | None,
        Field(description="released records: file, folder or hf://OWNER/NAME[/FILE]"),
    ] = None
    task: Annotated[TfrankTask, Field(description="which TFRank rows to read")] = "listwise"
    topics: Annotated[
        Path | None, Field(description="topics as TSV or JSON lines; for released records also a folder")
    ] = None
    qrels: Annotated[Path | None, Field(description="TREC qrels")] = None
    run: Annotated[Path | None, Field(description="first-stage run")] = None
    corpus: Annotated[Path | None, Field(description="corpus as JSON lines; for released records also a folder")] = None
    source: Annotated[
        str | None, Field(description="name of the data; default: the folder of the topics, or the file of the records")
    ] = None
    draw: Annotated[Draw, Field(description="how passages are drawn from a collection or from released triples")] = (
        Draw()
    )
    teacher_scale: Annotated[
        tuple[FiniteFloat, FiniteFloat] | None,
        Field(
            description="lowest and highest score of a released teacher, mapped to 0 and 10; without it scores are left out"
        ),
    ] = None
    order: Annotated[
        Literal["shuffled", "given"],
        Field(description="order of the passages in a prompt; a list whose reasoning is used keeps its own order"),
    ] = "shuffled"
    thought_words: Annotated[
        int | None,
        Field(ge=1, description="use only lists with reasoning, cut to its last sentences of at most this many words"),
    ] = None
    thoughts: Annotated[
        bool, Field(description="answers to imitate have a thought; false: the tagged answer alone (Setwise-SFT)")
    ] = True
    passage_tokens: Annotated[
        dict[str, int],
        Field(description="passage limit of single sources, by name or pattern: {msmarco: 100}; of others rerank's"),
    ] = {}
    weights: Annotated[
        dict[str, float],
        Field(description="weight of single sources, by name or pattern: {biology: 2, math-*: 0.5}; of others 1"),
    ] = {}
    copies: Annotated[int, Field(ge=1, description="number of lists for each query, each drawn and shuffled anew")] = 1
    queries: Annotated[int | None, Field(ge=1, description="maximum number of queries, sampled at random")] = None
    dev: Annotated[float, Field(ge=0, lt=1, description="share of the queries to hold out")] = 0.0
    seed: Annotated[int, Field(description="seed of every draw and shuffle")] = 929
    published: Annotated[Published | None, Field(description="the published data that these settings reproduce")] = None

    @field_validator("weights", "passage_tokens")
    @classmethod
    def _not_negative(cls, found: dict[str, float]) -> dict[str, float]:
        if bad := [source for source, value in found.items() if value < 0]:
            raise ValueError(f"the value of {bad[0]} is below 0")
        return found

    @field_validator("teacher_scale")
    @classmethod
    def _rising(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale and scale[0] >= scale[1]:
            raise ValueError("the lowest score comes first and must be below the highest")
        return scale


def run(config: Config) -> None:
    """Write the rows and print what happened to each query. UsageError if a file would have no row."""
    check_plain(config.output)
    _check(config)
    if config.format in FORMS:
        _run_prompted(config)
        return
    audits = [Audit("queries" if config.format == "collection" else "records")]
    lists = _collection(config, audits[0]) if config.format == "collection" else _released(config, audits[0])
    if config.format == "triples":
        audits.append(Audit("lists"))
        lists = list(_redrawn(lists, config, audits[-1]))
    if config.thought_words:
        audits.append(Audit("lists"))
        lists = list(_shortened(lists, config.thought_words, audits[-1]))
    inputs = "\n".join([*map(str, audits), *_teacher_report(lists, config.teacher_scale)])
    lists = [_rescaled(labelled, config.teacher_scale) for labelled in lists]
    top = max((max(labelled.gains) for labelled in lists), default=0.0)
    if top <= 0:
        raise UsageError(f"no list has a positive: {inputs}")
    widest = max(len(labelled.candidates) for labelled in lists)
    builders = _Builders(config, widest, top)
    builder = builders.first
    lists = list(weighted(lists, config.weights, config.seed))
    train, dev = split_by_query(lists, config.dev, config.seed)
    outputs = [(config.output, train)] + ([(_beside(config.output, "dev"), dev)] if config.dev else [])
    audit, written = Audit(), builder.reasoning_report(lists)
    with ExitStack() as stack:
        stack.enter_context(folder_for(config.output))
        for path, part in outputs:
            file, qids = stack.enter_context(atomic(path)), list[str]()
            for row in _rows(part, builders, config, audit):
                file.write(as_line(row))
                qids.append(row.qid)
            if not qids:
                raise UsageError(f"{path} would have no row: {inputs}\n{audit}")
            written.append(f"{len(qids):,} rows of {len(set(qids)):,} queries in {path}")
    if config.dev:
        written.append(_write_topics(config, _queries(dev)))
    print("\n".join([*(f"warning: {w}" for w in builder.warnings), inputs, str(audit), *written]))


def _run_prompted(config: Config) -> None:
    """Write the rows of a release whose prompts are complete, as :func:`run` does."""
    if config.path is None:
        raise UsageError(f"train data needs --path, the {config.format} records")
    audit = Audit("records")
    source = config.source or config.path.name.split(".")[0]
    rows = list(prompted_rows(config.format, config.path, source, audit))
    if not rows:
        raise UsageError(f"{config.output} would have no row: {audit}")
    builder = RowBuilder(config.reranker, config.model, config.rerank, widest=max(len(row.docids) for row in rows))
    if other := next((row.kind for row in rows if row.kind != builder.kind), None):
        raise UsageError(
            f"{config.path} has rows of kind {other}, and the reranker {config.reranker} asks for {builder.kind}: "
            f"name a reranker with a judge of kind {other}"
        )
    wanted = {query.qid for query in _sample(_row_queries(rows), config)}
    rows = [row for row in rows if row.qid in wanted for _ in range(config.copies)]
    rows = list(weighted(rows, config.weights, config.seed))
    train, dev = split_by_query(rows, config.dev, config.seed)
    written = list[str]()
    config.output.parent.mkdir(parents=True, exist_ok=True)
    for path, part in [(config.output, train)] + ([(_beside(config.output, "dev"), dev)] if config.dev else []):
        count = write_rows(path, part)
        written.append(f"{count:,} rows of {len({row.qid for row in part}):,} queries in {path}")
    if config.dev:
        written.append(_write_topics(config, _row_queries(dev)))
    print("\n".join([str(audit), *written]))


def _row_queries(rows: Iterable[Row]) -> list[Query]:
    return list({row.qid: Query(row.qid, row.query) for row in rows}.values())


def _write_topics(config: Config, queries: Iterable[Query]) -> str:
    """Write the held-out queries beside the rows. Returns the line that reports it."""
    topics = _beside(config.output, "dev.topics").with_suffix(".tsv")
    write_topics(topics, list(queries))
    return f"their topics in {topics}"


class _Builders:
    """The row builders: one for each passage limit, since sources can have their own."""

    def __init__(self, config: Config, widest: int, top_gain: float) -> None:
        self._config, self._widest, self._top_gain = config, widest, top_gain
        self._made: dict[int | None, RowBuilder] = {}
        self.first = self._builder(None)

    def of(self, source: str) -> RowBuilder:
        """The builder for the rows of a source."""
        return self._builder(by_source(self._config.passage_tokens, source))

    def _builder(self, tokens: int | None) -> RowBuilder:
        if tokens not in self._made:
            config = self._config
            flags = config.rerank if tokens is None else {**config.rerank, "passage_tokens": tokens}
            self._made[tokens] = RowBuilder(
                config.reranker,
                config.model,
                flags,
                widest=self._widest,
                top_gain=self._top_gain,
                thoughts=config.thoughts,
                like=config.like,
            )
        return self._made[tokens]


def by_source[T](values: Mapping[str, T], source: str) -> T | None:
    """The value of a source: of its own name, else of the first pattern that matches it; None if there is none."""
    matches = (value for pattern, value in values.items() if fnmatchcase(source, pattern))
    return values[source] if source in values else next(matches, None)


def weighted[L: LabelledList | Row](lists: Iterable[L], weights: Mapping[str, float], seed: int) -> Iterator[L]:
    """Each list as often as the weight of its source: 2 is twice, 0.5 every other on average, by chance."""
    chance = random.Random(f"{seed} weights")
    for labelled in lists:
        weight = by_source(weights, labelled.source)
        times = 1.0 if weight is None else weight
        for _ in range(int(times) + (chance.random() < times % 1)):
            yield labelled


def split_by_query[L: LabelledList | Row](lists: Iterable[L], share: float, seed: int) -> tuple[list[L], list[L]]:
    """The lists to train on and the held-out lists, split by the text of their query (see :func:`held_out`)."""
    sides: tuple[list[L], list[L]] = ([], [])
    for labelled in lists:
        query = labelled.query if isinstance(labelled.query, str) else labelled.query.text
        sides[held_out(query, share, seed)].append(labelled)
    return sides


def ending(thought: str, words: int) -> str:
    """The last sentences of a thought, at most ``words`` words: its conclusion. Empty if the last sentence is longer."""
    kept: list[str] = []
    for sentence in reversed(_SENTENCE_END.split(thought.strip())):
        if len(" ".join([sentence, *kept]).split()) > words:
            break
        kept.insert(0, sentence)
    return " ".join(" ".join(kept).split())


def _shortened(lists: Iterable[LabelledList], words: int, audit: Audit) -> Iterator[LabelledList]:
    for labelled in lists:
        short = ending(labelled.reasoning, words)
        fault = (
            None
            if short
            else "the last sentence of the reasoning is too long"
            if labelled.reasoning
            else "no reasoning"
        )
        if audit.note(fault, f"{labelled.source} {labelled.query.qid}"):
            yield replace(labelled, reasoning=short)


def _rows(lists: Iterable[LabelledList], builders: _Builders, config: Config, audit: Audit) -> Iterator[Row]:
    for number, labelled in enumerate(lists):
        builder = builders.of(labelled.source)
        chance = random.Random(f"{config.seed} {number} {labelled.query.qid}")
        keep = config.order == "given" or (labelled.reasoning and builder.takes_reasoning(labelled))
        shown = labelled if keep else shuffled(labelled, chance)
        for case in exclusions(shown, chance) if builder.kind == "worst" else [shown]:
            yield from builder.usable_rows(case, audit)


def _collection(config: Config, audit: Audit) -> list[LabelledList]:
    topics, qrels, run, corpus = config.topics, config.qrels, config.run, config.corpus
    if topics is None or qrels is None or run is None or corpus is None:
        missing = [name for name in COLLECTION if getattr(config, name) is None]
        raise UsageError(f"train data needs --{' and --'.join(missing)} to make rows from a collection")
    return collection_lists(
        _sample(read_topics(topics), config),
        qrels,
        run,
        corpus,
        config.draw,
        copies=config.copies,
        seed=config.seed,
        source=config.source or topics.resolve().parent.name,
        audit=audit,
    )


def _released(config: Config, audit: Audit) -> list[LabelledList]:
    if config.path is None:
        raise UsageError(f"train data needs --path, the file of {config.format} records")
    source = config.source or config.path.name.split(".")[0]
    release = Release(config.path, config.topics, config.corpus, source, config.task)
    lists = list(READERS[config.format](release, audit))
    wanted = {query.qid for query in _sample(_queries(lists), config)}
    return [labelled for labelled in lists if labelled.query.qid in wanted for _ in range(config.copies)]


def _check(config: Config) -> None:
    """UsageError for a setting that does not apply to the format."""
    drawn = sorted(config.draw.model_fields_set)
    if config.format not in ("collection", "triples") and drawn:
        raise UsageError(
            f"draw.{drawn[0]} does not apply to format {config.format}, whose lists are shown whole: leave it out"
        )
    if config.format == "triples" and "missed" in drawn:
        raise UsageError("draw.missed does not apply to format triples, which has no first stage: leave it out")
    if config.format != "triples" and config.teacher_scale:
        raise UsageError(f"teacher_scale does not apply to format {config.format}, which has no scores: leave it out")


def _redrawn(lists: Iterable[LabelledList], config: Config, audit: Audit) -> Iterator[LabelledList]:
    for number, labelled in enumerate(lists):
        found = redrawn(labelled, config.draw, random.Random(f"{config.seed} draw {number} {labelled.query.qid}"))
        if audit.note(None if found else NO_CONTRAST, f"{labelled.source} {labelled.query.qid}") and found:
            yield found


def _rescaled(labelled: LabelledList, scale: tuple[float, float] | None) -> LabelledList:
    """The list with its teacher's scores mapped from ``scale`` to 0 to 10 and clipped; without scores if scale is None."""
    if labelled.teacher is None or scale is None:
        return replace(labelled, teacher=None)
    lowest, highest = scale
    return replace(
        labelled,
        teacher=tuple(TOP * (min(max(s, lowest), highest) - lowest) / (highest - lowest) for s in labelled.teacher),
    )


def _teacher_report(lists: Sequence[LabelledList], scale: tuple[float, float] | None) -> list[str]:
    """A line on the teacher's scores that released lists have; no line if there are none."""
    taught = [labelled.teacher for labelled in lists if labelled.teacher]
    if not taught:
        return ["no list has a teacher's score for each passage"] if scale else []
    scores = [score for of_list in taught for score in of_list]
    line = f"teacher's scores for {len(taught):,} of {len(lists):,} lists, from {min(scores):g} to {max(scores):g}"
    if scale is None:
        return [f"{line}; left out: set --teacher_scale '[LOWEST, HIGHEST]' to map them to 0 and 10"]
    beyond = sum(not scale[0] <= score <= scale[1] for score in scores)
    return [f"{line}, {beyond:,} of them outside teacher_scale and clipped"]


def _sample(queries: list[Query], config: Config) -> list[Query]:
    """A random sample of ``config.queries`` queries, in their own order."""
    if config.queries is None or config.queries >= len(queries):
        return queries
    places = random.Random(config.seed).sample(range(len(queries)), config.queries)
    return [queries[place] for place in sorted(places)]


def _queries(lists: Iterable[LabelledList]) -> list[Query]:
    return list({labelled.query.qid: labelled.query for labelled in lists}.values())


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}.{what}{path.suffix}")
