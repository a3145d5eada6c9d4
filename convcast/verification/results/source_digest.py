"""Digest of the source code that computes a score, by which stored scores of other versions are recognised.

It covers the functions, classes and constants that the roots reach by name, in whichever modules of convcast they are.
Comments, docstrings, type hints of functions, error messages, formatting, and code that is not reached do not count.
Nor does the place of a definition, so that a module can be moved.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import convcast
from convcast.errors import ConvcastError
from convcast.files import read_json, write_json
from convcast.verification.digest import digest

PACKAGE = "convcast"
KEPT = "source.json"
"""Name of the file that stores a digest until a source file changes."""
IGNORED = frozenset({"colour_map", "comment", "long_name"})
"""Arguments and attributes that change drawings and descriptions of fields, but no score."""
LEFT_OUT = frozenset({"convcast", "convcast.errors", "convcast.files"})
"""Modules that compute no score: version, errors and files."""
Name = tuple[str, str]
"""Module and name of a definition."""


@dataclass
class _Module:
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Name] = field(default_factory=dict)
    """Module and name behind each imported name; the name is empty for a module."""


@cache
def source_digest(*roots: Any) -> str:
    """Return the digest of the definitions that these functions and classes use, computed once in a process."""
    definitions = reached(*((root.__module__, root.__qualname__) for root in roots))
    return digest(*sorted(definitions.values()))


def kept_digest(folder: Path, *roots: Any) -> str:
    """Return the `source_digest` stored in a folder; compute and store it after a change of any source file."""
    files = [(str(file), file.stat()) for file in sorted(Path(convcast.__file__).parent.rglob("*.py"))]
    stamps = [convcast.__version__, *(f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in files)]
    stamps += [f"{root.__module__} {root.__qualname__}" for root in roots]
    stamp = digest(*stamps)
    try:
        kept = read_json(folder / KEPT)
        if files and kept["stamp"] == stamp:
            return str(kept["digest"])
    except (OSError, ConvcastError, KeyError, TypeError):
        pass
    source = source_digest(*roots)
    with suppress(OSError, ConvcastError):  # without the file, the next run computes it again
        write_json(folder / KEPT, {"stamp": stamp, "digest": source})
    return source


def reached(*roots: Name, read: Callable[[str], str | None] | None = None) -> dict[Name, str]:
    """Collect the definitions that the roots use, directly or through others, with their syntax as text.

    `read` gives the source of a module by its name, and None where there is no such module.
    """
    modules: dict[str, _Module | None] = {}
    definitions: dict[Name, str] = {}

    def module(name: str) -> _Module | None:
        if name not in modules:
            source = (read or read_source)(name)
            modules[name] = None if source is None else _parse(source)
        return modules[name]

    def resolve(home: str, name: str) -> Name | None:
        """Find the definition of a name that a module uses."""
        source_module = module(home)
        if source_module is None:
            return None
        if name in source_module.definitions:
            return home, name
        if name in source_module.imports:
            source, original = source_module.imports[name]
            if original and module(f"{source}.{original}") is not None:
                return f"{source}.{original}", ""
            return resolve(source, original) if original else (source, "")
        return None

    due = list(roots)
    while due:
        home, name = due.pop()
        if (home, name) in definitions:
            continue
        source_module = module(home)
        if source_module is None or name not in source_module.definitions:
            raise LookupError(f"{home} defines no {name}")
        statements = [plain for found in source_module.definitions[name] if (plain := _Plain().visit(found))]
        definitions[home, name] = "\n".join(ast.dump(statement) for statement in statements)
        for used, attribute in {pair for statement in statements for pair in _uses(statement)}:
            target = resolve(home, used)
            if target is not None and not target[1]:
                target = resolve(target[0], attribute) if attribute else None
            if target is not None and target[1] and target[0] not in LEFT_OUT:
                due.append(target)
    return definitions


def read_source(name: str) -> str | None:
    """Return the source of a module of convcast; None if there is no such module."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    loader: Any = None if spec is None else spec.loader
    source: str | None = None if loader is None else loader.get_source(name)
    return source


def _parse(source: str) -> _Module:
    tree = ast.parse(source)
    made = _Module()
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            made.imports |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            made.imports |= {a.asname: (a.name, "") for a in node.names if a.asname and a.name.startswith(PACKAGE)}
    for statement in tree.body:
        for name in _defined(statement):
            made.definitions.setdefault(name, []).append(statement)
    return made


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield each statement and other nodes that contain statements; the many expressions are not visited."""
    due: deque[ast.AST] = deque([tree])
    while due:
        node = due.popleft()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, block, ())
            due += inner if isinstance(inner, list) else ()


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _uses(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield each name that is read, with the attribute that is accessed."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
        elif isinstance(node, ast.Name):
            yield node.id, ""


class _Plain(ast.NodeTransformer):
    """Removes the parts of code that do not change a value."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        node.returns = None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Docstrings, of definitions and of attributes, are expressions of a constant."""
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        pass

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> ast.AST:  # noqa: ARG002
        return ast.Raise()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        ignored = isinstance(node.target, ast.Name) and node.target.id in IGNORED
        return None if ignored else self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST | None:
        return None if node.arg in IGNORED else self.generic_visit(node)
