"""A reranked run with everything that a page can show: judgments, passages, reasoning, statuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.records import Candidate, Query, Request
from pyserini_reasonrank.run.candidates import read_requests, stream
from pyserini_reasonrank.run.pipeline import Task, rerank
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\u2028<!--<script>"


def write_collection(folder: Path, requests: Sequence[Request]) -> Path:
    """Topics, corpus, first-stage run and qrels (every third document is relevant) in ``folder``."""
    topics, corpus, run, qrels = [], [], [], []
    for request in requests:
        qid = request.query.qid
        topics.append(json.dumps({"qid": qid, "query": request.query.text}))
        for rank, each in enumerate(request.candidates, 1):
            corpus.append(json.dumps({"id": each.docid, "contents": each.text}))
            run.append(f"{qid}\tQ0\t{each.docid}\t{rank}\t{each.score}\tbm25")
            if rank % 2:
                qrels.append(f"{qid}\t0\t{each.docid}\t{int(rank % 3 == 0)}")
    for name, lines in {"topics.jsonl": topics, "corpus.jsonl": corpus, "first.txt": run, "qrels.txt": qrels}.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def requests(queries: int, depth: int, extra: str = "") -> list[Request]:
    """Queries ``q0``, ... with ``depth`` candidates each; ``extra`` is added to every text."""
    return [
        Request(
            Query(f"q{number}", f"what is topic {number}{extra}"),
            tuple(
                Candidate(f"q{number}-d{i}", 50.0 - i, f"Passage {i} is about topic {number}.{extra}")
                for i in range(depth)
            ),
            number,
        )
        for number in range(queries)
    ]


def answered(folder: Path, answers: dict[tuple[str, int], str], output: str = "run.txt") -> RunRecord:
    """A run of the collection in ``folder`` by ``reasonrank`` with recorded answers, by qid and call."""
    file = folder / "answers.jsonl"
    lines = [json.dumps({"qid": qid, "call": call, "response": text}) for (qid, call), text in answers.items()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = {"engine": {"name": "recorded", "path": str(file)}, "max_bad": 1.0}
    found = read_requests(folder / "first.txt", folder / "topics.jsonl", folder / "corpus.jsonl", 100)
    task = Task(
        stream(found), folder / output, folder / "first.txt", str(folder / "topics.jsonl"), ["rerank"]
    )  # fmt: skip
    made = plan(*layers.load("reasonrank", flags))
    with ThreadPoolExecutor(1) as thread:  # the thread of a test may have the event loop of a browser
        return thread.submit(lambda: asyncio.run(rerank(made, task))).result()


def reasoned_run(folder: Path) -> Path:
    """The collection and ``run.txt`` in ``folder``: three queries with 12 candidates, a call each: reordered, copied, refused."""
    write_collection(folder, requests(3, 12))
    backwards = " > ".join(f"[{n}]" for n in range(12, 0, -1))
    forwards = " > ".join(f"[{n}]" for n in range(1, 13))
    answered(
        folder,
        {
            ("q0", 0): f"<think>[12] answers it, [3] does not.</think><answer>{backwards}</answer>",
            ("q1", 0): f"<think>All are alike.</think><answer>{forwards}</answer>",
            ("q2", 0): "<think>I do not know.</think>",
        },
    )
    return folder
