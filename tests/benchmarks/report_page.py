"""How fast the report page is: 200 queries with 9 calls each, 100 documents per list, 1,000 words of reasoning per call.

    python tests/benchmarks/report_page.py

It makes the run with recorded answers, writes the page, and measures in headless Chromium (the package playwright, the
program chromium) when the page is first painted, and how long a query takes to open.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from reported import answered, requests, write_collection

from pyserini_reasonrank.__main__ import main as command
from pyserini_reasonrank.records import Candidate, Request

QUERIES, DEPTH, WINDOWS, OPENED = 200, 100, 9, 25

OPEN = """async (count) => {
    const times = [];
    for (const query of data.queries.slice(0, count)) {
        const begin = performance.now();
        location.hash = addressOf(query);
        await new Promise((done) => {
            const wait = () => document.getElementById("main").dataset.drawn === query.qid
                ? requestAnimationFrame(() => setTimeout(done)) : requestAnimationFrame(wait);
            wait();
        });
        times.push(performance.now() - begin);
    }
    return times;
}"""
"""Opens queries one after the other: the milliseconds of each, to the frame in which it is on the screen."""


def make_run(folder: Path) -> None:
    """Write the collection and its reranked run."""
    draw = random.Random(1)
    words = [f"word{number}" for number in range(3000)]
    found = []
    for request in requests(QUERIES, DEPTH):
        texts = (" ".join(draw.choices(words, k=90)) for _ in request.candidates)
        candidates = (Candidate(c.docid, c.score, text) for c, text in zip(request.candidates, texts, strict=True))
        found.append(Request(request.query, tuple(candidates), request.number))
    write_collection(folder, found)
    answers = {}
    for request in found:
        for window in range(WINDOWS):
            order = " > ".join(f"[{n}]" for n in draw.sample(range(1, 21), 20))
            reasoning = " ".join(draw.choices([*words, "[3]", "[12]"], k=1000))
            answers[request.query.qid, window] = f"<think>{reasoning}</think><answer>{order}</answer>"
    answered(folder, answers)


def measure(page: Path, width: int) -> dict[str, Any]:
    """Milliseconds in Chromium, at a width of the window in pixels."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with import_module("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.goto(page.as_uri())
        tab.wait_for_selector("main[data-drawn]")
        paints = tab.evaluate("performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)")
        session = tab.context.new_cdp_session(tab)
        session.send(
            "Performance.setTimeDomain", {"timeDomain": "threadTicks"}
        )  # CPU, which other programs do not slow
        session.send("Performance.enable")
        begin = _busy(session)
        times = tab.evaluate(OPEN, OPENED)
        busy = (_busy(session) - begin) / OPENED
        browser.close()
    return {
        "width": width, "first paint": round(paints[0]), "open": round(median(times)), "open, slowest": round(max(times)),
        "open, CPU of the page": round(1000 * busy),
    }  # fmt: skip


def _busy(session: Any) -> float:
    """The CPU seconds that the main thread of the page has worked."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def main() -> None:
    """Print the size of the page and its times as JSON lines."""
    with tempfile.TemporaryDirectory() as name:
        folder, page = Path(name), Path(name, "page.html")
        make_run(folder)
        inputs = {"--qrels": "qrels.txt", "--corpus": "corpus.jsonl"}
        words = [word for flag, file in inputs.items() for word in (flag, str(folder / file))]
        if command(["report", str(folder / "run.txt"), *words, "--output", str(page)]):
            sys.exit("the page was not written")
        print(json.dumps({"megabytes": round(page.stat().st_size / 1e6, 1)}))
        for width in (1440, 390):
            print(json.dumps(measure(page, width)), flush=True)


if __name__ == "__main__":
    main()
