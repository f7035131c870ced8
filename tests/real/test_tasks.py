"""Tasks beyond passages, as whole commands: films for a person, language models for a request, JSON lines in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

from pyserini_reasonrank.__main__ import main

FILMS = {
    "alien": ("Alien", "The crew of a towing ship answers a signal and brings something aboard that hunts them."),
    "heat": ("Heat", "A thief who plans everything and the detective who lives for catching him, in Los Angeles."),
    "spirited-away": ("Spirited Away", "A girl works in a bath house of spirits to win her parents back. Animated."),
    "casablanca": ("Casablanca", "A cafe owner in wartime Morocco meets the woman who once left him."),
    "the-thing": ("The Thing", "At a station in Antarctica no one knows who is still human."),
    "toy-story": ("Toy Story", "A cowboy doll fears that a space ranger takes his place. Animated."),
    "singin-in-the-rain": ("Singin' in the Rain", "A silent film studio has to learn to talk, with songs and dances."),
    "blade-runner": ("Blade Runner", "A policeman hunts artificial people who want to live longer."),
}
PEOPLE = {
    "u1": ("Watched, oldest first: The Exorcist; Jaws; The Fly; The Shining.", "the-thing"),
    "u2": ("Watched, oldest first: My Neighbor Totoro; Finding Nemo; Porco Rosso.", "spirited-away"),
    "u3": ("Watched, oldest first: Top Hat; Cabaret; West Side Story.", "singin-in-the-rain"),
}
MODELS = {
    "llama-3-8b": ("LLaMA-3 (8b)", "small and quick, for everyday questions; 0.2 $ per million tokens"),
    "llama-3-70b": ("LLaMA-3 (70b)", "good at most things; 0.9 $ per million tokens"),
    "llama-3.1-turbo-70b": ("LLaMA-3.1-Turbo (70b)", "the same size, a longer context; 0.88 $ per million tokens"),
    "mixtral-8x7b": ("Mixtral-8x7B", "eight experts, two of which answer a token; 0.6 $ per million tokens"),
    "qwen-1.5-72b": ("Qwen-1.5 (72b)", "strong in Chinese and in mathematics; 0.9 $ per million tokens"),
    "code-llama-34b": ("Code Llama (34b)", "trained on programs, weak elsewhere; 0.78 $ per million tokens"),
}
REQUESTS = {
    "r1": ("Quality alone counts. Prove that the square root of two is no fraction.", "qwen-1.5-72b"),
    "r2": ("Cost counts as much as quality. What is the capital of France?", "llama-3-8b"),
    "r3": ("Quality alone counts. Write a parser of CSV files in C.", "code-llama-34b"),
}
Catalogue = Mapping[str, tuple[str, str]]


@pytest.fixture
def tasks(tmp_path: Path) -> Mapping[str, Path]:
    """Candidates files, by task, each with qrels beside it: every item or model for every query, the best one nowhere
    at the top."""
    return {
        "recommendation": written(tmp_path / "films.jsonl", FILMS, PEOPLE),
        "routing": written(tmp_path / "models.jsonl", MODELS, REQUESTS),
    }


def written(path: Path, catalogue: Catalogue, queries: Catalogue) -> Path:
    lines, qrels = [], []
    for qid, (query, best) in queries.items():
        docids = sorted(catalogue, key=lambda docid: docid == best)  # the best last
        candidates = [{"docid": d, "title": catalogue[d][0], "text": catalogue[d][1]} for d in docids]
        lines.append(json.dumps({"qid": qid, "query": query, "candidates": candidates}))
        qrels.append(f"{qid} 0 {best} 1\n")
    path.write_text("".join(f"{line}\n" for line in lines))
    qrels_of(path).write_text("".join(qrels))
    return path


def qrels_of(path: Path) -> Path:
    return path.with_suffix(".qrels")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def flags(name: str, candidates: Path, output: Path, *more: object) -> list[str]:
    words = ["rerank", "--rerank", name, "--candidates", candidates, "--output", output, "--output-format", "jsonl"]
    return [str(word) for word in (*words, *more)]


def oracle(candidates: Path) -> list[object]:
    return ["--rerank.engine.name", "oracle", "--rerank.engine.qrels", qrels_of(candidates)]


def test_films_from_the_command_line(tasks: Mapping[str, Path], command: Command, tmp_path: Path) -> None:
    films, output = tasks["recommendation"], tmp_path / "run.jsonl"
    done = command(*flags("iranker-recommendation", films, output, *oracle(films)))
    assert (done.returncode, done.stderr) == (0, "")
    assert "calls     21 judgements (21 ok)" in done.stdout  # seven for each person

    found = rows(output)
    assert [row["qid"] for row in found] == list(PEOPLE)
    for row in found:
        assert row["tag"] == "iranker-recommendation-oracle"
        assert row["ranking"][0]["docid"] == PEOPLE[row["qid"]][1]
        assert [hit["rank"] for hit in row["ranking"]] == list(range(1, 9))
        assert [hit["score"] for hit in row["ranking"]] == list(range(8, 0, -1))
        assert {hit["docid"] for hit in row["ranking"]} == FILMS.keys()

    done = command("validate", output, "--first", films)
    assert (done.returncode, done.stdout) == (0, "valid: 3 topics, 24 documents\n")
    measures = ["Success@1", "Success@5", "RR", "nDCG@10"]
    done = command("evaluate", "--qrels", qrels_of(films), films, output, "--format", "json", "--measures", *measures)
    report = json.loads(done.stdout)
    assert [score["value"] for score in report["first"]["scores"]] == pytest.approx([0, 0, 1 / 8, 0.3155], abs=1e-4)
    assert [score["value"] for score in report["runs"][0]["scores"]] == [1, 1, 1, 1]


@pytest.mark.parametrize("task", ["recommendation", "routing"])
@pytest.mark.parametrize(("name", "more", "calls"), [("iranker", [], 1), ("iranker", ["--rerank.judge.drop", "3"], 3),
                                                     ("dranker", [], 99)])  # fmt: skip
def test_each_task_both_ways(
    name: str, more: list[str], calls: int, task: str, tasks: Mapping[str, Path], tmp_path: Path
) -> None:
    candidates, output = tasks[task], tmp_path / "run.jsonl"
    assert main(flags(f"{name}-{task}", candidates, output, *oracle(candidates), *more)) == 0
    best = {qid: best for qid, (_, best) in (PEOPLE if task == "recommendation" else REQUESTS).items()}
    assert {row["qid"]: row["ranking"][0]["docid"] for row in rows(output)} == best
    n = len(FILMS if task == "recommendation" else MODELS)
    assert len(trace(output)) == 3 * -(-(n - 1) // calls)
    assert main(["validate", str(output), "--first", str(candidates)]) == 0


def trace(output: Path) -> list[dict[str, Any]]:
    from pyserini_reasonrank.journal_reader import export

    return list(export(Path(f"{output}.journal.sqlite")))


def test_models_are_dropped_by_whatever_they_are_called(tasks: Mapping[str, Path], tmp_path: Path) -> None:
    def named(text: str) -> str:
        return f"They differ in size.</think>\n<answer>{text}</answer>"

    answers = {
        named("Code Llama (34b)"): ("code-llama-34b", ""),
        named("mixtral-8x7b"): ("mixtral-8x7b", "a name in other case"),
        named("The worst choice is LLaMA-3.1-Turbo (70b)"): ("llama-3.1-turbo-70b", "a name within"),
        named("meta-llama/Meta-Llama-3-70B-Instruct"): ("llama-3-70b", "a model like it"),
        "Both are good.</think>\nSo I would do without Qwen-1.5": ("qwen-1.5-72b", "no answer tag, a name within"),
    }
    recorded = tmp_path / "answers.jsonl"
    lines = [json.dumps({"qid": "r2", "call": i, "response": text}) for i, text in enumerate(answers)]
    recorded.write_text("\n".join(lines))
    request = tmp_path / "request.jsonl"
    request.write_text(tasks["routing"].read_text().splitlines()[1])
    output = tmp_path / "run.jsonl"
    engine = ["--rerank.engine.name", "recorded", "--rerank.engine.path", recorded]
    assert main(flags("iranker-routing", request, output, *engine)) == 0
    assert [(r["order"][-1], r["detail"]) for r in trace(output)] == list(answers.values())
    assert [r["status"] for r in trace(output)] == ["ok", *["repaired"] * 4]
    [row] = rows(output)
    dropped = [docid for docid, _ in answers.values()]
    assert [hit["docid"] for hit in row["ranking"]] == ["llama-3-8b", *reversed(dropped)]


@pytest.mark.soak_only
def test_a_model_routes_and_every_answer_is_accounted_for(tasks: Mapping[str, Path], tmp_path: Path) -> None:
    """The embedded model: it ranks badly, but something is always dropped, by a rule that the trace names."""
    pytest.importorskip("transformers")
    request = tmp_path / "request.jsonl"
    row = json.loads(tasks["routing"].read_text().splitlines()[1])
    request.write_text(json.dumps(row | {"candidates": row["candidates"][:3]}))
    output = tmp_path / "run.jsonl"
    engine: Sequence[object] = ["--rerank.engine.name", "transformers", "--rerank.model", "smollm2-135m"]
    short = ["--rerank.sampling.max_tokens", 24, "--rerank.passage_tokens", 24]
    assert main(flags("iranker-routing", request, output, *engine, *short)) == 0
    asked = trace(output)
    assert [len(r["docids"]) for r in asked] == [3, 2]
    assert all(r["detail"] for r in asked if r["status"] != "ok")
    assert main(["validate", str(output), "--first", str(request)]) == 0
