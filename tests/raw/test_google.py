"""A competition out of the stand-in for Google's bucket: Kaggle's layout, a test set apart from the training rows."""

import csv
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.foundation.errors import SketchstackError
from pipeline.raw import bucket, google
from pipeline.raw.bucket import PIECE, Patience
from pipeline.raw.google import ADDRESS, Request, chosen_words, fetch, known_words
from tests.bucket_stand_in import ndjson, stand_in
from tests.conftest import MINI

WORDS = ("cat", "wine glass", "t-shirt", "The Eiffel Tower")
QUICK = Patience(connect=2, read=2, tries=4, first_tries=3, backoff=0.01, longest_backoff=0.05)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of one's own, no proxies, and no long waits."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bucket, "PATIENCE", QUICK)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with stand_in() as home:
        for word in WORDS:
            home.files[path_of(word)] = ndjson(word, 300)
        yield home


def path_of(word):
    return f"/bucket/full/simplified/{word}.ndjson"


def request_of(server, words=WORDS, *, rows=100, test_rows=20, seed=1, kind="simplified"):
    return Request(server.address, kind, tuple(words), rows, test_rows, seed)


def made(request, place=Path("data/google"), connections=2):
    return fetch(place, request, place.with_name(f".{place.name}.download"), connections=connections)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def trains(folder=Path("data/google")):
    return {path.stem: table(path) for path in sorted((folder / "train_simplified").iterdir())}


def test_the_layout_is_kaggle_s_and_every_drawing_is_there_once_with_its_text_unchanged(server):
    said = made(request_of(server))
    place = Path("data/google")
    assert set(trains()) == set(WORDS)
    assert (
        (place / "train_simplified/cat.csv")
        .read_text()
        .startswith("countrycode,drawing,key_id,recognized,timestamp,word\nCZ,")
    )
    test, labels = table(place / "test_simplified.csv"), table(place / "test_labels.csv")
    sample = table(place / "sample_submission.csv")
    assert list(test[0]) == ["key_id", "countrycode", "drawing"]
    assert [row["key_id"] for row in test] == [row["key_id"] for row in labels] == [row["key_id"] for row in sample]
    assert sorted(test, key=lambda row: int(row["key_id"])) == test
    assert {row["word"] for row in sample} == {"The_Eiffel_Tower cat t-shirt"}
    words = {row["key_id"]: row["word"] for row in labels}
    for word in WORDS:
        lines = server.files[path_of(word)].decode().splitlines()[:100]
        given = {json.loads(line)["key_id"]: line.partition('"drawing":')[2][:-1] for line in lines}
        tested = {row["key_id"]: row["drawing"] for row in test if words[row["key_id"]] == word.replace(" ", "_")}
        trained = {row["key_id"]: row["drawing"] for row in trains()[word]}
        assert len(tested) == 20
        assert trained | tested == given
        assert not set(trained) & set(tested)
    row, record = trains()["cat"][0], json.loads(server.files[path_of("cat")].splitlines()[0])
    assert row["recognized"] == str(record["recognized"])
    assert re.fullmatch(r"2017-03-11 20:14:24\.\d{6}", row["timestamp"])
    assert record["timestamp"].startswith(row["timestamp"].rstrip("0"))
    assert "4 words, 320 training and 80 test drawings" in said
    assert not Path("data/.google.download").exists()


def test_the_checksums_are_those_of_the_files(server):
    made(request_of(server))
    told = json.loads(Path("data/google/source.json").read_text())
    files = tree(Path("data/google"))
    del files["source.json"]
    assert told["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert told["request"]["address"] == server.address


def test_the_seed_chooses_the_test_set_and_nothing_else_does(server):
    made(request_of(server), Path("data/a"))
    made(request_of(server), Path("data/b"), connections=1)
    made(request_of(server, seed=2), Path("data/c"))
    assert tree(Path("data/a")) == tree(Path("data/b"))
    first, other = ({row["key_id"] for row in table(Path(f"data/{name}/test_labels.csv"))} for name in "ac")
    assert len(first & other) < 40


def test_a_drawing_or_key_id_of_the_test_set_is_in_no_training_row(server):
    """Half of one word's drawings stand in the file of another, spaced otherwise; some keep their key_id."""
    lines = ndjson("cat", 100).decode().splitlines()
    twins = [line.replace('"word":"cat"', '"word":"t-shirt"').replace(",", ", ") for line in lines[:50]]
    other_ids = [re.sub(r'"key_id":"\d', '"key_id":"8', line) for line in twins[:25]]
    shared_ids = [re.sub(r"\[\[\[\d+", "[[[1", line) for line in twins[25:]]
    again = [*lines, *lines[:30]]
    server.files[path_of("cat")] = "\n".join(again).encode() + b"\n"
    server.files[path_of("t-shirt")] = "\n".join(
        [*other_ids, *shared_ids, *ndjson("t-shirt", 50).decode().splitlines()]
    ).encode()
    said = made(request_of(server, ("cat", "t-shirt"), rows=130, test_rows=40))
    test = table(Path("data/google/test_simplified.csv"))
    rows = [row for each in trains().values() for row in each]
    drawings = {"".join(row["drawing"].split()) for row in test}
    assert len({row["key_id"] for row in test}) == len(test) == len(drawings)
    assert not {row["key_id"] for row in test} & {row["key_id"] for row in rows}
    assert not drawings & {"".join(row["drawing"].split()) for row in rows}
    for each in trains().values():
        assert len({row["key_id"] for row in each}) == len(each)
    assert re.search(r"\d+ rows are left out: their drawing or key_id", said)
    assert "Fewer than 130 drawings are there of t-shirt" in said


def test_a_word_with_few_drawings_keeps_some_for_training(server):
    server.files[path_of("cat")] = ndjson("cat", 3, newline=False)
    server.files[path_of("t-shirt")] = ndjson("t-shirt", 1)
    made(request_of(server))
    assert {word: len(rows) for word, rows in trains().items()}["cat"] == 2
    assert len(trains()["t-shirt"]) == 1


HEAD = b'{"word":"cat","countrycode":"CZ","timestamp":"x",'
BAD = [
    b"{}",
    b"null",
    b"",
    b'{"word":"cat"}',
    b"{" * 5000,
    b"\xff\xfe",
    HEAD.replace(b"cat", b"dog") + b'"recognized":true,"key_id":"7","drawing":[[[1],[2]]]}',
    HEAD + b'"recognized":"maybe","key_id":"7","drawing":[[[1],[2]]]}',
    HEAD + b'"recognized":true,"key_id":"seven","drawing":[[[1],[2]]]}',
    HEAD + b'"recognized":true,"key_id":"7","drawing":[]}',
]


@pytest.mark.parametrize("bad", BAD)
def test_lines_that_are_no_drawings_are_counted_and_the_word_is_named(server, bad):
    lines = server.files[path_of("cat")].splitlines()
    server.files[path_of("cat")] = b"\n".join([*lines[:5], bad, *lines[5:]]) + b"\n"
    said = made(request_of(server))
    assert "1 lines are no drawings of their word and are left out: cat." in said
    assert sum(map(len, trains().values())) == 4 * 80 - 1


def test_a_file_without_any_drawing_of_its_word_is_refused(server):
    server.files[path_of("cat")] = ndjson("dog", 50)
    with pytest.raises(SketchstackError, match=r"cat\.ndjson holds 50 lines, of which 50 are no drawings of 'cat'"):
        made(request_of(server))
    assert not Path("data/google").exists()


def test_a_missing_word_is_named_with_similar_words(server):
    with pytest.raises(SketchstackError, match=r"no drawings of 'wineglass'; similar words of Google: wine glass"):
        made(request_of(server, ("cat", "wineglass")))


def test_a_word_that_a_copy_of_the_bucket_lacks_is_not_similar_to_itself(server):
    with pytest.raises(SketchstackError, match=r"similar words of Google: (?!cow\b)"):
        made(request_of(server, ("cat", "cow")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat,dog", ("cat", "dog")),
        (" dog , cat ,", ("dog", "cat")),
        ("wine_glass,the great wall of china,T-Shirt", ("wine glass", "The Great Wall of China", "t-shirt")),
        ("cat,cat,dog", ("cat", "dog")),
        ("knife,rifle", ("knife", "rifle")),
    ],
)
def test_words_are_found_in_any_spelling(text, words):
    assert chosen_words(text, ADDRESS) == words


@pytest.mark.parametrize(
    ("text", "told"),
    [("catt,dog", "no word 'catt'; similar: cat"), ("cat", "names 1 words"), ("", "names 0 words"),
     ("cat,cat", "names 1 words"), ("teddy bear,dog", "similar: teddy-bear"), ("xqzw,dog", "similar: none")],
)  # fmt: skip
def test_words_that_are_none_are_refused_before_any_request(text, told):
    with pytest.raises(SketchstackError, match=told):
        chosen_words(text, ADDRESS)


def test_the_words_are_those_of_google_and_of_the_competition():
    competition, only_google = known_words()
    assert len(competition) == 340
    assert len(chosen_words("all", ADDRESS)) == 345
    assert chosen_words(None, ADDRESS) == tuple(competition)
    assert only_google == ["aircraft carrier", "knife", "lighter", "rifle", "syringe"]
    if (MINI / "train_simplified").is_dir():
        assert {path.stem for path in (MINI / "train_simplified").iterdir()} == set(competition)


def test_another_bucket_may_have_other_words(server):
    assert chosen_words("zorch,cat", server.address) == ("zorch", "cat")


def test_no_more_words_at_a_time_than_allowed(server):
    server.pause = 0.01
    made(request_of(server, rows=250), connections=3)
    assert server.busiest == 3


def test_the_same_request_is_there_until_a_file_changes(server):
    request = request_of(server)
    made(request)
    place = Path("data/google")
    assert google.is_there(place, request)
    assert not google.is_there(place, request_of(server, rows=101))
    assert not google.is_there(Path("data/none"), request)
    (place / "test_labels.csv").write_text("key_id,word\n")
    assert not google.is_there(place, request)
    (place / "source.json").write_text("[]")
    assert not google.is_there(place, request)


def test_a_disk_without_room_is_told_before_any_request(server, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=50_000))
    with pytest.raises(SketchstackError, match=r"fetching 100 drawings of 4 words takes at least 300 kB, and 50 kB"):
        made(request_of(server))
    assert not server.asked


def test_the_test_set_of_a_word_is_full_though_an_earlier_word_has_taken_some_of_its_drawings(server):
    cats = ndjson("cat", 100).decode()
    server.files[path_of("t-shirt")] = (cats + ndjson("t-shirt", 100).decode()).replace('"cat"', '"t-shirt"').encode()
    made(request_of(server, ("cat", "t-shirt"), rows=200, test_rows=40))
    words = [row["word"] for row in table(Path("data/google/test_labels.csv"))]
    assert (words.count("cat"), words.count("t-shirt")) == (40, 40)


RAW = '{"word":"%s","countrycode":"US","timestamp":"2017-03-27 00:14:57.31033 UTC","recognized":true,"key_id":"%d",'


def test_raw_drawings_keep_their_times_as_written(server):
    for base, word in ((1000, "cat"), (2000, "dog")):
        lines = [
            RAW % (word, base + n) + f'"drawing":[[[{base + n}.5,1e2,-3.25],[0,{n},9.125],[0,16,{n + 17}]]]}}'
            for n in range(30)
        ]
        server.files[f"/bucket/full/raw/{word}.ndjson"] = "\n".join(lines).encode()
    made(request_of(server, ("cat", "dog"), rows=20, test_rows=5, kind="raw"))
    rows = table(Path("data/google/train_raw/cat.csv"))
    assert len(rows) == 15
    number = int(rows[0]["key_id"]) - 1000
    assert rows[0]["drawing"] == f"[[[{1000 + number}.5,1e2,-3.25],[0,{number},9.125],[0,16,{number + 17}]]]"
    assert len(table(Path("data/google/test_raw.csv"))) == 10


SCRIPT = """
import sys; from pathlib import Path; from pipeline.raw.google import Request, fetch
fetch(Path("data/google"), Request(sys.argv[1], "simplified", ("cat", "wine glass"), 3000, 100, 1),
      Path("data/.google.download"), connections=2)
"""


def test_a_killed_fetch_goes_on_and_only_the_rest_goes_over_the_wire(server, monkeypatch):
    for word in ("cat", "wine glass"):
        server.files[path_of(word)] = ndjson(word, 2500)
    size = sum(len(server.files[path_of(word)]) for word in ("cat", "wine glass"))
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT, server.address]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    server.pause = 0.02
    for kill_at in (300_000, 800_000):
        running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while server.sent < kill_at and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        assert not Path("data/google").exists()
    server.pause = 0.0
    subprocess.run(command, env=environment, check=True, capture_output=True)
    kills, connections, on_the_way = 2, 2, 2**18  # bytes in the buffers of the system when the process is killed
    assert size <= server.sent <= size + kills * connections * (PIECE + on_the_way)
    killed = tree(Path("data/google"))
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert tree(Path("data/google")) == killed


def test_a_file_that_cannot_grow_is_told_and_the_fetch_goes_on_later(server):
    for word in ("cat", "wine glass"):
        server.files[path_of(word)] = ndjson(word, 2500)
    command = [sys.executable, "-c", SCRIPT, server.address]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    limited = ["bash", "-c", 'ulimit -f 200; exec "$@"', "bash", *command]
    run = subprocess.run(limited, env=environment, check=False, capture_output=True, text=True)
    assert "SketchstackError: data/.google.download/" in run.stderr
    assert "cannot be written: a file has reached the size that this shell allows" in run.stderr
    sent = server.sent
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert server.sent - sent < sum(len(server.files[path_of(word)]) for word in ("cat", "wine glass")) - 2 * PIECE
    assert len(trains()["cat"]) == 2500 - 83


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_network_does_the_bytes_are_the_same(server, seed):
    made(request_of(server, rows=250), Path("data/clean"))
    chance = random.Random(seed)
    faults = [("drop", 20_000), ("drop", 0), ("short", 9000), ("status", 503), ("status", 429, ("Retry-After", "0")),
              ("wrong_range", "bytes 1-2/3"), ("whole",), ("unmeasured", 30_000)]  # fmt: skip
    for word in WORDS:
        for _ in range(12):
            server.faults[path_of(word)] += [chance.choice(faults)]
    while not Path("data/google").exists():
        with suppress(SketchstackError):
            made(request_of(server, rows=250))
    assert tree(Path("data/google")) == tree(Path("data/clean"))
