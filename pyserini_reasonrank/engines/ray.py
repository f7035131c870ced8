"""Replicas of a local engine on the machines of a Ray cluster. Ray places them; the run, its journal included, stays here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from pyserini_reasonrank.engines import Engine, EngineOptions, build_engine
from pyserini_reasonrank.engines.background_loop import BackgroundLoop
from pyserini_reasonrank.engines.engine_actor import EngineActor, Started, without_answers
from pyserini_reasonrank.engines.ray_connection import RayConnection, own_signal_handlers
from pyserini_reasonrank.engines.replica_pool import Replica, ReplicaDied, ReplicaPool
from pyserini_reasonrank.errors import Failure, UsageError, message_of
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Call, Completion, Prompt, Sampling

_CALLS_AT_ONCE = 256  # per replica
_LOADING_DEATHS = 3  # how often in succession a replica may die before it is ready
_CLOSING_SECONDS = 5.0
_KILLING_SECONDS = 1.0
_SETTINGS_OF = {"CPU": "cpus", "GPU": "gpus"}


class RayOptions(EngineOptions):
    """Settings of the ray engine. All others are passed on to the engine ``of``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    concurrency: Annotated[
        int, Field(ge=1, description="the most calls in flight at once, of all replicas together [256 per replica]")
    ] = _CALLS_AT_ONCE
    of: Annotated[
        str, Field(description="the engine in each replica (vllm, transformers, ...); all other settings are its own")
    ] = "vllm"
    replicas: Annotated[int, Field(ge=1, description="replicas; one for which there is no room yet starts later")] = 1
    gpus: Annotated[
        float | None,
        Field(ge=0, description="GPUs of a replica [product of its parallel sizes; 0 in a cluster without GPUs]"),
    ] = None
    cpus: Annotated[float, Field(ge=0, description="CPU cores of a replica")] = 1
    resources: Annotated[
        dict[str, Annotated[float, Field(ge=0)]],
        Field(description="further resources of a replica, by the names they have in the cluster"),
    ] = {}
    placement: Annotated[
        Literal["SPREAD", "DEFAULT"], Field(description="Ray's scheduling strategy for the replicas")
    ] = "SPREAD"
    address: Annotated[
        str | None, Field(description="a running cluster: auto or HOST:PORT [one on this machine, for the run]")
    ] = None
    retries: Annotated[int, Field(ge=0, description="how often a call is asked again after its replica died")] = 3
    wait: Annotated[float, Field(gt=0, description="seconds to wait for a replica while none is ready")] = 1800.0
    init: Annotated[
        dict[str, Any], Field(description="further arguments of ray.init: runtime_env, object_store_memory, ...")
    ] = {}

    @field_validator("resources")
    @classmethod
    def _further(cls, resources: dict[str, float]) -> dict[str, float]:
        if own := _SETTINGS_OF.keys() & resources.keys():
            raise ValueError(f"set {_SETTINGS_OF[min(own)]} in place of the resource {min(own)}")
        return resources


class Ray(Engine[RayOptions]):
    """Distributes calls over replicas of the engine ``of``. Its answers and their identity are those of that engine."""

    name = "ray"
    options_class = RayOptions

    def __init__(self, model: Model, options: RayOptions) -> None:
        if "concurrency" not in options.model_fields_set:
            options = options.model_copy(update={"concurrency": _CALLS_AT_ONCE * options.replicas})
        super().__init__(model, options)
        if options.of in ("ray", "openai"):
            raise UsageError(
                f"--rerank.engine.of {options.of} does not run in a replica: name an engine that loads a model, such as vllm"
            )
        self._settings = dict(options.model_extra or {})
        if options.deterministic:
            self._settings["deterministic"] = True
        self._local = build_engine(options.of, self._settings, model)
        self.capabilities = self._local.capabilities
        self._weights = self._local.weights_identity()
        self._context = model.context
        self._first: Started | None = None
        self._deaths = self._noted = 0
        self._warnings: dict[str, None] = {}
        self._given_up: list[UsageError | Failure] = []
        self._actors: set[Any] = set()
        self._connection = RayConnection(
            options.address,
            options.replicas * options.cpus,
            {name: options.replicas * amount for name, amount in options.resources.items()},
            options.init,
            self._kill_all,
        )
        self._loop: BackgroundLoop | None = None
        self._pool: ReplicaPool[Any] = ReplicaPool(options.retries, options.wait)
        self._keepers: list[asyncio.Task[None]] = []

    def require_determinism(self, how: str) -> None:
        self._local.require_determinism(how)

    @property
    def answering(self) -> Engine[Any]:
        return self._local

    def identity(self, call: Call) -> str:
        return self._weights or self._local.identity(call)

    def weights_identity(self) -> str | None:
        return self._weights

    def resume(self, context: int) -> None:
        self._context = context

    @property
    def max_model_len(self) -> int | None:
        return self._context

    async def start(self) -> None:
        if not self._local.needs_weights:  # it takes no time, and its identity may depend on a file that it reads
            await self._local.start()
            self._context = self._local.max_model_len
        with own_signal_handlers():
            await asyncio.to_thread(self._connection.open)
        self._loop = BackgroundLoop("ray")
        await self._loop.run(self._place())

    async def _place(self) -> None:
        """Ask Ray for all replicas, and wait until the first one is ready."""
        import ray

        o = self.options
        gpus = self._gpus(ray.cluster_resources())
        remote = ray.remote(EngineActor).options(
            num_cpus=o.cpus,
            num_gpus=gpus,
            resources=o.resources,
            max_restarts=0,  # a new actor takes the place of a dead one
            max_concurrency=o.concurrency + 8,
            scheduling_strategy=o.placement,
        )
        self._keepers = [asyncio.create_task(self._keep(number, remote)) for number in range(1, o.replicas + 1)]
        try:
            await self._pool.filled()
        except Failure as failure:
            if self._given_up:
                raise self._given_up[0] from None
            wanted = {"CPU": o.cpus, "GPU": gpus, **o.resources}
            raise Failure(
                f"{failure}: a replica needs {_amounts(wanted)}; the cluster has {_amounts(ray.cluster_resources())}"
            ) from None

    def _gpus(self, cluster: Mapping[str, float]) -> float:
        """The GPUs of a replica."""
        if self.options.gpus is not None:
            return self.options.gpus
        if not self._local.needs_weights or not cluster.get("GPU"):
            return 0
        args = self._settings.get("args", {})
        sizes = [args.get(f"{how}_parallel_size", 1) for how in ("tensor", "pipeline", "data")]
        return prod(size for size in sizes if isinstance(size, int))

    async def _keep(self, number: int, remote: Any) -> None:
        """Have one replica until the engine is closed: when it dies, another takes its place."""
        from ray.exceptions import RayError

        deaths = 0
        while True:
            actor = None
            try:
                actor = remote.remote(self.options.of, self._settings, self.model)
                self._actors.add(actor)
                found = await actor.start.remote()
                if problem := self._problem(found):
                    await self._give_up(problem)
                    return
                deaths = 0
                ready = Replica(number, actor)
                await self._pool.join(ready)
                try:
                    await actor.live.remote()
                finally:
                    self._pool.leave(ready)
            except RayError as error:
                self._kill(actor)
                deaths += 1
                self._deaths += 1
                self._note()
                if deaths == _LOADING_DEATHS:
                    died = f"a replica died {deaths} times before it was ready: {message_of(error)}"
                    await self._give_up(Failure(died))
                    return
            except Exception as error:  # Ray rejects the actor, or its answer can't be read
                self._kill(actor)
                await self._give_up(Failure(f"a replica can't be placed: {message_of(error)}"))
                return

    def _problem(self, found: Started | UsageError | Failure) -> UsageError | Failure | None:
        """Why a replica can't be used, if so. The first one decides the context, and the weights if they are not here."""
        if not isinstance(found, Started):
            return found
        self._warnings |= dict.fromkeys(found.notices)
        self._weights = self._weights or found.weights
        if found.weights != self._weights:
            return Failure(
                f"{found.machine} has other weights of {self.model.name} than this machine or the first replica"
            )
        if self._first is None:
            self._first = found
            self._context = found.context
        elif found.context is not None and self._context is not None and found.context < self._context:
            return Failure(
                f"{found.machine} has memory for a context of {found.context:,} tokens, less than the {self._context:,} of the "
                "first replica: set --rerank.max_model_len"
            )
        self._note()
        return None

    async def _give_up(self, problem: UsageError | Failure) -> None:
        """Continue without a replica. A UsageError holds for all of them."""
        self._given_up.append(problem)
        self._warnings[f"a replica is not used: {problem}"] = None
        self._note()
        if isinstance(problem, UsageError) or len(self._given_up) == self.options.replicas:
            await self._pool.end(str(problem))

    def _note(self) -> None:
        self._noted = again = self._pool.asked_again
        died = (
            [f"replicas that died: {self._deaths}; calls asked again for that reason: {again}"] if self._deaths else []
        )
        self.notices = [*self._warnings, *died]

    async def generate(self, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        assert self._loop is not None
        asked = without_answers(call) if self._local.needs_weights else call
        completion = await self._loop.run(
            self._pool.ask(call.qid, lambda actor: self._ask(actor, prompt, sampling, asked))
        )
        if self._noted != self._pool.asked_again:
            self._note()
        return completion

    async def _ask(self, actor: Any, prompt: Prompt, sampling: Sampling, call: Call) -> Completion:
        """The answer of one replica. ReplicaDied if its process or its engine ended."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        answer = actor.generate.remote(prompt, sampling, call)
        try:
            found: Completion | UsageError | Failure = await answer
        except RayTaskError as error:
            raise Failure(
                f"the engine {self.options.of} failed in a replica: {message_of(error.cause or error)}"
            ) from error
        except RayError as error:
            raise ReplicaDied(message_of(error)) from error
        except asyncio.CancelledError:
            ray.cancel(answer)
            raise
        if isinstance(found, Failure):  # the engine is gone, its process not yet
            self._kill(actor)
            raise ReplicaDied(str(found))
        if isinstance(found, UsageError):
            raise found
        return found

    async def close(self) -> None:
        if self._loop is not None:
            loop, self._loop = self._loop, None
            await loop.run(self._end())
            await asyncio.to_thread(loop.close)
        await asyncio.to_thread(self._connection.close)
        if not self._local.needs_weights:
            await self._local.close()

    async def _end(self) -> None:
        """Close the engines in the replicas, and end the replicas."""
        for keeper in self._keepers:
            keeper.cancel()
        closing = [asyncio.ensure_future(_settled(actor.close.remote())) for actor in self._pool.handles]
        if closing:
            await asyncio.wait(closing, timeout=_CLOSING_SECONDS)
        for actor in list(self._actors):
            self._kill(actor)

    def _kill(self, actor: Any) -> None:
        import ray

        self._actors.discard(actor)
        with suppress(Exception):  # it has ended, or the cluster has
            ray.kill(actor)

    def _kill_all(self) -> None:
        """End the replicas at a signal, within the time that it leaves. The cluster may be gone, so this may not return."""

        def kill() -> None:
            for actor in list(self._actors):
                self._kill(actor)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        thread.join(_KILLING_SECONDS)


async def _settled(answer: Any) -> None:
    """Wait for an answer whose content does not matter."""
    with suppress(Exception):
        await answer


def _amounts(resources: Mapping[str, float]) -> str:
    """Resources in a message, without Ray's own names of machines."""
    shown = {name: amount for name, amount in resources.items() if ":" not in name and "memory" not in name}
    return ", ".join(f"{amount:g} {name}" for name, amount in shown.items())
