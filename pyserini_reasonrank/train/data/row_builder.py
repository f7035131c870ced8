"""Build training rows from labelled lists: the prompt that the reranker sends, and the answer it should get.

Prompt, fitting and judge come from the reranker's settings through the code that serves it, so training sees the bytes
that serving sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges.score import TOP_GAIN as JUDGES_TOP
from pyserini_reasonrank.judges.score import RelevanceScore
from pyserini_reasonrank.judges.worst import Worst
from pyserini_reasonrank.judges.written import Written
from pyserini_reasonrank.models.catalogue import resolve
from pyserini_reasonrank.models.describe import read_config
from pyserini_reasonrank.parsing.parts import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, OPEN_THINK, split
from pyserini_reasonrank.records import Message, Request
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import fitter_for
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import PREFIX
from pyserini_reasonrank.settings.schema import Tree
from pyserini_reasonrank.strategies import ORDERS
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.rows import Audit, Fault, Kind, Row, audited
from pyserini_reasonrank.train.rewards.reference import two_words, word_for


class RowBuilder:
    """Builds the rows of labelled lists for one reranker.

    ``top_gain`` is the highest gain of the labels; it becomes the top of a graded scale.
    """

    def __init__(
        self,
        reranker: str,
        model: str,
        flags: Tree,
        *,
        widest: int,
        top_gain: float = 1.0,
        thoughts: bool = True,
        like: str | None = None,
    ) -> None:
        """``flags`` are the reranker's settings (``--rerank.KEY``), ``widest`` the most passages that a prompt shows.
        Without ``thoughts``, an answer to imitate is the tagged answer alone. ``like`` is the known checkpoint whose prompt
        and passage form the rows have; default: those known for ``model``.

        UsageError if there are no training rows for this reranker, or if the model's context is unknown.
        """
        settings, warnings = layers.load(reranker, {**flags, "model": like or model})
        if settings.combine:
            raise UsageError(f"{reranker} combines several rerankers: name the single reranker to train")
        trained = model if like else settings.model
        found = resolve(trained, revision=settings.revision, adapter=None, context=settings.max_model_len)
        config = read_config(found.source) if found.context is None and Path(found.source).is_dir() else None
        context = found.context or (config and config.positions)
        if context is None:
            raise UsageError(
                f"the context length of {model} is unknown before it is loaded: set {PREFIX}.max_model_len"
            )
        # No LLM is called here, so the oracle engine replaces the real one; tokenizer and context are the model's.
        unloaded = {"engine": {"name": "oracle"}, "tokenizer": found.source, "max_model_len": context}
        made = plan(settings.model_copy(update=unloaded), warnings).parts[""]
        if made.judge.kind not in get_args(Kind):
            raise UsageError(f"there are no training rows for a judge of kind {made.judge.kind}")
        if isinstance(made.judge, Worst):
            _check_one_label(reranker, made.judge)
        if isinstance(made.judge, RelevanceScore):
            _check_answers(reranker, made.judge)
        served = estimate(made, settings.depth).widest
        shown = served if made.judge.kind == "score" else max(served, widest)
        self.judge, self.fitter = made.judge, fitter_for(made, shown)
        self.kind, self.warnings = cast(Kind, made.judge.kind), made.warnings
        self._top_gain, self._thoughts = top_gain, thoughts

    def rows(self, labelled: LabelledList) -> Iterator[Row]:
        """One row for the list, or one row for each passage if the judge is pointwise. UsageError if the query is too long."""
        self.fitter.check(labelled.query)
        if not self.takes_reasoning(labelled):
            labelled = replace(labelled, reasoning="")
        prepared = self.fitter.prepare(Request(labelled.query, labelled.candidates))
        everything = range(len(labelled.candidates))
        for places in [(place,) for place in everything] if self.kind == "score" else [tuple(everything)]:
            one = labelled.shown(places)
            prompt = self.fitter.render(prepared, places)
            opening, answer, grade = self._answer(one)
            yield Row(
                qid=one.query.qid,
                kind=self.kind,
                docids=tuple(c.docid for c in one.candidates),
                gains=one.gains,
                prompt=prompt.messages,
                first_stage=one.first_stage,
                source=one.source,
                query=one.query.text,
                prefill=prompt.prefill + opening,
                tags=self._tags,
                completion=(Message("assistant", _continuing(prompt.prefill, answer)),),
                gold=one.gold if self.kind in ORDERS else None,
                grade=grade,
                choices=self._choices(len(places)),
                teacher=one.teacher,
            )

    def usable_rows(self, labelled: LabelledList, audit: Audit) -> Iterator[Row]:
        """The rows that can be trained on. ``audit`` counts all rows, and each query that does not fit the context."""
        try:
            made = list(self.rows(labelled))
        except UsageError:  # the query, or the frame for this many passages, fills the context
            audit.note(Fault.TOO_LONG, f"{labelled.source} {labelled.query.qid}")
            return
        yield from audited(made, audit)

    def takes_reasoning(self, labelled: LabelledList) -> bool:
        """Whether the rows of this list take its reasoning: it must explain the answer that the row asks for."""
        if isinstance(self.judge, RelevanceScore):
            return bool(self.judge.options.think) and len(labelled.candidates) == 1
        return self._thoughts and self.kind in ORDERS and isinstance(self.judge, Written) and self._tags

    def reasoning_report(self, lists: Iterable[LabelledList]) -> list[str]:
        """A line on the lists whose reasoning is left out; no line if there is none."""
        taken = [self.takes_reasoning(labelled) for labelled in lists if labelled.reasoning]
        lost = taken.count(False)
        why = "it explains more than a row shows or asks for"
        return [f"the reasoning of {lost:,} of {len(taken):,} lists is left out: {why}"] if lost else []

    def _choices(self, n: int) -> tuple[str, ...] | None:
        """The possible answers of a score, or the names of ``n`` candidates; None if they are numbered."""
        if isinstance(self.judge, RelevanceScore):
            return tuple(self.judge.choices)
        return self.judge.names(n) if isinstance(self.judge, Worst) else None

    @property
    def _tags(self) -> bool:
        if isinstance(self.judge, RelevanceScore):
            return bool(self.judge.options.think) and OPEN_ANSWER in self.judge.options.opening
        return bool(getattr(self.judge.options, "tags", True))

    def _answer(self, labelled: LabelledList) -> tuple[str, str, float | None]:
        """The start of the assistant's turn after the prompt's prefill, the right answer, and its grade."""
        if isinstance(self.judge, RelevanceScore):
            return self._score(self.judge, labelled)
        gains = labelled.gains
        if labelled.gold is not None and self.kind in ORDERS:
            ranks = {docid: rank for rank, docid in enumerate(labelled.gold)}
            gains = tuple(float(len(ranks) - ranks[c.docid]) for c in labelled.candidates)
        ideal = self.judge.ideal(gains)
        if not self._thoughts and self._tags:
            return "", f"{OPEN_ANSWER}{split(ideal).answer or ''}{CLOSE_ANSWER}", None
        if labelled.reasoning and isinstance(self.judge, Written):
            ideal = self.judge.written(_plain(labelled.reasoning), split(ideal).answer or "")
        return "", ideal, None

    def _score(self, judge: RelevanceScore, labelled: LabelledList) -> tuple[str, str, float]:
        gain = labelled.gains[0]
        relevant = labelled.relevant[0] if labelled.relevant else gain > 0
        chances = judge.ideal_choices([gain / self._top_gain * JUDGES_TOP], judge.choices)
        words = two_words(judge.choices)
        choice = word_for(words, relevant) if words else max(judge.choices, key=lambda c: chances[c])
        grade = float(choice) if choice.isdecimal() else float(relevant)
        opening = judge.options.opening
        answer = choice + (CLOSE_ANSWER if OPEN_ANSWER in opening else "")
        if not judge.options.think:
            return opening, answer, grade
        thought = (
            f"{OPEN_THINK}{_plain(labelled.reasoning)}{CLOSE_THINK}" if labelled.reasoning else judge.ideal([gain])
        )
        return "", thought + opening + answer, grade


def _check_answers(reranker: str, judge: RelevanceScore) -> None:
    """UsageError if the judge has one answer, which would be the right one for every passage."""
    if len(judge.choices) == 1:
        raise UsageError(
            f"there are no training rows for {reranker}: its score is the logit of one answer, {judge.choices[0]!r}, which is "
            "the answer for every passage; train with two --rerank.judge.answers and --rerank.judge.value difference"
        )


def _check_one_label(reranker: str, judge: Worst) -> None:
    """UsageError unless an answer is the label of one passage: no reward reads other answers."""
    if judge.options.match != "label":
        raise UsageError(
            f"there are no training rows for {reranker}: its answers are names (judge.match: {judge.options.match}), "
            f"and rewards read labels only; train iranker, which asks for labels"
        )
    if judge.options.drop > 1:
        raise UsageError(
            f"there are no training rows for judge.drop: {judge.options.drop}: an exclusion case drops one passage; "
            f"train with {PREFIX}.judge.drop 1"
        )


def _continuing(prefill: str, answer: str) -> str:
    """The part of ``answer`` that follows ``prefill``: a prefill often ends with the answer's own start, as <think>."""
    begun = prefill.rstrip()
    shared = next(n for n in range(min(len(begun), len(answer)), -1, -1) if begun.endswith(answer[:n]))
    return answer[shared:]


def _plain(reasoning: str) -> str:
    """The reasoning without think and answer tags, which would end it early."""
    for tag in (OPEN_THINK, CLOSE_THINK, OPEN_ANSWER, CLOSE_ANSWER):
        reasoning = reasoning.replace(tag, "")
    return reasoning.strip()
