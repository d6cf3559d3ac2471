"""The published code: CSVs of all words shuffled with pandas, then batches drawn one drawing at a time.

Written after the notebooks that most entrants of the competition started from, with their constants: "Shuffle CSVs"
and "Greyscale MobileNet" (kaggle.com/gaborfodor). Both run on one core; beside each stands the same on several.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
import pandas as pd

NCSVS = 100
BASE_SIZE = 256
BATCH_SIZE = 680
Batch = tuple[np.ndarray, np.ndarray]
Parse = Callable[[str], Any]


def categories(train: Path) -> list[str]:
    """The words in the order of their labels: the names of the files, sorted without regard to case."""
    return sorted((path.stem for path in train.glob("*.csv")), key=str.lower)


def append_words(train: Path, words: Iterable[tuple[int, str]], place: Path) -> None:
    """Read each word's CSV and append every row to the CSV that its key_id leads to; the key_id is dropped."""
    for y, word in words:
        df = pd.read_csv(train / f"{word}.csv", parse_dates=["timestamp"])
        df["y"] = y
        df["cv"] = (df.key_id // 10**7) % NCSVS
        for k in range(NCSVS):
            path = place / f"train_k{k}.csv"
            chunk = df[df.cv == k].drop(["key_id"], axis=1)
            chunk.to_csv(path, mode="a", header=not path.exists(), index=False)


def shuffle_csv(parts: Sequence[Path], path: Path) -> None:
    """Put the rows of some CSVs into a random order and into one gzipped CSV; the CSVs are removed."""
    df = pd.concat([pd.read_csv(part) for part in parts])
    df["rnd"] = np.random.default_rng().random(len(df))
    df = df.sort_values(by="rnd").drop("rnd", axis=1)
    df.to_csv(path, compression="gzip", index=False)
    for part in parts:
        part.unlink()


def shuffle_csvs(train: Path, place: Path) -> None:
    """Shuffle the words' CSVs of a folder into `train_k<k>.csv.gz`."""
    append_words(train, enumerate(categories(train)), place)
    for path in sorted(place.glob("train_k*.csv")):
        shuffle_csv([path], place / f"{path.name}.gz")


def shuffle_csvs_in_processes(train: Path, place: Path, processes: int) -> None:
    """The same in several processes, each with CSVs of its own until they are joined."""
    words = list(enumerate(categories(train)))
    folders = [place / f"process{n}" for n in range(processes)]
    for folder in folders:
        folder.mkdir()
    parallel = joblib.Parallel(n_jobs=processes)
    parallel(joblib.delayed(append_words)(train, words[n::processes], folder) for n, folder in enumerate(folders))
    names = sorted({path.name for folder in folders for path in folder.iterdir()})
    parallel(
        joblib.delayed(shuffle_csv)(
            [path for folder in folders if (path := folder / name).exists()], place / f"{name}.gz"
        )
        for name in names
    )
    for folder in folders:
        shutil.rmtree(folder)


def draw_cv2(raw_strokes: list[list[list[int]]], size: int, lw: int = 6, time_color: bool = True) -> np.ndarray:
    """Draw a drawing line by line on 256 × 256 pixels, paler from stroke to stroke; resize: (size, size) uint8."""
    img = np.zeros((BASE_SIZE, BASE_SIZE), np.uint8)
    for t, stroke in enumerate(raw_strokes):
        for i in range(len(stroke[0]) - 1):
            color = 255 - min(t, 10) * 13 if time_color else 255
            _ = cv2.line(img, (stroke[0][i], stroke[1][i]), (stroke[0][i + 1], stroke[1][i + 1]), color, lw)
    return cv2.resize(img, (size, size)) if size != BASE_SIZE else img


def preprocess_input(x: np.ndarray) -> np.ndarray:
    """Grey levels to -1..1 in place, as keras.applications.mobilenet does."""
    x /= 127.5
    x -= 1.0
    return x


def to_categorical(y: pd.Series, num_classes: int) -> np.ndarray:
    """Labels as one-hot rows, (B, num_classes) float64, as keras.utils does."""
    return np.eye(num_classes)[y]


def batch(df: pd.DataFrame, size: int, num_classes: int, parse: Parse = json.loads) -> Batch:
    """Some rows of a CSV as (B, size, size, 1) float32 in -1..1 and one-hot labels."""
    df["drawing"] = df["drawing"].apply(parse)
    x = np.zeros((len(df), size, size, 1))
    for i, raw_strokes in enumerate(df.drawing.values):
        x[i, :, :, 0] = draw_cv2(raw_strokes, size=size)
    return preprocess_input(x).astype(np.float32), to_categorical(df.y, num_classes)


def image_generator(place: Path, size: int, num_classes: int, parse: Parse = json.loads) -> Iterator[Batch]:
    """Batches without end, the shuffled CSVs in a random order."""
    paths = sorted(place.glob("train_k*.csv.gz"))
    while True:
        for k in np.random.default_rng().permutation(len(paths)):
            for df in pd.read_csv(paths[k], chunksize=BATCH_SIZE):
                yield batch(df, size, num_classes, parse)


def images_in_processes(place: Path, size: int, num_classes: int, processes: int) -> Iterator[Batch]:
    """The batches of one pass, made in several processes a CSV at a time, in the order in which they are ready."""
    parallel = joblib.Parallel(n_jobs=processes, return_as="generator_unordered")
    paths = sorted(place.glob("train_k*.csv.gz"))
    for batches in parallel(joblib.delayed(_batches_of)(path, size, num_classes) for path in paths):
        yield from batches


def _batches_of(path: Path, size: int, num_classes: int) -> list[Batch]:
    return [batch(df, size, num_classes) for df in pd.read_csv(path, chunksize=BATCH_SIZE)]
