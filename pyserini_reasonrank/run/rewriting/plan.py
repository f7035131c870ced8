"""From the settings of a rewriter to a plan, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pyserini_reasonrank.engines import Engine
from pyserini_reasonrank.errors import Failure, UnknownKey, UsageError, validated
from pyserini_reasonrank.judges.rewrite import Rewrite
from pyserini_reasonrank.models.catalogue import EMBEDDED
from pyserini_reasonrank.prompts.fitting import frame_tokens
from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.run.build import build, memory_problem
from pyserini_reasonrank.run.notices import as_error
from pyserini_reasonrank.run.parts import SinglePlan
from pyserini_reasonrank.run.plan import assembled, check_questions
from pyserini_reasonrank.settings import rewriters
from pyserini_reasonrank.settings.rewriters import KIND, PREFIX, RewriteSettings
from pyserini_reasonrank.settings.schema import Tree
from pyserini_reasonrank.strategies import STRATEGIES

_PROBE = "\x00"
_ONE_QUESTION = STRATEGIES["full"]


@dataclass(frozen=True, slots=True)
class RewritePlan:
    """A rewriter over an engine that has not started. ``part`` asks its questions."""

    settings: RewriteSettings
    part: SinglePlan
    judge: Rewrite
    warnings: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """The name of the rewriter and its model, without blanks."""
        return self.settings.run_tag(self.part.engine.model.name)

    def with_engine(self, engine: Engine[Any]) -> RewritePlan:
        """The same plan over another engine."""
        return replace(self, part=replace(self.part, engine=engine))

    @property
    def widest(self) -> int:
        """The most passages that a question shows."""
        return self.settings.depth if self.settings.rounds > 1 else 0

    @property
    def prompt_tokens(self) -> int | None:
        """The most tokens that the questions about one query read, without the query; None if passages have no limit."""
        settings, part = self.settings, self.part
        first = frame_tokens(part.template, part.tokens, 0, reserve=False)
        if settings.rounds == 1:
            return first
        if settings.passage_tokens is None:
            return None
        later = frame_tokens(part.template, part.tokens, settings.depth, reserve=False)
        return first + (settings.rounds - 1) * (later + settings.depth * settings.passage_tokens)

    @property
    def output_tokens(self) -> int:
        """The most tokens that the model writes for one query, without repairs."""
        return self.settings.rounds * self.judge.written_tokens


def plan_rewriting(
    settings: RewriteSettings,
    warnings: Sequence[str] = (),
    *,
    here: bool = True,
    strict: bool = False,
    engine: Engine[Any] | None = None,
) -> RewritePlan:
    """The plan for ``settings``. UsageError for the first incompatibility. ``strict`` is as the setting of that name.

    With ``here`` False, a model that is too large for this machine is only a warning. ``engine`` is used if it is given.
    """
    with speaking_of_rewrites():
        options = _judge_options(settings)
        settings = settings.model_copy(update={"strict": strict or settings.strict})
        part = assembled(settings, PREFIX, Rewrite, options, _ONE_QUESTION, {}, lambda s: engine or build(s))
        if settings.rounds > 1 and not _shows_passages(part.template):
            raise UsageError(
                f"prompt {part.template.name} shows no passages, so {PREFIX}.rounds above 1 would ask the same question again: "
                f"leave it at 1, or name a prompt that shows them with {PREFIX}.prompt"
            )
        found = list(warnings)
        if part.engine.answering.needs_weights and part.engine.model.name == EMBEDDED:
            found.append(f"{EMBEDDED} writes poor queries; name another model with --rerank.model")
        if problem := memory_problem(part.engine):
            if here:
                raise UsageError(problem)
            found.append(problem)
        made = RewritePlan(settings, part, _rewrite(part))
        found += [*check_questions(part, made.widest), *part.token_warnings]
        found = [of_rewrites(warning) for warning in dict.fromkeys(found)]
        if found and settings.strict:
            raise UsageError(as_error(found))
    return RewritePlan(settings, part, made.judge, tuple(found))


def _judge_options(settings: RewriteSettings) -> Rewrite.Options:
    given = dict(settings.judge)
    if (kind := given.pop("kind", KIND)) != KIND:
        raise UsageError(f"{PREFIX}.judge.kind {kind!r}: a rewriter's is always {KIND}")
    return validated(Rewrite.Options, given, f"{PREFIX}.judge", f"the {KIND} judge")


def _shows_passages(template: Template) -> bool:
    return any(_PROBE in message.content for message in template.render("", [_PROBE]).messages)


def _rewrite(part: SinglePlan) -> Rewrite:
    assert isinstance(part.judge, Rewrite)
    return part.judge


def planned(
    name: str,
    tree: Tree,
    data: Sequence[str] = (),
    *,
    here: bool = True,
    strict: bool = False,
    engine: Engine[Any] | None = None,
) -> RewritePlan:
    """The plan of the rewriter ``name`` under the flags ``tree``; ``data`` are the names of index and topics."""
    with speaking_of_rewrites():
        settings, warnings = rewriters.load(name, tree, data, here=here)
    return plan_rewriting(settings, warnings, here=here, strict=strict, engine=engine)


def of_rewrites(message: str) -> str:
    """A message about settings of the LLM, with the flags of the rewriter."""
    return message.replace("--rerank.", f"{PREFIX}.")


@contextmanager
def speaking_of_rewrites() -> Iterator[None]:
    """Within the block, errors about settings of the LLM name the flags of the rewriter: both share the code."""
    try:
        yield
    except (UsageError, Failure) as error:
        error.args = tuple(of_rewrites(part) if isinstance(part, str) else part for part in error.args)
        if isinstance(error, UnknownKey):
            error.flag = of_rewrites(error.flag)
        raise
