"""A public bucket on this machine: files by HTTP ranges, and the faults that networks and servers have."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

PORTAL = b"<!DOCTYPE html><html><head><title>Hotel Wi-Fi: log in</title></head><body>Welcome</body></html>"


def ndjson(word: str, count: int, *, first: int = 0, points: int = 20, newline: bool = True) -> bytes:
    """Drawings of a word as Google writes them; each depends on the word and its number alone."""
    lines = []
    for number in range(first, first + count):
        rng = np.random.default_rng([*word.encode(), number])
        record = {
            "word": word,
            "countrycode": "CZ",
            "timestamp": f"2017-03-11 20:14:24.{rng.integers(10, 99999)} UTC",
            "recognized": bool(rng.random() < 0.9),
            "key_id": str(4_500_000_000_000_000 + int(rng.integers(10**15))),
            "drawing": rng.integers(0, 256, (2, 2, points)).tolist(),
        }
        lines.append(json.dumps(record, separators=(",", ":")))
    return "\n".join(lines).encode() + (b"\n" if newline else b"")


class StandIn:
    """The server.

    Attributes:
        files: bytes by path, as in `/bucket/full/simplified/cat.ndjson`.
        faults: by path, one for each request from the first on, `("drop", 1000)`; after them, requests are answered.
        always: a fault of every request that has no other.
        asked: (path, Range) of each request.
        sent: bytes of bodies that were sent.
        tags: the ETag by path; one made of the length for others.
        busy, busiest: requests that are answered now, and the most at a time.
        pause: seconds before each 16 KiB.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self.always: tuple[Any, ...] | None = None
        self.asked: list[tuple[str, str]] = []
        self.sent = self.busy = self.busiest = 0
        self.tags: dict[str, str] = {}
        self.pause = 0.0
        self.lock = threading.Lock()
        self.address = ""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        """A file or a range of it, or the fault that is due."""
        home = self.stand_in
        path = unquote(urlsplit(self.path).path)
        with home.lock:
            home.asked.append((path, self.headers.get("Range", "")))
            home.busy += 1
            home.busiest = max(home.busiest, home.busy)
            due = home.faults[path].pop(0) if home.faults[path] else home.always
        try:
            self.answer(path, *(due or ("range",)))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with home.lock:
                home.busy -= 1

    def answer(self, path: str, fault: str, *how: Any) -> None:
        """Answer with a fault; `range` for none."""
        body = self.stand_in.files.get(path)
        if fault == "status":
            self.send(how[0], b"", dict(how[1:]))
        elif fault == "html":
            self.send(200, PORTAL, {"Content-Type": "text/html"})
        elif fault == "redirect":
            self.send(302, b"", {"Location": how[0]})
        elif fault == "hang":
            time.sleep(how[0])
            self.close_connection = True
        elif body is None:
            self.send(404, b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>")
        elif fault == "whole":
            self.send(200, body, {"ETag": self.tag(path)})
        elif fault == "unmeasured":
            self.send(200, body[: how[0]] if how else body, {}, measured=False)
        else:
            self.send_range(path, body, fault, how)

    def tag(self, path: str) -> str:
        return self.stand_in.tags.get(path, f'"{len(self.stand_in.files[path])}"')

    def send_range(self, path: str, body: bytes, fault: str, how: tuple[Any, ...]) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, self.tag(path))
        if not found or not same:
            return self.send(200, body, {"ETag": self.tag(path)})
        start, end = int(found[1]), min(int(found[2]) + 1, len(body))
        if start >= len(body):
            return self.send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        if fault == "short":
            end = min(end, start + how[0])
        told = f"bytes {start}-{end - 1}/{'*' if fault == 'untold' else len(body)}"
        if fault == "shifted":  # as many bytes as asked for, from another place
            start, end = start + how[0], min(end + how[0], len(body))
            told = f"bytes {start}-{end - 1}/{len(body)}"
        if fault == "wrong_range":
            told = how[0]
        headers = {"Content-Range": told, "ETag": self.tag(path)}
        drop = how[0] if fault in ("drop", "trickle", "unmeasured_range") else None
        measured = fault not in ("unmeasured_range", "shifted")
        return self.send(206, body[start:end], headers, drop=drop, slow=fault == "trickle", measured=measured)

    def send(
        self, code: int, body: bytes, headers: dict[str, str] | None = None, *, drop: int | None = None,
        slow: bool = False, measured: bool = True,
    ) -> None:  # fmt: skip
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if measured:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        step = 10 if slow else 2**14
        for start in range(0, len(body) if drop is None else min(drop, len(body)), step):
            time.sleep(0.05 if slow else self.stand_in.pause)
            piece = body[start : min(start + step, len(body) if drop is None else drop)]
            with self.stand_in.lock:
                self.stand_in.sent += len(piece)
            self.wfile.write(piece)
            self.wfile.flush()
        if drop is not None:
            self.close_connection = True


class Server(ThreadingHTTPServer):
    """A server that does not print what clients do that hang up."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


@contextmanager
def stand_in(tls: ssl.SSLContext | None = None, **words: bytes) -> Iterator[StandIn]:
    """A running stand-in with the files of some words, `wine_glass=b"..."`."""
    home = StandIn()
    for word, body in words.items():
        home.files[f"/bucket/full/simplified/{word.replace('_', ' ')}.ndjson"] = body
    handler = type("Bound", (Handler,), {"stand_in": home})
    with Server(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        home.address = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/bucket"
        running = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        running.start()
        try:
            yield home
        finally:
            server.shutdown()
            running.join()
