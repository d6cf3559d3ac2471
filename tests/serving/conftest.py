"""A small trained competition, and packs of it."""

from __future__ import annotations

import pytest

from pipeline.commands import pack
from tests.conftest import run_main
from tests.smallsets import Small, run_stages, write

WORDS = {"round": 20, "square": 20, "star": 20, "t-shirt": 20}


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """The folder of a trained competition of four words and two torch learners."""
    home = tmp_path_factory.mktemp("small")
    chosen = {"stack.metalearners": ["arithmetic_mean", "logistic", "ranker"], "submit.prior": None}
    write(Small(WORDS, test=30, params=chosen), home)
    run_stages(home)
    return home


@pytest.fixture(scope="session")
def packs(small_run, tmp_path_factory):
    """A pack of the SuperLearner, and one of seresnet with weights of int8."""
    folder = tmp_path_factory.mktemp("packs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(small_run)
        run_main(pack, folder / "float32.zip")
        run_main(pack, folder / "int8.zip", "--model", "seresnet", "--weights", "int8")
    return folder


@pytest.fixture
def home(small_run, monkeypatch):
    """The folder of the competition, which is the one at hand."""
    monkeypatch.chdir(small_run)
    return small_run
