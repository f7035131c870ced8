"""Find the text that an answer names by title or model name, with the rules of R1-Ranker's evaluation.

The rules, from strict to lax (arXiv 2506.21638, published evaluation): the same name; the same name in other case; a label;
one name within the other; nearly all letters of the name; for language models, the same family, version and size. If several
texts satisfy a rule, the next rule chooses among them. The last resort is the similarity of the words.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import islice
from math import log, sqrt
from typing import NamedTuple

LCS_SHARE = 0.9  # share of a name's letters, in order, that an answer must contain
MODEL_SHARE, MODEL_ACCEPT = (
    0.7,
    0.5,
)  # weight of a model's attributes against its letters; the lowest similarity accepted
HEADS = 3  # beginnings of a text that are considered as its name

_SENTENCE_END = re.compile(r"[.!?]+\s")
_HEAD_END = re.compile(r"[.:;!?|]+\s|\s[(|\[–—-]")
_LEAD = re.compile(r"\s*(?:\[\d{1,6}\][\s:]*|(?:[-*•]|\(?\d{1,6}[.)])\s+)")  # a label, or a list marker
_LABEL = re.compile(r"\W*(\d{1,6})\W*")
_BRACKETED = re.compile(r"\[(\d{1,6})\]")
_EDGES = " \t\n[]\"'`*_.,:;!?“”‘’«»"
_SIZE = re.compile(r"\d{1,6}(?:\.\d{1,6})?(?:x\d{1,6}(?:\.\d{1,6})?)?\s?[bm](?![a-z])")
_VERSION = re.compile(r"\d+(?:\.\d+)*")
_FAMILY = re.compile(r"[a-z]{2,}")

Rule = Callable[[str, Sequence[str]], float]
"""How well one of a text's names fits an answer; 0 means not at all."""


class NameMatch(NamedTuple):
    """The position of the text that was named, and the rule that found it; "" for an exact label or name."""

    position: int
    rule: str


def match(line: str, texts: Sequence[str], *, models: bool = False) -> NameMatch | None:
    """Return the text that a line of an answer names; None if it names none, or several equally well.

    ``models`` also compares the attributes of language models' names.
    """
    label = _label(line, len(texts))
    if label is not None and line.strip() == f"[{label + 1}]":
        return NameMatch(label, "")
    named = _by_name(_LEAD.sub("", line, count=1).strip(_EDGES), texts, label, models)
    if named and label not in (None, named.position):
        return NameMatch(named.position, "a name against its label")
    return named


def likest(answer: str, texts: Sequence[str]) -> int | None:
    """Return the position of the text most similar to the answer (cosine of TF-IDF), the last of ties.

    None if no text shares a word with the answer."""
    *bags, asked = tf_idf([*texts, answer])
    cosines = [sum(weight * asked.get(word, 0.0) for word, weight in bag.items()) for bag in bags]
    best = max(cosines, default=0.0)
    return max(i for i, cosine in enumerate(cosines) if cosine == best) if best > 0 else None


def names(text: str) -> list[str]:
    """Return a text's possible names: its first sentence, and its beginnings up to a full stop, colon, dash or bracket."""
    sentence = _SENTENCE_END.split(text, maxsplit=1)[0]
    heads = [text[: end.start()] for end in islice(_HEAD_END.finditer(text), HEADS)]
    stripped = [head.strip(_EDGES) for head in (sentence, *heads)]
    return [name for name in dict.fromkeys(stripped) if name]


def _by_name(answer: str, texts: Sequence[str], label: int | None, models: bool) -> NameMatch | None:
    called = {i: names(text) for i, text in enumerate(texts)}
    lower = {i: [name.casefold() for name in found] for i, found in called.items()}
    if len(exact := _best(_same, answer, called)) == 1:
        return NameMatch(exact[0], "")
    left = exact or list(called)
    for what, rule in _RULES.items():
        if rule is _within and label is not None:
            return NameMatch(label, "a label in another form")
        if rule is not _like_model or models:
            fitting = _best(rule, answer.casefold(), {i: lower[i] for i in left})
            if len(fitting) == 1:
                return NameMatch(fitting[0], what)
            left = fitting or left
    return None


def _best(rule: Rule, answer: str, called: Mapping[int, Sequence[str]]) -> list[int]:
    """Return the texts that fit an answer best by a rule; [] if none fits."""
    scores = {i: rule(answer, found) for i, found in called.items()}
    best = max(scores.values(), default=0.0)
    return [i for i, score in scores.items() if score == best > 0]


def _same(answer: str, called: Sequence[str]) -> float:
    """A whole first sentence counts more than the beginning of one: "Alien" is not "Alien: Resurrection"."""
    return 2.0 if answer in called[:1] else float(answer in called)


def _within(answer: str, called: Sequence[str]) -> float:
    """The letters in common with a name that contains the answer as whole words, or that the answer contains."""
    common = [shorter for name in called for shorter, longer in [sorted((answer, name), key=len)]
            if shorter and re.search(rf"(?<![a-z0-9]){re.escape(shorter)}(?![a-z0-9])", longer)]  # fmt: skip
    return float(max(map(len, common), default=0))


def _nearly(answer: str, called: Sequence[str]) -> float:
    """The share of letters in common. Long answers do not count: they contain any short name letter by letter."""
    shares = [0.0]
    for name in called:
        common = lcs(answer, name)
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
    """Return family, version, size and turbo from a language model's lower-case name, where it has them."""
    name = name.rsplit("/", 1)[-1]
    size = _SIZE.search(name)
    rest = name.replace(size[0], " ") if size else name
    found = {"family": _FAMILY.search(rest), "version": _VERSION.search(rest), "turbo": re.search("turbo", rest)}
    attributes = {key: value[0] for key, value in found.items() if value}
    return attributes | ({"size": size[0].replace(" ", "")} if size else {})


def _label(line: str, n: int) -> int | None:
    """Return the position of the only label in a line: [3] anywhere in it, or 3 as the whole line."""
    bare = _LABEL.fullmatch(line)
    labels = {bare[1]} if bare else set(_BRACKETED.findall(line))
    return int(labels.pop()) - 1 if len(labels) == 1 and 1 <= int(min(labels)) <= n else None


def lcs(a: str, b: str) -> int:
    """Return the length of the longest common subsequence, computed on rows of bits (Hyyrö 2004)."""
    places = defaultdict[str, int](int)
    for i, letter in enumerate(a):
        places[letter] |= 1 << i
    whole = left = (1 << len(a)) - 1
    for letter in b:
        met = left & places[letter]
        left = (left + met | left - met) & whole
    return len(a) - left.bit_count()


def tf_idf(texts: Iterable[str]) -> list[Mapping[str, float]]:
    """Return each text's TF-IDF vector, normalized to length 1, with smoothed idf."""
    bags = [Counter(re.findall(r"\w+", text.casefold())) for text in texts]
    spread = Counter(word for bag in bags for word in bag)
    weighted = [
        {word: count * (1 + log((1 + len(bags)) / (1 + spread[word]))) for word, count in bag.items()} for bag in bags
    ]
    lengths = [sqrt(sum(weight * weight for weight in bag.values())) or 1.0 for bag in weighted]
    return [
        {word: weight / length for word, weight in bag.items()} for bag, length in zip(weighted, lengths, strict=True)
    ]
