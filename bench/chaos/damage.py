"""Artefacts that are cut, flipped, emptied, swapped or replaced: found by name, or harmless; and restored."""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.chaos.home import REPRO, bytes_of, copied, differing, python, unclean
from bench.chaos.tries import Plan, ends_well_or_in_words


def cut(path: Path) -> None:
    """The second half is gone."""
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)


def flipped(path: Path) -> None:
    """One bit in the middle is the other one."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def zeroed(path: Path) -> None:
    """The second half is zeros."""
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2] + bytes(size - size // 2))


def emptied(path: Path) -> None:
    """There is nothing in it."""
    path.write_bytes(b"")


def null(path: Path) -> None:
    """JSON's and YAML's nothing."""
    path.write_text("null\n")


def a_folder(path: Path) -> None:
    """A folder stands in its place."""
    path.unlink()
    path.mkdir()


def a_dead_link(path: Path) -> None:
    """A link to nothing stands in its place."""
    path.unlink()
    path.symlink_to("nowhere")


def gone(path: Path) -> None:
    """It is not there."""
    path.unlink()


def swapped(path: Path) -> None:
    """Another file of the same kind stands in its place."""
    others = [each for each in path.parent.parent.rglob(f"*{path.suffix}") if each.is_file() and each != path]
    shutil.copy(others[0] if others else __file__, path)


DAMAGE: tuple[Callable[[Path], None], ...] = (
    cut, flipped, zeroed, emptied, null, a_folder, a_dead_link, gone, swapped,
)  # fmt: skip
STACK, SHUFFLE, SUBMIT = (("-m", f"pipeline.stages.{stage}") for stage in ("stack", "shuffle", "submit"))
REPORT, SEND = ("-m", "pipeline", "report"), ("-m", "pipeline", "submit")
CHECK = (*SEND, "--check", "submissions/synthetic/super_learner.csv")
COMPARE = ("-m", "pipeline", "compare", "lstm", "super_learner")
EXPORT = ("-m", "pipeline", "export-model", "lstm", "0", "exported/lstm.onnx")
TRAIN = ("-m", "pipeline.stages.train", "lstm", "0")
BASE, META, SUBMISSIONS = "models/synthetic/base", "models/synthetic/meta", "submissions/synthetic"
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {  # an artefact → a pattern, and a command that reads it directly
    "shard": ("folds/synthetic/fold1/*.arrow", TRAIN),
    "shard of the test set": ("folds/synthetic/test/*.arrow", ("-m", "pipeline", "preview", "--test")),
    "words": ("folds/synthetic/words.json", STACK),
    "summary": ("folds/synthetic/summary.json", STACK),
    "rejects": ("folds/synthetic/rejects.csv", REPORT),
    "weights": (f"{BASE}/lstm/fold0/weights.safetensors", EXPORT),
    "OOF predictions": (f"{BASE}/lstm/fold0/oof.npy", STACK),
    "test predictions": (f"{BASE}/binarynet/fold1/test.npy", SUBMIT),
    "rows of predictions": (f"{BASE}/lstm/fold1/rows.npy", COMPARE),
    "metrics": (f"{BASE}/lstm/fold1/metrics.json", STACK),
    "hashes of a model": (f"{BASE}/lstm/fold1/contents.json", STACK),
    "learning curve": ("models/synthetic/curves/lstm/fold0.csv", REPORT),
    "stacked predictions": (f"{META}/super_learner/test.npy", SUBMIT),
    "stacked labels": (f"{META}/labels.npy", COMPARE),
    "scores": (f"{META}/scores.json", REPORT),
    "fold scores": (f"{META}/fold_scores.csv", REPORT),
    "weights of the ensemble": (f"{META}/weights.json", REPORT),
    "submission": (f"{SUBMISSIONS}/super_learner.csv", CHECK),
    "manifest": (f"{SUBMISSIONS}/super_learner.json", SEND),
    "ranking": (f"{SUBMISSIONS}/ranking.csv", SEND),
    "test scores": ("reports/synthetic/test.json", REPORT),
    "timings": ("logs/synthetic/**/seconds.json", REPORT),
    "live log": ("logs/synthetic/lstm/fold0/metrics.json", TRAIN),
    "record of the run": ("logs/synthetic/*.json", SUBMIT),
    "fingerprints": ("fingerprints.yaml", REPRO),
    "dvc.lock": ("dvc.lock", REPRO),
    "DVC's table of locks": (".dvc/tmp/rwlock", REPRO),
    "raw file": ("data/synthetic/**/cat*.csv", SHUFFLE),
    "corrections": ("corrections.csv", SHUFFLE),
    "ledger": ("ledger.csv", REPORT),
}


def damaged(project: Path, kind: str, damage: Callable[[Path], None], folder: Path) -> list[str]:
    """Damage a file of a finished run; run what reads it directly, then the pipeline: never other bytes, silently."""
    home, expected = copied(project, folder / "home"), bytes_of(project)
    pattern, words = KINDS[kind]
    path = next((each for each in sorted(home.glob(pattern)) if each.is_file()), home / pattern)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    damage(path)
    direct = python(home, *words)
    name = str(path.relative_to(home))
    faults = ends_well_or_in_words(direct, path.name, str(Path(name).parent))
    if not direct.code:
        written = [each for each in differing(expected, home) if each != name and not each.startswith(f"{name}/")]
        told = path.name in direct.words or f"gone since the last shuffle: {path.stem}" in direct.words
        faults += [f"no word of it, and {each} is other" for each in written[:3] if not (told or "exported" in each)]
    if name in ("corrections.csv", "ledger.csv") or name.startswith("data/"):
        return faults  # people's own files: nothing restores them
    repro = python(home, *REPRO)
    faults += ends_well_or_in_words(repro, path.name, str(Path(name).parent))
    if repro.code:  # the remedy that is told: remove it, run again
        place = path.parent if len(Path(name).parts) > 3 else path
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)
        repro = python(home, *REPRO)
    if repro.code:
        faults.append(f"cannot be restored: {repro.words[-600:]}")
    faults += [f"other bytes after the run: {each}" for each in differing(expected, home)[:3]]
    return faults + [f"left over: {each}" for each in unclean(home) if "exported" not in each and "preview" not in each]


def plans(project: Path, tries: int, seed: int) -> Iterator[Plan]:
    """Each kind of artefact with each kind of damage, in an order that the seed draws, as many as asked for."""
    every = [(kind, damage) for kind in KINDS for damage in DAMAGE]
    random.Random(seed).shuffle(every)
    for kind, damage in every[:tries]:
        name = f"{kind}: {damage.__name__.replace('_', ' ')}"
        yield Plan("damage", name, functools.partial(damaged, project, kind, damage))
