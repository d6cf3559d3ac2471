"""Artefacts are whole or absent, whatever happens while they are written."""

import hashlib

import pytest

from pipeline.foundation.artefacts import file_hash, whole_file, whole_folder


def fail_half_way(writing, *inside):
    """Write half of an artefact and fail."""

    def half():
        with writing as path:
            path.joinpath(*inside).write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()


def test_a_folder_takes_its_place_when_it_is_filled(tmp_path):
    place = tmp_path / "models" / "fold0"
    with whole_folder(place) as folder:
        (folder / "oof.npy").write_text("new")
        assert not place.exists()
    assert (place / "oof.npy").read_text() == "new"
    assert [path.name for path in place.parent.iterdir()] == ["fold0"]


def test_a_folder_replaces_the_old_one_and_keeps_none_of_its_files(tmp_path):
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "stale").write_text("old")
    with whole_folder(tmp_path / "folds") as folder:
        (folder / "fresh").write_text("new")
    assert [path.name for path in (tmp_path / "folds").iterdir()] == ["fresh"]


def test_a_failure_leaves_the_old_folder_untouched(tmp_path):
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "words.json").write_text("old")
    fail_half_way(whole_folder(tmp_path / "folds"), "words.json")
    assert (tmp_path / "folds" / "words.json").read_text() == "old"


def test_what_a_killed_run_left_beside_is_not_taken_over(tmp_path):
    fail_half_way(whole_folder(tmp_path / "folds"), "half")
    with whole_folder(tmp_path / "folds") as folder:
        assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["folds"]


def test_a_file_takes_its_place_when_it_is_written(tmp_path):
    place = tmp_path / "curves" / "fold0.csv"
    with whole_file(place) as file:
        file.write_text("new")
        assert not place.exists()
    assert place.read_text() == "new"
    assert [path.name for path in place.parent.iterdir()] == ["fold0.csv"]


def test_a_failure_leaves_the_old_file_untouched(tmp_path):
    place = tmp_path / "ledger.csv"
    place.write_text("old")
    fail_half_way(whole_file(place))
    assert place.read_text() == "old"


def test_a_file_hash_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"sketch")
    assert file_hash(tmp_path / "file") == hashlib.sha256(b"sketch").hexdigest()
