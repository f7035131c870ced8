"""The settings of the ray engine, its identity and its plan. Neither Ray nor a cluster is needed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.cli.rerank_help import flags_help
from pyserini_reasonrank.engines import build_engine
from pyserini_reasonrank.engines import ray as ray_engine
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call
from pyserini_reasonrank.run.fingerprint import fingerprint_of
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.schema import answering_engine, local_engine

CALL = Call("q", 0, ("a", "b"), lambda gains: "", lambda gains, choices: {})
OWN = {"name": "ray", "replicas": 2, "address": "auto", "gpus": 1, "retries": 1, "wait": 5}


def made(model: Model, **settings: Any) -> ray_engine.Ray:
    given = {**OWN, **settings}
    found = build_engine(given.pop("name"), given, model)
    assert isinstance(found, ray_engine.Ray)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Model:
    """A model that is a folder, whose content identifies it."""
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return Model("m", str(tmp_path))


@pytest.mark.parametrize("of", ["vllm", "transformers"])
def test_the_identity_is_that_of_the_engine_in_the_replicas(of: str, folder: Model) -> None:
    args = {"dtype": "float32", "tensor_parallel_size": 2}
    engine, local = made(folder, of=of, args=args), build_engine(of, {"args": args}, folder)
    assert engine.identity(CALL) == local.identity(CALL)
    assert engine.weights_identity() == local.weights_identity() is not None
    assert engine.capabilities == local.capabilities
    assert engine.answering.needs_weights


def test_settings_are_those_of_both_engines(folder: Model) -> None:
    engine = made(folder, of="transformers", batching={"page_size": 32})
    assert engine.options.concurrency == 512
    assert made(folder, concurrency=7).options.concurrency == 7
    assert engine.answering.options.model_dump()["batching"] == {"page_size": 32}
    for wrong, message in (
        ({"replica": 3}, r"--rerank\.engine\.replica is not known"),
        ({"replicas": 0}, "replicas 0"),
        ({"resources": {"CPU": 2}}, "resources .*set cpus in place of the resource CPU"),
        ({"resources": {"tpu": -1}}, r"resources\.tpu -1"),
    ):
        with pytest.raises(UsageError, match=message):
            made(folder, **wrong)


@pytest.mark.parametrize("of", ["openai", "ray"])
def test_engines_that_are_not_local_are_refused(of: str, folder: Model) -> None:
    with pytest.raises(UsageError, match=rf"--rerank\.engine\.of {of} does not run in a replica"):
        made(folder, of=of)


def test_a_run_on_ray_is_the_run_of_the_local_engine() -> None:
    inner = {"inner": {"name": "oracle", "qrels": "q.txt"}, "seconds": 0.1}
    here = plan(*layers.load("setwise", {"engine": {"name": "faulty", **inner}}))
    there = plan(*layers.load("setwise", {"engine": {**OWN, "of": "faulty", **inner}}))
    assert there.tag == here.tag
    assert fingerprint_of(there, (), RunFormat.TREC) == fingerprint_of(here, (), RunFormat.TREC)
    assert answering_engine({**OWN, "of": "faulty", **inner}) == "oracle"
    assert local_engine(OWN) == {"name": "vllm"}


@pytest.mark.skipif(not find_spec("torch"), reason="the embedded model is converted with PyTorch")
def test_a_plan_does_not_import_ray() -> None:
    code = "import sys; from pyserini_reasonrank.__main__ import main; main(sys.argv[1:]); print('ray' in sys.modules)"
    words = ["explain", "--rerank", "upr", "--rerank.engine.name", "ray", "--rerank.engine.address", "10.0.0.1:6379"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "upr with smollm2-135m-rank on ray, depth 100"
    assert done.stdout.splitlines()[-1] == "False"


def test_the_gpus_of_a_replica_are_those_of_its_parallel_sizes(folder: Model) -> None:
    args = {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}
    assert made(folder, args=args, gpus=None)._gpus({"GPU": 16.0}) == 8
    assert made(folder, args=args, gpus=None)._gpus({"CPU": 16.0}) == 0
    assert made(folder, args=args, gpus=0.5)._gpus({"GPU": 16.0}) == 0.5
    assert made(folder, of="oracle", gpus=None)._gpus({"GPU": 16.0}) == 0


def test_a_replica_that_ray_rejects_is_given_up_at_once(folder: Model) -> None:
    pytest.importorskip("ray")

    class Rejected:
        def remote(self, *arguments: Any) -> Any:
            raise ValueError("Resource quantities >1 must be whole numbers.")

    async def filled() -> None:
        engine = made(folder, replicas=1, gpus=1.5, wait=600)
        await asyncio.gather(engine._keep(1, Rejected()), engine._pool.filled())

    with pytest.raises(Failure, match="a replica can't be placed: Resource quantities >1 must be whole numbers"):
        asyncio.run(asyncio.wait_for(filled(), 30))


def test_a_missing_package_is_named(folder: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(UsageError, match=r"pip install 'pyserini-reasonrank\[ray\]'"):
        asyncio.run(made(folder).start())


def test_the_help_shows_the_settings_of_both_engines() -> None:
    shown = flags_help("upr", {"engine": {"name": "ray", "of": "vllm"}})
    assert "--rerank.engine.replicas" in shown
    assert "--rerank.engine.args" in shown
    assert "a running cluster: auto or HOST:PORT" in shown
