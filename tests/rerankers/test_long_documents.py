"""Documents judged in segments: which text is asked about, how it is joined, recorded, counted, and passed on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from typing import Any

import pytest
from conftest import RunReranker

from pyserini_reasonrank import Reranker, UsageError
from pyserini_reasonrank.cli import explain, trace
from pyserini_reasonrank.engines import Engine, EngineOptions
from pyserini_reasonrank.ir.documents import read_document
from pyserini_reasonrank.journal_reader import rankings
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.prompts.segments import Segments
from pyserini_reasonrank.prompts.tokens import EstimatedTokens
from pyserini_reasonrank.records import Call, Candidate, Capability, Completion, Prompt, Query, Request, Sampling
from pyserini_reasonrank.report.page_data import ReportOptions, page_data
from pyserini_reasonrank.report.run_inputs import read_run_input
from pyserini_reasonrank.rerankers.segments import Segmenter
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.serve.dialects import RerankRequest, rerank_response
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import lift

FILLER = "Lamps are bright at night. " * 40
NEEDLE = "Moths fly by the moon. "
SEGMENTS = {"tokens": 60, "stride": 30, "most": 20}


class Finder(Engine[EngineOptions]):
    """Judges a text relevant if it has certain words; fails for texts with given words, and can write an order."""

    name = "finder"

    def __init__(self, failing: str = "") -> None:
        super().__init__(Model("finder", "finder"), EngineOptions())
        self.capabilities = frozenset({Capability.PREFILL, Capability.CHOICES})
        self.failing, self.prompts = failing, list[str]()

    def identity(self, call: Call) -> str:
        return "finder"

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        text = prompt.messages[-1].content
        self.prompts.append(text)
        if self.failing and self.failing in text:
            return Completion(finish_reason="error", error="broken")
        if sampling.choices:
            p = 0.9 if "by the moon" in text else 0.4 if "Moths" in text else 0.1
            return Completion(choices={sampling.choices[0]: log(p), sampling.choices[1]: log(1 - p)})
        return Completion("[1] > [2]")


def document(place: int, **fields: str) -> dict[str, str]:
    """A document of forty sentences with the answer before sentence ``place``; without it if that is negative."""
    sentences = [f"{sentence}. " for sentence in FILLER.split(". ") if sentence.strip()]
    if place >= 0:
        sentences.insert(place, NEEDLE)
    return {"text": "".join(sentences), **fields}


def reranker(engine: Finder, name: str = "rank1", **settings: Any) -> Reranker:
    given: dict[str, Any] = {"segments": SEGMENTS, **settings}
    if name == "rank1":
        given["judge"] = {"think": False}
    return Reranker(name, engine=engine, **given)


def candidate(record: Mapping[str, Any]) -> Candidate:
    found = read_document(record)
    assert found is not None
    return Candidate("d", 0.0, found.text, found.fields)


# --- what is asked about


def test_the_best_segment_decides() -> None:
    engine = Finder()
    documents = [document(-1), document(25, title="Insects"), {"text": "Moths."}]
    with reranker(engine) as made:
        ranked = made.rank("how do moths navigate", documents)
    assert [one.docid for one in ranked] == ["1", "2", "0"]
    assert [one.llm_score for one in ranked] == pytest.approx([0.9, 0.4, 0.1])
    best = ranked[0].segment
    assert best is not None
    assert "by the moon" in documents[1]["text"][best.start_char : best.end_char]
    assert best.passage.text.startswith("Insects. ")
    assert best.number > 1
    assert ranked[1].segment is not None
    assert (ranked[1].segment.number, ranked[1].segment.of) == (1, 1)
    asked = [one for one in ranked.judgements if one.docids == ("1",)]
    assert [one.label for one in asked] == [f"segment {i} of {best.of}" for i in range(1, best.of + 1)]
    assert len(engine.prompts) == len(set(engine.prompts))  # equal segments are asked about once


@pytest.mark.parametrize(("join", "score"), [("max", 0.9), ("first", 0.1), ("mean-top-2", 0.9)])
def test_joins(join: str, score: float) -> None:
    with reranker(Finder(), segments={**SEGMENTS, "join": join}) as made:
        ranked = made.rank("how do moths navigate", [document(25)])
    assert ranked[0].llm_score == pytest.approx(score)
    assert (len(ranked.judgements) == 1) == (join == "first")


def test_a_document_keeps_its_rank_if_all_its_segments_fail() -> None:
    documents = [document(-1, title="Good"), document(20, title="Broken"), document(20, title="Better")]
    with reranker(Finder(failing="Broken"), on_error="keep") as made:
        ranked = made.rank("how do moths navigate", documents)
    assert [one.docid for one in ranked] == ["2", "1", "0"]
    assert ranked[1].llm_score is None
    assert ranked[1].segment is None


def test_one_readable_segment_is_enough() -> None:
    with reranker(Finder(failing="bright"), on_error="keep", segments={"tokens": 8, "stride": 8, "most": 200}) as made:
        ranked = made.rank("how do moths navigate", [document(-1), document(20)])
    assert ranked[0].docid == "1"
    assert ranked[0].llm_score is not None


@pytest.mark.parametrize("title", ["", "A title that is much longer than it should be, as some titles are. " * 9])
def test_segments_have_the_title_within_their_limit(title: str) -> None:
    options = Segments(tokens=60, stride=30, most=20)
    tokens = EstimatedTokens()
    found = Segmenter(options, tokens).segments(candidate(document(3, title=title, url="u" * 500)))
    assert len(found) == options.count(len(tokens.starts(document(3)["text"], 1 << 20)))
    for segment in found:
        assert segment.passage.docid == "d"
        assert segment.passage.text.startswith(title[: options.field_tokens * 3].strip())
        [(_, count)] = tokens.cut([segment.passage.text], 1 << 20)
        assert count <= options.shown_tokens
        assert set(segment.passage.fields) == ({"title", "text", "url"} if title else {"text", "url", "title"})


def test_a_long_title_leaves_room_for_a_short_text() -> None:
    title = "A title that is much longer than it should be. " * 20
    segmenter = Segmenter(Segments(tokens=60), EstimatedTokens())
    [found] = segmenter.segments(candidate({"title": title, "text": "The text."}))
    assert found.passage.text.endswith("The text.")
    assert len(found.passage.text) < 60 * 3
    assert (found.of, found.start_char, found.end_char) == (1, 0, 9)
    [alone] = segmenter.segments(candidate({"title": title, "text": ""}))
    assert alone.passage.text == title.strip()


def test_a_short_document_is_shown_as_without_segments() -> None:
    whole, segmented = Finder(), Finder()
    for engine, segments in ((whole, None), (segmented, SEGMENTS)):
        with reranker(engine, segments=segments) as made:
            made.rank("q", [{"title": "T", "text": "Short. Text."}, "plain", {"title": "only a title"}])
    assert whole.prompts == segmented.prompts


# --- the cost


def test_the_cost_is_that_of_the_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    text = document(5)["text"]
    length = len(EstimatedTokens().starts(text, 1 << 20))
    flags = ["--rerank", "rank1", "--rerank.engine.name", "oracle", "--rerank.segments.tokens", "60"]
    assert explain.main([*flags, "--rerank.depth", "3", "--document-tokens", str(length)]) == 0
    said = capsys.readouterr().out
    with reranker(Finder(), segments={"tokens": 60}) as made:
        ranked = made.rank("q", [{"id": str(i), "text": text} for i in range(3)])
        assert made.cost(3).questions == 3 * 8
    predicted = Segments(tokens=60).count(length)
    assert len(ranked.judgements) == 3 * predicted
    assert f"questions{3 * predicted:>31}" in said
    assert f"counted for {predicted} segments of every document" in said


def test_a_length_needs_segments() -> None:
    with pytest.raises(UsageError, match="--document-tokens needs documents in segments"):
        explain.main(["--rerank", "rank1", "--rerank.engine.name", "oracle", "--document-tokens", "900"])


def test_votes_and_cascades_are_counted() -> None:
    flags = "--rerank coranking --rerank.engine.name oracle --rerank.arms.small.reranker rank1 --rerank.depth 10"
    name, tree, _ = lift([*flags.split(), "--rerank.arms.small.segments.most", "3", "--rerank.arms.small.depth", "10"])
    cost = estimate(plan(*layers.load(name, tree)), 10)
    assert cost.parts["small"].questions == 30
    assert cost.parts["large"].questions == 1


# --- refusals


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "rearank --rerank.segments.tokens 64",
            r"needs a judge that scores one passage .*not permutation: use a cascade",
        ),
        ("grouprank --rerank.segments.tokens 64", r"needs a judge that scores one passage .*not grades"),
        ("rank1 --rerank.segments.stride 300", r"segments\.stride 300 is above --rerank\.segments\.tokens 256"),
        ("rank1 --rerank.segments 64", r"use --rerank\.segments\.tokens 64"),
        ("rank1 --rerank.segments.tokens 64 --rerank.passage.words 9", r"passage\.words would cut segments"),
        ("coranking --rerank.segments.tokens 64", r"set --rerank\.arms\.NAME\.segments"),
        ("rank1 --rerank.segments.join sum", r"segments\.join"),
    ],
)
def test_refusals(flags: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan(*layers.load(*lift(["--rerank", *flags.split(), "--rerank.engine.name", "oracle"])[:2]))


# --- what the large reranker of a cascade reads


@pytest.mark.parametrize("show", ["segment", "document"])
def test_the_large_reranker_reads_the_best_segment(show: str) -> None:
    engine = Finder()
    arms = {
        "small": {"reranker": "rank1", "judge": {"think": False}, "segments": SEGMENTS},
        "large": {"passage_tokens": 90},
    }
    documents: list[Any] = [document(-1), document(30, title="Insects"), "Short."]
    with Reranker("coranking", engine=engine, arms=arms, combine={"keep": 2, "show": show}) as made:
        ranked = made.rank("how do moths navigate", documents)
    listwise = engine.prompts[-1]
    assert ("by the moon" in listwise) == (show == "segment")
    assert "Insects" in listwise
    assert ranked[0].segment is not None
    assert {one.document if isinstance(one.document, str) else one.document["text"] for one in ranked} == {
        one if isinstance(one, str) else one["text"] for one in documents
    }


# --- records


def test_trace_journal_and_report_name_the_segment(
    run_reranker: RunReranker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = [Request(Query("q", "moths"), tuple(candidates_of([document(3), {"text": "Short."}])))]
    qrels, first = tmp_path / "q.txt", tmp_path / "first.txt"
    qrels.write_text("q 0 d0 3\n")
    first.write_text("q Q0 d0 1 2 f\nq Q0 d1 2 1 f\n")
    flags = {"engine": {"name": "oracle", "qrels": str(qrels)}, "segments": SEGMENTS}
    outcome = run_reranker("rank1", flags, requests=requests, first_run=first)
    segments = Segments(**SEGMENTS).count(len(EstimatedTokens().starts(document(3)["text"], 1 << 20)))  # type: ignore[arg-type]
    assert outcome.tally.judgements == segments + 1
    [ranking] = rankings(outcome.journal)
    places = {line["docid"]: line["segment"] for line in ranking["ranking"]}
    assert places["d0"]["of"] == segments
    assert places["d1"] == {"number": 1, "of": 1, "start_char": 0, "end_char": 6}
    assert trace.main(["show", str(outcome.output), "--qid", "q"]) == 0
    shown = capsys.readouterr().out
    assert f"{places['d0']['number']}/{segments}" in shown
    assert f"segment 2 of {segments}" in shown
    assert trace.main(["rankings", str(outcome.output)]) == 0
    assert json.loads(capsys.readouterr().out)["ranking"][0]["segment"] == places["d0"]
    page = page_data([read_run_input(outcome.output, None)], ReportOptions())
    assert page.details
    assert read_run_input(outcome.output, None).segments == {"q": {"d0": f"{places['d0']['number']} of {segments}"}}
    assert outcome.parts[""].settings["segments"]["tokens"] == 60


def candidates_of(records: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    return [Candidate(f"d{i}", -float(i), made.text, made.fields) for i, made in enumerate(map(candidate, records))]


def test_a_server_names_the_segment() -> None:
    request = RerankRequest(query="moths", documents=[document(25)["text"]])
    with reranker(Finder()) as made:
        ranked = made.rank(request.query, request.documents)
    [result] = rerank_response(request, "m", ranked, {"0": 0}, 0, "2")["results"]
    assert ranked[0].segment is not None
    assert result["segment"] == ranked[0].segment.place
