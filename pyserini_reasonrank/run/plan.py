"""From settings to a plan, whose parts are checked against each other before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyserini_reasonrank.combine import COMBINATIONS
from pyserini_reasonrank.engines import Engine, is_without_model
from pyserini_reasonrank.errors import UsageError, nearest, validated
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.registry import JUDGE_PARTS, JUDGES
from pyserini_reasonrank.models.auto import may_be_embedded
from pyserini_reasonrank.models.catalogue import AUTO, EMBEDDED, entry, known_models
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.fitting import least_tokens
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.records import Capability
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.run.build import build, check_capabilities, memory_problem
from pyserini_reasonrank.run.compatibility import Demand, check, check_room
from pyserini_reasonrank.run.cost import estimate
from pyserini_reasonrank.run.notices import as_error
from pyserini_reasonrank.run.parts import CombinedPlan, Plan, SinglePlan
from pyserini_reasonrank.settings.flags import PREFIX
from pyserini_reasonrank.settings.schema import Settings, answering_engine
from pyserini_reasonrank.strategies import STRATEGIES, STRATEGY_PARTS, StrategyEntry, options_model


def plan(
    settings: Settings,
    warnings: Sequence[str] = (),
    *,
    here: bool = True,
    engine: Engine[Any] | None = None,
    candidates: int | None = None,
) -> Plan:
    """The plan for ``settings``. UsageError for the first incompatibility.

    The plan's warnings begin with ``warnings``; with the setting ``strict`` they are an error. A model that is too large for
    this machine is an error; with ``here`` False, for a plan for another machine, it is a warning. All parts use ``engine``
    if it is given. ``candidates`` is the maximum per query if it is known; by default the depth.
    """
    planner = _Planner(engine, candidates)
    planned = planner.plan(settings, PREFIX)
    found = [*warnings, *planned.warnings]
    for problem in filter(None, map(memory_problem, planned.engines)):
        if here:
            raise UsageError(problem)
        found.append(problem)
    for name, cost in estimate(planned, planner.most(settings)).parts.items():
        part = planned.parts[name]
        found += [*check_questions(part, cost.widest), *part.token_warnings, *_chance_warnings(part)]
    if settings.strict and found:
        raise UsageError(as_error(list(dict.fromkeys(found))))
    return replace(planned, warnings=tuple(dict.fromkeys(found)), candidates=candidates)


def check_questions(part: SinglePlan, widest: int) -> list[str]:
    """Warnings about questions with ``widest`` passages. UsageError if the model of ``part`` can't answer them.

    Some servers report their context only once the engine has started; ``check_context`` is then called again.
    """
    demand = check_context(part, widest)
    return check(part.engine.model, demand) if part.engine.answering.needs_weights else []


def check_context(part: SinglePlan, widest: int) -> Demand:
    """The needs of a question about ``widest`` passages. UsageError if the judge rejects it, if the prompt does not show
    each passage, or if it exceeds the context."""
    part.judge.check(widest, part.tokens, part.template.render("", [""]).prefill)
    part.template.check_shows(widest)
    settings = part.settings
    tokens = least_tokens(
        part.template,
        part.tokens,
        widest,
        part.output_tokens(widest),
        passage_tokens=settings.shown_tokens,
        query_tokens=settings.query_tokens,
    )
    demand = Demand(settings.name, tokens, part.template.render("", [""] * widest).messages)
    check_room(part.engine.model.name, part.context, demand)
    return demand


def _chance_warnings(part: SinglePlan) -> list[str]:
    """A warning if the embedded model is to write rankings."""
    embedded = part.engine.answering.needs_weights and part.engine.model.name == EMBEDDED
    if not embedded or may_be_embedded(part.judge.kind, part.settings.adapter):
        return []
    return [
        f"{EMBEDDED} answers {part.settings.name} at chance level: it shows how a run works, and its order means nothing"
    ]


def preset_warnings(part: SinglePlan) -> list[str]:
    """A warning if the server serves a known checkpoint whose training settings are not applied because of ``auto``."""
    served = part.engine.model.source
    if part.settings.model != AUTO or (named := entry(served, kind=part.judge.kind)) is None:
        return []
    known = known_models()[named]
    if not (known.settings or known.chat_template_args):
        return []
    same = "" if served == named else f", known as {named}"
    return [f"the server serves {served}{same}; pass --rerank.model {served} to use its training prompt and settings"]


class _Planner:
    """Plans one run. Rerankers with the same engine settings share the engine."""

    def __init__(self, engine: Engine[Any] | None, candidates: int | None) -> None:
        self._given, self._candidates = engine, candidates
        self._engines: dict[str, Engine[Any]] = {}

    def most(self, settings: Settings) -> int:
        """The maximum number of candidates that ``settings`` rerank for a query."""
        return settings.depth if self._candidates is None else min(settings.depth, self._candidates)

    def plan(self, settings: Settings, where: str) -> Plan:
        """``where`` is the flag prefix of ``settings``."""
        planned: Plan = self._combined(settings, where) if settings.combine else self._single(settings, where)
        estimate(planned, self.most(settings))  # raises UsageError if a strategy or combination rejects its options
        return planned

    def _single(self, settings: Settings, where: str) -> SinglePlan:
        judge_class, judge_options, strategy, given = _judge_and_strategy(settings, where)
        options = strategy.resolved(given)
        derived = {name: value for name, value in options.items() if value != given[name]}
        settings = settings.model_copy(update={"strategy": {**settings.strategy, **derived}})
        _check_segments(settings, judge_class, where)
        if strategy.resamples:
            _check_samples(settings, judge_class(judge_options, settings.sampling.sampling(), frozenset(), ""), where)
        part = assembled(settings, where, judge_class, judge_options, strategy, options, self._engine)
        return replace(part, settings=_with_threshold(part.settings, part.judge, where))

    def _combined(self, settings: Settings, where: str) -> CombinedPlan:
        given = dict(settings.combine)
        name = given.pop("name", None)
        if name not in COMBINATIONS:
            raise UsageError(f"{where}.combine.name {name!r} is not known{nearest(str(name), COMBINATIONS)}")
        combination = COMBINATIONS[name]
        _with_threshold(settings, None, where)
        _check_arms(name, settings.arms, where)
        chosen = validated(options_model(combination.function), given, f"{where}.combine", f"the {name} combination")
        options = dict(chosen)
        warnings = [*combination.check(settings.arms.keys(), where, **options)]
        arms = {arm: self.plan(of_arm, f"{where}.arms.{arm}") for arm, of_arm in settings.arms.items()}
        if combination.repeated and not _differs(arms[combination.repeated], shuffled=options["shuffle"] > 1):
            raise UsageError(
                f"{where}.arms.{combination.repeated} would give the same ranking every time: set a temperature, or show more "
                f"than one passage per question and set {where}.combine.shuffle above 1"
            )
        warnings += [warning for arm in arms.values() for warning in arm.warnings]
        described = {"name": name, **chosen.model_dump(mode="json")}
        resolved = settings.model_copy(update={"combine": described})
        return CombinedPlan(resolved, combination, options, arms, tuple(warnings))

    def _engine(self, settings: Settings) -> Engine[Any]:
        if self._given is not None:
            return self._given
        key = repr((settings.engine, settings.model, settings.revision, settings.adapter, settings.max_model_len,
                    settings.chat_template_args, settings.bos))  # fmt: skip
        if key not in self._engines:
            self._engines[key] = build(settings)
        return self._engines[key]


def assembled(
    settings: Settings,
    where: str,
    judge_class: type[Judge],
    judge_options: Any,
    strategy: StrategyEntry,
    options: Mapping[str, Any],
    engine_of: Callable[[Settings], Engine[Any]],
) -> SinglePlan:
    """The plan of a judge and a strategy with these options. UsageError if prompt or engine do not suit the judge."""
    template = _template(settings, judge_class)
    _check_votes(settings, judge_options, where)
    engine = engine_of(settings)
    check_capabilities(engine, f"the {judge_class.kind} judge", judge_class.needs_of(judge_options), settings)
    _check_prefill(engine, template, settings, where)
    judge = judge_class(judge_options, settings.sampling.sampling(), engine.capabilities, template.reminder)
    template = template.bound(judge.wording).instructed(sources.instruction(settings.instruction))
    return SinglePlan(settings, template, judge, strategy, options, engine)


def _judge_and_strategy(settings: Settings, where: str) -> tuple[type[Judge], Any, StrategyEntry, Mapping[str, Any]]:
    """The class of the judge, its options, the strategy and its options. UsageError if they are incompatible."""
    judge_settings, strategy_settings = dict(settings.judge), dict(settings.strategy)
    kind, name = judge_settings.pop("kind", None), strategy_settings.pop("name", None)
    judge = JUDGE_PARTS.get(str(kind), f"{where}.judge.kind")
    strategy = STRATEGY_PARTS.get(str(name), f"{where}.strategy.name")
    if strategy.judges.isdisjoint(_kinds(judge)):
        raise UsageError(
            f"the {name} strategy needs a judge of kind {' or '.join(sorted(strategy.judges))}, not {kind}"
        )
    of_strategy, of_judge = f"the {name} strategy", f"the {kind} judge"
    options = validated(options_model(strategy.function), strategy_settings, f"{where}.strategy", of_strategy)
    judged = validated(judge.Options, judge_settings, f"{where}.judge", of_judge)
    return judge, judged, strategy, options.model_dump()


def _kinds(judge: type[Judge]) -> set[str]:
    """The kinds of judge that a class is: its own and, if it is another package's, those of the judges that it is derived
    from, up to the first of ours."""
    kinds = set[str]()
    for parent in judge.__mro__:
        kinds |= {vars(parent)["kind"]} if "kind" in vars(parent) else set()
        if parent in JUDGES.values():
            break
    return kinds


def _template(settings: Settings, judge: type[Judge]) -> Template:
    template = sources.load(settings.prompt)
    if template.contract not in _kinds(judge):
        raise UsageError(f"prompt {template.name} is for a judge of kind {template.contract}, not {judge.kind}")
    return template


def _check_votes(settings: Settings, judge_options: Any, where: str) -> None:
    if judge_options.votes > 1 and not judge_options.shuffle and settings.sampling.temperature == 0:
        raise UsageError(
            f"{where}.judge.votes {judge_options.votes} would ask the same question every time: set "
            f"{where}.judge.shuffle true or a {where}.sampling.temperature, so that the votes differ"
        )


def _check_samples(settings: Settings, judge: Judge, where: str) -> None:
    """UsageError if all answers of ``judge`` to one question are the same, so that a strategy can't average them."""
    name = settings.strategy["name"]
    if not judge.written_tokens:
        raise UsageError(
            f"the {name} strategy averages several answers, and the {judge.kind} judge reads the same probabilities each time: "
            f"set {where}.strategy.name pointwise"
        )
    if settings.sampling.temperature == 0:
        raise UsageError(
            f"the {name} strategy would ask the same question every time: set a {where}.sampling.temperature, so that the "
            f"answers differ, or {where}.strategy.name pointwise"
        )


def _check_segments(settings: Settings, judge: type[Judge], where: str) -> None:
    """UsageError if the judge has no score of one passage, or if the passage form cuts segments."""
    if settings.segments is None:
        return
    if STRATEGIES["pointwise"].judges.isdisjoint(_kinds(judge)):
        raise UsageError(
            f"{where}.segments needs a judge that scores one passage at a time (rank1, erank, upr), not {judge.kind}: use a "
            "cascade, whose large reranker reads the best segment that the small one found (--rerank coranking "
            "--rerank.arms.small.reranker rank1 --rerank.arms.small.segments.tokens 256)"
        )
    if settings.segments.step > settings.segments.tokens:
        raise UsageError(
            f"{where}.segments.stride {settings.segments.stride} is above {where}.segments.tokens {settings.segments.tokens}: "
            "no segment would have the text between two of them"
        )
    if cutting := [name for name in ("words", "characters") if getattr(settings.passage, name) is not None]:
        raise UsageError(
            f"{where}.passage.{cutting[0]} would cut segments: set it to null; {where}.segments.tokens is their length"
        )


def _with_threshold(settings: Settings, judge: Judge | None, where: str) -> Settings:
    """``settings`` with the threshold of ``keep`` relevant, by default the middle of the judge's scale.

    UsageError if the scores of the judge mean something for one query only, or if it gives none, as a combination (None).
    """
    if settings.keep == "all":
        if settings.threshold is not None:
            raise UsageError(f"{where}.threshold {settings.threshold:g} needs {where}.keep relevant")
        return settings
    if judge is None or judge.scale is None:
        what = f"the {settings.combine['name']} combination" if judge is None else f"the {judge.kind} judge"
        raise UsageError(
            f"{where}.keep relevant needs scores that mean the same for all queries, which {what} does not give: use a "
            "reranker that grades documents, such as rank1, erank, orderchain or grouprank"
        )
    low, high = judge.scale
    threshold = (low + high) / 2 if settings.threshold is None else settings.threshold
    if not low < threshold <= high:
        raise UsageError(
            f"{where}.threshold {threshold:g} is not between {low:g} and {high:g}, the scores of the {judge.kind} judge"
        )
    return settings.model_copy(update={"threshold": threshold})


def _check_prefill(engine: Engine[Any], template: Template, settings: Settings, where: str) -> None:
    """UsageError if the prompt begins the answer (prefill) and the engine can't continue it."""
    if is_without_model(answering_engine(settings.engine)) or not template.render("", [""]).prefill:
        return
    same = template.name.replace("-prefilled", "-reasoning")
    other = same if same in yaml_names("prompts") and same != template.name else "NAME"
    who = f"prompt {template.name} (instead: {where}.prompt {other})"
    check_capabilities(engine, who, frozenset({Capability.PREFILL}), settings)


def _check_arms(name: str, arms: Mapping[str, Settings], where: str) -> None:
    """UsageError for a missing or unknown arm of the combination ``name``."""
    combination = COMBINATIONS[name]
    if missing := sorted(combination.needs - arms.keys()):
        raise UsageError(
            f"the {name} combination needs an arm {missing[0]}: set {where}.arms.{missing[0]}.reranker NAME"
        )
    if combination.may is not None and (unknown := sorted(arms.keys() - combination.needs - combination.may)):
        known = sorted(combination.needs | combination.may)
        raise UsageError(f"the {name} combination has no arm {unknown[0]!r}{nearest(unknown[0], known)}")


def _differs(arm: Plan, *, shuffled: bool) -> bool:
    """Whether ranking the same candidates again can give another order."""
    costs = estimate(arm, arm.settings.depth).parts
    return arm.settings.depth == 1 or any(
        part.settings.sampling.temperature > 0
        or ((shuffled or part.judge.options.shuffle) and name in costs and costs[name].widest > 1)
        for name, part in arm.parts.items()
    )
