"""What a workflow file declares, read from its syntax tree: names, aliases and groups of its `@workflow`s.

Only literals count, and names that the file binds to a literal once at its top level. A decorator of the user's own
counts too if its name ends in "workflow": it is most likely ours with some options set, and to import a file too many
does no harm, while a file that nobody imports is a workflow that never runs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

DEFAULT_GROUP = "default"

# For files that cannot be parsed: what their text says of groups.
_GROUP_IN_TEXT = re.compile(r"""\bgroup\s*=\s*(?:"([^"\n]+)"|'([^'\n]+)')""")


@dataclass(frozen=True, slots=True)
class Declaration:
    """One `@workflow`."""

    name: str
    group: str
    line: int
    aliases: tuple[str, ...] = ()


class Unreadable(Exception):
    """The file's text is not Python, or says something that must be a literal in another way."""


def read(source: bytes, *, path: str) -> tuple[Declaration, ...]:
    """The workflows that a file declares, in the order of the file.

    Raises:
        Unreadable: says what is wrong, and in which line of `path`.
    """
    try:
        tree = ast.parse(source, filename=path)
    except SyntaxError as error:
        raise Unreadable(f"{path}:{error.lineno or 1}: {type(error).__name__}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # a NUL byte; brackets nested without end
        raise Unreadable(f"{path}: {error or type(error).__name__}") from error
    reader = _Reader(tree, path=path)
    return tuple(sorted(reader.declarations(tree), key=lambda found: found.line))


def groups_in_text(source: bytes) -> tuple[str, ...]:
    """The groups that a file names with `group=`, though it cannot be parsed; `default` if it names none."""
    text = source.decode("utf-8", "replace")
    found = {first or second for first, second in _GROUP_IN_TEXT.findall(text)}
    return tuple(sorted(found)) or (DEFAULT_GROUP,)


class _Reader:
    def __init__(self, tree: ast.Module, *, path: str) -> None:
        self._path = path
        self._constants = _constants(tree)
        self._ours = _our_names(tree)

    def declarations(self, tree: ast.Module) -> Iterator[Declaration]:
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for decorator in node.decorator_list:
                    if self._is_workflow(decorator):
                        yield self._declaration(node.name, decorator, line=node.lineno)
            elif isinstance(node, ast.Call):
                yield from self._called(node)

    def _called(self, call: ast.Call) -> Iterator[Declaration]:
        """`workflow(fn, …)` and `workflow(…)(fn)`, which declare without being a decorator."""
        if not (call.args and isinstance(call.args[0], ast.Name)):
            return
        if not self._is_workflow(call.func):
            return
        options = call.func if isinstance(call.func, ast.Call) else call
        yield self._declaration(call.args[0].id, options, line=call.lineno)

    def _is_workflow(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Call):
            node = node.func
        if isinstance(node, ast.Name):
            return node.id in self._ours or node.id.lower().endswith("workflow")
        if isinstance(node, ast.Attribute):
            return node.attr.lower().endswith("workflow")
        return False

    def _declaration(self, function: str, decorator: ast.expr, *, line: int) -> Declaration:
        options = {}
        if isinstance(decorator, ast.Call):
            options = {keyword.arg: keyword.value for keyword in decorator.keywords if keyword.arg is not None}
        return Declaration(
            name=self._text(options, "name", function, line=line),
            group=self._text(options, "group", DEFAULT_GROUP, line=line),
            line=line,
            aliases=self._texts(options.get("aliases")),
        )

    def _text(self, options: dict[str, ast.expr], option: str, default: str, *, line: int) -> str:
        node = options.get(option)
        if node is None:
            return default
        found = self._literal(node)
        if found is None:
            raise Unreadable(
                f'{self._path}:{line}: {option}= must be a plain text such as {option}="mail": which files a worker '
                "imports is decided before any of them runs"
            )
        return found

    def _texts(self, node: ast.expr | None) -> tuple[str, ...]:
        if isinstance(node, (ast.Tuple, ast.List)):
            return tuple(text for item in node.elts if (text := self._literal(item)) is not None)
        return ()

    def _literal(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return self._constants.get(node.id) if isinstance(node, ast.Name) else None


def _constants(tree: ast.Module) -> dict[str, str]:
    """Names that the top level binds to a text, and binds once."""
    found: dict[str, str] = {}
    bound: set[str] = set()
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if not isinstance(target, ast.Name):
                continue
            value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
            if target.id not in bound and isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[target.id] = value.value
            else:
                found.pop(target.id, None)
            bound.add(target.id)
    return found


def _our_names(tree: ast.Module) -> set[str]:
    """What the file calls our decorator, where it renamed it."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tako"
        for alias in node.names
        if alias.name == "workflow"
    }
