"""A choice of `make chaos`: a small run survives kills, full disks, damage, odd environments and a broken Kaggle."""

from __future__ import annotations

import pytest

from bench.chaos.__main__ import KINDS, chaos, summary
from bench.chaos.tries import Try

pytestmark = pytest.mark.slow


def test_a_small_run_survives_a_choice_of_everything(tmp_path):
    tries = chaos(tmp_path, list(KINDS), share=0.04, seed=1)
    assert {each.kind for each in tries} == set(KINDS)
    assert [f"{each.kind}, {each.name}: {each.faults}" for each in tries if not each.held] == []


def test_the_table_counts_kills_and_names_what_failed():
    tries = [Try("kills", "a", (), 60.0), Try("kills", "b", ("other bytes",), 60.0), Try("disks", "c", (), 30.0)]
    assert summary(tries) == [("disks", 1, 1, 0, 0.5), ("kills", 24, 12, 12, 2.0)]
