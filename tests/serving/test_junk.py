"""Junk gets a 4xx with field, reason and remedy, in bounded memory, and the server goes on."""

from __future__ import annotations

import pytest

from bench.junk import KINDS, attack, junk, page
from tests.serving.toy_pack import write_toy_pack

EACH = 12  # requests of a kind


def test_junk_is_the_same_for_a_seed_and_of_every_kind():
    count = len(KINDS)
    sent = [junk(number, seed=1) for number in range(count)]
    assert {each.kind for each in sent} == set(KINDS)
    assert sent == [junk(number, seed=1) for number in range(count)]
    assert sent != [junk(number + count, seed=1) for number in range(count)]


@pytest.mark.slow
def test_each_junk_request_gets_a_4xx_in_bounded_memory(tmp_path):
    found = attack(write_toy_pack(tmp_path / "toy.zip"), EACH * len(KINDS), seed=3)
    assert found.faults == []
    assert found.alive
    assert found.most - found.before < 200e6
    assert f"{EACH * len(KINDS)} requests, 0 without a 4xx" in page(found)
