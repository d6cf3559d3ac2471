"""The files of a synthetic competition in Kaggle's exact format, with the true words of its test set.

Every drawing is a template of `pipeline.synthetic.figures` in a random drawing style: people slant, tremble, hurry,
round corners, leave gaps or overshoot, forget strokes, draw them in another order or backwards, scribble, run out of
time, or misread the word. Each drawing has its own random generator, so it does not depend on the other words or on
the number of drawings.
"""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from pipeline.drawings.kaggle_csv import KaggleRow, write_test_files, write_training_file
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params
from pipeline.foundation.places import PARAMS
from pipeline.synthetic.drawing import draw, drawing_json
from pipeline.synthetic.figures import FIGURES

TRAIN, TEST = 0, 1  # the parts of the competition; part of every seed
FIRST_KEY_ID = {TRAIN: 4_500_000_000_000_000, TEST: 9_000_000_000_000_000}  # 16 digits as on Kaggle
KEY_IDS = 900_000_000_000_000
MISREAD = 24  # a misread word is one of the first MISREAD figures, so adding words changes no existing drawing
COUNTRIES = ["US", "GB", "DE", "RU", "SE", "FR", "BR", "SA", "KR", "JP"]
OPENED = datetime(2017, 1, 23)  # first day of Kaggle's data, which end in March 2017


def row(word: str, number: int, part: int, *, seed: int, unrecognized: float, mislabelled: float) -> KaggleRow:
    """Drawing `number` of a word in the training or test part: a pure function of its arguments.

    Args:
        word: a key of FIGURES.
        number: of the drawing among the word's drawings in this part.
        part: TRAIN or TEST.
        seed: of the competition.
        unrecognized: probability that the drawing is unfinished.
        mislabelled: probability that it shows another word.
    """
    rng = np.random.default_rng([seed, zlib.crc32(word.encode()), part, number])
    key_id = FIRST_KEY_ID[part] + int(rng.integers(KEY_IDS))
    time = OPENED + timedelta(microseconds=int(rng.integers(67 * 24 * 3600 * 10**6)))
    country = COUNTRIES[min(int(rng.exponential(2.5)), len(COUNTRIES) - 1)]
    unfinished, misread = rng.random() < unrecognized, rng.random() < mislabelled
    shown = rng.choice([other for other in list(FIGURES)[:MISREAD] if other != word]) if misread else word
    drawing = drawing_json(draw(shown, rng, unfinished=unfinished))
    return KaggleRow(key_id, country, drawing, not unfinished, f"{time:%Y-%m-%d %H:%M:%S.%f}", word)


def write_train(folder: Path, params: Params) -> None:
    """Write `<word>.csv` of every word into a new folder."""
    folder.mkdir()
    chances = params.synthesize.model_dump(include={"unrecognized", "mislabelled"})
    for word in FIGURES:
        rows = (row(word, k, TRAIN, seed=params.seed, **chances) for k in range(params.synthesize.train_rows))
        write_training_file(folder / f"{word}.csv", rows)


def write_test(folder: Path, params: Params) -> None:
    """Write the test drawings, the sample submission and the true words."""
    chances = {"unrecognized": params.synthesize.unrecognized, "mislabelled": 0.0}  # test labels are never wrong
    numbers = range(params.synthesize.test_rows)
    write_test_files(
        (row(word, k, TEST, seed=params.seed, **chances) for word in FIGURES for k in numbers),
        FIGURES,
        test=folder / params.data.test,
        sample=folder / params.data.sample_submission,
        labels=folder / params.data.labels if params.data.labels else None,
    )


def check_place(params: Params) -> None:
    """Refuse to replace files that `synthesize` does not write.

    Raises:
        SketchstackError: there is one in the folder of the competition.
    """
    folder, data = Path(params.data.folder), params.data
    ours = {Path(data.train, f"{word}.csv") for word in FIGURES}
    ours |= {Path(name) for name in (data.test, data.sample_submission, data.labels) if name}
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder) not in ours:
            raise SketchstackError(
                f"{path} is no file of the synthetic competition, and {folder} would be replaced with all it holds; "
                f"move it away, or set synthesize.competitions to [] in {PARAMS} to use the raw files that lie there."
            )


def check_profile(competition: str, params: Params) -> None:
    """Refuse to overwrite raw files of another competition.

    Raises:
        SketchstackError: the params in force belong to another profile, or read raw files from another folder.
    """
    listed, folder = params.synthesize.competitions, Path("data", competition)
    if competition not in listed:
        raise SketchstackError(
            f"{PARAMS}: synthesize.competitions is {listed}, so {competition!r} must not be written for profile "
            f"{params.profile!r}; name a listed competition, or first activate the profile that lists it "
            f"(`make profile NAME=synthetic`)."
        )
    if Path(params.data.folder) != folder:
        raise SketchstackError(
            f"{PARAMS}: data.folder is {params.data.folder}, but the competition {competition!r} goes to {folder}; "
            f"set data.folder to {folder}, or synthesize.competitions to [] to use its raw files."
        )
