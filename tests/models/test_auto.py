"""``--rerank.model auto``: the checkpoint where it can be held, and elsewhere one sentence that says what works."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import Collection

from pyserini_reasonrank import Reranker
from pyserini_reasonrank.__main__ import main
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models import auto, devices
from pyserini_reasonrank.models.auto import Choice, choose
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.flags import lift
from pyserini_reasonrank.settings.schema import Settings
from pyserini_reasonrank.train.data import labelling, synthesize

GB = 10**9
UPR = "--rerank upr (ranks on any machine)"
SERVER = "--rerank.engine.name openai --rerank.engine.base_url http://HOST:8000/v1 (a model server)"
REFUSAL = (
    "reasonrank needs a GPU: its model reasonrank-7b takes 17.1 GB of GPU memory, and no GPU was found; run the same "
    f"with {UPR}, with {SERVER}, or on a machine with a GPU that has 19 GB free"
)


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without an accelerator, with 16 GB of memory, and without a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(devices, "accelerators", tuple)
    main_memory(16, monkeypatch)


def main_memory(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    own = devices.Device(devices.CPU, "this machine", free * GB, free * GB)
    monkeypatch.setattr(devices, "own_memory", lambda: own)
    monkeypatch.setattr(auto, "own_memory", lambda: own)


def gpus(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    found = tuple(devices.Device(f"cuda:{i}", "GPU", each * GB, each * GB) for i, each in enumerate(free))
    monkeypatch.setattr(devices, "accelerators", lambda: found)


def settings(name: str, words: str = "", *, here: bool = True) -> Settings:
    return layers.load(name, lift(words.split())[1], here=here)[0]


def refused(name: str, words: str = "") -> str:
    with pytest.raises(UsageError) as error:
        settings(name, words)
    return str(error.value)


# --- which model


def test_the_checkpoint_where_an_accelerator_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 80)
    assert settings("reasonrank").model == settings("reasonrank").checkpoint == "reasonrank-7b"


def test_as_many_accelerators_count_as_the_engine_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 12, 12)
    for enough in ("tensor_parallel_size 2", "pipeline_parallel_size 2", "device_map auto", "quantization fp8"):
        assert settings("reasonrank", f"--rerank.engine.args.{enough}").model == "reasonrank-7b"
    for too_small in ("", "--rerank.engine.args nonsense", "--rerank.engine.device cpu"):
        assert refused("reasonrank", too_small).startswith("reasonrank needs a GPU")


def test_upr_runs_anywhere() -> None:
    assert settings("upr").model == "smollm2-135m-rank"


@pytest.mark.parametrize("name", ["reasonrank", "rank1", "erank", "rankgpt", "setwise", "prp", "rearank", "tourrank"])
def test_no_other_reranker_takes_the_embedded_model(name: str) -> None:
    assert refused(name).startswith(f"{name} needs a GPU: its model ")
    assert settings(name, "--rerank.model smollm2-135m").model == "smollm2-135m"


@pytest.mark.parametrize(
    ("engine", "model"),
    [
        ("openai", "auto"),
        ("oracle", "oracle"),
        ("recorded", "recorded"),
        ("faulty --rerank.engine.inner.name oracle", "faulty"),
        ("ray --rerank.engine.address auto", "reasonrank-7b"),  # the cluster's machines hold it
        ("ray --rerank.engine.of oracle", "oracle"),
    ],
)
def test_engines_that_load_no_model_here_need_no_gpu(engine: str, model: str) -> None:
    assert settings("reasonrank", f"--rerank.engine.name {engine}").model == model


def test_a_ray_cluster_of_this_machine_needs_one() -> None:
    assert "no GPU was found" in refused("reasonrank", "--rerank.engine.name ray")


def test_questions_by_which_the_embedded_model_ranks_and_adapters_for_it() -> None:
    assert choose("mine", None, "likelihood", {}) == Choice("smollm2-135m")
    assert choose("mine", "reasonrank-7b", "permutation", {}, adapter="student") == Choice("smollm2-135m")
    assert choose("mine", "reasonrank-7b", "permutation", {}).problem is not None


@pytest.mark.parametrize("name", ["setwise-likelihood", "order-adjuster"])
def test_a_reranker_without_a_checkpoint_asks_for_a_name(name: str) -> None:
    assert refused(name) == (
        f"{name} has no model of its own: name one with --rerank.model, or use --rerank upr, which ranks on any machine"
    )


# --- what the sentence says


def test_three_ways_without_a_gpu() -> None:
    assert refused("reasonrank") == REFUSAL
    assert refused("reasonrank", "--rerank.engine.device cpu") == REFUSAL
    assert refused("reasonrank", "--rerank.max_model_len 16384").endswith("a GPU that has 18 GB free")


def test_a_cpu_that_can_hold_the_checkpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    main_memory(64, monkeypatch)
    assert ", with --rerank.model reasonrank-7b (slowly, on this CPU), or on " in refused("reasonrank")
    assert settings("reasonrank", "--rerank.model reasonrank-7b --rerank.engine.device cpu").model == "reasonrank-7b"
    assert "on this CPU" not in refused("reasonrank", "--rerank.engine.name vllm")


def test_a_small_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 10)
    assert refused("rank-r1") == (
        "rank-r1 needs a GPU: its model rank-r1-7b takes 17.1 GB of GPU memory, and GPU has 10.0 GB free; run the same "
        f"with {UPR}, with --rerank.model rank-r1-3b (a smaller checkpoint), with {SERVER}, "
        "or on a machine with a GPU that has 19 GB free"
    )


def test_several_small_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 12, 12, 12, 12)
    assert f"with {UPR}, with --rerank.engine.args.tensor_parallel_size 2 (2 GPUs), with " in refused("reasonrank")


def test_the_arm_that_needs_it_is_named() -> None:
    assert refused("coranking").startswith("reasonrank (--rerank.arms.small) needs a GPU")
    assert refused("self-consistency").startswith("reasonrank (--rerank.arms.ranker) needs a GPU")
    assert settings("coranking", "--rerank.model smollm2-135m").arms["large"].model == "smollm2-135m"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--rerank.dept 5", "--rerank.dept is not known; did you mean 'depth'?"),
        ("--rerank.depth none", "--rerank.depth"),
        ("--rerank.max_model_len long", "--rerank.max_model_len 'long'"),
        ("--rerank.max_model_len -5", "--rerank.max_model_len -5"),
        ("--rerank.engine.name opanai", "there is no engine 'opanai'; did you mean 'openai'?"),
        pytest.param(
            "--rerank.model reasonrank7b",
            "there is no model 'reasonrank7b'",
            marks=pytest.mark.skipif(not find_spec("torch"), reason="needs an engine to plan for"),
        ),
        ("--rerank.config none.yaml", "--rerank.config none.yaml does not exist"),
    ],
)
def test_a_typing_error_is_reported_first(words: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        plan(settings("reasonrank", words))
    assert says in str(error.value)


def test_nothing_is_downloaded_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "with_available_texts", None)
    assert refused("reasonrank") == REFUSAL


# --- where it is said


def test_the_commands_and_the_python_api(
    collection: Collection, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = ["--output", str(tmp_path / "run.txt")]
    for command in (["rerank", *collection.inputs, *output], ["serve", "--port", "0"]):
        assert main([*command, "--rerank", "reasonrank"]) == 2
        assert capsys.readouterr() == ("", f"error: {REFUSAL}\n")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError) as error:
        Reranker()
    assert str(error.value) == REFUSAL


def test_a_teacher_that_can_not_answer(tmp_path: Path) -> None:
    config = labelling.Config.model_validate({
        "teacher": {"reranker": "reasonrank"}, "reranker": "reasonrank", "model": "smollm2-135m",
        "topics": tmp_path, "run": tmp_path, "corpus": tmp_path, "output": tmp_path / "rows.jsonl",
    })  # fmt: skip
    with pytest.raises(UsageError) as error:
        synthesize.run(config)
    assert str(error.value) == REFUSAL


@pytest.mark.skipif(not find_spec("torch"), reason="needs an engine to plan for")
def test_explain_works_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--rerank", "reasonrank"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("reasonrank with reasonrank-7b on transformers, depth 100\n")
    assert "warning: model reasonrank-7b needs 30.4 GB + 3.8 GB" in printed


@pytest.mark.model
def test_the_embedded_model_by_its_name_says_that_it_is_at_chance(tmp_path: Path) -> None:
    def warnings(name: str, **flags: Any) -> tuple[str, ...]:
        return plan(*layers.load(name, {"model": "smollm2-135m", **flags})).warnings

    said = "smollm2-135m answers reasonrank at chance level: it shows how a run works, and its order means nothing"
    assert warnings("reasonrank") == (said,)
    assert warnings("upr") == ()
    assert warnings("reasonrank", engine={"name": "openai", "base_url": "http://localhost:1"}) != (said,)
    with pytest.raises(UsageError, match="at chance level"):
        warnings("reasonrank", strict=True)


def test_no_library_of_models_is_imported_for_it(collection: Collection, tmp_path: Path) -> None:
    code = (
        "import sys; from pyserini_reasonrank.models import devices; devices._ACCELERATOR_FILES = (); "
        "from pyserini_reasonrank.__main__ import main; print(main(sys.argv[1:])); "
        "print({'torch', 'transformers', 'vllm', 'huggingface_hub', 'pyserini'} & set(sys.modules))"
    )
    words = ["rerank", *collection.inputs, "--output", str(tmp_path / "run.txt"), "--rerank", "reasonrank"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["2", "set()"]
