"""Plain baselines for the score: the published MobileNetV2 and a three-layer CNN, with the time of a learner.

Both train on the rows that a learner trains on and are scored by MAP@3 on all rows of the fold that it never saw. Their
learning rate follows the clock, up at first and then down to zero at the end, so that each uses all the time it has.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from bench import reference
from bench.competition import mini_params, run_shuffle, scratch_folder, seconds_of, write_copies
from bench.first_batch_once import HELD_OUT
from bench.tables import RESULTS, Bar, Measured, Row, record, show
from pipeline.drawings.encodings import identity, raster, set_threads
from pipeline.drawings.shards import Shards, open_shards
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import Params
from pipeline.foundation.places import places
from pipeline.predictions.cache import model_folder
from pipeline.predictions.metrics import map_at_3, top3
from pipeline.training.fitting import others

if TYPE_CHECKING:
    import torch

MOBILENET_SIDE, MOBILENET_RATE = 64, 0.002
CNN_SIDE, CNN_RATE, CNN_BATCH, CNN_DROPOUT = 28, 0.004, 128, 0.3
FILTERS, MORE_FILTERS = (10, 20, 40), (32, 64, 128)
WARMUP = 0.1  # share of the time
PREDICT = 512
NOTES = [
    "Each trains on the rows of two folds and is scored on all rows of the third, once, as drawn; `ours` is a single "
    "learner's MAP@3 there, with its mirrored view where its params ask for that. Their time is that of its fit. The "
    "rate follows the clock, from the building of the network on; imports and preparation are not counted.",
    f"cnn: convolutions 5 by 5 of {FILTERS} filters with batch norm and max pooling, a linear layer, Adam; torch in "
    f"bfloat16; pictures of {CNN_SIDE} px by the project's own raster, in memory, undistorted. wide_cnn: the same with "
    f"{MORE_FILTERS} filters.",
    f"mobilenet: MobileNetV2 of keras.applications in TensorFlow, {MOBILENET_SIDE} px, fed by the published generator; "
    f"chunks of {reference.BATCH_SIZE} rows, Adam, batch norms that average over fewer steps than by default.",
]


class Scored(NamedTuple):
    """What a reference came to.

    Attributes:
        map3: MAP@3 on the held-out fold.
        drawings: that it trained on, each as often as it came.
        rows: there are for training.
        seconds: of training, the building of the network included.
    """

    map3: float
    drawings: int
    rows: int
    seconds: float


class Competition(NamedTuple):
    """The drawings, as the references take them.

    Attributes:
        home: has the folds.
        published: the CSVs of the published way in `train`, and in `held_out` the fold's rows as a CSV a word.
        num_words: to tell apart.
        folds: all folds.
        threads: of the arithmetic.
    """

    home: Path
    published: Path
    num_words: int
    folds: list[int]
    threads: int

    def shards(self) -> tuple[Shards, Shards]:
        """The training rows and the held-out rows."""
        training = [self.home / places(self.home).folds / f"fold{fold}" for fold in others(self.folds, HELD_OUT)]
        return open_shards(training), open_shards([self.home / places(self.home).folds / f"fold{HELD_OUT}"])


def prepared(params: Params, scratch: Path) -> Competition:
    """Shuffle the drawings, ours and the published way."""
    home, published = scratch / "ours", scratch / "published"
    write_copies(params, home, 1)
    run_shuffle(home)
    train = home / "data" / params.data.train
    found = Competition(home, published, len(reference.categories(train)), params.folds, params.threads)
    training, held_out = found.shards()
    (published / "train").mkdir(parents=True)
    write_some(train, published / "held_out", held_out.key_id)
    write_some(train, scratch / "training_rows", training.key_id)
    reference.shuffle_csvs(scratch / "training_rows", published / "train")
    return found


def write_some(train: Path, place: Path, key_ids: np.ndarray) -> None:
    """Write the CSVs of a folder with some of their rows alone.

    Args:
        train: a CSV a word.
        place: a new folder.
        key_ids: of the rows.

    Raises:
        SketchstackError: there are other than those.
    """
    place.mkdir()
    count = 0
    for path in sorted(train.glob("*.csv")):
        df = pd.read_csv(path, dtype=str, keep_default_na=False)
        df = df[df.key_id.astype(np.int64).isin(key_ids)]
        df.to_csv(place / path.name, index=False)
        count += len(df)
    if count != len(key_ids):
        raise SketchstackError(f"{train} holds {count} rows of {len(key_ids)} key_ids: each should stand there once.")


def rate_at(passed: float) -> float:
    """The learning rate as a share of its peak: up in a line, then down to zero as half a cosine.

    Args:
        passed: share of the time.
    """
    if passed < WARMUP:
        return passed / WARMUP
    return (1 + math.cos(math.pi * min(1.0, (passed - WARMUP) / (1 - WARMUP)))) / 2


def clock(seconds: float) -> Iterator[float]:
    """The share that has passed of some seconds from now on, asked again and again until they are over."""
    begun = time.monotonic()
    passed = iter(lambda: (time.monotonic() - begun) / seconds, None)
    return itertools.takewhile(lambda share: share < 1, passed)


def mobilenet(competition: Competition, seconds: float) -> Scored:
    """MobileNetV2 of keras.applications on the published generator's batches, on grey pictures of 64 px."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    from pipeline.learners._keras import without_stderr

    with without_stderr():
        import keras
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(competition.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        keras.utils.set_random_seed(HELD_OUT)
    side, num_words, published = MOBILENET_SIDE, competition.num_words, competition.published
    passing, begun, count = clock(seconds), time.monotonic(), 0
    batches = reference.image_generator(published / "train", side, num_words)
    model = keras.applications.MobileNetV2(input_shape=(side, side, 1), weights=None, classes=num_words)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # by default 0.999: averages over more steps than there are, and scores by chance
    model.compile(keras.optimizers.Adam(), "categorical_crossentropy")
    for passed, (images, labels) in zip(passing, batches, strict=False):
        model.optimizer.learning_rate.assign(MOBILENET_RATE * rate_at(passed))
        model.train_on_batch(images, labels)
        count += len(labels)
    spent, guesses, true, rows = time.monotonic() - begun, [], [], len(competition.shards()[0])
    held_out = published / "held_out"
    for label, word in enumerate(reference.categories(held_out)):
        df = pd.read_csv(held_out / f"{word}.csv").assign(y=label)
        images, _ = reference.batch(df, side, num_words)
        guesses.append(top3(model.predict_on_batch(images)))
        true.append(df.y)
    return Scored(map_at_3(np.concatenate(guesses), np.concatenate(true)), count, rows, spent)


def cnn(competition: Competition, seconds: float, filters: Sequence[int] = FILTERS) -> Scored:
    """Three layers of convolutions on bitmaps of 28 px that lie in memory, in the arithmetic that is fastest here."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(competition.threads)
    set_threads(competition.threads)
    torch.manual_seed(HELD_OUT)
    rows, held_out = competition.shards()
    images, labels = bitmaps(rows), torch.from_numpy(rows.word.astype(np.int64))
    passing, begun, count = clock(seconds), time.monotonic(), 0
    model = cnn_of(competition.num_words, filters)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)

    def logits_of(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(images.float() / 255).float()

    def orders() -> Iterator[torch.Tensor]:
        while True:
            yield from torch.randperm(len(labels)).split(CNN_BATCH)

    for passed, batch in zip(passing, orders(), strict=False):
        optimiser.param_groups[0]["lr"] = CNN_RATE * rate_at(passed)
        optimiser.zero_grad()
        cross_entropy(logits_of(images[batch]), labels[batch]).backward()
        optimiser.step()
        count += len(batch)
    spent = time.monotonic() - begun
    model.eval()
    with torch.inference_mode():
        found = torch.cat([logits_of(part) for part in bitmaps(held_out).split(PREDICT)])
    return Scored(map_at_3(top3(found.numpy()), held_out.word), count, len(rows), spent)


def cnn_of(num_words: int, filters: Sequence[int]) -> Any:
    """Convolutions 5 by 5 with batch norm, ReLU and max pooling, then one linear layer: (B, 1, 28, 28) → logits."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for before, width in itertools.pairwise((1, *filters)):
        layers.append(nn.Conv2d(before, width, 5, padding=2, bias=False))
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Dropout(CNN_DROPOUT), nn.Linear(filters[-1] * (CNN_SIDE // 8) ** 2, num_words)]
    network: Any = nn.Sequential(*layers, *head)  # torch's types know no memory format
    return network.to(memory_format=torch.channels_last)


def bitmaps(rows: Shards) -> torch.Tensor:
    """All drawings as grey pictures (N, 1, 28, 28) uint8, as our learners get them but never distorted."""
    import torch

    images = raster(
        rows[:], identity(len(rows)), side=CNN_SIDE, stroke_width=1.5, margin=1.0, channels=["stroke_order"]
    )
    return torch.from_numpy(images).permute(0, 3, 1, 2)


REFERENCES: dict[str, Callable[[Competition, float], Scored]] = {
    "cnn": cnn,
    "wide_cnn": partial(cnn, filters=MORE_FILTERS),
    "mobilenet": mobilenet,
}


def train(name: str, competition: Competition, seconds: float) -> Scored:
    """Train a reference in a process of its own: none may load two frameworks."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(REFERENCES[name], competition, seconds).result()


def score_and_seconds(home: Path, learner: str) -> tuple[float, float]:
    """The MAP@3 on the held-out fold of a learner that was trained in a folder, and the seconds of its fit.

    Raises:
        SketchstackError: it was not trained there.
    """
    model = home / model_folder(learner, HELD_OUT)
    if not model.exists():
        raise SketchstackError(f"{model} is absent: put the mini profile in force and run `dvc repro` there first.")
    return json.loads((model / "metrics.json").read_text())["map3"], seconds_of(home, learner, HELD_OUT)["fit"]


def table(found: dict[str, Scored], ours: float, seconds: float) -> Measured:
    """What the references came to, beside a score of ours."""
    rows, notes = [], []
    for name, (map3, drawings, training_rows, spent) in found.items():
        rows += [
            Row(f"{name}: MAP@3", "MAP@3", [ours], [map3]),
            Row(f"{name}: error", "1 − MAP@3", [1 - ours], [1 - map3], bars=(Bar("ratio", "≤", 1 / 1.25),)),
        ]
        notes.append(
            f"{name}: {drawings / spent:,.0f} drawings/s, {drawings / training_rows:.1f} passes over "
            f"{training_rows:,} rows in {spent:.0f} s; its error is {(1 - map3) / (1 - ours):.3f} times ours."
        )
    title = f"Plain references on the held-out fold, {seconds:.0f} s of training each"
    return Measured(Path(__file__).stem, title, rows, [*notes, *NOTES])


@one_paragraph_errors
def main() -> None:
    """Train the plain references and score them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("learner", help="the learner of ours, as trained by a run of the mini profile")
    parser.add_argument("--home", type=Path, default=Path(), help="where that ran (the working directory)")
    parser.add_argument("--seconds", type=float, help="of training, for a quick look (as many as that learner's fit)")
    parser.add_argument("--only", choices=REFERENCES, help="one of them, for a quick look (all)")
    parser.add_argument("--scratch", type=Path, help="a folder with a gigabyte to spare (the system's)")
    asked = parser.parse_args()
    ours, seconds = score_and_seconds(asked.home, asked.learner)
    with scratch_folder(asked.scratch) as scratch:
        competition = prepared(mini_params(), scratch)
        names, time_each = [asked.only] if asked.only else [*REFERENCES], asked.seconds or seconds
        measured = table({name: train(name, competition, time_each) for name in names}, ours, time_each)
    show(measured)
    quick = asked.only or asked.seconds
    print("Not recorded." if quick else f"Recorded in {record(measured, sys.argv[1:], RESULTS)}.")


if __name__ == "__main__":
    main()
