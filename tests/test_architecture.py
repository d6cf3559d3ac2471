"""The walls between the rooms: imports only go down, frameworks load late, no stage imports a stage."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.foundation.params import load_params
from pipeline.learners._base import available
from tests.conftest import ROOT

PIPELINE = ROOT / "pipeline"
# From the roof to the ground. A room imports itself (but for the first floor's) and the floors below it.
FLOORS = (
    {"__main__"},
    {"stages", "commands"},
    {"report"},
    {"serving"},
    {"comparison"},
    {"submissions"},
    {"stacking"},
    {"training", "learners"},
    {"predictions"},
    {"raw", "synthetic"},
    {"drawings"},
    {"foundation"},
)
ALONE = {"stages", "commands", "raw", "synthetic"}  # beside each other, and import nothing of each other
APART = {"stages", "commands"}  # whose files import nothing of their own room either
FRAMEWORKS = ("torch", "keras", "tensorflow")


def module_path(module: str) -> Path | None:
    """The file of one of our modules, None for others."""
    plain = ROOT / (module.replace(".", "/") + ".py")
    package = ROOT / module.replace(".", "/") / "__init__.py"
    return plain if plain.exists() else package if package.exists() else None


def imported(path: Path) -> set[Path]:
    """Our modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {file for name in names if name.startswith("pipeline") and (file := module_path(name))}
    return found - {path}


ALL = sorted(PIPELINE.rglob("*.py"))
STAGES = sorted(path.stem for path in (PIPELINE / "stages").glob("*.py") if path.stem != "__init__")


def room(path: Path) -> str:
    """The room of a file: the folder below pipeline/ that it stands in, or its own name at the top."""
    parts = path.relative_to(PIPELINE).parts
    return parts[0].removesuffix(".py")


def floor(name: str) -> int:
    """Its number from the roof."""
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def arrows() -> list[tuple[Path, Path]]:
    """Imports between files of ours, those of packages' own `__init__` left out."""
    return [(path, file) for path in ALL for file in imported(path) if file.stem != "__init__"]


def test_every_file_is_in_a_room_of_the_table():
    known = set.union(*FLOORS) | {"__init__"}
    assert {room(path) for path in ALL} <= known


def test_imports_only_go_down():
    for path, file in arrows():
        here, there = room(path), room(file)
        if here == there:
            assert here not in APART, f"{path.name} imports {file.name} of its own room"
        else:
            assert floor(here) <= floor(there), f"{path} imports {file}, which stands above it"
            assert floor(here) < floor(there) or here not in ALONE, f"{path} imports {file} beside it"


def test_few_arrows_join_the_rooms():
    """Pairs of rooms of which one imports the other; the layout before had 298 arrows between 58 modules."""
    pairs = {(room(path), room(file)) for path, file in arrows() if room(path) != room(file)}
    assert len(pairs) <= 66, sorted(pairs)


def test_no_learner_imports_a_learner():
    for path in (PIPELINE / "learners").glob("*.py"):
        learners = {file.stem for file in imported(path) if file.parent == path.parent and file.stem != "__init__"}
        assert all(name.startswith("_") for name in learners), path.name


def test_only_the_stack_imports_mlens():
    for path in ALL:
        if path.name not in {"super_learner.py", "mlens_parts.py", "mlens_compat.py"}:
            assert "mlens" not in {name.split(".")[0] for name in imported_names(path)}, path.name


def imported_names(path: Path, at_once: bool = False) -> set[str]:
    """Names of the modules that a file imports: anywhere, or as soon as it is imported itself."""
    names, tree = set(), ast.parse(path.read_text())
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_frameworks_are_imported_only_below_learners_and_metalearners_or_inside_an_export():
    for path in ALL:
        if path.parent.name not in {"learners", "metalearners"}:
            names = imported_names(path, at_once=path.name in {"feeds.py", "export.py", "convert.py"})
            assert not {name.split(".")[0] for name in names} & set(FRAMEWORKS), path.name


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_starts_without_a_framework(stage):
    code = f"import sys, pipeline.stages.{stage}; print([name for name in {FRAMEWORKS} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_profile_is_complete_and_its_learners_exist(profile):
    params = load_params(profile)
    assert params.profile == profile.stem
    assert set(params.ensemble) <= set(available())
    for name in params.ensemble:
        params.learner(name)
