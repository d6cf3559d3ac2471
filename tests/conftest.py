"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MINI = ROOT / "data" / "mini"


@pytest.fixture(scope="session")
def mini() -> Path:
    """The folder of real drawings; a test that asks for it skips where there is none."""
    if not (MINI / "train_simplified").is_dir():
        pytest.skip("data/mini is absent: bring real drawings with `make data NAME=mini FROM=FOLDER`")
    return MINI
