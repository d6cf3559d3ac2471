"""1,000 random corruptions of a submission of 500 rows, each found in its row; 1,000 changed bytes, each found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.errors import SketchstackError
from pipeline.submissions.files import HEADER, check_file, faults

WORDS = ["ant", "t-shirt", "The_Eiffel_Tower", "baseball", "baseball_bat", "hot_air_balloon", "sun", "zigzag"]
ROWS = 500
TIMES = 1000
Random = np.random.Generator
Lines = list[str]  # of the file, the header first


def submission(random: Random) -> Lines:
    key_ids = 9_000_000_000_000_000 + random.choice(10**6, ROWS, replace=False)
    return [HEADER, *(f"{key_id},{' '.join(random.choice(WORDS, 3, replace=False))}" for key_id in key_ids)]


def parted(line: str) -> tuple[str, Lines]:
    key_id, guesses = line.split(",")
    return key_id, guesses.split(" ")


def respelled(word: str) -> str:
    """As people misspell it."""
    return word.swapcase() if word.isalpha() else word.replace("_", "-") if "_" in word else word.replace("-", "_")


def spoil_guess(line: str, random: Random, how: Callable[[str], str]) -> str:
    key_id, guesses = parted(line)
    place = random.integers(3)
    guesses[place] = how(guesses[place])
    return f"{key_id},{' '.join(guesses)}"


# Each changes one line of the file, and says what must be told of it.
IN_ROW: dict[str, tuple[Callable[[str, Random], str], str]] = {
    "blank row": (lambda line, random: " " * random.integers(3), "the row is blank"),
    "fewer guesses": (lambda line, random: line.rpartition(" ")[0], "2 guesses instead of 3"),
    "no guesses": (lambda line, random: parted(line)[0] + ",", "0 guesses"),
    "more guesses": (
        lambda line, random: f"{line} {random.choice([w for w in WORDS if w not in line.split(',')[1].split()])}",
        "4 guesses",
    ),
    "a guess twice": (
        lambda line, random: f"{line.rpartition(' ')[0]} {parted(line)[1][random.integers(2)]}",
        "a word is guessed twice",
    ),
    "unknown word": (lambda line, random: spoil_guess(line, random, lambda _: "unicorn"), "unknown word 'unicorn'"),
    "spelling": (lambda line, random: spoil_guess(line, random, respelled), "spelling: "),
    "blank too many": (
        lambda line, random: line.replace(" ", "  ", 1) if random.integers(2) else line.replace(",", ", "),
        "blanks other",
    ),
    "tab": (lambda line, random: line.replace(" ", "\t", 1), "blanks other"),
    "another comma": (lambda line, random: line.replace(" ", ",", random.integers(1, 3)), "fields instead of"),
    "no comma": (lambda line, random: line.replace(",", random.choice([";", " ", ""])), "1 fields instead of"),
    "float": (lambda line, random: line.replace(",", random.choice([".0,", "e0,"]), 1), "is not a 64-bit integer"),
    "sign or zero": (lambda line, random: random.choice(["+", "0"]) + line, "is not a 64-bit integer"),
    "quotes": (lambda line, random: '"' + line.replace(",", '",', 1), "is not a 64-bit integer"),
    "too large": (lambda line, random: f"{2**64 + int(random.integers(9))}," + line.split(",")[1], "64-bit integer"),
    "another key_id": (lambda line, random: f"{random.integers(9**9)}," + line.split(",")[1], "is not in the sample"),
    "carriage return": (lambda line, random: line + "\r", "a carriage return"),
}


def row_dropped(lines: Lines, row: int, random: Random) -> tuple[Lines, str]:
    return lines[:row] + lines[
        row + 1 :
    ], f"row {row} (line {row + 1}): key_id {parted(lines[row])[0]}, which the sample"


def row_twice(lines: Lines, row: int, random: Random) -> tuple[Lines, str]:
    after = int(random.integers(row, ROWS + 1))
    told = f"row {after + 1} (line {after + 2}): key_id {parted(lines[row])[0]} is repeated"
    return [*lines[: after + 1], lines[row], *lines[after + 1 :]], told


def rows_swapped(lines: Lines, row: int, random: Random) -> tuple[Lines, str]:
    other = int(random.choice([place for place in range(1, ROWS + 1) if place != row]))
    changed = list(lines)
    changed[row], changed[other] = lines[other], lines[row]
    return changed, f"row {min(row, other)} (line {min(row, other) + 1}): order"


def another_header(lines: Lines, row: int, random: Random) -> tuple[Lines, str]:
    return [
        random.choice(["key_id,words", "id,word", "key_id;word", "KEY_ID,WORD", ""]),
        *lines[1:],
    ], "line 1: the header"


WHOLE = {"row dropped": row_dropped, "row twice": row_twice, "rows swapped": rows_swapped, "header": another_header}


def not_utf8(content: bytes, row: int, random: Random) -> tuple[bytes, str]:
    lines = content.split(b"\n")
    place = int(random.integers(len(lines[row]) + 1))
    lines[row] = lines[row][:place] + bytes([int(random.integers(0x80, 0xC0))]) + lines[row][place:]
    return b"\n".join(lines), f"row {row} (line {row + 1}): encoding"


def byte_order_mark(content: bytes, row: int, random: Random) -> tuple[bytes, str]:
    return b"\xef\xbb\xbf" + content, "line 1: encoding"


def no_end(content: bytes, row: int, random: Random) -> tuple[bytes, str]:
    return content[:-1], f"row {ROWS} (line {ROWS + 1}): line ends"


def windows(content: bytes, row: int, random: Random) -> tuple[bytes, str]:
    return content.replace(b"\n", b"\r\n"), "line 1: line ends"


BYTES = {"not UTF-8": not_utf8, "byte order mark": byte_order_mark, "no last line end": no_end, "CRLF": windows}
KINDS = [*IN_ROW, *WHOLE, *BYTES]


def corrupted(kind: str, lines: Lines, random: Random) -> tuple[bytes, str]:
    """The bytes of a spoiled submission, and what must be told of them."""
    row = int(random.integers(1, ROWS + 1))
    if kind in IN_ROW:
        spoil, told = IN_ROW[kind]
        changed = [*lines[:row], spoil(lines[row], random), *lines[row + 1 :]]
        return written(changed), f"row {row} (line {row + 1}): |{told}"
    if kind in WHOLE:
        changed, told = WHOLE[kind](lines, row, random)
        return written(changed), told
    return BYTES[kind](written(lines), row, random)


def written(lines: Lines) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def key_ids_of(lines: Lines) -> np.ndarray:
    return np.array([int(parted(line)[0]) for line in lines[1:]])


def test_a_thousand_corruptions_are_each_found_in_their_row():
    random = np.random.default_rng(0)
    lines = submission(random)
    key_ids, words = key_ids_of(lines), set(WORDS)
    assert faults(written(lines), key_ids, words) == []
    missed = []
    for number in range(TIMES):
        kind = KINDS[number % len(KINDS)]
        content, told = corrupted(kind, lines, random)
        found = faults(content, key_ids, words)
        where, _, what = told.rpartition("|")
        if not any(fault.startswith(where) and what in fault for fault in found):
            missed.append((kind, told, found[:3]))
    assert missed == []


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    """A submission with its manifest, the sample, and the words beside it."""
    lines = submission(np.random.default_rng(1))
    (tmp_path / "train_simplified").mkdir()
    for word in WORDS:
        (tmp_path / "train_simplified" / f"{word.replace('_', ' ')}.csv").touch()
    guess = " ".join(WORDS[:3])
    (tmp_path / "sample.csv").write_text(
        "\n".join([HEADER, *(f"{key_id},{guess}" for key_id in key_ids_of(lines)), ""])
    )
    (tmp_path / "mine.csv").write_bytes(written(lines))
    (tmp_path / "mine.json").write_text(json.dumps({"sha256": file_hash(tmp_path / "mine.csv")}))
    return tmp_path


def test_a_thousand_changed_bytes_are_each_found(competition):
    random, file, sample = np.random.default_rng(2), competition / "mine.csv", competition / "sample.csv"
    content, told = file.read_bytes(), 0
    key_ids = key_ids_of(content.decode().splitlines())
    assert check_file(file, sample) == ROWS
    for _ in range(TIMES):
        place = int(random.integers(len(content)))
        changed = bytearray(content)
        changed[place] = (changed[place] + int(random.integers(1, 256))) % 256
        file.write_bytes(changed)
        with pytest.raises(SketchstackError, match=r"mine\.csv"):
            check_file(file, sample)
        told += bool(faults(bytes(changed), key_ids, set(WORDS)))
    assert told >= 0.99 * TIMES, "next to all are found without the manifest"


def test_another_valid_submission_is_told_from_the_one_of_the_manifest(competition):
    file, sample = competition / "mine.csv", competition / "sample.csv"
    file.write_bytes(sample.read_bytes())
    with pytest.raises(SketchstackError, match=r"is valid, but it is not the file of .*mine.json"):
        check_file(file, sample)
    (competition / "mine.json").unlink()
    assert check_file(file, sample) == ROWS
