"""Everything that a run uses, checked before anything is trained: params.yaml, words, sample submission, labels.

The stages check the same again, each what it uses, with the functions that are called here.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params
from pipeline.foundation.spreadsheets import rounded, why_unknown
from pipeline.raw.columns import parsed_key_id, written_ids
from pipeline.raw.corrections import CORRECTIONS, corrections_of, read_corrections
from pipeline.raw.files import RawFile, blocks, layout_of
from pipeline.raw.listing import test_file, training_files
from pipeline.submissions.files import sample_key_ids
from pipeline.submissions.ledger import read_ledger
from pipeline.submissions.scoring import every_word, true_words
from pipeline.submissions.sources import check_combinations

_JSON_KEY_ID = re.compile(rb'"key_id" *: *"?(-?[0-9]+)')


def check_models(params: Params) -> None:
    """Check params.yaml against the learners and meta-learners that it names; takes seconds, for their libraries.

    Raises:
        SketchstackError: a name or a param of theirs is not known, or has a value that it must not have.
    """
    from pipeline.learners._base import load_learner
    from pipeline.stacking.super_learner import load_metalearners

    for name in dict.fromkeys([*params.ensemble, *params.pseudo.learners]):
        learner = load_learner(name, params.learner(name), num_words=2, seed=(params.seed,), threads=params.threads)
        learner.check(params.devices)
        _check_initial_weights(name, params)
    load_metalearners(params, 2)
    check_combinations(params)


def _check_initial_weights(name: str, params: Params) -> None:
    """Refuse a file of weights to start from that is missing or another one."""
    file = params.learner(name).training.initial_weights
    if file is None:
        return
    where = f"params.yaml, learners.{name}.training.initial_weights: {file.path}"
    if not Path(file.path).is_file():
        raise SketchstackError(f"{where} is missing; name a weights.safetensors, or write null.")
    if (given := file_hash(Path(file.path))) != file.sha256:
        raise SketchstackError(f"{where} has SHA-256 {given}, not {file.sha256}; correct `sha256` or the path.")


def check_inputs(params: Params) -> None:
    """Check the raw files that later stages read; nothing where the folder is missing, or a stage writes it.

    Raises:
        SketchstackError: a file is missing, a word cannot be in a submission, or the rows of two files do not fit.
    """
    read_ledger()
    check_combinations(params)
    folder = Path(params.data.folder)
    if not folder.is_dir() or folder.name in params.synthesize.competitions:
        return
    words, files = training_files(params)
    check_words(files)
    corrections_of(params.data.folder, words, every=params.shuffle.words == "all")
    asked = sample_key_ids(params.sample_path)
    _check_corrections(params.data.folder, asked)
    test = test_file(params, len(files))
    check_sample(test, np.fromiter(key_ids_of(test), np.uint64).view(np.int64), params.sample_path, asked)
    if params.labels_path:
        true_words(params.labels_path, written_ids(asked).tolist(), params.sample_path, every_word(params))


def check_words(files: Iterable[RawFile]) -> None:
    """Refuse words that a submission cannot hold.

    Args:
        files: the training files, one or more for each word.

    Raises:
        SketchstackError: a word has a character that separates words or fields.
    """
    found = {str(file.word): file for file in files}
    for word, file in found.items():
        if fault := _unfit(word):
            raise SketchstackError(
                f"{str(file)!r} is of the word {word!r}, which no submission can hold: it has {fault}. A submission is "
                f"a CSV of words separated by one blank (a blank inside a word is written as _). Rename the file and "
                f"the word in its rows."
            )


def _unfit(word: str) -> str:
    """What in a word cannot be in a submission; empty if nothing."""
    for character in word:
        kind = unicodedata.category(character)
        if character in ',"':
            return f"the character {character}"
        if character.isspace() or kind == "Cc":
            return f"the blank or control character {character!r}"
        if kind == "Cs":
            return f"{character!r}, a byte of a file's name that is not UTF-8"
    return "" if word else "no character"


def key_ids_of(raw: RawFile) -> Iterator[int]:
    """The key_ids of a file of drawings that can be read, in order; `shuffle` tells of the others."""
    layout = layout_of(raw)
    at = layout.columns.index("key_id") if layout.columns else 0
    for block in blocks(raw, layout.above):
        text = b"" if block.text is None else block.text.tobytes()
        if not layout.columns:
            yield from _of_lines(text)
            continue
        for line in text.decode(errors="replace").splitlines():
            fields = _fields(line)
            if at < len(fields) and (key_id := parsed_key_id(fields[at].strip())) is not None:
                yield key_id


def _of_lines(text: bytes) -> Iterator[int]:
    """The key_ids of lines of JSON."""
    for line in text.splitlines():
        found = _JSON_KEY_ID.search(line)
        if found and (key_id := parsed_key_id(found[1].decode())) is not None:
            yield key_id


def _fields(line: str) -> list[str]:
    """The fields of a line of CSV; none where it is no CSV."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return []


def check_sample(test: RawFile, key_ids: np.ndarray, sample: Path, asked: np.ndarray) -> None:
    """Refuse a sample submission that is not of the test drawings.

    Args:
        test: the file of test drawings.
        key_ids: (T,) int64 of its rows.
        sample: the sample submission.
        asked: (N,) int64 key_ids of its rows.

    Raises:
        SketchstackError: it lacks a test drawing.
    """
    unasked = key_ids[~np.isin(key_ids, asked)]
    if len(unasked):
        ids, lacking = written_ids(asked).tolist(), written_ids(unasked).tolist()
        raise SketchstackError(
            f"{sample} lacks the key_id {lacking[0]} of {test} and {len(unasked) - 1} more of its {len(key_ids)} "
            f"drawings, so the two are not of one competition; see data.test and data.sample_submission in "
            f"params.yaml.{why_unknown(ids if rounded(ids) else lacking)}"
        )


def _check_corrections(folder: str, asked: np.ndarray) -> None:
    """Refuse rounded key_ids among corrections where those of the competition are not rounded."""
    corrected = [each.key_id for each in read_corrections() if each.folder == folder]
    if len(corrected) > 2 and rounded(corrected) and not rounded(written_ids(asked).tolist()):
        raise SketchstackError(f"{CORRECTIONS} has no key_id of {folder} as it was.{why_unknown(corrected)}")
