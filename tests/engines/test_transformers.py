"""The transformers engine with the embedded model: texts, company, alternatives, adapters, and what goes wrong."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from conftest import RunReranker, more
from tiny import WORDS, tiny_model

from pyserini_reasonrank.engines import Engine, build_engine
from pyserini_reasonrank.engines.local.packed_attention import using
from pyserini_reasonrank.engines.local.prompt_trees import PromptTree, log_probabilities, read_at_once
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.journal_reader import read_answers
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.models.embedded import ensure_embedded
from pyserini_reasonrank.records import Call, Candidate, Completion, Message, Prompt, Query, Repeat, Request, Sampling

if TYPE_CHECKING:
    from torch import Tensor

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the engines do, before torch is loaded

CALL = Call("q", 0, (), lambda gains: "", lambda gains, choices: {})
CAPITAL = Prompt((Message("user", "What is the capital of France?"),))
RATING = Prompt((Message("user", "Rate the helpfulness of this passage from 0 to 10: the sea is blue."),), "Rating: ")
PROMPTS = [
    Prompt((Message("user", f"Question {n}: tell me about {what} in detail. " + "Be brief. " * (7 * n)),))
    for n, what in enumerate(("rivers", "the moon", "old trains", "sorting", "whales"))
]


@pytest.fixture(scope="module")
def model() -> Model:
    try:
        return Model("smollm2-135m", str(ensure_embedded(None, progress=False)))
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def engine(model: Model) -> Iterator[Engine[Any]]:
    made = build_engine("transformers", {}, model)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.close())


def ask(engine: Engine[Any], *prompts: Prompt, **sampling: Any) -> Any:
    """One completion, or those of all prompts at once."""

    async def together() -> list[Completion]:
        wanted = Sampling(**{"max_tokens": 10, **sampling})
        return await asyncio.gather(*(engine.generate(p, wanted, CALL) for p in prompts))

    found = asyncio.run(together())
    return found if len(prompts) > 1 else found[0]


def test_answers(engine: Engine[Any]) -> None:
    answer = ask(engine, CAPITAL)
    assert (answer.text, answer.finish_reason, answer.error) == ("The capital of France is Paris.", "stop", None)
    assert (answer.prompt_tokens, answer.output_tokens) == (37, 8)
    assert answer.seconds > 0
    assert engine.max_model_len == 8192


def test_company_changes_nothing(engine: Engine[Any]) -> None:
    alone = [ask(engine, p) for p in PROMPTS]
    together = ask(engine, *reversed(PROMPTS))
    assert [a.text for a in alone] == [a.text for a in reversed(together)]
    assert len({a.text for a in alone}) == len(PROMPTS)


def test_company_changes_no_bit(engine: Engine[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the texts: the scores they are chosen by."""
    from pyserini_reasonrank.engines.local.sampler import SeededSampler

    rows: set[bytes] = set()

    def note(sampler: object, input_ids: Tensor, scores: Tensor, arguments: object) -> Tensor:
        rows.update(row.numpy().tobytes() for row in scores)
        return scores

    monkeypatch.setattr(SeededSampler, "__call__", note)
    ask(engine, *PROMPTS, max_tokens=6)
    together = rows.copy()
    assert len(together) == 6 * len(PROMPTS)
    rows.clear()
    ask(engine, PROMPTS[-1], max_tokens=6)
    assert len(rows) == 6
    assert rows <= together


def test_length_and_stop(engine: Engine[Any]) -> None:
    cut = ask(engine, CAPITAL, max_tokens=3)
    assert (cut.text, cut.finish_reason, cut.output_tokens) == ("The capital of", "length", 3)
    stopped = ask(engine, CAPITAL, stop=("Rome", "al of"))
    assert (stopped.text, stopped.finish_reason) == ("The capit", "stop")
    assert stopped.output_tokens < 8


def test_prefill_is_continued(engine: Engine[Any]) -> None:
    answer = ask(engine, replace(CAPITAL, prefill="The capital of France is"))
    assert (answer.text, answer.prompt_tokens) == (" Paris.", 42)


def test_seeded_sampling(engine: Engine[Any]) -> None:
    hot: dict[str, Any] = {"temperature": 1.0, "top_p": 0.95, "max_tokens": 8}
    once = ask(engine, CAPITAL, seed=1, **hot)
    assert ask(engine, *PROMPTS, CAPITAL, seed=1, **hot)[-1].text == once.text
    assert len({ask(engine, CAPITAL, seed=seed, **hot).text for seed in range(4)}) > 1
    assert ask(engine, CAPITAL, temperature=1.0, top_k=1, seed=1).text == "The capital of France is Paris."
    again = asyncio.run(engine.generate(CAPITAL, Sampling(seed=1, **hot), replace(CALL, repeat=Repeat(attempt=1))))
    assert again.text != once.text


def test_draws_follow_the_probabilities() -> None:
    import torch

    from pyserini_reasonrank.engines.local.sampler import sampled

    draws = 20_000
    weights = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03])

    def shares(temperature: float = 1.0, top_p: float = 1.0, top_k: float = 0.0, min_p: float = 0.0) -> list[float]:
        numbers = torch.tensor([[temperature], [top_p], [top_k], [min_p]]).expand(-1, draws).contiguous()
        keys = torch.randint(1, 2**31 - 1, (1, draws), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
        taken = sampled(weights.log().expand(draws, -1), torch.cat([numbers.view(torch.int32), keys])).argmax(-1)
        found: list[float] = (taken.bincount(minlength=5) / draws).tolist()
        return found

    squares = (weights**2 / (weights**2).sum()).tolist()
    assert shares() == pytest.approx(weights.tolist(), abs=0.015)
    assert shares(temperature=0.5) == pytest.approx(squares, abs=0.015)
    assert shares(top_k=2) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0], abs=0.015)
    assert shares(top_p=0.6) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0], abs=0.015)
    assert shares(min_p=0.2) == pytest.approx([0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0, 0], abs=0.015)


def plain_choices(
    model: Model, prompt: Prompt, choices: Sequence[str], adapter: str | Path | None = None
) -> dict[str, float]:
    """Probabilities by one whole forward pass for each alternative. Digits are single tokens here: 10 begins with 1."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.source)
    network = AutoModelForCausalLM.from_pretrained(model.source, dtype=torch.float32)
    if adapter:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, adapter)
    turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
    head = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + prompt.prefill
    start = len(tokenizer(head)["input_ids"])
    found = {}
    for choice in choices:
        ids = torch.tensor([tokenizer(head + choice)["input_ids"]])
        with torch.inference_mode():
            logprobs = network(ids).logits[0].log_softmax(-1)
        found[choice] = math.exp(sum(logprobs[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1])))
    if {"1", "10"} <= found.keys():
        found["1"] -= found["10"]
    return found


@pytest.mark.parametrize(
    ("prefill", "choices"),
    [
        ("Rating: ", tuple(map(str, range(11)))),
        ("<answer>", ("true", "false")),
        ("", ("The sea is", "The sky", "Blue")),
    ],
)
def test_choices_equal_a_plain_forward_pass(
    engine: Engine[Any], model: Model, prefill: str, choices: Sequence[str]
) -> None:
    prompt = replace(RATING, prefill=prefill)
    answer, other = ask(engine, prompt, CAPITAL, choices=choices)
    expected = plain_choices(model, prompt, choices)
    assert {c: math.exp(p) for c, p in answer.choices.items()} == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert other.choices != answer.choices
    assert (answer.text, answer.output_tokens, answer.error) == ("", 0, None)


def test_choices_that_have_to_be_one_token(engine: Engine[Any]) -> None:
    prompt = replace(CAPITAL, prefill="[")
    assert set(ask(engine, prompt, choices=("A", "B"), one_token=True).choices) == {"A", "B"}
    with pytest.raises(UsageError, match=r"smollm2-135m does not write '10' as one token after .*such as rankgpt"):
        ask(engine, prompt, choices=("1", "10"), one_token=True)


def test_choices_and_texts_at_once(engine: Engine[Any]) -> None:
    async def both() -> list[Completion]:
        return await asyncio.gather(
            *(engine.generate(p, Sampling(max_tokens=8), CALL) for p in PROMPTS),
            *(engine.generate(p, Sampling(choices=("true", "false")), CALL) for p in PROMPTS),
        )

    mixed = asyncio.run(both())
    apart = [*ask(engine, *PROMPTS, max_tokens=8), *ask(engine, *PROMPTS, choices=("true", "false"))]
    assert [(a.text, a.choices) for a in mixed] == [(a.text, a.choices) for a in apart]


TREES = [
    (range(100, 140), ((33,), (33, 32), (34,))),
    (range(300, 400), (tuple(range(500, 512)),)),
    (range(50, 57), ((1, 2, 3, 4), (1, 2, 9), (8, 7, 6), (5,))),
    (range(900, 1400), (tuple(range(700, 703)), tuple(range(720, 760)))),
]


@pytest.mark.parametrize("root", [19, *more(0, 7, 32, 75)])
def test_several_prompts_read_together_have_the_bits_of_each_alone(engine: Any, root: int) -> None:
    trees = [PromptTree([*range(2000, 2000 + root), *prompt], spelled) for prompt, spelled in TREES]
    together = engine._scorer._score([trees])
    assert together == [engine._scorer._score([[tree]])[0] for tree in trees]
    assert together == engine._scorer._score([trees[::-1]])[::-1]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is one lane")
def test_cores_read_side_by_side_with_the_bits_of_one_after_the_other(engine: Any, model: Model) -> None:
    import torch

    from pyserini_reasonrank.engines.local.threads import Workers

    scorer, trees = engine._scorer, [PromptTree(list(prompt), spelled) for prompt, spelled in TREES]
    expected, threads, own = scorer._score([trees]), torch.get_num_threads(), scorer._workers
    torch.set_num_threads(2)
    scorer._workers = Workers(torch.device("cpu"))
    try:
        assert scorer._workers.map(lambda _: torch.get_num_threads(), range(4)) == [1] * 4
        assert torch.get_num_threads() == 2
        rows = scorer._rows(trees)
        assert len(rows) == scorer._workers.count == 2
        assert [tree for row in rows for tree in row] == trees
        assert scorer._score(rows) == expected
        assert [len(row) for row in scorer._rows(trees[:1])] == [1]
    finally:
        scorer._workers.close()
        scorer._workers = own
        torch.set_num_threads(threads)


@pytest.mark.soak_only
def test_a_model_with_an_attention_of_its_own_gives_the_same_numbers(engine: Any) -> None:
    """Which is plain forward passes over the prompt and each alternative."""
    import torch

    trees = [PromptTree(list(prompt), spelled) for prompt, spelled in TREES]
    expected = engine._scorer._score([trees])
    with torch.inference_mode(), using(engine._scorer._model, "eager"):
        found = [one.tolist() for one in log_probabilities(engine._scorer._model, trees)]
    for some, others in zip(found, expected, strict=True):
        assert some == pytest.approx(others, abs=1e-3)


def test_a_prompt_that_another_goes_on_from_is_read_once(engine: Any) -> None:
    trees = [PromptTree(list(range(100, 100 + n)), ((33,), (34, 35))) for n in (40, 90, 40, 64)]
    assert read_at_once(trees) == 39 + (1 + 51 + 1 + 25) + 4
    assert engine._scorer._score([trees]) == [engine._scorer._score([[tree]])[0] for tree in trees]


def test_logits_are_those_before_the_softmax_in_any_company(engine: Engine[Any], model: Model) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wanted = Sampling(choices=("Yes",), one_token=True, logits=True, max_tokens=1)

    async def together() -> list[Completion]:
        samplings = (wanted, replace(wanted, logits=False))
        return await asyncio.gather(*(engine.generate(p, s, CALL) for p in PROMPTS[:2] for s in samplings))

    found = [answer.choices["Yes"] for answer in asyncio.run(together())]
    tokenizer = AutoTokenizer.from_pretrained(model.source)
    plain = AutoModelForCausalLM.from_pretrained(model.source, dtype="float32")
    [yes] = tokenizer("Yes", add_special_tokens=False)["input_ids"]
    expected = list[float]()
    for prompt in PROMPTS[:2]:
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        with torch.inference_mode():
            logits = plain(torch.tensor([ids])).logits[0, -1]
        expected += [logits[yes].item(), logits.log_softmax(-1)[yes].item()]
    assert found == pytest.approx(expected, abs=1e-3)
    assert found[0] > 0 > found[1]


def test_gradients_flow_through_a_tree(engine: Any) -> None:
    import torch

    embedded = engine._scorer._model.get_input_embeddings().weight
    [tree] = [PromptTree(list(prompt), spelled) for prompt, spelled in TREES[2:3]]
    with using(engine._scorer._model, "sdpa"):
        [found] = log_probabilities(engine._scorer._model, [tree])
    [gradient] = torch.autograd.grad(found.sum(), embedded)
    assert gradient.isfinite().all()
    assert gradient[50:57].abs().sum(-1).min() > 0


def test_adapter(engine: Engine[Any], model: Model, tmp_path: Path) -> None:
    made = build_engine("transformers", {}, replace(model, adapter=str(random_adapter(model, tmp_path))))
    asyncio.run(made.start())
    try:
        assert ask(made, CAPITAL).text != ask(engine, CAPITAL).text
        answer = ask(made, RATING, choices=("1", "10", "2"))
    finally:
        asyncio.run(made.close())
    expected = plain_choices(model, RATING, ("1", "10", "2"), adapter=tmp_path)
    assert {c: math.exp(p) for c, p in answer.choices.items()} == pytest.approx(expected, rel=1e-3, abs=1e-9)


def random_adapter(model: Model, folder: Path) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    settings = LoraConfig(
        r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(model.source), settings).save_pretrained(folder)
    return folder


def test_too_long_a_prompt(engine: Engine[Any]) -> None:
    answer = ask(engine, Prompt((Message("user", "word " * 9000),)))
    assert answer.finish_reason == "error"
    assert "the model takes 8192" in answer.error
    assert ask(engine, CAPITAL).error is None


def test_cancelled_calls_leave_the_others_alone(engine: Engine[Any]) -> None:
    async def one_cancelled() -> list[Any]:
        calls = [
            asyncio.ensure_future(engine.generate(p, Sampling(max_tokens=16), CALL)) for p in (*PROMPTS[:2], CAPITAL)
        ]
        await asyncio.sleep(0.5)
        calls[0].cancel()
        return await asyncio.gather(*calls, return_exceptions=True)

    cancelled, _, capital = asyncio.run(one_cancelled())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert capital.text == "The capital of France is Paris."
    assert ask(engine, CAPITAL).text == capital.text


def test_a_call_can_t_be_cancelled_while_it_is_answered(engine: Any) -> None:
    """Else the answer finds its future cancelled, and the thread that brings answers dies of it."""
    engine._decoder.start()
    name, found = engine._decoder.submit([1, 2, 3], 2, {}, None)
    assert not found.cancel()
    assert len(found.result(timeout=120)) <= 2
    engine._decoder.cancel(name)


def test_unknown_sampling_parameter(engine: Engine[Any]) -> None:
    with pytest.raises(UsageError, match="'best_of'"):
        ask(engine, CAPITAL, extra={"best_of": 2})


@pytest.mark.parametrize(
    ("settings", "source", "message"),
    [
        ({"batching": {"num_block": 3}}, None, "'num_blocks'"),
        ({"args": {"dtype": "float33"}}, None, "float33"),
        ({}, "empty", "can't be loaded with transformers"),
    ],
)
def test_what_can_not_be_loaded(
    model: Model, tmp_path: Path, settings: dict[str, Any], source: str | None, message: str
) -> None:
    made = build_engine("transformers", settings, replace(model, source=str(tmp_path)) if source else model)
    with pytest.raises(UsageError, match=message):
        asyncio.run(made.start())
    asyncio.run(made.close())


def test_a_dead_model_is_a_failure(model: Model) -> None:
    made: Any = build_engine("transformers", {}, model)
    asyncio.run(made.start())

    def dies(*args: object, **kwargs: object) -> NoReturn:
        raise RuntimeError("the lights went out")

    made._decoder._manager.model.forward = dies
    with pytest.raises(Failure, match="the lights went out"):
        ask(made, *PROMPTS)
    with pytest.raises(Failure, match="the lights went out"):
        ask(made, CAPITAL)
    with pytest.raises(Failure, match="the lights went out"):
        ask(made, CAPITAL, choices=("yes", "no"))
    asyncio.run(made.close())


@pytest.mark.soak_only
def test_the_memory_set_aside_bounds_a_request(model: Model) -> None:
    made = build_engine("transformers", {"batching": {"num_blocks": 3, "page_size": 32}}, model)
    asyncio.run(made.start())
    try:
        assert made.max_model_len == 96
        assert ask(made, CAPITAL, PROMPTS[0], max_tokens=100)[0].finish_reason == "stop"
        assert "the model takes 96" in ask(made, PROMPTS[-1]).error
    finally:
        asyncio.run(made.close())


def test_runs_at_any_concurrency_are_the_same_bytes(run_reranker: RunReranker, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    words = tuple(Candidate(word, 9.0 - i, word) for i, word in enumerate(WORDS[:8]))
    requests = [Request(Query(word, word), words, n) for n, word in enumerate(("gem", "bear", "cloud"))]

    def run(concurrency: int) -> tuple[bytes, list[str]]:
        output = tmp_path / f"{concurrency}.txt"
        engine = {"name": "transformers", "device": "cpu", "deterministic": True, "concurrency": concurrency}
        sampling = {"temperature": 1.0, "seed": 3, "max_tokens": 6}
        flags = {"model": str(model), "engine": engine, "sampling": sampling, "strategy": {"k": 2}, "max_bad": 1}
        record = run_reranker("setwise", {**flags, "judge": {"repair": "none"}}, requests, output)
        return output.read_bytes(), sorted(answer.text for answer in read_answers(record.journal).values())

    alone, together = run(1), run(16)
    assert alone == together
    assert len(set(alone[1])) > 1


def test_a_deterministic_engine_needs_a_seed_and_our_attention(model: Model) -> None:
    engine = build_engine("transformers", {"deterministic": True, "args": {"attn_implementation": "eager"}}, model)
    with pytest.raises(UsageError, match=r"does not work with the attention eager"):
        asyncio.run(engine.start())
    with pytest.raises(UsageError, match=r"needs --rerank\.sampling\.seed"):
        ask(engine, CAPITAL, temperature=1.0)
