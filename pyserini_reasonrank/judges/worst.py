"""Drop the worst of a set: one of them, as IRanker does (arXiv 2506.21638), or several in one answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from statistics import median_low
from typing import Annotated, Any, Literal

from pydantic import Field

from pyserini_reasonrank.judges import published
from pyserini_reasonrank.judges.matching import NameMatch, likest, match
from pyserini_reasonrank.judges.written import Written, identifier
from pyserini_reasonrank.parsing import labels_in, read_label, unanswered
from pyserini_reasonrank.parsing.parts import Parts, split, was_cut
from pyserini_reasonrank.records import Completion, Judgement, Prompt, Status

MOST_LINES = 200  # of an answer in which names are searched
TAIL = 40  # characters at the end of an untagged answer in which a name is searched
_PLACE = re.compile(r"\[?passage (\d+)\]?", re.IGNORECASE)
_LABELS = re.compile(r"\s*\[\d+\](?:[\s,>]*\[\d+\])*\s*")


class Worst(Written):
    """Shows a set and reads which passages to drop. An unreadable answer drops the last passage shown.

    The outcome is the candidates to drop, the worst first. If answers name titles (``match``), the published matching rules
    nearly always find a candidate; a match by another rule than the exact name counts as repaired. An answer that shares no
    word with any candidate is not readable, since its nearest candidate would be a guess.
    """

    kind = "worst"

    class Options(Written.Options):
        drop: Annotated[int, Field(ge=1, description="candidates to drop in one answer; at least one is left")] = 1
        match: Annotated[
            Literal["label", "name", "model"],
            Field(description="what an answer may name: labels; also names; also language models, by family and size"),
        ] = "label"

        labels: Annotated[
            Literal["numbers", "places"],
            Field(
                description="labels of the candidates; numbers: [1] for the first one shown; places: passage 0 for the first of "
                "the query's candidates, whatever is shown (IRanker)"
            ),
        ] = "numbers"
        parser: Annotated[
            published.WorstParser,
            Field(
                description="iranker: read one label as its release does, which always drops one; match has no effect"
            ),
        ] = "careful"

    @property
    def wording(self) -> Mapping[str, Any]:
        return {"drop": self.options.drop, "labels": self.options.labels}

    def wanted(self, n: int) -> int:
        """Return how many of ``n`` passages an answer should drop."""
        most: int = self.options.drop
        return max(1, min(most, n - 1))

    @property
    def begins(self) -> str:
        return "[" if self.options.match == "label" and self.options.labels == "numbers" else ""

    def reader_for(self, prompt: Prompt, shown: Sequence[str]) -> Callable[[Completion], Judgement]:
        places = prompt.places or range(len(shown))
        by_place = self.options.labels == "places"
        if self.options.parser == "iranker":
            labels = [f"passage {place}" if by_place else f"[{i}]" for i, place in enumerate(places, 1)]
            return partial(self.read_published, labels=labels)
        reader = self.reader(shown)
        return (lambda completion: reader(_numbered(completion, places))) if by_place else reader

    def reader(self, shown: Sequence[str]) -> Callable[[Completion], Judgement]:
        return super().reader(shown) if self.options.match == "label" else partial(self.read_names, shown=shown)

    def read(self, completion: Completion, n: int) -> Judgement:
        """Return a judgement whose order ends with the candidates that the labels in an answer name."""
        if self.wanted(n) == 1:
            position, judgement = read_label(completion, n, tags=self.options.tags)
            return judgement if position is None else dropping([position], n, judgement.reasoning, judgement.detail)
        parts = self._parts(completion, n)
        if isinstance(parts, Judgement):
            return parts
        answer = parts.answer or ""
        labels = [i - 1 for i in labels_in(completion, answer, n)]
        inside = [i for i in labels if 0 <= i < n]
        alone = _LABELS.fullmatch(answer) is not None
        if len(set(inside)) > self.wanted(n) and not alone:
            detail = f"{len(set(inside))} labels within words, of which {self.wanted(n)} are wanted"
            return Judgement(tuple(range(n)), Status.EMPTY, parts.reasoning, n, detail=detail)
        faults = {
            "no answer tag": self.options.tags and not parts.tagged,
            "labels in another form": not alone,
            f"{len(labels) - len(inside)} out of range": len(labels) > len(inside),
        }
        return self._judgement_of(inside, n, parts, faults)

    def read_published(self, completion: Completion, labels: Sequence[str]) -> Judgement:
        """Return the same for an answer that drops one of ``labels``, read as IRanker's release does."""
        position, judgement = published.read_iranker(completion, labels)
        return (
            judgement if position is None else dropping([position], len(labels), judgement.reasoning, judgement.detail)
        )

    def read_names(self, completion: Completion, shown: Sequence[str]) -> Judgement:
        """Return the same for an answer that gives titles, names or labels, one per line."""
        parts = self._parts(completion, len(shown))
        if isinstance(parts, Judgement):
            return parts
        untagged, wanted = self.options.tags and not parts.tagged, self.wanted(len(shown))
        answer = (parts.answer or "").strip()
        text = answer[-TAIL * wanted :] if untagged else answer
        lines = [line for line in text.splitlines() if line.strip()][:MOST_LINES]
        matched = (match(line, shown, models=self.options.match == "model") for line in lines)
        found = list(islice(filter(None, matched), wanted))
        if not found and (position := likest(" ".join(lines[:wanted]), shown)) is not None:
            found = [NameMatch(position, "similar words")]
        faults = {"no answer tag": untagged, **{m.rule: bool(m.rule) for m in found}}
        return self._judgement_of([m.position for m in found], len(shown), parts, faults)

    def _parts(self, completion: Completion, n: int) -> Parts | Judgement:
        """Return the parts of a completion, or a bad judgement if it has no answer."""
        if bad := unanswered(completion):
            return Judgement(tuple(range(n)), bad, filled=n, detail=completion.error or "")
        # a name may begin like any text
        cut = was_cut(completion, tags=self.options.tags) and (self.options.tags or self.options.match == "label")
        parts = split(completion.text, cut=cut)
        if parts.answer is None:
            return Judgement(tuple(range(n)), Status.TRUNCATED, parts.reasoning, n, detail="the thought was cut")
        return parts

    def _judgement_of(self, positions: Sequence[int], n: int, parts: Parts, faults: Mapping[str, bool]) -> Judgement:
        named, wanted = list(dict.fromkeys(positions)), self.wanted(n)
        if not named:
            detail = f"no {'label of a shown passage' if self.options.match == 'label' else 'candidate'} in the answer"
            return Judgement(tuple(range(n)), Status.EMPTY, parts.reasoning, n, detail=detail)
        all_faults = {
            **faults,
            f"{len(positions) - len(named)} repeated": len(named) < len(positions),
            f"{len(named)} named instead of {wanted}": len(named) != wanted,
        }
        detail = ", ".join(fault for fault, there in all_faults.items() if there)
        return dropping(named[:wanted], n, parts.reasoning, detail)

    @staticmethod
    def outcome(judgement: Judgement, indices: Sequence[int]) -> list[int]:
        """Return the indices to drop, the worst first."""
        return [indices[position] for position in reversed(judgement.order[-judgement.chosen :])]

    @staticmethod
    def agreed(outcomes: Sequence[Sequence[int]], indices: Sequence[int]) -> list[int]:
        """Return the candidates named most often, as many as the median vote drops."""
        votes = Counter(index for outcome in outcomes for index in outcome)
        ranked = sorted(indices, key=votes.__getitem__)[::-1]
        return ranked[: median_low(map(len, outcomes))]

    def unmoved(self, indices: Sequence[int]) -> list[int]:
        return list(indices[: -self.wanted(len(indices)) - 1 : -1])

    def ideal_for(self, places: Sequence[int], keep: int | None) -> Callable[[Sequence[float]], str]:
        return partial(self.ideal, places=places)

    def ideal(self, gains: Sequence[float], places: Sequence[int] | None = None) -> str:
        """Return the labels of the lowest gains, one per line; ties: last shown first. ``places`` as in ``Prompt``."""
        order = sorted(range(len(gains)), key=lambda i: (gains[i], -i))[: self.wanted(len(gains))]
        labels = [f"[{i + 1}]" for i in order]
        if self.options.labels == "places":
            labels = [f"passage {i if places is None else places[i]}" for i in order]
        return self.written(f"Of no use: {', '.join(labels)}.", "\n".join(labels))

    def names(self, n: int) -> tuple[str, ...] | None:
        """Return the labels of the first ``n`` candidates if they are names; None if they are numbers."""
        return tuple(f"passage {i}" for i in range(n)) if self.options.labels == "places" else None

    def pattern(self, n: int) -> str:
        """Match as many labels as passages to drop, one per line."""
        one = identifier(n) if self.options.labels == "numbers" else r"passage (0|[1-9]\d*)"
        return r"\n".join([one] * self.wanted(n))

    def answer_tokens(self, n: int) -> int:
        return (8 if self.options.match == "label" else 48) * self.wanted(n) + 16


def _numbered(completion: Completion, places: Sequence[int]) -> Completion:
    """Return a completion whose labels ``passage 7`` are the numbers of the candidates shown, ``[1]``; of others, one more."""
    numbers = {str(place): number for number, place in enumerate(places, 1)}
    text = _PLACE.sub(lambda found: f"[{numbers.get(found[1], len(places) + 1)}]", completion.text)
    return replace(completion, text=text)


def dropping(positions: Sequence[int], n: int, reasoning: str, detail: str) -> Judgement:
    """Return the judgement that drops ``positions`` of ``n``, the worst first."""
    order = (*(i for i in range(n) if i not in set(positions)), *reversed(positions))
    return Judgement(order, Status.REPAIRED if detail else Status.OK, reasoning, detail=detail, chosen=len(positions))
