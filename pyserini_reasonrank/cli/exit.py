"""Exit statuses: 0 success, 1 a failure or findings, 2 unusable input. An error is printed as one sentence."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from pyserini_reasonrank.errors import Failure, UnknownKey, UsageError, os_error

SUCCESS, FAILURE, USAGE = 0, Failure.exit_code, UsageError.exit_code
INTERRUPTED = 130
"""The status after SIGINT, 128 + its number, as of ``interrupts``."""


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; UsageError, Failure, OSError and Ctrl-C become one sentence on stderr.

    So does what a part of another package raises. Python's development mode (``-X dev``) shows tracebacks instead.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        status = command()
        sys.stdout.flush()
        return status
    except UnknownKey as error:
        from pyserini_reasonrank.run.known_flags import explained

        _say(explained(error))
        return error.exit_code
    except (UsageError, Failure) as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output closed it
        _discard_stdout()
        return FAILURE
    except Exception as error:
        from pyserini_reasonrank.plugins import failure_of

        if sys.flags.dev_mode:
            raise
        if (message := failure_of(error)) is not None:
            _say(message)
        elif isinstance(error, OSError):  # a full disk, a file that vanished
            _say(os_error(error, "stdout"))
            if error.filename is None:
                _discard_stdout()
        else:
            raise
        return FAILURE


def _say(message: str) -> None:
    """Print an error in one line, whatever characters it contains, and without passwords."""
    from pyserini_reasonrank.ir.masking import without_passwords

    line = without_passwords(" ".join(message.splitlines()))
    print(f"error: {line}".encode(errors="backslashreplace").decode(), file=sys.stderr)


def _discard_stdout() -> None:
    """Let the interpreter's end not fail again on what stdout did not take."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is not a file
        pass
