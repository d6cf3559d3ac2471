"""Serve a pack over HTTP: an API, and a page to draw on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.serving.server import address_of, bound, hosts_of, is_loopback, server_of
from pipeline.serving.service import Service, create_app
from pipeline.serving.watch import start_log

if TYPE_CHECKING:
    from pipeline.serving.model import Model

RATE = 50.0  # drawings a second that a client may send


def serve(
    pack: Path, *, model: str | None, host: str, port: int, rate: float, behind: str | None, repack: bool
) -> None:
    """Serve a pack until a signal.

    Args:
        pack: a file of `sketchstack pack`.
        model: a base learner of it, to serve this one alone; None for the pack's model.
        host: address that it listens to.
        port: 0 for any.
        rate: drawings a second that a client may send; 0 for no limit.
        behind: addresses of proxies.
        repack: whether to pack the run of models/ first, if the pack is not of it.

    Raises:
        SketchstackError: the pack is missing or damaged, or the address cannot be used.
    """
    if not repack and not pack.is_file():
        raise SketchstackError(f"{pack} is missing; make it with `sketchstack pack {pack}`.")

    def load(tell: Callable[[str], None]) -> Model:
        if repack:
            tell("packing the run")
            from pipeline.serving.run_pack import bring_up_to_date

            bring_up_to_date(pack)
        tell("loading the model")
        from pipeline.serving.model import Model

        return Model(pack, model, threads=len(os.sched_getaffinity(0)))

    def failed() -> None:
        server.should_exit = True

    listener = bound(host, port)
    service = Service(load, rate=rate, failed=failed)
    server = server_of(create_app(service, hosts=hosts_of(host)), behind)
    print(f"{pack} at {address_of(listener)} (Ctrl-C ends it)", flush=True)
    if not is_loopback(host):
        print(
            f"warning: other machines reach {host}. There is no password and no TLS: put a proxy with both before it.",
            file=sys.stderr,
            flush=True,
        )
    server.run([listener])
    if service.error is not None:
        raise service.error
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do; the libraries take seconds to unload, and a thread may still load the model


def _number(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError("0 or more")
    return number


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Serve a pack over HTTP: an API, and a page to draw on."""
    parser = Parser(
        "serve",
        main.__doc__,
        "sketchstack serve champion.zip",
        "sketchstack serve champion.zip --model lstm --port 8080 --log text",
    )
    parser.add_argument("pack", type=Path, help="a file of `sketchstack pack`")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen to (default: %(default)s, this machine)")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s; 0 for any")
    parser.add_argument("--model", help="serve this base learner of the pack alone")
    parser.add_argument("--log", choices=("json", "text"), default="json", help="a line per request on stderr")
    parser.add_argument(
        "--rate", type=_number, default=RATE, help="drawings a second of a client (%(default)g); 0: any"
    )
    parser.add_argument("--behind", metavar="ADDRESS", help="the proxy whose X-Forwarded-For names the client")
    parser.add_argument("--repack", action="store_true", help="pack the run of models/ first if the file is not of it")
    given = parser.parse_args(arguments)
    start_log(given.log)
    serve(
        given.pack,
        model=given.model,
        host=given.host,
        port=given.port,
        rate=given.rate,
        behind=given.behind,
        repack=given.repack,
    )


if __name__ == "__main__":
    main()
