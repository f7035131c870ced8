"""Which of the texts shown did an answer name? Titles and model names, matched as R1-Ranker's evaluation matches them.

The rules, from strict to lax (arXiv 2506.21638, published evaluation): the name; the name in other case; a label; one
within the other; nearly all letters of it; for language models, the same family, version and size. A rule that several
candidates meet leaves the choice among them to the next. Last of all comes the likeness of the words.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import islice
from math import log, sqrt
from typing import NamedTuple

LCS_SHARE = 0.9  # of a name's letters, in order, that an answer must hold
MODEL_SHARE, MODEL_ACCEPT = 0.7, 0.5  # weight of a model's attributes against its letters; the least that counts
HEADS = 3  # beginnings of a text that may be its name

_SENTENCE_END = re.compile(r"[.!?]+\s")
_HEAD_END = re.compile(r"[.:;!?|]+\s|\s[(|\[–—-]")
_LEAD = re.compile(r"\s*(?:\[\d+\][\s:]*|(?:[-*•]|\(?\d+[.)])\s+)")  # a label, or the mark of a list
_LABEL = re.compile(r"\W*(\d{1,6})\W*")
_BRACKETED = re.compile(r"\[(\d{1,6})\]")
_EDGES = " \t\n[]\"'`*_.,:;!?“”‘’«»"
_SIZE = re.compile(r"\d+(?:\.\d+)?(?:x\d+(?:\.\d+)?)?\s?[bm](?![a-z])")
_VERSION = re.compile(r"\d+(?:\.\d+)*")
_FAMILY = re.compile(r"[a-z]{2,}")

Rule = Callable[[str, Sequence[str]], float]
"""How well what a text may be called fits an answer; 0 is not at all."""


class Match(NamedTuple):
    """The position of the text that was named, and by which rule; no rule where it was named as it should be."""

    position: int
    rule: str


def match(line: str, texts: Sequence[str], *, models: bool = False) -> Match | None:
    """The one of ``texts`` that a line of an answer names; None if none is named, or several equally well.

    ``models`` compares the attributes of language models' names too.
    """
    label = _label(line, len(texts))
    if label is not None and line.strip() == f"[{label + 1}]":
        return Match(label, "")
    named = _by_name(_LEAD.sub("", line, count=1).strip(_EDGES), texts, label, models)
    if named and label not in (None, named.position):
        return Match(named.position, "a name against its label")
    return named


def likest(answer: str, texts: Sequence[str]) -> int | None:
    """The one of ``texts`` whose words are most like the answer's (TF-IDF, cosine), of equals the last; None if no word
    is shared."""
    *bags, asked = _tf_idf([*texts, answer])
    cosines = [sum(weight * asked.get(word, 0.0) for word, weight in bag.items()) for bag in bags]
    best = max(cosines, default=0.0)
    return max(i for i, cosine in enumerate(cosines) if cosine == best) if best > 0 else None


def names(text: str) -> list[str]:
    """What a text may be called: its first sentence, and its beginnings up to any full stop, colon, dash or bracket."""
    sentence = _SENTENCE_END.split(text, maxsplit=1)[0]
    heads = [text[: end.start()] for end in islice(_HEAD_END.finditer(text), HEADS)]
    stripped = [head.strip(_EDGES) for head in (sentence, *heads)]
    return [name for name in dict.fromkeys(stripped) if name]


def _by_name(answer: str, texts: Sequence[str], label: int | None, models: bool) -> Match | None:
    called = {i: names(text) for i, text in enumerate(texts)}
    lower = {i: [name.casefold() for name in found] for i, found in called.items()}
    if len(exact := _best(_same, answer, called)) == 1:
        return Match(exact[0], "")
    left = exact or list(called)
    for what, rule in _RULES.items():
        if rule is _within and label is not None:
            return Match(label, "a label in another form")
        if rule is not _like_model or models:
            fitting = _best(rule, answer.casefold(), {i: lower[i] for i in left})
            if len(fitting) == 1:
                return Match(fitting[0], what)
            left = fitting or left
    return None


def _best(rule: Rule, answer: str, called: Mapping[int, Sequence[str]]) -> list[int]:
    """The texts that fit an answer best by a rule; none if it does not fit any."""
    scores = {i: rule(answer, found) for i, found in called.items()}
    best = max(scores.values(), default=0.0)
    return [i for i, score in scores.items() if score == best > 0]


def _same(answer: str, called: Sequence[str]) -> float:
    """A sentence of its own counts more than the beginning of one: "Alien" is not "Alien: Resurrection"."""
    return 2.0 if answer in called[:1] else float(answer in called)


def _within(answer: str, called: Sequence[str]) -> float:
    """Letters in common with a name that holds the answer as whole words, or is held by it."""
    held = [shorter for name in called for shorter, longer in [sorted((answer, name), key=len)]
            if shorter and re.search(rf"(?<![a-z0-9]){re.escape(shorter)}(?![a-z0-9])", longer)]  # fmt: skip
    return float(max(map(len, held), default=0))


def _nearly(answer: str, called: Sequence[str]) -> float:
    """The share of letters in common. In an answer of many words any short name can be found, letter by letter."""
    shares = [0.0]
    for name in called:
        common = _lcs(answer, name)
        if common > LCS_SHARE * len(name) and len(answer) <= 2 * len(name):
            shares.append(common / max(len(answer), len(name)))
    return max(shares)


def _like_model(answer: str, called: Sequence[str]) -> float:
    likeness = max((_likeness(answer, name) for name in called), default=0.0)
    return likeness if likeness > MODEL_ACCEPT else 0.0


def _likeness(answer: str, name: str) -> float:
    ours, theirs = _attributes(answer), _attributes(name)
    either = ours.keys() | theirs.keys()
    alike = sum(ours.get(key) == theirs.get(key) for key in either) / len(either) if either else 0.0
    return MODEL_SHARE * alike + (1 - MODEL_SHARE) * SequenceMatcher(None, answer, name).ratio()


_RULES: dict[str, Rule] = {
    "a name in other case": _same,
    "a name within": _within,
    "nearly a name": _nearly,
    "a model like it": _like_model,
}


def _attributes(name: str) -> Mapping[str, str]:
    """Family, version, size and turbo of a language model's name, in lower case, as far as it says so."""
    name = name.rsplit("/", 1)[-1]
    size = _SIZE.search(name)
    rest = name.replace(size[0], " ") if size else name
    found = {"family": _FAMILY.search(rest), "version": _VERSION.search(rest), "turbo": re.search("turbo", rest)}
    attributes = {key: value[0] for key, value in found.items() if value}
    return attributes | ({"size": size[0].replace(" ", "")} if size else {})


def _label(line: str, n: int) -> int | None:
    """The position of the one label of ``n`` that a line gives: [3] anywhere, or nothing but 3."""
    bare = _LABEL.fullmatch(line)
    labels = {bare[1]} if bare else set(_BRACKETED.findall(line))
    return int(labels.pop()) - 1 if len(labels) == 1 and 1 <= int(min(labels)) <= n else None


def _lcs(a: str, b: str) -> int:
    """Length of the longest common subsequence, by rows of bits (Hyyrö 2004)."""
    places = defaultdict[str, int](int)
    for i, letter in enumerate(a):
        places[letter] |= 1 << i
    whole = left = (1 << len(a)) - 1
    for letter in b:
        met = left & places[letter]
        left = (left + met | left - met) & whole
    return len(a) - left.bit_count()


def _tf_idf(texts: Iterable[str]) -> list[Mapping[str, float]]:
    """Each text's words with their weights, of length 1; smoothed idf, as usual."""
    bags = [Counter(re.findall(r"\w+", text.casefold())) for text in texts]
    spread = Counter(word for bag in bags for word in bag)
    weighted = [
        {word: count * (1 + log((1 + len(bags)) / (1 + spread[word]))) for word, count in bag.items()} for bag in bags
    ]
    lengths = [sqrt(sum(weight * weight for weight in bag.values())) or 1.0 for bag in weighted]
    return [
        {word: weight / length for word, weight in bag.items()} for bag, length in zip(weighted, lengths, strict=True)
    ]
