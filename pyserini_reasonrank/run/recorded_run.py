"""A finished run: its journal, and the plan and inputs that its metadata record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError, listed
from pyserini_reasonrank.ir.metadata import (
    nested,
    read_finished_run,
    read_metadata,
    recorded_command,
    recorded_fingerprint,
    sidecar,
)
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.journal import SQLITE, journal_of, run_name
from pyserini_reasonrank.journal_reader import rankings, recorded_runs
from pyserini_reasonrank.run.fingerprint import fingerprint_of
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import files, flags, layers, rerankers, rewriters
from pyserini_reasonrank.settings.host_flags import read_host_flags
from pyserini_reasonrank.settings.schema import Settings, Tree

SEARCH = ("pyserini.search", "pyserini_reasonrank.search")
"""The modules whose command lines are those of a search, or begin the names of such modules."""
NAMED = 5
"""The number of names that an error gives."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run and its journal. ``name`` is the run's name there. ``output`` is None if only the journal was named."""

    output: Path | None
    journal: Path
    name: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def check_qid(self, qid: str) -> None:
        """UsageError, with similar qids, if the run has no query ``qid``."""
        known = [ranking["qid"] for ranking in rankings(self.journal, run=self.name)]
        if qid not in known:
            close = get_close_matches(qid, known, n=NAMED, cutoff=0.5)
            near = f"did you mean {' or '.join(map(repr, close))}?" if close else f"its queries: {listed(known, NAMED)}"
            raise UsageError(f"{self.output or self.journal} has no query {qid!r}; {near}")

    def check_rankings(self, qid: str | None = None) -> None:
        """UsageError if the run file has other rankings than the journal, or another one of the query ``qid``.

        Documents whose names contain white space are not compared, since it may be replaced in the run.
        """
        if self.output is None:
            return
        hits = read_finished_run(self.output)
        for ranking in rankings(self.journal, qid, self.name):
            written = [hit.docid for hit in hits.pop(ranking["qid"], [])]
            ranked = [line["docid"] for line in ranking["ranking"] if not line.get("dropped")]
            same = [a == b or len(b.split()) > 1 for a, b in zip(written, ranked, strict=False)]
            if len(written) != len(ranked) or not all(same):
                raise self._other(f"their rankings of query {ranking['qid']} differ")
        if hits and qid is None:
            raise self._other(f"it has no query {min(hits)}")

    def _other(self, reason: str) -> UsageError:
        return UsageError(f"the journal {self.journal} is not that of {self.output}: {reason}")


def is_journal(path: Path) -> bool:
    """Whether ``path`` is an SQLite file. UsageError if it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from None


def recorded_run(path: Path) -> RecordedRun:
    """The run of the run file or the journal ``path``.

    UsageError if a file is missing, or if the journal does not have the run: it is empty or that of other runs. The only
    run of a journal may have any name, since files are renamed.
    """
    if is_journal(path):
        names = recorded_runs(path)
        if len(names) != 1:
            raise UsageError(f"{path} has {_several(names)}; name the run file")
        return RecordedRun(None, path, names[0])
    metadata = read_metadata(path) or {}
    journal = journal_for(path, metadata)
    name = name_in(journal, path, metadata)
    if name is None:
        raise UsageError(f"the journal {journal} has no run {_expected(journal, path, metadata)!r}: it has no run")
    return RecordedRun(path, journal, name, metadata)


def name_in(journal: Path, path: Path, metadata: Mapping[str, Any]) -> str | None:
    """The name of the run file ``path`` in its journal: by tag and path, by path, or the only name, since files are renamed.

    None if the journal has no run. UsageError if it has other runs only, or several of this path.
    """
    names, expected = recorded_runs(journal), _expected(journal, path, metadata)
    relative = expected.partition(" ")[2]
    of_path = [name for name in names if name.partition(" ")[2] == relative]
    if expected in names or not names:
        return expected if names else None
    if len(of_path) > 1:
        raise UsageError(f"{journal} records {len(of_path)} runs of the file {relative}: {listed(of_path, NAMED)}")
    if of_path or len(names) == 1:
        return [*of_path, *names][0]
    raise UsageError(f"{journal} does not record {relative}, but {listed(names, NAMED)}: name another run or journal")


def _expected(journal: Path, path: Path, metadata: Mapping[str, Any]) -> str:
    return run_name(str(metadata.get("tag", "")), path, journal)


def _several(names: Sequence[str]) -> str:
    return f"{len(names)} runs ({listed(names, NAMED)})" if names else "no run"


def journal_for(path: Path, metadata: Mapping[str, Any]) -> Path:
    """The journal that the command of a run names, also in a file of settings, or else the one beside the run."""
    return journal_named(path, metadata, flags.PREFIX, flags.lift, rerankers.read)


def journal_named(
    path: Path, metadata: Mapping[str, Any], prefix: str, lift: Callable[..., Any], read: Callable[[str], Any]
) -> Path:
    """The journal that the flags ``prefix`` of a command name, also in a file of settings, or else the one beside ``path``.

    ``lift`` reads name and settings from the words of the command, ``read`` the settings of a name.
    """
    journal: Any = None
    with suppress(UsageError):  # a file of settings that is gone
        name, tree, _ = lift(recorded_command(metadata))
        config = tree.get(flags.CONFIG)
        in_file = {} if config is None else files.read(str(config), flag=f"{prefix}.{flags.CONFIG}")
        journal = (({} if name is None else read(name)) | in_file | tree).get("journal")
    found = [Path(str(each)) for each in (journal, journal_of(path)) if each is not None]
    return next((each for each in found if each.is_file()), found[-1])


@dataclass(frozen=True, slots=True)
class Restored:
    """The settings of a run, loaded again from its command.

    ``settings`` are as loaded, before the plan. ``reranker`` and ``tree`` are the name and the flags given, ``inputs`` the flags
    of ``rerank`` that name the input. For a search, the input is its first-stage run. ``exact``: they are those of the run.
    """

    plan: Plan
    settings: Settings
    reranker: str
    tree: Tree
    inputs: Mapping[str, str]
    exact: bool = True

    def check(self, output: Path | None) -> None:
        """UsageError if the command of the run ``output`` gives other settings here than it did then."""
        if not self.exact:
            raise UsageError(
                f"the settings of {output} can't be restored: its command gives other settings here than when it ran "
                "(another version, model or settings file); its metadata have the command"
            )


def restored(run: RecordedRun) -> Restored:
    """The settings of a run, which are not ``exact`` if its command gives others here. UsageError if it is not recorded."""
    words = recorded_command(run.metadata)
    if run.output is None or not words:
        raise UsageError(f"the settings of {run.output or run.journal} are unknown: {_missing(run)}")
    search, argv = _arguments(run.output, words)
    reranker, tree, rest = flags.lift(argv)
    rewriter, rewriter_tree, rest = rewriters.lift(rest)
    inputs, output_format, part = _of_a_search(run, rest) if search else _of_rerank(rest)
    if "exclude" in inputs:
        tree.setdefault("exclude", inputs["exclude"])
    data = [inputs[name] for name in ("topics", "index", "corpus", "candidates") if name in inputs]
    settings, warnings = layers.load(reranker, tree, data, here=False)
    made = plan(settings, warnings, here=False)
    rewriting = rewriters.load(rewriter, rewriter_tree, data, here=False)[0] if rewriter else None
    exact = fingerprint_of(made, part, output_format, rewriting) == recorded_fingerprint(run.output)
    return Restored(made, settings, str(reranker), tree, inputs, exact)


def _missing(run: RecordedRun) -> str:
    if run.output is None:
        return "name the run file, whose metadata have them"
    return f"{sidecar(run.output)} {'does not name a command' if run.metadata else 'does not exist'}"


def _arguments(output: Path, words: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether the command of a run is a search, and its arguments. UsageError for a command that is neither that nor rerank."""
    match list(words):
        case ["python", "-m", "pyserini_reasonrank", "rerank", *argv]:
            return False, argv
        case ["python", "-m", module, *argv] if module == SEARCH[1] or module.startswith(SEARCH[0]):
            return True, argv
    command = " ".join(words[:4])
    raise UsageError(
        f"the settings of {output} can't be restored: it was made by `{command} ...`, not by rerank or a search"
    )


Parts = list[tuple[str, str]]


def _of_rerank(rest: Sequence[str]) -> tuple[dict[str, str], RunFormat, Parts]:
    """The inputs of a ``rerank`` command, the format of its output, and the flags of a part of the topics."""
    given = dict[str, str]()
    words = iter(rest)
    for word in words:
        name, equals, value = word.partition("=")
        given[name.removeprefix("--")] = value if equals else next(words, "")
    part = [(f"--{name}", given[name]) for name in ("qids", "shard") if name in given]
    names = ("run", "topics", "index", "corpus", "candidates", "duplicates", "qids", "shard", "exclude")
    inputs = {name: given[name] for name in names if name in given}
    return inputs, RunFormat(given.get("output-format", RunFormat.TREC.value)), part


def _of_a_search(run: RecordedRun, rest: Sequence[str]) -> tuple[dict[str, str], RunFormat, Parts]:
    """The same for a search: the first-stage run that it wrote, its topics and its index."""
    found = read_host_flags(rest)
    inputs = {"run": first_stage(run), "topics": found.topics, "index": found.index}
    return {name: value for name, value in inputs.items() if value}, RunFormat(found.output_format), []


def first_stage(run: RecordedRun, key: str = "run") -> str | None:
    """The path of the first-stage run in the metadata, or its ``sha256``; None if they have none."""
    retrieval = nested(run.metadata, "method", "retrieval")
    steps = [step for step in retrieval if isinstance(step, Mapping)] if isinstance(retrieval, list) else []
    return next((step.get(key) for step in steps if step.get("name") == "first stage"), None)
