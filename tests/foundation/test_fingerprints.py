"""What changes a fingerprint and what does not: edits of a small package, and of copies of the real one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.fingerprints import Code
from pipeline.foundation.params import load_params
from pipeline.stages.fingerprint import STAGES, fingerprints
from tests.conftest import ROOT

FILES = {
    "__init__.py": "",
    "errors.py": """class SketchstackError(Exception):
    pass


class LeakError(SketchstackError):
    pass


class RowError(ValueError):
    pass
""",
    "schema.py": """from __future__ import annotations
from pydantic import BaseModel, field_validator


class Block(BaseModel):
    pass


class Submit(Block):
    prior: str

    @field_validator("prior")
    @classmethod
    def _known(cls, prior: str) -> str:
        return prior

    @property
    def text(self) -> str:
        return self.prior.upper()


class Params(Block):
    submit: Submit
""",
    "numbers.py": """from __future__ import annotations
import math
from pipeline import errors

SIDE = 28
UNUSED = 1
TABLE = {}
for number in range(3):
    TABLE[number] = number


def area(width: int, height: int = SIDE) -> float:
    \"\"\"An area.\"\"\"
    # a comment
    size = width * height
    if size < 0:
        raise errors.SketchstackError("negative")
    return math.sqrt(size)


def helper(value):
    return value


def reported(value):
    return repr(value)


def checked(value):
    if not value:
        raise LeakError(f"nothing: {reported(value)}; look")
    if value < 0:
        raise RowError("negative row")
    return value


from pipeline.errors import LeakError, RowError
""",
    "exports.py": "from pipeline.numbers import checked as verified\n",
    "stage.py": """from __future__ import annotations
from pipeline import numbers, schema
from pipeline.exports import verified


def decorated(function):
    return function


class Base:
    size = 1


class Work(Base):
    def run(self, params: schema.Params) -> float:
        return numbers.area(verified(3)) + len(params.submit.text) + self.size


@decorated
def main() -> None:
    Work().run(schema.Params(submit=schema.Submit(prior="a")))


if __name__ == "__main__":
    main()
""",
}
SAME = [
    ("numbers.py", "    # a comment\n", "    # another\n\n"),
    ("numbers.py", "An area.", "An area in pixels."),
    ("numbers.py", "size = width * height", "size = (width\n        * height)"),
    ("numbers.py", "UNUSED = 1", "UNUSED = 2\nNEW = 3"),
    ("numbers.py", "def helper(value):\n    return value", "def helper(value):\n    return value + 1"),
    ("numbers.py", "nothing: {reported(value)}; look", "there is nothing ({helper(value)}); look there"),
    ("numbers.py", "width: int, height: int = SIDE", "width: float, height: float = SIDE"),
    ("schema.py", "    prior: str\n", "    prior: str\n    most: int\n"),
    ("schema.py", "        return prior\n", "        return prior or 'uniform'\n"),
    ("stage.py", 'if __name__ == "__main__":', 'if __name__ in ("__main__",):'),
    ("other.py", "", "print('a new file')"),
]
OTHER = [
    ("numbers.py", "SIDE = 28", "SIDE = 32"),
    ("numbers.py", "size = width * height", "size = width + height"),
    ("numbers.py", "height: int = SIDE", "height: int = 3"),
    ("numbers.py", "range(3)", "range(4)"),
    ("numbers.py", "math.sqrt(size)", "math.exp(size)"),
    ("numbers.py", "import math", "import cmath as math"),
    ("numbers.py", '"negative row"', '"the row is negative"'),
    ("exports.py", "checked as verified", "helper as verified"),
    ("schema.py", "self.prior.upper()", "self.prior.lower()"),
    ("schema.py", "    prior: str\n", '    prior: str = "uniform"\n'),
    ("stage.py", "    size = 1", "    size = 2"),
    ("stage.py", "Work(Base)", "Work(dict)"),
    ("stage.py", "@decorated\n", ""),
    ("exports.py", "checked", "checked; import os; os.environ['THREADS'] = '1'; from pipeline.numbers import checked"),
]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "pipeline"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def stage(package: Path) -> str:
    return Code(package.parent).fingerprint("pipeline.stage:main")


def edit(package: Path, name: str, before: str, after: str) -> None:
    path = package / name
    text = path.read_text() if path.exists() else ""
    assert before in text
    path.write_text(text.replace(before, after) if before else text + after)


@pytest.mark.parametrize(("name", "before", "after"), SAME)
def test_what_cannot_change_a_result_changes_nothing(name, before, after, package):
    known = stage(package)
    edit(package, name, before, after)
    assert stage(package) == known


@pytest.mark.parametrize(("name", "before", "after"), OTHER)
def test_what_can_change_a_result_changes_the_fingerprint(name, before, after, package):
    known = stage(package)
    edit(package, name, before, after)
    assert stage(package) != known


def test_the_order_of_definitions_and_the_place_of_the_package_do_not_count(package, tmp_path):
    known = stage(package)
    text = FILES["stage.py"]
    base = "class Base:\n    size = 1\n\n\n"
    (package / "stage.py").write_text(text.replace(base, "").replace("@decorated", f"{base}@decorated"))
    assert stage(package) == known
    moved = shutil.copytree(package, tmp_path / "elsewhere" / "pipeline")
    assert stage(moved) == known


def test_a_module_that_is_passed_on_counts_whole(package):
    edit(package, "stage.py", "    Work().run", "    print(numbers)\n    Work().run")
    known = stage(package)
    edit(package, "numbers.py", "UNUSED = 1", "UNUSED = 2")
    assert stage(package) != known


def test_unknown_roots_and_broken_files_are_named(package):
    code = Code(package.parent)
    with pytest.raises(SketchstackError, match=r"no module pipeline\.stag "):
        code.fingerprint("pipeline.stag")
    with pytest.raises(SketchstackError, match="defines no 'mian'; it has main"):
        code.fingerprint("pipeline.stage:mian")
    (package / "numbers.py").write_text("def broken(:\n")
    with pytest.raises(SketchstackError, match=r"numbers\.py is not Python .*line 1"):
        Code(package.parent).fingerprint("pipeline.stage")


# ---- the real code

TRAINED = {"train", "pseudo"}
REAL = [  # file, before, after, the stages and learners that change
    ("foundation/errors.py", '"""How Sketchstack fails', '"""The way Sketchstack fails', set()),
    ("foundation/params.py", "    balance: Literal", "    stars: int\n    balance: Literal", set()),
    ("__init__.py", "make setup", "make the environment", set()),
    ("foundation/errors.py", "sys.exit(130)", "sys.exit(131)", set()),
    ("foundation/params.py", "too few folds: ", "there are too few folds: ", set()),
    ("learners/_base.py", '"there is not enough memory to train', '"memory is too short to train', set()),
    ("learners/pointnet.py", "", "class Learner: ...\n", set()),
    ("commands/count.py", "", "def main(): ...\n", set()),
    ("learners/lstm.py", "dropout", "dropped", {"lstm"}),
    ("learners/_torch.py", "torch.manual_seed", "torch.seed", {"seresnet", "lstm", "strokenet"}),
    ("drawings/encodings.py", "PALEST = 0.5", "PALEST = 0.4", {"seresnet", "mobilenet"}),
    ("stacking/metalearners/greedy.py", "1 / (above + 1)", "1 / (above + 2)", {"stack"}),
    ("report/html.py", "HERE = ", "HERE = Path() / ", {"report"}),
    ("submissions/balance.py", "def gains(", "@staticmethod\ndef gains(", {"submit"}),
]


@pytest.fixture(scope="module")
def real() -> dict[str, str]:
    return flat(ROOT)


def flat(root: Path) -> dict[str, str]:
    found = fingerprints(load_params(ROOT / "profiles" / "synthetic.yaml"), Code(root))
    return found["stages"] | found["learners"]


@pytest.mark.parametrize(("name", "before", "after", "changes"), REAL)
def test_an_edit_of_the_real_code_changes_exactly_what_it_reaches(name, before, after, changes, real, tmp_path):
    package = tmp_path / "pipeline"
    shutil.copytree(ROOT / "pipeline", package, ignore=shutil.ignore_patterns("__pycache__"))
    edit(package, name, before, after)
    found = flat(tmp_path)
    assert {name for name in real if found[name] != real[name]} == changes


def test_every_stage_of_dvc_yaml_has_a_fingerprint_and_names_no_source_file(real):
    text = (ROOT / "dvc.yaml").read_text()
    assert set(STAGES) <= set(real)
    assert "pipeline/" not in text
    for name in STAGES:
        assert f"stages.{name}" in text, name
