"""Make training rows: from topics, qrels, a first-stage run and a corpus, or from released training data."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import corpus_texts
from pyserini_reasonrank.ir.files import atomic
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.train.data import readers
from pyserini_reasonrank.train.data.builder import Asking, Listed
from pyserini_reasonrank.train.data.draw import Draw, Drawn, draw, exclusions, redrawn, shuffled
from pyserini_reasonrank.train.data.rows import Audit, Fault, Row, as_line

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
COLLECTION = ("topics", "qrels", "run", "corpus")
NO_CONTRAST = "no positive to show, or no negative beside it"
TOP = 10.0  # of the scale that a teacher's scores are put on


class Config(BaseModel):
    """What rows are made of, for which reranker, and where they go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reranker: Annotated[str, Field(description="the reranker to train; its judge decides what a row asks")]
    model: Annotated[str, Field(description="the model to train, whose tokens passages are cut by")]
    rerank: Annotated[dict[str, Any], Field(description="the reranker's settings, as under --rerank")] = {}
    output: Annotated[Path, Field(description="rows to train on; the held-out ones go to a .dev file beside it")]
    format: Annotated[
        Literal["collection", "reasonrank", "tfrank", "triples"], Field(description="what the labels come as")
    ] = "collection"
    path: Annotated[Path | None, Field(description="released records, unless the format is collection")] = None
    task: Annotated[readers.Task, Field(description="which of TFRank's rows to read")] = "listwise"
    topics: Annotated[Path | None, Field(description="TSV or JSON lines; for released records a folder too")] = None
    qrels: Annotated[Path | None, Field(description="TREC qrels")] = None
    run: Annotated[Path | None, Field(description="first-stage run")] = None
    corpus: Annotated[
        Path | None, Field(description="JSON lines that hold the texts; for released records a folder too")
    ] = None
    source: Annotated[
        str | None, Field(description="what to call these data, if not by their folder, or the records' file")
    ] = None
    draw: Annotated[Draw, Field(description="how passages are chosen from a collection, or from released triples")] = (
        Draw()
    )
    teacher_scale: Annotated[
        tuple[FiniteFloat, FiniteFloat] | None,
        Field(description="scores of a released teacher that become 0 and 10; left out where this is not said"),
    ] = None
    order: Annotated[
        Literal["shuffled", "given"],
        Field(description="in which passages are shown; a list whose thought is taken keeps its own"),
    ] = "shuffled"
    thought_words: Annotated[
        int | None,
        Field(ge=1, description="take lists with a thought only, and of it the last sentences, so many words"),
    ] = None
    copies: Annotated[int, Field(ge=1, description="lists for each query, drawn and shuffled anew")] = 1
    queries: Annotated[int | None, Field(ge=1, description="take so many queries at most, at random")] = None
    dev: Annotated[float, Field(ge=0, lt=1, description="share of the queries to hold out")] = 0.0
    seed: Annotated[int, Field(description="of every draw and shuffle")] = 929

    @field_validator("teacher_scale")
    @classmethod
    def _rising(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale and scale[0] >= scale[1]:
            raise ValueError("the least score comes first, and is less than the most")
        return scale


def run(config: Config) -> None:
    """Write the rows, and what became of every query."""
    if config.output.suffix == ".gz":
        raise UsageError(f"rows are written as they are: name {config.output} without .gz")
    _check(config)
    audits = [Audit("queries" if config.format == "collection" else "records")]
    lists = _collection(config, audits[0]) if config.format == "collection" else _released(config, audits[0])
    if config.format == "triples":
        audits.append(Audit("lists"))
        lists = list(_redrawn(lists, config, audits[-1]))
    if config.thought_words:
        audits.append(Audit("lists"))
        lists = list(_shortened(lists, config.thought_words, audits[-1]))
    inputs = "\n".join([*map(str, audits), *_of_teachers(lists, config.teacher_scale)])
    lists = [_rescaled(listed, config.teacher_scale) for listed in lists]
    top = max((max(listed.gains) for listed in lists), default=0.0)
    if top <= 0:
        raise UsageError(f"no list has a positive to learn from: {inputs}")
    widest = max(len(listed.candidates) for listed in lists)
    asking = Asking(config.reranker, config.model, config.rerank, widest=widest, top_gain=top)
    train, dev = split_by_query(lists, config.dev, config.seed)
    held_out = [(_beside(config.output, "dev"), dev)] if config.dev else []
    audit, written = Audit(), asking.unthought(lists)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for path, part in [(config.output, train), *held_out]:
            file, qids = stack.enter_context(atomic(path)), list[str]()
            for row in _rows(part, asking, config, audit):
                file.write(as_line(row))
                qids.append(row.qid)
            if not qids:
                raise UsageError(f"{path} would have no row: {inputs}\n{audit}")
            written.append(f"{len(qids):,} rows of {len(set(qids)):,} queries in {path}")
    if config.dev:
        topics = _beside(config.output, "dev.topics").with_suffix(".tsv")
        with atomic(topics) as file:
            file.writelines(f"{q.qid}\t{' '.join(q.text.split())}\n".encode() for q in _queries(dev))
        written.append(f"their topics in {topics}")
    print("\n".join([*(f"warning: {w}" for w in asking.warnings), inputs, str(audit), *written]))


def split_by_query(lists: Iterable[Listed], share: float, seed: int) -> tuple[list[Listed], list[Listed]]:
    """The lists to train on and those held out. A query is on one side whatever its qid, and stays there when others
    come or go: its words and the seed decide."""
    sides: tuple[list[Listed], list[Listed]] = ([], [])
    for listed in lists:
        sides[random.Random(f"{seed} {_words(listed.query)}").random() < share].append(listed)
    return sides


def ending(thought: str, words: int) -> str:
    """The last sentences of a thought, so many words at most: what it comes to. Empty if its last one is longer."""
    kept: list[str] = []
    for sentence in reversed(_SENTENCE_END.split(thought.strip())):
        if len(" ".join([sentence, *kept]).split()) > words:
            break
        kept.insert(0, sentence)
    return " ".join(" ".join(kept).split())


def _shortened(lists: Iterable[Listed], words: int, audit: Audit) -> Iterator[Listed]:
    for listed in lists:
        short = ending(listed.reasoning, words)
        fault = None if short else "no thought that ends in a sentence so short" if listed.reasoning else "no thought"
        if audit.note(fault, f"{listed.source} {listed.query.qid}"):
            yield replace(listed, reasoning=short)


def _rows(lists: Iterable[Listed], asking: Asking, config: Config, audit: Audit) -> Iterator[Row]:
    for number, listed in enumerate(lists):
        chance = random.Random(f"{config.seed} {number} {listed.query.qid}")
        keep = config.order == "given" or (listed.reasoning and asking.thinks(listed))
        shown = listed if keep else shuffled(listed, chance)
        for case in exclusions(shown, chance) if asking.kind == "worst" else [shown]:
            yield from asking.fitting(case, audit)


def _collection(config: Config, audit: Audit) -> list[Listed]:
    """A list, or as many as ``copies``, for every query with a positive."""
    given = {name: getattr(config, name) for name in COLLECTION}
    if missing := [name for name, value in given.items() if value is None]:
        raise UsageError(f"train data needs --{' and --'.join(missing)} to make rows from a collection")
    hits, qrels = read_run(given["run"]), read_qrels(given["qrels"])
    drawn: list[tuple[Query, Drawn]] = []
    for query in _sample(read_topics(given["topics"]), config):
        grades, found = qrels.get(query.qid, {}), hits.get(query.qid, [])
        made = [
            draw(found, grades, config.draw, random.Random(f"{config.seed} {copy} {query.qid}"))
            for copy in range(config.copies)
        ]
        lists = [one for one in made if one is not None]
        positive = any(grade > 0 for grade in grades.values())
        fault = None if lists else NO_CONTRAST if positive else Fault.NO_POSITIVE
        audit.note(fault, f"query {query.qid}")
        drawn += [(query, one) for one in lists]
    texts = corpus_texts(given["corpus"], {docid for _, one in drawn for docid in one.docids})
    source = config.source or given["topics"].resolve().parent.name
    return [_texted(query, one, texts, source) for query, one in drawn]


def _texted(query: Query, drawn: Drawn, texts: Mapping[str, str], source: str) -> Listed:
    """The list with its texts. Of passages that say the same only the one of the highest gain is kept."""
    kept: dict[str, int] = {}
    for place in sorted(range(len(drawn.docids)), key=lambda i: -drawn.gains[i]):
        kept.setdefault(" ".join(texts[drawn.docids[place]].split()), place)
    listed = Listed(
        query,
        tuple(Candidate(d, -float(r), texts[d]) for d, r in zip(drawn.docids, drawn.first_stage, strict=True)),
        drawn.gains,
        drawn.first_stage,
        source,
    )
    return listed.shown(sorted(kept.values()))


def _released(config: Config, audit: Audit) -> list[Listed]:
    if config.path is None:
        raise UsageError(f"train data needs --path, the {config.format} records")
    source = config.source or config.path.name.split(".")[0]
    released = readers.Released(config.path, config.topics, config.corpus, source, config.task)
    lists = list(readers.READERS[config.format](released, audit))
    wanted = {query.qid for query in _sample(_queries(lists), config)}
    return [listed for listed in lists if listed.query.qid in wanted for _ in range(config.copies)]


def _check(config: Config) -> None:
    """UsageError for a setting that the format has no use for."""
    drawn = sorted(config.draw.model_fields_set)
    if config.format in ("reasonrank", "tfrank") and drawn:
        raise UsageError(
            f"draw.{drawn[0]} can't apply to format {config.format}, whose lists are shown whole: leave it out"
        )
    if config.format == "triples" and "missed" in drawn:
        raise UsageError("draw.missed can't apply to format triples, which has no first stage: leave it out")
    if config.format != "triples" and config.teacher_scale:
        raise UsageError(f"teacher_scale can't apply to format {config.format}, which has no scores: leave it out")


def _redrawn(lists: Iterable[Listed], config: Config, audit: Audit) -> Iterator[Listed]:
    for number, listed in enumerate(lists):
        found = redrawn(listed, config.draw, random.Random(f"{config.seed} draw {number} {listed.query.qid}"))
        if audit.note(None if found else NO_CONTRAST, f"{listed.source} {listed.query.qid}") and found:
            yield found


def _rescaled(listed: Listed, scale: tuple[float, float] | None) -> Listed:
    """The list with its teacher's scores from 0 to 10, those beyond ``scale`` at its ends; without them if there is none."""
    if listed.teacher is None or scale is None:
        return replace(listed, teacher=None)
    least, most = scale
    return replace(
        listed, teacher=tuple(TOP * (min(max(s, least), most) - least) / (most - least) for s in listed.teacher)
    )


def _of_teachers(lists: Sequence[Listed], scale: tuple[float, float] | None) -> list[str]:
    """What there is to report of the scores that come with released lists."""
    taught = [listed.teacher for listed in lists if listed.teacher]
    if not taught:
        return ["no list has a teacher's score of each passage"] if scale else []
    scores = [score for of_list in taught for score in of_list]
    told = f"teacher's scores for {len(taught):,} of {len(lists):,} lists, from {min(scores):g} to {max(scores):g}"
    if scale is None:
        return [f"{told}; left out, as --teacher_scale '[LEAST, MOST]' does not say which of them are 0 and 10"]
    beyond = sum(not scale[0] <= score <= scale[1] for score in scores)
    return [f"{told}, {beyond:,} of them beyond teacher_scale and taken for its ends"]


def _sample(queries: list[Query], config: Config) -> list[Query]:
    """As many queries as are asked for, in their own order."""
    if config.queries is None or config.queries >= len(queries):
        return queries
    places = random.Random(config.seed).sample(range(len(queries)), config.queries)
    return [queries[place] for place in sorted(places)]


def _queries(lists: Iterable[Listed]) -> list[Query]:
    return list({listed.query.qid: listed.query for listed in lists}.values())


def _words(query: Query) -> str:
    return " ".join(re.findall(r"\w+", query.text.casefold()))


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}.{what}{path.suffix}")
