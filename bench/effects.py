"""The effect of each training method on one small network: MAP@3 with and without it, over three seeds.

Finished runs stay in a folder, so a benchmark that was stopped resumes with the next run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rich.console import Console
from rich.table import Table

from bench.competition import mini_params, run_child, run_shuffle
from bench.tables import RESULTS, ROOT, WIDTH, Bar, Measured, Row, hardware, markdown_table, mean_and_spread, record
from pipeline.foundation.artefacts import file_hash, whole_file
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import LearnerParams, Params, Pseudo, fingerprint
from pipeline.foundation.places import places
from pipeline.raw.listing import training_files

LEARNER = "seresnet"
OTHER_WORDS = "those of a run on other words"
BASELINE: dict[str, dict[str, Any]] = {
    "network": {"widths": [32, 64, 128], "blocks": 1, "dropout": 0.1},
    "encoding": {"side": 32, "stroke_width": 1.5, "margin": 1.5, "channels": ["stroke_order"]},
    "augmentation": {
        "flip": 0.0, "rotate": 0.0, "scale": 0.0, "shear": 0.0, "shift": 0.0, "jitter": 0.0, "stroke_dropout": 0.0,
        "mixup": 0.0, "mirror_test": False,
    },
    "training": {
        "batch_size": 128, "micro_batches": 1, "epochs": 8, "schedule": "cosine", "learning_rate": 0.003,
        "warmup": 0.25, "weight_decay": 0.02, "label_smoothing": 0.0, "adversarial": 0.0, "ema": 0.0, "clip_norm": 5.0,
        "precision": "bfloat16", "compile": False, "initial_weights": None,
    },
}  # fmt: skip
MEANS: dict[str, dict[str, dict[str, Any]]] = {
    "affine": {"augmentation": {"rotate": 8.0, "scale": 0.12, "shear": 0.08, "shift": 0.03}},
    "flip": {"augmentation": {"flip": 0.5}},
    "jitter": {"augmentation": {"jitter": 0.01}},
    "stroke_dropout": {"augmentation": {"stroke_dropout": 0.1}},
    "mixup": {"augmentation": {"mixup": 0.2}},
    "mirror_test": {"augmentation": {"mirror_test": True}},
    "flip_and_mirror_test": {"augmentation": {"flip": 0.5, "mirror_test": True}},
    "ema_0.99": {"training": {"ema": 0.99}},
    "ema_0.999": {"training": {"ema": 0.999}},
    "one_cycle": {"training": {"schedule": "one_cycle"}},
    "label_smoothing": {"training": {"label_smoothing": 0.05}},
    "adversarial": {"training": {"adversarial": 0.02}},
    "micro_batches": {"training": {"micro_batches": 4}},
    "initial_weights": {"training": {"initial_weights": OTHER_WORDS}},
    "thirds": {"encoding": {"channels": ["thirds"]}},
    "pseudo_labels": {"pseudo": {"learners": [LEARNER], "teacher": LEARNER, "confidence": 0.9}},
}
EVERY, WORDS = 5, 60  # of the sorted words every fifth, the first sixty of them
OTHERS = 2  # where every fifth of the others begins
SEEDS = 3
SCRATCH = ROOT / "checkpoints" / "effects"
LONGEST = 120  # seconds of a run
SOURCES = (
    "bench/effects_once.py",
    "pipeline/drawings/batches.py",
    "pipeline/drawings/shards.py",
    "pipeline/drawings/encodings.py",
    "pipeline/learners/_base.py",
    "pipeline/learners/_torch.py",
    f"pipeline/learners/{LEARNER}.py",
    "bench/train_once.py",
    "pipeline/training/fitting.py",
    "pipeline/predictions/metrics.py",
    "pipeline/foundation/params.py",
    "pipeline/training/pseudo.py",
    "pipeline/drawings/strokes.py",
)
HEADER = ("", "params", "MAP@3", "difference", "seconds")
NOTES = [
    f"Words: of the sorted words every {EVERY}th, the first {WORDS} of them. Trained on two folds, scored on the "
    "third; mean ± standard deviation over seeds. The difference is to the baseline of the same seed, its standard "
    "deviation that of the paired differences.",
    f"Baseline: learners.{LEARNER} with {json.dumps(BASELINE)}.",
    "Seconds: of a run, from the start of its process, two predictions of the fold included (as drawn, and with the "
    "mirror image). initial_weights: those of a baseline run on other words, chosen alike, whose time does not count; "
    "the last layer begins anew.",
    "pseudo_labels: trained on one fold and on the sure drawings of a second whose words are withheld, as many steps "
    "as its teacher, which had the one fold for twice the epochs. The difference is to the better of that teacher and "
    "of one that had half the steps. So there are as many drawings without words as with them; with fewer, it is less.",
]


class Effect(NamedTuple):
    """The scores of runs, one per seed.

    Attributes:
        name: of the training method; `baseline` for none.
        scores: MAP@3 of each seed on the held-out fold.
        gains: differences of the scores to the baseline of the same seed, or to the teacher.
        seconds: of each run, from the start of its process to its end.
    """

    name: str
    scores: list[float]
    gains: list[float]
    seconds: list[float]


class Runs:
    """Runs on some words; finished runs are saved in runs.jsonl.

    Args:
        params: of the profile.
        folder: for files that remain until the benchmark is done.
    """

    def __init__(self, params: Params, folder: Path) -> None:
        self.params, self.folder, self.kept = params, folder, folder / "runs.jsonl"
        lines = self.kept.read_text().splitlines() if self.kept.exists() else []
        self.finished: dict[str, dict[str, Any]] = {run["key"]: run for run in map(json.loads, lines)}

    @cached_property
    def words(self) -> Path:
        """A folder with the folds of the words."""
        return self._shuffled("words", words_of(self.params))

    @cached_property
    def others(self) -> Path:
        """A folder with the folds of other words."""
        return self._shuffled("others", others_of(self.params))

    def _shuffled(self, name: str, words: Sequence[str]) -> Path:
        home = self.folder / name
        home.mkdir(parents=True, exist_ok=True)
        shuffle = self.params.shuffle.model_copy(update={"words": list(words)})
        _write(self.params.model_copy(update={"shuffle": shuffle}), home)
        run_shuffle(home)
        return home

    def score(self, name: str, seed: int) -> tuple[float, float | None, float]:
        """MAP@3 with a training method, MAP@3 of its teacher if it has one, and seconds; runs unless finished."""
        block, pseudo = block_of(name), pseudo_of(self.params, name)
        score = "map3_mirrored" if block["augmentation"]["mirror_test"] else "map3"
        block["augmentation"]["mirror_test"] = False  # every run predicts both ways
        if block["training"]["initial_weights"] == OTHER_WORDS:
            block["training"]["initial_weights"] = self._weights_of_others(seed)
        key = self._key(self.words, block, pseudo, seed)
        if key not in self.finished:
            self._keep({"key": key, "name": name, "seed": seed, **self._run(self.words, block, pseudo, seed)})
        found = self.finished[key]
        print(f"{name}, seed {seed}: MAP@3 {found[score]:.4f} in {found['seconds']:.0f} s", flush=True)
        return found[score], found.get("teacher"), found["seconds"]

    def _key(self, home: Path, block: dict[str, Any], pseudo: Pseudo, seed: int) -> str:
        """Fingerprint of everything that a run depends on."""
        code = {source: file_hash(ROOT / source) for source in SOURCES}
        rows = file_hash(home / places(home).folds / "summary.json")
        return fingerprint([block, pseudo.model_dump(), seed, self.params.threads, rows, code])

    def _run(self, home: Path, block: dict[str, Any], pseudo: Pseudo, seed: int) -> dict[str, float]:
        learner = LearnerParams.model_validate(block)
        changed = {"ensemble": [LEARNER], "learners": {LEARNER: learner}, "pseudo": pseudo, "seed": seed}
        _write(self.params.model_copy(update=changed), home)
        begun = time.monotonic()
        found = run_child("bench.effects_once", home)
        return {**found, "seconds": time.monotonic() - begun}

    def _keep(self, run: dict[str, Any]) -> None:
        self.finished[run["key"]] = run
        with whole_file(self.kept) as file:
            file.write_text("".join(f"{json.dumps(each)}\n" for each in self.finished.values()))

    def _weights_of_others(self, seed: int) -> dict[str, str]:
        """`initial_weights` of a baseline run on more, other words, so the last layer does not fit."""
        block, pseudo = block_of("baseline"), pseudo_of(self.params, "baseline")
        path = self.folder / f"{self._key(self.others, block, pseudo, seed)}.safetensors"
        if not path.exists():
            self._run(self.others, block, pseudo, seed)
            (self.others / "weights.safetensors").replace(path)
        return {"path": str(path), "sha256": file_hash(path)}


def _write(params: Params, home: Path) -> None:
    (home / "params.yaml").write_text(yaml.safe_dump(params.model_dump()))


def words_of(params: Params) -> tuple[str, ...]:
    """The words that effects are measured on."""
    return training_files(params)[0].names[::EVERY][:WORDS]


def others_of(params: Params) -> tuple[str, ...]:
    """The words of the runs for initial weights: chosen by the same rule from another start."""
    return training_files(params)[0].names[OTHERS::EVERY]


def block_of(name: str) -> dict[str, dict[str, Any]]:
    """The learner's params block with a training method; that of the baseline for another name."""
    changes = MEANS.get(name, {})
    return {part: {**settings, **changes.get(part, {})} for part, settings in BASELINE.items()}


def pseudo_of(params: Params, name: str) -> Pseudo:
    """The second round with a means: none, but with that of pseudo-labels."""
    return params.pseudo.model_copy(update={"learners": [], **MEANS.get(name, {}).get("pseudo", {})})


def measure(runs: Runs, names: Sequence[str], seeds: int) -> list[Effect]:
    """The baseline and training methods, seed by seed: each runs with one seed before the next seed."""
    found = {name: Effect(name, [], [], []) for name in ["baseline", *names]}
    for seed in range(runs.params.seed, runs.params.seed + seeds):
        for name, effect in found.items():
            score, teacher, seconds = runs.score(name, seed)
            effect.scores.append(score)
            effect.gains.append(score - (found["baseline"].scores[-1] if teacher is None else teacher))
            effect.seconds.append(seconds)
    return [*found.values()]


def cells(effect: Effect) -> list[str]:
    """A line of the table: training method, params, MAP@3, gain over the baseline, seconds."""
    changes = [f"{name} {value}" for part in MEANS.get(effect.name, {}).values() for name, value in part.items()]
    gain = mean_and_spread(effect.gains, "+.4f") if effect.name in MEANS else ""
    seconds = f"{statistics.mean(effect.seconds):.0f}"
    return [effect.name, ", ".join(changes), mean_and_spread(effect.scores, ".4f"), gain, seconds]


def show(effects: Sequence[Effect], title: str) -> None:
    """Print the table."""
    table = Table(*HEADER, title=title, title_justify="left", title_style="bold")
    for effect in effects:
        table.add_row(*cells(effect))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def markdown(effects: Sequence[Effect], title: str, notes: Sequence[str]) -> str:
    """The table as effects.md."""
    return "\n".join([f"{title}. {hardware()}.", "", *notes, "", markdown_table(HEADER, map(cells, effects)), ""])


def store(effects: Sequence[Effect], title: str, notes: list[str], folder: Path = RESULTS) -> None:
    """Write effects.json, with every run, and effects.md."""
    rows = []
    for name, scores, gains, seconds in effects:
        without = [score - gain for score, gain in zip(scores, gains, strict=True)]
        rows.append(Row(name, "MAP@3", scores, without if name in MEANS else ()))
        rows.append(Row(f"{name}: a run", "s", seconds, bars=(Bar("ours", "≤", LONGEST),)))
    record(Measured("effects", title, rows, notes), sys.argv[1:], folder)
    (folder / "effects.md").write_text(markdown(effects, title, notes), encoding="utf-8")


@one_paragraph_errors
def main() -> None:
    """Measure the effect of each training method."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", nargs="+", choices=MEANS, help="only these methods, for a quick look (default all)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of each (%(default)s)")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, help="folder of finished runs (%(default)s)")
    asked = parser.parse_args()
    effects = measure(Runs(mini_params(), asked.scratch.resolve()), asked.only or [*MEANS], asked.seeds)
    title = f"MAP@3 on a held-out fold of {WORDS} words with each means and without, {asked.seeds} seeds"
    show(effects, title)
    if asked.only or asked.seeds < SEEDS:
        print(f"Not recorded: recording needs all training methods and {SEEDS} seeds.")
    else:
        store(effects, title, NOTES)


if __name__ == "__main__":
    main()
