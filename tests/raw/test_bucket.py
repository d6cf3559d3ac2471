"""Files of a bucket, fetched through every fault of the network: the same bytes in the end, or one paragraph."""

import email.utils
import re
import shutil
import ssl
import subprocess
import time

import pytest

from pipeline.foundation.errors import SketchstackError
from pipeline.raw import bucket as module
from pipeline.raw.bucket import PIECE, Bucket, Patience
from tests.bucket_stand_in import ndjson, stand_in

CAT = "/bucket/full/simplified/cat.ndjson"
BODY = ndjson("cat", 1200)  # about 340 kB
LINES = 900
QUICK = Patience(
    connect=2, read=1, tries=4, first_tries=3, backoff=0.01, longest_backoff=0.05, slow=0.3, slow_bytes=5000
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with stand_in(cat=BODY) as home:
        yield home


def fetched(server, place, *, lines=LINES, patience=QUICK):
    bucket = Bucket(server.address, connections=2, patience=patience)
    prefix = bucket.fetch("full/simplified/cat.ndjson", place / "cat.ndjson", lines=lines, line_bytes=250)
    return (place / "cat.ndjson").read_bytes(), prefix


def first_lines(data, lines=LINES):
    return data.splitlines(keepends=True)[:lines]


def failing(server, place, **options):
    with pytest.raises(SketchstackError) as failed:
        fetched(server, place, **options)
    assert "\n" not in str(failed.value)
    return str(failed.value)


def test_only_the_beginning_of_a_file_is_fetched_and_more_where_it_holds_too_few_lines(server, tmp_path):
    data, prefix = fetched(server, tmp_path)
    assert first_lines(data) == first_lines(BODY)
    assert len(data) < len(BODY)
    assert len(server.asked) > 1  # lines are longer than expected
    assert prefix.lines >= LINES


def test_a_file_with_fewer_lines_is_fetched_whole_and_not_again(server, tmp_path):
    assert fetched(server, tmp_path, lines=5000)[0] == BODY
    sent = server.sent
    assert fetched(server, tmp_path, lines=5000)[1].ended
    assert server.sent == sent


FAULTS: dict[str, list[tuple]] = {
    "dropped": [("drop", 10_000)],
    "dropped at once": [("drop", 0)] * 3,
    "dropped again and again": [("drop", PIECE + 10)] * 4,
    "dropped within a line each time": [("drop", PIECE + 1), ("drop", 77), ("drop", 1)],
    "short ranges": [("short", 30_000), ("short", 1), ("short", 70_000)],
    "429 with Retry-After": [("status", 429, ("Retry-After", "0"))],
    "429 with a date": [("status", 429, ("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"))],
    "429 with nonsense": [("status", 429, ("Retry-After", "soon"))],
    **{str(code): [("drop", 9000), ("status", code)] for code in (408, 500, 502, 503, 504)},
    "no ranges": [("whole",)],
    "no ranges in the middle": [("drop", 99_999), ("whole",)],
    "no ranges and no length": [("unmeasured",)],
    "no ranges, no length, ends in a line": [("unmeasured", 100_001)],
    "total untold": [("untold",)] * 2,
    "another range": [("wrong_range", "bytes 5-9/100")],
    "a range that is shorter than its bytes": [("wrong_range", "bytes 0-1/2")],
    "as many bytes from another place": [("shifted", 100), ("drop", 70_000), ("shifted", 100)],
    "a range without a length that ends early": [("unmeasured_range", 30_000), ("unmeasured_range", 7)],
    "no range at all": [("drop", 70_000), ("wrong_range", "")],
    "the range is refused": [("status", 416, ("Content-Range", f"bytes */{len(BODY)}"))],
    "hangs": [("hang", 1.3)],
    "trickles": [("trickle", 10**6)],
    "all of it": [("status", 503), ("drop", 5), ("short", 9), ("wrong_range", "x"), ("drop", 80_000), ("status", 500)],
}


@pytest.mark.parametrize("lines", [LINES, 5000])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_pass_change_no_byte(server, tmp_path, fault, lines):
    server.faults[CAT] = list(FAULTS[fault])
    data, _ = fetched(server, tmp_path, lines=lines)
    assert first_lines(data, lines) == first_lines(BODY, lines)
    assert not server.faults[CAT]


def test_the_wait_is_as_long_as_the_server_asks(server, tmp_path):
    date = email.utils.formatdate(time.time() + 2.5, usegmt=True)  # in whole seconds
    server.faults[CAT] = [("status", 429, ("Retry-After", "1")), ("status", 503, ("Retry-After", date))]
    start = time.monotonic()
    fetched(server, tmp_path)
    assert 1.5 < time.monotonic() - start < 6


def test_a_wait_that_is_too_long_is_told(server, tmp_path):
    server.always = ("status", 429, ("Retry-After", "7200"))
    assert "asks to wait for 120 minutes" in failing(server, tmp_path)


def test_waits_double_and_differ(server, tmp_path, monkeypatch):
    told: list[float] = []
    server.faults[CAT] = [("drop", 70_000), *[("status", 503)] * 5]
    patience = Patience(tries=9, backoff=0.02, longest_backoff=0.1)
    bucket = Bucket(server.address, connections=1, patience=patience)
    monkeypatch.setattr(bucket._stopped, "wait", told.append)
    bucket.fetch("full/simplified/cat.ndjson", tmp_path / "cat", lines=LINES, line_bytes=250)
    assert told[0] == 0  # at once after the first
    assert all(low <= wait <= low + 0.01 for low, wait in zip([0.02, 0.04, 0.08], told[1:], strict=False))
    assert max(told) <= 0.1
    assert len(set(told[1:4])) == 3


def test_what_was_fetched_is_not_fetched_again(server, tmp_path):
    server.faults[CAT] = [("drop", 3 * PIECE + 5), *[("status", 503)] * 20]
    told = failing(server, tmp_path)
    assert "503" in told
    assert "goes on from there" in told
    server.faults[CAT], server.sent = [], 0
    data, _ = fetched(server, tmp_path, lines=5000)
    assert data == BODY
    assert server.sent == len(BODY) - 3 * PIECE - 5


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda data, sums: (data[:-1], sums), 3 * PIECE),
        (lambda data, sums: (data + b"not yet in the list", sums), 3 * PIECE + 5),
        (lambda data, sums: (bytes(len(data)), sums), 0),
        (lambda data, sums: (data[:PIECE] + bytes(9) + data[PIECE + 9 :], sums), PIECE),
        (lambda data, sums: (data, sums[:-5]), 3 * PIECE),
        (lambda data, sums: (data, b""), 0),
        (lambda data, sums: (data, b"\xff\xfe" + sums), 0),
        (lambda data, sums: (data, b"[1]\n" + sums), 0),
        (lambda data, sums: (data, sums.replace(b"127.0.0.1", b"127.0.0.2")), 0),
        (lambda data, sums: (b"", sums), 0),
    ],
)
def test_bytes_that_do_not_fit_their_checksum_are_fetched_again(server, tmp_path, damage, kept):
    server.faults[CAT] = [("drop", 3 * PIECE + 5), *[("status", 503)] * 20]
    failing(server, tmp_path)
    place, sums = tmp_path / "cat.ndjson", tmp_path / "cat.ndjson.sums"
    data, text = damage(place.read_bytes(), sums.read_bytes())
    place.write_bytes(data)
    sums.write_bytes(text)
    server.faults[CAT], server.sent = [], 0
    assert fetched(server, tmp_path, lines=5000)[0] == BODY
    assert server.sent == len(BODY) - kept


def test_a_file_that_has_changed_is_fetched_anew(server, tmp_path):
    server.faults[CAT] = [("drop", 3 * PIECE + 5), *[("status", 503)] * 20]
    failing(server, tmp_path)
    server.files[CAT] = ndjson("cat", 1200, first=5000)
    server.faults[CAT], server.tags[CAT] = [], '"another"'
    assert fetched(server, tmp_path, lines=5000)[0] == server.files[CAT]


def test_a_file_that_has_changed_and_is_shorter_is_fetched_anew(server, tmp_path):
    server.tags[CAT] = ""
    server.faults[CAT] = [("drop", 3 * PIECE + 5), *[("status", 503)] * 20]
    failing(server, tmp_path)
    server.files[CAT], server.faults[CAT] = ndjson("cat", 100), []
    assert fetched(server, tmp_path, lines=5000)[0] == server.files[CAT]


def test_a_file_that_is_another_at_each_request_is_given_up(server, tmp_path, monkeypatch):
    numbers = iter(range(1000))
    monkeypatch.setattr("tests.bucket_stand_in.Handler.tag", lambda *_: f'W/"{next(numbers)}"')
    server.always = ("short", 20_000)
    assert "is another file at each request" in failing(server, tmp_path)


@pytest.mark.parametrize("before", [[], [("drop", 100_000)]])
def test_a_web_page_is_not_taken_for_drawings(server, tmp_path, before):
    server.faults[CAT] = [*before, ("html",)]
    told = failing(server, tmp_path)
    assert "a web page titled 'Hotel Wi-Fi: log in'" in told
    assert "log in and run the same command again" in told
    assert fetched(server, tmp_path, lines=5000)[0] == BODY


@pytest.mark.parametrize("body", [b"PK\x03\x04 an archive", b"[1, 2]\n", b"word,drawing\n", b"\x1f\x8b packed"])
def test_other_data_are_not_taken_for_drawings(tmp_path, body):
    with stand_in(cat=body) as server:
        assert "does not answer with drawings" in failing(server, tmp_path)


def test_a_server_that_never_sends_anything_is_given_up(server, tmp_path):
    server.always = ("unmeasured_range", 0)
    assert "4 times in a row" in failing(server, tmp_path)
    assert len(server.asked) == 4


def test_redirects_are_followed_and_a_loop_is_told(server, tmp_path):
    server.files["/elsewhere"] = BODY
    server.faults[CAT] = [("redirect", "/elsewhere")] * 3
    assert first_lines(fetched(server, tmp_path)[0]) == first_lines(BODY)
    server.faults[CAT] = []
    server.always = ("redirect", CAT)
    assert "cannot be reached: Exceeded 30 redirects" in failing(server, tmp_path / "loop")


def test_a_missing_file_is_no_paragraph_of_the_network(server, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"kat\.ndjson"):
        Bucket(server.address, connections=1).fetch("kat.ndjson", tmp_path / "kat", lines=1, line_bytes=9)


@pytest.mark.parametrize("code", [400, 401, 403, 407, 451])
def test_a_refusal_is_told_at_once(server, tmp_path, code):
    server.always = ("status", code)
    told = failing(server, tmp_path)
    assert len(server.asked) == 1
    assert ("the proxy wants a user" if code == 407 else f"answers {code}") in told
    for remedy in ("HTTPS_PROXY", "--address", "make data NAME=kaggle"):
        assert remedy in told


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:9/bucket", "refused"),
        ("http://bucket.invalid/x", "resol"),
        ("http://127.0.0.1:9999999/bucket", "Invalid URL|Failed to parse"),
        ("http://a..b/bucket", "label|parse|URL"),
        ("http://höst..invalid/bucket", "label|parse|URL"),
        ("http://*.example/bucket", "label|parse|URL"),
    ],
)
def test_where_nothing_is_reached_the_paragraph_names_address_cause_and_remedy(tmp_path, address, reason):
    with pytest.raises(
        SketchstackError, match=rf"{re.escape(address)}/cat cannot be reached: .*({reason}).*HTTPS_PROXY"
    ) as failed:
        Bucket(address, connections=1, patience=QUICK).fetch("cat", tmp_path / "cat", lines=1, line_bytes=9)
    assert "object at 0x" not in str(failed.value)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_a_certificate_that_is_not_trusted_is_told_at_once(tmp_path):
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with stand_in(context, cat=BODY) as server:
        told = failing(server, tmp_path)
    assert re.search(r"its certificate is not trusted \(.*self.signed.*REQUESTS_CA_BUNDLE", told)


def test_a_server_without_tls_is_told(server, tmp_path):
    address = server.address.replace("http://", "https://")
    with pytest.raises(SketchstackError, match=r"cannot be reached: .*SSL"):
        Bucket(address, connections=1, patience=QUICK).fetch("cat", tmp_path / "cat", lines=1, line_bytes=9)


@pytest.mark.parametrize(
    "address", ["", "gs://quickdraw_dataset", "storage.googleapis.com", "file:///tmp", "http://", "http://[::1/x"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(SketchstackError, match="is no address of a bucket"):
        Bucket(address, connections=1)


@pytest.mark.parametrize("proxy", ["nonsense://x:1", "socks5://127.0.0.1:9", "http://", "http://127.0.0.1:abc"])
def test_a_proxy_that_cannot_be_is_told(server, tmp_path, monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    bucket = Bucket("http://storage.invalid/bucket", connections=1, patience=QUICK)
    with pytest.raises(SketchstackError, match=r"cannot be reached: .*HTTPS_PROXY"):
        bucket.fetch("x", tmp_path / "x", lines=1, line_bytes=9)


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.address.removesuffix("/bucket"))
    bucket = Bucket("http://storage.invalid/bucket", connections=1, patience=QUICK)
    bucket.fetch("full/simplified/cat.ndjson", tmp_path / "cat", lines=LINES, line_bytes=250)
    assert first_lines((tmp_path / "cat").read_bytes()) == first_lines(BODY)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(SketchstackError, match=r"cannot be reached.*refused"):
        Bucket("http://storage.invalid/bucket", connections=1, patience=QUICK).fetch(
            "x", tmp_path / "x", lines=1, line_bytes=9
        )


def test_a_stopped_fetch_ends_soon_and_keeps_what_has_come(server, tmp_path):
    server.pause = 0.02
    bucket = Bucket(server.address, connections=1, patience=QUICK)
    bucket.told = lambda line: bucket.stop()
    server.faults[CAT] = [("drop", 2 * PIECE)]
    with pytest.raises(module.StoppedFetchError):
        bucket.fetch("full/simplified/cat.ndjson", tmp_path / "cat.ndjson", lines=LINES, line_bytes=250)
    assert (tmp_path / "cat.ndjson").read_bytes() == BODY[: 2 * PIECE]
