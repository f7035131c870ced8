"""At interpreter start: redirect ``python -m pyserini.search ... --rerank NAME``, or ``--rewrite NAME``, to search.py, and
change nothing else.

Every Python of the environment runs ``install``, so it imports ``sys`` alone and reads nothing but the command line.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

HOSTS = ("pyserini.search", "pyserini.search.lucene", "pyserini.search.faiss")
OURS = ("pyserini_reasonrank", "pyserini_reasonrank.search")
PARENTS = ("pyserini", *HOSTS)


class Finder:
    """Finds search.py for the ``__main__`` of Pyserini's search modules, and empty packages for their parents.

    The real packages start a JVM, which the rerank process must never hold.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        if name not in PARENTS and name.removesuffix(".__main__") not in HOSTS:
            return None
        from importlib.util import spec_from_file_location, spec_from_loader  # not before: that import passes here too

        if name in PARENTS:
            return spec_from_loader(name, None, is_package=True)
        return spec_from_file_location(name, __file__.removesuffix("_startup.py") + "search.py")


def _runs_host(arg: str, after: str) -> bool:
    short = arg.startswith("-") and not arg.startswith("--")  # -m, or bundled as in -Im, or -mNAME
    return short and ((arg.endswith("m") and after in HOSTS) or (arg.startswith("-m") and arg[2:] in HOSTS))


def _names_ours(arg: str, after: str, faiss: bool) -> bool:
    if arg == "--rewrite" or arg.startswith("--rewrite="):
        return True
    if arg == "--rerank":  # without a value it is a switch of Faiss' own; for the others we say what is missing
        return not faiss or (after != "" and not after.startswith("-"))
    return arg.startswith("--rerank=") and (arg != "--rerank=" or not faiss)


def wanted(argv: list[str]) -> bool:
    """Whether ``argv`` runs a host module with ``--rerank NAME``, ``--rewrite NAME`` or ``--FLAG=NAME``, or a bare one of them.

    A bare ``--rerank`` is Faiss' own.
    """
    pairs = list(zip(argv, [*argv[1:], ""], strict=True))
    faiss = any(arg.endswith("pyserini.search.faiss") for arg in argv)
    return any(_names_ours(*pair, faiss) for pair in pairs) and any(_runs_host(*pair) for pair in pairs)


def _runs_ours(arg: str, after: str) -> bool:
    return arg.endswith("m") and after in OURS and arg.startswith("-") and not arg.startswith("--")


def ends_at_once(argv: list[str]) -> bool:
    """Whether ``argv`` runs a command of this package, which a signal ends at once; ``train`` has handlers of its own."""
    pairs = list(zip(argv, [*argv[1:], ""], strict=True))
    return any(_runs_ours(*pair) for pair in pairs) and "train" not in argv


def install() -> None:
    """Put the finder first on ``sys.meta_path`` if the command line asks for it. A venv calls this twice.

    Signals are handled from now on, so that Ctrl-C during the first imports ends the program with one line too.
    """
    host = wanted(sys.orig_argv)
    if host and Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
    if host or ends_at_once(sys.orig_argv):
        from pyserini_reasonrank import interrupts

        interrupts.install()


def uninstall() -> None:
    """Remove the finder and the empty packages, so that ``import pyserini`` finds the real one."""
    if Finder in sys.meta_path:
        sys.meta_path.remove(Finder)
        for name in PARENTS:
            sys.modules.pop(name, None)
