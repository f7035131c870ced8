"""Answer matching and the worst judge: which candidate an answer means, by which rule, and how that is put on record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.judges.matching import NameMatch, lcs, likest, match, names
from pyserini_reasonrank.judges.worst import Worst
from pyserini_reasonrank.records import Capability, Completion, Judgement, Message, Prompt, Sampling, Status
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers

FILMS = [
    "Alien (1979). The crew of a towing ship answers a signal and brings something aboard.",
    "Alien: Resurrection (1997). Two centuries on, Ripley is cloned for what she carries.",
    "Toy Story. A cowboy doll fears that a space ranger takes his place.",
    "Toy Story 2. The cowboy doll is stolen by a collector of toys.",
    "Dr. Strangelove. A general sends bombers out, and no one can call them back.",
    "2001: A Space Odyssey. A monolith, a mission to Jupiter, a computer that refuses.",
    "12 Angry Men. One juror doubts what eleven are sure of.",
    "Casablanca. A cafe owner in wartime meets the woman who left him.",
]
MODELS = [
    "LLaMA-3 (8b): small and quick, for short answers; 0.2 $ per million tokens",
    "LLaMA-3 (70b): good at most things; 0.9 $ per million tokens",
    "LLaMA-3.1-Turbo (70b): the same size, a longer context; 0.88 $ per million tokens",
    "Mixtral-8x7B: eight experts of which two answer; 0.6 $ per million tokens",
    "Qwen-1.5 (72b): strong in Chinese and in mathematics; 0.9 $ per million tokens",
]
EXACT, CASE, WITHIN, NEARLY = "", "a name in other case", "a name within", "nearly a name"
MODEL, LABEL = "a model like it", "a label in another form"


@pytest.mark.parametrize(
    ("line", "position", "rule"),
    [
        ("Casablanca", 7, EXACT),
        ('"Casablanca."', 7, EXACT),
        ("**Casablanca**", 7, EXACT),
        ("- Casablanca", 7, EXACT),
        ("1. Casablanca", 7, EXACT),
        ("Toy Story", 2, EXACT),
        ("Toy Story 2", 3, EXACT),
        ("Dr. Strangelove", 4, EXACT),
        ("Alien: Resurrection", 1, EXACT),
        ("Alien (1979)", 0, EXACT),
        ("2001: A Space Odyssey", 5, EXACT),
        ("12 Angry Men", 6, EXACT),
        ("casablanca", 7, CASE),
        ("TOY STORY 2", 3, CASE),
        ("The film Casablanca, since it is a romance", 7, WITHIN),
        ("the sequel, Toy Story 2", 3, WITHIN),
        ("Space Odyssey", 5, WITHIN),
        ("Strangelove", 4, WITHIN),
        ("Casablancas", 7, NEARLY),
        ("12 Agry Men", 6, NEARLY),
        ("[3]", 2, EXACT),
        ("[3].", 2, LABEL),
        ("3", 2, LABEL),
        ("(3)", 2, LABEL),
        ("Film [3]", 2, LABEL),
        ("[3] Toy Story", 2, EXACT),
        ("[3]: toy story", 2, CASE),
        ("[8] Toy Story", 2, "a name against its label"),
        ("[3] whatever that was", 2, LABEL),
    ],
)
def test_a_film_is_found_by_the_strictest_rule_that_fits(line: str, position: int, rule: str) -> None:
    assert match(line, FILMS) == NameMatch(position, rule)


@pytest.mark.parametrize(
    "line", ["", "...", "[9]", "0", "300", "Heat", "Alie", "Casa", "the", "I will not choose", "[2] or [3]"]
)
def test_what_names_no_film_is_not_guessed(line: str) -> None:
    assert match(line, FILMS) is None


def test_what_several_are_called_names_none_of_them() -> None:
    assert match("Alien", [FILMS[1], FILMS[0]]) is None
    assert match("Alien", [FILMS[1], "Alien. Something is aboard.", *FILMS[2:]]) == NameMatch(1, EXACT)
    assert match("Casablanca", [FILMS[7], FILMS[2], FILMS[7]]) is None


@pytest.mark.parametrize(
    ("line", "position", "rule"),
    [
        ("LLaMA-3 (8b)", 0, EXACT),
        ("Mixtral-8x7B", 3, EXACT),
        ("mixtral-8x7b", 3, CASE),
        ("Mixtral-8x7B-Instruct-v0.1", 3, WITHIN),
        ("mistralai/Mixtral 8x7B", 3, NEARLY),
        ("Llama 3 8B Instruct", 0, MODEL),
        ("meta-llama/Meta-Llama-3-70B", 1, MODEL),
        ("llama 3.1 70b turbo", 2, MODEL),
        ("qwen1.5-72b-chat", 4, MODEL),
    ],
)
def test_a_model_is_found_by_family_version_and_size_too(line: str, position: int, rule: str) -> None:
    assert match(line, MODELS, models=True) == NameMatch(position, rule)


@pytest.mark.parametrize("line", ["GPT-4o", "Gemma 2 (27b)", "none of them"])
def test_a_model_that_is_not_there_is_not_guessed(line: str) -> None:
    assert match(line, MODELS, models=True) is None


def test_the_attributes_of_models_count_only_where_models_are_ranked() -> None:
    assert match("qwen1.5-72b-chat", MODELS) is None
    assert match("The Godfather", ["The Matrix. Reality is a program.", "The Sting. Two con men."]) is None


def test_words_decide_last() -> None:
    assert likest("the one where toys belong to a collector", FILMS) == 3
    assert likest("the woman in the cafe", FILMS) == 7
    assert likest("xyzzy", FILMS) is None
    assert likest("", FILMS) is None
    assert likest("Casablanca", [FILMS[7], FILMS[2], FILMS[7]]) == 2  # of equals the last


def test_names_are_beginnings() -> None:
    assert names("2001: A Space Odyssey. A monolith.") == [
        "2001: A Space Odyssey",
        "2001",
    ]
    assert names("Casablanca") == ["Casablanca"]
    assert names("LLaMA-3.1 (70b) - large") == ["LLaMA-3.1 (70b) - large", "LLaMA-3.1", "LLaMA-3.1 (70b)"]
    assert names(" .") == []


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_longest_common_subsequence(a: str, b: str) -> None:
    lengths = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            lengths[i][j] = lengths[i - 1][j - 1] + 1 if x == y else max(lengths[i - 1][j], lengths[i][j - 1])
    assert lcs(a, b) == lengths[-1][-1] >= sum(m.size for m in SequenceMatcher(None, a, b).get_matching_blocks())


TEXTS = st.lists(st.sampled_from([*FILMS, *MODELS, "", "..."]) | st.text(max_size=30), min_size=1, max_size=12)


@given(st.text(max_size=60) | st.sampled_from([*FILMS, "[1]", "[2] Toy Story"]), TEXTS, st.booleans())
def test_whatever_is_answered_a_match_is_one_of_the_texts(line: str, texts: list[str], models: bool) -> None:
    found, likely = match(line, texts, models=models), likest(line, texts)
    assert found is None or 0 <= found.position < len(texts)
    assert likely is None or 0 <= likely < len(texts)


# --- the judge


PROMPT = Prompt((Message("user", "Which one?"),))


def worst(**options: object) -> Worst:
    return Worst(Worst.Options.model_validate(options), Sampling(max_tokens=100), frozenset(), "")


def read(text: str, shown: Sequence[str] = FILMS, *, finish_reason: str = "stop", **options: object) -> Judgement:
    return worst(**options).reader(shown)(Completion(text, finish_reason))


def dropped(judgement: Judgement, n: int = len(FILMS)) -> list[int]:
    assert sorted(judgement.order) == list(range(n))
    return Worst.outcome(judgement, range(n))


def answer(text: str) -> str:
    return f"<think>Some are fine.</think>\n<answer>{text}</answer>"


@pytest.mark.parametrize(
    ("text", "position", "status", "detail"),
    [
        (answer("Toy Story 2"), 3, Status.OK, ""),
        (answer("\nToy Story 2\n"), 3, Status.OK, ""),
        (answer("[4]"), 3, Status.OK, ""),
        (answer("toy story 2"), 3, Status.REPAIRED, CASE),
        (answer("Casablanca") + answer("Toy Story 2"), 3, Status.OK, ""),
        (answer("Toy Story 2\nCasablanca"), 3, Status.OK, ""),
        (answer("The least likely:\nToy Story 2"), 3, Status.OK, ""),
        ("<think>Hm.</think> I think it has to be Toy Story 2", 3, Status.REPAIRED, f"no answer tag, {WITHIN}"),
        ("Casablanca is what they love. So after all I would drop Toy Story 2", 3, Status.REPAIRED, "no answer tag"),
        (answer("the one about a collector"), 3, Status.REPAIRED, "similar words"),
    ],
)
def test_an_answer_by_name(text: str, position: int, status: Status, detail: str) -> None:
    judgement = read(text, match="name")
    assert dropped(judgement) == [position]
    assert judgement.status is status
    assert judgement.detail.startswith(detail)
    assert bool(judgement.detail) is (status is Status.REPAIRED)


def test_labels_stay_strict_where_labels_are_asked_for() -> None:
    assert dropped(read(answer("[4]"))) == [3]
    assert read(answer("[4]")).status is Status.OK
    for text in ("Toy Story 2", "[4] or [5]"):
        judgement = read(answer(text))
        assert (judgement.status, dropped(judgement)) == (Status.EMPTY, [7])


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        (Completion("<think>Well", "length"), Status.TRUNCATED),
        (Completion(""), Status.EMPTY),
        (Completion(answer("qqq")), Status.EMPTY),
        (Completion(answer(" ")), Status.EMPTY),
        (Completion("No.", "refusal"), Status.REFUSED),
        (Completion(finish_reason="error", error="gone"), Status.ERROR),
    ],
)
@pytest.mark.parametrize("options", [{}, {"match": "name"}, {"match": "model"}, {"drop": 3}])
def test_an_answer_that_names_none_drops_the_last_shown(
    completion: Completion, status: Status, options: dict[str, object]
) -> None:
    judgement = worst(**options).reader(FILMS)(completion)
    assert (judgement.status, dropped(judgement)) == (status, [7])


@pytest.mark.parametrize(
    ("text", "found", "detail"),
    [
        ("[4]\n[1]\n[7]", [3, 0, 6], ""),
        ("[4], [1], [7]", [3, 0, 6], ""),
        ("4 > 1 > 7", [3, 0, 6], "labels in another form"),
        ("[4]", [3], "1 named instead of 3"),
        ("[4]\n[4]\n[1]", [3, 0], "1 repeated, 2 named instead of 3"),
        ("[4]\n[44]\n[1]", [3, 0], "1 out of range, 2 named instead of 3"),
        ("[4]\n[1]\n[7]\n[2]", [3, 0, 6], "4 named instead of 3"),
    ],
)
def test_several_labels_the_worst_first(text: str, found: list[int], detail: str) -> None:
    judgement = read(answer(text), drop=3)
    assert (dropped(judgement), judgement.detail) == (found, detail)
    assert judgement.status is (Status.REPAIRED if detail else Status.OK)
    assert judgement.order[-1] == found[0]


@pytest.mark.parametrize(
    ("text", "found", "detail"),
    [
        ("Toy Story 2\nCasablanca\n[1]", [3, 7, 0], ""),
        ("Toy Story 2\ncasablanca\n[1]", [3, 7, 0], CASE),
        ("Here they are:\n1. Toy Story 2\n2. Casablanca\n3. 12 Angry Men\n4. Dr. Strangelove", [3, 7, 6], ""),
        ("Toy Story 2", [3], "1 named instead of 3"),
    ],
)
def test_several_names_a_line_each(text: str, found: list[int], detail: str) -> None:
    judgement = read(answer(text), match="name", drop=3)
    assert (dropped(judgement), judgement.detail) == (found, detail)


def test_one_is_always_left() -> None:
    judgement = read(answer("[1]\n[2]\n[3]"), FILMS[:3], drop=5)
    assert dropped(judgement, 3) == [0, 1]
    assert worst(drop=5).unmoved([4, 7, 9]) == [9, 7]
    assert worst(drop=2).unmoved([4, 7, 9, 1]) == [1, 9]
    assert worst().unmoved([4, 7, 9]) == [9]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=20), st.booleans(), st.integers(1, 25))
def test_the_ideal_answer_reads_back_in_every_mode(gains: list[int], tags: bool, drop: int) -> None:
    shown = [f"Passage {i + 1} of these" for i in range(len(gains))]
    for how in ("label", "name", "model"):
        judge = worst(tags=tags, drop=drop, match=how)
        judgement = judge.reader(shown)(Completion(judge.ideal(gains)))
        assert (judgement.status, judgement.detail) == (Status.OK, "")
        found = judge.outcome(judgement, range(len(gains)))
        assert [gains[i] for i in found] == sorted(gains)[: len(found)]
        assert len(found) == min(drop, len(gains) - 1)


@given(st.text(max_size=80), st.integers(1, 5), st.sampled_from(["label", "name", "model"]), st.booleans())
def test_whatever_is_written_some_are_dropped_and_one_is_left(text: str, drop: int, how: str, tags: bool) -> None:
    for completion in (text, answer(text)):
        judgement = read(completion, match=how, drop=drop, tags=tags)
        assert 1 <= len(dropped(judgement)) <= drop < len(FILMS)


@pytest.mark.parametrize("name", ["iranker", "iranker-recommendation", "iranker-routing"])
def test_a_prompt_asks_for_as_many_as_are_read(name: str) -> None:
    for drop in (1, 3):
        made = plan(*layers.load(name, {"judge": {"drop": drop}, "engine": {"name": "oracle"}}))
        assert isinstance(made, SinglePlan)
        for n in (2, 3, 9):
            asked = made.template.render("a query", ["a candidate"] * n).messages[-1].content
            wanted = made.judge.unmoved(range(n))
            assert ("Which one of these" if len(wanted) == 1 else f"Which {len(wanted)} of these") in asked
        assert made.template.render("a query", ["a candidate"]).prefill.endswith("<think>")


def test_votes_are_for_those_named_most_often() -> None:
    assert Worst.agreed([[9], [4], [9]], [4, 7, 9]) == [9]
    assert Worst.agreed([[4], [9]], [4, 7, 9]) == [9]  # ties go by the first stage
    assert Worst.agreed([[9, 7], [7, 4], [7]], [4, 7, 9]) == [7, 9]


@pytest.mark.parametrize(("how", "opened"), [("label", "["), ("name", "")])
def test_a_cut_thought_is_closed_before_the_name(how: str, opened: str) -> None:
    asked: list[Prompt] = []

    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        asked.append(prompt)
        rest = "4]" if how == "label" else "Toy Story 2"
        return Completion("So many toys", "length") if len(asked) == 1 else Completion(rest)

    options = Worst.Options.model_validate({"match": how})
    judge = Worst(options, Sampling(max_tokens=100), frozenset({Capability.PREFILL}), "")
    begun = Prompt(PROMPT.messages, prefill="Let me see.\n<think>")
    judgement = asyncio.run(judge.judge(ask, begun, FILMS))
    assert asked[1].prefill == f"Let me see.\n<think>So many toys\n</think>\n<answer>{opened}"
    assert (dropped(judgement), judgement.status) == ([3], Status.REPAIRED)
    assert judgement.reasoning == "So many toys"


@pytest.mark.parametrize(
    ("rest", "status", "reasoning"),
    [
        ("Too many toys.</think>\n<answer>[4]</answer>", Status.OK, "Too many toys."),
        ("Too many toys. [4]", Status.TRUNCATED, "Too many toys. [4]"),
        (" ", Status.EMPTY, ""),
    ],
)
def test_a_thought_begun_by_the_prompt_is_part_of_what_is_read(rest: str, status: Status, reasoning: str) -> None:
    async def ask(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        return Completion(rest)

    begun = Prompt(PROMPT.messages, prefill="Let me see.\n<think>")
    judgement = asyncio.run(worst().judge(ask, begun, FILMS))
    assert (judgement.status, judgement.reasoning) == (status, reasoning)


def test_more_labels_than_wanted_within_words_are_not_guessed() -> None:
    judgement = read(answer("Keep [1]. Drop [3] and [2]."), drop=2)
    assert (judgement.status, dropped(judgement)) == (Status.EMPTY, [len(FILMS) - 1])
    assert judgement.detail == "3 labels within words, of which 2 are wanted"


def test_a_label_that_the_token_limit_cut_is_not_a_label() -> None:
    shown = [f"film {i}" for i in range(20)]
    judgement = read("<think>x</think><answer>[3]\n[1", shown, finish_reason="length", drop=2)
    assert dropped(judgement, 20) == [2]
