"""vLLM in this process: one AsyncLLM on a background loop for its whole lifetime."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pyserini_reasonrank.engines import DETERMINISTIC, Engine, EngineOptions
from pyserini_reasonrank.engines.background_loop import BackgroundLoop
from pyserini_reasonrank.engines.chat import Chat, TokenIds, disjoint
from pyserini_reasonrank.engines.local.library_setup import before_torch
from pyserini_reasonrank.errors import Failure, UsageError, message_of, nearest
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.models.describe import read_adapter_config
from pyserini_reasonrank.records import Call, Capability, Completion, Prompt, Sampling

_ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB; read by the CPU build only
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "max_tokens")
RAW_LOGITS = "raw_logits"
"""The ``logprobs_mode`` in which vLLM reports logits in place of log-probabilities, of all requests."""


_NOT_ON_A_CPU = (
    f"vLLM {{version}} has no batch-invariant kernels for a CPU, which {DETERMINISTIC} needs: leave it out, or use "
    "--rerank.engine.name transformers"
)


class VLLMOptions(EngineOptions):
    """Settings of the vllm engine."""

    args: Annotated[dict[str, Any], Field(description="vLLM's EngineArgs: tensor_parallel_size, dtype, ...")] = {}


class VLLM(Engine[VLLMOptions]):
    """Passes every call to vLLM at once, which batches continuously. VLLM_LOGGING_LEVEL=INFO shows its log."""

    name = "vllm"
    needs_weights = True
    options_class = VLLMOptions
    _chat: Chat

    def __init__(self, model: Model, options: VLLMOptions) -> None:
        super().__init__(model, options)
        logits = options.args.get("logprobs_mode") == RAW_LOGITS
        others = {Capability.CHOICES, Capability.LIKELIHOOD} if logits else {Capability.LOGITS}
        self.capabilities = frozenset(Capability) - others
        self._context = model.context
        self._encoding = ThreadPoolExecutor(1, "encoding")  # one thread at a time may use a tokenizer
        self._numbers = itertools.count()
        self._loop: BackgroundLoop | None = None
        self._llm: Any = None
        self._lora: Any = None

    def require_determinism(self, how: str) -> None:
        """UsageError if vLLM is its build for a CPU. On a GPU, whether it has the kernels is known when it starts."""
        with suppress(PackageNotFoundError):
            raise UsageError(_NOT_ON_A_CPU.format(version=version("vllm-cpu")))

    async def start(self) -> None:
        before_torch()
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if self.options.deterministic:
            os.environ["VLLM_BATCH_INVARIANT"] = "1"
        try:
            await asyncio.to_thread(self._prepare)
        except ImportError as error:
            raise UsageError(
                f"the vllm engine can't be imported ({error}): pip install 'pyserini-reasonrank[gpu]'"
            ) from error
        self._loop = BackgroundLoop("vllm")
        try:
            await self._loop.run(self._build())
        except (ValueError, TypeError, OSError) as error:
            raise UsageError(f"vLLM can't load {self.model.name}: {message_of(error)}") from error
        except RuntimeError as error:
            raise Failure(f"vLLM did not start ({message_of(error)}): VLLM_LOGGING_LEVEL=INFO shows why") from error
        atexit.register(self._llm.shutdown)
        self._context = self._llm.vllm_config.model_config.max_model_len

    def _prepare(self) -> None:
        from transformers import AutoTokenizer
        from vllm import AsyncEngineArgs, SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform
        from vllm.version import __version__

        known = [f.name for f in fields(AsyncEngineArgs)]
        for name in self.options.args:
            if name not in known:
                raise UsageError(f"--rerank.engine.args.{name} is not known to vLLM{nearest(name, known)}")
        self._sampling_names = list(inspect.signature(SamplingParams).parameters)
        arguments: dict[str, Any] = {
            "model": self.model.source,
            "revision": self.model.revision,
            "max_model_len": self.model.context,
            "enable_prefix_caching": True,
            "enforce_eager": current_platform.is_cpu(),  # on an accelerator, CUDA graphs are worth the time to capture them
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model.source, revision=self.model.revision)
        except (OSError, ValueError) as error:
            raise UsageError(f"the tokenizer of {self.model.name} can't be loaded: {message_of(error)}") from error
        if tokenizer.chat_template is None:
            raise UsageError(f"the tokenizer of {self.model.name} has no chat template: use an instruction-tuned model")
        self._chat = Chat(tokenizer, self.model)
        if self.options.deterministic and current_platform.is_cpu():
            raise UsageError(_NOT_ON_A_CPU.format(version=__version__))
        if self.model.adapter is not None:
            folder = _adapter_folder(self.model.adapter)
            arguments |= {"enable_lora": True, "max_lora_rank": _rank(folder)}
            self._lora = LoRARequest("adapter", 1, str(folder))
        self._arguments = AsyncEngineArgs(**(arguments | self.options.args))
        if current_platform.is_cpu() and self._arguments.enforce_eager:
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # log-probabilities would otherwise need a C++ compiler

    async def _build(self) -> None:
        from vllm.v1.engine.async_llm import AsyncLLM

        with _without_main():
            self._llm = AsyncLLM.from_engine_args(self._arguments)

    @property
    def max_model_len(self) -> int | None:
        return self._context

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        from vllm.v1.engine.exceptions import EngineDeadError

        assert self._loop is not None
        began = time.monotonic()
        answer = self._choose(prompt, sampling) if sampling.choices else self._write(prompt, sampling, call)
        try:
            read, written, found = await answer
        except (UsageError, Failure):
            raise
        except EngineDeadError as error:
            raise Failure("vLLM's engine process died: run the same command again to continue from here") from error
        except Exception as error:  # vLLM rejected this request
            return Completion(
                finish_reason="error", seconds=time.monotonic() - began, error=message_of(error.__cause__ or error)
            )
        return Completion(**found, prompt_tokens=read, output_tokens=written, seconds=time.monotonic() - began)

    async def _write(self, prompt: Prompt, sampling: Sampling, call: Call) -> tuple[int, int, Mapping[str, Any]]:
        if self.options.deterministic and sampling.temperature and sampling.seed is None:
            raise UsageError(f"{DETERMINISTIC} needs --rerank.sampling.seed, since the temperature is not 0")
        for name in sampling.extra:
            if name not in self._sampling_names:
                raise UsageError(f"--rerank.sampling.{name} is not known to vLLM{nearest(name, self._sampling_names)}")
        tokens = await asyncio.get_running_loop().run_in_executor(self._encoding, self._chat.tokens, prompt)
        wanted = {name: getattr(sampling, name) for name in _SAMPLING} | {"stop": list(sampling.stop)}
        if sampling.seed is not None:
            wanted["seed"] = sampling.seed + call.repeat.seed_offset
        if sampling.pattern:
            wanted["structured_outputs"] = _matching(sampling.pattern)
        output = await self._run(tokens, wanted | dict(sampling.extra))
        written = output.outputs[0]
        finish = "length" if written.finish_reason == "length" else "stop"
        found = {"text": written.text, "finish_reason": finish, "cached_tokens": output.num_cached_tokens or 0}
        return len(tokens), len(written.token_ids), found

    async def _choose(self, prompt: Prompt, sampling: Sampling) -> tuple[int, int, Mapping[str, Any]]:
        """Send one request for the next token after the prompt, and one for each beginning of a longer alternative.

        A single alternative, such as a query whose likelihood is computed, is read with the prompt in one request. That does
        not work with an adapter: vLLM 0.32 ignores it in prompt log-probabilities (and crashes on a CPU).
        """
        how = {"one_token": sampling.one_token, "apart": sampling.apart}
        encode = partial(self._chat.alternatives, prompt, sampling.choices, **how)
        tokens, spelled = await asyncio.get_running_loop().run_in_executor(self._encoding, encode)
        if len(spelled) == 1 and self.model.adapter is None and not sampling.logits:
            return len(tokens), 0, {"choices": {sampling.choices[0]: await self._likelihood(tokens, spelled[0])}}
        heads = sorted({s[:i] for s in spelled for i in range(len(s))})
        outputs = await asyncio.gather(*(self._next(tokens, h, spelled) for h in heads))
        after = {head: _first_token(output) for head, output in zip(heads, outputs, strict=True)}
        logprobs = [sum(after[s[:i]][s[i]] for i in range(len(s))) for s in spelled]
        cached = outputs[0].num_cached_tokens or 0  # of the prompt itself, the shortest of the requests
        found = {"choices": disjoint(sampling.choices, spelled, logprobs), "cached_tokens": cached}
        return len(tokens), len(heads), found

    async def _likelihood(self, tokens: list[int], said: TokenIds) -> float:
        """Return the log-probability of ``said`` after the prompt."""
        wanted = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}
        output = await self._run([*tokens, *said], wanted)
        found = output.prompt_logprobs[len(tokens) :]
        return float(sum(at[token].logprob for at, token in zip(found, said, strict=True)))

    async def _next(self, tokens: list[int], head: TokenIds, spelled: tuple[TokenIds, ...]) -> Any:
        """Return an output with log-probabilities, after the prompt and ``head``, of the next tokens of the alternatives."""
        onward = sorted({s[len(head)] for s in spelled if len(s) > len(head) and s[: len(head)] == head})
        wanted = {"temperature": 0.0, "max_tokens": 1, "logprob_token_ids": onward, "detokenize": False}
        return await self._run([*tokens, *head], wanted)

    async def _run(self, tokens: list[int], parameters: Mapping[str, Any]) -> Any:
        """Return vLLM's RequestOutput for one request."""
        assert self._loop is not None
        return await self._loop.run(self._last(tokens, parameters))

    async def _last(self, tokens: list[int], parameters: Mapping[str, Any]) -> Any:
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        request = SamplingParams(**{"output_kind": RequestOutputKind.FINAL_ONLY, **parameters})
        name = str(next(self._numbers))
        prompt = TokensPrompt(prompt_token_ids=tokens)
        return [output async for output in self._llm.generate(prompt, request, name, lora_request=self._lora)][-1]

    async def close(self) -> None:
        self._encoding.shutdown()
        if self._llm is not None:
            atexit.unregister(self._llm.shutdown)
            await asyncio.to_thread(self._llm.shutdown)
            self._llm = None
        if self._loop is not None:
            await asyncio.to_thread(self._loop.close)
            self._loop = None


def _first_token(output: Any) -> dict[int, float]:
    """Return the log-probabilities of the first token of an output, by token id."""
    return {token: found.logprob for token, found in output.outputs[0].logprobs[0].items()}


def _matching(pattern: str) -> Any:
    """Return vLLM's parameter for text that matches a regular expression."""
    from vllm.sampling_params import StructuredOutputsParams

    return StructuredOutputsParams(regex=pattern)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep a spawned process from importing this program's ``__main__``, which it does not need and may be a script."""
    main = sys.modules["__main__"]
    kept = {name: value for name, value in vars(main).items() if name in ("__spec__", "__file__")}
    for name in kept:
        delattr(main, name)
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(kept)


def _adapter_folder(adapter: str) -> Path:
    if Path(adapter).is_dir():
        return Path(adapter)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(adapter))
    except (OSError, ValueError) as error:
        raise UsageError(f"the adapter {adapter} is unavailable: {message_of(error)}") from error


def _rank(adapter: Path) -> int:
    """Return the smallest ``max_lora_rank`` of vLLM that is at least the adapter's rank."""
    config = read_adapter_config(str(adapter))
    if config is None or config.rank is None:
        raise UsageError(f"{adapter} is not a LoRA adapter: it has no adapter_config.json with a rank (r)")
    own = config.rank
    return next((rank for rank in (1, 8, 16, 32, 64, 128, 256, 320) if rank >= own), own)
