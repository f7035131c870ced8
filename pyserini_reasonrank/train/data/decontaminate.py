"""Drop training rows whose query equals or nearly equals an evaluation topic."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic, check_plain, folder_for, read_lines
from pyserini_reasonrank.ir.topics import read_topics

NGRAM = 3
THRESHOLD = 0.9
SHOWN = 10
_BATCH = 512  # queries compared at once with all topics


class Config(BaseModel):
    """Settings of ``train decontaminate``: the training data and the evaluation topics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Annotated[Path, Field(description="training rows, or topics as TSV or JSON lines")]
    topics: Annotated[
        tuple[Path, ...],
        BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
        Field(min_length=1, description="evaluation topics: a file, or a list of files"),
    ]
    output: Annotated[Path, Field(description="the remaining data; OUTPUT.dropped.tsv lists the dropped queries")]
    threshold: Annotated[
        float, Field(gt=0, le=1, description="cosine of character trigrams at which two queries count as nearly equal")
    ] = THRESHOLD


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A training query and its nearest topic. ``equal``: they differ at most in case and punctuation."""

    query: str
    topic: str
    qid: str
    topics: str
    equal: bool
    cosine: float


def run(config: Config) -> None:
    """Write the remaining rows and the report, and print the dropped queries. UsageError if no row remains."""
    check_plain(config.output)
    if same := [path for path in config.topics if path.resolve() == config.data.resolve()]:
        raise UsageError(f"{same[0]} is given both as --data and in --topics")
    queries = list(dict.fromkeys(query for _, _, query in _lines(config.data)))
    found = near_duplicates(queries, evaluation_topics(config.topics), config.threshold)
    dropped: Counter[str] = Counter()
    with folder_for(config.output), atomic(config.output) as file:
        for _, line, query in _lines(config.data):
            if query in found:
                dropped[query] += 1
            else:
                file.write(line.rstrip(b"\r\n") + b"\n")
        if len(found) == len(queries):
            raise UsageError(f"every query of {config.data} is an evaluation topic: no row would remain")
    report = config.output.with_name(f"{config.output.name}.dropped.tsv")
    with atomic(report) as file:
        file.write(b"rows\tcosine\tquery\ttopics\tqid\ttopic\n")
        for match in found.values():
            cells = (dropped[match.query], f"{match.cosine:.3f}", match.query, match.topics, match.qid, match.topic)
            file.write("\t".join(" ".join(str(cell).split()) for cell in cells).encode(errors="replace") + b"\n")
    print(_summary(found, dropped, len(queries), config))


def evaluation_topics(paths: Iterable[Path]) -> list[tuple[str, str, str]]:
    """The file, qid and text of every topic of ``paths``."""
    return [(str(path), topic.qid, topic.text) for path in paths for topic in read_topics(path)]


def near_duplicates(
    queries: Sequence[str], topics: Sequence[tuple[str, str, str]], threshold: float
) -> dict[str, NearDuplicate]:
    """The queries that equal or nearly equal a topic (file, qid, text), each with its nearest topic.

    Similarity is the cosine between counts of character trigrams, so it depends on the two texts alone.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not queries or not topics:
        return {}
    texts = [text for _, _, text in topics]
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(NGRAM, NGRAM), use_idf=False, preprocessor=normalised)
    vectorizer.fit([*texts, *queries])
    theirs = vectorizer.transform(texts)
    equal_to = {normalised(text): place for place, text in reversed(list(enumerate(texts)))}
    found: dict[str, NearDuplicate] = {}
    for start in range(0, len(queries), _BATCH):
        batch = queries[start : start + _BATCH]
        nearness = (vectorizer.transform(batch) @ theirs.T).toarray()
        for query, row in zip(batch, nearness, strict=True):
            equal = equal_to.get(normalised(query))
            place = int(row.argmax()) if equal is None else equal
            if equal is not None or row[place] >= threshold:
                path, qid, text = topics[place]
                found[query] = NearDuplicate(query, text, qid, path, equal is not None, float(row[place]))
    return found


def normalised(text: str) -> str:
    """The text case-folded, without punctuation (unless it has nothing else), with a space around each word."""
    folded = text.casefold()
    return f" {' '.join(re.findall(r'\w+', folded)) or folded.strip()} "


def _lines(path: Path) -> Iterator[tuple[str, bytes, str]]:
    """The location, the bytes and the query of each line of a file of rows or topics."""
    for where, line in read_lines(path):
        text = line.decode(errors="replace")
        if ".jsonl" in path.suffixes:
            try:
                query = json.loads(text)["query"]
            except (ValueError, KeyError, TypeError):
                raise UsageError(f"{where} is neither a row nor a topic: it has no query") from None
        else:
            _, tab, query = text.partition("\t")
            if not tab:
                raise UsageError(f"{where} is not qid<TAB>query")
        yield where, line, str(query).strip()


def _summary(found: dict[str, NearDuplicate], dropped: Counter[str], queries: int, config: Config) -> str:
    equal = sum(match.equal for match in found.values())
    lines = [
        f"{len(found):,} of {queries:,} queries dropped ({equal:,} equal to a topic, {len(found) - equal:,} nearly equal), "
        f"{dropped.total():,} rows; the others are in {config.output}"
    ]
    worst = sorted(found.values(), key=lambda match: -match.cosine)
    lines += [f"  {match.cosine:.3f}  {match.query[:60]}  =  {match.qid} of {match.topics}" for match in worst[:SHOWN]]
    if len(worst) > SHOWN:
        lines.append(f"  and {len(worst) - SHOWN:,} more in {config.output}.dropped.tsv")
    return "\n".join(lines)
