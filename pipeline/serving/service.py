"""The HTTP service: `create_app` makes an application that answers while its model is still being loaded."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from pipeline.serving import api
from pipeline.serving.batching import Batcher
from pipeline.serving.limits import MOST_BYTES, RateLimit, RefusedError
from pipeline.serving.watch import Metrics, Watch

if TYPE_CHECKING:
    from pipeline.raw.records import Strokes
    from pipeline.serving.model import Guess, Model

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
    ".woff2": "font/woff2", ".webmanifest": "application/manifest+json", ".txt": "text/plain; charset=utf-8",
}  # fmt: skip
IN_FLIGHT = 128  # requests whose bodies are read or answered at a time
DISCARDED = 2**24  # bytes of a body that is too large which are read, so that its client reads the answer
BODY_SECONDS = 10.0  # for a client to send its body
READERS = 2  # threads that read bodies
NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


class Service:
    """The model of a server, and the requests that wait for it.

    Args:
        load: makes the model, in a thread; it may say what it does by calling its argument.
        rate: drawings a second that a client may send; 0 for no limit.
        failed: is called from that thread if `load` fails; `error` is then set.

    Attributes:
        model: None until it is ready.
        state: what it does until then.
        error: why there will be no model.
    """

    def __init__(
        self,
        load: Callable[[Callable[[str], None]], Model],
        *,
        rate: float = 0,
        failed: Callable[[], object] = lambda: None,
    ) -> None:
        self.model: Model | None = None
        self.state = "starting"
        self.error: BaseException | None = None
        self.metrics = Metrics()
        self.limit = RateLimit(rate, burst=max(200.0, 4 * rate))
        self.batcher: Batcher[Strokes, Guess] = Batcher(self._predict, self.metrics.batches.observe)
        self.metrics.waiting.set_function(lambda: self.batcher.waiting)
        self._load, self._failed = load, failed
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._in_flight = 0

    def start(self) -> None:
        """Load the model in a thread."""
        threading.Thread(target=self._prepare, name="load", daemon=True).start()

    def _prepare(self) -> None:
        try:
            model = self._load(self._tell)
            self._tell("warming up")
            model.warm_up()
        except BaseException as error:
            self.error, self.state = error, "failed"
            self._failed()
            return
        self.model, self.state = model, "ready"
        self.metrics.ready.set(1)

    def _tell(self, state: str) -> None:
        self.state = state

    async def close(self) -> None:
        """Stop predicting."""
        await self.batcher.close()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def ready_model(self) -> Model:
        """The model.

        Raises:
            RefusedError: it is not ready.
        """
        if self.model is None:
            raise RefusedError(503, "server", f"the server is {self.state}", "send the same request again in 2 s", 2)
        return self.model

    def _predict(self, drawings: list[Strokes]) -> list[Guess]:
        return self.ready_model().predict(drawings)

    async def answer(self, request: Request) -> dict[str, Any]:
        """The answer to a request of `POST /predict`.

        Raises:
            RefusedError: it is not answered, and why.
        """
        model, client = self.ready_model(), request.client.host if request.client else ""
        self.limit.take(client, 1)
        if self._in_flight >= IN_FLIGHT:
            raise RefusedError(503, "server", "it answers too many requests", "send the same request again in 1 s", 1)
        self._in_flight += 1
        try:
            body = await body_of(request)
            loop = asyncio.get_running_loop()
            asked = await loop.run_in_executor(self._readers, model.asked, body)
            if len(asked.drawings) > 1:
                self.limit.take(client, len(asked.drawings) - 1)
            guesses = await self.batcher.predict(asked.drawings)
            request.scope["drawings"] = len(guesses)
            self.metrics.drawings.inc(len(guesses))
            return model.answer(asked, list(guesses))
        finally:
            self._in_flight -= 1


async def body_of(request: Request) -> bytes:
    """The body of a request, at most MOST_BYTES; it is counted while it comes, whatever its headers say.

    Raises:
        RefusedError: it is larger, too slow, or not of JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or request.headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(
            415,
            "Content-Type",
            "the body is not declared as plain JSON",
            "send the header Content-Type: application/json",
        )
    declared = int(request.headers.get("content-length", 0))
    if declared > DISCARDED or (declared > MOST_BYTES and "expect" in request.headers):
        raise _too_large()
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MOST_BYTES:
                    body += chunk
                elif size > DISCARDED:
                    break
    except TimeoutError:
        raise _too_slow() from None
    if size > MOST_BYTES:
        raise _too_large()
    return bytes(body)


class _ClosingError(RefusedError):
    """A refusal after which the connection is closed: the rest of the body is not read."""

    @property
    def headers(self) -> dict[str, str]:
        """See `RefusedError`."""
        return {"Connection": "close"}


def _too_large() -> RefusedError:
    remedy = "send fewer drawings in a request, or fewer points"
    return _ClosingError(413, "body", f"it is larger than {MOST_BYTES:,} bytes", remedy)


def _too_slow() -> RefusedError:
    return _ClosingError(408, "body", f"it did not come within {BODY_SECONDS:.0f} s", "send the whole body at once")


def create_app(service: Service, *, hosts: Collection[str] | None = None, page: Path = PAGE) -> FastAPI:
    """The application of a service.

    Args:
        service: is started and closed with the application.
        hosts: names that it may be called by; None for any.
        page: folder of the static files, read once: `/` gives its index.html.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    app = FastAPI(
        title="Sketchstack",
        version="1",
        description=api.ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
    )
    app.add_exception_handler(RefusedError, _refusal)
    app.add_exception_handler(HTTPException, _http_refusal)
    _add_routes(app, service)
    pages = _add_page(app, page)
    paths = {"/openapi.json", "/docs", "/docs.css", *api.PATHS, *pages}
    app.state.watch = Watch(app.build_middleware_stack(), service.metrics, paths, hosts)
    app.middleware_stack = app.state.watch
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/predict", **api.PREDICT)
    async def predict(request: Request) -> Response:
        return JSONResponse(await service.answer(request))

    @app.get("/words", **api.WORDS)
    async def words() -> Response:
        return JSONResponse({"words": service.ready_model().words})

    @app.get("/model", **api.MODEL)
    async def model() -> Response:
        return JSONResponse(service.ready_model().about())

    @app.get("/healthz", **api.HEALTH)
    async def healthz() -> Response:
        return JSONResponse({"alive": True})

    @app.get("/readyz", **api.READY)
    async def readyz() -> Response:
        state = "ending" if app.state.watch.draining else service.state
        ready = state == "ready"
        content = {"ready": ready, "state": state}
        return JSONResponse(content, 200 if ready else 503, None if ready else {"Retry-After": "2"})

    @app.get("/metrics", **api.METRICS)
    async def metrics() -> Response:
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(api.page_of(app.openapi()), media_type=KINDS[".html"])

    @app.get("/docs.css", include_in_schema=False)
    async def docs_css() -> Response:
        return Response(api.STYLE, media_type=KINDS[".css"])


def _add_page(app: FastAPI, folder: Path) -> list[str]:
    """A route per file of a folder: no text of a request ever names a file."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in KINDS:
            name = path.relative_to(folder).as_posix()
            answer = _static(path.read_bytes(), KINDS[path.suffix])
            for place in [f"/{name}", "/"] if name == "index.html" else [f"/{name}"]:
                app.add_route(place, answer, include_in_schema=False)
                found.append(place)
    return found


def _static(content: bytes, kind: str) -> Callable[[Request], Any]:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return answer


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse(error.content, error.status, error.headers)


async def _http_refusal(request: Request, error: Exception) -> Response:
    """What the framework refuses, in the form of the other refusals."""
    assert isinstance(error, HTTPException)
    reason = str(error.detail)
    remedy = {404: "the paths are listed at /docs", 405: "the methods of each path are listed at /docs"}
    refusal = RefusedError(error.status_code, "path", reason, remedy.get(error.status_code, "see /docs"))
    return JSONResponse(refusal.content, refusal.status, dict(error.headers or {}))
