"""A finished rewriting: its topics file, its journal, and the plan that its metadata record, to show and pack its answers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.ir.metadata import nested, read_metadata, recorded_command, recorded_fingerprint, sha256
from pyserini_reasonrank.ir.packed_answers import Header, write_answers
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.journal_reader import RecordedCall, rankings, recorded_runs
from pyserini_reasonrank.records import Candidate, Prompt, Query, Request
from pyserini_reasonrank.rerankers.call_store import MemoryStore
from pyserini_reasonrank.run.fingerprint import fingerprint_of
from pyserini_reasonrank.run.named_inputs import host_queries, local_file
from pyserini_reasonrank.run.packing import (
    Packed,
    answers_of,
    check_output,
    model_fields,
    packed_as,
    without_path,
)
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.run.prompt_replay import Place, Replay, answers_by_place
from pyserini_reasonrank.run.recorded_run import (
    SEARCH,
    RecordedRun,
    is_journal,
    journal_named,
    name_in,
)
from pyserini_reasonrank.run.replay_flags import Base, flags_of
from pyserini_reasonrank.run.rewriting.asking import SEARCHED, RewriteSession
from pyserini_reasonrank.run.rewriting.plan import RewritePlan, planned
from pyserini_reasonrank.run.rewriting.searching import REWRITTEN
from pyserini_reasonrank.settings import flags, layers, rewriters
from pyserini_reasonrank.settings.host_flags import HostFlags, read_host_flags
from pyserini_reasonrank.settings.schema import Tree

_COMMAND = ["python", "-m", "pyserini_reasonrank", "rewrite"]


@dataclass(frozen=True, slots=True)
class RecordedRewriting(RecordedRun):
    """Rewritten topics, ``output``, and their journal. ``described`` is the file that the metadata describe."""

    described: Path | None = None

    def check_rankings(self, qid: str | None = None) -> None:
        """UsageError if the topics file has other texts than the journal, or another one of the query ``qid``."""
        if self.output is None:
            return
        texts = {query.qid: query.text for query in read_topics(self.output)}
        for ranking in rankings(self.journal, qid, self.name):
            if texts.pop(ranking["qid"], None) != ranking["notes"].get(SEARCHED):
                raise UsageError(
                    f"the journal {self.journal} is not that of {self.output}: their texts of query {ranking['qid']} differ"
                )
        if texts and qid is None:
            raise UsageError(f"the journal {self.journal} is not that of {self.output}: it has no query {min(texts)}")


def recorded_rewriting(path: Path) -> RecordedRewriting | None:
    """The rewriting of the topics file or the journal ``path``; None if it is neither: a run, or another journal.

    UsageError if the file or its journal can't be read.
    """
    if is_journal(path):
        names = recorded_runs(path)
        first = next(rankings(path), None)
        if len(names) != 1 or first is None or SEARCHED not in first["notes"]:
            return None
        return RecordedRewriting(None, path, names[0])
    of_search = path.name.endswith(REWRITTEN)
    described = path.with_name(path.name.removesuffix(REWRITTEN)) if of_search else path
    metadata = read_metadata(described) or {}
    if not of_search and recorded_command(metadata)[:4] != _COMMAND:
        return None
    journal = journal_named(path, metadata, rewriters.PREFIX, rewriters.lift, rewriters.read)
    name = name_in(journal, path, {})
    if name is None:
        raise UsageError(f"the journal {journal} has no rewrites of {path}")
    return RecordedRewriting(path, journal, name, metadata, described)


@dataclass(frozen=True, slots=True)
class RestoredRewriting:
    """The settings of a rewriting, loaded again from its command.

    ``host`` is the module of a search and ``argv`` its flags; "" and () for the command ``rewrite``. ``found`` has the inputs,
    ``corpus`` the file that the passages of later rounds came from, if it is not the index. ``exact``: the settings are those
    of then.
    """

    plan: RewritePlan
    rewriter: str
    tree: Tree
    found: HostFlags
    host: str = ""
    argv: Sequence[str] = ()
    corpus: str | None = None
    exact: bool = True

    def queries(self) -> list[Query]:
        """The original queries. UsageError if they can't be read."""
        if self.host:
            return host_queries(str(self.found.topics), self.found.topics_format)
        with local_file("topics", str(self.found.topics)) as topics:
            return read_topics(topics)

    def replay(self) -> str:
        """The command that replays the answers, with names in capitals for its files."""
        if self.plan.settings.rounds == 1 or not self.host:
            return "python -m pyserini_reasonrank rewrite --topics TOPICS --output REWRITTEN"
        named = {str(self.found.topics): "TOPICS", str(self.found.index): "INDEX", str(self.found.output): "RUN"}
        words = []
        for word in self.argv:
            flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
            value = named.get(value, without_path(value)) if value else value
            words.append(f"{flag}{equals}{value}")
        return shlex.join(["python", "-m", self.host, *words])


def restored_rewriting(run: RecordedRewriting) -> RestoredRewriting:
    """The settings of a rewriting, not ``exact`` if its command gives others here. UsageError if it is not recorded."""
    words = recorded_command(run.metadata)
    if run.described is None or not words:
        raise UsageError(
            f"the settings of {run.output or run.journal} are unknown: "
            + ("name the topics file" if run.output is None else f"{run.described} has no metadata that name a command")
        )
    if words[:4] == _COMMAND:
        return _of_the_command(run.described, words[4:])
    match words:
        case ["python", "-m", module, *argv] if module == SEARCH[1] or module.startswith(SEARCH[0]):
            return _of_a_search(run.described, module, argv)
    raise UsageError(
        f"the settings of {run.output} can't be restored: they were made by `{' '.join(words[:4])} ...`, not by rewrite or a search"
    )


def _of_the_command(described: Path, argv: Sequence[str]) -> RestoredRewriting:
    name, tree, rest = rewriters.lift(argv)
    found = read_host_flags(rest)
    made = planned(str(name), tree, [str(found.topics)], here=False)
    fingerprint = fingerprint_of(None, (), RunFormat.TREC, made.settings)
    return RestoredRewriting(made, str(name), tree, found, exact=fingerprint == recorded_fingerprint(described))


def _of_a_search(described: Path, module: str, argv: Sequence[str]) -> RestoredRewriting:
    reranker, of_reranker, rest = flags.lift(argv)
    name, tree, rest = rewriters.lift(rest)
    if name is None:
        raise UsageError(f"{described} was searched without {rewriters.PREFIX}")
    found = read_host_flags(rest)
    data = [value for value in (found.topics, found.index) if value]
    made = planned(name, tree, data, here=False)
    reranking, corpus = None, made.settings.corpus
    if reranker is not None:
        settings, warnings = layers.load(reranker, of_reranker, data, here=False)
        reranking, corpus = plan(settings, warnings, here=False), corpus or settings.corpus
    fingerprint = fingerprint_of(reranking, (), RunFormat(found.output_format), made.settings)
    exact = fingerprint == recorded_fingerprint(described)
    return RestoredRewriting(made, name, tree, found, module, rest, corpus, exact)


def pack_rewriting(run: RecordedRewriting, output: Path) -> Packed:
    """Write the answers of a rewriting to ``output``, a file that must not exist, without paths and secrets.

    UsageError as for ``packing.pack``.
    """
    check_output(run, output)
    if run.output is None:
        raise UsageError(
            f"{run.journal} is a journal: name the topics file, whose metadata have the settings for a replay"
        )
    found = restored_rewriting(run)
    if not found.exact:
        raise UsageError(
            f"the settings of {run.output} can't be restored: its command gives other settings here than when it ran "
            "(another version, model or settings file); its metadata have the command"
        )
    run.check_rankings()
    answers, part, settings = answers_of(run), found.plan.part, found.plan.settings
    base = Base(rewriters.PREFIX, rewriters.BASE, rewriters.load, rewriters.lift)
    words = flags_of(base, found.rewriter, found.tree, settings, {})
    about = {
        "software": nested(run.metadata, "platform", "software", "libraries", "python"),
        "rewritten topics": {"name": run.output.name, "sha256": sha256(run.output)},
        "topics": without_path(str(found.found.topics)),
        "models": {settings.name: model_fields(part.engine)},
        "prompts": {settings.name: without_path(part.template.name)},
    }
    write_answers(output, Header(words, part.engine.capabilities, about), answers)
    return packed_as(run, output, answers, found.replay(), words, rewriters.PREFIX)


async def prompts_of_rewriting(
    made: RewritePlan,
    query: Query,
    calls: Sequence[RecordedCall],
    passages: Mapping[str, Candidate],
    contexts: Mapping[str, int],
) -> dict[Place, Prompt]:
    """The prompts of ``calls``, all those of a query, by place. No model is loaded.

    ``passages`` are those that later rounds showed, by docid; a round without all of its passages has no prompt.
    """
    part = made.part
    identity = part.engine.weights_identity() if contexts else None
    replay = Replay(part.engine, contexts.get(identity or ""), answers_by_place(calls))
    session = RewriteSession(made.with_engine(replay), MemoryStore())
    for number, docids in {call.number: call.docids for call in calls}.items():
        if all(docid in passages for docid in docids):
            with suppress(Failure):  # a call that failed
                await session.ask(Request(query, tuple(passages[docid] for docid in docids)), number)
    return replay.prompts
