"""What all tests share."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from pipeline.foundation.environment import GPUS

# Without a GPU nothing needs triton, and its LLVM crashes a process that has loaded TensorFlow, as that of tests may.
if not GPUS.exists():
    sys.modules["triton"] = None  # type: ignore[assignment]

ROOT = Path(__file__).parent.parent
MINI = ROOT / "data" / "mini"


def run_main(module: ModuleType, *arguments: object) -> None:
    """Run `python -m` of a module of ours in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module.__name__.rpartition(".")[2], *map(str, arguments)])
        module.main()


def failing_main(module: ModuleType, *arguments: object) -> str:
    """The paragraph with which a command ends, on one line."""
    with pytest.raises(SystemExit) as failed:
        run_main(module, *arguments)
    return " ".join(str(failed.value.code).split())


class FinishedRun(NamedTuple):
    """A finished run; tests that change it copy it first.

    Attributes:
        home: its folder.
        shown: what each drawing shows, by key_id.
    """

    home: Path
    shown: dict[int, str]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> FinishedRun:
    """A small run with all that its stages write; see tests/finished.py."""
    from tests.finished import finish_run

    home = tmp_path_factory.mktemp("finished")
    return FinishedRun(home, finish_run(home))


@pytest.fixture
def copied_run(finished_run, tmp_path, monkeypatch) -> Path:
    """A copy of a finished run, to be in and to break."""
    place = tmp_path / "run"
    shutil.copytree(finished_run.home, place)
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="session")
def mini() -> Path:
    """The folder of real drawings; a test that asks for it skips where there is none."""
    if not (MINI / "train_simplified").is_dir():
        pytest.skip("data/mini is absent: bring real drawings with `make data NAME=mini FROM=FOLDER`")
    return MINI
