"""Hugging Face transformers in this process: continuous batching for texts, forward passes for alternatives."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pyserini_reasonrank.engines import DETERMINISTIC, Engine, EngineOptions
from pyserini_reasonrank.engines.chat import Chat, disjoint
from pyserini_reasonrank.engines.local.library_setup import before_torch, without_sklearn
from pyserini_reasonrank.errors import UsageError, message_of, nearest
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.models.describe import ModelConfig
from pyserini_reasonrank.records import Call, Capability, Completion, Prompt, Sampling

if TYPE_CHECKING:
    from pyserini_reasonrank.engines.local.alternatives import AlternativeScorer
    from pyserini_reasonrank.engines.local.continuous_batching import Decoder


_ONLY_ON_A_CPU = (
    "the transformers engine can't ensure {how} on {device}: only its kernels for a CPU do not depend on the other calls; "
    "leave it out, or set --rerank.engine.device cpu"
)


class TransformersOptions(EngineOptions):
    """Settings of the transformers engine."""

    device: Annotated[str, Field(description="cpu, cuda, cuda:1, mps; auto: an accelerator if there is one")] = "auto"
    args: Annotated[dict[str, Any], Field(description="passed to from_pretrained: dtype, device_map, ...")] = {}
    batching: Annotated[dict[str, Any], Field(description="passed to ContinuousBatchingConfig: num_blocks, ...")] = {}


class Transformers(Engine[TransformersOptions]):
    """One model, float32 on a CPU and in the dtype of its weights on an accelerator.

    On a CPU a request's text and probabilities do not depend on the other requests in flight; see engines/local/README.md.
    """

    name = "transformers"
    needs_weights = True
    options_class = TransformersOptions
    _decoder: Decoder
    _scorer: AlternativeScorer
    _chat: Chat

    def __init__(self, model: Model, options: TransformersOptions) -> None:
        super().__init__(model, options)
        self.capabilities = frozenset(Capability) - {Capability.PATTERN}
        self._context: int = model.context or 0
        self._encoding = ThreadPoolExecutor(1, "encoding")  # one thread at a time may use a tokenizer

    def require_determinism(self, how: str) -> None:
        if self.options.device not in ("auto", "cpu"):
            raise UsageError(_ONLY_ON_A_CPU.format(how=how, device=self.options.device))

    async def start(self) -> None:
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        before_torch()
        without_sklearn()
        _quiet()
        from transformers import ContinuousBatchingConfig

        known = [f.name for f in fields(ContinuousBatchingConfig)]
        for name in self.options.batching:
            if name not in known:
                raise UsageError(f"--rerank.engine.batching.{name} is not known{nearest(name, known)}")
        model, tokenizer = _loaded(self.model, self.options)
        if tokenizer.chat_template is None:
            raise UsageError(f"the tokenizer of {self.model.name} has no chat template: use an instruction-tuned model")
        if self.options.deterministic:
            _check_determinism(model)
        self._chat = Chat(tokenizer, self.model)
        positions = ModelConfig.of_loaded(model.config).positions or self._context
        self._context = min(self._context or positions, positions)
        self._eos = _ids(model.generation_config.eos_token_id) | _ids(tokenizer.eos_token_id)

        from pyserini_reasonrank.engines.local.alternatives import AlternativeScorer
        from pyserini_reasonrank.engines.local.continuous_batching import Decoder

        attention = model.config._attn_implementation
        self._decoder = Decoder(model, self.options.batching, sorted(self._eos))
        self._scorer = AlternativeScorer(model, attention, self._decoder.pause)
        self._context = min(self._context, self._decoder.room)

    @property
    def max_model_len(self) -> int | None:
        return self._context or None

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        if self.options.deterministic and sampling.temperature and sampling.seed is None and not sampling.choices:
            raise UsageError(f"{DETERMINISTIC} needs --rerank.sampling.seed, since the temperature is not 0")
        if sampling.extra:
            raise UsageError(
                f"the transformers engine has no sampling parameter {min(sampling.extra)!r}; vllm may have it"
            )
        began = time.monotonic()
        answer = self._choose(prompt, sampling) if sampling.choices else self._write(prompt, sampling, call)
        try:
            read, written, found = await answer
        except RuntimeError as error:
            return Completion(finish_reason="error", seconds=time.monotonic() - began, error=message_of(error))
        return Completion(**found, prompt_tokens=read, output_tokens=written, seconds=time.monotonic() - began)

    async def _write(self, prompt: Prompt, sampling: Sampling, call: Call) -> tuple[int, int, Mapping[str, Any]]:
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._encoding, self._prompt_tokens, prompt)
        self._check(len(tokens), 1)
        limit = min(sampling.max_tokens, self._context - len(tokens))
        watch = StopStrings(self._chat, sampling.stop) if sampling.stop else None
        name, future = self._decoder.submit(tokens, limit, _noise(sampling, call.repeat.seed_offset), watch)
        try:
            written = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._decoder.cancel(name)
            raise
        text = await loop.run_in_executor(self._encoding, self._chat.decode, written)
        text, stopped = cut_at_stop(text, sampling.stop)
        ended = stopped or written[-1] in self._eos
        return len(tokens), len(written), {"text": text, "finish_reason": "stop" if ended else "length"}

    def _prompt_tokens(self, prompt: Prompt) -> list[int]:
        self._decoder.start()
        return self._chat.tokens(prompt)

    async def _choose(self, prompt: Prompt, sampling: Sampling) -> tuple[int, int, Mapping[str, Any]]:
        how = {"one_token": sampling.one_token, "apart": sampling.apart}
        encode = partial(self._chat.alternatives, prompt, sampling.choices, **how)
        tokens, spelled = await asyncio.get_running_loop().run_in_executor(self._encoding, encode)
        self._check(len(tokens), max(map(len, spelled)))
        values = await asyncio.wrap_future(self._scorer.submit(tokens, spelled, logits=sampling.logits))
        return len(tokens), 0, {"choices": disjoint(sampling.choices, spelled, values)}

    def _check(self, prompt_tokens: int, room: int) -> None:
        if prompt_tokens + room > self._context:
            raise RuntimeError(
                f"the prompt has {prompt_tokens} tokens, the model takes {self._context} including the answer"
            )

    async def close(self) -> None:
        await asyncio.to_thread(self._unload)

    def _unload(self) -> None:
        self._encoding.shutdown()
        if hasattr(self, "_scorer"):
            self._scorer.close()
            self._decoder.close()
            del self._scorer, self._decoder


class StopStrings:
    """Tests whether a text that grows by one token a call contains one of its stop strings."""

    def __init__(self, chat: Chat, stop: Iterable[str]) -> None:
        self._chat = chat
        self._stop = tuple(stop)
        self._tail = max(len(s.encode()) for s in self._stop) + 1

    def __call__(self, tokens: Sequence[int]) -> bool:
        return cut_at_stop(self._chat.decode(tokens[-self._tail :]), self._stop)[1]


def cut_at_stop(text: str, stop: Iterable[str]) -> tuple[str, bool]:
    """Return ``text`` up to the first of the strings, and whether it has one."""
    places = [place for s in stop if (place := text.find(s)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _noise(sampling: Sampling, sample: int) -> dict[str, Any]:
    if sampling.temperature == 0:
        return {}
    seed = secrets.randbits(31) if sampling.seed is None else sampling.seed + sample
    return {name: getattr(sampling, name) for name in ("temperature", "top_p", "top_k", "min_p")} | {"seed": seed}


def _ids(tokens: int | list[int] | None) -> set[int]:
    return set() if tokens is None else {tokens} if isinstance(tokens, int) else set(tokens)


def _loaded(model: Model, options: TransformersOptions) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from pyserini_reasonrank.engines.local.prompt_trees import other_layers

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    device = (accelerator.type if accelerator else "cpu") if options.device == "auto" else options.device
    arguments = {"revision": model.revision, "dtype": "float32" if device == "cpu" else "auto", **options.args}
    try:
        if others := other_layers(AutoConfig.from_pretrained(model.source, revision=model.revision)):
            raise UsageError(
                f"the transformers engine does not run the layers of {model.name} ({', '.join(others)}): use vllm, or a server"
            )
        tokenizer = AutoTokenizer.from_pretrained(model.source, revision=model.revision)
        loaded: Any = AutoModelForCausalLM.from_pretrained(model.source, **arguments)
        if "device_map" not in arguments:
            loaded = loaded.to(device)
        if model.adapter is not None:
            from peft import PeftModel

            loaded = PeftModel.from_pretrained(loaded, model.adapter).merge_and_unload()
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{model.name} does not fit into the memory of {device}: use a smaller model or dtype"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise UsageError(f"{model.name} can't be loaded with transformers: {message_of(error)}") from error
    return loaded.eval(), tokenizer


def _check_determinism(model: Any) -> None:
    """UsageError unless ``model`` is on a CPU and has the attention that engines/local makes batch-invariant."""
    if model.device.type != "cpu":
        raise UsageError(_ONLY_ON_A_CPU.format(how=DETERMINISTIC, device=model.device.type))
    if (attention := model.config._attn_implementation) != "sdpa":
        raise UsageError(
            f"{DETERMINISTIC} does not work with the attention {attention}: leave out --rerank.engine.args.attn_implementation"
        )


def _quiet() -> None:
    if "TRANSFORMERS_VERBOSITY" in os.environ:
        return
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
