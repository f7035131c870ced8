"""Rows as the released trainings had them: released prompts read whole, the bare target, cuts and weights by source."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.runs import Hit
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.train import command
from pyserini_reasonrank.train.command import load
from pyserini_reasonrank.train.data import prepare as step
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.negatives import Draw, draw
from pyserini_reasonrank.train.data.prepare import Config, by_source, weighted
from pyserini_reasonrank.train.data.prompted import prompted_rows
from pyserini_reasonrank.train.data.row_builder import RowBuilder
from pyserini_reasonrank.train.data.rows import Audit, Row, read_rows
from pyserini_reasonrank.train.rewards import exclusion, multiview

SYSTEM = {"role": "system", "content": "You rank."}
QUESTION = """Here are 3 passages. Rank them for query: why is ice
slippery?.

[1] Ice is cold.
[9] degrees below
[2] A film of water.
[3] Skates are sharp.
Search query: why is ice
slippery?. Answer as [] > []."""
ANSWER = "<think>[2] says it.</think> <answer>[2] > [3] > [1]</answer>"
VERL: dict[str, Any] = {
    "prompt": [SYSTEM, {"role": "user", "content": QUESTION}],
    "dataset": "msmarco",
    "reward_model": {"ground_truth": "[2] > [3] > [1]", "style": "rule"},
    "extra_info": {"initial_list": ["x", "y", "z"], "final_list": ["y", "z", "x"], "relevant_docids": ["y"]},
}
TURNS = {"system": "You rank.", "instruction": QUESTION, "output": ANSWER}
LETTERED = QUESTION.replace("[1] I", "[A] I").replace("[2] A", "[B] A").replace("[3] S", "[C] S")
CHAT = {
    "conversations": [
        {"from": "system", "value": "You rank."},
        {"from": "human", "value": LETTERED},
        {"from": "gpt", "value": "[B] > [C] > [A]"},
    ]
}
NAMES = ["Alien", "Big", "Cube"]
BENCH: dict[str, Any] = {"task_name": "Movie", "problem": "Drop one of them.", "gt": "Big", "candidates": NAMES}


def model_folder(tokenizer_file: Path) -> str:
    (tokenizer_file.parent / "config.json").write_text('{"max_position_embeddings": 8192}', encoding="utf-8")
    return str(tokenizer_file.parent)


def write(path: Path, records: list[Any]) -> Path:
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pytest.importorskip("pyarrow").Table.from_pylist(records), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(records, indent=1), encoding="utf-8")
    else:
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


def read(form: str, path: Path) -> tuple[list[Row], Audit]:
    audit = Audit("records")
    return list(prompted_rows(form, path, "made-up", audit)), audit


# --- released prompts


@pytest.mark.parametrize("name", ["train.parquet", "train.json", "train.jsonl"])
def test_verl_s_rows_keep_prompt_order_and_labels(name: str, tmp_path: Path) -> None:
    [row], audit = read("verl", write(tmp_path / name, [VERL]))
    assert [(m.role, m.content) for m in row.prompt] == [("system", "You rank."), ("user", QUESTION)]
    assert (row.docids, row.gains, row.gold) == (("x", "y", "z"), (0.0, 1.0, 0.0), ("y", "z", "x"))
    assert (row.query, row.source, row.kind) == ("why is ice\nslippery?", "msmarco", "permutation")
    assert (audit.read, audit.kept) == (1, 1)
    columns: dict[str, Any] = {"docids": [row.docids], "gains": [row.gains], "gold": [row.gold]}
    assert multiview([], [ANSWER], published=True, **columns) == [pytest.approx(1.3)]


def test_turns_become_rows_to_imitate(tmp_path: Path) -> None:
    [row], _ = read("turns", write(tmp_path / "sft.json", [TURNS]))
    assert row.demonstration == ANSWER
    assert row.gains == (0.0, 2.0, 1.0)
    assert row.gold == (row.docids[1], row.docids[2], row.docids[0])
    assert (row.query, row.tags) == ("why is ice\nslippery?", True)


def test_conversations_with_letters_are_rows_of_first(tmp_path: Path) -> None:
    [row], _ = read("turns", write(tmp_path / "first.jsonl", [CHAT]))
    assert (row.kind, row.tags, row.demonstration) == ("first_token", False, "[B] > [C] > [A]")
    assert row.gains == (0.0, 2.0, 1.0)


@pytest.mark.parametrize("candidates", [BENCH["candidates"], str(BENCH["candidates"])])
def test_ranking_bench_names_its_candidates(candidates: Any, tmp_path: Path) -> None:
    [row], _ = read("ranking-bench", write(tmp_path / "bench.jsonl", [BENCH | {"candidates": candidates}]))
    assert (row.kind, row.source, row.choices) == ("worst", "Movie", ("Alien", "Big", "Cube"))
    columns: dict[str, Any] = {"docids": [row.docids], "gains": [row.gains], "choices": [row.choices]}
    for answer, reward in (("Alien", 1.0), ("Big", 0.0), ("Dune", -0.5)):
        text = f"<think>\nt\n</think>\n<answer>\n{answer}\n</answer>"
        assert exclusion([""], [text], **columns) == [reward]
        assert exclusion([""], [text], published=True, **columns) == [reward]


def test_ranking_bench_in_chatml_has_its_prefill(tmp_path: Path) -> None:
    turns = "<|im_start|>system\nBe fair.<|im_end|>\n<|im_start|>user\nDrop one.<|im_end|>\n<|im_start|>assistant\nWell.\n<think>"
    [row], _ = read("ranking-bench", write(tmp_path / "bench.jsonl", [BENCH | {"problem": turns}]))
    assert [(m.role, m.content) for m in row.prompt] == [("system", "Be fair."), ("user", "Drop one.")]
    assert row.prefill == "Well.\n<think>"


@pytest.mark.parametrize(
    ("form", "record", "fault"),
    [
        ("verl", VERL | {"prompt": None}, "the field prompt is missing or not a list"),
        ("verl", VERL | {"prompt": [{"role": "x", "content": "y"}]}, "the field prompt has a turn without role or content"),
        ("verl", VERL | {"reward_model": {}}, "the field reward_model.ground_truth is missing or not a text"),
        ("verl", VERL | {"reward_model": {"ground_truth": "[2] > [3]"}}, "does not name each passage of initial_list once"),
        ("verl", VERL | {"extra_info": {"relevant_docids": ["y"]}}, "the field initial_list is missing or not a list"),
        ("verl", VERL | {"extra_info": VERL["extra_info"] | {"relevant_docids": ["w"]}}, "the field relevant_docids has 1"),
        ("verl", VERL | {"prompt": [SYSTEM]}, "the prompt has no query before a list of passages"),
        ("turns", TURNS | {"output": None}, "the field output is missing or not a text"),
        ("turns", TURNS | {"output": "[1] > [2]"}, "the answer does not name each passage of the prompt once"),
        ("turns", {"conversations": [{"from": "gpt", "value": "a"}]}, "the field conversations does not end with"),
        ("ranking-bench", BENCH | {"gt": "Dune"}, "the field gt is not one of candidates"),
        ("ranking-bench", BENCH | {"candidates": "[Alien"}, "the field candidates is not a list of names"),
        ("ranking-bench", BENCH | {"task_name": None}, "the field task_name is missing or not a text"),
        ("ranking-bench", ["no record"], "not a record"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_file_and_row(form: str, record: Any, fault: str, tmp_path: Path) -> None:
    right = {"verl": VERL, "turns": TURNS, "ranking-bench": BENCH}[form]
    path = write(tmp_path / "rows.json", [right, record])
    rows, audit = read(form, path)
    assert len(rows) == 1
    [(named, places)] = audit.named.items()
    assert fault in named
    assert places == [f"{path}, record 2"]


def test_a_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", [VERL, VERL | {"reward_model": {"ground_truth": "[1]"}}])
    _, audit = read("verl", path)
    assert [*audit.named.values()] == [[f"{path}, row 2"]]


def test_files_of_a_folder_and_files_that_are_not_what_they_are_named(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", [VERL])
    write(tmp_path / "a.parquet", [VERL])
    (tmp_path / "README.md").write_text("no record", encoding="utf-8")
    assert len(read("verl", tmp_path)[0]) == 2
    (tmp_path / "c.parquet").write_text("no table", encoding="utf-8")
    with pytest.raises(UsageError, match=r"c\.parquet can't be read as Parquet"):
        read("verl", tmp_path)
    (tmp_path / "c.parquet").unlink()
    (tmp_path / "c.json").write_text("[{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"c\.json starts as a JSON array and is not one"):
        read("verl", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no file of records"):
        read("verl", tmp_path / "empty")


def test_a_data_set_of_the_hub_is_fetched_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train.jsonl", [VERL])
    asked = list[tuple[str, str, list[str]]]()

    def fetched(name: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append((name, repo_type, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", fetched)
    assert len(read("verl", Path("hf://owner/set"))[0]) == 1
    assert len(read("verl", Path("hf://datasets/owner/set/data/train.jsonl"))[0]) == 1
    assert asked[1] == ("owner/set", "dataset", ["data/train.jsonl", "data/train.jsonl/*"])
    with pytest.raises(UsageError, match="hf://owner does not name a data set"):
        read("verl", Path("hf://owner"))

    def lost(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", lost)
    with pytest.raises(
        UsageError, match="hf://owner/set can't be fetched: no network; download it and name its folder"
    ):
        read("verl", Path("hf://owner/set"))


def prepared(tmp_path: Path, tokenizer_file: Path, words: list[str]) -> list[Row]:
    given = [f"--model={model_folder(tokenizer_file)}", f"--output={tmp_path / 'rows.jsonl'}", *words]
    step.run(load("data", Config, given))
    return read_rows(tmp_path / "rows.jsonl")[0]


def test_released_prompts_are_written_as_they_are(tmp_path: Path, tokenizer_file: Path, capsys: Any) -> None:
    path = write(tmp_path / "train.parquet", [VERL])
    [row] = prepared(tmp_path, tokenizer_file, ["--format=verl", "--reranker=reasonrank", f"--path={path}"])
    assert row.prompt[1].content == QUESTION
    assert "1 of 1 records can be trained on" in capsys.readouterr().out
    with pytest.raises(UsageError, match="has rows of kind permutation, and the reranker rank-r1 asks for best"):
        prepared(tmp_path, tokenizer_file, ["--format=verl", "--reranker=rank-r1", f"--path={path}"])


# --- Tevatron's and ReasonIR's lists


def test_lists_of_passages_in_parquet_and_pairs_of_instruction_and_text(tmp_path: Path, tokenizer_file: Path) -> None:
    tevatron = {
        "query_id": "q1",
        "query": "why",
        "positive_passages": [{"docid": "a", "title": "", "text": "since"}],
        "negative_passages": [{"docid": "b", "title": "", "text": "not so"}],
    }
    path = write(tmp_path / "tevatron.parquet", [tevatron])
    words = ["--reranker=rank-r1", "--format=triples"]
    [row] = prepared(tmp_path, tokenizer_file, [*words, f"--path={path}"])
    assert sorted(row.docids) == ["a", "b"]
    pairs = {"query": ["Find it.", "why"], "pos": [["", "d7"]], "neg": [["", "not so"]]}
    corpus = write(tmp_path / "corpus.jsonl", [{"id": "d7", "contents": "since"}])
    path = write(tmp_path / "reasonir.jsonl", [pairs])
    [row] = prepared(tmp_path, tokenizer_file, [*words, f"--path={path}", f"--corpus={corpus}"])
    assert (row.query, "d7" in row.docids) == ("why", True)
    assert "since" in row.prompt[-1].content
    assert "d7" not in row.prompt[-1].content


# --- the rows of the recipes


def listing(n: int, source: str = "made-up", words: int = 3) -> LabelledList:
    candidates = tuple(Candidate(f"d{i}", -float(i), f"passage {i} " + "word " * words) for i in range(n))
    gains = tuple(float(i == 1) for i in range(n))
    return LabelledList(Query("q", "a query"), candidates, gains, tuple(range(1, n + 1)), source)


def test_setwise_sft_imitates_the_bare_label(tokenizer_file: Path) -> None:
    model = model_folder(tokenizer_file)
    flags: dict[str, Any] = {"judge": {"tags": True}, "sampling": {"max_tokens": 64}}
    bare = RowBuilder("setwise", model, flags, widest=3, thoughts=False)
    thoughtful = RowBuilder("setwise", model, flags, widest=3)
    assert [row.demonstration for row in bare.rows(listing(3))] == ["<answer>[2]</answer>"]
    assert all(row.demonstration.startswith("<think>") for row in thoughtful.rows(listing(3)))


def test_irankers_places_are_the_names_in_its_rows(tokenizer_file: Path) -> None:
    flags: dict[str, Any] = {"judge": {"labels": "places"}, "sampling": {"max_tokens": 64}}
    audit = Audit()
    [row] = RowBuilder("iranker", model_folder(tokenizer_file), flags, widest=3).usable_rows(listing(3), audit)
    assert row.choices == ("passage 0", "passage 1", "passage 2")
    columns: dict[str, Any] = {"docids": [row.docids], "gains": [row.gains], "choices": [row.choices]}
    columns["prefill"] = [row.prefill]
    assert exclusion([""], [row.demonstration], **columns) == [1.0]
    assert "passage 2" in row.demonstration
    assert exclusion([""], [row.demonstration.replace("passage 2", "passage 1")], **columns) == [0.0]


def test_rank_r1_v0_2_draws_lists_of_two_to_ten() -> None:
    hits = [Hit(f"d{i}", -float(i)) for i in range(100)]
    how = Draw(least=2, size=10, positives=1)
    sizes = Counter(len(found.docids) for seed in range(900) if (found := draw(hits, {"d5": 1}, how, Random(seed))))
    assert sorted(sizes) == list(range(2, 11))
    for size, count in sizes.items():  # n negatives of 1 to 9 have the weight n
        assert count / 900 == pytest.approx((size - 1) / 45, abs=0.04)
    with pytest.raises(ValueError, match="the smallest list has 11 passages"):
        Draw(least=11, size=10)


def test_sources_have_their_own_cut_and_weight(tmp_path: Path, tokenizer_file: Path) -> None:
    long = "word " * 60
    for name, folder in (("id_query", {"q": "a query"}), ("id_doc", {"x": f"x {long}", "y": f"y {long}"})):
        (tmp_path / name).mkdir()
        for dataset in ("msmarco", "biology"):
            (tmp_path / name / f"{dataset}.json").write_text(json.dumps(folder), encoding="utf-8")
    record = {"qid": "q", "initial_list": ["x", "y"], "final_list": ["y", "x"], "relevant_docids": ["y"]}
    path = write(tmp_path / "all.jsonl", [record | {"dataset": name} for name in ("msmarco", "biology")])
    rows = prepared(tmp_path, tokenizer_file, [
        "--format=reasonrank", "--reranker=reasonrank", f"--path={path}", f"--topics={tmp_path / 'id_query'}",
        f"--corpus={tmp_path / 'id_doc'}", "--passage_tokens", "{msmarco: 10}", "--weights", "{bio*: 2}",
    ])  # fmt: skip
    words = {row.source: row.prompt[-1].content.count("word") for row in rows}
    assert 0 < words["msmarco"] <= 20
    assert words["biology"] > 3 * words["msmarco"]  # 100 tokens a passage, the limit of the reranker
    assert sorted(row.source for row in rows) == ["biology", "biology", "msmarco"]


def test_weights_are_kept_on_average() -> None:
    assert by_source({"a*": 2.0, "ab": 3.0}, "ab") == 3.0
    assert by_source({"a*": 2.0}, "b") is None
    kept = [
        *weighted([listing(2, source) for source in ("a", "b", "c") for _ in range(1000)], {"a": 0.25, "b": 1.5}, 7)
    ]
    counts = {source: sum(one.source == source for one in kept) for source in "abc"}
    assert counts["c"] == 1000
    assert counts["a"] == pytest.approx(250, abs=50)
    assert counts["b"] == pytest.approx(1500, abs=50)


@pytest.mark.parametrize(
    ("name", "prompt", "whitespace"),
    [
        ("data-reasonrank", "reasonrank:reasoning", "strip"),
        ("data-rank-r1", "llm_rankers:setwise-r1", "keep"),
        ("data-rank-r1-v0.2", "llm_rankers:setwise-r1-v0.2", "keep"),
        ("data-setwise-sft", "llm_rankers:setwise", "keep"),
    ],
)
def test_a_recipe_s_rows_have_the_checkpoint_s_own_prompt_and_passages(name: str, prompt: str, whitespace: str) -> None:
    settings = command.read_settings(name)
    known = known_models()[settings["like"]]
    assert known.settings["prompt"] == prompt
    assert known.settings["passage"]["whitespace"] == whitespace
    assert known.reranker == settings["reranker"]


def test_rows_are_like_those_of_the_checkpoint_that_is_named(tokenizer_file: Path) -> None:
    """The white space of a passage is a property of the checkpoint: Rank-R1 keeps it, and other models flatten it."""
    candidates = tuple(Candidate(f"d{i}", -float(i), f"a{i}\n  b") for i in range(2))
    labelled = LabelledList(Query("q", "a query"), candidates, (0.0, 1.0), (1, 2), "made-up")
    model = model_folder(tokenizer_file)
    [plain] = RowBuilder("rank-r1", model, {}, widest=2).rows(labelled)
    [like] = RowBuilder("rank-r1", model, {"prompt": "best-reasoning"}, widest=2, like="rank-r1-7b").rows(labelled)
    assert "a0 b" in plain.prompt[-1].content
    assert "a0\n  b" in like.prompt[-1].content
