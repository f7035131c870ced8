"""The files that a command writes: checked against its inputs and earlier runs, and locked, before anything is loaded."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pyserini_reasonrank import interrupts
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import check_plain, folder_for
from pyserini_reasonrank.ir.metadata import read_metadata, recorded_command, recorded_fingerprint
from pyserini_reasonrank.ir.run_writer import writable
from pyserini_reasonrank.ir.runs import RunFormat
from pyserini_reasonrank.run.fingerprint import Inputs, fingerprint_of
from pyserini_reasonrank.run.parts import Plan
from pyserini_reasonrank.settings.flags import PREFIX
from pyserini_reasonrank.settings.rewriters import PREFIX as REWRITE
from pyserini_reasonrank.settings.rewriters import RewriteSettings
from pyserini_reasonrank.settings.schema import Settings

RESUME = "run the same command again to continue from the journal"
"""How to continue after a signal."""
STDOUT = "-"
"""The value of ``--output`` that writes the run to stdout."""

_NAMES = {"name", "about", "reranker", "kind", "tag", "collection", "model", "checkpoint", "revision", "adapter"}
_COMPARED = {"--run", "--candidates", "--topics", "--index"}


@dataclass(frozen=True, slots=True)
class Claim:
    """A run file to write, its format, and the fingerprint of the settings."""

    path: Path
    output_format: RunFormat
    fingerprint: str


@contextmanager
def claimed(
    plan: Plan,
    output: str,
    inputs: Inputs,
    output_format: RunFormat,
    *,
    also: Sequence[str] = (),
    rewriting: RewriteSettings | None = None,
) -> Iterator[Claim]:
    """Check and lock the run file ``output`` for the length of a block.

    ``also`` are suffixes of further files that the command writes beside the run. ``rewriting``: the settings by which its
    queries are rewritten. With ``-``, the run is written to a temporary folder, and printed if the block succeeds.
    UsageError if the output or a file beside it is an input, if another process is writing it, if it can't be written, if
    it exists with other settings and ``overwrite`` is off, or if a run can't contain the tag.
    """
    writable(plan.tag, "tag")
    if (blanks := plan.settings.docid_blanks) is not None:
        writable(blanks, "replacement for white space in docids")
    fingerprint = fingerprint_of(plan, inputs, output_format, rewriting)
    if output == STDOUT:
        with interrupts.temporary_folder() as folder:
            path = Path(folder, "run")
            with _stdout_to_stderr(), interrupts.resumable(RESUME) if plan.settings.journal else nullcontext():
                yield Claim(path, output_format, fingerprint)
            with path.open("rb") as run:
                shutil.copyfileobj(run, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    of_rewriting = [] if rewriting is None else paths_of(rewriting, REWRITE)
    inputs = [*inputs, *paths_of(plan.settings, PREFIX), *of_rewriting]
    with claimed_file(Path(output), inputs, fingerprint, also=also, overwrite=plan.settings.overwrite):
        yield Claim(Path(output), output_format, fingerprint)


@contextmanager
def claimed_file(
    path: Path,
    inputs: Inputs,
    fingerprint: str,
    *,
    also: Sequence[str] = (),
    overwrite: bool = False,
    prefix: str = PREFIX,
) -> Iterator[None]:
    """Check and lock the file ``path`` for the length of a block. ``prefix`` is that of the flag ``overwrite``.

    UsageError if its name is that of a compressed file, if it, or a file beside it, is an input, if another process is
    writing it, or if it can't be written. Also if it exists, ``overwrite`` is off, and it was made from inputs of other
    names or with another ``fingerprint``, which is in its metadata, or in its lock if a command ended between the file and
    its metadata (see ``committing``).
    """
    check_plain(path)
    _check_kind(path)
    _check_inputs(path, inputs, also)
    with _locked(path) as without_metadata:
        if path.exists() and not overwrite:
            known = fingerprint in (without_metadata, _recorded(path, recorded_fingerprint))
            other = _other_input(_recorded(path, lambda path: recorded_command(read_metadata(path))) or [], inputs)
            if other or not known:
                made = f"was made from {other}" if other else "was not made with these settings"
                raise UsageError(
                    f"--output {path} exists and {made}: name another file, or replace it with {prefix}.overwrite true"
                )
        with interrupts.resumable(RESUME):
            yield


def committing(path: Path, fingerprint: str) -> None:
    """Note in the lock of the claimed file ``path`` that it gets its final name now and its metadata after that."""
    if (lock := _lock_of(path)).exists():
        lock.write_text(fingerprint, encoding="ascii")


def paths_of(settings: Settings, prefix: str) -> Inputs:
    """The texts in ``settings`` that may be paths of files, with their flags, which begin with ``prefix``."""
    return list(_paths_in(settings.model_dump(mode="json"), prefix))


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what anything prints, also libraries in other languages and child processes."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _check_kind(path: Path) -> None:
    """UsageError if ``path`` can't be a run file: a folder, a device or pipe, or below a file."""
    if path.is_dir():
        raise UsageError(f"--output {path} is a folder; name the run file itself")
    absolute = Path(os.path.abspath(path))
    device = path.exists() and not stat.S_ISREG(path.stat().st_mode)
    system = absolute.is_relative_to("/dev") and not absolute.is_relative_to(
        "/dev/shm"
    )  # the latter has files in memory
    if device or system or absolute.is_relative_to("/proc"):
        raise UsageError(f"--output {path} is a device or a pipe; name a file, or write to stdout with --output -")
    parent = next(parent for parent in absolute.parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"--output {path} can't be written: {parent} is not a folder that you may write to")


def _check_inputs(output: Path, inputs: Inputs, also: Sequence[str]) -> None:
    written = {output: "", **{Path(f"{output}{suffix}"): suffix for suffix in (".partial", ".ir-metadata.yml", *also)}}
    for flag, value in inputs:
        for path, suffix in written.items():
            if same_file(path, Path(value)):
                what = f"would overwrite {path}, which is" if suffix else "is"
                raise UsageError(f"--output {output} {what} an input of this command ({flag}); name another file")


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths name the same file, which need not exist."""
    try:
        return one.resolve() == other.resolve() or one.samefile(other)
    except (OSError, ValueError):  # one of them does not exist, or is not a path
        return False


def _paths_in(settings: Any, flag: str) -> Iterator[tuple[str, str]]:
    """The texts in a tree of settings that may be paths of files, with their flags."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key not in _NAMES:
                yield from _paths_in(value, f"{flag}.{key}")
    elif isinstance(settings, list):
        for value in settings:
            yield from _paths_in(value, flag)
    elif isinstance(settings, str) and settings:
        yield flag, settings


def _lock_of(output: Path) -> Path:
    return Path(f"{output}.lock")


@contextmanager
def _locked(output: Path) -> Iterator[str]:
    """Hold ``OUTPUT.lock``, and remove it at the end, unless it has the fingerprint of a file without metadata.

    The folder of the output is made, and removed if the block leaves it empty.

    Yields the fingerprint that an earlier command left in it, or "". UsageError if another process holds it.
    """
    path = _lock_of(output)
    left = _noted(path)  # before the lock is taken: older versions of filelock empty its file

    def remove() -> None:
        if _noted(path) in ("", _recorded(output, recorded_fingerprint)) or not output.exists():
            path.unlink(missing_ok=True)

    with ExitStack() as stack:
        try:
            stack.enter_context(folder_for(output))
            lock = FileLock(path, timeout=0)
            lock.acquire()
        except Timeout:
            raise UsageError(
                f"another process is writing --output {output} (it holds {path}); wait for it, or name another file"
            ) from None
        except OSError as error:
            raise UsageError(f"--output {output} can't be written: {path}: {error.strerror}") from None
        try:
            with interrupts.cleaning(remove):
                yield left
        finally:
            remove()  # before the release, so that the next process makes a file of its own
            lock.release()


def _noted(lock: Path) -> str:
    """The fingerprint in a lock; "" without one."""
    try:
        return lock.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _recorded[T](output: Path, read: Callable[[Path], T]) -> T | None:
    """What ``read`` finds in the metadata of ``output``; None also if they can't be read."""
    try:
        return read(output)
    except UsageError:
        return None


def _other_input(command: Sequence[str], inputs: Inputs) -> str:
    """The first of ``inputs`` that the recorded ``command`` names otherwise, as it does: "--topics FILE"; "" if none."""
    for flag, value in inputs:
        then = _value_of(flag, command) if flag in _COMPARED else None
        if then not in (None, value) and not same_file(Path(str(then)), Path(value)):
            return f"{flag} {then}"
    return ""


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    joined = (word.partition("=")[2] for word in words if word.startswith(f"{flag}="))
    following = (value for word, value in pairwise(words) if word == flag)
    return next(chain(joined, following), None)
