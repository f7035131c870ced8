"""Settings turned into parts that go together, checked before anything is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from pyserini_reasonrank.combine import COMBINATIONS, Kind
from pyserini_reasonrank.combine.arms import completed
from pyserini_reasonrank.combine.combined import Combined, joined
from pyserini_reasonrank.engines import Capability, Engine
from pyserini_reasonrank.errors import UsageError, nearest, validated
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.models.catalogue import AUTO, entry, known_models
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.fitting import Fitter
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.prompts.tokens import Tokens
from pyserini_reasonrank.records import Candidate, Query, Ranked, Request
from pyserini_reasonrank.rerankers.endpoint import Endpoint
from pyserini_reasonrank.rerankers.reranker import Ranker, Reranker
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.run.build import check_capabilities, provide, tokens_for, unheld
from pyserini_reasonrank.run.compatibility import Demand, check, check_room, least
from pyserini_reasonrank.run.cost import Cost, Meter, rehearse
from pyserini_reasonrank.settings.flags import PREFIX
from pyserini_reasonrank.settings.schema import ENGINES_WITHOUT_MODEL, Settings, answering_engine
from pyserini_reasonrank.strategies import STRATEGIES, Strategy, options_model

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
        return self.settings.run_tag(*names)

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
    def ranker(self, endpoints: Endpoints, watch: Watch, fitters: Mapping[str, Fitter], part: str = "") -> Ranker:
        """The ranker of one run. ``fitters`` as below."""

    def fitters(self) -> dict[str, Fitter]:
        """What fits each part's prompts to its engine's context; valid once the engines have started."""
        costs = self.cost(self.settings.depth).parts
        return {name: part.fitter(costs[name].widest if name in costs else 0) for name, part in self.parts.items()}

    def cuts(self, fitters: Mapping[str, Fitter]) -> list[str]:
        """Warnings of what ``fitters`` have cut to fit the context so far."""
        said = {name: str(fitter.cuts) for name, fitter in fitters.items()}
        return [
            f"{f'{name}: ' if name else ''}to fit a context of {fitters[name].context:,} tokens: {cut}"
            for name, cut in said.items()
            if cut
        ]


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
        self._tokens: dict[str, Tokens] = {}

    @property
    def tokens(self) -> Tokens:
        """The tokenizer of its model, which a server may name only when the engine has started."""
        source = self.engine.model.source
        if source not in self._tokens:
            self._tokens[source] = tokens_for(self.settings, self.engine.model, self.warnings)
        return self._tokens[source]

    def check(self, widest: int) -> list[str]:
        """UsageError if its model can't answer questions about ``widest`` passages; warnings about one that can.

        What context there is may be told only once the engine has started: ``fitter`` looks again.
        """
        demand = self._checked(widest)
        return check(self.engine.model, demand) if self.engine.needs_weights else []

    def fitter(self, widest: int) -> Fitter:
        """Fits prompts to the engine's context; valid once the engine has started, which may tell the context.

        UsageError if that has no room for a question about ``widest`` passages.
        """
        settings = self.settings
        if widest:
            self._checked(widest)
        if settings.model == AUTO and (named := entry(self.engine.model.source, kind=self.judge.kind)):
            self._warn_of_presets(named)
        return Fitter(
            self.template,
            self.tokens,
            context=self._context,
            output_tokens=self._output_tokens(widest),
            passage_tokens=settings.passage_tokens,
            query_tokens=settings.query_tokens,
            mend=settings.mend,
        )

    @property
    def _context(self) -> int | None:
        """Tokens of a question and its answer, as far as the settings or the engine tell by now."""
        told = (self.settings.max_model_len, self.engine.max_model_len)
        return min((n for n in told if n is not None), default=None)

    def _output_tokens(self, widest: int) -> int:
        return self.settings.sampling.max_tokens + self.judge.answer_tokens(widest)

    def _demand(self, widest: int) -> Demand:
        settings = self.settings
        tokens = least(
            self.template,
            self.tokens,
            widest,
            self._output_tokens(widest),
            passage_tokens=settings.passage_tokens,
            query_tokens=settings.query_tokens,
        )
        return Demand(settings.name, tokens, self.template.render("", [""] * widest).messages)

    def _checked(self, widest: int) -> Demand:
        """What a question about ``widest`` passages demands. UsageError if it can't be asked, or has no room."""
        self.judge.check(widest, self.tokens, self.template.render("", [""]).prefill)
        demand = self._demand(widest)
        check_room(self.engine.model.name, self._context, demand)
        return demand

    def _warn_of_presets(self, named: str) -> None:
        known, served = known_models()[named], self.engine.model.source
        warning = (
            f"the server's model {served} is {named}, and auto does not bring what that was trained with: "
            f"say --rerank.model {served}"
        )
        if (known.settings or known.chat_template_args) and warning not in self.warnings:
            self.warnings.append(warning)

    async def rehearse(self, request: Request, meter: Meter, part: str) -> Ranked:
        judge = self.judge

        async def unmoved(indices: Sequence[int], label: str = "") -> Any:
            await meter.question(part, len(indices), calls=judge.calls, chain=judge.chain, votes=judge.options.votes)
            return judge.unmoved(indices)

        return Ranked(tuple(await self.strategy(len(request.candidates), unmoved, **self.options)))

    def ranker(self, endpoints: Endpoints, watch: Watch, fitters: Mapping[str, Fitter], part: str = "") -> Ranker:
        return Reranker(
            judge=self.judge,
            strategy=self.strategy,
            options=self.options,
            fitter=fitters[part],
            endpoint=endpoints(self.engine),
            on_error=self.settings.on_error,
            watch=watch,
        )


class Several(Plan):
    """Rerankers combined."""

    def __init__(
        self,
        settings: Settings,
        kind: Kind,
        options: Mapping[str, Any],
        arms: Mapping[str, Plan],
        warnings: list[str],
    ) -> None:
        super().__init__()
        self.settings, self.kind, self.options, self.arms = settings, kind, options, arms
        self.parts = {joined(name, p): part for name, arm in arms.items() for p, part in arm.parts.items()}
        self.warnings = warnings

    async def rehearse(self, request: Request, meter: Meter, part: str) -> Ranked:
        def arms(meter: Meter) -> dict[str, _Rehearsed]:
            return {name: _Rehearsed(arm, request, meter, joined(part, name)) for name, arm in self.arms.items()}

        async def alone(name: str, meter: Meter) -> Ranked:
            return await arms(meter)[name](range(len(request.candidates)))

        if self.kind.one_arm:
            return await meter.dearest([partial(alone, name) for name in self.arms])
        ranked: Ranked = await self.kind.function(request, arms(meter), **self.options)
        return ranked

    def ranker(self, endpoints: Endpoints, watch: Watch, fitters: Mapping[str, Fitter], part: str = "") -> Ranker:
        arms = {name: arm.ranker(endpoints, watch, fitters, joined(part, name)) for name, arm in self.arms.items()}
        depths = {name: arm.settings.depth for name, arm in self.arms.items()}
        fusions = {name: arm.settings.fuse for name, arm in self.arms.items()}
        return Combined(combination=self.kind.function, options=self.options, arms=arms, depths=depths, fusions=fusions)


class _Rehearsed:
    """An arm that only counts."""

    def __init__(self, plan: Plan, request: Request, meter: Meter, part: str) -> None:
        self._plan, self._request, self._meter, self._part = plan, request, meter, part
        self.depth = plan.settings.depth

    async def __call__(self, indices: Sequence[int], *, sample: int = 0) -> Ranked:
        candidates = tuple(self._request.candidates[i] for i in indices[: self.depth])
        given = Request(self._request.query, candidates, self._request.number)
        return completed(await self._plan.rehearse(given, self._meter, self._part), len(indices))

    async def grade(self, texts: Sequence[str]) -> list[float | None]:
        await self._meter.question(self._part, len(texts), calls=1)
        return [0.0] * len(texts)


def plan(settings: Settings, warnings: Sequence[str] = (), *, here: bool = True) -> Plan:
    """The parts that ``settings`` name, and that they go together. UsageError for the first that does not.

    A model that can't be held here is refused, or with ``here`` False, to plan for another machine, warned of.
    """
    made = _plan(settings, list(warnings), PREFIX, {})
    for problem in filter(None, map(unheld, made.engines)):
        if here:
            raise UsageError(problem)
        made.warnings.append(problem)
    for name, cost in made.cost(settings.depth).parts.items():
        made.warnings += made.parts[name].check(cost.widest)
    return made


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
    begins = bool(template.render("", [""]).prefill) and answering_engine(settings.engine) not in ENGINES_WITHOUT_MODEL
    begun = frozenset({Capability.PREFILL} if begins else ())
    check_capabilities(engine, f"the {kind} judge", JUDGES[kind].needs_of(judge_options), settings)
    check_capabilities(
        engine, f"prompt {template.name} (instead: {where}.prompt {_unbegun(template)})", begun, settings
    )
    judge = JUDGES[kind](judge_options, sampling, engine.capabilities, template.reminder)
    template.values = judge.wording
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
    chosen = validated(options_model(kind.function), given, f"{where}.combine")
    options, written = dict(chosen), {"name": name, **chosen.model_dump(mode="json")}
    warnings += kind.check(settings.arms.keys(), where, **options)
    arms = {arm: _plan(of_arm, warnings, f"{where}.arms.{arm}", engines) for arm, of_arm in settings.arms.items()}
    if kind.repeated and not _differs(arms[kind.repeated], options["shuffle"] > 1):
        raise UsageError(
            f"{where}.arms.{kind.repeated} would rank the same way every time: it needs a temperature, or more than one "
            f"passage in a question and {where}.combine.shuffle above 1"
        )
    return Several(settings.model_copy(update={"combine": written}), kind, options, arms, warnings)


def _differs(arm: Plan, shuffled: bool) -> bool:
    """Whether ranking the same candidates again can bring another order."""
    costs = arm.cost(arm.settings.depth).parts
    return arm.settings.depth == 1 or any(
        part.settings.sampling.temperature > 0
        or ((shuffled or part.judge.options.shuffle) and name in costs and costs[name].widest > 1)
        for name, part in arm.parts.items()
    )


def _shared(settings: Settings, engines: dict[str, Engine[Any]]) -> Engine[Any]:
    """The engine of ``settings``; rerankers that ask the same of it share one."""
    key = repr((settings.engine, settings.model, settings.revision, settings.adapter, settings.max_model_len,
                settings.chat_template_args))  # fmt: skip
    if key not in engines:
        engines[key] = provide(settings)
    return engines[key]


def _unbegun(template: Template) -> str:
    """The prompt that asks for the same and begins no answer, if it ships."""
    same = template.name.replace("-prefilled", "-reasoning")
    return same if same in yaml_names("prompts") and same != template.name else "NAME"
