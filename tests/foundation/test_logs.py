"""logs/ is a luxury: nothing stops for a note that is damaged or cannot be written."""

from __future__ import annotations

import pytest

from pipeline.foundation.logs import luxury, note, noted, seconds_of


def test_a_note_comes_back(tmp_path):
    note(tmp_path / "stack" / "seconds.json", {"fit": 1.5, "score": 2})
    assert noted(tmp_path / "stack" / "seconds.json") == {"fit": 1.5, "score": 2}


@pytest.mark.parametrize("text", ["", "null", "[1, 2]", '{"fit": 1', '"fit"', "\x00\xff"])
def test_a_damaged_note_is_none(text, tmp_path):
    (tmp_path / "seconds.json").write_text(text, encoding="latin-1")
    assert noted(tmp_path / "seconds.json") == {}
    assert seconds_of(tmp_path / "seconds.json") == {}


@pytest.mark.parametrize("value", [None, "1.5", [1], {"a": 1}])
def test_seconds_that_are_no_numbers_are_none(value, tmp_path):
    note(tmp_path / "seconds.json", {"fit": value, "score": 2.0})
    assert seconds_of(tmp_path / "seconds.json") == {}


def test_a_folder_in_its_place_or_none_at_all_is_none(tmp_path):
    (tmp_path / "seconds.json").mkdir()
    assert noted(tmp_path / "seconds.json") == {}
    assert noted(tmp_path / "missing" / "seconds.json") == {}


def test_a_note_that_cannot_be_written_is_a_warning(tmp_path, capsys):
    (tmp_path / "logs").write_text("a file stands where the folder belongs")
    note(tmp_path / "logs" / "seconds.json", {"fit": 1})
    assert capsys.readouterr().out.startswith("warning: a log is not written (")


def test_whatever_a_library_raises_while_it_logs_is_a_warning(capsys):
    @luxury
    def log():
        raise RuntimeError("disk I/O error")

    log()
    assert capsys.readouterr().out == "warning: a log is not written (disk I/O error); no result depends on it.\n"
