"""What the ranker is trained on: blocks of queries and the passages they are compared on, from judged and unjudged text.

A block's passages are read once for all of its queries. In a block of titles every document is the positive of its
own title and the negative of the others, and the documents are BM25 neighbours, so that sharing words is not enough.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.resources import conf
from pyserini_reasonrank.train.distil.neighbours import Neighbours

DEV = 10  # one training query in so many is kept for choices
_GROUP = re.compile(r"\[(\d+)\]")
_NOTE = re.compile(r"\([\d.]+\)")


@dataclass(frozen=True, slots=True)
class Block:
    """``gains[i][j]``: of passage j for query i. A query without a positive is taught by the teacher alone."""

    source: str
    queries: tuple[str, ...]
    passages: tuple[str, ...]
    gains: tuple[tuple[float, ...], ...]


def held_out(query: str) -> bool:
    """Whether a training query is one of those that are kept for choices."""
    return int(hashlib.sha256(query.strip().lower().encode()).hexdigest(), 16) % DEV == 0


Kind = Literal["tfrank", "claims", "demo", "judged", "titles"]


def blocks(kind: Kind, folder: Path, size: int, rng: random.Random, *, held: bool = False) -> Iterator[Block]:
    """All blocks of a source, shuffled, ``size`` passages each at most, of the queries to train on or of those held out."""
    readers = {"tfrank": _tfrank, "claims": _claims, "demo": _demo, "judged": _judged, "titles": _titles}
    made = readers[kind](folder, size, rng, lambda query: held_out(query) is held)
    rng.shuffle(made)
    yield from made


_Wanted = Callable[[str], bool]  # whether a query is


def _tfrank(folder: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """Rows over MS MARCO: lists graded by the place of a passage's group, pairs, single passages with yes.

    Where a query has too few passages, those of other queries that share most words with it are its negatives.
    """
    rows = [r for r in _gzipped(folder / "training" / "tfrank_normalised.jsonl.gz") if r["query"].isascii()]
    rows = sorted((row for row in rows if wanted(row["query"])), key=lambda row: _TASKS.index(row["task"]))
    graded, own = dict[str, dict[str, float]](), defaultdict[str, set[str]](set)
    for row in rows:
        own[row["query"]].update(row["passages"])
        graded.setdefault(row["query"], _graded(row["passages"], row["answer"]))
    pool = sorted(set().union(*own.values()))
    place, near = {passage: i for i, passage in enumerate(pool)}, Neighbours(pool)
    made = []
    for query, grades in graded.items():
        if max(grades.values()) > 0:
            missing = max(size - len(grades), 0)
            found = near.like(query, missing, but=[place[passage] for passage in own[query]])
            filled = grades | dict.fromkeys([pool[i] for i in found], 0.0)
            if len(filled) > 1:
                made.append(_one("tfrank", query, filled, size, rng))
    return made


_TASKS = ("listwise", "pairwise", "pointwise")  # the one that says most is believed


def _graded(passages: list[str], answer: str) -> dict[str, float]:
    """The grades in ``[1] = [3] > [2]``, ``[1] < [2]`` or ``yes``."""
    if not _GROUP.search(answer):
        return dict.fromkeys(passages, float(answer.strip().lower() == "yes"))
    groups = [_GROUP.findall(group) for group in re.split("[<>]", _NOTE.sub("", answer))]
    if "<" not in answer:
        groups.reverse()
    grades = dict.fromkeys(passages, 0.0)
    for grade, group in enumerate(groups):
        for number in group:
            grades[passages[int(number) - 1]] = float(grade)
    return grades


def _judged(folder: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """The training topics of a collection: up to half of a block is relevant, the rest BM25's other neighbours."""
    with (folder / "corpus.jsonl").open(encoding="utf-8") as lines:
        texts = {row["id"]: " ".join(row["contents"].split()) for row in map(json.loads, lines)}
    grades = defaultdict[str, dict[str, float]](dict)
    for line in (folder / "qrels.train.txt").read_text(encoding="utf-8").splitlines():
        qid, _, docid, gain = line.split()
        if docid in texts and float(gain) > 0:
            grades[qid][docid] = float(gain)
    docids, near = list(texts), Neighbours(list(texts.values()))
    place = {docid: i for i, docid in enumerate(docids)}
    made = []
    for line in (folder / "topics.train.tsv").read_text(encoding="utf-8").splitlines():
        qid, query = line.split("\t")
        if wanted(query) and (relevant := grades[qid]):
            best = _shuffled(list(relevant), rng)[: size // 2]
            others = near.like(query, size - len(best), but=[place[docid] for docid in relevant])
            shown = [*best, *(docids[i] for i in others)]
            known = {texts[d]: relevant.get(d, 0.0) for d in reversed(shown)}  # of two alike, the relevant one counts
            if len(known) > len(best):
                made.append(_one("judged", query, known, size, rng))
    return made


def _claims(folder: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """SciFact's training claims: the evidence, BM25's negatives, and the other claims whose evidence is among them."""
    rows = [row for row in _gzipped(folder / "training" / "scifact_train_pos_neg.jsonl.gz") if wanted(row["query"])]
    rng.shuffle(rows)
    made, used = [], set()
    for row in rows:
        if row["qid"] in used:
            continue
        texts = {row["pos_ids"][0]: row["pos"][0]} | dict(zip(row["neg_ids"], row["neg"], strict=True))
        docids = _shuffled(list(texts)[:size], rng)
        asked = [other for other in rows if other["qid"] not in used and set(other["pos_ids"]) & set(docids)][:4]
        asked = [row, *(other for other in asked if other is not row)][:4]
        used |= {other["qid"] for other in asked}
        gains = tuple(tuple(float(d in other["pos_ids"]) for d in docids) for other in asked)
        made.append(Block("claims", tuple(o["query"] for o in asked), tuple(texts[d] for d in docids), gains))
    return made


def _demo(folder: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """The training topics of the demo collection with their judged documents: the useful ones and the others."""
    from pyserini_reasonrank.demo.collection import documents

    texts, gains = dict(documents()), dict[str, dict[str, float]]()
    for line in conf("demo", "qrels.txt").read_text(encoding="utf-8").splitlines():
        qid, _, docid, gain = line.split()
        gains.setdefault(qid, {})[docid] = float(gain)
    made = []
    for line in conf("demo", "train-topics.tsv").read_text(encoding="utf-8").splitlines():
        qid, query = line.split("\t")
        if wanted(query):
            judged = {texts[docid]: gain for docid, gain in gains[qid].items() if docid in texts}
            best = sorted(judged, key=lambda text: -judged[text])
            for shown in (best[: size // 2], best[size // 2 : size]):  # every topic twice, with other documents
                others = rng.sample([t for t in judged if judged[t] == 0], size - len(shown))
                made.append(_one("demo", query, {t: judged[t] for t in [*shown, *others]}, size, rng))
    return made


def _titles(corpus: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """Documents ``title\\nbody``: neighbours of a random one, asked for by their titles; the title is not shown."""
    with corpus.open(encoding="utf-8") as lines:
        parts = [json.loads(line)["contents"].partition("\n") for line in lines]
    pairs = [(title.strip(), body.strip()) for title, _, body in parts]
    pairs = [
        (title, body)
        for title, body in pairs
        if 4 <= len(title.split()) <= 25 and len(body.split()) >= 30 and wanted(title)
    ]
    near = Neighbours([body for _, body in pairs])
    free = set(range(len(pairs)))
    made = []
    for seed in _shuffled(list(range(len(pairs))), rng):
        if seed in free:
            found = [i for i in near.like(pairs[seed][0], 4 * size, but=[seed]) if i in free][: size - 1]
            free -= {seed, *found}
            if len(found) < size - 1:
                continue
            chosen = _shuffled([seed, *found], rng)
            gains = tuple(tuple(float(i == j) for j in chosen) for i in chosen)
            titles, bodies = zip(*(pairs[i] for i in chosen), strict=True)
            made.append(Block("titles", titles, bodies, gains))
        if len(made) == 500:
            break
    return made


def _one(source: str, query: str, grades: Mapping[str, float], size: int, rng: random.Random) -> Block:
    """A block of one query; where there are too many passages the best stays and chance picks the rest."""
    best = max(grades, key=lambda passage: grades[passage])
    rest = _shuffled([passage for passage in grades if passage != best], rng)
    shown = _shuffled([best, *rest[: size - 1]], rng)
    return Block(source, (query,), tuple(shown), (tuple(grades[p] for p in shown),))


def _shuffled[T](items: list[T], rng: random.Random) -> list[T]:
    return rng.sample(items, len(items))


def _gzipped(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except FileNotFoundError:
        raise UsageError(f"the training data {path} is not there: --data names the folder it lies in") from None
