"""The first lines of files in a public bucket, by HTTP range requests: a fetch that was stopped goes on where it was.

    <folder>/<name>         the first bytes of a remote file
    <folder>/<name>.sums    which version of it they are of, and a checksum per piece: a line each

Only bytes whose checksum is right are kept, so a fetch ends with the same bytes however often it was interrupted. Waits
after errors are those of `urllib3.Retry`: exponential with jitter, or what the server asks for with Retry-After.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError
from urllib3.util import Retry
from xxhash import xxh3_64_hexdigest

from pipeline.foundation.errors import SketchstackError, is_full, no_room

PIECE = 2**16  # bytes that share a checksum; what a killed process loses of each file
SPARE = 1.05  # bytes that are asked for, per byte that the lines are expected to take
MOST_ASKED = 2**26  # bytes of one request
FIRST_SHOWN = 2**12  # bytes of an answer that is no data, searched for its title
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
MISSING = {404, 410}
KAGGLE = "`make data NAME=kaggle` downloads the competition itself, with a Kaggle account"


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for; times in seconds.

    Attributes:
        connect, read: limits for a connection, and for the next bytes of an answer.
        tries: requests in a row that may bring nothing, once the server has answered.
        first_tries: before it has ever answered.
        backoff: of the exponential waits; 1, 2, 4 times this, and so on.
        longest_backoff: the longest of these waits.
        longest_asked: the longest wait that a server may ask for.
        slow: time over which the speed is measured.
        slow_bytes: fewer bytes in that time count as a broken connection.
    """

    connect: float = 10.0
    read: float = 20.0
    tries: int = 8
    first_tries: int = 3
    backoff: float = 1.0
    longest_backoff: float = 60.0
    longest_asked: float = 600.0
    slow: float = 30.0
    slow_bytes: int = 30_000


PATIENCE = Patience()


class InterruptedFetchError(Exception):
    """A request that has brought less than was asked for; another may bring the rest.

    Args:
        reason: what has happened.
        wait: seconds that the server asks to wait, None if it does not ask.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class StoppedFetchError(Exception):
    """The fetch of another file has failed, or the user has stopped it."""


class Prefix:
    """The first bytes of a remote file, on disk; to be used as a context manager.

    Args:
        path: of the bytes.
        address: of the remote file.

    Attributes:
        size: bytes that are there, without those that were found damaged.
        lines: number of line feeds in them.
        version: of the remote file: its ETag, or else its time; empty if the server tells neither.
        ended: whether the remote file has no more bytes.
        restarts: how often its bytes were dropped.
    """

    def __init__(self, path: Path, address: str) -> None:
        self.path, self.address = path, address
        self.size = self.lines = 0
        self.version, self.ended, self.restarts = "", False, 0
        self._sums = path.with_name(f"{path.name}.sums")
        self._waiting = bytearray()
        self._file: BinaryIO | None = None
        self._sums_file: BinaryIO | None = None

    def __enter__(self) -> Prefix:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._intact()
        self._file, self._sums_file = self.path.open("ab"), self._sums.open("ab")
        self._file.truncate(self.size)
        self._sums_file.truncate(kept)
        if not kept:
            self._sums_file.write(self._header())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._write(len(self._waiting))
        finally:
            for file in (self._file, self._sums_file):
                if file:
                    with suppress(OSError):  # what a full disk refused is refused again
                        file.close()

    def _header(self) -> bytes:
        return json.dumps({"address": self.address, "version": self.version}).encode() + b"\n"

    def _intact(self) -> int:
        """Take in what is on disk and fits its checksums; the bytes of the checksums that hold."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            header, *sums = self._sums.read_bytes().splitlines(keepends=True)
            told = json.loads(header)
            if told["address"] == self.address and header.endswith(b"\n"):
                with self.path.open("rb") as file:
                    kept = sum(map(len, self._checked(file, sums)))
                self.version = str(told["version"])
                return len(header) + kept
        self.size = self.lines = 0
        return 0

    def _checked(self, file: BinaryIO, sums: list[bytes]) -> Iterator[bytes]:
        """The lines of checksums, as far as they fit the bytes of a file."""
        for line in sums:
            written = re.fullmatch(rb"(\d{1,9}) ([0-9a-f]{16})\n", line)
            piece = file.read(int(written[1])) if written else b""
            if not written or len(piece) < int(written[1]) or xxh3_64_hexdigest(piece).encode() != written[2]:
                return
            self.size += len(piece)
            self.lines += piece.count(b"\n")
            yield line

    def restart(self, version: str) -> None:
        """Drop all bytes: those to come are of this version."""
        assert self._file
        assert self._sums_file
        self._waiting.clear()
        self.restarts += self.size > 0
        self.size = self.lines = 0
        self.version, self.ended = version, False
        for file, text in ((self._file, b""), (self._sums_file, self._header())):
            file.truncate(0)
            file.write(text)
            file.flush()

    def add(self, data: bytes) -> None:
        """Append bytes; they are written when a piece is complete."""
        self._waiting += data
        self.size += len(data)
        self.lines += data.count(b"\n")
        while len(self._waiting) >= PIECE:
            self._write(PIECE)

    def _write(self, count: int) -> None:
        if not count or not self._file or not self._sums_file:
            return
        piece = bytes(self._waiting[:count])
        try:
            self._file.write(piece)
            self._file.flush()
            self._sums_file.write(f"{count} {xxh3_64_hexdigest(piece)}\n".encode())
            self._sums_file.flush()
        except OSError as error:
            if is_full(error):
                raise no_room(self.path, error, self.size) from error
            raise
        finally:
            del self._waiting[:count]

    def ends_a_line(self) -> bool:
        """Whether the last byte that has come is a line feed."""
        if self._waiting:
            return self._waiting.endswith(b"\n")
        with self.path.open("rb") as file:
            file.seek(max(0, self.size - 1))
            return file.read(1) == b"\n"


class Bucket:
    """A public bucket, or any server of the same files. Proxies and certificates are those of the environment.

    Args:
        address: of the bucket, as in https://storage.googleapis.com/quickdraw_dataset.
        connections: most requests at a time.
        patience: with the server.

    Attributes:
        received: bytes of data that have come in.
        told: is called with a line about each wait.

    Raises:
        SketchstackError: the address is none.
    """

    def __init__(self, address: str, *, connections: int, patience: Patience | None = None) -> None:
        if not _is_address(address):
            raise SketchstackError(
                f"{address!r} is no address of a bucket; write it as in --address https://HOST/FOLDER."
            )
        self.address, self.patience = address.rstrip("/"), patience or PATIENCE
        self.received = 0
        self.told: Callable[[str], None] = lambda line: None
        self._answered, self._stopped, self._counting = False, threading.Event(), threading.Lock()
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=0))
        self._session.headers["Accept-Encoding"] = "identity"  # a range counts the bytes of the file, not packed ones

    def stop(self) -> None:
        """Let all fetches end soon, with `StoppedFetchError`; what has come is kept."""
        self._stopped.set()

    def address_of(self, name: str) -> str:
        """The address of a file."""
        return f"{self.address}/{quote(name)}"

    def fetch(self, name: str, path: Path, *, lines: int, line_bytes: int) -> Prefix:
        """Fetch the first lines of a file, or all if it has no more; goes on where an earlier fetch has stopped.

        Args:
            name: of the file in the bucket.
            path: of the file on disk; more lines than asked for may be there.
            lines: number of lines.
            line_bytes: expected length of a line.

        Raises:
            FileNotFoundError: the bucket has no such file.
            SketchstackError: the server cannot be reached, refuses, or answers with something else.
            StoppedFetchError: `stop` was called.
        """
        with Prefix(path, self.address_of(name)) as prefix:
            retries = self._retries()
            while prefix.lines < lines and not prefix.ended:
                before = prefix.size
                mean = prefix.size / prefix.lines if prefix.lines >= 20 else line_bytes
                count = int(SPARE * mean * (lines - prefix.lines))
                try:
                    self._ask(prefix, min(max(count, PIECE), MOST_ASKED), lines)
                    retries = self._retries()
                except InterruptedFetchError as error:
                    if prefix.size - before >= PIECE:  # it has brought something: patience is for failures in a row
                        retries = self._retries()
                    retries = self._waited(retries, error, prefix)
                if prefix.restarts >= self.patience.tries:
                    raise SketchstackError(
                        f"{prefix.address} is another file at each request ({prefix.restarts} times); run the same "
                        f"command again later, or name another copy of the bucket with --address."
                    )
        return prefix

    def _retries(self) -> Retry:
        limits = self.patience
        return Retry(
            total=limits.tries - 1, backoff_factor=limits.backoff / 2, backoff_max=limits.longest_backoff,
            backoff_jitter=limits.backoff / 2, retry_after_max=10**9,
        )  # fmt: skip

    def _waited(self, retries: Retry, error: InterruptedFetchError, prefix: Prefix) -> Retry:
        """Wait before the next request; the retries that are left after it."""
        tries = len(retries.history) + 1
        with suppress(MaxRetryError):
            left = retries.increment("GET", prefix.address, error=error)
            wait = left.get_backoff_time() if error.wait is None else error.wait
            if (self._answered or tries < self.patience.first_tries) and wait <= self.patience.longest_asked:
                self.told(f"{prefix.path.stem}: {error}; next try in {wait:.0f} s")
                if self._stopped.wait(wait):
                    raise StoppedFetchError
                return left
        if error.wait is not None and error.wait > self.patience.longest_asked:
            raise SketchstackError(
                f"{prefix.address}: {error}, and the server asks to wait for {error.wait / 60:.0f} minutes; run the "
                f"same command again after that. What has come is kept."
            ) from None
        if self._answered:
            raise SketchstackError(
                f"{prefix.address} cannot be fetched: {error}, {tries} times in a row. What has come is kept: run the "
                f"same command again later, and it goes on from there."
            ) from None
        raise self._out_of_reach(prefix.address, str(error)) from None

    def _out_of_reach(self, address: str, reason: str) -> SketchstackError:
        return SketchstackError(
            f"{address} cannot be reached: {reason.rstrip('.')}. See that this machine has a network; behind a proxy, "
            f"set HTTPS_PROXY (and REQUESTS_CA_BUNDLE, if the proxy has its own certificate); --address (ADDRESS= of "
            f"make) names a copy of the bucket; {KAGGLE}."
        )

    def _ask(self, prefix: Prefix, count: int, lines: int) -> None:
        """One request for the next bytes."""
        headers = {"Range": f"bytes={prefix.size}-{prefix.size + count - 1}"}
        if prefix.version.startswith('"'):  # weak ETags cannot be compared
            headers["If-Range"] = prefix.version
        with self._answer(prefix.address, headers) as answer:
            self._answered = True
            version = _version(answer)
            if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._end(prefix, answer)
            elif answer.status_code == HTTPStatus.PARTIAL_CONTENT:
                changed = version != prefix.version and prefix.size > 0
                if version != prefix.version:
                    prefix.restart(version)
                if not changed:  # else the range is of a file that those bytes are not of
                    self._take_range(prefix, answer)
            elif answer.status_code == HTTPStatus.OK:
                self._take_all(prefix, answer, lines)
            else:
                self._refused(prefix.address, answer)

    @contextmanager
    def _answer(self, address: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """The answer to a request, its body not yet read; transport errors become `InterruptedFetchError`."""
        if self._stopped.is_set():
            raise StoppedFetchError
        try:
            limits = (self.patience.connect, self.patience.read)
            with self._session.get(address, headers=headers, stream=True, timeout=limits) as answer:
                yield answer
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE" in str(error):
                raise self._out_of_reach(address, f"its certificate is not trusted ({_cause(error)})") from None
            raise InterruptedFetchError(_cause(error)) from None
        except (requests.exceptions.TooManyRedirects, requests.exceptions.InvalidURL) as error:
            raise self._out_of_reach(address, _cause(error)) from None
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidProxyURL) as error:
            raise self._out_of_reach(address, f"{_cause(error)} (of a proxy variable or a redirect)") from None
        except (requests.RequestException, HTTPError) as error:
            raise InterruptedFetchError(_cause(error)) from None

    def _refused(self, address: str, answer: requests.Response) -> None:
        """Raise what a status means.

        Raises:
            FileNotFoundError: there is no such file.
            InterruptedFetchError: it may pass.
            SketchstackError: it does not pass.
        """
        code = answer.status_code
        status = f"the server answers {code} {answer.reason or ''}".strip()
        if code in TRY_AGAIN:
            raise InterruptedFetchError(status, _retry_after(answer))
        if code in MISSING:
            raise FileNotFoundError(address)
        if code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raise self._out_of_reach(address, "the proxy wants a user and a password (https://USER:PASSWORD@HOST)")
        raise self._out_of_reach(address, status)

    def _end(self, prefix: Prefix, answer: requests.Response) -> None:
        """Take in that there are no more bytes; start again where the file has become shorter."""
        total = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
        if total and int(total[1]) != prefix.size:
            if not prefix.size:
                raise InterruptedFetchError("the server refuses a range of a file that it has")
            prefix.restart("")
        else:
            prefix.ended = True

    def _take_range(self, prefix: Prefix, answer: requests.Response) -> None:
        told = answer.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", told.strip())
        behind = int(found[2]) + 1 if found else 0
        length = answer.headers.get("Content-Length", str(behind - prefix.size))
        if not found or int(found[1]) != prefix.size or behind <= prefix.size or length != str(behind - prefix.size):
            raise InterruptedFetchError(
                f"the server answers with {length} bytes as the range {told!r}, and bytes from {prefix.size} on were "
                f"asked for"
            )
        for data in self._body(answer):
            if not prefix.size:
                self._check_start(answer, data)
            prefix.add(data[: behind - prefix.size])
        if prefix.size < behind:
            raise InterruptedFetchError(f"the connection ended {behind - prefix.size:,} bytes early")
        prefix.ended = found[3] != "*" and prefix.size >= int(found[3])

    def _take_all(self, prefix: Prefix, answer: requests.Response, lines: int) -> None:
        """Take a file from its beginning: of a server that knows no ranges, or that has another version of it."""
        begun = False
        for data in self._body(answer):
            if not begun:
                self._check_start(answer, data)
                prefix.restart(_version(answer))
                begun = True
            prefix.add(data)
            if prefix.lines >= lines:
                return
        known = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers
        if begun and not known and not prefix.ends_a_line():  # the end of the connection is all that tells the end
            raise InterruptedFetchError("the connection ended within a line")
        if not begun:
            prefix.restart(_version(answer))
        prefix.ended = True

    def _check_start(self, answer: requests.Response, data: bytes) -> None:
        """Refuse what is no drawing: networks that want a log-in answer everything with a web page.

        Raises:
            SketchstackError: it is a web page, packed, or something else.
        """
        packed = answer.headers.get("Content-Encoding", "identity")
        if data.lstrip()[:1] == b"{" and packed == "identity":
            return
        title = re.search(rb"<title[^>]*>([^<]*)", data[:FIRST_SHOWN], re.IGNORECASE)
        what = f"a web page titled {title[1].decode(errors='replace').strip()!r}" if title else repr(data[:40])
        raise SketchstackError(
            f"{answer.url} does not answer with drawings (ndjson) but with {what}. If this network wants a log-in, "
            f"open that page in a browser, log in and run the same command again; else see that --address names a "
            f"bucket."
        )

    def _body(self, answer: requests.Response) -> Iterator[bytes]:
        """The bytes of an answer as they come.

        Raises:
            InterruptedFetchError: too few bytes come.
            StoppedFetchError: `stop` was called.
        """
        start, count = time.monotonic(), 0
        while data := answer.raw.read1(PIECE, decode_content=False):
            with self._counting:
                self.received += len(data)
            yield data
            if self._stopped.is_set():
                raise StoppedFetchError
            count += len(data)
            if time.monotonic() - start > self.patience.slow:
                if count < self.patience.slow_bytes:
                    raise InterruptedFetchError(f"only {count:,} bytes came in {self.patience.slow:.0f} seconds")
                start, count = time.monotonic(), 0


def _is_address(text: str) -> bool:
    with suppress(ValueError):
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.netloc)
    return False


def _version(answer: requests.Response) -> str:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified", "")


def _cause(error: BaseException) -> str:
    """The innermost reason of a transport error, without the addresses of objects."""
    reason = getattr(error, "reason", None) or next((each for each in error.args if isinstance(each, Exception)), None)
    if isinstance(reason, BaseException) and reason is not error:
        return _cause(reason)
    return (
        re.sub(r"^.*?object at 0x[0-9a-f]+>:? ?|^.*Connection(?:Pool)?\(host=[^)]*\): ", "", str(error))
        or type(error).__name__
    )


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds that an answer asks to wait; None if it asks for none, or not in the form of HTTP."""
    with suppress(InvalidHeader):
        return Retry(retry_after_max=10**9).get_retry_after(answer.raw)
    return None
