"""The training blocks of a distillation: queries and the passages they are compared on.

The model reads the passages of a block once for all of its queries. In a block of titles each document is the positive of
its own title and a negative of the other titles. Its documents are BM25 neighbours, so shared words do not decide.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path
from typing import Literal

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import read_corpus
from pyserini_reasonrank.ir.qrels import read_qrels
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.resources import conf
from pyserini_reasonrank.train.data.held_out import held_out
from pyserini_reasonrank.train.data.release import read_records
from pyserini_reasonrank.train.data.rows import Audit
from pyserini_reasonrank.train.data.tfrank import TASKS, tfrank_rows
from pyserini_reasonrank.train.distil.neighbours import Neighbours

DEV_SHARE = 0.1  # of the training queries, held out
TITLE_BLOCKS = 500  # blocks of titles made from a corpus, at most


@dataclass(frozen=True, slots=True)
class Block:
    """Queries and passages. ``gains[i][j]`` is the gain of passage j for query i.

    A query without a positive is taught by the teacher alone.
    """

    source: str
    queries: tuple[str, ...]
    passages: tuple[str, ...]
    gains: tuple[tuple[float, ...], ...]


def held_back(query: str) -> bool:
    """Whether a training query is held out for development."""
    return held_out(query, DEV_SHARE, seed=None)


SourceKind = Literal["tfrank", "claims", "demo", "judged", "titles"]


def blocks(kind: SourceKind, folder: Path, size: int, rng: random.Random, *, held: bool = False) -> Iterator[Block]:
    """All blocks of a source, shuffled, with at most ``size`` passages each.

    The blocks contain the queries to train on or, with ``held``, the held-out queries. UsageError if a file is missing.
    """
    readers = {"tfrank": _tfrank, "claims": _claims, "demo": _demo, "judged": _judged, "titles": _titles}
    made = readers[kind](folder, size, rng, lambda query: held_back(query) is held)
    rng.shuffle(made)
    yield from made


_Wanted = Callable[[str], bool]  # whether a query belongs to the wanted side of the split


def _tfrank(folder: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """Blocks of TFRank's rows over MS MARCO, graded by levels.

    Of several rows of a query the listwise one counts, then the pairwise, then the pointwise one. If a query has too few
    passages, its negatives are BM25 neighbours among the passages of other queries.
    """
    path = _existing(folder / "training" / "tfrank_normalised.jsonl.gz")
    rows = [row for row in tfrank_rows(path, TASKS, Audit()) if row.query.isascii() and wanted(row.query)]
    graded, own = dict[str, dict[str, float]](), defaultdict[str, set[str]](set)
    for row in sorted(rows, key=lambda row: TASKS.index(row.task)):
        own[row.query].update(row.passages)
        if row.query not in graded:
            grades = graded[row.query] = dict.fromkeys(row.passages, 0.0)
            for passage, level in zip(row.passages, row.levels, strict=True):
                grades[passage] = max(grades[passage], level)  # a list can repeat a passage
    near = Neighbours({passage: passage for passage in sorted(set().union(*own.values()))})
    made = []
    for query, grades in graded.items():
        if max(grades.values()) > 0:
            found = near.like(query, max(size - len(grades), 0), exclude=own[query])
            filled = grades | dict.fromkeys(found, 0.0)
            if len(filled) > 1:
                made.append(_one("tfrank", query, filled, size, rng))
    return made


def _judged(folder: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """Blocks of a collection's training topics: up to half of a block is relevant, the rest are BM25 neighbours."""
    texts = {docid: " ".join(text.split()) for docid, text in read_corpus(folder / "corpus.jsonl")}
    qrels, near = read_qrels(folder / "qrels.train.txt"), Neighbours(texts)
    made = []
    for query in read_topics(folder / "topics.train.tsv"):
        judged = qrels.get(query.qid, {})
        relevant = {docid: float(gain) for docid, gain in judged.items() if gain > 0 and docid in texts}
        if wanted(query.text) and relevant:
            best = _shuffled(list(relevant), rng)[: size // 2]
            shown = [*best, *near.like(query.text, size - len(best), exclude=relevant)]
            # of passages with the same text, the relevant one counts
            known = {texts[docid]: relevant.get(docid, 0.0) for docid in reversed(shown)}
            if len(known) > len(best):
                made.append(_one("judged", query.text, known, size, rng))
    return made


def _claims(folder: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """Blocks of SciFact's training claims: evidence, BM25 negatives, and other claims whose evidence is in the block."""
    path = _existing(folder / "training" / "scifact_train_pos_neg.jsonl.gz")
    rows = [row for _, row in read_records(path, Audit()) if wanted(row["query"])]
    rng.shuffle(rows)
    made, used = [], set()
    for row in rows:
        if row["qid"] in used:
            continue
        texts = {row["pos_ids"][0]: row["pos"][0]} | dict(zip(row["neg_ids"], row["neg"], strict=True))
        docids = _shuffled(list(texts)[:size], rng)
        claims = [other for other in rows if other["qid"] not in used and set(other["pos_ids"]) & set(docids)][:4]
        claims = [row, *(other for other in claims if other is not row)][:4]
        used |= {other["qid"] for other in claims}
        gains = tuple(tuple(float(d in other["pos_ids"]) for d in docids) for other in claims)
        made.append(Block("claims", tuple(o["query"] for o in claims), tuple(texts[d] for d in docids), gains))
    return made


def _demo(folder: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """Blocks of the demo collection's training topics: relevant and other judged documents."""
    from pyserini_reasonrank.demo.collection import documents

    texts, made = dict(documents()), []
    with as_file(conf("demo")) as demo:
        qrels, topics = read_qrels(demo / "qrels.txt"), read_topics(demo / "train-topics.tsv")
    for query in topics:
        if wanted(query.text):
            judged = {texts[docid]: float(gain) for docid, gain in qrels[query.qid].items() if docid in texts}
            best = sorted(judged, key=lambda text: -judged[text])
            for shown in (best[: size // 2], best[size // 2 : size]):  # two blocks a topic, with different documents
                others = rng.sample([t for t in judged if judged[t] == 0], size - len(shown))
                made.append(_one("demo", query.text, {t: judged[t] for t in [*shown, *others]}, size, rng))
    return made


def _titles(corpus: Path, size: int, rng: random.Random, wanted: _Wanted) -> list[Block]:
    """Blocks of documents ``title\\nbody``: neighbours of a random document. Titles are the queries and are not shown."""
    parts = [text.partition("\n") for _, text in read_corpus(corpus)]
    pairs = [
        (title.strip(), body.strip())
        for title, _, body in parts
        if 4 <= len(title.split()) <= 25 and len(body.split()) >= 30 and wanted(title.strip())
    ]
    near = Neighbours({place: body for place, (_, body) in enumerate(pairs)})
    free = set(range(len(pairs)))
    made: list[Block] = []
    for seed in _shuffled(list(range(len(pairs))), rng):
        if seed not in free:
            continue
        found = [i for i in near.like(pairs[seed][0], 4 * size, exclude=[seed]) if i in free][: size - 1]
        free -= {seed, *found}
        if len(found) < size - 1:
            continue
        chosen = _shuffled([seed, *found], rng)
        gains = tuple(tuple(float(i == j) for j in chosen) for i in chosen)
        titles, bodies = zip(*(pairs[i] for i in chosen), strict=True)
        made.append(Block("titles", titles, bodies, gains))
        if len(made) == TITLE_BLOCKS:
            break
    return made


def _one(source: str, query: str, grades: Mapping[str, float], size: int, rng: random.Random) -> Block:
    """A block of one query: the best passage and a random sample of the others."""
    best = max(grades, key=lambda passage: grades[passage])
    rest = _shuffled([passage for passage in grades if passage != best], rng)
    shown = _shuffled([best, *rest[: size - 1]], rng)
    return Block(source, (query,), tuple(shown), (tuple(grades[p] for p in shown),))


def _shuffled[T](items: list[T], rng: random.Random) -> list[T]:
    return rng.sample(items, len(items))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"the training data {path} do not exist: set --data to their folder")
    return path
