"""The modules of a package as syntax trees, and what the names in them stand for.

- The unit is a definition at the top of a module: a function, a class with its methods, a constant. What else stands
  there (bare statements) runs on import.
- Names are followed through imports and re-exports. A local variable that shadows a name of the module is followed
  like that name: too much, never too little.
- Not seen: what importing a definition does besides binding it, where nothing reached names it (a decorator that
  registers); files that are not Python.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from pipeline.foundation.errors import SketchstackError

STATEMENTS, WHOLE = "<statements>", "*"
Function = ast.FunctionDef | ast.AsyncFunctionDef
Import = ast.Import | ast.ImportFrom
Key = tuple[str, str]  # a module, and what of it: a definition, STATEMENTS or WHOLE
Target = tuple[str, str | None]  # what an import binds: a module and a name in it, None for the module itself


@dataclass
class Module:
    """The top level of a file.

    Attributes:
        name: dotted.
        is_package: whether it is an `__init__.py`.
        lazy: whether `from __future__ import annotations` keeps annotations from being evaluated.
        definitions: syntax trees by the name that they bind; several where a name is bound again.
        statements: what else runs on import.
        by_statements: names that those bind.
        imports: what a local name is imported as, anywhere in the file; several where functions differ.
        runs: modules of the package that importing this one imports.
    """

    name: str
    is_package: bool
    lazy: bool = False
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    statements: list[ast.stmt] = field(default_factory=list)
    by_statements: set[str] = field(default_factory=set)
    imports: dict[str, set[Target]] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)

    def binds(self, name: str) -> bool:
        """Whether the module itself defines a name."""
        return name in self.definitions or name in self.by_statements


class Package:
    """The modules of a package, each file parsed once, when it is first needed.

    Args:
        root: the folder that holds the package.
        package: its name.
    """

    def __init__(self, root: Path, package: str = "pipeline") -> None:
        self.root = root
        self.package = package
        self._paths: dict[str, Path | None] = {}
        self._modules: dict[str, Module] = {}

    def path(self, name: str) -> Path | None:
        """The file of a module of the package; None for any other name."""
        if name not in self._paths:
            parts = name.split(".")
            place = self.root.joinpath(*parts)
            # A package hides a module of the same name, as it does when Python imports it.
            files = [place / "__init__.py", place.with_name(f"{place.name}.py")]
            inside = parts[0] == self.package
            self._paths[name] = next((path for path in files if inside and path.is_file()), None)
        return self._paths[name]

    def module(self, name: str) -> Module:
        """A module of the package.

        Raises:
            SketchstackError: there is none of this name, or its file is not Python.
        """
        if name not in self._modules:
            path = self.path(name)
            if path is None:
                raise SketchstackError(f"there is no module {name} below {self.root}{self._near(name)}.")
            self._modules[name] = _Reader(self, Module(name, path.name == "__init__.py")).read(_parsed(path))
        return self._modules[name]

    def resolved(self, module: Module, name: str, seen: frozenset[Key] = frozenset()) -> set[Key]:
        """What of the package a name of a module stands for; nothing where it is not of the package."""
        found = {(module.name, name)} if name in module.definitions else set()
        if name in module.by_statements:
            found.add((module.name, STATEMENTS))
        for target in self.targets(module, name):
            found |= self._meant(target, seen | {(module.name, name)})
        return found

    def followed(self, module: Module, names: list[str]) -> set[Key]:
        """What of the package a chain `name.name...` stands for: the modules in front are no use of a whole file."""
        found = self.resolved(module, names[0]) if module.binds(names[0]) else set()
        for place, inner in self.targets(module, names[0]):
            found |= self._meant((place, inner), frozenset()) if inner else self._within(place, names[1:])
        return found

    def targets(self, module: Module, name: str) -> set[Target]:
        """What a name is imported as, of the package."""
        return {target for target in module.imports.get(name, ()) if self.path(target[0])}

    def origins(self, module: Module, name: str) -> set[str]:
        """The dotted names, outside the package, that a name is imported as."""
        targets = module.imports.get(name, set())
        return {".".join(filter(None, target)) for target in targets if not self.path(target[0])}

    def derives(self, module: Module, base: ast.expr, ancestors: set[str]) -> bool:
        """Whether an expression names a class that is one of the ancestors or derives from one.

        Args:
            module: where the expression stands.
            base: `Name` or `module.Name`.
            ancestors: plain names of classes of the package, dotted names of others.
        """
        return self._derives(module, base, ancestors, set())

    def _derives(self, module: Module, base: ast.expr, ancestors: set[str], seen: set[Key]) -> bool:
        names = chain(base)
        if not names:
            return False
        if any(".".join([origin, *names[1:]]) in ancestors for origin in self.origins(module, names[0])):
            return True
        for key in self.followed(module, names) - seen:
            seen.add(key)
            home = self.module(key[0])
            trees = [tree for tree in home.definitions.get(key[1], []) if isinstance(tree, ast.ClassDef)]
            bases = [each for tree in trees for each in tree.bases]
            if (trees and key[1] in ancestors) or any(self._derives(home, each, ancestors, seen) for each in bases):
                return True
        return False

    def _meant(self, target: Target, seen: frozenset[Key]) -> set[Key]:
        place, inner = target
        if inner is None:
            return {(place, WHOLE)}
        if (place, inner) in seen:  # modules that import the name from each other
            return set()
        # What cannot be found (a module's __getattr__) may be anything in the file.
        return self.resolved(self.module(place), inner, seen) or {(place, WHOLE)}

    def _within(self, place: str, names: list[str]) -> set[Key]:
        """What `names`, one after the other, stand for from a module on."""
        if not names:
            return {(place, WHOLE)}
        inner = f"{place}.{names[0]}"
        found = self.followed(self.module(place), names)
        if self.path(inner):
            found |= self._within(inner, names[1:])
        return found or {(place, WHOLE)}

    def _near(self, name: str) -> str:
        files = sorted((self.root / self.package).rglob("*.py"))
        known = [
            ".".join(path.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__") for path in files
        ]
        near = difflib.get_close_matches(name, known)
        return f"; near it: {', '.join(near)}" if near else ""


class _Reader:
    """Sorts the top level of a file into definitions, statements and imports."""

    def __init__(self, package: Package, module: Module) -> None:
        self.package, self.module = package, module

    def read(self, tree: ast.Module) -> Module:
        """The module, filled."""
        for node in _imports(tree):
            for local, target in bindings(self.package, self.module, node):
                self.module.imports.setdefault(local, set()).add(target)
                self.module.lazy |= target == ("__future__", "annotations")
        for statement in tree.body:
            self._sort(statement)
        self._add_stars()
        return self.module

    def _sort(self, statement: ast.stmt) -> None:
        if _is_guard(statement):
            for each in statement.orelse:
                self._sort(each)
            return
        for node in _imports(statement, at_import=True):
            self.module.runs |= imported(self.package, self.module, node)
        if isinstance(statement, Import | ast.Pass) or _is_constant(statement):
            return
        if isinstance(statement, ast.AnnAssign) and statement.value is None and self.module.lazy:
            return
        names = set(_bound(statement))
        if _is_definition(statement):
            for name in names:
                self.module.definitions.setdefault(name, []).append(statement)
        else:
            self.module.statements.append(statement)
            self.module.by_statements |= names

    def _add_stars(self) -> None:
        """`import *` of a module of the package: each of its names may mean anything in that file."""
        for place, _ in self.package.targets(self.module, WHOLE):
            other = self.package.module(place)
            for name in [*other.definitions, *other.by_statements, *other.imports]:
                self.module.imports.setdefault(name, set()).add((place, None))


def bindings(package: Package, module: Module, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Target]]:
    """The names that an import binds, each with what it stands for."""
    for alias in node.names:
        if isinstance(node, ast.Import):
            place = alias.name if alias.asname else alias.name.split(".")[0]
            yield alias.asname or place, (place, None)
            continue
        local, place = alias.asname or alias.name, _origin(module, node)
        submodule = bool(package.path(f"{place}.{alias.name}"))
        if submodule:
            yield local, (f"{place}.{alias.name}", None)
        # A name that the package's __init__ itself binds hides the submodule. Both count.
        if not submodule or (place != module.name and package.module(place).binds(alias.name)):
            yield local, (place, alias.name)


def imported(package: Package, module: Module, node: ast.Import | ast.ImportFrom) -> set[str]:
    """The modules of the package that an import runs; their packages run with them."""
    if isinstance(node, ast.Import):
        places = {alias.name for alias in node.names}
    else:
        origin = _origin(module, node)
        places = {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return {place for place in places if package.path(place)}


def _origin(module: Module, node: ast.ImportFrom) -> str:
    """The module that `from` names, the dots in front resolved."""
    parts = module.name.split(".")
    start = parts[: len(parts) - node.level + module.is_package] if node.level else []
    return ".".join([*start, *filter(None, [node.module])])


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise SketchstackError(f"{path}{line} is not Python ({error}); correct it.") from None


def chain(node: ast.AST) -> list[str]:
    """The names of `name.name...`; none of any other expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _imports(tree: ast.AST, at_import: bool = False) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports in a tree; `at_import`: not those in functions and under TYPE_CHECKING."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Import):
            yield node
        elif at_import and _is_guard(node):
            waiting += node.orelse
        elif not (at_import and isinstance(node, Function)):
            # Only these fields hold statements; expressions are most of a tree.
            for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                inner = getattr(node, name, [])
                waiting += inner if isinstance(inner, list) else []


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module binds."""
    if isinstance(statement, Function | ast.ClassDef):
        yield statement.name
        return
    nodes = list(ast.walk(statement))
    loops = [each for node in nodes if isinstance(node, ast.comprehension) for each in ast.walk(node.target)]
    inner = set(map(id, loops))  # names of a comprehension are its own
    for node in nodes:
        if isinstance(node, Function | ast.ClassDef | ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in inner:
            yield node.id


def _is_definition(statement: ast.stmt) -> bool:
    """Whether it only binds names; `os.environ[name] = value` does something else."""
    if isinstance(statement, ast.Assign):
        return all(map(_only_names, statement.targets))
    if isinstance(statement, ast.AnnAssign):
        return _only_names(statement.target)
    return isinstance(statement, Function | ast.ClassDef)


def _only_names(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_only_names, target.elts))
    return isinstance(target, ast.Name) or (isinstance(target, ast.Starred) and _only_names(target.value))


def _is_constant(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_guard(node: ast.AST) -> TypeGuard[ast.If]:
    """Whether it is `if __name__ == "__main__"` or `if TYPE_CHECKING`, whose body runs in no import."""
    if not isinstance(node, ast.If):
        return False
    if isinstance(node.test, ast.Compare):
        return ast.unparse(node.test) == "__name__ == '__main__'"
    return (chain(node.test) or [""])[-1] == "TYPE_CHECKING"
