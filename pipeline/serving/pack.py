"""Pack the ensemble of a run into one file: see `packed`. Each network is compared with its learner first."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipeline.drawings.encodings import identity
from pipeline.drawings.shards import TEST, open_shards
from pipeline.drawings.words import load_words
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.contents import intact
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.git import git
from pipeline.foundation.params import Params, learner_of, load_params
from pipeline.foundation.places import places
from pipeline.learners._base import learner_class
from pipeline.predictions.cache import read_learner
from pipeline.predictions.metrics import precision_at_3, top3
from pipeline.serving.convert import ON_CPU, TRACED, check, description, write
from pipeline.serving.packed import ENCODINGS, LICENCE, MANIFEST, Manifest, MetaModel, Network, PackedEnsemble, Weights
from pipeline.serving.processes import own_process
from pipeline.serving.smaller import to_float16, to_int8
from pipeline.stacking.combination import SUPER, WEIGHTS, Combination, check_model, read_combination
from pipeline.stacking.rows import facts_of
from pipeline.submissions.sources import open_source, read_stacked_rows
from pipeline.training.fitting import fitted_learner, open_folds

CHECKED = 300  # held-out drawings on which a network is compared with its learner
COMPARED = 1000  # test drawings on which the pack is compared with the run
OUR_LICENCE = Path(__file__).parents[2] / LICENCE  # not there where the package was installed without the project
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member, so that the same weights make the same file


def check_packable(params: Params, learners: Sequence[str]) -> None:
    """Refuse learners whose encoding is code of their own: a pack has no code.

    Raises:
        SketchstackError: names the learner.
    """
    for name in learners:
        encode = learner_class(learner_of(name)).encode
        if getattr(encode, "__name__", "") not in ENCODINGS or encode.__module__ != "pipeline.drawings.encodings":
            raise SketchstackError(
                f"{name} has an encoding of its own, which a pack cannot hold; the encodings of packs are "
                f"{', '.join(ENCODINGS)} of pipeline/drawings/encodings.py. Leave {name} out with --model."
            )


def pack(
    params: Params, out: Path, *, model: str, weights: Weights, done: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Write a pack.

    Args:
        params: those in force.
        out: the file; it is replaced if the pack is whole.
        model: what it predicts as: super_learner, a meta-learner or a base learner.
        weights: how the numbers of the networks are stored.
        done: called after each network.

    Returns:
        What was measured: see `Manifest.scores`.

    Raises:
        SketchstackError: a model is missing, cannot be converted, or predicts otherwise than the run's.
    """
    check_model(params, model)
    words = load_words(places().folds)
    combination = None if model in params.base_learners else read_combination(params, len(words), places().meta)
    learners = combination.learners if combination else (model,)
    check_packable(params, learners)
    with TemporaryDirectory(prefix="sketchstack-") as temporary:
        folder = Path(temporary)
        networks = [_packed_learner(name, params, weights, combination, folder, done) for name in learners]
        metalearners, combined = _packed_stack(params, combination, model, folder)
        if OUR_LICENCE.is_file():
            (folder / LICENCE).write_bytes(OUR_LICENCE.read_bytes())
        manifest = Manifest(
            format=1,
            model=model,
            profile=params.profile,
            commit=git("rev-parse", "HEAD"),
            words=list(words.names),
            timed=open_folds(params.folds[:1]).timed,
            weights=weights,
            learners=networks,
            metalearners=metalearners,
            combined=combined,
            scores=scores_of(params, model),
            files={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _names(folder)},
        )
        with whole_file(out) as beside:
            _zip(folder, manifest, beside)
            measured = compared(beside, params, model)
            manifest.scores.update(measured)
            _zip(folder, manifest, beside)
    return manifest.scores


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _zip(folder: Path, manifest: Manifest, place: Path) -> None:
    """Write the files of a folder and the manifest as a .zip, with the same bytes each time."""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in (MANIFEST, *_names(folder)):
            content = manifest.model_dump_json(indent=1).encode() if name == MANIFEST else (folder / name).read_bytes()
            packed.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)


def _packed_learner(
    name: str,
    params: Params,
    weights: Weights,
    combination: Combination | None,
    folder: Path,
    done: Callable[[], object],
) -> Network:
    """Convert the networks of a learner, in a process of its own."""
    (folder / name).mkdir()
    files = [f"{name}/fold{held_out}.onnx" for held_out in params.folds]
    with own_process(f"converts {name}", _on_cpu) as run:
        for held_out, file in zip(params.folds, files, strict=True):
            run(_convert, name, held_out, weights, folder / file)
            done()
    block = params.learner(learner_of(name))
    return Network(
        name=name,
        temperature=combination.temperatures[name] if combination else 1.0,
        encoding=learner_class(learner_of(name)).encode.__name__,  # type: ignore[arg-type]
        options=block.encoding,
        mirror=block.augmentation.mirror_test,
        files=files,
    )


def _on_cpu() -> None:
    os.environ.update(ON_CPU)


def _convert(name: str, held_out: int, weights: Weights, place: Path) -> None:
    """Write a fold's network as ONNX, checked against the learner on held-out drawings, then store its numbers."""
    params, words = load_params(), load_words(places().folds)
    learner = fitted_learner(name, held_out, params, words, precision="float32", compile=False)
    drawings = open_shards([places().folds / f"fold{held_out}"])[:CHECKED]
    inputs = learner.inputs(drawings, identity(len(drawings)))
    arrays = inputs if isinstance(inputs, tuple) else (inputs,)
    about = description(learner, name, held_out, words)
    run = write("onnx", learner, [array[:TRACED] for array in arrays], place, about)
    check(run, arrays, learner.predict(inputs))
    if weights != "float32":
        {"float16": to_float16, "int8": to_int8}[weights](place)


def _packed_stack(
    params: Params, combination: Combination | None, model: str, folder: Path
) -> tuple[list[MetaModel], str]:
    """Copy the weights of the stack that a model needs."""
    if combination is None:
        return [], ""
    names = list(combination.metalearners) if model == SUPER else [model]
    found = []
    for name in [*names, *([SUPER] if model == SUPER else [])]:
        (folder / f"{name}.npz").write_bytes(intact(places().meta / name / WEIGHTS).read_bytes())
        if name != SUPER:
            found.append(MetaModel(name=name, options=params.stack.params[name], file=f"{name}.npz"))
    return found, f"{SUPER}.npz" if model == SUPER else ""


def scores_of(params: Params, model: str) -> dict[str, Any]:
    """The scores that a model had out of fold."""
    found = json.loads(intact(places().meta / "scores.json").read_text(encoding="utf-8"))
    return {"oof": found[model]} if model in found else {}


def compared(pack: Path, params: Params, model: str) -> dict[str, Any]:
    """Compare a pack with the run, on test drawings and on drawings that are held out.

    Returns:
        `drawings` of the test set, the share of them with the `same_top3`, the `largest_difference` of a probability;
        of `held_out` drawings, each predicted by the networks that did not see it: their number and the MAP@3 of both,
        with the weights of the stack as fitted on all rows.
    """
    ensemble, words = PackedEnsemble(pack, threads=params.threads), load_words(places().folds)
    drawings = open_shards([places().folds / TEST]).first(COMPARED)
    expected = open_source(model, params, words, read_stacked_rows()).test()[: len(drawings)]
    found = ensemble.probabilities(drawings).astype(np.float32)
    cached = {network.name: read_learner(network.name, params, words) for network in ensemble.networks}
    precisions: dict[str, list[np.ndarray]] = {"run": [], "pack": []}
    for place, fold in enumerate(params.folds):
        rows = open_folds([fold]).first(min(COMPARED, len(cached[ensemble.networks[0].name].folds[place].rows)))
        of_run = {name: each.folds[place].oof[: len(rows)].astype(np.float32) for name, each in cached.items()}
        of_pack = ensemble.predict(rows[:], place).probabilities
        both = {"run": ensemble.combined(of_run, facts_of(rows)), "pack": of_pack}
        for name, values in both.items():
            precisions[name].append(precision_at_3(top3(values), rows.word.astype(np.int64)))
    held_out = {name: round(float(np.concatenate(each).mean()), 6) for name, each in precisions.items()}
    return {
        "drawings": len(drawings),
        "same_top3": round(float((top3(found) == top3(expected)).all(axis=1).mean()), 6),
        "largest_difference": float(f"{np.abs(found - expected).max():.2g}"),
        "held_out": {"rows": sum(map(len, precisions["run"])), **held_out},
    }
