"""Strings of a published Python file: found by place and length with ``ast``; nothing is executed.

A place is a dotted path: a function (``add_post_prompt``), a method (``Ranker.prompt``), or a name and the keys of a dictionary
(``PROMPTS.scifact``), with a number for an element of a tuple (``PROMPTS.scifact.0``). Read are string literals, also adjacent
or joined by ``+``, ``+=`` and ``join``, and f-strings, whose named values become slots of the template.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyserini_reasonrank.errors import UsageError

type Text = tuple[str | Slot, ...]
"""A string: its literal parts and slots, in order."""
type Names = dict[str, Text]
"""The variables that hold a known string at some point of the file."""
_Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Slot:
    """A named value in an f-string; ``text`` if the file sets it to a string before."""

    name: str
    text: Text | None = None


def read_string(
    code: str, place: str, *, characters: int | None = None, values: Mapping[str, str] | None = None
) -> str:
    """Return the string at ``place`` of a Python file as a ``str.format`` template: ``{name}`` is a slot.

    ``characters`` is the number of its literal characters, without those of named values; it chooses one of several strings
    in a function. ``values`` sets named values that are not slots. UsageError if there is not exactly one such string.
    """
    try:
        tree = ast.parse(code)
        found = list(_texts_at(tree, place))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UsageError(f"the file is not readable Python: {error}") from None
    lengths = sorted({_literal_characters(text) for text in found})
    fitting = {_template(text, values or {}) for text in found if characters in (None, _literal_characters(text))}
    if len(fitting) == 1:
        return fitting.pop()
    wanted = "one string" if characters is None else f"one string of {characters} characters"
    there = f"strings of {', '.join(map(str, lengths))} characters" if lengths else "no string"
    raise UsageError(f"expected {wanted} at {place}, found {there}")


def _texts_at(tree: ast.Module, place: str) -> Iterator[Text]:
    """Yield the strings at a place: those of a function, or the value of a name or key."""
    names = _module_names(tree)
    scopes: list[_Scope] = [tree]
    path = place.split(".")
    while path and (inner := [found for scope in scopes for found in _definitions(scope, path[0])]):
        scopes, path = inner, path[1:]
    for scope in scopes:
        if not path:
            yield from _block(scope.body, _without_parameters(scope, names))
        else:
            texts = (_text(value, names) for value in _assigned(scope, path[0], path[1:]))
            yield from (text for text in texts if text is not None)


def _definitions(scope: _Scope, name: str) -> list[_Scope]:
    """Return the classes and functions called ``name`` in a scope, at any depth."""
    found = (node for node in ast.walk(scope) if isinstance(node, (ast.ClassDef, *_Function)) and node is not scope)
    return [node for node in found if node.name == name]


def _assigned(scope: _Scope, name: str, keys: Sequence[str]) -> Iterator[ast.expr]:
    """Yield the values that are assigned to ``name``, or to its nested keys; the last one counts in Python, so it is alone."""
    found: ast.expr | None = None
    for node in scope.body:
        for target, value in _assignments(node):
            if isinstance(target, ast.Name) and target.id == name:
                found = _in_dictionary(value, keys)
            elif isinstance(target, ast.Subscript) and _path(target) == (name, *keys):
                found = value
    if isinstance(found, ast.Subscript) and (path := _path(found)) not in ((), (name, *keys)):
        yield from _assigned(scope, path[0], path[1:])
    elif found is not None:
        yield found


def _assignments(node: ast.stmt) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value


def _in_dictionary(value: ast.expr, keys: Sequence[str]) -> ast.expr | None:
    """Return the value under nested ``keys`` of dictionaries and tuples; None if they do not have them."""
    found: ast.expr | None = value
    for key in keys:
        if isinstance(found, ast.Tuple | ast.List) and key.isdecimal():
            found = found.elts[int(key)] if int(key) < len(found.elts) else None
            continue
        if not isinstance(found, ast.Dict):
            return None
        entries = zip(found.keys, found.values, strict=True)
        found = next((v for k, v in entries if isinstance(k, ast.Constant) and k.value == key), None)
    return found


def _path(node: ast.expr) -> tuple[str, ...]:
    """Return the name and keys of ``NAME["a"]["b"]``; () for another expression."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and (head := _path(node.value)):
        return (*head, str(node.slice.value))
    return ()


def _module_names(tree: ast.Module) -> Names:
    """Return the module's variables that hold a string."""
    names: Names = {}
    for node in tree.body:
        for target, value in _assignments(node):
            _assign(target, _text(value, names), names)
    return names


def _without_parameters(scope: _Scope, names: Names) -> Names:
    """Return a copy of ``names`` without the parameters of a function, whose values are unknown."""
    own = (
        {node.arg for node in ast.walk(scope.args) if isinstance(node, ast.arg)} if isinstance(scope, _Function) else ()
    )
    return {name: text for name, text in names.items() if name not in own}


def _block(statements: Sequence[ast.stmt], names: Names) -> Iterator[Text]:
    """Yield the strings in a block, and keep ``names`` up to date. Branches do not see the variables of one another."""
    for node in statements:
        if isinstance(node, (*_Function, ast.ClassDef)):
            yield from _block(node.body, _without_parameters(node, names))
            continue
        yield from _statement(node, names)
        blocks = [body for field in ("body", "orelse", "finalbody") if (body := getattr(node, field, None))]
        blocks += [handler.body for handler in getattr(node, "handlers", ())]
        blocks += [case.body for case in getattr(node, "cases", ())]
        before = dict(names)
        for block in blocks:
            inner = dict(before)
            yield from _block(block, inner)
            for name in {*inner, *before}:
                if inner.get(name) != before.get(name):
                    names.pop(name, None)  # it depends on the branch


def _statement(node: ast.stmt, names: Names) -> Iterator[Text]:
    """Yield the strings in the expressions of one statement, and record what it assigns."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        added, before = _text(node.value, names), names.get(node.target.id)
        both = None if added is None or before is None else (*before, *added)
        _assign(node.target, both, names)
        if both is not None:
            yield both
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from _maximal(child, names)
    for target, value in _assignments(node):
        _assign(target, _text(value, names), names)


def _assign(target: ast.expr, text: Text | None, names: Names) -> None:
    for name in ast.walk(target):
        if isinstance(name, ast.Name):
            names.pop(name.id, None)
    if isinstance(target, ast.Name) and text is not None:
        names[target.id] = text


def _maximal(node: ast.AST, names: Names) -> Iterator[Text]:
    """Yield the strings in an expression that are not part of a longer one."""
    text = _text(node, names) if isinstance(node, ast.expr) else None
    if text is not None and (any(isinstance(part, str) for part in text) or isinstance(node, ast.Constant)):
        yield text
        return
    for child in ast.iter_child_nodes(node):
        yield from _maximal(child, names)


def _text(node: ast.expr, names: Names) -> Text | None:
    """Return the string that an expression evaluates to; None if it is not one of the forms that are read."""
    match node:
        case ast.Constant(value=str(value)):
            return (value,)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.JoinedStr(values=parts):
            return _joined([_formatted(part, names) for part in parts])
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([_operand(left, names), _operand(right, names)])
        case ast.Call(
            func=ast.Attribute(value=between, attr="join"), args=[ast.List(elts=parts) | ast.Tuple(elts=parts)]
        ):
            separator = _text(between, names)
            texts = [_operand(part, names) for part in parts]
            return _joined([t for text in texts for t in (separator, text)][1:])
    return None


def _formatted(part: ast.expr, names: Names) -> Text | None:
    """Return a part of an f-string; None for a value that is not a plain name, or is formatted."""
    if not isinstance(part, ast.FormattedValue):
        return _text(part, names)
    if part.conversion != -1 or part.format_spec is not None:
        return None
    return _named(part.value, names)


def _named(value: ast.expr, names: Names) -> Text | None:
    if isinstance(value, ast.Name):
        return (Slot(value.id, names.get(value.id)),)
    return (Slot(value.attr),) if isinstance(value, ast.Attribute) else None


def _operand(node: ast.expr, names: Names) -> Text | None:
    """Return an operand of ``+`` or ``join``: a string, or a variable, which is a slot if its value is unknown."""
    text = _text(node, names)
    return text if text is not None else _named(node, names)


def _joined(parts: Sequence[Text | None]) -> Text | None:
    return None if None in parts else tuple(piece for part in parts if part is not None for piece in part)


def _literal_characters(text: Text) -> int:
    return sum(len(part) for part in text if isinstance(part, str))


def _template(text: Text, values: Mapping[str, str]) -> str:
    """Return a text as a ``str.format`` template; ``values`` go before what the file sets."""
    return "".join(_escaped(part) if isinstance(part, str) else _slot(part, values) for part in text)


def _slot(slot: Slot, values: Mapping[str, str]) -> str:
    if slot.name in values:
        return _escaped(values[slot.name])
    return f"{{{slot.name}}}" if slot.text is None else _template(slot.text, values)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
