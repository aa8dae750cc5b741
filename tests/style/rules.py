"""The house's laws as functions of a module's text, so that each can be shown to fail (tests/style/test_rules.py).

Each returns the offences, one line of text each, beginning with the line number; no offence is an empty list.
"""

import ast
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

FUNCTION_LINES = 50
MODULE_LINES = 400
DOCSTRING_LINES = 15
NAMELESS = {"common", "helper", "helpers", "misc", "util", "utils"}
ASKS_THE_TIME = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "gmtime"),
    ("time", "localtime"),
}
CATCHES_ALL = {"Exception", "BaseException"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def _tree(source: str) -> ast.Module:
    return ast.parse(source)


def functions(source: str) -> Iterator[tuple[Function, int]]:
    """Each function with the number of its lines, decorators not counted."""
    for node in ast.walk(_tree(source)):
        if isinstance(node, Function):
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1


def long_functions(source: str) -> list[str]:
    """No function over 50 lines."""
    return [f"{node.lineno}: {node.name}: {lines} lines" for node, lines in functions(source) if lines > FUNCTION_LINES]


def long_module(source: str) -> list[str]:
    """No module over 400 lines."""
    lines = len(source.splitlines())
    return [f"1: {lines} lines"] if lines > MODULE_LINES else []


def nameless(path: Path) -> list[str]:
    """No module or package whose name says nothing."""
    return [f"1: named {part}" for part in (*path.parent.parts, path.stem) if part in NAMELESS]


def docstring(source: str) -> list[str]:
    """A module says why it exists, in 1 to 15 lines."""
    text = ast.get_docstring(_tree(source))
    if not text:
        return ["1: no docstring"]
    lines = len(text.splitlines())
    return [f"1: a docstring of {lines} lines"] if lines > DOCSTRING_LINES else []


def asks_the_time(source: str) -> list[str]:
    """Only `clock.py` asks what time it is."""
    tree = _tree(source)
    found = [
        f"{node.lineno}: {_last(node.value)}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and (_last(node.value), node.attr) in ASKS_THE_TIME
    ]
    imported = [
        f"{node.lineno}: from time import {name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for name in node.names
        if ("time", name.name) in ASKS_THE_TIME
    ]
    return found + imported


def swallows(source: str) -> list[str]:
    """Who catches everything raises again or returns a named outcome."""
    return [
        f"{node.lineno}: except {ast.unparse(node.type) if node.type else ''}".rstrip()
        for node in ast.walk(_tree(source))
        if isinstance(node, ast.ExceptHandler) and _catches_all(node.type) and not _answers(node.body)
    ] + [
        f"{node.lineno}: suppress({', '.join(map(ast.unparse, node.args))})"
        for node in ast.walk(_tree(source))
        if isinstance(node, ast.Call) and _last(node.func) == "suppress" and any(map(_catches_all, node.args))
    ]


def _catches_all(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_catches_all, caught.elts))
    return caught is None or _last(caught) in CATCHES_ALL


def _answers(body: Sequence[ast.stmt]) -> bool:
    """Whether it raises, or returns something, itself and not in a function within."""
    for statement in body:
        if isinstance(statement, ast.Raise):
            return True
        if isinstance(statement, ast.Return):
            return statement.value is not None and not (
                isinstance(statement.value, ast.Constant) and statement.value.value is None
            )
    return bool(body) and isinstance(body[-1], ast.If) and _answers(body[-1].body) and _answers(body[-1].orelse)


def _last(node: ast.expr) -> str:
    """`now` of `datetime.datetime.now`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
