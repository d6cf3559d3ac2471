"""A short fuzz run finds nothing, and would find a reader that leaves files or rows out."""

import json

import pytest

from bench import fuzz
from pipeline.raw import listing
from pipeline.raw.readers import RowReader


def test_a_short_fuzz_finds_nothing(tmp_path):
    cases = fuzz.fuzz(3, range(25))
    assert [(case.number, case.faults) for case in cases if case.faults] == []
    assert any(case.accepted and case.rows for case in cases)
    assert any(case.error for case in cases)
    path = fuzz.record(cases, 3, 1, "abc", tmp_path)
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["cases"] == found["accepted"] + found["refused"] == 25
    assert "25 raw folders" in path.read_text()


def test_a_reader_that_leaves_files_out_is_found(monkeypatch):
    monkeypatch.setattr(listing, "check_refused", lambda place, refused: None)
    faults = [fault for case in fuzz.fuzz(3, range(3, 5)) for fault in case.faults]
    assert any("neither read nor named" in fault for fault in faults)


def test_a_reader_that_loses_rows_is_found(monkeypatch):
    read_slowly = RowReader._read_slowly

    def forgetful(self, text, line):
        yield from () if line % 2 else read_slowly(self, text, line)

    monkeypatch.setattr(RowReader, "_read_slowly", forgetful)
    faults = [fault for case in fuzz.fuzz(3, range(10)) for fault in case.faults]
    assert any("lines in the files" in fault for fault in faults)


def test_a_traceback_is_found(monkeypatch):
    monkeypatch.setattr(listing, "BROKEN", (KeyError,))
    faults = [fault for case in fuzz.fuzz(3, range(26, 27)) for fault in case.faults]
    assert any(fault.startswith("traceback") for fault in faults)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ("data/own/x is bad.\nFix it.", "no paragraph"),
        ("something is bad", "names no file"),
        ("data/own/x is bad; fetch it again", "tells to fetch"),
        ("data/own/\udcff is bad", "cannot be printed"),
    ],
)
def test_a_bad_error_is_found(error, fault):
    assert any(fault in each for each in fuzz._faults_of(error))
