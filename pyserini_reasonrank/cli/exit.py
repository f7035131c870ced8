"""Exit statuses: 0 success, 1 a failure or findings, 2 unusable input. An error is printed as one sentence."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from pyserini_reasonrank.errors import Failure, UsageError

SUCCESS, FAILURE, USAGE = 0, Failure.exit_code, UsageError.exit_code
INTERRUPTED = 130
"""The status after SIGINT, 128 + its number, as of ``interrupts``."""


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; UsageError, Failure and Ctrl-C become one sentence on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        return command()
    except (UsageError, Failure) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output closed it
        return FAILURE
