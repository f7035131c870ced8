"""Readers of released rows whose prompts are complete: they train on the authors' bytes, and nothing is rendered again.

Three forms: turns with an answer (LLaMA-Factory's and ShareGPT's: ReasonRank's SFT file, RankZephyr's and FIRST's sets),
veRL's rows (ReasonRank's RL file), and R1-Ranker's Ranking-bench. A record that can't be used is named with its file, its
row and the field.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyserini_reasonrank.parsing.identifiers import identifiers, letters
from pyserini_reasonrank.parsing.parts import OPEN_ANSWER, split
from pyserini_reasonrank.records import Message
from pyserini_reasonrank.train.data.record_files import values
from pyserini_reasonrank.train.data.release import digest
from pyserini_reasonrank.train.data.rows import Audit, Row, fault_of

_PASSAGE = re.compile(r"^\[(\d+|[A-Z])\] ", re.MULTILINE)
_QUERY = re.compile(r"query:\s*(.+?)\.?\s*\Z", re.DOTALL | re.IGNORECASE)
_CHATML = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)(?:<\|im_end\|>\n?|\Z)", re.DOTALL)
_SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


class _BadField(Exception):
    """A field of a record is missing or has another type."""


def prompted_rows(form: str, path: Path, source: str, audit: Audit) -> Iterator[Row]:
    """The rows of a release of ``form`` (a key of ``FORMS``) at ``path``. ``audit`` counts the records."""
    for number, (where, record) in enumerate(values(path), 1):
        try:
            if not isinstance(record, dict):
                raise _BadField("not a record")
            row = FORMS[form](record, source, number)
        except _BadField as error:
            audit.note(str(error), where)
            continue
        if audit.note(fault_of(row), where):
            yield row


def _turns_row(record: Mapping[str, Any], source: str, number: int) -> Row:
    """A row of turns and the answer to imitate: ``system``, ``instruction``, ``input`` and ``output``, or ``conversations``.

    The gains are the labelled order alone: n - 1 for the first of n passages, 0 for the last.
    """
    turns = _conversation(record) if "conversations" in record else _instruction(record)
    *prompt, answer = turns
    if answer.role != "assistant" or not prompt or prompt[-1].role != "user":
        raise _BadField("the field conversations does not end with a question and an answer")
    query, names, passages = _shown(prompt[-1].content)
    lettered = not names[0].isdecimal()
    ids = letters(answer.content) if lettered else identifiers(split(answer.content).answer or "")
    docids = _distinct([digest(passage) for passage in passages])
    places = [i - 1 for i in ids]
    if sorted(places) != list(range(len(passages))):
        raise _BadField("the answer does not name each passage of the prompt once")
    gains = [0.0] * len(passages)
    for rank, place in enumerate(places):
        gains[place] = float(len(places) - 1 - rank)
    return Row(
        qid=digest(query),
        kind="first_token" if lettered else "permutation",
        docids=tuple(docids),
        gains=tuple(gains),
        prompt=tuple(prompt),
        first_stage=tuple(range(1, len(passages) + 1)),
        source=str(record.get("dataset") or source),
        query=query,
        tags=OPEN_ANSWER in answer.content,
        completion=(answer,),
        gold=tuple(docids[place] for place in places),
    )


def _verl_row(record: Mapping[str, Any], source: str, number: int) -> Row:
    """A row of veRL's form: ``prompt``, ``reward_model.ground_truth``, and the lists of ``extra_info``."""
    prompt = tuple(_message(turn, "role", "content", "prompt") for turn in _list(record, "prompt"))
    labels = record.get("extra_info") if isinstance(record.get("extra_info"), dict) else record
    truth = record.get("reward_model")
    if not isinstance(truth, dict) or not isinstance(truth.get("ground_truth"), str):
        raise _BadField("the field reward_model.ground_truth is missing or not a text")
    shown = [_text(docid, "initial_list") for docid in _list(labels, "initial_list")]
    relevant = {_text(docid, "relevant_docids") for docid in _list(labels, "relevant_docids")}
    places = [i - 1 for i in identifiers(truth["ground_truth"])]
    if sorted(places) != list(range(len(shown))):
        raise _BadField("the field reward_model.ground_truth does not name each passage of initial_list once")
    if strays := relevant.difference(shown):
        raise _BadField(f"the field relevant_docids has {len(strays)} that are not in initial_list")
    docids = _distinct(shown)
    query, *_ = _shown(prompt[-1].content) if prompt else ("", [], [])
    return Row(
        qid=digest(query),
        kind="permutation",
        docids=tuple(docids),
        gains=tuple(float(docid in relevant) for docid in shown),
        prompt=prompt,
        first_stage=tuple(range(1, len(shown) + 1)),
        source=str(record.get("dataset") or source),
        query=query,
        gold=tuple(docids[place] for place in places),
    )


def _bench_row(record: Mapping[str, Any], source: str, number: int) -> Row:
    """A row of Ranking-bench: ``task_name``, ``problem``, ``gt`` and ``candidates``; the answer is a candidate's name.

    ``problem`` is the text of the question, or a whole prompt in ChatML, whose last turn is the prefill.
    """
    task, problem, target = (_text(record.get(name), name) for name in ("task_name", "problem", "gt"))
    candidates = record.get("candidates")
    if isinstance(candidates, str):
        try:
            candidates = ast.literal_eval(candidates)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise _BadField("the field candidates is not a list of names") from None
    names = [_text(name, "candidates") for name in _list({"candidates": candidates}, "candidates")]
    if target not in names:
        raise _BadField("the field gt is not one of candidates")
    turns = [Message(role, content) for role, content in _CHATML.findall(problem)] or [Message("user", problem)]
    prefill = turns.pop().content if turns[-1].role == "assistant" else ""
    if not turns:
        raise _BadField("the field problem has no question")
    return Row(
        qid=f"{task}-{number}",
        kind="worst",
        docids=tuple(names),
        gains=tuple(float(name == target) for name in names),
        prompt=tuple(turns),
        first_stage=tuple(range(1, len(names) + 1)),
        source=task,
        query=turns[-1].content,
        prefill=prefill,
        choices=tuple(names),
    )


FORMS: Mapping[str, Callable[[Mapping[str, Any], str, int], Row]] = {
    "turns": _turns_row,
    "verl": _verl_row,
    "ranking-bench": _bench_row,
}
"""The reader of one record by the name of its form."""


def _shown(prompt: str) -> tuple[str, list[str], list[str]]:
    """The query, the identifiers and the passages of a listwise prompt: passages follow ``[1] `` at the start of a line."""
    found = [*_PASSAGE.finditer(prompt)]
    first = found[0][1] if found else ""
    names = [chr(ord("A") + i) if first == "A" else str(i + 1) for i in range(len(found))]
    starts, wanted = [], iter(names)
    expected = next(wanted, None)
    for match in found:  # a passage can have lines that start like another
        if match[1] == expected:
            starts.append(match)
            expected = next(wanted, None)
    query = _QUERY.search(prompt[: starts[0].start()]) if starts else None
    if query is None:
        raise _BadField("the prompt has no query before a list of passages")
    ends = [match.start() for match in starts[1:]] + [len(prompt)]
    passages = [prompt[match.end() : end].strip() for match, end in zip(starts, ends, strict=True)]
    passages[-1] = passages[-1].split("\n")[0]  # the tail of the prompt follows
    return query[1].strip(), names[: len(starts)], passages


def _instruction(record: Mapping[str, Any]) -> list[Message]:
    instruction = _text(record.get("instruction"), "instruction")
    more = record.get("input") or ""
    system = record.get("system") or ""
    question = f"{instruction}\n{_text(more, 'input')}" if more else instruction
    before = [Message("system", _text(system, "system"))] if system else []
    return [*before, Message("user", question), Message("assistant", _text(record.get("output"), "output"))]


def _conversation(record: Mapping[str, Any]) -> list[Message]:
    turns = [_message(turn, "from", "value", "conversations") for turn in _list(record, "conversations")]
    if len(turns) < 2:
        raise _BadField("the field conversations does not end with a question and an answer")
    return turns


def _message(turn: Any, role: str, content: str, field: str) -> Message:
    speaker = _SPEAKERS.get(str(turn.get(role))) if isinstance(turn, dict) else None
    if speaker is None or not isinstance(turn.get(content), str):
        raise _BadField(f"the field {field} has a turn without {role} or {content}")
    return Message(speaker, turn[content])


def _text(value: Any, field: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise _BadField(f"the field {field} is missing or not a text")
    return value


def _list(record: Any, field: str) -> Sequence[Any]:
    value = record.get(field)
    if not isinstance(value, list) or not value:
        raise _BadField(f"the field {field} is missing or not a list")
    return value


def _distinct(docids: Sequence[str]) -> list[str]:
    """The docids, with a number after each one that occurred before: the same passage can be shown twice."""
    seen = dict[str, int]()
    found = []
    for docid in docids:
        seen[docid] = seen.get(docid, 0) + 1
        found.append(docid if seen[docid] == 1 else f"{docid}-{seen[docid]}")
    return found
