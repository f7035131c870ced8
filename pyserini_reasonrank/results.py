"""The results of the Python API: a ranked list of documents, as objects, a DataFrame or lines of a run; a rewritten query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from pyserini_reasonrank.ir.run_writer import run_lines
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.records import Call, Judgement, Ranking, Segment, Status
from pyserini_reasonrank.rerankers.call_store import Trace

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """A ranked document. ``document`` is the object that was passed in.

    ``score`` falls strictly with the rank, as in a run. ``llm_score`` is the LLM's score or grade of this document; None if the
    LLM compared documents. ``first_stage_score`` is None if the document has none. ``confidence`` is set by
    combinations that compare several orders. ``segment`` is the best segment of a document that was judged in segments; its
    ``passage.text`` is what the LLM read.
    """

    document: Any
    docid: str
    rank: int
    score: float
    first_stage_score: float | None = None
    llm_score: float | None = None
    confidence: float | None = None
    segment: Segment | None = None


@dataclass(frozen=True, slots=True)
class JudgedDocuments:
    """One judgement: the documents that the LLM was shown together, and what it decided.

    ``docids`` are in the order shown, ``order`` in the order judged. ``status`` says whether the answer was readable,
    ``detail`` what was wrong with it. ``label`` names the step of the strategy, ``part`` the reranker if several are
    combined.
    """

    docids: tuple[str, ...]
    order: tuple[str, ...]
    status: Status
    reasoning: str = ""
    detail: str = ""
    score: float | None = None
    label: str = ""
    part: str = ""


@dataclass(frozen=True)
class RankedDocuments(Sequence[RankedDocument]):
    """The documents of one query, best first: a sequence of ``RankedDocument``.

    ``statuses`` counts the judgements by status; ``reasoning`` is all reasoning of the model; ``notes`` describe how a
    combination made the order; ``seconds`` is the wall time. ``judgements`` are the single judgements of documents, in the
    order in which they ended, without those of other texts, which the critic of ``aor`` grades; ``prompt_tokens`` and
    ``output_tokens`` count the tokens of all calls. ``dropped`` are the documents that the setting ``keep`` left out, with
    the ranks and scores after those of the others.
    """

    qid: str
    query: str
    documents: tuple[RankedDocument, ...]
    statuses: Mapping[Status, int] = field(default_factory=dict)
    reasoning: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    tag: str = "pyserini_reasonrank"
    judgements: tuple[JudgedDocuments, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0
    dropped: tuple[RankedDocument, ...] = ()

    @classmethod
    def of(cls, ranking: Ranking, documents: Sequence[Any], *, scored: bool, trace: Trace, tag: str) -> RankedDocuments:
        """The result for ``documents`` in the order they were passed in. ``scored``: they have first-stage scores."""
        ranked, n = ranking.ranked, len(ranking.kept)
        confidence = dict(enumerate(ranked.confidence))
        candidates = ranking.request.candidates
        placed = tuple(
            RankedDocument(
                documents[i],
                candidates[i].docid,
                rank,
                float(n + 1 - rank),
                candidates[i].score if scored else None,
                ranked.judged.get(i),
                confidence.get(rank - 1),
                ranked.segments.get(i),
            )
            for rank, i in enumerate((*ranking.kept, *ranking.left_out), 1)
        )
        query = ranking.request.query
        docids = {candidate.docid for candidate in candidates}
        judged = tuple(
            _judged(call, judgement) for call, judgement in trace.judgements if docids.issuperset(call.docids)
        )
        return cls(
            query.qid, query.text, placed[:n], ranked.statuses, ranked.reasoning, ranked.notes, ranking.seconds, tag,
            judged, trace.prompt_tokens, trace.output_tokens, placed[n:],
        )  # fmt: skip

    @overload
    def __getitem__(self, index: int) -> RankedDocument: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RankedDocument, ...]: ...
    def __getitem__(self, index: int | slice) -> RankedDocument | tuple[RankedDocument, ...]:
        return self.documents[index]

    def __len__(self) -> int:
        return len(self.documents)

    def top(self, k: int) -> list[RankedDocument]:
        """The first ``k`` documents."""
        return list(self.documents[:k])

    def relevance(self, document: RankedDocument) -> float:
        """A score in (0, 1] for one of the documents that falls with its rank: 1 for the first of n, 1/n for the last."""
        return document.score / len(self)

    def reasoning_of(self, docid: str) -> str:
        """The reasoning of the judgements that showed the document, in the order in which they ended."""
        return "\n\n".join(one.reasoning for one in self.judgements if one.reasoning and docid in one.docids)

    def to_dataframe(self) -> pandas.DataFrame:
        """One row per document: qid, query, docid, rank, score, first_stage_score, llm_score."""
        import pandas

        columns = ["qid", "query", "docid", "rank", "score", "first_stage_score", "llm_score"]
        rows = [
            (self.qid, self.query, d.docid, d.rank, d.score, d.first_stage_score, d.llm_score) for d in self.documents
        ]
        return pandas.DataFrame(rows, columns=columns)

    def to_run(self, qid: str | None = None, tag: str | None = None) -> str:
        """The lines of a TREC run. UsageError if a qid, docid or tag contains white space."""
        docids = [document.docid for document in self.documents]
        return run_lines(self.qid if qid is None else qid, docids, tag or self.tag, RunFormat.TREC)


@dataclass(frozen=True, slots=True)
class RewrittenQuery:
    """A query and what to search in its place.

    ``text`` is the text to search: the query, as often as the setting ``originals`` says, and the rewrite. ``rewrite`` is
    what the LLM wrote in the last readable answer; "" if no answer was readable, and ``text`` is then the query.
    ``statuses`` counts the answers by status, and ``detail`` says what was wrong with the last one. ``cut``: words of the text
    were left out at ``most_terms``. ``reasoning`` is that of all answers. Tokens are those of the calls, ``seconds`` is the
    wall time, searches between rounds included.
    """

    qid: str
    query: str
    text: str
    rewrite: str = ""
    statuses: Mapping[Status, int] = field(default_factory=dict)
    detail: str = ""
    cut: bool = False
    reasoning: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


def _judged(call: Call, judgement: Judgement) -> JudgedDocuments:
    order = tuple(call.docids[i] for i in judgement.order)
    return JudgedDocuments(
        call.docids,
        order,
        judgement.status,
        judgement.reasoning,
        judgement.detail,
        judgement.score,
        call.label,
        call.part,
    )
