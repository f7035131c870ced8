"""What ``--rerank.as published`` follows: the publication of a reranker, the release of a checkpoint, and their texts."""

from __future__ import annotations

from collections.abc import Sequence

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import AUTO, Known, Published, entry, known_models
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.settings import rerankers
from pyserini_reasonrank.settings.schema import ENGINES_WITHOUT_MODEL, Tree, answering_engine


def known_model(model: str, adapter: str | None, kind: str) -> Known | None:
    """The entry of ``model`` in conf/models.yaml, if it has one for questions of this kind."""
    named = entry(model, adapter, kind)
    return known_models()[named] if named else None


def releases_for(name: str, asked: Tree, model: str, kind: str, where: str) -> tuple[Known | None, list[Published]]:
    """The entry of the model, and what ``--rerank.as published`` follows: the publication of the reranker, then the release
    of the model.

    An engine without a model answers for the model in the settings, or for the reranker's checkpoint. UsageError if
    there is neither.
    """
    if model in ENGINES_WITHOUT_MODEL:
        given = asked.get("model")
        model = str(asked.get("checkpoint") if given in (None, AUTO) else given)
    known = known_model(model, asked.get("adapter"), kind)
    releases = [release for release in (rerankers.published(name), known and known.published) if release]
    if not releases:
        released = [name for name, other in known_models().items() if other.published and other.kind == kind]
        raise UsageError(
            f"{where}.as published: no published settings are known for model {model}; for questions of kind {kind} they "
            f"are known for: {', '.join(released) or 'no model'}"
        )
    return known, releases


def lacking(releases: Sequence[Published], asked: Tree, given: Tree, where: str) -> list[str]:
    """Warnings about what a release lacks. UsageError if it lacks what only the user can give."""
    modelless = answering_engine(asked.get("engine", {})) in ENGINES_WITHOUT_MODEL
    for release in releases:
        for key, reason in release.needs.items():
            if given.get(key) is None and not (modelless and key == "model"):
                raise UsageError(f"{where}.as published: {reason}; set {where}.{key}")
    return [f"{where}.as published: {release.lacks}" for release in releases if release.lacks]


def with_available_texts(
    tree: Tree, own: Tree, given: Tree, known: Known | None, model: str, published: bool, where: str
) -> tuple[Tree, list[str]]:
    """``tree`` with the prompt and the instruction that are available, and warnings about those that are not.

    UsageError for one that is not available where the settings are those published: nothing replaces it.
    """
    tree, warnings = dict(tree), list[str]()
    prompt, instruction = tree.get("prompt"), tree.get("instruction")
    if prompt and prompt != own.get("prompt") and given.get("prompt") is None and (reason := sources.missing(prompt)):
        if published:
            raise UsageError(f"{where}.as published needs the prompt {prompt}, which is unavailable: {reason}")
        tree["prompt"] = (known and known.fallback) or own.get("prompt")
        warnings.append(
            f"the prompt {prompt} that {model} was trained with is unavailable ({reason}); the project's own prompt "
            f"{tree['prompt']} is used"
        )
    if instruction and given.get("instruction") is None and (reason := sources.missing_instruction(instruction)):
        if published:
            raise UsageError(
                f"{where}.as published needs the instruction {instruction}, which is unavailable: {reason}"
            )
        del tree["instruction"]
        warnings.append(f"the instruction {instruction} is unavailable ({reason}); none is used")
    return tree, warnings
