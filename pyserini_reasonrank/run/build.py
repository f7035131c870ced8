"""The engine, model and tokenizer that settings name, checked against this machine before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyserini_reasonrank.engines import Engine, build_engine, is_without_model
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import AUTO, EMBEDDED_SOURCE, Known, Model, entry, known_models, resolve
from pyserini_reasonrank.models.devices import CPU, arguments_of, device_of
from pyserini_reasonrank.models.hub import Unreachable, model_file
from pyserini_reasonrank.models.memory import ON_A_CPU, Need, UnknownShape, Verdict, memory_needed, spread
from pyserini_reasonrank.prompts.tokens import EstimatedTokens, ModelTokens, Tokens
from pyserini_reasonrank.records import Capability
from pyserini_reasonrank.settings.schema import Settings, answering_engine

_SHORTEST = 4096  # tokens of a context worth proposing


def build(settings: Settings) -> Engine[Any]:
    """The engine of ``settings`` for its model, not started. UsageError if it is not available here."""
    given = dict(settings.engine)
    name, answers = given.pop("name", AUTO), answering_engine(settings.engine)
    if name == AUTO:
        name = answers = _best_engine()
    build_engine(name, given, Model(settings.model, settings.model))  # its errors come before a download of the model
    return build_engine(name, given, _model(settings, answers))


def _model(settings: Settings, answers: str) -> Model:
    if is_without_model(answers):
        return Model(settings.model, settings.model, context=settings.max_model_len)
    named = entry(settings.model, settings.adapter)  # its context and template are its own, whatever the settings
    if answers == "openai":
        model = _served(settings, known_models()[named] if named else None)
    else:
        model = resolve(
            named or settings.model,
            revision=settings.revision,
            adapter=settings.adapter,
            context=settings.max_model_len,
        )
    arguments = {**model.chat_template_args, **settings.chat_template_args}
    given = {name: value for name, value in arguments.items() if value is not None}
    return replace(model, name=settings.model, chat_template_args=given, bos=settings.bos)


def _served(settings: Settings, known: Known | None) -> Model:
    """The model of a server, under the name that the server has for it. UsageError for settings of local weights."""
    for key in ("adapter", "revision"):
        if value := getattr(settings, key):
            raise UsageError(
                f"--rerank.{key} {value} is for engines that load the model: let the server serve it under a name of its own, "
                "and pass that name with --rerank.model"
            )
    context = settings.max_model_len or (known.context if known else None)
    arguments = known.chat_template_args if known else {}
    return Model(settings.model, settings.model, context=context, chat_template_args=arguments)


def memory_problem(engine: Engine[Any]) -> str | None:
    """Why the weights and the KV cache of one question do not fit this machine, and what to do; None if they fit."""
    if not engine.needs_weights:
        return None
    settings = engine.options.model_dump()
    device, arguments = device_of(settings), arguments_of(settings)
    if engine.name == "transformers" and device.kind == CPU:
        arguments = {**ON_A_CPU, **arguments}
    if (need := _need(engine.model, arguments)) is None:
        return None
    verdict = Verdict(need, device.free)
    if verdict.fits:
        return None
    remedies = ["choose a smaller model with --rerank.model"]
    if (n := spread(need)) is not None:
        how = f"tensor_parallel_size {n}" if engine.name == "vllm" else "device_map auto"
        remedies.append(f"spread it over {n} accelerators with --rerank.engine.args.{how}")
    if (longest := verdict.longest // 1024 * 1024) >= _SHORTEST:
        remedies.append(f"set --rerank.max_model_len {longest}")
    return f"model {engine.model.name} {verdict} ({device.name}): {', or '.join(remedies)}"


def _need(model: Model, arguments: Mapping[str, Any]) -> Need | None:
    """The memory that ``model`` needs; None if models.yaml does not describe it, or its config.json has an unknown shape."""
    folder, known = Path(model.source), entry(model.name) or entry(model.source, model.adapter)
    if folder.is_dir():
        with suppress(UnknownShape):
            return memory_needed(folder, context=model.context, arguments=arguments)
    return known_models()[known].needs(model.context, arguments) if known else None


def _best_engine() -> str:
    from importlib.util import find_spec

    if find_spec("vllm") and device_of({}).kind != CPU:
        return "vllm"
    if find_spec("transformers") and find_spec("torch"):
        return "transformers"
    raise UsageError("no engine is installed: run pip install 'pyserini-reasonrank[transformers]', or use a server with "
                     "--rerank.engine.name openai --rerank.engine.base_url URL")  # fmt: skip


_NEEDED = {
    Capability.CHOICES: "log-probabilities of given answers",
    Capability.LOGITS: "logits of given answers (not log-probabilities)",
    Capability.LIKELIHOOD: "the log-probability of a whole text",
    Capability.PREFILL: "answers with a prefilled beginning",
    Capability.PATTERN: "answers that match a pattern",
}
_NO_LOGITS = "leave out --rerank.engine.args.logprobs_mode"
_REMEDIES = {
    "openai": {
        Capability.CHOICES: "if its server can continue an assistant turn, set --rerank.engine.continue_final_message true",
        Capability.LOGITS: "the engines vllm and transformers support it",
        Capability.PREFILL: "if its server can continue an assistant turn, set --rerank.engine.continue_final_message true",
        Capability.LIKELIHOOD: "the engines vllm and transformers support it",
        Capability.PATTERN: "if its server supports structured outputs, set --rerank.engine.structured_outputs vllm",
    },
    "vllm": {
        Capability.CHOICES: _NO_LOGITS,
        Capability.LIKELIHOOD: _NO_LOGITS,
        Capability.LOGITS: "set --rerank.engine.args.logprobs_mode raw_logits",
    },
}
"""What to do if an engine lacks a capability."""


def check_capabilities(engine: Engine[Any], who: str, needs: frozenset[Capability], settings: Settings) -> None:
    """UsageError if ``engine`` lacks a capability that ``who`` needs, with a remedy if there is one."""
    if missing := sorted(needs - engine.capabilities):
        named = answering_engine(settings.engine)
        known = _REMEDIES.get(engine.answering.name if named == AUTO else named, {})
        remedies = dict.fromkeys(known[m] for m in missing if m in known)
        raise UsageError(
            f"{who} needs {' and '.join(_NEEDED.get(m, m) for m in missing)}, which the {engine.name} engine does not support"
            + "".join(f"; {remedy}" for remedy in remedies)
        )


def tokens_for(settings: Settings, model: Model) -> tuple[Tokens, tuple[str, ...]]:
    """The tokenizer of the model, or an estimate of token counts with a warning that gives the reason.

    There is no warning if the engine has no model, or if the server has not yet reported its model. UsageError if the
    folder of ``--rerank.tokenizer`` has no tokenizer.json.
    """
    folder = entry(settings.model) is None and Path(settings.model).is_dir()  # a server may have another name for it
    source = settings.tokenizer or (settings.model if folder else _weights(model.source))
    if (own := Path(source, "tokenizer.json")).is_file():
        return ModelTokens(own), ()
    of_hub = "/" in source and not Path(source).is_dir()
    if settings.tokenizer and not of_hub:
        raise UsageError(f"--rerank.tokenizer {source} has no tokenizer.json")
    if model.source == AUTO or is_without_model(answering_engine(settings.engine)):
        return EstimatedTokens(), ()
    known = "/" in source or Path(source).is_dir()
    file, reason = None, "it has none" if known else "its name is not a hub id"
    if of_hub:
        try:
            file = model_file(source, "tokenizer.json", model.revision if source == model.source else None)
        except Unreachable as error:
            reason = str(error)
    if file is not None:
        return ModelTokens(file), ()
    warning = (
        f"passages are truncated by an estimate of three characters per token: no tokenizer.json of {source} ({reason}); "
        "name a folder that has one with --rerank.tokenizer"
    )
    return EstimatedTokens(), (warning,)


def _weights(source: str) -> str:
    """The model whose tokenizer ``source`` uses: for names and ids in conf/models.yaml the weights, for adapters the base."""
    if (named := entry(source)) is None:
        return source
    known = known_models()[named]
    weights = known.base or known.source
    return source if weights == EMBEDDED_SOURCE else weights
