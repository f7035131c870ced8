"""Any OpenAI-compatible endpoint: vLLM, SGLang, llama-server, OpenRouter, OpenAI. Does not import torch.

Requests go through :mod:`pyserini_reasonrank.engines.http_client`, and answers are read as plain JSON: the official client and
its typed response objects take several times the CPU of the request itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from pyserini_reasonrank.engines import Engine, EngineOptions, cache_counters
from pyserini_reasonrank.engines.addresses import OFFICIAL, addresses, check_address, key
from pyserini_reasonrank.engines.generative_scoring import GenerativeScoring
from pyserini_reasonrank.engines.model_list import Entry, Expected, contexts, read_models, server_type
from pyserini_reasonrank.engines.parameters import Parameters
from pyserini_reasonrank.engines.server_rotation import OtherModel, ServerFailed, ServerRotation
from pyserini_reasonrank.engines.server_types import NEUTRAL, PATTERN, for_template, heeds
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import AUTO, Model
from pyserini_reasonrank.records import Call, Capability, Completion, PrefixCache, Prompt, Sampling

if TYPE_CHECKING:
    from pyserini_reasonrank.engines.http_client import HttpClient

_log = logging.getLogger(__name__)

_SAMPLING = ("temperature", "top_p", "max_tokens")
_UNAUTHORISED = (401, 403)
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
        self._counted: list[PrefixCache | None] = []
        self._always: Mapping[str, Any] = {}
        self._scoring: GenerativeScoring | None = None

    def require_determinism(self, how: str) -> None:
        raise UsageError(
            f"the openai engine can't ensure {how}, since the server batches the calls: leave it out, and start the server "
            "with a switch of its own (vLLM on a GPU: VLLM_BATCH_INVARIANT=1), or use --rerank.engine.name vllm or transformers"
        )

    async def start(self) -> None:
        from pyserini_reasonrank.engines.chat_requests import ChatRequests
        from pyserini_reasonrank.engines.server_choices import ServerChoices

        options = self.options
        kinds, lists, unreachable = await self._connect()
        kind = next(iter(kinds.values())) if options.server == "auto" else None
        self._settle(kinds)
        self._expected = Expected(self.model.source, self.model.context, kind, lists)
        if len(differing := sorted(self._expected.checkpoints)) > 1:
            self.notices.append(
                f"the servers serve different checkpoints as {self.model.source}: {', '.join(differing)}"
            )
        self._counted = await self._read_counters()
        self._rotation = rotation = ServerRotation(self._clients, self._check_again)
        for missing in unreachable:
            rotation.rest(missing.client)
            self.notices.append(f"{missing}: the other servers answer until it does")
        parameters = Parameters(options.rename, options.drop)
        for url in kinds:
            parameters.know(url, self.model.source)
        self._requests = requests = ChatRequests(self.model.source, rotation, parameters, self._notice)
        if self.options.server == "vllm" and options.generative_scoring:
            self._scoring = GenerativeScoring(self.model.source, self._always, requests.post)
        self._choices = ServerChoices(requests, self._always, options.top_logprobs, self._scoring, self._notice)

    async def _connect(self) -> tuple[dict[str, str], list[Entry], list[_Unreachable]]:
        """Return the server types by address, the entries of all model lists, and the servers that did not answer."""
        from pyserini_reasonrank.engines.http_client import HttpClient

        urls, secret, options = addresses(self.options.base_url), key(), self.options
        if not urls and not secret:
            raise UsageError("the openai engine has neither an endpoint nor a key: set --rerank.engine.base_url to a server, "
                             "or set OPENAI_API_KEY to use OpenAI")  # fmt: skip
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
        return kinds, lists, unreachable

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
            return await self._choices.ask(prompt, sampling, call.qid)
        body = {**self._always, **{name: getattr(sampling, name) for name in _SAMPLING}}
        body |= {name: value for name, off in _OFF.items() if (value := getattr(sampling, name)) != off}
        if sampling.seed is not None:
            body["seed"] = sampling.seed + call.repeat.seed_offset
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.pattern:
            body |= PATTERN[self.options.structured_outputs](sampling.pattern)
        return await self._requests.chat(prompt, body | dict(sampling.extra), call.qid)

    def _notice(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)
            _log.warning("%s", notice)

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
