"""Settings turned into parts that go together, checked before anything is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from pyserini_reasonrank.combine import COMBINATIONS, Combination
from pyserini_reasonrank.combine.combined import Combined, joined
from pyserini_reasonrank.config import PREFIX, Settings, answering, tag
from pyserini_reasonrank.endpoint import Endpoint
from pyserini_reasonrank.engines import Capability, Engine
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.explain import Cost, Meter, rehearse
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.budget import Fitter
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.provision import provide, tokens_for
from pyserini_reasonrank.records import Candidate, Query, Ranked, Request
from pyserini_reasonrank.rerankers import Ranker, Reranker
from pyserini_reasonrank.strategies import STRATEGIES, Strategy, options_model
from pyserini_reasonrank.suggest import nearest, validated

Endpoints = Callable[[Engine[Any]], Endpoint]
Watch = Callable[[], None]


class Plan(ABC):
    """Settings, checked and turned into parts; nothing is loaded yet. ``parts`` are its rerankers, by name."""

    settings: Settings
    warnings: list[str]
    parts: Mapping[str, Single]

    def __init__(self) -> None:
        self.cost = cache(self._cost)

    @property
    def tag(self) -> str:
        names = dict.fromkeys(part.engine.model.name for part in self.parts.values())
        return tag(self.settings, *names)

    @property
    def engines(self) -> list[Engine[Any]]:
        """Each engine once, however many parts it answers."""
        return list({id(part.engine): part.engine for part in self.parts.values()}.values())

    def _cost(self, n: int) -> Cost:
        """What one query of ``n`` candidates will cost; those below the depth cost nothing."""
        n = min(n, self.settings.depth)
        request = Request(Query("", ""), tuple(Candidate(str(i), float(-i), "") for i in range(n)))
        return rehearse(lambda meter: self.rehearse(request, meter, ""))

    @abstractmethod
    async def rehearse(self, request: Request, meter: Meter, part: str) -> Ranked:
        """Go through the motions of ranking ``request``, asking ``meter`` in place of the model."""

    @abstractmethod
    def ranker(self, endpoints: Endpoints, watch: Watch, widest: Mapping[str, int], part: str = "") -> Ranker:
        """The ranker of one run, valid once the engines have started. ``widest``: passages in a question, by part."""


class Single(Plan):
    """One reranker: a judge and a strategy over one engine."""

    def __init__(
        self,
        settings: Settings,
        template: Template,
        judge: Judge,
        strategy: Strategy,
        options: Mapping[str, Any],
        engine: Engine[Any],
        warnings: list[str],
    ) -> None:
        super().__init__()
        self.settings, self.template, self.judge, self.engine = settings, template, judge, engine
        self.strategy, self.options = strategy, options
        self.warnings = warnings
        self.parts = {"": self}

    def fitter(self, widest: int) -> Fitter:
        """Fits prompts to the engine's context; valid once the engine has started, which may tell the context."""
        settings = self.settings
        context = self.engine.max_model_len
        if settings.max_model_len is not None:
            context = min(settings.max_model_len, context or settings.max_model_len)
        return Fitter(
            self.template,
            tokens_for(settings, self.engine.model, self.warnings),
            context=context,
            output_tokens=settings.sampling.max_tokens + self.judge.answer_tokens(widest),
            passage_tokens=settings.passage_tokens,
            query_tokens=settings.query_tokens,
        )

    async def rehearse(self, request: Request, meter: Meter, part: str) -> Ranked:
        judge = self.judge

        async def unmoved(indices: Sequence[int], label: str = "") -> Any:
            await meter.question(part, len(indices), calls=judge.calls, votes=judge.options.votes)
            return judge.unmoved(indices)

        return Ranked(tuple(await self.strategy(len(request.candidates), unmoved, **self.options)))

    def ranker(self, endpoints: Endpoints, watch: Watch, widest: Mapping[str, int], part: str = "") -> Ranker:
        return Reranker(
            judge=self.judge,
            strategy=self.strategy,
            options=self.options,
            fitter=self.fitter(widest.get(part, 0)),
            endpoint=endpoints(self.engine),
            on_error=self.settings.on_error,
            watch=watch,
        )


class Several(Plan):
    """Rerankers combined."""

    def __init__(
        self,
        settings: Settings,
        combination: Combination,
        options: Mapping[str, Any],
        arms: Mapping[str, Plan],
        warnings: list[str],
    ) -> None:
        super().__init__()
        self.settings, self.combination, self.options, self.arms = settings, combination, options, arms
        self.parts = {joined(name, p): part for name, arm in arms.items() for p, part in arm.parts.items()}
        self.warnings = warnings

    async def rehearse(self, request: Request, meter: Meter, part: str) -> Ranked:
        arms = {name: _Rehearsed(arm, request, meter, joined(part, name)) for name, arm in self.arms.items()}
        ranked: Ranked = await self.combination(request, arms, **self.options)
        return ranked

    def ranker(self, endpoints: Endpoints, watch: Watch, widest: Mapping[str, int], part: str = "") -> Ranker:
        arms = {name: arm.ranker(endpoints, watch, widest, joined(part, name)) for name, arm in self.arms.items()}
        return Combined(combination=self.combination, options=self.options, arms=arms)


class _Rehearsed:
    """An arm that only counts."""

    def __init__(self, plan: Plan, request: Request, meter: Meter, part: str) -> None:
        self._plan, self._request, self._meter, self._part = plan, request, meter, part

    async def __call__(self, indices: Sequence[int], *, sample: int = 0) -> Ranked:
        candidates = tuple(self._request.candidates[i] for i in indices)
        given = Request(self._request.query, candidates, self._request.number)
        return await self._plan.rehearse(given, self._meter, self._part)

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        await self._meter.question(self._part, len(texts), calls=1)
        return [0.0] * len(texts)


def plan(settings: Settings, warnings: Sequence[str] = ()) -> Plan:
    """The parts that ``settings`` name, and that they go together. UsageError for the first that does not."""
    return _plan(settings, list(warnings), PREFIX, {})


def _plan(settings: Settings, warnings: list[str], where: str, engines: dict[str, Engine[Any]]) -> Plan:
    made = (_several if settings.combine else _single)(settings, warnings, where, engines)
    made.cost(settings.depth)  # raises what a strategy or combination has against its options
    return made


def _single(settings: Settings, warnings: list[str], where: str, engines: dict[str, Engine[Any]]) -> Plan:
    judge_settings, strategy_settings = dict(settings.judge), dict(settings.strategy)
    kind, name = judge_settings.pop("kind", None), strategy_settings.pop("name", None)
    if kind not in JUDGES:
        raise UsageError(f"{where}.judge.kind {kind!r} is not known{nearest(str(kind), JUDGES)}")
    if name not in STRATEGIES:
        raise UsageError(f"{where}.strategy.name {name!r} is not known{nearest(str(name), STRATEGIES)}")
    strategy, kinds = STRATEGIES[name]
    if kind not in kinds:
        raise UsageError(f"the {name} strategy needs a judge of kind {' or '.join(sorted(kinds))}, not {kind}")
    options = validated(options_model(strategy), strategy_settings, f"{where}.strategy").model_dump()
    judge_options = validated(JUDGES[kind].Options, judge_settings, f"{where}.judge")
    template = sources.load(settings.prompt)
    if template.contract != kind:
        raise UsageError(f"prompt {template.name} is for a judge of kind {template.contract}, not {kind}")
    sampling = settings.sampling.sampling()
    if judge_options.votes > 1 and not judge_options.shuffle and sampling.temperature == 0:
        raise UsageError(
            f"{where}.judge.votes {judge_options.votes} would ask the same question every time: let "
            f"{where}.judge.shuffle true or a {where}.sampling.temperature make the votes differ"
        )
    engine = _shared(settings, engines)
    _check_capabilities(engine, JUDGES[kind], settings)
    judge = JUDGES[kind](judge_options, sampling, engine.capabilities, template.reminder)
    return Single(settings, template, judge, strategy, options, engine, warnings)


def _several(settings: Settings, warnings: list[str], where: str, engines: dict[str, Engine[Any]]) -> Plan:
    given = dict(settings.combine)
    name = given.pop("name", None)
    if name not in COMBINATIONS:
        raise UsageError(f"{where}.combine.name {name!r} is not known{nearest(str(name), COMBINATIONS)}")
    kind = COMBINATIONS[name]
    if missing := sorted(kind.needs - settings.arms.keys()):
        raise UsageError(
            f"the {name} combination needs an arm {missing[0]}: say {where}.arms.{missing[0]}.reranker NAME"
        )
    if kind.may is not None and (unknown := sorted(settings.arms.keys() - kind.needs - kind.may)):
        known = sorted(kind.needs | kind.may)
        raise UsageError(f"the {name} combination has no arm {unknown[0]!r}{nearest(unknown[0], known)}")
    options = validated(options_model(kind.function), given, f"{where}.combine").model_dump()
    arms = {arm: _plan(of_arm, warnings, f"{where}.arms.{arm}", engines) for arm, of_arm in settings.arms.items()}
    return Several(settings, kind.function, options, arms, warnings)


def _shared(settings: Settings, engines: dict[str, Engine[Any]]) -> Engine[Any]:
    """The engine of ``settings``; rerankers that ask the same of it share one."""
    key = repr((settings.engine, settings.model, settings.revision, settings.adapter, settings.max_model_len,
                settings.chat_template_args))  # fmt: skip
    if key not in engines:
        engines[key] = provide(settings)
    return engines[key]


def _check_capabilities(engine: Engine[Any], judge: type[Judge], settings: Settings) -> None:
    if missing := judge.needs - engine.capabilities:
        remedy = "; if its server can continue an assistant turn, say --rerank.engine.continue_final_message true"
        what = {Capability.CHOICES: "log-probabilities of given answers", Capability.PREFILL: "answers we begin"}
        raise UsageError(
            f"the {judge.kind} judge needs {' and '.join(what.get(m, m) for m in sorted(missing))}, which the "
            f"{engine.name} engine does not give{remedy if answering(settings.engine) == 'openai' else ''}"
        )
