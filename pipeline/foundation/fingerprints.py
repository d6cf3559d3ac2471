"""What code does, as a hash over the syntax trees of all definitions that an entry point reaches in the package.

A stage that depends on such a fingerprint runs again when something that it reaches has changed, and for no other edit.

- A module used otherwise than by `module.name` counts whole. Bare statements of a module count as soon as the module
  is imported by something that is reached.
- `importlib.import_module` and `__import__` are followed where the name is written out in full. Where it is computed
  (learners, meta-learners), the caller gives the modules as further roots.
- A definition that names `__file__` may read what is beside it: the files of that folder that are not Python count.
- Not counted: comments, layout, docstrings; annotations that Python does not evaluate; what a SketchstackError says
  (a stage that raises one has no output); fields and validators of schemas (they only check values, and those that a
  stage uses are its DVC params).
"""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.modules import (
    STATEMENTS,
    WHOLE,
    Function,
    Import,
    Key,
    Module,
    Package,
    bindings,
    chain,
    imported,
)

ERROR = "SketchstackError"
SCHEMA_BASES = {"pydantic.BaseModel"}  # outside the package; Block of the params derives from it
VALIDATORS = {"field_validator", "model_validator"}
# By which Python a stage runs, in what words it ends, and how code is hashed cannot change an output.
UNCOUNTED = {("pipeline", STATEMENTS), ("pipeline.foundation.errors", "one_paragraph_errors")}
UNCOUNTED_MODULES = {"pipeline.foundation.modules", "pipeline.foundation.fingerprints"}
SKIPPED = {"ctx", "kind", "type_comment", "type_ignores", "type_params"}
ANNOTATIONS: dict[type[ast.AST], str] = {
    ast.FunctionDef: "returns",
    ast.AsyncFunctionDef: "returns",
    ast.arg: "annotation",
}


class Code:
    """The fingerprints of a package's code.

    Args:
        root: the folder that holds the package.
        package: its name.
    """

    def __init__(self, root: Path, package: str = "pipeline") -> None:
        self.package = Package(root, package)
        self._digests: dict[Key, tuple[str, set[Key]]] = {}

    def fingerprint(self, *roots: str) -> str:
        """SHA-256 of all that the roots reach.

        Args:
            roots: `pipeline.stages.train` for a whole module, `pipeline.stages.train:main` for one definition and its
                module's bare statements.

        Returns:
            The hash, in hexadecimal.

        Raises:
            SketchstackError: there is no such module or definition, or a file is not Python.
        """
        lines = (f"{module}:{name} {self._digest((module, name))[0]}" for module, name in self._closure(roots))
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def reached(self, *roots: str) -> list[str]:
        """Why a stage is stale: all that the roots reach.

        Args:
            roots: as of `fingerprint`.

        Returns:
            `module:name` for a definition, `module:<statements>` for what runs on import and `module:*` for a whole
            file, which stands beside all that is in it; sorted.

        Raises:
            SketchstackError: as by `fingerprint`.
        """
        return sorted(f"{module}:{name}" for module, name in self._closure(roots))

    def _closure(self, roots: Iterable[str]) -> set[Key]:
        seen: set[Key] = set()
        waiting = [key for root in roots for key in self._keys(root)]
        while waiting:
            key = waiting.pop()
            if key not in seen and not _is_uncounted(key):
                seen.add(key)
                waiting += self._digest(key)[1]
                waiting += self._on_import(key[0])
        return {key for key in seen if key[1] != STATEMENTS or self.package.module(key[0]).statements}

    def _keys(self, root: str) -> set[Key]:
        name, _, definition = root.partition(":")
        module = self.package.module(name)
        if not definition:
            return {(name, WHOLE)}
        if not module.binds(definition):
            known = [*module.definitions, *sorted(module.by_statements)]
            near = difflib.get_close_matches(definition, known) or known
            raise SketchstackError(f"{name} defines no {definition!r}; it has {', '.join(near) or 'no definition'}.")
        return self.package.resolved(module, definition)

    def _on_import(self, name: str) -> Iterator[Key]:
        """What runs when a module is imported: its statements, those of its packages and of what it imports."""
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            if self.package.path(place := ".".join(parts[:count])):  # a folder without __init__.py runs nothing
                yield place, STATEMENTS
        for other in self.package.module(name).runs:
            yield other, STATEMENTS

    def _digest(self, key: Key) -> tuple[str, set[Key]]:
        """The hash of a definition and of what its names stand for, and what it reaches in the package."""
        if key not in self._digests:
            module = self.package.module(key[0])
            text = _Text(self.package, module)
            if key[1] == WHOLE:
                text.inside |= {(module.name, name) for name in [STATEMENTS, *module.definitions]}
            else:
                text.add(module.statements if key[1] == STATEMENTS else module.definitions[key[1]])
            written = "".join([*text.parts, "|", *sorted(text.meanings)])
            self._digests[key] = hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest(), text.inside
        return self._digests[key]


class _Text:
    """Writes syntax trees as text, without what does not count, and notes what their names stand for."""

    def __init__(self, package: Package, module: Module) -> None:
        self.package, self.module = package, module
        self.parts: list[str] = []
        self.inside: set[Key] = set()
        self.meanings: set[str] = set()
        self._in_class = False  # in a class body, where annotations are evaluated or read

    def add(self, value: object) -> None:
        """Write a node, a list of nodes or a value in one."""
        if isinstance(value, list):
            self.parts.append("[")
            for each in value:
                self.add(each)
                self.parts.append(",")
            self.parts.append("]")
        elif not isinstance(value, ast.AST):
            self.parts.append(f"{type(value).__name__} {value!r}")
        elif isinstance(value, Import):
            self._add_import(value)
        elif isinstance(value, ast.AnnAssign) and self.module.lazy and not self._in_class:
            self._add_fields(ast.Assign([value.target], value.value) if value.value else ast.Pass())
        elif isinstance(value, ast.Raise) and self._is_error(value.exc):
            self._add_fields(ast.Raise(exc=value.exc))  # without the cause
        elif isinstance(value, ast.Call) and self._is_error(value.func):
            self._add_fields(ast.Call(value.func, [], []))  # without what it says
        elif isinstance(value, ast.Name | ast.Attribute) and (names := chain(value)):
            self._note(names)
            self.parts.append(".".join(names))
        else:
            self._add_fields(value)

    def _add_fields(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call):
            self.inside |= self._by_literal(node)
        outer = self._in_class
        self.parts.append(f"{type(node).__name__}(")
        for name in self._fields(node):
            value = getattr(node, name, None)
            # A Constant's None is a value, not a field that is not there.
            if value == [] or (value is None and not isinstance(node, ast.Constant)):
                continue
            if name == "body" and isinstance(node, Function | ast.ClassDef):
                value, self._in_class = self._counted(node), isinstance(node, ast.ClassDef)
            self.parts.append(f"{name}=")
            self.add(value)
            self.parts.append(";")
            self._in_class = outer
        self.parts.append(")")

    def _fields(self, node: ast.AST) -> Iterable[str]:
        # signatures.py and the meta-learners read annotations at run time, but only to check values, which are params.
        unread = ANNOTATIONS.get(type(node)) if self.module.lazy else None
        return (name for name in node._fields if name not in SKIPPED and name != unread)

    def _add_import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.inside |= {(place, STATEMENTS) for place in imported(self.package, self.module, node)}
        bound = sorted(f"{local}={target}" for local, target in bindings(self.package, self.module, node))
        self.parts.append(f"Import({';'.join(bound)})")

    def _counted(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[ast.stmt]:
        """A body without its docstring; that of a schema also without what only checks."""
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        bases = node.bases if isinstance(node, ast.ClassDef) else []
        if any(self.package.derives(self.module, base, SCHEMA_BASES) for base in bases):
            return [each for each in body if not _only_checks(each)]
        return body

    def _is_error(self, raised: ast.expr | None) -> bool:
        name = raised.func if isinstance(raised, ast.Call) else raised
        return name is not None and self.package.derives(self.module, name, {ERROR})

    def _note(self, names: list[str]) -> None:
        if names[0] == "__file__":
            self.meanings |= self._beside()
        found = self.package.followed(self.module, names)
        self.inside |= found
        meant = sorted({*(f"{place}:{name}" for place, name in found), *self.package.origins(self.module, names[0])})
        if meant:  # without it, two names that swap what they are imported as would look the same
            self.meanings.add(f"{'.'.join(names)}={meant};")

    def _beside(self) -> set[str]:
        """The files beside the module that are not Python, each with a hash of its bytes; an editor's are left out."""
        path = self.package.path(self.module.name)
        files = path.parent.glob("[!.]*[!~]") if path else ()
        listed = (file for file in files if file.is_file() and file.suffix != ".py")
        return {f"{file.name}={hashlib.sha256(file.read_bytes()).hexdigest()};" for file in listed}

    def _by_literal(self, call: ast.Call) -> set[Key]:
        name = (chain(call.func) or [""])[-1]
        first = call.args[0] if call.args else None
        if name not in {"import_module", "__import__"} or not isinstance(first, ast.Constant):
            return set()
        place = str(first.value)
        return {(place, WHOLE)} if self.package.path(place) else set()


def _is_uncounted(key: Key) -> bool:
    return key in UNCOUNTED or key[0] in UNCOUNTED_MODULES


def _only_checks(statement: ast.stmt) -> bool:
    """Whether a statement of a schema only says what values are allowed: a field without a default, a validator."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    if not isinstance(statement, Function):
        return False
    called = [each.func if isinstance(each, ast.Call) else each for each in statement.decorator_list]
    return any((chain(each) or [""])[-1] in VALIDATORS for each in called)


def project() -> Code:
    """The code of this project."""
    return Code(Path(__file__).parents[2])
