"""Small competitions of invented words: raw files with chosen oddities, tiny networks, and a run of the stages."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from pipeline.drawings.copies import point_hashes
from pipeline.drawings.shards import Shard, Shards
from pipeline.foundation.params import load_params
from pipeline.stages import pseudo, report, score, shuffle, stack, submit, train
from tests.conftest import ROOT, run_main

Strokes = list[list[list[int]]]
TINY = {  # networks that train in a second
    "seresnet": {"network": {"widths": [4, 8], "blocks": 1}, "encoding": {"side": 16}},
    "lstm": {"network": {"filters": [4, 4], "units": 4}, "encoding": {"length": 16}},
    "gru": {"network": {"units": [4]}, "encoding": {"length": 16}},
}
STAMP = "2017-03-09 00:28:55.63775 UTC"


@dataclass(frozen=True)
class Small:
    """A small competition.

    Attributes:
        words: number of drawings of each word.
        test: number of test drawings.
        folds: number of folds.
        homes: word → the folds that its drawings hash to, one after the other and again; any by default.
        ndjson: training files as Google writes them, instead of Kaggle's CSV.
        timed: raw drawings, with a time for each point.
        recognized: what the game says of each drawing.
        countries: whether rows have a country code.
        copies: how often each training row is there, under key_ids of its own.
        same_test: whether all test drawings are the same one.
        labels: whether the test rows' words are known.
        params: changes to params.yaml, as `a.b.c` → value.
    """

    words: Mapping[str, int]
    test: int = 8
    folds: int = 3
    homes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ndjson: bool = False
    timed: bool = False
    recognized: bool = True
    countries: bool = True
    copies: int = 1
    same_test: bool = False
    labels: bool = True
    params: Mapping[str, object] = field(default_factory=dict)


def write(small: Small, home: Path) -> None:
    """Write params.yaml, corrections.csv and the raw files of a competition into an empty folder."""
    params = yaml.safe_load((ROOT / "profiles" / "synthetic.yaml").read_text())
    params |= {"profile": "own", "threads": 2, "folds": list(range(small.folds)), "ensemble": ["lstm", "seresnet"]}
    params["data"] |= {"folder": "data/own", "labels": "test_labels.csv" if small.labels else None}
    if small.timed:
        params["data"] |= {"train": "train_raw", "test": "test_raw.csv"}
    params["synthesize"]["competitions"] = []
    params["shuffle"]["shards"] = 1
    for name, blocks in TINY.items():
        for block, values in blocks.items():
            params["learners"][name][block] |= values
        params["learners"][name]["training"] |= {"epochs": 1, "batch_size": 16}
    for name, value in small.params.items():
        *above, last = name.split(".")
        inner = params
        for block in above:
            inner = inner[block]
        inner[last] = value
    (home / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), encoding="utf-8")
    (home / "corrections.csv").write_text((ROOT / "corrections.csv").read_text())
    raw = home / "data" / "own"
    (raw / params["data"]["train"]).mkdir(parents=True)
    rng, key_ids = np.random.default_rng(len(small.words)), iter(range(10**15, 10**16, 7))
    for number, (word, count) in enumerate(small.words.items()):
        drawn = list(_drawings(small, rng, number, small.homes.get(word, ()), count))
        rows = [_row(small, next(key_ids), word, strokes) for strokes in drawn for _ in range(small.copies)]
        _write_rows(raw / params["data"]["train"] / word, small.ndjson, rows)
    shown = [int(label) for label in rng.integers(0, len(small.words), small.test)]
    drawn = [strokes for label in shown for strokes in _drawings(small, rng, label, (), 1)]
    if small.same_test:
        drawn = drawn[:1] * len(drawn)
    tests = [_row(small, next(key_ids), "", strokes) for strokes in drawn]
    columns = ["key_id", "countrycode", "drawing"]
    _write_csv(raw / params["data"]["test"], columns, [[row[name] for name in columns] for row in tests])
    names, asked = [word.replace(" ", "_") for word in small.words], [row["key_id"] for row in tests]
    _write_csv(raw / "sample_submission.csv", ["key_id", "word"], [[key, " ".join(names[:3])] for key in asked])
    if small.labels:
        true = [[key, names[label]] for key, label in zip(asked, shown, strict=True)]
        _write_csv(raw / "test_labels.csv", ["key_id", "word"], true)


def _drawings(
    small: Small, rng: np.random.Generator, number: int, homes: tuple[int, ...], count: int
) -> Iterator[Strokes]:
    """Shaky polygons of a word, which differs from other words in corners and size, that hash to the given folds."""
    made = 0
    while made < count:
        corners, size = 3 + number % 5, 120 - 25 * (number // 5 % 4)
        turns = np.linspace(0, 2 * np.pi, corners + 1)
        shaky = (size * of(turns) + rng.normal(128, 6, corners + 1) for of in (np.cos, np.sin))
        axes = [axis.clip(0, 255).astype(int) for axis in shaky]
        strokes = [[axis.tolist() for axis in axes], [[5, 250], [int(rng.integers(256)), 5]]]
        if homes and _home(strokes, small.folds) != homes[made % len(homes)]:
            continue
        made += 1
        yield strokes


def _home(strokes: Strokes, folds: int) -> int:
    """The fold that a drawing hashes to."""
    return int(point_hashes(Shards([Shard.from_lists([strokes])]))[0] % np.uint64(folds))


def _row(small: Small, key_id: int, word: str, strokes: Strokes) -> dict[str, object]:
    if small.timed:
        strokes = [[*stroke, [100 * place for place in range(len(stroke[0]))]] for stroke in strokes]
    code = "US" if small.countries else ""
    named = {"countrycode": code, "drawing": json.dumps(strokes), "key_id": key_id, "recognized": small.recognized}
    return {**named, "timestamp": STAMP, "word": word}


def _write_rows(place: Path, ndjson: bool, rows: list[dict[str, object]]) -> None:
    if ndjson:
        taken = [row | {"key_id": str(row["key_id"]), "drawing": json.loads(str(row["drawing"]))} for row in rows]
        lines = [json.dumps(row) for row in taken]
        Path(f"{place}.ndjson").write_text("\n".join([*lines, ""]), encoding="utf-8")
    else:
        _write_csv(Path(f"{place}.csv"), list(rows[0]), [list(row.values()) for row in rows])


def _write_csv(place: Path, header: list[str], rows: list[list[object]]) -> None:
    with place.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def stages(home: Path) -> Iterator[tuple[ModuleType, tuple[object, ...]]]:
    """The stages of a competition in the order of dvc.yaml, each with its arguments."""
    params = load_params(home / "params.yaml")
    yield shuffle, ()
    for stage, learners in ((train, params.ensemble), (pseudo, params.pseudo.learners)):
        yield from ((stage, (name, fold)) for name in learners for fold in params.folds)
    yield from ((stage, ()) for stage in (stack, submit, score, report))


def run_stages(home: Path) -> None:
    """Run all stages of a competition in this process: learners of one framework."""
    with contextlib.chdir(home), pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(name, "2")  # stages set them; this puts them back afterwards
        for stage, arguments in stages(home):
            run_main(stage, *arguments)
