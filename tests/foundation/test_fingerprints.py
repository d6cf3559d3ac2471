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

FUTURE = "from __future__ import annotations\n"
FILES = {
    "__init__.py": "",
    "errors.py": """class SketchstackError(Exception): ...
class LeakError(SketchstackError): ...
class RowError(ValueError): ...
""",
    "schema.py": FUTURE
    + """from pydantic import BaseModel, field_validator
class Block(BaseModel): ...
class Submit(Block):
    \"\"\"A schema.\"\"\"
    prior: str
    @field_validator("prior")
    @classmethod
    def _known(cls, prior):
        return prior
    @property
    def text(self):
        return self.prior.upper()
""",
    "numbers.py": FUTURE
    + """import math
from pipeline import errors
SIDE = 28
UNUSED = 1
LISTED = [size for size in ()]
TABLE = {}
for number in range(3):
    TABLE[number] = number
def area(width: int, height: int = SIDE) -> float:
    \"\"\"An area.\"\"\"
    # a comment
    size: int = width * height
    if size < 0:
        raise errors.SketchstackError("negative")
    return math.sqrt(size)
def helper(value):
    return value
def checked(value):
    if not value:
        raise LeakError(f"nothing: {reported(value)}; look") from None
    if value < 0:
        raise RowError("negative row")
    if value == 1:
        raise lost()
    return value
def reported(value):
    return repr(value)
def lost():
    return errors.LeakError("lost")
from pipeline.errors import LeakError, RowError
""",
    "exports.py": "from pipeline.numbers import checked as verified, area as other\n",
    "effects.py": "print('imported')\nUNUSED = 1\n",
    "nested/__init__.py": "SETTING = 1\nprint('package')\n",
    "nested/deep.py": """from ..numbers import SIDE as side
from . import leaf
def deep():
    return side + leaf.LEAF
""",
    "nested/leaf.py": "LEAF = 1\nBARE = 1\n",
    "lazy.py": "print('lazy')\n",
    "named.py": "FOUND = 1\n",
    "starred.py": "STAR = 1\n",
    "pages/__init__.py": "",
    "pages/page.py": "from pathlib import Path\nSTYLE = Path(__file__).with_name('page.css').read_text()\n",
    "pages/page.css": "p { margin: 1em; }\n",
    "notes.txt": "nothing reads this\n",
    "fast.py": "def quick():\n    return 1\n",
    "first.py": "def run():\n    return 1\n",
    "second.py": "def run():\n    return 2\n",
    "guarded.py": "EITHER = 1\nCONSTANT: int = 1\n",
    "stage.py": FUTURE
    + """import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
import pipeline.effects
from pipeline import numbers, schema
from pipeline.exports import other, verified
from pipeline.nested.deep import deep
from pipeline.pages.page import STYLE
from pipeline.starred import *
if TYPE_CHECKING:
    from pipeline.guarded import CONSTANT
else:
    from pipeline.guarded import EITHER
try:
    from pipeline.fast import quick
except ImportError:
    quick = None
LEFT, RIGHT = 1, 2
def decorated(function):
    return function
class Base:
    size = 1
@dataclass
class Row:
    width: int
class Work(Base):
    def run(self, params: schema.Submit) -> float:
        return numbers.area(verified(3)) + len(params.text) + self.size + RIGHT + STAR
def one():
    import pipeline.lazy
    from pipeline.first import run
    return run()
def two():
    from pipeline.second import run
    return run()
def main() -> None:
    Row(Work().run(schema.Submit(prior="a")))
    one(), two(), other, deep(), quick(), EITHER, STYLE
    importlib.import_module("pipeline.named")
main = decorated(main)
if __name__ == "__main__":
    main()
""",
}
SAME = {
    "comment": ("numbers.py", "    # a comment\n", "    # another\n\n"),
    "docstring": ("numbers.py", "An area.", "An area in pixels."),
    "docstring of a schema": ("schema.py", "A schema.", "The schema."),
    "layout": ("numbers.py", "size: int = width * height", "size: int = (width\n        * height)"),
    "error": ("numbers.py", '"negative")', '"less than 0")'),
    "f-string of an error": ("numbers.py", "nothing: {reported(value)}; look", "none ({helper(value)})"),
    "error that is built and raised elsewhere": ("numbers.py", '"lost"', '"none"'),
    "what an error calls": ("numbers.py", "return repr(value)", "return str(value)"),
    "unrelated function": ("numbers.py", "def helper", "def new(): ...\ndef helper"),
    "unreached function": ("numbers.py", "def helper(value):\n    return value", "def helper(value):\n    return 1"),
    "unreached constant": ("numbers.py", "UNUSED = 1", "UNUSED = 2"),
    "name of a comprehension": ("numbers.py", "for size in ()", "for size in (1,)"),
    "field of a schema": ("schema.py", "    prior: str\n", "    prior: str\n    most: int\n"),
    "validator": ("schema.py", "        return prior\n", "        return prior or 'uniform'\n"),
    "annotation": ("numbers.py", "width: int, height: int = SIDE) -> float", "width: RowError, height=SIDE)"),
    "annotation of a local": ("numbers.py", "size: int =", "size: float ="),
    "for the type checker": ("guarded.py", "CONSTANT: int = 1", "CONSTANT: int = 2"),
    "main block": ("stage.py", "    main()\n", "    print(main())\n"),
    "another part of a module": ("nested/leaf.py", "BARE = 1", "BARE = 2"),
    "file that no module reads": ("notes.txt", "nothing", "none"),
    "file": ("new.py", "", "print('new')\n"),
}
OTHER = {
    "constant": ("numbers.py", "SIDE = 28", "SIDE = 32"),
    "one of a tuple": ("stage.py", "LEFT, RIGHT = 1, 2", "LEFT, RIGHT = 1, 3"),
    "body two modules away": ("numbers.py", "    if value < 0", "    if value < 1"),
    "body": ("numbers.py", "width * height", "width + height"),
    "default": ("numbers.py", "height: int = SIDE", "height: int = 3"),
    "decorator": ("numbers.py", "def area", "@helper\ndef area"),
    "base": ("stage.py", "    size = 1", "    size = 2"),
    "bases": ("stage.py", "Work(Base)", "Work(dict)"),
    "bound again": ("stage.py", "main = decorated(main)\n", ""),
    "statement": ("numbers.py", "range(3)", "range(4)"),
    "statement of an imported module": ("effects.py", "'imported'", "'run'"),
    "statement of a package": ("nested/__init__.py", "'package'", "'run'"),
    "new statement of a re-exporting module": ("exports.py", "\n", "\nprint('new')\n"),
    "attribute of an alias": ("stage.py", "numbers.area(", "numbers.helper("),
    "re-export": ("exports.py", "checked as verified", "helper as verified"),
    "re-exports that swap": ("exports.py", "checked as verified, area as other", "area as verified, checked as other"),
    "relative import": ("nested/leaf.py", "LEAF = 1", "LEAF = 2"),
    "reason of another exception": ("numbers.py", '"negative row"', '"the row is negative"'),
    "kind of error": ("numbers.py", "raise LeakError(", "raise errors.SketchstackError("),
    "property of a schema": ("schema.py", "self.prior.upper()", "self.prior.lower()"),
    "default of a field": ("schema.py", "    prior: str\n", '    prior: str = "uniform"\n'),
    "field of a dataclass": ("stage.py", "    width: int\n", "    width: float\n"),
    "library": ("numbers.py", "import math", "import cmath as math"),
    "statement of a module imported in a function": ("lazy.py", "'lazy'", "'run'"),
    "what a function imports": ("stage.py", "import pipeline.lazy\n", "import pipeline.lazy, json\n"),
    "literal import": ("named.py", "FOUND = 1", "FOUND = 2"),
    "import *": ("starred.py", "STAR = 1", "STAR = 2"),
    "import in a try": ("fast.py", "return 1", "return 2"),
    "import unless for the type checker": ("guarded.py", "EITHER = 1", "EITHER = 2"),
    "first of two of a name": ("first.py", "return 1", "return 3"),
    "second of two of a name": ("second.py", "return 2", "return 3"),
    "file that a module reads beside it": ("pages/page.css", "1em", "2em"),
    "annotations that are evaluated": ("numbers.py", FUTURE, ""),
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "pipeline"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def stage(package: Path, *roots: str) -> str:
    return Code(package.parent).fingerprint(*(roots or ["pipeline.stage:main"]))


def edit(package: Path, name: str, before: str, after: str) -> None:
    path = package / name
    text = path.read_text() if path.exists() else ""
    assert before in text
    path.write_text(text.replace(before, after) if before else text + after)


@pytest.mark.parametrize(("name", "before", "after"), SAME.values(), ids=SAME)
def test_what_cannot_change_a_result_changes_nothing(name, before, after, package):
    known = stage(package)
    edit(package, name, before, after)
    assert stage(package) == known


@pytest.mark.parametrize(("name", "before", "after"), OTHER.values(), ids=OTHER)
def test_what_can_change_a_result_changes_the_fingerprint(name, before, after, package):
    known = stage(package)
    edit(package, name, before, after)
    assert stage(package) != known


def test_neither_the_order_of_definitions_nor_the_place_of_the_package_counts(package, tmp_path):
    known = stage(package)
    edit(package, "stage.py", "class Base:\n    size = 1\n", "")
    edit(package, "stage.py", "def decorated", "class Base:\n    size = 1\ndef decorated")
    assert stage(package) == known
    assert stage(shutil.copytree(package, tmp_path / "elsewhere" / "pipeline")) == known


def test_annotations_that_are_evaluated_count(package):
    edit(package, "numbers.py", FUTURE, "")
    known = stage(package)
    edit(package, "numbers.py", "-> float", "-> int")
    assert stage(package) != known


@pytest.mark.parametrize("use", ["print(numbers)", "getattr(numbers, 'area')", "numbers.__dict__"])
def test_a_module_that_is_passed_on_counts_whole(use, package):
    edit(package, "stage.py", "    Row(", f"    {use}\n    Row(")
    known = stage(package)
    edit(package, "numbers.py", "UNUSED = 1", "UNUSED = 2")
    assert stage(package) != known
    assert "pipeline.numbers:*" in Code(package.parent).reached("pipeline.stage:main")


def test_modules_that_import_a_name_from_each_other_end(package):
    (package / "first.py").write_text("from pipeline.second import lost\n")
    (package / "second.py").write_text("from pipeline.first import lost\ndef go():\n    return lost\n")
    assert "pipeline.second:go" in Code(package.parent).reached("pipeline.second:go")


def test_what_is_reached_can_be_read(package):
    code = Code(package.parent)
    assert code.reached("pipeline.nested.deep:deep") == [
        "pipeline.nested.deep:deep",
        "pipeline.nested.leaf:LEAF",
        "pipeline.nested:<statements>",
        "pipeline.numbers:<statements>",
        "pipeline.numbers:SIDE",
        "pipeline.numbers:TABLE",
    ]
    assert "pipeline.effects:*" in code.reached("pipeline.effects")


def test_a_package_may_have_another_name(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "stage.py").write_text("from other.numbers import SIDE\ndef main():\n    return SIDE\n")
    (tmp_path / "other" / "numbers.py").write_text("SIDE = 28\n")
    assert Code(tmp_path, "other").reached("other.stage:main") == ["other.numbers:SIDE", "other.stage:main"]


def test_unknown_roots_and_broken_files_are_named(package):
    code = Code(package.parent)
    with pytest.raises(SketchstackError, match=r"no module pipeline\.stagee .*near it: pipeline\.stage"):
        code.fingerprint("pipeline.stagee")
    with pytest.raises(SketchstackError, match=r"pipeline\.stage defines no 'mian'; it has main"):
        code.fingerprint("pipeline.stage:mian")
    (package / "numbers.py").write_text("SIDE = 1\ndef broken(:\n")
    with pytest.raises(SketchstackError, match=r"numbers\.py, line 2 is not Python"):
        stage(package)


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
    ("report/page.css", "{", "{ margin: 0;", {"report"}),
    ("foundation/fingerprints.py", "sha256(", "sha3_256(", set()),
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
