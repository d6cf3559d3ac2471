"""A server as a process of its own, on a free port."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

CAT = {"drawing": [[[10, 200, 120], [20, 30, 240]], [[60, 60], [100, 180]]]}
JSON = {"Content-Type": "application/json"}


class Served:
    """A running `sketchstack serve`.

    Attributes:
        port: that it listens to.
        process: of it.
        log: a file of what it writes to stderr.
        starts: seconds until the port answered, and until the model did.
    """

    def __init__(self, pack: Path, log: Path, *options: str, port: int = 0) -> None:
        self.port, self.log = port or free_port(), log
        command = [sys.executable, "-m", "pipeline", "serve", str(pack), "--port", str(self.port), *options]
        start = time.monotonic()
        with log.open("ab") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=file, stdout=subprocess.DEVNULL)
        answers = self._wait_for("/healthz", start)
        self.starts = answers, self._wait_for("/readyz", start)

    def _wait_for(self, path: str, start: float) -> float:
        while time.monotonic() - start < 300:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log.read_text()[-2000:]}")
            try:
                if self.ask("GET", path)[0] == 200:
                    return time.monotonic() - start
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"{path} was never answered")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """The status and the body of an answer, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), JSON if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def send(self, content: bytes, seconds: float = 15.0) -> bytes:
        """What is answered to raw bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            with contextlib.suppress(OSError):  # it has answered and closed already
                connection.sendall(content)
            found = b""
            with contextlib.suppress(OSError):
                while part := connection.recv(65536):
                    found += part
            return found

    @property
    def memory(self) -> int:
        """Bytes of memory that the process has held at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024

    @property
    def cpu(self) -> float:
        """Seconds of processor time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        if self.process.poll() is None:
            os.kill(self.process.pid, sig)
        return self.process.wait(30)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def serving(pack: Path, log: Path, *options: str, port: int = 0) -> Iterator[Served]:
    """A server for the length of a block; it is killed if it does not end."""
    served = Served(pack, log, *options, port=port)
    try:
        yield served
    finally:
        try:
            served.end()
        except subprocess.TimeoutExpired:
            served.end(signal.SIGKILL)
