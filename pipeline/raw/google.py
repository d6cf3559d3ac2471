"""A competition in Kaggle's layout out of Google's public Quick, Draw! data set.

Of each word, the first drawings of its file are taken. A seeded hash of the drawing picks the test set of each word, so
the result depends on the request alone; its labels are kept. A drawing or key_id of the test set is in no training row.

    <bucket>/full/simplified/<word>.ndjson → train_simplified/<word>.csv, test_simplified.csv, test_labels.csv,
                                             sample_submission.csv, source.json
"""

from __future__ import annotations

import difflib
import heapq
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tqdm import tqdm
from xxhash import xxh3_64_intdigest

from pipeline.drawings.kaggle_csv import KaggleRow, write_test_files, write_training_file
from pipeline.drawings.words import spell
from pipeline.foundation.artefacts import file_hash, remove, whole_folder
from pipeline.foundation.disk import check_space, size
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.progress import progress_bar
from pipeline.raw.bucket import KAGGLE, Bucket

ADDRESS = "https://storage.googleapis.com/quickdraw_dataset"
SOURCE = "source.json"  # what was asked for, and the checksums of all files
TEST_SHARE, MOST_TEST_ROWS = 0.1, 300  # Kaggle's test set has 330 drawings a word
LINE_BYTES = {"simplified": 500, "raw": 4000}  # expected length of a line
LEAST_LINE_BYTES = {"simplified": 250, "raw": 1500}
COPIES = 3  # of the drawings on disk: as they came, as CSV, and in DVC's cache
DRAWING = re.compile(rb'"drawing"\s*:\s*(\[[][0-9,.eE+\s-]*\])')
TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?: UTC)?")


@dataclass(frozen=True)
class Request:
    """What a competition is made of; the same request gives the same bytes.

    Attributes:
        address: of the bucket.
        kind: `simplified` or `raw`.
        words: in Google's spelling.
        rows: drawings that are taken of each word.
        test_rows: how many of them go to the test set.
        seed: of the choice of these.
    """

    address: str
    kind: str
    words: tuple[str, ...]
    rows: int
    test_rows: int
    seed: int

    @property
    def train(self) -> str:
        """The folder of the training files."""
        return f"train_{self.kind}"

    @property
    def test(self) -> str:
        """The file of the test drawings."""
        return f"test_{self.kind}.csv"

    def remote(self, word: str) -> str:
        """The file of a word in the bucket."""
        return f"full/{self.kind}/{word}.ndjson"


@dataclass
class Counts:
    """What became of the lines of one word.

    Attributes:
        lines: that were read.
        train, test: rows that were written.
        unread: lines that are no drawing of the word.
    """

    lines: int = 0
    train: int = 0
    test: int = 0
    unread: int = 0

    @property
    def twins(self) -> int:
        """Drawings that are left out: their key_id or drawing is in the test set, or their key_id came before."""
        return self.lines - self.unread - self.train - self.test


def known_words() -> tuple[list[str], list[str]]:
    """The words of the competition, and those that only Google's data set has."""
    lines = files("pipeline.raw").joinpath("google_words.txt").read_text(encoding="utf-8").splitlines()
    words = [line for line in lines if not line.startswith("#")]
    only_google = [word.removeprefix("- ") for word in words if word.startswith("- ")]
    return [word for word in words if not word.startswith("- ")], only_google


def chosen_words(text: str | None, address: str) -> tuple[str, ...]:
    """The words that `--words` names, in Google's spelling and without repeats.

    Args:
        text: words between commas, also in Kaggle's spelling (`wine_glass`); `all` for all of Google; None for those of
            the competition.
        address: of the bucket; a bucket that is not Google's may have other words.

    Raises:
        SketchstackError: Google has no such word, or there are fewer than two.
    """
    competition, only_google = known_words()
    if text is None:
        return tuple(competition)
    known = {spell(word).lower(): word for word in (*competition, *only_google)}
    if text.strip() == "all":
        return tuple(sorted(known.values()))
    words = []
    for name in filter(None, (" ".join(each.split()) for each in text.split(","))):
        word = known.get(spell(name).lower(), name)
        if word not in known.values() and address == ADDRESS:
            raise SketchstackError(f"--words: Google's data set has no word {name!r}; similar: {_similar(name)}.")
        words.append(word)
    if len(set(words)) < 2:
        raise SketchstackError(f"--words {text!r} names {len(set(words))} words, and a competition needs two or more.")
    return tuple(dict.fromkeys(words))


def _similar(name: str) -> str:
    known = [word for words in known_words() for word in words]
    lower = {word.lower(): word for word in known if word != name}
    return ", ".join(lower[near] for near in difflib.get_close_matches(name.lower(), lower, 3, 0.5)) or "none"


def is_there(place: Path, request: Request) -> bool:
    """Whether a folder holds the competition of a request, with all its files as they were written."""
    try:
        told = json.loads((place / SOURCE).read_text(encoding="utf-8"))
        written: dict[str, str] = told["files"]
        there = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} - {SOURCE}
        return told["request"] == _as_json(request) and there == set(written) and _are_intact(place, written)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _are_intact(place: Path, written: dict[str, str]) -> bool:
    return all(file_hash(place / name) == digest for name, digest in written.items())


def _as_json(request: Request) -> Any:
    return json.loads(json.dumps(asdict(request)))


def check_room(place: Path, request: Request) -> None:
    """Refuse a request that the disk has no room for.

    Raises:
        SketchstackError: it has not.
    """
    least = COPIES * LEAST_LINE_BYTES[request.kind] * request.rows * len(request.words)
    what = f"fetching {request.rows:,} drawings of {len(request.words)} words"
    check_space(place, least, what, "make room, or take fewer with --rows (ROWS= of make) or --words (WORDS=)")


def download(request: Request, folder: Path, bucket: Bucket, connections: int) -> None:
    """Fetch the first lines of all words into `<word>.ndjson` of a folder; goes on where it was stopped.

    Raises:
        SketchstackError: a word cannot be fetched.
    """
    with progress_bar("fetch", total=len(request.words), unit="word") as bar, ThreadPoolExecutor(connections) as pool:
        bucket.told = lambda line: bar.set_postfix_str(f"{size(bucket.received)}, {line}")
        running = [pool.submit(_fetch_word, request, word, folder, bucket) for word in request.words]
        try:
            for each in as_completed(running):
                each.result()
                bar.update()
                bar.set_postfix_str(_speed(bucket, bar), refresh=False)
        except BaseException:
            bucket.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _speed(bucket: Bucket, bar: tqdm) -> str:
    seconds = max(bar.format_dict["elapsed"], 1e-3)
    return f"{size(bucket.received)}, {size(bucket.received / seconds)}/s"


def _fetch_word(request: Request, word: str, folder: Path, bucket: Bucket) -> None:
    try:
        bucket.fetch(
            request.remote(word), _local(folder, word), lines=request.rows, line_bytes=LINE_BYTES[request.kind]
        )
    except FileNotFoundError as error:
        raise SketchstackError(
            f"{error} is not there: {request.address} has no drawings of {word!r}; similar words of Google: "
            f"{_similar(word)}. Name the words that it has with --words (WORDS= of make)."
        ) from None


def _local(folder: Path, word: str) -> Path:
    return folder / f"{word}.ndjson"


def write_competition(place: Path, request: Request, folder: Path) -> dict[str, Counts]:
    """Write the competition of the words that are in a folder; `place` appears whole.

    Raises:
        SketchstackError: a file holds no drawings of its word.
    """
    counts = {word: Counts() for word in request.words}
    with whole_folder(place) as beside:
        test = _chosen(request, folder)
        (beside / request.train).mkdir()
        drawings, key_ids = {_hash(each, request.seed) for each in test}, {each.key_id for each in test}
        for word in _shown(request.words):
            count = counts[word]
            rows = _read(_local(folder, word), word, request.rows, count)
            kept = _apart(rows, drawings, key_ids, request.seed, count)
            write_training_file(beside / request.train / f"{word}.csv", kept)
        write_test_files(
            test,
            request.words,
            test=beside / request.test,
            sample=beside / "sample_submission.csv",
            labels=beside / "test_labels.csv",
        )
        for each in test:
            counts[each.word].test += 1
        for word, count in counts.items():
            if not count.train:
                raise SketchstackError(
                    f"{request.address}/{request.remote(word)} holds {count.lines} lines, of which {count.unread} are "
                    f"no drawings of {word!r}, and no row is left for training. Leave the word out with --words "
                    f"(WORDS= of make), or name another copy of the bucket with --address; {KAGGLE}."
                )
        _write_source(beside, request, counts)
    return counts


def _shown(words: Sequence[str]) -> Iterator[str]:
    """The words, with a progress bar."""
    with progress_bar("write", total=len(words), unit="word") as bar:
        for word in words:
            yield word
            bar.update()


def _write_source(folder: Path, request: Request, counts: dict[str, Counts]) -> None:
    """Write what the competition was made from, with the SHA-256 of each of its files."""
    written = {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    words = {word: asdict(count) for word, count in counts.items()}
    source = {"request": asdict(request), "licence": "CC BY 4.0, Google, Inc.", "words": words, "files": written}
    (folder / SOURCE).write_text(json.dumps(source, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _chosen(request: Request, folder: Path) -> list[KaggleRow]:
    """The test set: of each word, the drawings with the smallest seeded hashes; no key_id and no drawing twice."""
    test: list[KaggleRow] = []
    key_ids: set[int] = set()
    hashes: set[int] = set()
    for word in request.words:
        found: dict[int, KaggleRow] = {}
        count = Counts()
        for each in _read(_local(folder, word), word, request.rows, count):
            found.setdefault(_hash(each, request.seed), each)
        share = request.test_rows / request.rows
        wanted = min(request.test_rows, max(1, round(share * count.lines)), len(found) - 1)
        free = {each.key_id: number for number, each in found.items() if number not in hashes}
        for number in heapq.nsmallest(max(wanted, 0), (free[key_id] for key_id in free.keys() - key_ids)):
            test.append(found[number])
            key_ids.add(found[number].key_id)
            hashes.add(number)
    return test


def _apart(
    rows: Iterable[KaggleRow], drawings: set[int], key_ids: set[int], seed: int, count: Counts
) -> Iterator[KaggleRow]:
    """The rows that share nothing with the test set, each key_id once."""
    seen: set[int] = set()
    for each in rows:
        if each.key_id not in key_ids and each.key_id not in seen and _hash(each, seed) not in drawings:
            seen.add(each.key_id)
            count.train += 1
            yield each


def _hash(each: KaggleRow, seed: int) -> int:
    """64-bit hash of a drawing, however its numbers are spaced."""
    return int(xxh3_64_intdigest("".join(each.drawing.split()).encode(), seed=seed))


def _read(path: Path, word: str, rows: int, count: Counts) -> Iterator[KaggleRow]:
    """The drawings in the first lines of a file, which are complete; behind them, the end of a range may cut a line."""
    with path.open("rb") as file:
        for line, _ in zip(file, range(rows), strict=False):
            count.lines += 1
            drawing = _parsed(line, word)
            if drawing is None:
                count.unread += 1
            else:
                yield drawing


def _parsed(line: bytes, word: str) -> KaggleRow | None:
    """A line of ndjson as a row, with the text of its drawing as it is; None if it is no drawing of the word."""
    try:
        record = json.loads(line)
        text = DRAWING.search(line)
        if text is None or not record["drawing"] or spell(record["word"]) != spell(word):
            return None
        stamp = TIMESTAMP.fullmatch(record["timestamp"])
        return KaggleRow(
            int(record["key_id"]),
            str(record["countrycode"] or ""),
            text[1].decode(),
            {True: True, False: False}[record["recognized"]],
            f"{stamp[1]}.{stamp[2] or '':0<6}" if stamp else str(record["timestamp"]),
            word,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def fetch(place: Path, request: Request, folder: Path, *, connections: int) -> str:
    """Fetch the drawings of a request and write their competition; returns the summary.

    Args:
        place: of the competition.
        request: what it is made of.
        folder: for the downloads; it stays if the fetch is stopped, and is removed at its end.
        connections: most requests at a time.

    Raises:
        SketchstackError: the bucket cannot be fetched from, or the disk has no room.
    """
    bucket = Bucket(request.address, connections=connections)
    check_room(place, request)
    download(request, folder, bucket, connections)
    counts = write_competition(place, request, folder)
    remove(folder)
    return summary(request, counts, bucket)


def summary(request: Request, counts: dict[str, Counts], bucket: Bucket) -> str:
    """What was fetched, and what of it is no row."""
    train, test, unread, twins = (
        sum(getattr(count, name) for count in counts.values()) for name in ("train", "test", "unread", "twins")
    )
    told = [
        f"{len(counts)} words, {train:,} training and {test:,} test drawings; {size(bucket.received)} came from "
        f"{request.address}."
    ]
    if twins:
        told.append(f"{twins:,} rows are left out: their drawing or key_id is in the test set or came before.")
    if unread:
        where = ", ".join(word for word, count in counts.items() if count.unread)
        told.append(f"{unread:,} lines are no drawings of their word and are left out: {where}.")
    if short := [word for word, count in counts.items() if count.lines < request.rows]:
        told.append(f"Fewer than {request.rows:,} drawings are there of {', '.join(short)}.")
    return " ".join(told)
