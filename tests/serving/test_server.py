"""The process: its command line, its signals, what reaches its port that is no request, and requests of all kinds."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.commands import serve as module
from pipeline.foundation.errors import SketchstackError
from pipeline.serving.limits import MOST_BYTES
from pipeline.serving.run_pack import is_of
from pipeline.serving.server import bound, hosts_of
from pipeline.serving.watch import HEADERS
from tests.conftest import ROOT, failing_main
from tests.serving.processes import CAT, free_port, serving
from tests.serving.toy_pack import WORDS, write_toy_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return write_toy_pack(tmp_path_factory.mktemp("pack") / "toy.zip")


@pytest.fixture(scope="module")
def served(pack, tmp_path_factory):
    with serving(pack, tmp_path_factory.mktemp("log") / "log", "--rate", "0") as found:
        yield found


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing.zip"], r"missing.zip is missing; make it with `sketchstack pack missing.zip`"),
        (["PACK", "--port", "99999"], "--port 99999 is no port"),
        (["PACK", "--host", "no such host"], "is no address"),
        (["PACK", "--host", "203.0.113.7"], "no such address"),
        (["PACK", "--model", "lstm", "--port", "0"], "has no model 'lstm'; it has toy"),
        ([str(ROOT / "pyproject.toml"), "--port", "0"], "pyproject.toml cannot be read"),
    ],
)
def test_what_cannot_be_served_is_one_paragraph(pack, arguments, told):
    given = [str(pack) if each == "PACK" else each for each in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "serve", *given], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert re.search(told, said), said
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SketchstackError, match="another program"):
        bound("127.0.0.1", taken.getsockname()[1])


def test_a_missing_pack_is_told_before_the_port_is_bound(tmp_path):
    assert "missing; make it with" in failing_main(module, tmp_path / "none.zip")


def test_all_names_reach_a_server_of_a_network():
    assert hosts_of("0.0.0.0") is None
    assert {"localhost", "127.0.0.2"} <= (hosts_of("127.0.0.2") or set())
    assert "[::1]" in (hosts_of("::1") or set())


def test_a_file_that_is_no_pack_of_the_run_is_made_again(tmp_path, pack):
    weights = tmp_path / "weights.npz"
    weights.write_bytes(b"weights")
    (tmp_path / "text.zip").write_text("no zip")
    assert not is_of(tmp_path / "none.zip", weights)
    assert not is_of(tmp_path / "text.zip", weights)
    assert not is_of(pack, weights)


def test_it_answers_and_says_so(served):
    status, body = served.ask("POST", "/predict", CAT)
    assert status == 200
    assert json.loads(body)["results"][0]["simplified"] == CAT["drawing"]
    assert json.loads(served.ask("GET", "/words")[1])["words"] == WORDS


def test_an_answer_does_not_wait_for_an_acknowledgement(served):
    """Its headers and its body are two packets; with the default of TCP the second one comes 40 ms later."""
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        seconds = []
        for _ in range(30):
            start = time.perf_counter()
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            found = b""
            while not found.endswith(b'{"alive":true}'):
                found += connection.recv(65536)
            seconds.append(time.perf_counter() - start)
    assert min(seconds[5:]) < 0.03


def test_a_connection_is_used_again_after_a_while(served):
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        for _ in range(3):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            found = b""
            while not found.endswith(b'{"alive":true}'):
                found += connection.recv(65536)
            time.sleep(0.2)


def test_headers_that_do_not_come_close_the_connection(monkeypatch, pack, tmp_path):
    code = (
        "import pipeline.serving.server as server; server.HEADER_SECONDS = 0.5\n"
        "from pipeline.commands.serve import main; import sys; main(sys.argv[1:])"
    )
    port = free_port()
    command = [sys.executable, "-c", code, str(pack), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                try:
                    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
                    break
                except OSError:
                    time.sleep(0.05)
            with connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
                time.sleep(1)  # an idle connection stays
                for piece in (b"GET /healthz HTTP/1.1\r\n", b"Host: local", b"host\r\n", b"X: 1\r\n"):
                    connection.sendall(piece)
                    time.sleep(0.1)
                start = time.monotonic()
                while connection.recv(65536):
                    pass
                assert time.monotonic() - start < 10
        finally:
            process.kill()


@pytest.mark.parametrize(
    "sent",
    [
        b"junk\r\n\r\n",
        b"GET / HTTP/9.9\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,  # TLS
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_refused_in_the_same_form(served, sent):
    head, _, body = served.send(sent).partition(b"\r\n\r\n")
    assert 400 <= int(head.split()[1]) < 500
    error = json.loads(body)["error"]
    assert set(error) == {"field", "reason", "remedy"}
    for name, value in HEADERS.items():
        assert f"{name}: {value}".lower().encode() in head.lower()


def test_gigabytes_are_refused_before_they_come(served):
    before = served.memory
    start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for length in (MOST_BYTES + 1, 5_000_000, 2**30, 2**40, 10**18):
        body = b" " * min(length, 5_000_000)
        assert b" 413 " in served.send(start + b"Content-Length: %d\r\n\r\n" % length + body).partition(b"\r\n")[0]
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    assert b" 413 " in served.send(start + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 40).partition(b"\r\n")[0]
    waits = served.send(start + b"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n")
    assert waits.startswith(b"HTTP/1.1 413")
    assert served.memory - before < 100e6


def test_connections_that_say_nothing_do_not_stop_others(served):
    quiet = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(300)]
    try:
        for each in quiet[::3]:
            each.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Ty")
        assert served.ask("POST", "/predict", CAT)[0] == 200
    finally:
        for each in quiet:
            each.close()


def test_a_client_that_leaves_is_no_error(served):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            body = json.dumps(CAT).encode()
            head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:20])
    assert served.ask("POST", "/predict", CAT)[0] == 200
    assert "Traceback" not in served.log.read_text()


@pytest.mark.slow
def test_it_starts_again_within_seconds_of_a_kill(pack, tmp_path):
    with serving(pack, tmp_path / "log") as first:
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    start = time.monotonic()
    with serving(pack, tmp_path / "log", port=first.port) as again:
        seconds = time.monotonic() - start
        assert again.ask("POST", "/predict", CAT)[0] == 200
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert seconds < 3 * busy, again.starts


@pytest.mark.slow
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_loses_no_request(pack, tmp_path, sig):
    """Clients ask all the time; each that could connect before the end gets its answer."""
    with serving(pack, tmp_path / "log", "--rate", "0") as served:
        lost, answered, ending = [], [], threading.Event()

        def ask() -> None:
            while True:
                try:
                    connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
                except OSError:
                    return
                connection.close()
                try:
                    answered.append(served.ask("POST", "/predict", CAT)[0])
                except ConnectionRefusedError:
                    return
                except Exception as error:
                    lost.append(error)
                    return

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask) for _ in range(8)]
            time.sleep(1)
            start = time.monotonic()
            ending.set()
            assert served.end(sig) == 0
            seconds = time.monotonic() - start
            for each in asking:
                each.result()
        assert lost == []
        assert set(answered) == {200}
        assert len(answered) > 50
        assert seconds < 8


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(pack, tmp_path):
    with serving(pack, tmp_path / "log") as served:
        connection = socket.create_connection(("127.0.0.1", served.port))
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-")
        os.kill(served.process.pid, signal.SIGTERM)
        time.sleep(0.2)
        start = time.monotonic()
        assert served.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert time.monotonic() - start < 2
        connection.close()


@pytest.mark.slow
def test_no_request_of_the_openapi_document_is_an_error_of_the_server(served, tmp_path):
    command = [
        "schemathesis", "run", f"http://127.0.0.1:{served.port}/openapi.json", "--checks", "not_a_server_error",
        "--max-examples", "150", "--seed", "7", "--no-color", "--workers", "1", "--mode", "all",
    ]  # fmt: skip
    script = str(ROOT.joinpath(sys.executable).parent / command[0])
    done = subprocess.run([script, *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Traceback" not in served.log.read_text()
