"""What ``--rerank.as published`` follows: the publication of a reranker, the release of a checkpoint, and their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyserini_reasonrank.engines import is_without_model
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import AUTO, Known, Published, entry, known_models
from pyserini_reasonrank.models.collections import for_collection
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.settings import rerankers
from pyserini_reasonrank.settings.schema import Tree, answering_engine


def known_model(model: str, adapter: str | None, kind: str) -> Known | None:
    """The entry of ``model`` in conf/models.yaml, if it has one for questions of this kind."""
    named = entry(model, adapter, kind)
    return known_models()[named] if named else None


@dataclass(frozen=True, slots=True)
class Presets:
    """The settings that come with a reranker and a model, beside the reranker's YAML.

    ``known`` is the model's entry in conf/models.yaml. Where the settings are to be those published, ``publication`` is what
    the reranker's YAML says of them, and ``release`` what the model's entry says.
    """

    known: Known | None
    publication: Published | None = None
    release: Published | None = None

    def layers(self, own: Tree) -> list[Tree]:
        """Settings to put over the reranker's YAML, ``own``; each overrides those before it."""
        first = self.publication.settings if self.publication else {}
        own = own | {key: first[key] for key in ("strategy",) if key in first}
        found = (first, self.known.brings(own) if self.known else {}, self.known.released(own) if self.known else {})
        return list(found[: 3 if self.release else 2])

    def limits(self, data: Sequence[str]) -> tuple[str | None, Tree]:
        """The collection that ``data`` are names of, and its settings; (None, {}) if it has none."""
        name, limits = for_collection(self.known.collections if self.known else {}, data)
        for release in filter(None, (self.publication, self.release)):
            also, its_limits = for_collection(release.collections, data)
            name, limits = name or also, {**limits, **its_limits}
        return name, dict(limits)

    def lacking(self, asked: Tree, given: Tree, where: str) -> list[str]:
        """Warnings about what a release lacks. UsageError if it lacks what only the user can give.

        A model's release goes before a reranker's publication, whose prompt it replaces.
        """
        modelless = is_without_model(answering_engine(asked.get("engine", {})))
        release = self.release or self.publication
        for key, reason in release.needs.items() if release else ():
            if given.get(key) in (None, AUTO) and not (modelless and key == "model"):
                raise UsageError(f"{where}.as published: {reason}; set {where}.{key}")
        return [f"{where}.as published: {release.lacks}"] if release and release.lacks else []


def presets_for(name: str, asked: Tree, model: str, where: str) -> Presets:
    """The presets of the reranker ``name`` and of ``model``. UsageError if they are to be those published and are unknown.

    An engine without a model answers, where the settings are those published, for the model in the settings, or for the
    reranker's checkpoint.
    """
    kind, adapter = str(asked.get("judge", {}).get("kind")), asked.get("adapter")
    if asked.get("as") != "published":
        return Presets(known_model(model, adapter, kind))
    if is_without_model(model):
        given = asked.get("model")
        model = str(asked.get("checkpoint") if given in (None, AUTO) else given)
    known = known_model(model, adapter, kind)
    presets = Presets(known, rerankers.published(name), known.published if known else None)
    if presets.publication is None and presets.release is None:
        released = [name for name, other in known_models().items() if other.published and other.kind == kind]
        raise UsageError(
            f"{where}.as published: no published settings are known for model {model}; for questions of kind {kind} they "
            f"are known for: {', '.join(released) or 'no model'}"
        )
    return presets


def with_available_texts(
    tree: Tree, own: Tree, given: Tree, known: Known | None, model: str, where: str, *, strict: bool
) -> tuple[Tree, list[str]]:
    """``tree`` with the prompt and the instruction that are available, and warnings about those that are not.

    ``strict``: nothing replaces a text that is unavailable; UsageError.
    """
    tree, warnings = dict(tree), list[str]()
    prompt, instruction = tree.get("prompt"), tree.get("instruction")
    if prompt and prompt != own.get("prompt") and given.get("prompt") is None and (reason := sources.missing(prompt)):
        if strict:
            raise UsageError(f"{where}.as published needs the prompt {prompt}, which is unavailable: {reason}")
        tree["prompt"] = (known and known.fallback) or own.get("prompt")
        warnings.append(
            f"the prompt {prompt}{'' if is_without_model(model) else f' that {model} was trained with'} is unavailable "
            f"({reason}); the project's own prompt {tree['prompt']} is used"
        )
    if instruction and given.get("instruction") is None and (reason := sources.missing_instruction(instruction)):
        if strict:
            raise UsageError(
                f"{where}.as published needs the instruction {instruction}, which is unavailable: {reason}"
            )
        del tree["instruction"]
        warnings.append(f"the instruction {instruction} is unavailable ({reason}); none is used")
    return tree, warnings
