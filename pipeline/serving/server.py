"""The process of a server: its port, its connections, its signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.foundation.errors import SketchstackError
from pipeline.serving.limits import RefusedError
from pipeline.serving.watch import HEADERS, LOOPBACK_NAMES, Watch

CONNECTIONS = 512  # at a time; more are told to come back
HEADER_SECONDS = 10.0  # for a client to send the headers of a request
KEPT = 30  # seconds that a connection is kept after an answer
FAREWELL = 0.5  # seconds after SIGTERM in which requests are still taken, on connections that then close
GRACE = 0.3  # seconds after that in which an open connection may still bring a request
LONGEST_FAREWELL = 10  # seconds for the answers after that


class Connection(H11Protocol):
    """A connection: as uvicorn's, but what it refuses by itself has the form and headers of the other refusals."""

    _deadline: asyncio.TimerHandle | None = None  # for the headers of a request

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._expect_headers()
        if len(self.connections) > CONNECTIONS:
            self._refuse(RefusedError(503, "server", "too many connections are open", "come back in 1 s", 1))

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._deadline is None:
            self._expect_headers()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._expect_nothing()

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._close_if_idle)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_if_idle(self) -> None:
        """Close a connection on which no whole headers have come."""
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()

    def shutdown(self) -> None:
        """Close when the server ends; a request that is on its way is still answered."""
        self.loop.call_later(GRACE, super().shutdown)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; the answer to a request whose body it breaks is dropped."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._refuse(RefusedError(400, "request", "it is not HTTP", "send a request of HTTP/1.1"))

    def _refuse(self, refusal: RefusedError) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or self.transport.is_closing():
            self.transport.close()
            return
        answer = JSONResponse(refusal.content, refusal.status, {**HEADERS, **refusal.headers, "Connection": "close"})
        sent: list[Any] = [h11.Response(status_code=answer.status_code, headers=answer.raw_headers, reason=b"")]
        for event in [*sent, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()]:
            self.transport.write(self.conn.send(event))
        self.transport.close()


class Server(uvicorn.Server):
    """A server that ends within seconds of a signal, after its answers; a second signal ends it at once."""

    def __init__(self, config: uvicorn.Config, watch: Watch) -> None:
        super().__init__(config)
        self._watch = watch
        self._told_to_end: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take SIGTERM or SIGINT."""
        if self._told_to_end is not None:
            os._exit(128 + sig)
        self._told_to_end = time.monotonic()
        self._watch.draining = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, but take the connections that wait there first: the system would reset them."""
        waiting = [each for listener in sockets or [] for each in _accepted(listener)]
        for server in self.servers:
            server.close()
        for each in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, each)
        await super().shutdown(sockets)

    def _connection(self) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state)

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now: clients that keep their connection are first told to leave it."""
        if self._told_to_end is not None and time.monotonic() - self._told_to_end > FAREWELL:
            self.should_exit = True
        return await super().on_tick(counter)


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait at a socket which does not block."""
    with contextlib.suppress(OSError):
        while True:
            yield listener.accept()[0]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hosts_of(host: str) -> set[str] | None:
    """The names that a server at an address may be called by; None for any."""
    return {*LOOPBACK_NAMES, host} if is_loopback(host) else None


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens to an address.

    Raises:
        SketchstackError: the address is not this machine's, or the port is taken.
    """
    if not 0 <= port < 2**16:
        raise SketchstackError(f"--port {port} is no port; choose one of 1024..65535, or 0 for any.")
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.create_server(address[:2], family=family, backlog=1024)
        # Connections inherit it. An answer is two packets, and the second would wait 40 ms for the client's delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except socket.gaierror:
        raise SketchstackError(f"--host {host} is no address; try 127.0.0.1, or 0.0.0.0 for all networks.") from None
    except OSError as error:
        remedies = {
            errno.EADDRINUSE: "another program listens there; end it, or choose another --port",
            errno.EACCES: "this port needs the rights of root; choose one above 1023",
            errno.EADDRNOTAVAIL: "this machine has no such address; try 127.0.0.1, or 0.0.0.0 for all networks",
        }
        told = remedies.get(error.errno or 0, error.strerror or str(error))
        raise SketchstackError(f"{host}:{port} cannot be served: {told}.") from None


def address_of(listener: socket.socket) -> str:
    """The URL of a socket that listens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(app: FastAPI, behind: str | None) -> Server:
    """A server of an application.

    Args:
        app: of `create_app`.
        behind: addresses of proxies whose X-Forwarded-For names the client; None for none.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=behind is not None,
        forwarded_allow_ips=behind,
        timeout_keep_alive=KEPT,
        timeout_graceful_shutdown=LONGEST_FAREWELL,
    )
    return Server(config, app.state.watch)
