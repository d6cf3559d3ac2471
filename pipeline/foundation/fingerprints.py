"""What code does, as a hash: of the syntax trees of all definitions that an entry point reaches.

A stage that depends on such a fingerprint, and not on source files, runs again when something that it reaches has
changed, and for no other edit: comments, docstrings, layout and the order of definitions are no part of a syntax tree;
what is not reached does not count.

- The unit is a definition at the top of a module: a function, a class with its methods, a constant. What else stands
  there runs on import and counts as soon as the module is imported by one that is reached.
- Names are followed through a module's imports. A module that is used otherwise than by `module.name` counts whole.
- What is imported by a computed name (learners, meta-learners) cannot be followed: give such modules as roots.
- Not counted, because it cannot change an output: annotations of functions, the arguments of a SketchstackError (a
  stage that raises one has no output), fields and validators of the params schema (it checks values; those that a
  stage uses are its DVC params).
"""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.foundation.errors import SketchstackError

PACKAGE = "pipeline"
ERROR = "SketchstackError"
SCHEMAS = {"BaseModel", "Block"}  # pydantic's, and the one that params.yaml's blocks derive from
VALIDATORS = {"field_validator", "model_validator"}
# By which Python a stage runs, and in what words it ends, cannot change an output.
UNCOUNTED = {("pipeline", "<statements>"), ("pipeline.foundation.errors", "one_paragraph_errors")}
WHOLE, STATEMENTS = "*", "<statements>"
Function = ast.FunctionDef | ast.AsyncFunctionDef
Key = tuple[str, str]  # a module and what of it: a definition, STATEMENTS or WHOLE


@dataclass
class Module:
    """The top level of a file.

    Attributes:
        name: dotted.
        definitions: syntax trees by the name that they bind; several where branches or overloads bind it.
        statements: what else runs on import.
        imports: local name → (module, name in it); the name is None where the module itself is bound.
        runs: modules of the package that importing this one imports.
    """

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    statements: list[ast.stmt] = field(default_factory=list)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)


class Code:
    """The syntax trees of a package, read when they are first needed.

    Args:
        root: the folder that holds the package.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, Module] = {}
        self._digests: dict[Key, tuple[str, set[Key]]] = {}

    def fingerprint(self, *roots: str) -> str:
        """SHA-256, in hexadecimal, of all that the roots reach.

        Args:
            roots: `pipeline.stages.train` for a whole module, `pipeline.stages.train:main` for one definition.

        Raises:
            SketchstackError: there is no such module or definition, or a file is not Python.
        """
        lines = sorted(f"{module}:{name} {self._digest((module, name))[0]}" for module, name in self._closure(roots))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def reached(self, *roots: str) -> list[str]:
        """All that the roots reach, as `module:name`; arguments and errors as of `fingerprint`."""
        return sorted(f"{module}:{name}" for module, name in self._closure(roots))

    def _closure(self, roots: Iterable[str]) -> set[Key]:
        seen: set[Key] = set()
        waiting = [key for root in roots for key in self._keys(root)]
        while waiting:
            key = waiting.pop()
            if key not in seen and key not in UNCOUNTED:
                seen.add(key)
                waiting += self._digest(key)[1]
                waiting += self._on_import(key[0])
        return {key for key in seen if key[1] != STATEMENTS or self.module(key[0]).statements}

    def _keys(self, root: str) -> list[Key]:
        name, _, definition = root.partition(":")
        module = self.module(name)
        if not definition:
            return self._whole(module)
        if definition not in module.definitions:
            near = difflib.get_close_matches(definition, module.definitions)
            raise SketchstackError(f"{name} defines no {definition!r}; it has {', '.join(near or module.definitions)}.")
        return [(name, definition)]

    def _whole(self, module: Module) -> list[Key]:
        return [(module.name, STATEMENTS), *((module.name, name) for name in module.definitions)]

    def _on_import(self, name: str) -> Iterator[Key]:
        """What runs when a module is imported: its statements, those of its packages and of what it imports."""
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            yield ".".join(parts[:count]), STATEMENTS
        for other in self.module(name).runs:
            yield other, STATEMENTS

    def module(self, name: str) -> Module:
        """A module of the package, by its dotted name.

        Raises:
            SketchstackError: there is none, or its file is not Python.
        """
        if name not in self._modules:
            path = self._path(name)
            if path is None:
                raise SketchstackError(f"there is no module {name} below {self.root}.")
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError) as error:
                raise SketchstackError(f"{path} is not Python ({error}); correct that line.") from None
            self._modules[name] = self._read(name, tree, path.name == "__init__.py")
        return self._modules[name]

    def _path(self, name: str) -> Path | None:
        place = self.root.joinpath(*name.split("."))
        found = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
        return found[0] if found and name.split(".", maxsplit=1)[0] == PACKAGE else None

    def _read(self, name: str, tree: ast.Module, is_package: bool) -> Module:
        module = Module(name)
        for node in ast.walk(tree):
            for local, target in self._bindings(node, name, is_package):
                module.imports[local] = target
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                found = (target for _, target in self._bindings(statement, name, is_package))
                module.runs |= {place for place, _ in found if self._path(place)}
            elif bound := _bound(statement):
                for each in bound:
                    module.definitions.setdefault(each, []).append(statement)
                if not isinstance(statement, Function | ast.ClassDef | ast.Assign | ast.AnnAssign):
                    module.statements.append(statement)
            elif not _runs_nothing(statement):
                module.statements.append(statement)
        return module

    def _bindings(self, node: ast.AST, name: str, is_package: bool) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """The names that an import binds, each with what it stands for."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                place = alias.name if alias.asname else alias.name.split(".")[0]
                yield alias.asname or place, (place, None)
        elif isinstance(node, ast.ImportFrom):
            start = name.split(".")[: len(name.split(".")) - node.level + is_package] if node.level else []
            place = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{place}.{alias.name}"
                target = (inner, None) if self._path(inner) else (place, alias.name)
                yield alias.asname or alias.name, target

    def _digest(self, key: Key) -> tuple[str, set[Key]]:
        """The hash of a definition with what its names stand for outside the package, and what it reaches within."""
        if key not in self._digests:
            module = self.module(key[0])
            trees = module.statements if key[1] == STATEMENTS else module.definitions.get(key[1], [])
            text = _Text(self, module, {key[1]})
            written = "".join(map(text.of, trees))
            outside = ";".join(sorted(text.outside))
            self._digests[key] = hashlib.sha256(f"{written}|{outside}".encode()).hexdigest(), text.inside
        return self._digests[key]

    def resolved(self, module: Module, name: str) -> list[Key]:
        """What of the package a name of a module stands for; nothing where it is not of the package."""
        if name in module.definitions:
            return [(module.name, name)]
        if name not in module.imports:
            return []
        place, inner = module.imports[name]
        if not self._path(place):
            return []
        target = self.module(place)
        if inner is None or inner == WHOLE:
            return self._whole(target)
        return self.resolved(target, inner) or self._whole(target)

    def derives(self, module: Module, name: str, ancestors: set[str]) -> bool:
        """Whether a name stands for a class of one of these names, or one that derives from it."""
        if name in ancestors:
            return True
        for place, inner in self.resolved(module, name):
            home = self.module(place)
            for tree in home.definitions.get(inner, []):
                bases = tree.bases if isinstance(tree, ast.ClassDef) else []
                if any(isinstance(base, ast.Name) and self.derives(home, base.id, ancestors) for base in bases):
                    return True
        return False


class _Text:
    """Writes a syntax tree as text, without what does not count, and notes what its names stand for."""

    def __init__(self, code: Code, module: Module, own: set[str]) -> None:
        self.code, self.module, self.own = code, module, own
        self.inside: set[Key] = set()
        self.outside: set[str] = set()

    def of(self, node: object) -> str:
        """The text of a node, of a list of nodes or of a value in one."""
        if isinstance(node, list):
            return f"[{','.join(map(self.of, node))}]"
        if isinstance(node, ast.Call) and self._is_error(node.func):
            return f"Call({self.of(node.func)})"
        if isinstance(node, ast.Attribute) and self._of_module(node):
            return f"Attribute({ast.unparse(node)})"
        if isinstance(node, ast.Name):
            self._note(node.id)
            return node.id
        if isinstance(node, ast.Import | ast.ImportFrom):
            return ""  # what they bind is noted where it is used
        return self._fields(node) if isinstance(node, ast.AST) else f"{type(node).__name__} {node!r}"

    def _fields(self, node: ast.AST) -> str:
        parts = []
        for name in node._fields:
            value = getattr(node, name, None)
            if value not in (None, []) and name not in self._left_out(node):
                parts.append(f"{name}={self.of(self._kept(node, name, value))}")
        return f"{type(node).__name__}({','.join(parts)})"

    def _left_out(self, node: ast.AST) -> set[str]:
        left = {"ctx", "kind", "type_comment", "type_params"}
        if isinstance(node, Function):
            left.add("returns")
        if isinstance(node, ast.arg):
            left.add("annotation")
        return left

    def _kept(self, node: ast.AST, name: str, value: object) -> object:
        """A field of a node without docstrings, the fields and validators of a schema, and annotations of locals."""
        if name != "body" or not isinstance(value, list):
            return value
        if isinstance(node, Function | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            value = value[1:]
        if isinstance(node, ast.ClassDef) and any(self._is_schema(base) for base in node.bases):
            value = [each for each in value if not _only_checks(each)]
        if isinstance(node, Function):
            value = [_unannotated(each) for each in value]
        return value

    def _is_schema(self, base: ast.expr) -> bool:
        return isinstance(base, ast.Name) and self.code.derives(self.module, base.id, SCHEMAS)

    def _is_error(self, function: ast.expr) -> bool:
        return isinstance(function, ast.Name) and self.code.derives(self.module, function.id, {ERROR})

    def _of_module(self, node: ast.Attribute) -> bool:
        """Whether this is `module.name` with a module that is imported; notes what it stands for."""
        if not isinstance(node.value, ast.Name) or node.value.id in self.module.definitions:
            return False
        place, inner = self.module.imports.get(node.value.id, ("", ""))
        if inner is not None:
            return False
        if self.code._path(place) is None:
            self.outside.add(f"{node.value.id}={place}")
            return True
        target = self.code.module(place)
        found = self.code.resolved(target, node.attr)
        submodule = f"{place}.{node.attr}"
        if not found and self.code._path(submodule):
            found = self.code._whole(self.code.module(submodule))
        self.inside |= set(found or self.code._whole(target))
        return True

    def _note(self, name: str) -> None:
        found = self.code.resolved(self.module, name)
        self.inside |= set(found)
        if not found and name in self.module.imports:
            self.outside.add(f"{name}={'.'.join(filter(None, self.module.imports[name]))}")


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module binds; none of one that never runs as part of a stage."""
    if isinstance(statement, Function | ast.ClassDef):
        return [statement.name]
    if _runs_nothing(statement):
        return []
    targets: list[ast.expr] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets.append(node.target)
        elif isinstance(node, Function | ast.ClassDef) and isinstance(statement, ast.If | ast.Try | ast.With):
            targets.append(ast.Name(node.name))
    return [name for target in targets for name in _named(target)]


def _named(target: ast.expr) -> list[str]:
    """The names that an assignment binds; `os.environ[name] = value` binds none, it runs."""
    if isinstance(target, ast.Tuple | ast.List):
        return [name for each in target.elts for name in _named(each)]
    return [target.id] if isinstance(target, ast.Name) else []


def _runs_nothing(statement: ast.stmt) -> bool:
    """Whether it is a docstring, or what runs only as a script or for a type checker."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if not isinstance(statement, ast.If):
        return False
    names = {node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)}
    return bool(names & {"__name__", "TYPE_CHECKING"})


def _only_checks(statement: ast.stmt) -> bool:
    """Whether a statement of a schema only says what values are allowed: a field without a default, a validator."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    if not isinstance(statement, Function):
        return False
    called = (each.func if isinstance(each, ast.Call) else each for each in statement.decorator_list)
    return any(isinstance(each, ast.Name) and each.id in VALIDATORS for each in called)


def _unannotated(statement: object) -> object:
    """A local variable's assignment without its annotation."""
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return ast.Assign([statement.target], statement.value)
    return statement


def project() -> Code:
    """The code of this project."""
    return Code(Path(__file__).parents[2])
