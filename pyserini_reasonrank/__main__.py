"""``python -m pyserini_reasonrank COMMAND``: the commands are listed in ``cli/commands.py``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyserini_reasonrank import interrupts

_TRAINS = sys.argv[1:2] == ["train"] and sys.argv[2:3] != ["export"]

if __name__ == "__main__" and not _TRAINS:  # training ends at a checkpoint, by handlers of its own
    interrupts.install()

from pyserini_reasonrank.cli.commands import command, overview
from pyserini_reasonrank.cli.exit import SUCCESS, USAGE, guarded


def main(argv: Sequence[str]) -> int:
    """Run a command. Returns the exit status."""
    return guarded(lambda: _main(list(argv)))


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return SUCCESS if argv else USAGE
    name, *rest = argv
    return command(name).main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
