"""Requests that are none, sent to a server: each must get a 4xx that names field, reason and remedy, in bounded memory.

python -m bench.junk --pack champion.zip --requests 5000 --seed 0
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from bench.load import SINGLE, packed
from bench.tables import RESULTS, commit, hardware, markdown_table
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.serving import limits
from tests.serving.processes import CAT, Served, serving

HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
JSON = "Content-Type: application/json\r\n"
AT_A_TIME = 4  # requests
WORDS = (
    "../../etc/passwd",
    "\x00",
    "\ud800",
    "cat\r\nX: 1",
    "'; DROP TABLE words",
    "${HOME}",
    "%s%n",
    "ｃａｔ",
    "a" * 5000,
)
WRONG: tuple[Any, ...] = (None, True, "1", [], {}, [1], {"x": 1}, "NaN")
Rng = np.random.Generator


class Sent(NamedTuple):
    """A junk request: its kind, and the bytes on the wire."""

    kind: str
    content: bytes


def posted(body: bytes, headers: str = JSON) -> bytes:
    """A request with a body."""
    return f"{HEAD}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def drawing(rng: Rng, raw: bool = False) -> list[list[list[Any]]]:
    """A valid drawing of some strokes."""

    def stroke() -> list[list[Any]]:
        x, y = rng.integers(0, 256, (2, int(rng.integers(2, 30)))).tolist()
        return [x, y, np.sort(rng.integers(0, 9999, len(x))).tolist()] if raw else [x, y]

    return [stroke() for _ in range(int(rng.integers(1, 8)))]


def with_value(rng: Rng, text: str, raw: bool) -> bytes:
    """A drawing as JSON, one of whose numbers is replaced by a text."""
    given = drawing(rng, raw)
    stroke = given[int(rng.integers(len(given)))]
    axis = stroke[int(rng.integers(len(stroke)))]
    axis[int(rng.integers(len(axis)))] = "?"
    return posted(json.dumps({"drawing": given}).replace('"?"', text).encode())


def broken(rng: Rng) -> bytes:
    """JSON that breaks off, or has one character too many."""
    text = json.dumps({"drawing": drawing(rng)})
    place = int(rng.integers(0, len(text)))
    return posted((text[:place] if rng.random() < 0.5 else f"{text[:place]}}}{text[place:]}").encode())


def random_bytes(rng: Rng) -> bytes:
    """Bytes of any kind."""
    return posted(rng.bytes(int(rng.integers(0, 5000))))


def huge_number(rng: Rng) -> bytes:
    """A number of many digits, or with a large exponent."""
    digits = "9" * int(rng.integers(9, 6000))
    texts = (digits, f"-{digits}", f"1e{rng.integers(7, 99999)}", f"-1E+{rng.integers(7, 99999)}", f"{digits}.5")
    return with_value(rng, texts[int(rng.integers(len(texts)))], raw=bool(rng.random() < 0.5))


def no_number(rng: Rng) -> bytes:
    """NaN and Infinity."""
    texts = ("NaN", "Infinity", "-Infinity", "nan", "inf", "-NaN", "0x10", "1_0", ".5", "+1", "01")
    return with_value(rng, texts[int(rng.integers(len(texts)))], raw=bool(rng.random() < 0.5))


def wrong_type(rng: Rng) -> bytes:
    """A value of another type in place of a number."""
    return with_value(rng, json.dumps(WRONG[int(rng.integers(len(WRONG)))]), raw=bool(rng.random() < 0.5))


def out_of_range(rng: Rng) -> bytes:
    """A coordinate or time that is none, in a drawing that is otherwise valid."""
    raw = bool(rng.random() < 0.5)
    return with_value(rng, str(-(10 ** int(rng.integers(7, 15))) if raw else int(rng.integers(256, 10**9))), raw)


def deep(rng: Rng) -> bytes:
    """Lists or objects in one another, closed or not."""
    levels, opens = int(rng.integers(9, 200_000)), [("[", "]"), ('{"drawing":', "}")][int(rng.integers(2))]
    levels = min(levels, 900_000 // len(opens[0]))
    return posted((opens[0] * levels + opens[1] * (levels if rng.random() < 0.3 else 0)).encode())


def large_length(rng: Rng) -> bytes:
    """A length of gigabytes, and little behind it."""
    length = int(2 ** rng.uniform(24.5, 62))
    return f"{HEAD}{JSON}Content-Length: {length}\r\n\r\n".encode() + b'{"drawing": [' * int(rng.integers(0, 1000))


def large_chunks(rng: Rng) -> bytes:
    """More than a body may have, in chunks, without a length."""
    chunk = b"[[0,1],[2,3]]," * 7000
    framed = f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
    return (
        f"{HEAD}{JSON}Transfer-Encoding: chunked\r\n\r\n".encode() + framed * int(rng.integers(12, 40)) + b"0\r\n\r\n"
    )


def large_body(rng: Rng) -> bytes:
    """More than a body may have, with its length."""
    return posted(b" " * (limits.MOST_BYTES + int(rng.integers(1, 3_000_000))))


def many_strokes(rng: Rng) -> bytes:
    """Ten thousand strokes and more."""
    return posted(json.dumps({"drawing": [[[1, 2], [3, 4]]] * int(rng.integers(1001, 40_000))}).encode())


def many_points(rng: Rng) -> bytes:
    """More points than a drawing may have."""
    count = int(rng.integers(limits.MOST_POINTS + 1, 100_000))
    return posted(json.dumps({"drawing": [[[7] * count, [8] * count]]}).encode())


def many_drawings(rng: Rng) -> bytes:
    """More drawings than a request may have."""
    return posted(json.dumps({"drawings": [[[[0], [0]]]] * int(rng.integers(65, 5000))}).encode())


def long_path(rng: Rng) -> bytes:
    """A scribble from corner to corner, thousands of times."""
    count = int(rng.integers(600, 9000))
    x, y = ([0, 1] * count)[:count], ([0, 1, 1, 0] * count)[:count]
    return posted(json.dumps({"drawing": [[x, y, [*range(count)]]]}).encode())


def unequal(rng: Rng) -> bytes:
    """Lists of a stroke that are empty, missing, of another length or one too many."""
    given, place = drawing(rng), int(rng.integers(4))
    stroke = given[int(rng.integers(len(given)))]
    changes: list[Callable[[], Any]] = [stroke[0].pop, stroke.clear, stroke.pop, lambda: stroke.extend([[1], [2]])]
    changes[place]()
    return posted(json.dumps({"drawing": given}).encode())


def wrong_keys(rng: Rng) -> bytes:
    """Keys twice, unknown, both, none, or no object at all."""
    text = json.dumps(drawing(rng))
    bodies = (
        f'{{"drawing": {text}, "drawing": {text}}}',
        f'{{"drawings": [{text}], "drawing": {text}}}',
        f'{{"drawing": {text}, "__proto__": {{"top": 1}}}}',
        f'{{"Drawing": {text}}}',
        text,
        "null",
        '"drawing"',
        "{}",
        "",
    )
    return posted(bodies[int(rng.integers(len(bodies)))].encode())


def wrong_word(rng: Rng) -> bytes:
    """A word that no model knows."""
    return posted(json.dumps({"drawing": drawing(rng), "word": WORDS[int(rng.integers(len(WORDS)))]}).encode())


def wrong_top(rng: Rng) -> bytes:
    """A number of guesses that is none."""
    top = [0, -1, 11, 10**30, 2.5, "3", None, [], True][int(rng.integers(9))]
    return posted(json.dumps({"drawing": drawing(rng), "top": top}).encode())


def wrong_encoding(rng: Rng) -> bytes:
    """A body that is not UTF-8."""
    text = json.dumps({"drawing": drawing(rng)})
    encodings = ("utf-16", "utf-32", "utf-8-sig", "cp037")
    return posted(text.encode(encodings[int(rng.integers(len(encodings)))]))


def wrong_header(rng: Rng) -> bytes:
    """A body of another type, or packed."""
    headers = (
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        f"{JSON}Content-Encoding: gzip\r\n",
        f"{JSON}Content-Encoding: br\r\n",
        "Content-Type: application/jsonp\r\n",
    )
    return posted(json.dumps({"drawing": drawing(rng)}).encode(), headers[int(rng.integers(len(headers)))])


def not_http(rng: Rng) -> bytes:
    """What is no request of HTTP."""
    kinds = (
        rng.bytes(200) + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.bytes(300),
        f"{HEAD}{JSON}Content-Length: -{rng.integers(1, 99)}\r\n\r\n".encode(),
        f"{HEAD}{JSON}Content-Length: 5\r\nContent-Length: 6\r\n\r\n".encode(),
        f"{HEAD}{JSON}Transfer-Encoding: chunked\r\n\r\nxyz\r\n".encode(),
        b"POST /predict HTTP/7.0\r\nConnection: close\r\n\r\n",
        f"{HEAD}X-{'a' * 200_000}\r\n\r\n".encode(),
    )
    return kinds[int(rng.integers(len(kinds)))]


KINDS: dict[str, Callable[[Rng], bytes]] = {
    "broken JSON": broken, "random bytes": random_bytes, "huge numbers": huge_number, "NaN and such": no_number,
    "wrong types": wrong_type, "out of range": out_of_range, "deep nesting": deep, "gigabyte lengths": large_length,
    "large, in chunks": large_chunks, "large, with length": large_body, "ten thousand strokes": many_strokes,
    "many points": many_points, "many drawings": many_drawings, "long scribbles": long_path, "unequal lists": unequal,
    "wrong keys": wrong_keys, "wrong words": wrong_word, "wrong number of guesses": wrong_top,
    "wrong encodings": wrong_encoding, "wrong headers": wrong_header, "not HTTP": not_http,
}  # fmt: skip


def junk(number: int, seed: int) -> Sent:
    """A junk request: all kinds in turn."""
    kind = list(KINDS)[number % len(KINDS)]
    return Sent(kind, KINDS[kind](np.random.default_rng([seed, number])))


class Answer(NamedTuple):
    """The answer to a request: its status, 0 for none; whether it is in the form of a refusal; its seconds."""

    kind: str
    status: int
    formed: bool
    seconds: float


def ask(served: Served, sent: Sent) -> Answer:
    """Send a request on a connection of its own."""
    start = time.perf_counter()
    head, _, body = served.send(sent.content, seconds=60).partition(b"\r\n\r\n")
    seconds = time.perf_counter() - start
    try:
        error = json.loads(body)["error"]
        return Answer(sent.kind, int(head.split()[1]), set(error) == {"field", "reason", "remedy"}, seconds)
    except (ValueError, KeyError, IndexError, TypeError):
        status = head.split()[1:2]
        return Answer(sent.kind, int(status[0]) if status else 0, False, seconds)


class Found(NamedTuple):
    """What a server did: its answers, its memory before and at most, and whether it answers a drawing afterwards."""

    answers: list[Answer]
    before: int
    most: int
    alive: bool

    @property
    def faults(self) -> list[Answer]:
        """The answers that are no well-formed 4xx."""
        return [each for each in self.answers if not (400 <= each.status < 500 and each.formed)]


def attack(pack: Path, count: int, seed: int) -> Found:
    """Send junk to a server of its own."""
    with (
        TemporaryDirectory(prefix="sketchstack-") as folder,
        serving(pack, Path(folder) / "log", "--rate", "0") as served,
    ):
        served.ask("POST", "/predict", CAT)
        before = served.memory
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            answers = list(pool.map(lambda number: ask(served, junk(number, seed)), range(count)))
        alive = served.ask("POST", "/predict", CAT)[0] == 200
        return Found(answers, before, served.memory, alive)


def page(found: Found) -> str:
    """The results as Markdown."""
    by_kind: dict[str, list[Answer]] = defaultdict(list)
    for each in found.answers:
        by_kind[each.kind].append(each)
    rows = []
    for kind, answers in by_kind.items():
        counts = Counter(each.status for each in answers)
        statuses = ", ".join(f"{status}: {counts[status]}" for status in sorted(counts))
        bad = sum(each in found.faults for each in answers)
        rows.append([kind, str(len(answers)), statuses, f"{max(each.seconds for each in answers):.2f}", str(bad)])
    table = markdown_table(["kind", "requests", "status: number", "slowest, s", "faults"], rows)
    return (
        f"# What the server answers to junk\n\n`python -m bench.junk {' '.join(sys.argv[1:])}`, commit {commit()}. "
        f"{hardware()}.\n\n{len(found.answers):,} requests, {len(found.faults)} without a 4xx in the form of the API. "
        f"Memory of the process: {found.before / 1e6:.0f} MB before, {found.most / 1e6:.0f} MB at most. A drawing "
        f"afterwards is {'answered' if found.alive else 'NOT answered'}.\n\n{table}\n"
    )


@one_paragraph_errors
def main() -> None:
    """Send junk to a server of a pack, and write what it answered to results/junk.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.junk", description=main.__doc__)
    parser.add_argument("--pack", type=Path, help=f"of the server (of the run: {SINGLE})")
    parser.add_argument("--requests", type=int, default=5000, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="sketchstack-") as folder:
        found = attack(asked.pack or packed(Path(folder), SINGLE), asked.requests, asked.seed)
    text = page(found)
    print(text)
    for each in found.faults[:20]:
        print(each)
    with whole_file(RESULTS / "junk.md") as file:
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
