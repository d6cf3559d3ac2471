"""What all tests share."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

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


@pytest.fixture(scope="session")
def mini() -> Path:
    """The folder of real drawings; a test that asks for it skips where there is none."""
    if not (MINI / "train_simplified").is_dir():
        pytest.skip("data/mini is absent: bring real drawings with `make data NAME=mini FROM=FOLDER`")
    return MINI
