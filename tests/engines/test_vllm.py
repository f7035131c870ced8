"""The vllm engine with the embedded model, in float32: vLLM itself, one engine process for all tests."""

import asyncio
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
from test_transformers import CALL, CAPITAL, PROMPTS, RATING, ask, plain_choices, random_adapter

from pyserini_reasonrank.engines import Engine, build_engine
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.judges.grades import Grades
from pyserini_reasonrank.judges.permutation import Permutation
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.models.embedded import ensure_embedded
from pyserini_reasonrank.records import Completion, Message, Prompt, Repeat, Sampling, Status

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The embedded model and a random adapter for it."""
    try:
        made = Model("smollm2-135m", str(ensure_embedded(None, progress=False)))
    except UsageError as error:
        pytest.skip(str(error))
    return replace(made, adapter=str(random_adapter(made, tmp_path_factory.mktemp("adapter"))))


@pytest.fixture(scope="module")
def adapted(model: Model) -> Iterator[Engine[Any]]:
    made = build_engine("vllm", {"args": {"dtype": "float32", "max_model_len": 2048}}, model)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.close())


@pytest.fixture
def engine(adapted: Engine[Any], monkeypatch: pytest.MonkeyPatch) -> Engine[Any]:
    """The engine without its adapter: a second engine process would take another minute."""
    monkeypatch.setattr(adapted, "_lora", None)
    return adapted


def test_answers(engine: Engine[Any]) -> None:
    answer = ask(engine, CAPITAL)
    assert (answer.text, answer.finish_reason, answer.error) == ("The capital of France is Paris.", "stop", None)
    assert (answer.prompt_tokens, answer.output_tokens) == (37, 8)
    assert engine.max_model_len == 2048


def test_length_stop_and_prefill(engine: Engine[Any]) -> None:
    cut = ask(engine, CAPITAL, max_tokens=3)
    assert (cut.text, cut.finish_reason, cut.output_tokens) == ("The capital of", "length", 3)
    stopped = ask(engine, CAPITAL, stop=("Rome", "al of"))
    assert (stopped.text, stopped.finish_reason) == ("The capit", "stop")
    continued = ask(engine, replace(CAPITAL, prefill="The capital of France is"))
    assert (continued.text, continued.prompt_tokens) == (" Paris.", 42)


def test_seeded_sampling(engine: Engine[Any]) -> None:
    hot: dict[str, Any] = {"temperature": 1.0, "max_tokens": 12}
    once = ask(engine, CAPITAL, seed=1, **hot).text
    assert ask(engine, CAPITAL, seed=1, **hot).text == once
    assert len({ask(engine, CAPITAL, seed=seed, **hot).text for seed in range(4)}) > 1
    again = asyncio.run(engine.generate(CAPITAL, Sampling(seed=1, **hot), replace(CALL, repeat=Repeat(attempt=1))))
    assert again.text != once


@pytest.mark.parametrize(
    ("prefill", "choices"), [("Rating: ", tuple(map(str, range(11)))), ("", ("The sea is", "The sky", "Blue"))]
)
def test_choices_equal_a_plain_forward_pass(
    engine: Engine[Any], model: Model, prefill: str, choices: Sequence[str]
) -> None:
    prompt = replace(RATING, prefill=prefill)
    answer, other = ask(engine, prompt, CAPITAL, choices=choices)
    expected = plain_choices(model, prompt, choices)
    assert {c: math.exp(p) for c, p in answer.choices.items()} == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert other.choices != answer.choices


def test_choices_that_have_to_be_one_token(engine: Engine[Any]) -> None:
    prompt = replace(CAPITAL, prefill="[")
    assert set(ask(engine, prompt, choices=("A", "B"), one_token=True).choices) == {"A", "B"}
    with pytest.raises(UsageError, match=r"smollm2-135m does not write '10' as one token"):
        ask(engine, prompt, choices=("1", "10"), one_token=True)


def test_constrained_answers(engine: Engine[Any]) -> None:
    """What the model would never write by itself, from the pattern to the judgement, beside a question that is free."""
    options: dict[str, Any] = {"tags": True, "constrain": True, "thought_tokens": 12}
    judges = [
        made(made.Options(**options), Sampling(max_tokens=64), engine.capabilities, "")
        for made in (Permutation, Grades)
    ]

    async def question(prompt: Prompt, sampling: Sampling, *, attempt: int = 0) -> Completion:
        return await engine.generate(prompt, sampling, CALL)

    async def together() -> list[Any]:
        asked = [judge.judge(question, CAPITAL, ["Paris", "Rome", "Oslo", "Bern"]) for judge in judges]
        return await asyncio.gather(*asked, engine.generate(CAPITAL, Sampling(max_tokens=10), CALL))

    permutation, grades, free = asyncio.run(together())
    assert free.text == "The capital of France is Paris."
    assert {permutation.status, grades.status} <= {Status.OK, Status.REPAIRED}
    assert sorted(permutation.order) == [0, 1, 2, 3]
    assert (grades.filled, len(grades.scores)) == (0, 4)
    bare = ask(
        engine, CAPITAL, pattern=Permutation(Permutation.Options(tags=False), Sampling(), frozenset(), "").pattern(4)
    )
    assert re.fullmatch(r"\[[1-4]\](( > |\n)\[[1-4]\]){3}", bare.text) or bare.finish_reason == "length"


def test_adapter(adapted: Engine[Any], model: Model) -> None:
    """Texts and probabilities are the adapter's: to 5 %, since vLLM keeps what it adds in less than float32."""
    expected = plain_choices(model, RATING, ("1", "10", "2"), adapter=model.adapter)
    answer = ask(adapted, RATING, choices=("1", "10", "2"))
    assert {c: math.exp(p) for c, p in answer.choices.items()} == pytest.approx(expected, rel=5e-2, abs=1e-9)
    assert ask(adapted, CAPITAL).text != "The capital of France is Paris."


@pytest.fixture(scope="module")
def transformers(model: Model) -> Iterator[Engine[Any]]:
    made = build_engine("transformers", {}, replace(model, adapter=None))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.close())


def test_greedy_texts_are_those_of_transformers(engine: Engine[Any], transformers: Engine[Any]) -> None:
    """Sums in another order tip a token where two are as good as equal, so not every text need agree."""
    pairs = zip(ask(engine, *PROMPTS, max_tokens=16), ask(transformers, *PROMPTS, max_tokens=16), strict=True)
    apart = [(a.text, b.text) for a, b in pairs if a.text != b.text]
    assert len(apart) <= 1, apart


def test_the_likelihood_of_a_text_is_that_of_transformers(engine: Engine[Any], transformers: Engine[Any]) -> None:
    text = "how do moths navigate at night"
    found, expected = (ask(each, *PROMPTS[:3], choices=(text,)) for each in (engine, transformers))
    assert [a.choices[text] for a in found] == pytest.approx([a.choices[text] for a in expected], abs=2e-3)


def test_a_cancelled_call_leaves_the_others_alone(engine: Engine[Any]) -> None:
    async def one_cancelled() -> list[Any]:
        calls = [
            asyncio.ensure_future(engine.generate(p, Sampling(max_tokens=64), CALL)) for p in (PROMPTS[0], CAPITAL)
        ]
        await asyncio.sleep(0.5)
        calls[0].cancel()
        return await asyncio.gather(*calls, return_exceptions=True)

    cancelled, capital = asyncio.run(one_cancelled())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert capital.text == "The capital of France is Paris."


def test_what_vllm_refuses_is_an_error_of_that_call(engine: Engine[Any]) -> None:
    answer = ask(engine, Prompt((Message("user", "word " * 3000),)))
    assert answer.finish_reason == "error"
    assert "2048" in answer.error
    assert "top_p" in ask(engine, CAPITAL, top_p=7.0).error


def test_unknown_names(engine: Engine[Any], model: Model) -> None:
    with pytest.raises(UsageError, match="'repetition_penalty'"):
        ask(engine, CAPITAL, extra={"repetition_penalti": 1.1})
    with pytest.raises(UsageError, match="'tensor_parallel_size'"):
        asyncio.run(build_engine("vllm", {"args": {"tensor_paralel_size": 2}}, model).start())


def test_a_dead_engine_process_is_a_failure(engine: Engine[Any]) -> None:
    """The last test: there is no engine after it."""
    import psutil

    async def killed() -> Completion:
        call = asyncio.ensure_future(
            engine.generate(CAPITAL, Sampling(max_tokens=1000, extra={"ignore_eos": True}), CALL)
        )
        await asyncio.sleep(1)
        (process,) = (p for p in psutil.Process().children() if "EngineCore" in " ".join(p.cmdline()))
        process.kill()
        return await call

    with pytest.raises(Failure, match="engine process died"):
        asyncio.run(killed())
    with pytest.raises(Failure, match="engine process died"):
        ask(engine, CAPITAL)
