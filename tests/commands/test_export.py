"""Exports hold every row once, as the shards or the encoders give it, and live datasets the batches, byte for byte."""

from __future__ import annotations

import contextlib
import filecmp
import gzip
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

from pipeline.commands import export as export_module
from pipeline.commands.export import as_drawn, export, write_memmaps
from pipeline.drawings.encodings import identity
from pipeline.drawings.shards import SCHEMA, TIMED_SCHEMA, Shard, Shards, open_shards, shard_hashes, write_shard
from pipeline.drawings.tfrecords import CRC, _checksum
from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.learners._base import load_learner
from pipeline.training.feeds import torch_dataset, training_batches
from tests.conftest import ROOT, failing_main, run_main
from tests.toy import toy_drawings

WORDS = Words(("ant", "bee", "wine_glass", "zigzag"))
ROWS = 150  # of a shard; two shards a fold, so that a chunk of rows spans shards and folds
FIRST_KEY = 4_500_000_000_000_000


def shard_table(shard: Shard, first_key: int, *, timed: bool, labelled: bool) -> pa.Table:
    """Drawings as a table for `write_shard`, key_ids counting up; every third is not recognized, from a country.

    The country is the shard's own: AA of the first, AB of the second.
    """
    rows, country = len(shard), f"A{chr(ord('A') + (first_key - FIRST_KEY) // ROWS)}"
    lists = {name: pa.ListArray.from_arrays(shard.points, getattr(shard, name)) for name in ("x", "y")}
    lists["stroke"] = pa.ListArray.from_arrays(shard.strokes, shard.stroke)
    if timed:
        lists["t"] = pa.ListArray.from_arrays(shard.points, np.arange(len(shard.x), dtype=np.uint32) * 9)
    columns = {
        "key_id": pa.array(range(first_key, first_key + rows), pa.int64()),
        "word": pa.array(shard.word if labelled else np.full(rows, -1, np.int16)),
        "countrycode": pa.array([country, None, "NA"] * (rows // 3), pa.string()),
        "recognized": pa.array([False, True, None] * (rows // 3), pa.bool_()),
        "timestamp": pa.nulls(rows, SCHEMA.field("timestamp").type),
    }
    schema = TIMED_SCHEMA if timed else SCHEMA
    return pa.table({name: (columns | lists)[name] for name in schema.names})


def write_folds(home: Path, *, timed: bool = False) -> Path:
    """Folds of toy drawings, a test set, and params with small encodings, in a folder of their own."""
    folds = home / "folds/synthetic"
    for number in range(8):
        name = f"fold{number // 2}" if number < 6 else "test"
        (folds / name).mkdir(parents=True, exist_ok=True)
        (shard,) = toy_drawings(ROWS, seed=number).shards
        table = shard_table(shard, FIRST_KEY + number * ROWS, timed=timed, labelled=number < 6)
        write_shard(folds / name / f"{number % 2:04d}.arrow", table)
    WORDS.save(folds / "words.json")
    rows_out = dict.fromkeys(("fold0", "fold1", "fold2", "test"), 2 * ROWS)
    (folds / "summary.json").write_text(json.dumps({"rows_out": rows_out, "shards": shard_hashes(folds)}))
    write_params(home)
    return home


def write_params(home: Path, **encodings: dict[str, object]) -> None:
    """params.yaml with small encodings, and with others of some learners."""
    params = yaml.safe_load((ROOT / "profiles" / "synthetic.yaml").read_text())
    small = {
        "seresnet": {"side": 16, "stroke_width": 1.5, "margin": 1.0, "channels": ["stroke_order"]},
        "mobilenet": {"side": 16, "stroke_width": 1.5, "margin": 1.0, "channels": ["stroke_order", "thirds"]},
        "gru": {"length": 8, "fit": "truncate", "timing": False},
        "lstm": {"length": 8, "fit": "resample", "timing": False},
    }
    for name, encoding in {**small, **encodings}.items():
        params["learners"][name]["encoding"] = encoding
    (home / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """A folder with params.yaml and folds/synthetic/."""
    return write_folds(tmp_path_factory.mktemp("untimed"))


@pytest.fixture(scope="module")
def timed_folds(tmp_path_factory):
    return write_folds(tmp_path_factory.mktemp("timed"), timed=True)


@pytest.fixture
def home(folds, monkeypatch):
    """The folder of `folds`, which is the one at hand."""
    monkeypatch.chdir(folds)
    return folds


def all_rows(*names: str) -> Shards:
    """The drawings of some folders of folds/; of all folds by default."""
    return open_shards([Path("folds/synthetic") / name for name in names or ("fold0", "fold1", "fold2")])


def a_learner(name: str):
    return load_learner(name, load_params().learner(name), num_words=len(WORDS), seed=(2018,), threads=1)


def example_class():
    """tf.train.Example as TensorFlow's .proto files define it, without TensorFlow."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields, within=file.message_type):
        made = within.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, 1):
            plain = isinstance(kind, int)
            made.field.add(
                name=field,
                number=number,
                type=kind if plain else kinds.TYPE_MESSAGE,
                type_name=None if plain else kind,
                label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
            )
        return made

    message("BytesList", ("value", kinds.TYPE_BYTES, True))
    message("FloatList", ("value", kinds.TYPE_FLOAT, True))
    message("Int64List", ("value", kinds.TYPE_INT64, True))
    lists = [(f"{kind.lower()}_list", f".tensorflow.{kind}List", False) for kind in ("Bytes", "Float", "Int64")]
    feature = message("Feature", *lists)
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", ".tensorflow.Features.FeatureEntry", True))
    entry = message(
        "FeatureEntry",
        ("key", kinds.TYPE_STRING, False),
        ("value", ".tensorflow.Feature", False),
        within=features.nested_type,
    )
    entry.options.map_entry = True
    message("Example", ("features", ".tensorflow.Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


EXAMPLE = example_class()


def slow_checksum(data: bytes) -> int:
    """The masked CRC-32C, bit by bit."""
    c = 0xFFFFFFFF
    for byte in data:
        c ^= byte
        for _ in range(8):
            c = (c >> 1) ^ (0x82F63B78 if c & 1 else 0)
    c ^= 0xFFFFFFFF
    return (((c >> 15) | (c << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(path: Path) -> list[dict[str, list]]:
    """The Examples of a TFRecord file as dicts of lists; their lengths and checksums must be right."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found: list[dict[str, list]] = []
    while data:
        size = int.from_bytes(data[:8], "little")
        record = data[12 : 12 + size]
        if len(found) < 5:
            assert int.from_bytes(data[8:12], "little") == slow_checksum(data[:8])
            assert int.from_bytes(data[12 + size : 16 + size], "little") == slow_checksum(record)
        features = EXAMPLE.FromString(record).features.feature
        found.append({name: list(getattr(each, each.WhichOneof("kind")).value) for name, each in features.items()})
        data = data[16 + size :]
    return found


def lists_of(shards: Shards) -> list[dict[str, list]]:
    """Every drawing as an Example should hold it."""
    drawings, rows = shards[:], []
    for place in range(len(drawings)):
        strokes = drawings.strokes_of(place)
        axes = zip(("x", "y", "t"), zip(*strokes, strict=True), strict=False)
        row = {name: np.concatenate(axis).tolist() for name, axis in axes}
        row |= {"stroke": [len(stroke[0]) for stroke in strokes], "key_id": [int(drawings.key_id[place])]}
        rows.append(row | ({"label": [int(drawings.word[place])]} if drawings.word[place] >= 0 else {}))
    return rows


@pytest.mark.parametrize("data", [b"", b"1", b"123456789", bytes(32), bytes(range(256)) * 3])
def test_the_checksum_is_crc_32c(data):
    array = np.frombuffer(b"..." + data, np.uint8)
    assert _checksum(array, 3, len(array), CRC) == slow_checksum(data)


def test_the_slow_checksum_agrees_with_the_standard():
    # RFC 3720, B.4: 32 bytes of zeroes have 0x8A9136AA; and the usual check value of "123456789".
    for data, crc in ((bytes(32), 0x8A9136AA), (b"123456789", 0xE3069283)):
        assert slow_checksum(data) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("timed", [False, True])
def test_records_of_drawings_are_the_shards(timed, folds, timed_folds, monkeypatch, tmp_path):
    monkeypatch.chdir(timed_folds if timed else folds)
    run_main(export_module, "tfrecords", tmp_path / "out", "--files", 3)
    paths = sorted((tmp_path / "out").glob("*.tfrecord"))
    assert [path.name for path in paths] == [f"{n:05}-of-00003.tfrecord" for n in range(3)]
    files = [read_records(path) for path in paths]
    assert [len(each) for each in files] == [300, 300, 300]
    assert [row for each in files for row in each] == lists_of(all_rows())
    assert json.loads((tmp_path / "out" / "words.json").read_text()) == list(WORDS.names)


def test_a_single_file_is_written_unless_it_gets_long(home, tmp_path, monkeypatch):
    run_main(export_module, "tfrecords", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.tfrecord")] == ["00000-of-00001.tfrecord"]
    monkeypatch.setattr(export_module, "FILE_SIZE", 40_000)
    run_main(export_module, "tfrecords", tmp_path / "out")
    paths = sorted((tmp_path / "out").glob("*.tfrecord"))
    assert len(paths) > 2
    assert max(path.stat().st_size for path in paths) < 1.2 * 40_000
    assert [row["key_id"] for path in paths for row in read_records(path)] == [[key] for key in all_rows().key_id]


def test_records_of_pictures_are_what_the_encoder_gives(home, tmp_path):
    run_main(export_module, "tfrecords", tmp_path / "out", "--learner", "mobilenet", "--folds", 2, 0)
    rows = all_rows("fold2", "fold0")
    images = a_learner("mobilenet").inputs(rows[:], identity(len(rows)))
    (path,) = (tmp_path / "out").glob("*.tfrecord")
    assert [row["inputs"] for row in read_records(path)] == [[image.tobytes()] for image in images]
    about = json.loads((tmp_path / "out" / "features.json").read_text())
    assert about["features"]["inputs"]["shape"] == [16, 16, 4]
    assert about["features"]["inputs"]["dtype"] == "uint8"


def test_records_of_movements_are_what_the_encoder_gives(home, tmp_path):
    run_main(export_module, "tfrecords", tmp_path / "out", "--learner", "gru")
    rows = all_rows()
    movements, lengths = a_learner("gru").inputs(rows[:], identity(len(rows)))
    (path,) = (tmp_path / "out").glob("*.tfrecord")
    for record, inputs, length, label in zip(read_records(path), movements, lengths, rows.word, strict=True):
        assert np.array_equal(np.array(record["inputs"], np.float32), inputs.ravel())
        assert record["length"] == [length]
        assert record["label"] == [label]


def test_gzip_holds_the_same_bytes(home, tmp_path):
    run_main(export_module, "tfrecords", tmp_path / "plain", "--learner", "mobilenet")
    run_main(export_module, "tfrecords", tmp_path / "zipped", "--learner", "mobilenet", "--gzip")
    plain, zipped = tmp_path / "plain/00000-of-00001.tfrecord", tmp_path / "zipped/00000-of-00001.tfrecord.gz"
    assert gzip.decompress(zipped.read_bytes()) == plain.read_bytes()
    assert zipped.stat().st_size < plain.stat().st_size / 2


@pytest.mark.parametrize("learner", ["mobilenet", "gru"])
def test_memmaps_are_what_the_encoder_gives(learner, home, tmp_path):
    run_main(export_module, "memmaps", tmp_path / "out", "--learner", learner)
    rows = all_rows()
    inputs = a_learner(learner).inputs(rows[:], identity(len(rows)))
    expected = dict(zip(("inputs", "lengths"), inputs if isinstance(inputs, tuple) else [inputs], strict=False))
    expected |= {"labels": rows.word.astype(np.int64), "key_ids": rows.key_id}
    assert {path.stem for path in (tmp_path / "out").glob("*.npy")} == set(expected)
    for name, array in expected.items():
        found = np.load(tmp_path / "out" / f"{name}.npy", mmap_mode="r")
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("timed", [False, True])
def test_memmaps_of_drawings_are_the_shards_and_read_as_the_readme_says(
    timed, folds, timed_folds, monkeypatch, tmp_path
):
    monkeypatch.chdir(timed_folds if timed else folds)
    run_main(export_module, "memmaps", tmp_path / "out")
    read: dict[str, np.ndarray] = {}
    with contextlib.chdir(tmp_path / "out"):
        exec(readme_code(Path("README.md")), read)
    rows = all_rows()
    points, strokes = read["points"], read["strokes"]
    found = []
    for n in range(len(rows)):
        row = {name: read[name][points[n] : points[n + 1]].tolist() for name in ("x", "y", *["t"] * timed)}
        row |= {"stroke": read["stroke"][strokes[n] : strokes[n + 1]].tolist()}
        found.append(row | {"key_id": [int(read["key_ids"][n])], "label": [int(read["labels"][n])]})
    assert found == lists_of(rows)
    dtypes = {"x": np.uint8, "y": np.uint8, "stroke": np.uint16, "t": np.uint32, "points": np.int64, "labels": np.int64}
    assert all(read[name].dtype == dtype for name, dtype in dtypes.items() if name in read)


def readme_code(path: Path) -> str:
    return path.read_text().split("```python\n")[1].split("```")[0]


def test_the_test_set_has_no_labels(home, tmp_path):
    run_main(export_module, "memmaps", tmp_path / "arrays", "--learner", "gru", "--test")
    assert not (tmp_path / "arrays/labels.npy").exists()
    np.testing.assert_array_equal(np.load(tmp_path / "arrays/key_ids.npy"), all_rows("test").key_id)
    run_main(export_module, "tfrecords", tmp_path / "records", "--test")
    assert read_records(tmp_path / "records/00000-of-00001.tfrecord") == lists_of(all_rows("test"))


def test_every_file_is_the_same_whatever_the_number_of_threads(home, tmp_path):
    params = load_params()
    for threads in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export_module, "load_params", lambda: params.model_copy(update={"threads": threads}))  # noqa: B023
            export("tfrecords", tmp_path / f"records{threads}", learner="mobilenet", folds=[0, 1, 2])
            export("memmaps", tmp_path / f"arrays{threads}", learner=None, folds=[0, 1, 2])
    for kind in ("records", "arrays"):
        names = [path.name for path in (tmp_path / f"{kind}1").iterdir()]
        same, *different = filecmp.cmpfiles(tmp_path / f"{kind}1", tmp_path / f"{kind}3", names, shallow=False)
        assert sorted(same) == sorted(names), different


@pytest.mark.parametrize("damage", ["", "[]", '{"features": {}}'])
def test_an_export_replaces_another_and_nothing_else(damage, home, tmp_path):
    run_main(export_module, "memmaps", tmp_path / "out", "--folds", 0)
    run_main(export_module, "tfrecords", tmp_path / "out", "--folds", 1)
    assert not (tmp_path / "out/x.npy").exists()
    (tmp_path / "mine").mkdir()
    run_main(export_module, "memmaps", tmp_path / "mine", "--folds", 0)  # an empty folder is nobody's
    (tmp_path / "mine/features.json").write_text(damage)
    told = failing_main(export_module, "memmaps", tmp_path / "mine")
    assert "mine/features.json is in the way: this program did not write it, or it was changed since." in told
    run_main(export_module, "tfrecords", tmp_path / "mine", "--folds", 1, "--force")
    assert (tmp_path / "mine/00000-of-00001.tfrecord").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_an_export_that_fails_leaves_what_was_there(home, tmp_path, monkeypatch):
    run_main(export_module, "memmaps", tmp_path / "out", "--folds", 0)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def broken(drawings):
        if len(drawings) > 1 and drawings.key_id[0] > FIRST_KEY:
            raise SketchstackError("a damaged drawing")
        return export_module._identified(drawings)

    monkeypatch.setattr(export_module, "as_drawn", broken)
    assert "a damaged drawing" in failing_main(export_module, "memmaps", tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def files(home):
    return sorted(path for path in home.rglob("*") if ".partial" not in path.parts)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tfrecords", "out", "--learner", "sereznet"], "no learner 'sereznet'; .* Did you mean 'seresnet'"),
        (["tfrecords", "out", "--folds", 0, 3], "no fold 3; params.yaml has folds 0, 1, 2"),
        (["memmaps", "params.yaml"], "params.yaml cannot be replaced by an export"),
        (["memmaps", "."], r"\. cannot be replaced by an export"),
        (["memmaps", "folds", "--test"], r"folds/\S+ is in the way"),
        (["memmaps", "params.yaml/out"], "params.yaml/out cannot be written: (Not a directory|File exists)"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_paragraph(arguments, told, home):
    before = files(home)
    with pytest.raises(SystemExit) as failed:
        run_main(export_module, *arguments)
    assert re.search(told, " ".join(str(failed.value.code).split()))
    assert files(home) == before


def test_without_folds_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    assert "words.json is missing; run `dvc repro shuffle`" in failing_main(export_module, "memmaps", "out")


def test_timing_is_not_invented(folds, timed_folds, monkeypatch, tmp_path):
    encoding = {"length": 8, "fit": "truncate", "timing": True}
    for home, good in ((folds, False), (timed_folds, True)):
        write_params(home, gru=encoding)
        monkeypatch.chdir(home)
        try:
            if good:
                run_main(export_module, "memmaps", tmp_path / "out", "--learner", "gru")
                assert np.load(tmp_path / "out/inputs.npy", mmap_mode="r").shape == (900, 8, 7)
            else:
                told = failing_main(export_module, "memmaps", tmp_path / "out", "--learner", "gru")
                assert "timing: true needs the time of each point" in told
        finally:
            write_params(home)


def test_a_disk_that_is_too_small_is_not_filled(home, tmp_path, monkeypatch):
    free = type("Free", (), {"free": 10_000})
    monkeypatch.setattr(export_module.shutil, "disk_usage", lambda path: free)
    for kind in ("memmaps", "tfrecords"):
        assert "0.0 GB of free space, and the export takes" in failing_main(export_module, kind, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_options_of_records_are_refused_for_arrays(home, capsys):
    for options in (["--gzip"], ["--files", "2"]):
        with pytest.raises(SystemExit):
            run_main(export_module, "memmaps", "out", *options)
        assert "--files and --gzip are for tfrecords" in capsys.readouterr().err


def arrays_of(batch) -> list[np.ndarray]:
    inputs = batch.inputs if isinstance(batch.inputs, tuple) else (batch.inputs,)
    return [*inputs, batch.labels]


@pytest.mark.parametrize("learner", ["seresnet", "lstm"])
@pytest.mark.parametrize("start", [0, 13])
def test_a_torch_dataset_is_the_batches(learner, start, home):
    batches = training_batches(learner, held_out=1)
    dataset = torch_dataset(batches, epochs=2, start=start)
    steps = list(dataset)
    assert len(steps) == len(dataset) == 2 * batches.steps_an_epoch - start  # type: ignore[arg-type]
    for step, (inputs, labels) in enumerate(steps, start):
        tensors = [*(inputs if isinstance(inputs, tuple) else (inputs,)), labels]
        for tensor, array in zip(tensors, arrays_of(batches.batch(step)), strict=True):
            assert tensor.numpy().dtype == array.dtype
            np.testing.assert_array_equal(tensor.numpy(), array)


def test_a_torch_dataset_survives_the_way_to_a_spawned_worker(home):
    dataset = torch_dataset(training_batches("seresnet", held_out=1), epochs=1, start=7)
    again = list(pickle.loads(pickle.dumps(dataset)))
    assert len(again) == len(dataset)  # type: ignore[arg-type]
    for (images, labels), (same_images, same_labels) in zip(dataset, again, strict=True):
        assert images.equal(same_images)
        assert labels.equal(same_labels)


def test_batches_are_those_of_the_training_stage(home):
    params = load_params()
    learner = load_learner("lstm", params.learner("lstm"), num_words=len(WORDS), seed=(params.seed, 2), threads=1)
    expected = learner.batches(all_rows("fold0", "fold1")).batch(11)
    for found, array in zip(arrays_of(training_batches("lstm", 2).batch(11)), arrays_of(expected), strict=True):
        np.testing.assert_array_equal(found, array)
    with pytest.raises(SketchstackError, match=r"no fold 5; params\.yaml has folds 0, 1, 2"):
        training_batches("lstm", 5)


def run_python(home: Path, *code: str) -> None:
    """Run code in a process of its own in a folder: frameworks must not meet in this one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", "".join(map(textwrap.dedent, code))],
        cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]


RUN_EXAMPLE = """
import doctest, pipeline.commands.export, pipeline.training.feeds
(example,) = doctest.DocTestFinder(recurse=False).find(getattr({module}, {name!r}), globs={{}})
assert len(example.examples) > 5
assert doctest.DocTestRunner().run(example).failed == 0
"""


@pytest.mark.slow
def test_workers_take_each_step_once_and_in_order_and_the_example_runs(home):
    run_python(
        home,
        """
        from torch.utils.data import DataLoader
        from dataclasses import replace
        from pipeline.training.feeds import torch_dataset, training_batches

        batches = replace(training_batches("seresnet", 0), batch_size=300)
        expected = [batches.batch(step) for step in range(3, 8)]  # enough drawings to start the threads before the fork
        for workers in (1, 2, 3):
            loader = DataLoader(torch_dataset(batches, epochs=4, start=3), batch_size=None, num_workers=workers)
            steps = list(loader)
            assert len(steps) == len(expected) == 5, (len(steps), workers)
            for (images, labels), batch in zip(steps, expected):
                assert (images.numpy() == batch.inputs).all() and (labels.numpy() == batch.labels).all()
        """,
        RUN_EXAMPLE.format(module="pipeline.training.feeds", name="torch_dataset"),
    )


@pytest.mark.slow
def test_keras_trains_on_records_as_their_readme_says_and_on_live_batches(home, tmp_path):
    run_main(export_module, "tfrecords", tmp_path / "pictures", "--learner", "mobilenet", "--gzip", "--files", 2)
    run_main(export_module, "tfrecords", tmp_path / "movements", "--learner", "gru")
    run_main(export_module, "tfrecords", tmp_path / "drawings")
    rows = all_rows()
    images = a_learner("mobilenet").inputs(rows[:], identity(len(rows)))
    movements, lengths = a_learner("gru").inputs(rows[:], identity(len(rows)))
    np.savez(tmp_path / "expected.npz", images=images, movements=movements, lengths=lengths, labels=rows.word)
    (tmp_path / "lists.json").write_text(json.dumps(lists_of(rows)))
    for name in ("pictures", "movements", "drawings"):
        (tmp_path / f"{name}_readme.py").write_text(readme_code(tmp_path / name / "README.md"))
    run_python(
        tmp_path,
        """
        import json, sys
        import keras, numpy as np
        from pictures_readme import read_tfrecords  # what stands in the README, and nothing else

        assert "pipeline" not in sys.modules
        expected = np.load("expected.npz")
        pictures = read_tfrecords("pictures")
        assert pictures.element_spec["inputs"].shape == (16, 16, 4)
        for row, image, label in zip(pictures.as_numpy_iterator(), expected["images"], expected["labels"], strict=True):
            assert row["inputs"].dtype == np.uint8 and (row["inputs"] == image).all() and row["label"] == label
        from movements_readme import read_tfrecords as read_movements
        rows = read_movements("movements").as_numpy_iterator()
        for row, movements, length in zip(rows, expected["movements"], expected["lengths"], strict=True):
            assert (row["inputs"] == movements).all() and row["length"] == length
        from drawings_readme import read_tfrecords as read_drawings
        drawings = read_drawings("drawings")
        for row, lists in zip(drawings.as_numpy_iterator(), json.load(open("lists.json")), strict=True):
            assert {name: np.atleast_1d(value).tolist() for name, value in row.items()} == lists
        assert drawings.padded_batch(100).take(1).get_single_element()["x"].shape[0] == 100

        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(4)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        rows = pictures.shuffle(1000, seed=1).batch(64)
        pairs = rows.map(lambda row: (row["inputs"], row["label"]))
        curve = model.fit(pairs, epochs=6, shuffle=False, verbose=0).history
        assert curve["loss"][-1] < 0.6 * curve["loss"][0] and curve["accuracy"][-1] > 0.9, curve
        """,
    )
    run_python(
        home,
        """
        import numpy as np
        from pipeline.training.feeds import tf_dataset, training_batches

        def same(found, batch):
            inputs, labels = found
            found = [*(inputs if isinstance(inputs, tuple) else (inputs,)), labels]
            arrays = [*(batch.inputs if isinstance(batch.inputs, tuple) else (batch.inputs,)), batch.labels]
            return all((a.numpy() == b).all() and a.dtype == b.dtype for a, b in zip(found, arrays, strict=True))

        for learner in ("mobilenet", "gru"):
            batches = training_batches(learner, 1)
            steps = 2 * batches.steps_an_epoch
            for start in (0, 13):
                dataset = tf_dataset(batches, epochs=2, start=start)
                assert int(dataset.cardinality()) == steps - start
                found = list(dataset)
                assert len(found) == steps - start
                assert all(same(each, batches.batch(step)) for step, each in enumerate(found, start))
            first = batches.batch(0)
            shapes = [first.inputs.shape] if learner == "mobilenet" else [each.shape for each in first.inputs]
            spec = dataset.element_spec[0]
            assert [each.shape for each in (spec if isinstance(spec, tuple) else (spec,))] == shapes
        import keras
        from pipeline.learners._base import load_learner
        from pipeline.foundation.params import load_params
        gru = load_learner("gru", load_params().learner("gru"), num_words=4, seed=(1,), threads=1)
        model = gru.made_network()
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(dataset, shuffle=False, verbose=0)
        """,
        RUN_EXAMPLE.format(module="pipeline.training.feeds", name="tf_dataset"),
    )


def test_of_shards_that_were_cut_no_more_is_written_than_is_left(tmp_path):
    (shard,) = toy_drawings(30, seed=0).shards
    write_memmaps(tmp_path, as_drawn, Shards([shard]).first(11))
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), shard.x[: shard.points[11]])
    np.testing.assert_array_equal(np.load(tmp_path / "strokes.npy"), shard.strokes[:12])
