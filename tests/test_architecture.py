"""The walls between the parts: imports go one way, frameworks load late, each stage's deps cover what it imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.learners._base import available
from pipeline.params import load_params
from tests.conftest import ROOT

PIPELINE = ROOT / "pipeline"
STAGES = ("synthesize", "shuffle", "train", "pseudo", "stack", "submit", "score", "report")
TRAINING = ("train", "pseudo")  # the stages that are run a learner at a time
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


def reached(path: Path) -> set[Path]:
    """All our modules that a file reaches through imports, itself included."""
    seen, queue = set(), [path]
    while queue:
        file = queue.pop()
        if file not in seen:
            seen.add(file)
            queue += imported(file)
    return seen


def stage_file(stage: str) -> Path:
    """Where a stage begins."""
    alone = PIPELINE / f"{stage}.py"
    return alone if alone.exists() else PIPELINE / stage / "__main__.py"


ALL = sorted(PIPELINE.rglob("*.py"))


def test_no_stage_imports_a_stage():
    stages = {stage_file(stage) for stage in STAGES}
    for stage in stages:
        assert not imported(stage) & stages, stage.name


USERS_OF_LEARNERS = {"check", "export", "export_model", "fitting", "preview", "searchspace", "tune"}


def test_no_learner_imports_a_learner_and_only_what_trains_or_shows_them_imports_learners():
    for path in ALL:
        learners = {file.stem for file in imported(path) if file.parent == PIPELINE / "learners"}
        if path.parent == PIPELINE / "learners":
            assert all(name.startswith("_") for name in learners), path.name
        elif path.stem not in USERS_OF_LEARNERS:
            assert not learners, path.name


def test_the_foundations_import_nothing_above_them():
    below = {"errors": set(), "strokes": set(), "words": {"errors"}, "drawings": {"errors"}, "metrics": set()}
    for name, allowed in below.items():
        assert {file.stem for file in imported(PIPELINE / f"{name}.py")} <= allowed, name


def test_only_stack_imports_mlens():
    for path in ALL:
        if path.name not in {"stack.py", "compat.py"}:
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
            names = imported_names(path, at_once=path.name in {"export.py", "export_model.py"})
            assert not {name.split(".")[0] for name in names} & set(FRAMEWORKS), path.name


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_starts_without_a_framework(stage):
    module = ".".join(stage_file(stage).relative_to(ROOT).with_suffix("").parts)
    code = f"import sys, {module}; print([name for name in {FRAMEWORKS} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def stage_deps(stage: str) -> list[str]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]


@pytest.mark.parametrize("stage", STAGES)
def test_deps_of_a_stage_cover_what_it_imports_and_nothing_that_is_gone(stage):
    params = load_params(ROOT / "params.yaml")
    start = {stage_file(stage)}
    if stage in TRAINING:
        start |= {PIPELINE / "learners" / f"{name}.py" for name in available()}
    code = [dep for dep in stage_deps(stage) if dep.startswith("pipeline/")]
    named = {ROOT / dep.replace("${item.learner}", name) for dep in code for name in params.ensemble}
    needed = {path for first in start for path in reached(first)}
    if stage in TRAINING:
        needed -= {PIPELINE / "learners" / f"{name}.py" for name in set(available()) - set(params.ensemble)}
    missing = {path for path in needed if path.name != "__init__.py" and not any(_holds(dep, path) for dep in named)}
    assert not missing, f"dvc.yaml, stage {stage}: add {sorted(path.name for path in missing)}"
    assert all(dep.exists() for dep in named)
    unused = {dep for dep in named if not any(_holds(dep, path) for path in needed)}
    assert not unused, f"dvc.yaml, stage {stage}: drop {sorted(dep.name for dep in unused)}"


def _holds(dep: Path, path: Path) -> bool:
    return dep == path or dep in path.parents


def test_params_yaml_is_the_synthetic_profile():
    assert (ROOT / "params.yaml").read_text() == (ROOT / "profiles" / "synthetic.yaml").read_text()


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_profile_is_complete_and_its_learners_exist(profile):
    params = load_params(profile)
    assert params.profile == profile.stem
    assert set(params.ensemble) <= set(available())
    for name in params.ensemble:
        params.learner(name)
