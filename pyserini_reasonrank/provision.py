"""The engine, the model and the tokenizer that settings name, checked against this machine before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pyserini_reasonrank.config import MODELLESS, answering
from pyserini_reasonrank.engines import Engine, build_engine
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.hub import Unreachable, model_file
from pyserini_reasonrank.models import AUTO, Model, known_models, resolve
from pyserini_reasonrank.settings import Settings
from pyserini_reasonrank.tokens import EstimatedTokens, ModelTokens, Tokens


def provide(settings: Settings) -> Engine[Any]:
    """The engine of ``settings`` for its model, not started. UsageError if it can't be had or held here."""
    given = dict(settings.engine)
    name, answers = given.pop("name", AUTO), answering(settings.engine)
    if name == AUTO:
        name = answers = _best_engine()
    engine = build_engine(name, given, _model(settings, answers))
    if engine.needs_weights:
        _check_memory(engine.model)
    return engine


def _model(settings: Settings, answers: str) -> Model:
    if answers in MODELLESS or (answers == "openai" and settings.model == AUTO):
        return Model(settings.model, settings.model, context=settings.max_model_len)
    if answers == "openai":  # the server has the weights: its name for them is taken as it is
        return Model(settings.model, settings.model, settings.revision, settings.adapter, settings.max_model_len)
    model = resolve(
        settings.model, revision=settings.revision, adapter=settings.adapter, context=settings.max_model_len
    )
    return replace(model, chat_template_args={**model.chat_template_args, **settings.chat_template_args})


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
    if (own := Path(source, "tokenizer.json")).is_file():
        return ModelTokens(own)
    if Path(source).is_dir() or "/" not in source:
        if settings.tokenizer:
            raise UsageError(f"--rerank.tokenizer {source} holds no tokenizer.json")
        return EstimatedTokens()
    try:
        file = model_file(source, "tokenizer.json", model.revision if source == model.source else None)
        reason = "it has none"
    except Unreachable as error:
        file, reason = None, str(error)
    if file is not None:
        return ModelTokens(file)
    warnings.append(f"passages are cut by an estimate of three characters a token: no tokenizer.json of {source} "
                    f"({reason}); name a folder that has one with --rerank.tokenizer")  # fmt: skip
    return EstimatedTokens()
