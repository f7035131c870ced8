"""Ctrl-C and SIGTERM: a command ends at once, whatever it is doing, and leaves no process and no temporary folder behind.

The handler does not raise an exception: one that arises in an import or a destructor can get lost, and an engine may take
minutes to close. It ends the child processes, runs the registered jobs, prints one line and exits with 128 + the number of
the signal. Only programs install it (``__main__``, search.py); imported as a library, the package leaves signals alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

_TO_CLEAN = 0.5  # seconds that child processes have to delete their own temporary files

_jobs: list[Callable[[], object]] = []
_remedies: list[str] = []
_owner = 0


def install(*, silent: bool = False) -> None:
    """End this process at SIGINT and SIGTERM. An ignored SIGINT stays ignored. ``silent``: without the line."""
    global _owner
    _owner = os.getpid()
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end_silently if silent else _end)


@contextmanager
def cleaning(job: Callable[[], object]) -> Iterator[None]:
    """Within the block, a signal runs ``job`` before the process ends; the last registered job first."""
    _jobs.append(job)
    try:
        yield
    finally:
        _jobs.remove(job)


@contextmanager
def resumable(remedy: str) -> Iterator[None]:
    """Within the block, the line about a signal ends with ``remedy``: how to continue."""
    _remedies.append(remedy)
    try:
        yield
    finally:
        _remedies.remove(remedy)


@contextmanager
def temporary_folder(prefix: str | None = None, parent: Path | None = None) -> Iterator[str]:
    """A folder that is deleted at the end of the block, and at a signal. Nobody else may read it.

    Without a ``prefix``, its name begins with that of the package and the number of the process.
    """
    import shutil
    import tempfile

    place = tempfile.gettempdir() if parent is None else os.path.abspath(parent)
    beginning = f"pyserini_reasonrank-{os.getpid()}-" if prefix is None else prefix
    folder = os.path.join(place, f"{beginning}{os.urandom(6).hex()}")
    with cleaning(lambda: shutil.rmtree(folder, True)):  # a signal may come as soon as the folder exists
        os.mkdir(folder, 0o700)
        try:
            yield folder
        finally:
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)


def _end_silently(number: int, _frame: object) -> None:
    _end(number, None, silent=True)


def _end(number: int, _frame: object, *, silent: bool = False) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    status = 128 + number
    if os.getpid() != _owner:  # a forked process: the jobs are those of its parent
        os._exit(status)
    _kill_children()
    for job in reversed(_jobs):
        try:
            job()
        except Exception:  # the others still have to run
            pass
    if not silent:
        line = f"error: {'; '.join([_NAMES[signal.Signals(number)], *_remedies])}\n"
        begin = "\n" if os.isatty(2) else ""  # after a bar
        try:
            os.write(
                2, (begin + line).encode(errors="replace")
            )  # not through a buffer, which the signal may have interrupted
        except OSError:
            pass
    os._exit(status)


def _kill_children() -> None:
    """End all processes that this one started, and those that they started, and wait for its own.

    The own ones are asked first, since a command of this package deletes its temporary files then. Whatever still runs
    after ``_TO_CLEAN`` is killed.
    """
    own = _children(os.getpid())
    found = list(own)
    for pid in found:
        found += _children(pid)
    found = [pid for pid in found if not _is_tracker(pid)]
    asked = [pid for pid in own if pid in found]
    for pid in asked:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + _TO_CLEAN
    while (asked := [pid for pid in asked if not _has_ended(pid)]) and time.monotonic() < limit:
        time.sleep(0.005)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
            if pid in own:
                os.waitpid(pid, 0)
        except OSError:  # it has ended, or asyncio waits for it
            pass


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; its status is collected."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except OSError:  # asyncio or a thread waits for it
        return not os.path.exists(f"/proc/{pid}/exe")


def _children(pid: int) -> list[int]:
    """The processes that ``pid`` started; [] on systems without /proc."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


def _is_tracker(pid: int) -> bool:
    """Whether this is multiprocessing's resource tracker, which frees shared memory when this process has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"resource_tracker" in file.read()
    except OSError:
        return True  # it has ended
