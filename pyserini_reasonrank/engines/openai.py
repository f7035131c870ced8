"""Any OpenAI-compatible endpoint: vLLM, SGLang, llama-server, OpenRouter, OpenAI. Does not import torch.

Requests go through :mod:`pyserini_reasonrank.engines.http_client`, and answers are read as plain JSON: the official client and
its typed response objects take several times the CPU of the request itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from pyserini_reasonrank.engines import Engine, EngineOptions, cache_counters
from pyserini_reasonrank.engines.addresses import OFFICIAL, addresses, check_address, key
from pyserini_reasonrank.engines.generative_scoring import SCORE, GenerativeScoring, Unavailable
from pyserini_reasonrank.engines.model_list import Entry, Expected, contexts, read_models, server_type
from pyserini_reasonrank.engines.next_tokens import ChoiceMass, continued, of_one_token
from pyserini_reasonrank.engines.parameters import Parameters
from pyserini_reasonrank.engines.replies import one_line, read_reply
from pyserini_reasonrank.engines.server_rotation import OtherModel, ServerFailed, ServerRotation
from pyserini_reasonrank.engines.server_types import NEUTRAL, PATTERN, for_template, heeds
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import AUTO, Model
from pyserini_reasonrank.records import Call, Capability, Completion, PrefixCache, Prompt, Sampling

if TYPE_CHECKING:
    from pyserini_reasonrank.engines.http_client import HttpClient

_log = logging.getLogger(__name__)

_SAMPLING = ("temperature", "top_p", "max_tokens")
_REFUSALS = (400, 422)
_UNAUTHORISED = (401, 403)
_ABSENT = (404, 405, 501)
"""The statuses of a path that a server does not have."""
NOT_FOUND = 404
_LIST_SECONDS = 60.0  # until a server has to send its model list
_COUNTERS_SECONDS = 5.0  # for the counters of its prefix cache, without which a run does as well
_OFF = {"top_k": 0, "min_p": 0.0}  # the values in our settings that turn them off


class OpenAIOptions(EngineOptions):
    """Settings of the HTTP client."""

    base_url: Annotated[str, Field(description="endpoint(s), comma-separated; default: OPENAI_BASE_URL")] = ""
    max_retries: Annotated[int, Field(ge=0, description="retries after a 408, 409, 429, 5xx or lost connection")] = 6
    timeout: Annotated[
        float,
        Field(gt=0, description="seconds until a request without an answer is sent again, and after the retries fails"),
    ] = 3600.0
    server: Annotated[
        Literal["auto", "vllm", "sglang", "llamacpp", "other"],
        Field(description="server type, which decides the parameters sent beyond OpenAI's; auto: from its model list"),
    ] = "auto"
    continue_final_message: Annotated[
        bool, Field(description="the server can continue an assistant turn (vLLM, SGLang); repairs cut thoughts")
    ] = False
    structured_outputs: Annotated[
        Literal["none", "vllm", "sglang"],
        Field(description="how the server is asked to match a regular expression"),
    ] = "none"
    top_logprobs: Annotated[
        int,
        Field(ge=1, description="the most next tokens whose log-probability the server reports (vLLM: --max-logprobs)"),
    ] = 20
    generative_scoring: Annotated[
        bool, Field(description="use vLLM's /generative_scoring, where a server has it, for judges of two answers")
    ] = True
    rename: Annotated[
        Mapping[str, str],
        Field(description="parameters that the server takes under other names, {max_tokens: max_completion_tokens}"),
    ] = {}
    drop: Annotated[
        tuple[str, ...],
        Field(description="parameters that the server refuses, [temperature, top_p]; they are not sent"),
    ] = ()


class _Unreachable(Exception):
    """No server answers at the address of ``client``."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__(f"no server answers at {client.base_url}/")
        self.client = client


class OpenAI(Engine[OpenAIOptions]):
    """Chat completions over HTTP, spread over one or more servers of the same model."""

    name = "openai"
    options_class = OpenAIOptions

    def __init__(self, model: Model, options: OpenAIOptions) -> None:
        super().__init__(model, options)
        self.capabilities = frozenset({Capability.REASK})
        if options.continue_final_message:
            self.capabilities |= {Capability.PREFILL, Capability.CHOICES}
        if options.structured_outputs != "none":
            self.capabilities |= {Capability.PATTERN}
        for url in addresses(options.base_url):
            check_address(url)
        self._clients: list[HttpClient] = []
        self._rotation: ServerRotation[HttpClient] = ServerRotation([])
        self._counted: list[PrefixCache | None] = []
        self._scoring: GenerativeScoring | None = None
        self._scores = True
        self._always: Mapping[str, Any] = {}
        self._parameters = Parameters(options.rename, options.drop)

    def require_determinism(self, how: str) -> None:
        raise UsageError(
            f"the openai engine can't ensure {how}, since the server batches the calls: leave it out, and start the server "
            "with a switch of its own (vLLM on a GPU: VLLM_BATCH_INVARIANT=1), or use --rerank.engine.name vllm or transformers"
        )

    async def start(self) -> None:
        from pyserini_reasonrank.engines.http_client import HttpClient

        urls, secret = addresses(self.options.base_url), key()
        if not urls and not secret:
            raise UsageError("the openai engine has neither an endpoint nor a key: set --rerank.engine.base_url to a server, "
                             "or set OPENAI_API_KEY to use OpenAI")  # fmt: skip
        options = self.options
        kinds: dict[str, str] = {}
        lists: list[Entry] = []
        unreachable: list[_Unreachable] = []
        for url in urls or [OFFICIAL]:
            client = HttpClient(
                url.rstrip("/"),
                secret,
                connections=options.concurrency,
                timeout=options.timeout,
                max_retries=options.max_retries,
            )
            self._clients.append(client)
            try:
                served = await self._reached(client)
            except _Unreachable as error:
                unreachable.append(error)
                continue
            kinds[client.base_url] = self._greet(client, served)
            lists += served
        if not kinds:
            raise UsageError(f"{unreachable[0]}: start it, or correct --rerank.engine.base_url")
        kind = next(iter(kinds.values())) if options.server == "auto" else None
        self._settle(kinds)
        self._expected = Expected(self.model.source, self.model.context, kind, lists)
        if len(differing := sorted(self._expected.checkpoints)) > 1:
            self.notices.append(
                f"the servers serve different checkpoints as {self.model.source}: {', '.join(differing)}"
            )
        self._rotation = ServerRotation(self._clients, self._check_again)
        self._counted = await self._read_counters()
        if self.options.server == "vllm" and self.options.generative_scoring:
            self._scoring = GenerativeScoring(self.model.source, self._always, self._post_json)
        for missing in unreachable:
            self._rotation.rest(missing.client)
            self.notices.append(f"{missing}: the other servers answer until it does")
        for url in kinds:
            self._parameters.know(url, self.model.source)

    async def _reached(self, client: HttpClient) -> list[Entry]:
        """The model list of a server. /v1 is added to the address if the server has its API there."""
        path = client.base_url
        if (served := await self._listed(client)) or path.endswith("/v1") or urlsplit(path).path:
            return served
        client.base_url = f"{path}/v1"
        if not (served := await self._listed(client)):
            client.base_url = path
            return served
        self.notices.append(
            f"{path} has no model list, but {path}/v1 has one and is used: add /v1 to --rerank.engine.base_url"
        )
        return served

    async def _listed(self, client: HttpClient) -> list[Entry]:
        """The model list of a server; [] if it has none, since it can still serve. _Unreachable if it does not answer."""
        from pyserini_reasonrank.engines.http_client import RequestFailed

        try:
            return read_models(await client.get("/models", timeout=_LIST_SECONDS))
        except RequestFailed as error:
            if error.status is None:
                raise _Unreachable(client) from error
            if error.status in _UNAUTHORISED:
                raise UsageError(f"{client.base_url}/ rejects the API key: set OPENAI_API_KEY") from error
        return []

    async def _check_again(self, client: HttpClient) -> None:
        """Check a server that answers again. OtherModel if it does not serve the model of the run, ServerFailed if it is down."""
        from pyserini_reasonrank.engines.http_client import RequestFailed

        try:
            served = await self._reached(client)
        except _Unreachable as error:
            raise ServerFailed(RequestFailed(str(error), unreachable=True), down=True) from error
        except UsageError as error:
            problem = str(error)
        else:
            difference = self._expected.difference(served, NEUTRAL)
            problem = f"{client.base_url}/ {difference}" if difference else ""
        if problem:
            self._notice(f"{problem}: it gets no calls")
            raise OtherModel(RequestFailed(problem), down=True)

    def _greet(self, client: Any, served: Sequence[Entry]) -> str:
        """Read the model, its context and the server type from a model list. Returns the type."""
        if self.model.source == AUTO:
            names = [m["id"] for m in served]
            if len(names) != 1:
                raise UsageError(
                    f"{client.base_url}/ lists {len(names)} models: name one with --rerank.model ({', '.join(names)})"
                )
            self.model = replace(self.model, name=names[0], source=names[0])
        elif len(served) == 1 and Path(self.model.source).is_dir() and served[0]["id"] != self.model.source:
            # the folder supplies the tokenizer; the server has the model under a name of its own
            self.model = replace(self.model, source=served[0]["id"])
        lengths = [self.model.context, *contexts(served, self.model.source)]
        self.model = replace(self.model, context=min((n for n in lengths if n is not None), default=None))
        return server_type(served, self.model.source, NEUTRAL)

    def _settle(self, kinds: Mapping[str, str]) -> None:
        """Set the server type, from ``kinds`` by address, and the parameters that every request sends to that type."""
        if self.options.server == "auto":
            if len(set(kinds.values())) > 1:
                said = ", ".join(f"{url} ({kind})" for url, kind in kinds.items())
                raise UsageError(
                    f"the servers are of different types: {said}; if that is wrong, set --rerank.engine.server"
                )
            self.options = self.options.model_copy(update={"server": next(iter(kinds.values()))})
        kind, arguments = self.options.server, self.model.chat_template_args
        if unheeded := [name for name in arguments if not heeds(kind, name)]:
            raise UsageError(
                f"{next(iter(kinds))} (server: {kind}) does not accept {', '.join(unheeded)} for its chat template, which "
                f"{self.model.name} needs: if it is vLLM or SGLang, set --rerank.engine.server vllm (or sglang); if its chat "
                f"template already has these values, set --rerank.chat_template_args "
                f"'{{{', '.join(f'{name}: null' for name in unheeded)}}}'"
            )
        bos = {"add_special_tokens": True} if self.model.bos and kind == "vllm" else {}
        self._always = {**NEUTRAL.get(kind, {}), **for_template(kind, arguments), **bos}

    def identity(self, call: Call) -> str:
        kind = self.options.server
        return super().identity(call) + (f"\n{kind}" if kind in NEUTRAL else "")

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        if sampling.choices:
            return await self._choose(prompt, sampling, call.qid)
        body = {**self._always, **{name: getattr(sampling, name) for name in _SAMPLING}}
        body |= {name: value for name, off in _OFF.items() if (value := getattr(sampling, name)) != off}
        if sampling.seed is not None:
            body["seed"] = sampling.seed + call.repeat.seed_offset
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.pattern:
            body |= PATTERN[self.options.structured_outputs](sampling.pattern)
        return await self._post(prompt, body | dict(sampling.extra), call.qid)

    async def _post(self, prompt: Prompt, body: dict[str, Any], qid: str) -> Completion:
        """Return the answer to a chat completion, from the server that has the query ``qid``."""
        from pyserini_reasonrank.engines.http_client import RequestFailed

        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        if prompt.prefill:
            messages.append({"role": "assistant", "content": prompt.prefill})
            body = body | {"add_generation_prompt": False, "continue_final_message": True}
        began = time.monotonic()
        try:
            answer = await self._rotation.ask(qid, partial(self._attempt, partial(self._sent, messages, body)))
        except RequestFailed as error:
            what = one_line(str(error))
            if error.status == NOT_FOUND:
                what = f"POST {error.url}: {what}"
            return Completion(finish_reason="error", error=what, seconds=time.monotonic() - began)
        return read_reply(answer, time.monotonic() - began)

    async def _attempt(
        self, send: Callable[[HttpClient, int | None], Awaitable[bytes]], client: HttpClient, patient: bool
    ) -> bytes:
        """Return the answer of one server. ServerFailed if another one may answer, or ``patient`` retries did not help."""
        from pyserini_reasonrank.engines.http_client import RequestFailed

        try:
            return await send(client, None if patient else 0)
        except RequestFailed as error:
            if error.again:
                raise ServerFailed(error, down=error.unreachable) from error
            raise

    async def _sent(
        self,
        messages: Sequence[Mapping[str, str]],
        body: Mapping[str, Any],
        client: HttpClient,
        max_retries: int | None,
    ) -> bytes:
        """Return the answer to a request. A parameter that the server refuses is renamed or left out, here and later."""
        from pyserini_reasonrank.engines.http_client import RequestFailed

        while True:
            named = self._parameters.named(body)
            try:
                return await client.post(
                    "/chat/completions",
                    {"model": self.model.source, "messages": messages, **named},
                    max_retries=max_retries,
                )
            except RequestFailed as error:
                learned = self._parameters.learn(named, error.body) if error.status in _REFUSALS else ""
                if not learned or self._parameters.named(body) == named:
                    raise
                self._notice(learned)

    def _notice(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)
            _log.warning("%s", notice)

    async def _choose(self, prompt: Prompt, sampling: Sampling, qid: str) -> Completion:
        """Return log-probabilities of the choices from the top next tokens; read two tokens where one is ambiguous.

        There are none if the server reports none, or too few to know those of the choices.
        """
        if (scored := await self._scored(prompt, sampling, qid)) is not None:
            return scored
        found = await self._next_tokens(prompt, sampling, qid)
        if found.error is not None:
            return found
        tokens, choices = found.choices, sampling.choices
        if sampling.one_token:
            return replace(found, choices=of_one_token(tokens, choices))
        mass = ChoiceMass(tokens, choices)
        for short, long in continued(choices):
            further = await self._next_tokens(replace(prompt, prefill=prompt.prefill + short), sampling, qid)
            if further.error is not None:
                return further
            if not mass.divide(short, long, further.choices):
                return replace(found, choices={})
        return replace(found, choices=mass.logs())

    async def _scored(self, prompt: Prompt, sampling: Sampling, qid: str) -> Completion | None:
        """Return the answer of vLLM's /generative_scoring; None if the server does not have it, or not for these choices."""
        from pyserini_reasonrank.engines.http_client import RequestFailed

        if self._scoring is None or not self._scores or not self._scoring.takes(sampling):
            return None
        try:
            return await self._scoring.score(qid, prompt, sampling.choices)
        except Unavailable:
            return None
        except (RequestFailed, KeyError, TypeError, ValueError, RecursionError) as error:
            if getattr(error, "status", None) not in _ABSENT:
                problem = f"{SCORE} of the server failed ({one_line(str(error) or type(error).__name__)})"
                self._notice(f"{problem}: answers are read from the likeliest next tokens")
            self._scores = False
            return None

    async def _post_json(self, qid: str, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON of the answer of the server that has the query, to a path beside /v1."""

        async def send(client: HttpClient, max_retries: int | None) -> bytes:
            return await client.post(f"{client.base_url.removesuffix('/v1')}{path}", body, max_retries=max_retries)

        return json.loads(await self._rotation.ask(qid, partial(self._attempt, send)))

    async def _next_tokens(self, prompt: Prompt, sampling: Sampling, qid: str) -> Completion:
        """Return a completion whose ``choices`` are the probabilities (not logs) of the likeliest next tokens."""
        wanted = {"temperature": 0.0, "max_tokens": 1, "logprobs": True, "top_logprobs": self.options.top_logprobs}
        return await self._post(prompt, {**self._always, **wanted, **sampling.extra}, qid)

    async def _read_counters(self) -> list[PrefixCache | None]:
        """The counters of each vLLM server's prefix cache; None for a server that does not send them at once."""
        from pyserini_reasonrank.engines.http_client import RequestFailed

        async def read(client: HttpClient) -> PrefixCache | None:
            address = f"{client.base_url.removesuffix('/v1')}{cache_counters.PATH}"
            try:
                async with asyncio.timeout(_COUNTERS_SECONDS):
                    body = await client.get(address, timeout=_COUNTERS_SECONDS)
            except (RequestFailed, TimeoutError):
                return None
            return cache_counters.read_counters(body.decode(errors="replace"))

        return await asyncio.gather(*map(read, self._clients)) if self.options.server == "vllm" else []

    async def prefix_cache(self) -> PrefixCache | None:
        return cache_counters.counted_since(zip(self._counted, await self._read_counters(), strict=False))

    async def close(self) -> None:
        if self._scoring is not None:
            await self._scoring.close()
        clients, self._clients = self._clients, []
        for client in clients:
            await client.close()
