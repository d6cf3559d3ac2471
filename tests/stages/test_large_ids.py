"""Ids from 2^63 to 2^64 - 1 come out of every stage as they were read."""

import csv

import numpy as np
import pytest

from pipeline.drawings.shards import TEST, open_shards
from pipeline.drawings.words import Words, load_words
from pipeline.foundation.errors import SketchstackError
from pipeline.raw.columns import read_columns, read_key_ids, written_ids
from pipeline.raw.corrections import Correction, record
from pipeline.submissions.files import check_submission, sample_key_ids, write_submission
from pipeline.submissions.scoring import read_labels
from tests.rawfiles import csv_line, failing_shuffle, line_of_test, run_shuffle, write_competition

ANT = 2**63 + 1000  # the first id of the word
LARGE = [0, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 7, 2**64 - 1]


def competition(home, **changes):
    train = {
        word: [csv_line(first + n, word, drawing=[[[n], [label]]]) for n in range(12)]
        for label, (word, first) in enumerate([("ant", ANT), ("bee", 2**64 - 100)])
    }
    train |= {word: [*lines, *changes.get(word, [])] for word, lines in train.items()}
    rest = {name: value for name, value in changes.items() if name not in train}
    write_competition(home, train, max_rejected=0.5, **rest)


def test_a_submission_has_the_ids_of_the_sample(tmp_path):
    competition(tmp_path, test=[line_of_test(key_id % 65536, key_id=str(key_id)) for key_id in LARGE])
    folds = run_shuffle(tmp_path)
    test = open_shards([folds / TEST])
    assert written_ids(test.key_id).tolist() == LARGE
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("key_id,word\n" + "".join(f"{key_id},ant bee cat\n" for key_id in LARGE))
    asked = sample_key_ids(sample)
    assert np.array_equal(asked, test.key_id)
    write_submission(tmp_path / "made.csv", asked, np.tile([0, 1, 2], (len(LARGE), 1)), Words(("ant", "bee", "cat")))
    assert (tmp_path / "made.csv").read_text() == sample.read_text()
    check_submission(tmp_path / "made.csv", asked, ["ant", "bee", "cat"])
    (tmp_path / "made.csv").write_text(sample.read_text().replace(f"{2**64 - 1},", "5,"))
    with pytest.raises(SketchstackError, match="key_id 18446744073709551615, which the sample has"):
        check_submission(tmp_path / "made.csv", asked, ["ant", "bee", "cat"])


def test_labels_are_found_by_the_ids_of_the_file(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("key_id,word\n" + "".join(f"{key_id},ant\n" for key_id in LARGE))
    assert list(read_labels(path)) == LARGE
    assert written_ids(read_key_ids(path, read_columns(path, ["key_id"])["key_id"])).tolist() == LARGE


def test_corrections_and_rejects_name_the_ids_of_the_file(tmp_path):
    competition(tmp_path, ant=[csv_line(ANT, "ant"), csv_line(5, "ant", key_id=2**64)])
    corrections = [
        Correction("data/synthetic", ANT + 1, "ant", "bee"), Correction("data/synthetic", 2**64 - 99, "bee", "drop"),
    ]  # fmt: skip
    assert record(corrections, tmp_path / "corrections.csv") == 2
    assert f"data/synthetic,{2**64 - 99},bee,drop" in (tmp_path / "corrections.csv").read_text()
    folds = run_shuffle(tmp_path)
    shards = open_shards([folds / f"fold{number}" for number in range(5) if (folds / f"fold{number}").is_dir()])
    labels = dict(zip(written_ids(shards.key_id).tolist(), shards.word.tolist(), strict=True))
    words = load_words(folds)
    assert labels[ANT + 1] == words.index["bee"]
    assert 2**64 - 99 not in labels
    with (folds / "rejects.csv").open(newline="") as file:
        rejects = {(row["key_id"], row["reason"].split(":")[0]) for row in csv.DictReader(file)}
    assert rejects == {
        (str(2**64), "key_id is not a 64-bit integer"),
        (str(ANT), "duplicate key_id"),
        (str(2**64 - 99), "corrections.csv"),
    }


def test_an_id_of_training_and_test_is_told_as_it_is_written(tmp_path):
    competition(tmp_path, test=[line_of_test(1, key_id=str(ANT + 3)), line_of_test(2)])
    assert f"key_id {ANT + 3} is in" in failing_shuffle(tmp_path)
