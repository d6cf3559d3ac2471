"""Around every answer of the server: strict headers, a line of the log, metrics, the names that it is called by."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import time
from collections.abc import Collection
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.limits import RefusedError

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LONGEST_PATH_SHOWN = 100
LARGEST_HEADERS = 2**16  # bytes of all names and values
OTHER = "other"  # the path of a metric, for every path that is not the server's
GONE = 499  # the status in the log where a client left before its answer
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
log = logging.getLogger("sketchstack.serve")


class Metrics:
    """What `GET /metrics` tells, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of: Any = {"registry": self.registry}
        self.requests = Counter("sketchstack_requests", "Requests answered.", ["path", "status"], **of)
        self.seconds = Histogram(
            "sketchstack_request_seconds", "Time from a request's headers to its answer.", ["path"],
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5), **of,
        )  # fmt: skip
        self.drawings = Counter("sketchstack_drawings", "Drawings predicted.", **of)
        self.batches = Histogram(
            "sketchstack_batch_drawings", "Drawings predicted together.", buckets=(1, 2, 4, 8, 16, 32, 64), **of
        )
        self.waiting = Gauge("sketchstack_queue_drawings", "Drawings that wait to be predicted.", **of)
        self.ready = Gauge("sketchstack_ready", "1 once the model is loaded and warm.", **of)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class Lines(logging.Formatter):
    """Writes a record as one line: an object of JSON, or text for people.

    Args:
        kind: json or text.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        time_ = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        fields = getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            fields = {**fields, "error": self.formatException(record.exc_info)}
        if self.kind == "json":
            return json.dumps({"time": time_.replace("+00:00", "Z"), "level": record.levelname.lower(), **fields})
        return f"{time_[11:19]} " + " ".join(str(value) for value in fields.values() if value is not None)


def start_log(kind: str, stream: TextIO | None = None) -> None:
    """Send the log to a stream, stderr by default, in one of the kinds of `Lines`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines(kind))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it would log texts of clients


class Watch:
    """Wraps an application: see the module.

    Args:
        app: the application.
        metrics: are counted.
        paths: of the application; others share a label.
        hosts: names that a request may call the server by; None for any. A page of another site, whose name is made
            to point to this machine, calls it by that site's name.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str], hosts: Collection[str] | None) -> None:
        self.app, self.metrics, self.paths, self.hosts = app, metrics, frozenset(paths), hosts
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                names = {name.lower() for name, _ in message["headers"]}
                own = HEADERS | ({"Connection": "close"} if self.draining else {})
                extra = [(name.lower().encode(), value.encode()) for name, value in own.items()]
                message["headers"] = [*message["headers"], *(pair for pair in extra if pair[0] not in names)]
            await send(message)

        try:
            if (refusal := self._called_wrongly(scope)) is not None:
                await JSONResponse(refusal.content, refusal.status)(scope, receive, watched)
            else:
                await self.app(scope, receive, watched)
        except ClientDisconnect:
            status = GONE
        except Exception:
            log.exception("an error of the server", extra={"fields": {"path": self._label(scope)}})
            if not status:
                fault = RefusedError(500, "server", "the server has an error", "tell its owner; its log has the error")
                await JSONResponse(fault.content, 500)(scope, receive, watched)
        finally:
            self._note(scope, status, time.perf_counter() - start)

    def _called_wrongly(self, scope: Scope) -> RefusedError | None:
        # h11 refuses long headers only if they come in pieces.
        if sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEADERS:
            return RefusedError(431, "headers", f"they are larger than {LARGEST_HEADERS:,} bytes", "send fewer of them")
        if self.hosts is None:
            return None
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name in self.hosts:
            return None
        return RefusedError(
            421, "Host", "this server is not known by that name", "call it as localhost, or start it with --host"
        )

    def _label(self, scope: Scope) -> str:
        return scope["path"] if scope["path"] in self.paths else OTHER

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request, and write its line."""
        label, drawings = self._label(scope), scope.get("drawings", 0)
        self.metrics.requests.labels(label, str(status)).inc()
        self.metrics.seconds.labels(label).observe(seconds)
        fields: dict[str, Any] = {
            "method": scope["method"][:10],
            "path": label if label != OTHER else ascii(scope["path"][:LONGEST_PATH_SHOWN])[1:-1],
            "status": status,
            "ms": round(1000 * seconds, 1),
            "drawings": drawings,
        }
        log.info("request", extra={"fields": fields})
