"""Drawings for other pipelines: TFRecords, NumPy memory maps, and live datasets for TensorFlow and torch.

    sketchstack export tfrecords FOLDER     every row once, as it was drawn or as a learner sees it
    sketchstack export memmaps FOLDER
    training_batches(learner, held_out)            the augmented training batches of a learner, step by step
      → tf_dataset(batches, epochs=...)            for a training loop of your own
      → torch_dataset(batches, epochs=...)

A framework is imported only by the function that makes its dataset; TFRecords are written without TensorFlow.
"""

from __future__ import annotations

import gzip
import inspect
import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
from tqdm import tqdm

from pipeline.drawings.batches import made_ahead
from pipeline.drawings.encodings import identity, set_threads
from pipeline.drawings.shards import NO_LABEL, TEST, Drawings, Shards
from pipeline.drawings.tfrecords import Values, records
from pipeline.drawings.words import load_words
from pipeline.foundation.artefacts import whole_folder
from pipeline.foundation.commandline import Parser, count
from pipeline.foundation.contents import check_replaceable, seal
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.foundation.progress import progress_bar
from pipeline.learners._base import Learner
from pipeline.training.feeds import loaded_learner, open_rows, parts_of

if TYPE_CHECKING:
    import tensorflow as tf

FEATURES = "features.json"
CHUNK = 512  # rows encoded at a time
FILE_SIZE = 2**27  # bytes per TFRecord file, if --files is not given
MEANINGS = {
    "key_id": "of the drawing, as in the raw files (from 2^63 on, less 2^64)",
    "label": "place of the drawing's word in words.json, from 0",
    "inputs": "what the network is fed; see below",
    "length": "points of the drawing; what is behind them in `inputs` is 0",
    "x": "of each point, 0..255 from left to right",
    "y": "of each point, 0..255 from top to bottom",
    "stroke": "points of each stroke, in the order of drawing",
    "t": "of each point, milliseconds as recorded",
    "points": "drawing n has x[points[n]:points[n + 1]], and y and t likewise",
    "strokes": "drawing n has stroke[strokes[n]:strokes[n + 1]]",
}
LISTS = {"x": "points", "y": "points", "t": "points", "stroke": "strokes"}  # lists → their offsets
PLURALS = {"key_id": "key_ids", "label": "labels", "length": "lengths"}  # names of their files
Made = TypeVar("Made")
Features = Callable[[Drawings], dict[str, Values]]  # of consecutive drawings
_LAYOUT = {
    "tfrecords": "Each is a `tf.train.Example`; pictures are the raw bytes of an array, all else lists of numbers.",
    "memmaps": "Each is a `.npy` file; their rows are of the same drawings in the same order.",
}


def export(
    kind: str,
    folder: Path,
    *,
    learner: str | None,
    folds: list[int] | None,
    files: int | None = None,
    zipped: bool = False,
    force: bool = False,
) -> None:
    """Write an export atomically: its rows, words.json, features.json and README.md.

    Args:
        kind: tfrecords or memmaps.
        folder: receives the export; an earlier export there is replaced.
        learner: export the drawings as this learner sees them; None for the drawings themselves.
        folds: to export; None for the test set.
        files: number of TFRecord files.
        zipped: compress TFRecords.
        force: replace the folder whatever it holds.

    Raises:
        SketchstackError: the folder holds other files or cannot be written; there is no such learner or fold, or folds/
            has not been made yet; the learner's encoding needs times that the drawings do not have.
    """
    check_place(folder, force=force)
    params, words = load_params(), load_words(places().folds)
    set_threads(params.threads)
    about: dict[str, Any] = {
        "made_by": "sketchstack",
        "kind": kind,
        "compression": "GZIP" if zipped else "",
        "learner": learner,
    }
    features: Features = as_drawn
    doc = ""
    if learner is not None:
        found = loaded_learner(learner, params, (params.seed,))
        features, encode = partial(as_seen, found), type(found).encode
        about["encoding"] = {"function": encode.__name__, **found.params.encoding}
        doc = inspect.getdoc(encode) or ""
    _check_folds(folds or [], params)
    shards = open_rows(folds)
    about |= {"rows": len(shards), "folds": TEST if folds is None else folds}
    try:
        with whole_folder(folder) as beside:
            if kind == "tfrecords":
                about["features"] = write_tfrecords(beside, features, shards, files=files, zipped=zipped)
            else:
                about["features"] = write_memmaps(beside, features, shards)
            words.save(beside / "words.json")
            (beside / FEATURES).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            (beside / "README.md").write_text(_readme(about, doc), encoding="utf-8")
            seal(beside)
    except OSError as error:
        raise SketchstackError(f"{folder} cannot be written: {error.strerror}; choose another place.") from None
    print(f"{folder}: {len(shards):,} rows; {folder / 'README.md'} explains how to read them.")


def _check_folds(folds: Sequence[int], params: Params) -> None:
    if len(set(folds)) != len(folds):
        raise SketchstackError("a fold is named twice, so its rows would be exported twice; name each fold once.")
    for fold in folds:
        if fold not in params.folds:
            raise SketchstackError(f"no fold {fold}; params.yaml has folds {', '.join(map(str, params.folds))}.")


def check_place(folder: Path, *, force: bool) -> None:
    """Refuse to replace a folder that is not an export.

    Raises:
        SketchstackError: `folder` is a file, contains the working directory, or (without `force`) holds a file that no
            export wrote or that was changed since.
    """
    if folder.is_file() or Path.cwd().is_relative_to(folder.resolve()):
        raise SketchstackError(f"{folder} cannot be replaced by an export; name a folder that does not exist yet.")
    if not force:
        check_replaceable(folder)


def _readme(about: dict[str, Any], doc: str) -> str:
    """README.md of an export: its content, and how to read it without Sketchstack."""
    tfrecords = about["kind"] == "tfrecords"
    lines = [f"# Drawings as {'TFRecords' if tfrecords else 'NumPy arrays'}", ""]
    lines += [f"{about['rows']:,} rows in random order. {_LAYOUT[about['kind']]}", ""]
    lines += ["| name | dtype | shape | what it is |", "|---|---|---|---|"]
    for name, each in about["features"].items():
        shape = "any length" if each["shape"] == [None] else tuple(each["shape"])
        lines.append(f"| `{name}` | {each['dtype']} | {shape} | {each['meaning']} |")
    lines += ["", "## How to read them", "", "```python"]
    if tfrecords:
        lines += ["from __future__ import annotations", "", "import json", "from pathlib import Path"]
        lines += ["from typing import Any", "", "", inspect.getsource(read_tfrecords).rstrip()]
    else:
        lines += ["import numpy as np", ""]
        lines += [f'{name} = np.load("{name}.npy", mmap_mode="r")' for name in about["features"]]
    lines += ["```", ""]
    if doc:
        lines += ["## What `inputs` are", "", f"What the learner `{about['learner']}` is fed when it predicts, by"]
        lines += [f"`{json.dumps(about['encoding'])}`:", "", "```text", doc, "```", ""]
    return "\n".join(lines)


def as_drawn(drawings: Drawings) -> dict[str, Values]:
    """Consecutive drawings as the shards hold them: x, y and t of each point, the number of points of each stroke."""
    pieces = [(piece.shard, slice(piece.rows[0], piece.rows[-1] + 2)) for piece in drawings.pieces]
    found = _identified(drawings)
    for name, starts in LISTS.items():
        if name == "t" and not drawings.timed:
            continue
        cuts = [getattr(shard, starts)[rows].astype(np.int64) for shard, rows in pieces]
        flat = [getattr(shard, name)[cut[0] : cut[-1]] for (shard, _), cut in zip(pieces, cuts, strict=True)]
        lengths = np.concatenate([np.diff(cut) for cut in cuts])
        found[name] = Values(np.concatenate(flat), np.concatenate([[0], np.cumsum(lengths)]), None)
    return found


def as_seen(learner: Learner, drawings: Drawings) -> dict[str, Values]:
    """Drawings as a learner's network gets them when it predicts."""
    arrays = parts_of(learner.inputs(drawings, identity(len(drawings))))
    return _identified(drawings) | {
        name: _one_each(array) for name, array in zip(("inputs", "length")[: len(arrays)], arrays, strict=True)
    }


def _identified(drawings: Drawings) -> dict[str, Values]:
    """Key_ids, and labels where they are known."""
    labels = {} if NO_LABEL in drawings.word else {"label": _one_each(drawings.word.astype(np.int64))}
    return {"key_id": _one_each(drawings.key_id), **labels}


def _one_each(array: np.ndarray) -> Values:
    """An array (N, ...) as a feature of N rows."""
    shape = array.shape[1:]
    return Values(array.reshape(-1), np.arange(len(array) + 1) * math.prod(shape), shape)


def _chunks(make: Callable[[Drawings], Made], shards: Shards, start: int, end: int, bar: tqdm) -> Iterator[Made]:
    """Apply `make` to rows start..end-1, CHUNK rows at a time, on all threads, in order, a few chunks ahead."""

    def chunk(first: int) -> Made:
        return make(shards[first : min(first + CHUNK, end)])

    starts = range(start, end, CHUNK)
    for first, made in zip(starts, made_ahead(chunk, starts), strict=True):
        yield made
        bar.update(min(CHUNK, end - first))


def write_memmaps(folder: Path, features: Features, shards: Shards) -> dict[str, dict[str, Any]]:
    """Write each feature as a .npy file: one array of all rows; for lists, one array of all values and one of offsets.

    The files are written sequentially and not through a memory map: on a full disk a write fails with an error, but a
    memory map ends the process with a signal.

    Returns:
        dtype, shape and meaning of each file.
    """
    first = features(shards[:1])
    arrays: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    for name, values in first.items():
        shape = (len(shards), *values.shape) if values.shape is not None else (_points_or_strokes(shards, LISTS[name]),)
        arrays[PLURALS.get(name, name)] = values.flat.dtype, shape
    lists = {LISTS[name]: name for name, values in first.items() if values.shape is None}
    arrays |= dict.fromkeys(lists, (np.dtype(np.int64), (len(shards) + 1,)))
    check_space(folder, sum(dtype.itemsize * math.prod(shape) for dtype, shape in arrays.values()))
    begins = dict.fromkeys(lists, 0)
    with ExitStack() as opened, progress_bar("memmaps", total=len(shards), unit="rows") as bar:
        files = {name: opened.enter_context(_npy_file(folder / f"{name}.npy", *each)) for name, each in arrays.items()}
        for name in lists:
            files[name].write(np.zeros(1, np.int64).data)
        for chunk in _chunks(features, shards, 0, len(shards), bar):
            for name, values in chunk.items():
                files[PLURALS.get(name, name)].write(values.flat.data)
            for name, listed in lists.items():
                ends = begins[name] + chunk[listed].offsets[1:]
                files[name].write(ends.data)
                begins[name] = ends[-1]
    meanings = {PLURALS.get(name, name): meaning for name, meaning in MEANINGS.items()}
    return {name: _about(dtype, shape, meanings[name]) for name, (dtype, shape) in arrays.items()}


def _points_or_strokes(shards: Shards, which: str) -> int:
    """The total number of points or of strokes."""
    return sum(int(getattr(shard, which)[-1]) - int(getattr(shard, which)[0]) for shard in shards.shards)


def _npy_file(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> BinaryIO:
    """A new .npy file with its header, to which the bytes of the array are appended."""
    file = path.open("wb")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def _about(dtype: np.dtype, shape: Sequence[int | None], meaning: str) -> dict[str, Any]:
    return {"dtype": str(dtype), "shape": list(shape), "meaning": meaning}


def write_tfrecords(
    folder: Path, features: Features, shards: Shards, *, files: int | None, zipped: bool
) -> dict[str, dict[str, Any]]:
    """Write each row as a tf.train.Example, in several files.

    Args:
        folder: receives the files.
        features: of the drawings.
        shards: the drawings.
        files: their number; None for files of about FILE_SIZE bytes.
        zipped: compress with GZIP, one member per CHUNK of rows.

    Returns:
        dtype, shape and meaning of each feature of a row.
    """

    def packed(drawings: Drawings) -> bytes | memoryview:
        made = records({name: _recordable(values) for name, values in features(drawings).items()}).data
        return gzip.compress(made, 1, mtime=0) if zipped else made

    sample = shards[:CHUNK]
    size = len(packed(sample)) * len(shards) // len(sample)
    check_space(folder, size)
    count = files or -(-size // FILE_SIZE)
    cuts = [len(shards) * n // count for n in range(count + 1)]
    with progress_bar("tfrecords", total=len(shards), unit="rows") as bar:
        for n, (start, end) in enumerate(itertools.pairwise(cuts)):
            path = folder / f"{n:05}-of-{count:05}.tfrecord{'.gz' * zipped}"
            with path.open("wb") as file:
                for chunk in _chunks(packed, shards, start, end, bar):
                    file.write(chunk)
    recorded = {name: _recordable(values) for name, values in features(shards[:1]).items()}
    return {
        name: _about(values.flat.dtype, [None] if values.shape is None else values.shape, MEANINGS[name])
        for name, values in recorded.items()
    }


def _recordable(values: Values) -> Values:
    """A feature in a dtype that an Example can hold: pictures and float32 unchanged, everything else as int64."""
    if values.flat.dtype == np.float32 or (values.flat.dtype == np.uint8 and values.shape):
        return values
    return values._replace(flat=values.flat.astype(np.int64))


def check_space(folder: Path, size: int) -> None:
    """Refuse to fill a disk.

    Raises:
        SketchstackError: the disk of `folder` has fewer than `size` free bytes.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SketchstackError(
            f"{folder.parent} has {free / 1e9:.1f} GB of free space, and the export takes {size / 1e9:.1f} GB; choose "
            "another disk, export some folds with --folds, or let TFRecords be compressed with --gzip."
        )


def read_tfrecords(folder: str | Path) -> tf.data.Dataset:
    """The rows of exported TFRecords in their order, each a dict of its features.

    Pictures come as uint8 (side, side, channels), movements as float32 (T, features), lists such as `x` as int64 of a
    length of their own (batch them with `ragged_batch` or `padded_batch`), numbers as int64. To train Keras:

        rows = read_tfrecords("exported").shuffle(10_000).batch(64)
        model.fit(rows.map(lambda row: (row["inputs"], row["label"])), shuffle=False)
    """
    import tensorflow as tf

    about = json.loads(Path(folder, "features.json").read_text(encoding="utf-8"))

    def kind(dtype: str, shape: list[int | None]) -> Any:
        if dtype == "uint8":
            return tf.io.FixedLenFeature([], tf.string)
        return tf.io.RaggedFeature(tf.int64) if shape == [None] else tf.io.FixedLenFeature(shape, dtype)

    kinds = {name: kind(each["dtype"], each["shape"]) for name, each in about["features"].items()}

    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        row = tf.io.parse_single_example(record, kinds)
        for name, each in about["features"].items():
            if each["dtype"] == "uint8":
                row[name] = tf.reshape(tf.io.decode_raw(row[name], tf.uint8), each["shape"])
        return row

    files = sorted(map(str, Path(folder).glob("*.tfrecord*")))
    return tf.data.TFRecordDataset(files, about["compression"]).map(parse, tf.data.AUTOTUNE, deterministic=True)


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Write all drawings for other pipelines, atomically."""
    parser = Parser(
        "export",
        f"{main.__doc__}\nThe folder also gets words.json, features.json, and a README.md that explains the\n"
        "content and how to read it.",
        "sketchstack export tfrecords exported/pictures --learner mobilenet --gzip",
        "sketchstack export memmaps exported/movements --learner gru --folds 1 2",
        "sketchstack export memmaps exported/test --test",
    )
    parser.add_argument("kind", choices=["tfrecords", "memmaps"], help="tf.train.Examples, or NumPy arrays to map")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="receives the export, replaces an earlier one")
    parser.add_argument(
        "--learner", metavar="NAME",
        help="as this learner of params.yaml sees drawings, not augmented; if not given, the points "
        "themselves",
    )  # fmt: skip
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--folds", type=int, nargs="+", metavar="K", help="folds to export; all if not given")
    part.add_argument("--test", action="store_true", help="the test drawings, which have no labels")
    parser.add_argument("--files", type=count, metavar="N", help="TFRecord files; of about 128 MB if not given")
    parser.add_argument("--gzip", action="store_true", help="compress TFRecords")
    parser.add_argument("--force", action="store_true", help="replace FOLDER whatever it holds")
    given = parser.parse_args(arguments)
    if given.kind == "memmaps" and (given.files or given.gzip):
        parser.error("--files and --gzip are for tfrecords")
    export(
        given.kind,
        given.folder,
        learner=given.learner,
        folds=None if given.test else given.folds or load_params().folds,
        files=given.files,
        zipped=given.gzip,
        force=given.force,
    )


if __name__ == "__main__":
    main()
