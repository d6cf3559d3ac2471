"""Load on a server over loopback: a steady rate, twice what it can do, and the full ensemble beside it.

    python -m bench.load                       packs the current run first
    python -m bench.load --single seresnet.zip --full champion.zip

Requests of one drawing each come at fixed times, whatever the server does (an open loop); the time of an answer counts
from the time at which its request was due. The client shares the machine's cores with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.tables import RESULTS, commit, hardware, machine, markdown_table
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from tests.serving.processes import Served, serving

DRAWINGS = Path("data/synthetic/test_simplified.csv")
STEADY, SECONDS = 200.0, 120.0  # requests a second, seconds
CONNECTIONS = 256  # of the client
AT_ONCE = 32  # requests at a time that measure a capacity
SINGLE, SUPER = "seresnet", "super_learner"  # models of the packs
PATIENCE = 30.0  # seconds for an answer


@dataclass
class Load:
    """What became of some requests.

    Attributes:
        what: they were.
        asked: requests a second that were due; 0 for as many as were answered.
        seconds: that they took in all.
        statuses: number by status; 0 for a lost request.
        answered: milliseconds of each that was answered with 200.
        refused: milliseconds of each that was refused.
        cpu: seconds of processor time that the server used.
        load: average of the machine at the end, over a minute.
    """

    what: str
    asked: float
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    cpu: float = 0.0
    load: float = 0.0

    @property
    def rate(self) -> float:
        """Drawings answered a second."""
        return len(self.answered) / self.seconds

    def note(self, status: int, milliseconds: float) -> None:
        """Add a request."""
        self.statuses[status] += 1
        if status == 200:
            self.answered.append(milliseconds)
        elif status:
            self.refused.append(milliseconds)

    def figures(self) -> dict[str, Any]:
        """All figures, for the JSON."""
        return {
            "what": self.what,
            "asked_a_second": self.asked,
            "seconds": round(self.seconds, 1),
            "answered_a_second": round(self.rate, 1),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "answered_ms": quantiles(self.answered),
            "refused_ms": quantiles(self.refused),
            "cpu_ms": round(1000 * self.cpu / max(1, sum(self.statuses.values())), 2),
            "load_average": round(self.load, 1),
        }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the maximum."""
    if not values:
        return {}
    return {name: round(float(np.quantile(values, at)), 1) for name, at in (("p50", 0.5), ("p99", 0.99), ("max", 1))}


class Client:
    """Connections to a server, each used by one request at a time.

    Args:
        served: the server.
        bodies: of the requests, in turn.
    """

    def __init__(self, served: Served, bodies: Sequence[bytes]) -> None:
        self.served, self.bodies, self.sent = served, bodies, 0
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = asyncio.Semaphore(CONNECTIONS)

    async def ask(self) -> int:
        """Send the next request; returns the status, 0 where there was no answer."""
        body = self.bodies[self.sent % len(self.bodies)]
        self.sent += 1
        async with self._open:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._ask(body)
            except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
                return 0

    async def _ask(self, body: bytes) -> int:
        reader, writer = await self._connection()
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if b"connection: close" in answer:
            writer.close()
        else:
            self._free.append((reader, writer))
        return int(answer.split()[1])

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that is open and free."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
        return await asyncio.open_connection("127.0.0.1", self.served.port)

    def close(self) -> None:
        """Close all connections."""
        for _, writer in self._free:
            writer.close()


async def steady(client: Client, what: str, rate: float, seconds: float) -> Load:
    """Requests at a fixed rate."""
    load, start, cpu = Load(what, rate), time.perf_counter(), client.served.cpu

    async def ask(due: float) -> None:
        status = await client.ask()
        load.note(status, 1000 * (time.perf_counter() - due))

    asking = []
    for number in range(int(rate * seconds)):
        due = start + number / rate
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        asking.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*asking)
    load.seconds, load.cpu, load.load = time.perf_counter() - start, client.served.cpu - cpu, os.getloadavg()[0]
    return load


async def most(client: Client, what: str, at_once: int, seconds: float) -> Load:
    """As many requests as are answered, some at a time."""
    load, start, cpu = Load(what, 0), time.perf_counter(), client.served.cpu

    async def ask() -> None:
        while time.perf_counter() - start < seconds:
            sent = time.perf_counter()
            load.note(await client.ask(), 1000 * (time.perf_counter() - sent))

    await asyncio.gather(*(ask() for _ in range(at_once)))
    load.seconds, load.cpu, load.load = time.perf_counter() - start, client.served.cpu - cpu, os.getloadavg()[0]
    return load


async def of_single(served: Served, bodies: Sequence[bytes], seconds: float) -> list[Load]:
    """The loads of a server of one learner."""
    client = Client(served, bodies)
    await most(client, "warm-up", 4, 1)
    loads = [await steady(client, f"{STEADY:.0f} a second", STEADY, seconds)]
    capacity = await most(client, f"{AT_ONCE} at a time", AT_ONCE, max(1.0, seconds / 8))
    loads += [capacity, await steady(client, "twice its capacity", 2 * capacity.rate, max(1.0, seconds / 6))]
    loads.append(await steady(client, "then 50 a second", 50, max(1.0, seconds / 12)))
    client.close()
    return loads


async def of_full(served: Served, bodies: Sequence[bytes], seconds: float) -> list[Load]:
    """The loads of a server of all learners."""
    client = Client(served, bodies)
    await most(client, "warm-up", 4, 1)
    loads = [await most(client, f"full ensemble, {at} at a time", at, max(1.0, seconds / 6)) for at in (1, AT_ONCE)]
    client.close()
    return loads


def packed(folder: Path, model: str) -> Path:
    """A pack of a model of the current run."""
    out = folder / f"{model}.zip"
    subprocess.run([sys.executable, "-m", "pipeline", "pack", str(out), "--model", model], check=True)
    return out


def requests() -> list[bytes]:
    """Test drawings, one a request."""
    try:
        with DRAWINGS.open(encoding="utf-8", newline="") as file:
            drawings = [row["drawing"] for row in csv.DictReader(file)]
    except OSError as error:
        raise SketchstackError(f"{DRAWINGS} cannot be read ({error}); run `make repro` first.") from None
    return [f'{{"drawing": {drawing}}}'.encode() for drawing in drawings]


def measured(single: Path, full: Path, seconds: float) -> tuple[list[Load], dict[str, Any]]:
    """All loads, and what else was measured of the servers."""
    bodies = requests()
    others: dict[str, Any] = {}
    with TemporaryDirectory(prefix="sketchstack-") as folder:
        log = Path(folder) / "log"
        with serving(single, log, "--rate", "0") as served:
            loads = asyncio.run(of_single(served, bodies, seconds))
            others |= about("single", served)
        with serving(full, log, "--rate", "0") as served:
            loads += asyncio.run(of_full(served, bodies, seconds))
            others |= about("full", served)
    return loads, others


def about(name: str, served: Served) -> dict[str, Any]:
    """A server's model, its memory, and its time to start."""
    model = json.loads(served.ask("GET", "/model")[1])
    port, ready = served.starts
    return {
        f"{name}_model": model["name"],
        f"{name}_memory_mb": round(served.memory / 1e6),
        f"{name}_port_after_s": round(port, 2),
        f"{name}_ready_after_s": round(ready, 2),
    }


def page(loads: Sequence[Load], others: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for each in loads:
        found = each.figures()
        statuses = ", ".join(f"{status}: {count:,}" for status, count in found["statuses"].items())
        answered, refused = found["answered_ms"], found["refused_ms"]
        asked = f"{each.asked:.0f}" if each.asked else "-"
        cells = [each.what, asked, f"{each.seconds:.0f}", f"{each.rate:.0f}", statuses]
        cells += [str(answered.get(name, "-")) for name in ("p50", "p99", "max")]
        rows.append([*cells, str(refused.get("p99", "-")), str(found["cpu_ms"]), f"{each.load:.1f}"])
    header = ["load", "asked/s", "s", "answered/s", "status: number", "p50 ms", "p99 ms", "max ms", "p99 ms refused"]
    table = markdown_table([*header, "CPU ms", "load average"], rows)
    notes = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in others.items())
    return (
        f"# Load on the server\n\n`python -m bench.load {' '.join(sys.argv[1:])}`, commit {commit()}. {hardware()}; "
        "the client, and what else the load average counts, run on the same cores. Single drawings over loopback; 0 "
        f"counts lost requests. CPU is the server's processor time per request.\n\n{table}\n\n{notes}.\n"
    )


@one_paragraph_errors
def main() -> None:
    """Measure the load that a server takes, and write results/serve.json and serve.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=main.__doc__)
    parser.add_argument("--single", type=Path, help=f"a pack of one learner (of the run: {SINGLE})")
    parser.add_argument("--full", type=Path, help="a pack of the ensemble (of the run)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the steady load (%(default)g)")
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="sketchstack-") as folder:
        single = asked.single or packed(Path(folder), SINGLE)
        loads, others = measured(single, asked.full or packed(Path(folder), SUPER), asked.seconds)
    text = page(loads, others)
    print(text)
    found = {"commit": commit(), "machine": machine(), "command": sys.argv[1:], **others}
    with whole_file(RESULTS / "serve.json") as file:
        loads_ = [each.figures() for each in loads]
        file.write_text(json.dumps({**found, "loads": loads_}, indent=1) + "\n", encoding="utf-8")
    with whole_file(RESULTS / "serve.md") as file:
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
