"""Each query to the reranker that is worth its cost: features, the router's file, the choice, its trace and its price."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Collection, Command, RunReranker
from hypothesis import given
from hypothesis import strategies as st

from pyserini_reasonrank.combine import query_classifier
from pyserini_reasonrank.combine.features import FEATURES, features
from pyserini_reasonrank.combine.query_classifier import Router, softmax
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.metadata import RunRecord
from pyserini_reasonrank.ir.runs import read_run
from pyserini_reasonrank.journal_reader import rankings
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import lift

CANDIDATES = FEATURES.index("candidates")


def router(arms: tuple[str, ...] = ("none", "top", "listwise"), **changes: Any) -> Router:
    """Chooses by the number of candidates: few the first arm, many the last, 7 the one between."""
    k, sizes = len(FEATURES), [math.log1p(n) for n in (1, 7, 25)]
    weights = [[4 * size if i == CANDIDATES else 0.0 for i in range(k)] for size in sizes]
    fields = {
        "arms": arms,
        "features": FEATURES,
        "means": [0.0] * k,
        "scales": [1.0] * k,
        "weights": weights[: len(arms)],
        "biases": [-2 * size**2 for size in sizes][: len(arms)],  # the nearest size wins
        "depth": 100,
        "threshold": 0.4,
        "fallback": arms[-1],
    }
    return Router.model_validate(fields | changes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "router.json"
    router().write(path)
    return path


# --- features


def test_features_by_hand() -> None:
    named = dict(zip(FEATURES, features("why is the sky blue", [9.0, 7.0, 5.0, 3.0, 1.0]), strict=True))
    assert named == {
        "words": pytest.approx(math.log(6)),
        "candidates": pytest.approx(math.log(6)),
        "top": 9.0,
        "wig": 0.0,  # the top five are all there are
        "nqc": pytest.approx(math.sqrt(8) / 5),
        "gap2": 0.25,
        "gap10": 1.0,
        "entropy": pytest.approx(-sum(p * math.log(p) for p in (0.4, 0.3, 0.2, 0.1)) / math.log(5)),
    }


def test_wig_is_how_far_the_top_five_stand_out() -> None:
    scores = [10.0] * 5 + [4.0] * 15
    assert features("four words it has", scores)[FEATURES.index("wig")] == pytest.approx((10 - 5.5) / 2)


def test_features_do_not_depend_on_the_order_of_the_scores_and_gaps_not_on_their_scale() -> None:
    scores = [12.5, 11.0, 10.9, 4.0, 3.9, 3.8, 3.7, 3.6, 3.5, 3.4, 1.0]
    assert features("query", scores[::-1]) == features("query", scores)
    scaled = features("query", [score * 8 - 3 for score in scores])
    for name in ("gap2", "gap10", "entropy"):
        i = FEATURES.index(name)
        assert scaled[i] == pytest.approx(features("query", scores)[i])


@given(
    query=st.text(max_size=40), scores=st.lists(st.floats(-1e6, 1e6), max_size=30), same=st.booleans(), n=st.integers(0, 9)
)  # fmt: skip
def test_features_are_numbers_whatever_the_scores(query: str, scores: list[float], same: bool, n: int) -> None:
    found = features(query, [3.5] * n if same else scores)
    assert len(found) == len(FEATURES)
    assert all(map(math.isfinite, found))
    assert sum(softmax(router().probabilities(query, scores))) == pytest.approx(1.0)


# --- the file


def test_a_router_comes_back_from_its_file(file: Path) -> None:
    assert Router.read(file) == router()
    assert json.loads(file.read_text())["arms"] == ["none", "top", "listwise"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arms": ["a"]}, "arms"),
        (
            {"arms": ["a", "a", "b"], "fallback": "a"},
            "weights and biases must have one entry per arm, and arms different names",
        ),
        ({"arms": ["a", "b"], "fallback": "a"}, "weights and biases must have one entry per arm"),
        ({"fallback": "large"}, "fallback 'large' is not one of the arms"),
        ({"features": ["words"]}, "features are words, not words, candidates, top"),
        ({"means": [0.0]}, "the weights of each arm must have 8 numbers"),
        ({"scales": [0.0] * 8}, "scales.0: Input should be greater than 0"),
        ({"biases": [math.nan, 0, 0]}, "biases.0"),
        ({"threshold": 2}, "threshold"),
        ({"format": 2}, "format: Input should be 1"),
        ({"colour": 1}, "colour"),
    ],
)
def test_an_invalid_router_file_is_rejected(change: dict[str, Any], says: str, file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UsageError) as error:
        Router.read(file)
    assert str(error.value).startswith(f"{file} is not a router file: ")
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "no JSON at all"])
def test_a_router_file_that_is_not_json_is_rejected(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=r"router\.json is not a router file: "):
        Router.read(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.json can't be read: No such file.*train route"):
        Router.read(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        Router.read(tmp_path)


# --- the choice


@pytest.mark.parametrize(("n", "arm"), [(1, "none"), (7, "top"), (25, "listwise"), (100, "listwise")])
def test_the_most_probable_arm_is_chosen(n: int, arm: str) -> None:
    choice = router().choose("query", [float(n - i) for i in range(n)])
    assert (choice.arm, choice.unsure) == (arm, False)
    assert choice.probabilities[arm] == max(choice.probabilities.values()) > 0.9


def test_below_the_threshold_the_fallback_is_asked() -> None:
    unsure = router(weights=[[0.0] * 8] * 3, biases=[0.0, 0.1, 0.0], fallback="none")
    assert unsure.choose("query", [1.0]).arm == "none"
    assert unsure.choose("query", [1.0]).unsure
    assert unsure.choose("query", [1.0], threshold=0.3).arm == "top"
    assert unsure.choose("query", [1.0], fallback="listwise").arm == "listwise"
    assert unsure.choose("query", [1.0], threshold=0.0, fallback="listwise").arm == "top"


def test_only_candidates_within_the_depth_it_was_trained_at_count() -> None:
    scores = [30.0 - i for i in range(25)]
    assert router(depth=7).probabilities("q", scores) == router().probabilities("q", scores[:7])


def test_a_feature_beyond_all_measure_is_cut_off() -> None:
    one = router(weights=[[1.0 if i == 2 else 0.0 for i in range(8)], [0.0] * 8, [0.0] * 8], biases=[0.0] * 3)
    assert one.probabilities("q", [1e300]) == one.probabilities("q", [5.0])


# --- whole runs


def flags(collection: Collection, file: Path | None, **more: Any) -> dict[str, Any]:
    combine = more.pop("combine", {}) | ({"router": str(file)} if file else {})
    return {"engine": {"name": "oracle", "qrels": str(collection.qrels)}, "combine": combine, **more}


def docids(outcome: RunRecord) -> dict[str, list[str]]:
    return {qid: [hit.docid for hit in hits] for qid, hits in read_run(outcome.output).items()}


def noted(outcome: RunRecord) -> dict[str, dict[str, Any]]:
    return {record["qid"]: record["notes"] for record in rankings(outcome.journal) if record["notes"]}


def test_each_query_goes_to_its_arm(
    run_reranker: RunReranker, collection: Collection, file: Path, tmp_path: Path
) -> None:
    engine = flags(collection, None)["engine"]
    alone = docids(run_reranker("reasonrank", {"engine": engine}, output=tmp_path / "alone.txt"))
    outcome = run_reranker("route", flags(collection, file))
    assert docids(outcome) == alone
    notes = noted(outcome)
    assert {qid: note["arm"] for qid, note in notes.items()} == {"long": "listwise", "7": "top", "single": "none"}
    assert {note["fallback"] for note in notes.values()} == {False}
    assert all(sum(note["probabilities"].values()) == pytest.approx(1, abs=1e-3) for note in notes.values())
    # what each arm was asked stands in the summary, and in the metadata
    assert {name: (t.rankings, t.judgements) for name, t in outcome.tallies.items()} == {
        "top": (1, 1),
        "listwise": (1, 2),
    }
    assert outcome.warnings == []
    said = yaml.safe_load(outcome.metadata.read_text())
    assert said["resources"]["llm"]["by part"]["listwise"]["rankings"] == 1
    combine = said["method"]["retrieval"][1]["combine"]
    assert combine["router"]["arms"] == ["none", "top", "listwise"]
    assert (combine["name"], combine["fallback"], combine["unrouted"]) == ("route", None, "listwise")


def test_the_arm_none_leaves_the_first_stage_and_asks_nothing(
    run_reranker: RunReranker, collection: Collection, file: Path
) -> None:
    options = {"threshold": 1.0, "fallback": "none"}
    outcome = run_reranker("route", flags(collection, file, combine=options))
    assert docids(outcome) == {
        r.query.qid: [c.docid for c in r.candidates] for r in collection.requests if r.candidates
    }
    assert outcome.tally.judgements == 0
    assert {(note["arm"], note["fallback"]) for note in noted(outcome).values()} == {("none", True)}


def test_threshold_and_fallback_over_the_routers_own(
    run_reranker: RunReranker, collection: Collection, file: Path
) -> None:
    outcome = run_reranker("route", flags(collection, file, combine={"threshold": 1.0, "fallback": "top"}))
    assert {note["arm"] for note in noted(outcome).values()} == {"top"}
    assert outcome.tallies["listwise"].rankings == 0


def test_without_a_router_all_queries_go_to_one_arm_with_a_warning(
    run_reranker: RunReranker, collection: Collection
) -> None:
    outcome = run_reranker("route", flags(collection, None))
    assert {note["arm"] for note in noted(outcome).values()} == {"listwise"}
    assert outcome.warnings == ["--rerank.combine.router is not set: every query goes to the arm listwise"]
    first = run_reranker("route", flags(collection, None, combine={"unrouted": "none"}))
    assert first.tally.judgements == 0


def test_a_routed_arm_may_be_a_combination_and_an_arm_of_one(
    run_reranker: RunReranker, collection: Collection, file: Path
) -> None:
    arms = {"listwise": {"reranker": "coranking", "combine": {"keep": 5}}}
    outcome = run_reranker("route", flags(collection, file, arms=arms))
    assert noted(outcome)["long"]["of the arm"] == {"top": "large"}
    assert {name: t.judgements for name, t in outcome.tallies.items()} == {
        "top": 1, "listwise/small": 2, "listwise/large": 1,
    }  # fmt: skip
    small = {"small": {"reranker": "route", "combine": {"router": str(file)}}}
    engine = {"name": "oracle", "qrels": str(collection.qrels)}
    outer = run_reranker("coranking", {"engine": engine, "arms": small}, output=file.parent / "outer.txt")
    grades = collection.gains("7", docids(outer)["7"])
    assert grades == sorted(grades, reverse=True)
    assert outer.tallies["small/top"].rankings == 1


def test_an_encoder_is_loaded_before_the_first_query_and_leaves_the_event_loop_free(
    run_reranker: RunReranker, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = list[tuple[int, int]]()

    def encode(encoder: str, texts: list[str]) -> list[list[float]]:
        used.append((len(texts), threading.get_ident()))
        return [[0.0] for _ in texts]

    monkeypatch.setattr(query_classifier, "encode", encode)
    plain = router()
    with_encoder: dict[str, Any] = {"encoder": "some", "dimensions": 1, "means": [0.0] * 9, "scales": [1.0] * 9}
    router(**with_encoder, weights=[[*row, 0.0] for row in plain.weights]).write(tmp_path / "router.json")
    outcome = run_reranker("route", flags(collection, tmp_path / "router.json"))
    assert {qid: note["arm"] for qid, note in noted(outcome).items()} == {
        "long": "listwise",
        "7": "top",
        "single": "none",
    }
    assert [texts for texts, _ in used] == [0, 1, 1, 1]
    assert threading.get_ident() not in {thread for _, thread in used[1:]}


# --- what it costs


def test_explain_lists_every_arm_and_totals_the_most_expensive(command: Command, file: Path) -> None:
    words = ["--rerank.engine.name", "oracle", "--rerank.combine.router", file]
    done = command("explain", "--rerank", "route", "--queries", 10, *words)
    rows = {line[:26].strip(): line[26:].split() for line in done.stdout.splitlines()}
    assert rows["calls"] == ["9", "90"]
    assert rows["calls of listwise"] == ["9", "90"]
    assert rows["calls of top instead"] == ["1", "10"]
    assert rows["passages shown"] == ["180", "1,800"]
    dearest = command("explain", "--rerank", "reasonrank", "--queries", 10, *words[:2]).stdout.splitlines()
    assert [line for line in dearest if "tokens, at most" in line] == [
        line for line in done.stdout.splitlines() if "tokens, at most" in line
    ]
    assert "a query uses one of the arms; the totals are for the arm with the most calls" in done.stdout


def test_within_a_cascade_the_dearest_arm_counts_too(file: Path) -> None:
    small = {"small": {"reranker": "route", "combine": {"router": str(file)}}}
    cost = estimate(plan(*layers.load("coranking", {"engine": {"name": "oracle", "qrels": "q"}, "arms": small})), 100)
    assert (cost.calls, cost.chain, cost.questions, cost.shown) == (10, 10, 10, 200)
    assert {name: (part.calls, part.widest) for name, part in cost.parts.items()} == {
        "small/top": (1, 20), "small/listwise": (9, 20), "large": (1, 20),
    }  # fmt: skip


# --- errors


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("router nowhere.json", "the router nowhere.json can't be read"),
        ("router 5", "--rerank.combine.router"),
        ("threshold 2", "--rerank.combine.threshold 2: input should be less than or equal to 1"),
        ("fallback lsitwise", "--rerank.combine.fallback 'lsitwise' is not an arm; did you mean 'listwise'?"),
        ("unrouted large", "--rerank.combine.unrouted 'large' is not an arm"),
        ("mu 0.1", "--rerank.combine.mu is not known"),
    ],
)
def test_options_that_can_not_be_are_refused(words: str, says: str) -> None:
    key, value = words.split()
    with pytest.raises(UsageError) as error:
        plan(*layers.load("route", lift(["--rerank.engine.name", "oracle", f"--rerank.combine.{key}", value])[1]))
    assert says in str(error.value)


def of_arms(arms: dict[str, Any], combine: dict[str, Any]) -> None:
    plan(*layers.load("route", {"engine": {"name": "oracle", "qrels": "q"}, "arms": arms, "combine": combine}))


def test_router_and_settings_must_have_the_same_arms(tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    router(("none", "top", "cascade")).write(path)
    with pytest.raises(UsageError, match=r"the router has an arm cascade: set --rerank\.arms\.cascade\.reranker NAME"):
        of_arms({}, {"router": str(path)})
    with pytest.raises(UsageError, match="the router has no arm 'listwise'; its arms: none, top, cascade"):
        of_arms({"cascade": {"reranker": "coranking"}}, {"router": str(path)})
    of_arms({"cascade": {"reranker": "coranking"}}, {"router": str(path), "fallback": "listwise"})
    with pytest.raises(UsageError, match=r"the arm none is the first-stage order.*remove --rerank\.arms\.none"):
        of_arms({"none": {"reranker": "reasonrank"}}, {"router": str(path)})


def test_no_router_and_no_arm_for_all_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^the route combination needs a router: set --rerank\.combine\.router FILE"):
        of_arms({}, {"unrouted": None})
