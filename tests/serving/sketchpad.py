"""The sketchpad in headless Chromium: a server in this process, and hands that draw on its canvas."""

from __future__ import annotations

import csv
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.browser import OPTIONS, chromium
from pipeline.drawings.shards import Drawings
from pipeline.drawings.words import Words
from pipeline.serving.model import Model
from pipeline.serving.packed import Predicted
from pipeline.serving.server import address_of, bound, hosts_of, server_of
from pipeline.serving.service import Service, create_app

WORDS = ("cat", "dog", "ice_cream", "sun", "t-shirt", "wheel", "zigzag")
LEARNERS = ("gru", "lstm", "seresnet")
DESK, PHONE = (1280, 800), (390, 844)  # pixels of the window
SPEED = 0.4  # pixels a millisecond of a pen; people draw about as fast
PAUSE = 300  # ms between two strokes
Points = list[list[list[float]]]  # strokes of [[x...], [y...], [t...]], in pixels of the canvas and ms


class Counting(Model):
    """A model that counts: of n strokes it says the n-th word, of more the last one; each learner agrees."""

    def __init__(self) -> None:
        self.ensemble: Any = SimpleNamespace(
            words=Words(WORDS),
            timed=False,
            name="super_learner",
            hash="0" * 64,
            networks=[SimpleNamespace(name=name) for name in LEARNERS],
            manifest=SimpleNamespace(profile="synthetic", commit="0" * 40, weights="float32", scores={}),
            predict=self._count,
        )

    def _count(self, drawings: Drawings) -> Predicted:
        found = np.full((len(drawings), len(WORDS)), 0.02, np.float16)
        for place, row in enumerate(found):
            row[min(len(drawings.strokes_of(place)), len(WORDS)) - 1] = 0.88
        return Predicted(found, {name: found.astype(np.float32) for name in LEARNERS})


@contextmanager
def served(load: Callable[[], Model], *, wait: bool = True) -> Iterator[str]:
    """The address of a server in this process.

    Args:
        load: makes its model.
        wait: for the model.
    """
    service = Service(lambda tell: load())
    listener = bound("127.0.0.1", 0)
    server = server_of(create_app(service, hosts=hosts_of("127.0.0.1")), None)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while wait and service.model is None and service.error is None:
            time.sleep(0.02)
        assert service.error is None, service.error
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=list(OPTIONS))
        yield found
        found.close()


@dataclass
class Pad:
    """A tab with the sketchpad.

    Attributes:
        tab: of Playwright.
        errors: of the console and the scripts, and warnings.
        requests: addresses that were asked for.
        sent: bodies of the requests for guesses.
        answers: requests of Playwright, those that were answered.
    """

    tab: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.devtools = self.tab.context.new_cdp_session(self.tab)
        self.tab.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else 0)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("request", self._asked)
        self.tab.on("requestfinished", self._answered)

    def _asked(self, request: Any) -> None:
        self.requests.append(request.url)
        if request.url.endswith("/predict"):
            self.sent.append(request.post_data_json)

    def _answered(self, request: Any) -> None:
        if request.url.endswith("/predict"):
            self.answers.append(request)

    def result(self) -> dict[str, Any]:
        """The result of the last answer."""
        return self.answers[-1].response().json()["results"][0]

    def text(self, selector: str) -> str:
        """The text of an element."""
        return " ".join(self.tab.locator(selector).text_content().split())

    def expect(self, selector: str, text: str, seconds: float = 15) -> None:
        """Wait until an element has a text, a part of its own."""
        from playwright.sync_api import expect

        expect(self.tab.locator(selector)).to_contain_text(text, timeout=1000 * seconds)

    def ink(self) -> int:
        """The number of pixels of the canvas with ink, once it is drawn."""
        return self.tab.evaluate(
            """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
              const canvas = document.getElementById("canvas");
              const copy = new OffscreenCanvas(canvas.width, canvas.height);
              const context = copy.getContext("2d", {willReadFrequently: true});
              context.drawImage(canvas, 0, 0);
              const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
              let inked = 0;
              for (let at = 3; at < data.length; at += 4) inked += data[at] > 127;
              done(inked);
            })))"""
        )

    def draw(self, drawing: Points, device: str = "mouse") -> None:
        """Move a pointer over the canvas; each event has the time of its point, however fast it is sent.

        Args:
            drawing: in CSS pixels of the canvas.
            device: mouse, pen or touch.
        """
        box = self.tab.locator("#canvas").bounding_box()
        start = time.time()
        for x, y, t in drawing:
            points = list(zip(x, y, t, strict=True))
            for place, (a, b, ms) in enumerate([*points, points[-1]]):
                kind = "down" if not place else "up" if place == len(points) else "move"
                self._pointer(device, kind, box["x"] + a, box["y"] + b, start + ms / 1000)

    def _pointer(self, device: str, kind: str, x: float, y: float, stamp: float) -> None:
        if device == "touch":
            name = {"down": "touchStart", "move": "touchMove", "up": "touchEnd"}[kind]
            points = [] if kind == "up" else [{"x": x, "y": y, "id": 1}]
            self.devtools.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": points, "timestamp": stamp})
            return
        name = {"down": "mousePressed", "move": "mouseMoved", "up": "mouseReleased"}[kind]
        about = {"button": "left", "buttons": int(kind != "up"), "clickCount": 1, "pointerType": device}
        self.devtools.send("Input.dispatchMouseEvent", {"type": name, "x": x, "y": y, "timestamp": stamp, **about})

    def answered(self, drawing: Points, device: str = "mouse") -> dict[str, Any]:
        """Draw, and wait for the answer to all of it."""
        before = len(self.sent[-1]["drawing"]) if self.sent and self.ink() else 0
        self.draw(drawing, device)
        self.wait_for(before + len(drawing))
        return self.result()

    def wait_for(self, strokes: int, seconds: float = 20) -> None:
        """Wait for the answer to a drawing of a number of strokes."""
        end = time.monotonic() + seconds
        while not (self.answers and self._shown(strokes)):
            assert time.monotonic() < end, f"no answer for {strokes} strokes"
            self.tab.wait_for_timeout(30)

    def _shown(self, strokes: int) -> bool:
        """Whether the last answer is to as many strokes, and on the page."""
        if not self.answers[-1].response().ok:
            return False
        result = self.result()
        return result["strokes"] == strokes and self.text("#best") == result["guesses"][0]["word"].replace("_", " ")


@contextmanager
def opened(found: Any, address: str, size: tuple[int, int] = DESK, **options: Any) -> Iterator[Pad]:
    """The sketchpad in a tab of its own, ready to draw.

    Args:
        found: a browser.
        address: of the server.
        size: of the window.
        options: of the browser's context: color_scheme, has_touch, reduced_motion.
    """
    context = found.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    pad = Pad(context.new_page())
    pad.tab.goto(address)
    yield pad
    context.close()


def line(*corners: tuple[float, float], start: float = 0, every: float = 25) -> list[list[float]]:
    """A stroke through corners at a pen's speed, with a point at each corner and about `every` px between them.

    Points lie on quarters of a pixel: events of Chromium have coordinates of 32 bits.
    """
    x, y, t = [corners[0][0]], [corners[0][1]], [start]
    for a, b in itertools.pairwise(corners):
        length = float(np.hypot(b[0] - a[0], b[1] - a[1]))
        steps = max(int(length / every), 1)
        for step in range(1, steps + 1):
            x.append(round(4 * (a[0] + (b[0] - a[0]) * step / steps)) / 4)
            y.append(round(4 * (a[1] + (b[1] - a[1]) * step / steps)) / 4)
            t.append(t[-1] + max(round(length / steps / SPEED), 1))
    return [x, y, t]


def by_hand(drawing: Sequence[Sequence[Sequence[int]]], scale: float, corner: tuple[float, float] = (8, 8)) -> Points:
    """A simplified drawing as the pen movements of someone who draws it at human speed, from a corner in pixels on."""
    found: Points = []
    for x, y in drawing:
        start = found[-1][2][-1] + PAUSE if found else 0
        corners = [(corner[0] + scale * a, corner[1] + scale * b) for a, b in zip(x, y, strict=True)]
        found.append(line(*corners, start=start))
    return found


def a_row_of_each_word(data: Path, skip: int = 0) -> dict[str, tuple[str, list[list[list[int]]]]]:
    """The key_id and drawing of a test row of each word, by word: the first, after `skip` others."""
    with (data / "test_labels.csv").open(newline="") as file:
        words = {row["key_id"]: row["word"] for row in csv.DictReader(file)}
    rows: dict[str, list[tuple[str, Any]]] = {}
    with (data / "test_simplified.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(words[row["key_id"]], []).append((row["key_id"], json.loads(row["drawing"])))
    return {word: found[skip] for word, found in sorted(rows.items())}
