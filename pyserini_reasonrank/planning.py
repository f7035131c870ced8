"""Settings turned into parts that go together, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyserini_reasonrank.config import MODELLESS, PREFIX, Settings, answering, tag
from pyserini_reasonrank.engines import Capability, Engine, build_engine
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.explain import Cost, predict
from pyserini_reasonrank.journal import Journal
from pyserini_reasonrank.judges import Judge
from pyserini_reasonrank.judges.registry import JUDGES
from pyserini_reasonrank.models import AUTO, Model, known_models, resolve
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.budget import Fitter
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.rerankers import Reranker, Tally
from pyserini_reasonrank.strategies import STRATEGIES, Strategy, options_model
from pyserini_reasonrank.suggest import nearest, validated
from pyserini_reasonrank.tokens import EstimatedTokens, ModelTokens, Tokens


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings, checked and turned into parts; nothing is loaded yet."""

    settings: Settings
    template: Template
    judge: Judge
    strategy: Strategy
    strategy_options: dict[str, Any]
    engine: Engine[Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def tag(self) -> str:
        return tag(self.settings, self.engine.model.name)

    def cost(self, n: int) -> Cost:
        """What one query of ``n`` candidates will cost; those below the depth cost nothing."""
        return predict(self.strategy, type(self.judge), min(n, self.settings.depth), self.strategy_options)

    def fitter(self) -> Fitter:
        """Fits prompts to the engine's context; valid once the engine has started, which may tell the context."""
        settings, sampling = self.settings, self.settings.sampling
        context = self.engine.max_model_len
        if settings.max_model_len is not None:
            context = min(settings.max_model_len, context or settings.max_model_len)
        shown = self.cost(settings.depth).widest
        return Fitter(
            self.template,
            tokens_for(settings, self.engine.model, self.warnings),
            context=context,
            output_tokens=sampling.max_tokens + self.judge.answer_tokens(shown),
            passage_tokens=settings.passage_tokens,
            query_tokens=settings.query_tokens,
        )

    def reranker(self, fitter: Fitter, journal: Journal, watch: Callable[[Tally], None]) -> Reranker:
        """The reranker of one run."""
        return Reranker(
            judge=self.judge,
            strategy=self.strategy,
            options=self.strategy_options,
            fitter=fitter,
            engine=self.engine,
            journal=journal,
            depth=self.settings.depth,
            on_error=self.settings.on_error,
            watch=watch,
        )


def plan(settings: Settings, warnings: Sequence[str] = ()) -> Plan:
    """The parts that ``settings`` name, and that they go together. UsageError for the first that does not."""
    judge_settings, strategy_settings = dict(settings.judge), dict(settings.strategy)
    kind, name = judge_settings.pop("kind", None), strategy_settings.pop("name", None)
    if kind not in JUDGES:
        raise UsageError(f"{PREFIX}.judge.kind {kind!r} is not known{nearest(str(kind), JUDGES)}")
    if name not in STRATEGIES:
        raise UsageError(f"{PREFIX}.strategy.name {name!r} is not known{nearest(str(name), STRATEGIES)}")
    strategy, kinds = STRATEGIES[name]
    if kind not in kinds:
        raise UsageError(f"the {name} strategy needs a judge of kind {' or '.join(kinds)}, not {kind}")
    options = validated(options_model(strategy), strategy_settings, f"{PREFIX}.strategy").model_dump()
    predict(strategy, JUDGES[kind], settings.depth, options)  # raises what the strategy has against its options
    template = sources.load(settings.prompt)
    if template.contract != kind:
        raise UsageError(f"prompt {template.name} is for a judge of kind {template.contract}, not {kind}")
    engine = _engine(settings, JUDGES[kind])
    judge_options = validated(JUDGES[kind].Options, judge_settings, f"{PREFIX}.judge")
    judge = JUDGES[kind](judge_options, settings.sampling.sampling(), engine.capabilities, template.reminder)
    return Plan(settings, template, judge, strategy, options, engine, list(warnings))


def _engine(settings: Settings, judge: type[Judge]) -> Engine[Any]:
    given = dict(settings.engine)
    name, answers = given.pop("name", AUTO), answering(settings.engine)
    if name == AUTO:
        name = answers = _best_engine()
    if answers in MODELLESS or (answers == "openai" and settings.model == AUTO):
        model = Model(settings.model, settings.model, context=settings.max_model_len)
    elif answers == "openai":  # the server has the weights: its name for them is taken as it is
        model = Model(settings.model, settings.model, settings.revision, settings.adapter, settings.max_model_len)
    else:
        model = resolve(
            settings.model, revision=settings.revision, adapter=settings.adapter, context=settings.max_model_len
        )
    engine = build_engine(name, given, model)
    if engine.needs_weights:
        _check_memory(model)
    if missing := judge.needs - engine.capabilities:
        remedy = "; if its server can continue an assistant turn, say --rerank.engine.continue_final_message true"
        what = {Capability.CHOICES: "log-probabilities of given answers", Capability.PREFILL: "answers we begin"}
        raise UsageError(
            f"the {judge.kind} judge needs {' and '.join(what.get(m, m) for m in sorted(missing))}, which the {name} engine "
            f"does not give{remedy if answers == 'openai' else ''}"
        )
    return engine


def _check_memory(model: Model) -> None:
    """UsageError if the weights and the cache of one question can't be held here."""
    from pyserini_reasonrank.memory import accelerators, fits, own_memory

    known, folder = known_models().get(model.name), Path(model.source)
    if not folder.is_dir() and known is None:
        return  # a hub model that is nowhere described: the engine will tell
    free = sum(device.free for device in accelerators()) or own_memory().free
    verdict = fits(folder if folder.is_dir() or known is None else known.parameters, free, context=model.context)
    if not verdict.fits:
        raise UsageError(
            f"model {model.name} {verdict}; name a smaller one with --rerank.model, or lower --rerank.max_model_len"
        )


def _best_engine() -> str:
    from importlib.util import find_spec

    from pyserini_reasonrank.memory import accelerators

    if find_spec("vllm") and accelerators():
        return "vllm"
    if find_spec("transformers") and find_spec("torch"):
        return "transformers"
    raise UsageError("no engine is installed: pip install 'pyserini-reasonrank[transformers]', or name a server with "
                     "--rerank.engine.name openai --rerank.engine.base_url URL")  # fmt: skip


def tokens_for(settings: Settings, model: Model, warnings: list[str]) -> Tokens:
    """The model's tokenizer, or an estimate and a warning that says so."""
    source = settings.tokenizer or model.source
    if (file := Path(source, "tokenizer.json")).is_file():
        return ModelTokens(file)
    if Path(source).is_dir() or "/" not in source:
        if settings.tokenizer:
            raise UsageError(f"--rerank.tokenizer {source} holds no tokenizer.json")
        return EstimatedTokens()
    try:
        from huggingface_hub import hf_hub_download

        return ModelTokens(Path(hf_hub_download(source, "tokenizer.json", revision=model.revision)))
    except Exception as error:  # offline, private, unknown: the hub client has an exception for each
        warnings.append(f"passages are cut by an estimate of three characters a token: no tokenizer.json of {source} "
                        f"({type(error).__name__}); name a folder that has one with --rerank.tokenizer")  # fmt: skip
        return EstimatedTokens()
