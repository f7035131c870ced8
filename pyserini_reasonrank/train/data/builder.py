"""A reranker's question as it will be served, with the answer it should get: from passages with gains to a row.

Prompt, fitting and judge come out of the settings of a reranker by the way that serves it, so training sees the bytes
that serving will send.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.judges.score import TOP_GAIN as JUDGES_TOP
from pyserini_reasonrank.judges.score import RelevanceScore
from pyserini_reasonrank.judges.worst import Worst
from pyserini_reasonrank.judges.written import Written
from pyserini_reasonrank.models.catalogue import resolve
from pyserini_reasonrank.models.describe import read_config
from pyserini_reasonrank.parsing import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, OPEN_THINK, split
from pyserini_reasonrank.records import Candidate, Message, Query, Request
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.session import fitter_for
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import PREFIX
from pyserini_reasonrank.settings.schema import Tree
from pyserini_reasonrank.strategies import ORDERS
from pyserini_reasonrank.train.data.rows import Audit, Fault, Kind, Row, audited


@dataclass(frozen=True, slots=True)
class Listed:
    """A query and passages in the order to show them, with what is known of them.

    ``gains``, ``first_stage`` (ranks, from 1) and ``teacher`` are by passage. ``gold`` is a labelled order, docids best
    first, and ``reasoning`` the thought that led to it, about the passages in the order given. ``relevant`` says which
    are, where the labels draw that line elsewhere than above a gain of 0.
    """

    query: Query
    candidates: tuple[Candidate, ...]
    gains: tuple[float, ...]
    first_stage: tuple[int, ...]
    source: str
    gold: tuple[str, ...] | None = None
    reasoning: str = ""
    teacher: tuple[float, ...] | None = None
    relevant: tuple[bool, ...] | None = None

    def shown(self, places: Sequence[int]) -> Listed:
        """The passages at ``places``, in that order; without the thought, unless those are all in the order given."""
        docids = {self.candidates[place].docid for place in places}
        return replace(
            self,
            candidates=tuple(self.candidates[place] for place in places),
            gains=tuple(self.gains[place] for place in places),
            first_stage=tuple(self.first_stage[place] for place in places),
            gold=self.gold and tuple(docid for docid in self.gold if docid in docids),
            reasoning=self.reasoning if [*places] == [*range(len(self.candidates))] else "",
            teacher=self.teacher and tuple(self.teacher[place] for place in places),
            relevant=self.relevant and tuple(self.relevant[place] for place in places),
        )


class Asking:
    """Makes rows of what is listed, in the form in which the reranker will ask.

    ``top_gain`` is the highest gain of the labels: the top of a scale from 0 to 10.
    """

    def __init__(self, reranker: str, model: str, flags: Tree, *, widest: int, top_gain: float = 1.0) -> None:
        """``flags`` are the reranker's own settings, ``--rerank.KEY``; ``widest``: passages in a prompt, at most."""
        settings, warnings = layers.load(reranker, {**flags, "model": model})
        if settings.combine:
            raise UsageError(f"{reranker} combines several rerankers; name the one that is to be trained")
        found = resolve(settings.model, revision=settings.revision, adapter=None, context=settings.max_model_len)
        config = read_config(found.source) if found.context is None and Path(found.source).is_dir() else None
        context = found.context or (config and config.positions)
        if context is None:
            raise UsageError(f"the context of {model} is not known before it is loaded: give {PREFIX}.max_model_len")
        # Nothing is asked here, so an engine that loads nothing stands in; tokenizer and context stay the model's.
        unasked = {"engine": {"name": "oracle"}, "tokenizer": found.source, "max_model_len": context}
        made = plan(settings.model_copy(update=unasked), warnings).parts[""]
        if made.judge.kind not in get_args(Kind):
            raise UsageError(f"there are no training rows for a judge of kind {made.judge.kind}")
        if isinstance(made.judge, Worst):
            _check_one_label(reranker, made.judge)
        served = estimate(made, settings.depth).widest
        self.judge, self.fitter = (
            made.judge,
            fitter_for(made, served if made.judge.kind == "score" else max(served, widest)),
        )
        self.kind, self.warnings = cast(Kind, made.judge.kind), made.warnings
        self._top_gain = top_gain

    def rows(self, listed: Listed) -> Iterator[Row]:
        """One row that shows all passages; of a judge that scores, one for each. UsageError if the query is too long."""
        self.fitter.check(listed.query)
        if not self.thinks(listed):
            listed = replace(listed, reasoning="")
        prepared = self.fitter.prepare(Request(listed.query, listed.candidates))
        everything = range(len(listed.candidates))
        for places in [(place,) for place in everything] if self.kind == "score" else [tuple(everything)]:
            one = listed.shown(places)
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
                choices=self.judge.choices if isinstance(self.judge, RelevanceScore) else None,
                teacher=one.teacher,
            )

    def fitting(self, listed: Listed, audit: Audit) -> Iterator[Row]:
        """The same, those that can be trained on; ``audit`` counts all of them and a query without room."""
        try:
            made = list(self.rows(listed))
        except UsageError:  # the query, or the frame for so many passages, fills the context
            audit.note(Fault.TOO_LONG, f"{listed.source} {listed.query.qid}")
            return
        yield from audited(made, audit)

    def thinks(self, listed: Listed) -> bool:
        """Whether a thought about these passages belongs before the answer: it is about their order, or about the one."""
        if isinstance(self.judge, RelevanceScore):
            return bool(self.judge.options.think) and len(listed.candidates) == 1
        return self.kind in ORDERS and isinstance(self.judge, Written) and self._tags

    def unthought(self, lists: Iterable[Listed]) -> list[str]:
        """What there is to report of thoughts that go into no row."""
        kept = [self.thinks(listed) for listed in lists if listed.reasoning]
        lost = kept.count(False)
        why = "they are about more than a row shows or asks for"
        return [f"the thoughts of {lost:,} of {len(kept):,} lists left out: {why}"] if lost else []

    @property
    def _tags(self) -> bool:
        if isinstance(self.judge, RelevanceScore):
            return bool(self.judge.options.think) and OPEN_ANSWER in self.judge.options.opening
        return bool(getattr(self.judge.options, "tags", True))

    def _answer(self, listed: Listed) -> tuple[str, str, float | None]:
        """What the assistant's turn begins with beside the prompt's prefill, the right answer, and its grade."""
        if isinstance(self.judge, RelevanceScore):
            return self._score(self.judge, listed)
        gains = listed.gains
        if listed.gold is not None and self.kind in ORDERS:
            ranks = {docid: rank for rank, docid in enumerate(listed.gold)}
            gains = tuple(float(len(ranks) - ranks[c.docid]) for c in listed.candidates)
        ideal = self.judge.ideal(gains)
        if listed.reasoning and isinstance(self.judge, Written):
            ideal = self.judge.written(_plain(listed.reasoning), split(ideal).answer or "")
        return "", ideal, None

    def _score(self, judge: RelevanceScore, listed: Listed) -> tuple[str, str, float]:
        gain = listed.gains[0]
        relevant = listed.relevant[0] if listed.relevant else gain > 0
        chances = judge.ideal_choices([gain / self._top_gain * JUDGES_TOP], judge.choices)
        choice = max(judge.choices, key=lambda c: chances[c]) if len(judge.choices) > 2 else judge.choices[not relevant]
        grade = float(choice) if choice.isdecimal() else float(relevant)
        opening = judge.options.opening
        answer = choice + (CLOSE_ANSWER if OPEN_ANSWER in opening else "")
        if not judge.options.think:
            return opening, answer, grade
        thought = f"{OPEN_THINK}{_plain(listed.reasoning)}{CLOSE_THINK}" if listed.reasoning else judge.ideal([gain])
        return "", thought + opening + answer, grade


def _check_one_label(reranker: str, judge: Worst) -> None:
    """UsageError unless an answer is the label of one passage, which is all that an answer is rewarded for."""
    if judge.options.match != "label":
        raise UsageError(
            f"there are no training rows for {reranker}: its answers are names (judge.match: {judge.options.match}), "
            f"and only a label can be rewarded; train iranker, which asks for labels"
        )
    if judge.options.drop > 1:
        raise UsageError(
            f"there are no training rows for judge.drop: {judge.options.drop}: a case of exclusion drops one passage; "
            f"train with {PREFIX}.judge.drop 1"
        )


def _continuing(prefill: str, answer: str) -> str:
    """``answer`` as it goes on after ``prefill``, whose end is often the answer's own beginning: the opened thought."""
    begun = prefill.rstrip()
    shared = next(n for n in range(min(len(begun), len(answer)), -1, -1) if begun.endswith(answer[:n]))
    return answer[shared:]


def _plain(reasoning: str) -> str:
    """A thought without tags of its own, which would end it early."""
    for tag in (OPEN_THINK, CLOSE_THINK, OPEN_ANSWER, CLOSE_ANSWER):
        reasoning = reasoning.replace(tag, "")
    return reasoning.strip()
