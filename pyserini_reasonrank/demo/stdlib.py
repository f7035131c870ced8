"""The documented objects of this Python's standard library, module by module.

Pure-Python modules are parsed, not executed. Extension modules, whose documentation is in the binary, are imported.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import BuiltinImporter, ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, MappingProxyType, ModuleType

# Modules that act on import, open windows or write to the terminal.
_SIDE_EFFECTS = "antigravity this idlelib tkinter _tkinter turtle turtledemo readline"
# Modules of other platforms, generated tables, and bundled tools.
_NOT_LIBRARY = "ntpath nturl2path msilib winreg winsound pydoc_data lib2to3 ensurepip"
# Removed in Python 3.13 (PEP 594): without them, the corpora of different versions differ less.
_REMOVED = "aifc audioop cgi cgitb chunk crypt imghdr mailcap nis nntplib ossaudiodev pipes sndhdr spwd sunau telnetlib uu xdrlib"

EXCLUDED = frozenset(f"{_SIDE_EFFECTS} {_NOT_LIBRARY} {_REMOVED}".split())
"""Top-level modules that are omitted."""

EXCLUDED_SUBMODULES = frozenset({"__main__", "test", "tests"})
"""Names of submodules and subpackages that are omitted in every package."""

PUBLISHED = MappingProxyType(
    {
        "hashlib": ("blake2b", "blake2s", "md5", "sha1", "sha256", "sha3_256", "sha512", "shake_128"),
        "hmac": ("compare_digest",),
        "posixpath": ("splitext",),
        "re": ("Match", "Pattern"),
        "threading": ("Lock",),
        "types": ("CodeType", "CoroutineType", "FrameType", "FunctionType", "GeneratorType", "MappingProxyType"),
    }
)
"""Objects that a pure-Python module publishes or documents by an assignment, which parsing does not reveal."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = (ast.If, ast.Try, ast.With)


@dataclass(frozen=True, slots=True)
class Entry:
    """A documented object: ``member`` is its name below the top-level object (``.append``; empty for the latter)."""

    member: str
    signature: str
    docstring: str


@dataclass(slots=True)
class Module:
    """The documented objects of a module, and its imports.

    ``objects`` maps a top-level name to its entries; ``imports`` has (module, name there or ``*``, name here);
    ``exported`` has the literal strings of ``__all__``.
    """

    name: str
    docstring: str = ""
    objects: dict[str, list[Entry]] = field(default_factory=dict)
    imports: list[tuple[str, str, str]] = field(default_factory=list)
    exported: tuple[str, ...] = ()


def read_modules() -> Iterator[Module]:
    """Yield every module of this interpreter's standard library that is not excluded, parents first."""
    binary = sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})  # not the virtual environment's
    folders = [sysconfig.get_path("stdlib"), os.path.join(binary, "lib-dynload")]
    for name in sorted(sys.stdlib_module_names - EXCLUDED):
        spec = PathFinder.find_spec(name, folders) or BuiltinImporter.find_spec(name)
        if spec is not None:
            yield from _read(spec)


def _read(spec: ModuleSpec) -> Iterator[Module]:
    if isinstance(spec.loader, SourceFileLoader):
        yield _parse(spec, ast.parse(spec.loader.get_source(spec.name) or ""))
    elif spec.origin == "built-in" or isinstance(spec.loader, ExtensionFileLoader):
        with warnings.catch_warnings(action="ignore"):
            runtime = importlib.import_module(spec.name)
        yield _inspect(spec.name, runtime)
    folders = spec.submodule_search_locations or []
    for name in sorted(info.name for info in pkgutil.iter_modules(folders)):
        submodule = PathFinder.find_spec(f"{spec.name}.{name}", folders)
        if submodule is not None and name not in EXCLUDED_SUBMODULES:
            yield from _read(submodule)


def _parse(spec: ModuleSpec, tree: ast.Module) -> Module:
    module = Module(spec.name, ast.get_docstring(tree) or "")
    defined: dict[str, list[Entry]] = {}
    for node in _statements(tree.body):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if name not in defined and (entries := [*_definitions(node, ""), *_inherited(node, defined)]):
                    defined[name] = entries
            case ast.ImportFrom(module=source, names=names, level=level):
                source = _absolute(spec, source, level)
                module.imports += [(source, alias.name, alias.asname or alias.name) for alias in names]
            case ast.Assign(targets=[ast.Name(id="__doc__")], value=ast.Constant(value=str(docstring))):
                module.docstring = inspect.cleandoc(docstring)
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=items) | ast.Tuple(elts=items)):
                module.exported = tuple(str(item.value) for item in items if isinstance(item, ast.Constant))
    module.objects = {name: entries for name, entries in defined.items() if not name.startswith("_")}
    if published := PUBLISHED.get(spec.name):
        runtime = importlib.import_module(spec.name)
        found = {name: getattr(runtime, name) for name in published if hasattr(runtime, name)}  # builds differ
        module.objects |= {name: list(_members(value, "")) for name, value in found.items()}
    return module


def _inherited(node: ast.stmt, defined: dict[str, list[Entry]]) -> Iterator[Entry]:
    """The members that a class inherits from private bases in its module."""
    if isinstance(node, ast.ClassDef):
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id.startswith("_"):
                yield from (entry for entry in defined.get(base.id, ()) if entry.member)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of ``body`` and, in order, those in branches of ``if``, ``try`` and ``with``."""
    for node in body:
        yield node
        if isinstance(node, _BLOCKS):
            for branch in ("body", "handlers", "orelse", "finalbody"):
                for inner in getattr(node, branch, ()):
                    yield from _statements(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _absolute(spec: ModuleSpec, source: str | None, level: int) -> str:
    if not level:
        return source or ""
    package = spec.name if spec.submodule_search_locations else spec.name.rpartition(".")[0]
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *([source] if source else [])])


def _definitions(node: ast.stmt, member: str) -> Iterator[Entry]:
    """The entries of a function or class statement. The docstring of a constructor belongs to its class."""
    if isinstance(node, _FUNCTIONS):
        docstring = ast.get_docstring(node)
        if docstring:
            yield Entry(member, _signature(node, bound=bool(member)), docstring)
    elif isinstance(node, ast.ClassDef):
        inner = [item for item in _statements(node.body) if isinstance(item, (*_FUNCTIONS, ast.ClassDef))]
        makers = [item for item in inner if isinstance(item, _FUNCTIONS) and item.name in ("__init__", "__new__")]
        docstrings = [docstring for item in (node, *makers[:1]) if (docstring := ast.get_docstring(item))]
        if docstrings:
            yield Entry(member, _signature(makers[0], bound=True) if makers else "", "\n".join(docstrings))
        seen = set()
        for item in inner:
            if not item.name.startswith("_") and item.name not in seen:
                entries = list(_definitions(item, f"{member}.{item.name}"))
                seen.update([item.name] if entries else [])
                yield from entries


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> str:
    static = any(isinstance(item, ast.Name) and item.id == "staticmethod" for item in node.decorator_list)
    arguments = node.args
    first = arguments.posonlyargs or arguments.args
    if bound and not static and first:
        first.pop(0)
    return f"({ast.unparse(arguments)})"


def _inspect(name: str, runtime: ModuleType) -> Module:
    """An extension module, with the name of its file: ``_decimal`` calls itself ``decimal``."""
    module = Module(name, inspect.cleandoc(runtime.__doc__ or ""))
    for own, value in sorted(vars(runtime).items()):
        if not isinstance(value, type) and not inspect.isbuiltin(value):
            continue
        # programs replace sys.excepthook and similar functions; the original is __excepthook__
        name = value.__name__
        if not name.startswith("_") and own in (name, f"__{name}__") and (entries := list(_members(value, ""))):
            module.objects[name] = entries
    return module


def _members(value: object, member: str) -> Iterator[Entry]:
    """The entries of a class or function of an extension module."""
    docstring = inspect.getattr_static(value, "__doc__", None) if isinstance(value, type) else value.__doc__
    if isinstance(docstring, str) and docstring:
        yield Entry(member, _text_signature(value), inspect.cleandoc(docstring))
    if isinstance(value, type):
        for name, attribute in sorted(vars(value).items()):
            attribute = getattr(attribute, "__func__", attribute)
            compiled = inspect.isroutine(attribute) or inspect.isdatadescriptor(attribute)
            added_later = isinstance(attribute, (FunctionType, property))
            if compiled and not added_later and not name.startswith("_"):
                yield from _members(attribute, f"{member}.{name}")


def _text_signature(value: object) -> str:
    """The signature as text. Evaluating its defaults would depend on which modules are imported."""
    text = getattr(value, "__text_signature__", None) or ""
    return " ".join(re.sub(r"\$\w+(, /)?(, )?", "", text).split())
