"""The text of ``trace show``: a query with its rankings, and the calls behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyserini_reasonrank.cli.terminal import columns, one_line, styled, wrapped
from pyserini_reasonrank.records import Prompt, Status

DOCUMENTS = 20
"""The documents of the ranking that are shown without ``full``."""
LINES = 4
"""The lines of a prompt, a reasoning or an answer that are shown without ``full``."""

_INDENT = "  "
_TOGETHER = "\N{NO-BREAK SPACE}"
_LARGE = 1e6  # from here on, scores are written with an exponent
_LABEL = 11


@dataclass(frozen=True, slots=True)
class TracedQuery:
    """A query of a run. ``judgements`` are records of ``journal_reader.export``, ``ranking`` one of ``journal_reader.rankings``.

    ``prompts`` has the prompt of each call by part, number and turn, and whether it has the recorded hash. ``text`` is None
    and ``passages`` is empty if they are unavailable; ``note`` then gives the reason. ``rewritten``: the calls wrote a text to
    search, which is in the notes of ``ranking``, and ranked nothing.
    """

    qid: str
    run: str
    ranking: Mapping[str, Any]
    judgements: Sequence[Mapping[str, Any]]
    text: str | None = None
    passages: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[tuple[str, int, int], tuple[Prompt, bool]] = field(default_factory=dict)
    note: str = ""
    rewritten: bool = False


@dataclass(frozen=True, slots=True)
class TraceText:
    """Writes a query in lines of at most ``width`` columns; with ``full``, nothing is left out."""

    width: int
    colour: bool = False
    full: bool = False

    def lines(self, query: TracedQuery, calls: Sequence[Mapping[str, Any]], *, ranking: bool = True) -> Iterator[str]:
        """The lines about ``query``, its ranking if it is wanted, and ``calls``, which are some of its judgements."""
        yield from self._labelled("query", f"{query.qid}  {query.text or ''}", "bold")
        yield from self._labelled("run", query.run)
        yield from self._labelled("calls", _totals(query.judgements))
        for name, value in query.ranking["notes"].items():
            yield from self._labelled(name, str(value))
        if query.note:
            yield from self._labelled("note", query.note, "yellow")
        if ranking and not query.rewritten:
            yield ""
            yield from self._ranking(query)
        for judgement in calls:
            yield ""
            yield from self._judgement(query, judgement)

    def _ranking(self, query: TracedQuery) -> Iterator[str]:
        ranked = query.ranking["ranking"]
        shown = ranked if self.full else ranked[:DOCUMENTS]
        if not ranked:
            yield "The first stage returned no documents."
            return
        optional = [name for name in ("score", "fused") if any(name in line for line in ranked)]
        confidence = query.ranking["confidence"]
        head = ["rank", "first", "score", *({"score": "llm", "fused": "fused"}[name] for name in optional)]
        in_segments = any("segment" in line for line in ranked)
        head += ["segment"] if in_segments else []
        head += ["agree"] if confidence else []
        rows = []
        for rank, line in enumerate(shown, 1):
            first, score = line["first_stage"]
            row = [
                "out" if line.get("dropped") else str(rank),
                str(first),
                _number(score),
                *(_number(line.get(name)) for name in optional),
            ]
            row += [_segment(line.get("segment"))] if in_segments else []
            row += [_number(confidence[rank - 1]) if rank <= len(confidence) else ""] if confidence else []
            rows.append(row)
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        most = self.width // 4 if query.passages and not self.full else self.width
        names = [one_line(line["docid"], most) for line in shown]
        widest = max(columns("docid"), *map(columns, names))
        yield self._style("  ".join([*map(str.rjust, head, widths), "docid".ljust(widest), "passage"]).rstrip(), "bold")
        for row, name, line in zip(rows, names, shown, strict=True):
            cells = "  ".join(map(str.rjust, row, widths)) + f"  {name}{' ' * (widest - columns(name))}"
            passage = query.passages.get(line["docid"], "")
            if self.full:
                yield cells.rstrip()
                yield from (f"{_INDENT}{text}" for text in wrapped(passage, self.width - len(_INDENT)))
            else:
                room = self.width - columns(cells) - 2
                yield f"{cells}  {one_line(passage, room) if room > 0 else ''}".rstrip()
        if len(ranked) > len(shown):
            yield f"{len(ranked) - len(shown)} more documents; --full shows them"

    def _judgement(self, query: TracedQuery, judgement: Mapping[str, Any]) -> Iterator[str]:
        part, number, status = judgement["part"], judgement["call"], Status(judgement["status"])
        names = [f"call {part}:{number}" if part else f"call {number}", judgement["label"]]
        name = one_line(" - ".join(filter(None, names)), self.width - len(status) - 2)
        style = "green" if status is Status.OK else "red" if status.bad else "yellow"
        yield f"{self._style(name, 'bold')}  {self._style(str(status), style)}"
        if judgement["detail"]:
            yield from self._labelled("detail", judgement["detail"])
        score = "" if judgement["score"] is None else f", score {_number(judgement['score'])}"
        yield from self._labelled("cost", f"{_tokens(judgement['calls'])}{score}")
        if judgement["docids"]:
            yield from self._labelled("shown", _places(judgement["docids"]), limit=True)
        if len(judgement["docids"]) > 1 and not query.rewritten:
            place = {docid: at for at, docid in enumerate(judgement["docids"], 1)}
            kept = len(judgement["order"]) - judgement["filled"]
            order = " > ".join(f"[{place[docid]}]" for docid in judgement["order"][:kept])
            filled = f"; {judgement['filled']} not in the answer" if judgement["filled"] else ""
            yield from self._labelled("order", f"{order or 'none read'}{filled}")
        for turn, call in enumerate(judgement["calls"]):
            again = f" {turn + 1}" if len(judgement["calls"]) > 1 else ""
            if (found := query.prompts.get((part, number, turn))) is not None:
                yield from self._prompt(*found, again)
            yield from self._answer(
                call, again, last=turn == len(judgement["calls"]) - 1, reasoning=judgement["reasoning"]
            )
        if not judgement["calls"]:
            yield from self._labelled("answer", "none: the call failed, and failed calls are not recorded")

    def _prompt(self, prompt: Prompt, sent: bool, again: str) -> Iterator[str]:
        differs = "" if sent else "(differs from the prompt that was sent: other texts, tokenizer or version)\n"
        messages = prompt.messages if self.full else prompt.messages[-1:]
        turns = [f"{message.role}: {message.content}" for message in messages]
        turns += [f"assistant begins: {prompt.prefill}"] if prompt.prefill else []
        yield from self._labelled(f"prompt{again}", differs + "\n".join(turns), limit=True)

    def _answer(self, call: Mapping[str, Any], again: str, *, last: bool, reasoning: str) -> Iterator[str]:
        if last and reasoning:
            yield from self._labelled("reasoning", reasoning, limit=True)
        choices = call["choices"]
        if choices:
            of = "logit" if call.get("logits") else "log P"
            text = "\n".join(
                f"{of} = {_number(value)}  {one_line(choice, self.width // 2)}" for choice, value in choices.items()
            )
        else:
            text = call["error"] or call["text"]
            text = text.replace(reasoning, ELIDED, 1) if last and reasoning and not self.full else text
        stopped = "" if call["finish_reason"] == "stop" else f" (ended by {call['finish_reason']})"
        yield from self._labelled(f"answer{again}", (text or "empty") + stopped, limit=True)

    def _labelled(self, label: str, text: str, style: str | None = None, *, limit: bool = False) -> Iterator[str]:
        """A label, and beside it the text. With ``limit``, a longer text ends with the number of the lines left out."""
        lines = list(wrapped(text, self.width - _LABEL)) or [""]
        if limit and not self.full and len(lines) > LINES + 1:
            lines = [*lines[:LINES], self._style(f"{len(lines) - LINES} more lines; --full shows them", "dim")]
        for index, line in enumerate(lines):
            name = self._style(one_line(label, _LABEL - 1).ljust(_LABEL), "dim") if index == 0 else " " * _LABEL
            yield f"{name}{self._style(line, style) if style else line}".rstrip()

    def _style(self, text: str, style: str) -> str:
        return styled(text, style, colour=self.colour)


ELIDED = "(reasoning)"
"""What the answer shows in the place of the reasoning, which has lines of its own."""


def _totals(judgements: Sequence[Mapping[str, Any]]) -> str:
    calls = [call for judgement in judgements for call in judgement["calls"]]
    questions = (
        f"{len(judgements):,} judgement{'s' * (len(judgements) != 1)} from {len(calls):,} call{'s' * (len(calls) != 1)}"
    )
    return f"{questions}: {_tokens(calls)}"


def _tokens(calls: Sequence[Mapping[str, Any]]) -> str:
    read, written, seconds = (
        sum(call[name] for call in calls) for name in ("prompt_tokens", "output_tokens", "seconds")
    )
    return f"{read:,} tokens read, {written:,} written, {seconds:.1f} s"


def _places(docids: Sequence[str]) -> str:
    return "  ".join(f"[{place}]{_TOGETHER}{docid}" for place, docid in enumerate(docids, 1))


def _segment(found: Mapping[str, int] | None) -> str:
    """The best segment of a document, and their number."""
    return f"{found['number']}/{found['of']}" if found else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if abs(value) < _LARGE else f"{value:g}"
