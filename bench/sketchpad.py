"""The sketchpad's picture for the README: `python -m bench.sketchpad [champion.zip]`, in headless Chromium.

A test drawing of the synthetic competition, drawn by pointer events; results/sketchpad.png is 1200 pixels wide.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from pipeline.serving.model import Model
from tests.serving.sketchpad import a_row_of_each_word, browser, by_hand, opened, served

RESULT = Path("bench/results/sketchpad.png")
DATA = Path("data/synthetic")
SIZE = (1200, 950)  # pixels
LARGEST = 200_000  # bytes
WORD, ROW, CLAIM = "rabbit", 4, "cat"  # the fifth test drawing of a rabbit


def picture(pack: Path) -> np.ndarray:
    """The sketchpad after someone drew WORD and asked whether it is CLAIM: (height, width, 3) uint8, BGR."""
    (_, drawing) = a_row_of_each_word(DATA, ROW)[WORD]
    with served(lambda: Model(pack)) as address, browser() as found, opened(found, address, SIZE) as pad:
        pad.expect("#words-title", "words")
        side = pad.tab.locator("#canvas").bounding_box()["width"]
        scale = 0.8 * side / 255
        height = scale * max(max(y) for _, y in drawing)
        pad.answered(by_hand(drawing, scale, (0.1 * side, (side - height) / 2)))
        pad.tab.select_option("#word", CLAIM)
        pad.expect("#claimed", CLAIM)
        pad.tab.wait_for_timeout(400)  # a bar's way
        shot = cv2.imdecode(np.frombuffer(pad.tab.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert shot is not None
        return shot


def main() -> None:
    """Write the picture."""
    pack = Path(sys.argv[1] if len(sys.argv) > 1 else "champion.zip")
    cv2.imwrite(str(RESULT), picture(pack), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert RESULT.stat().st_size < LARGEST, f"{RESULT} has {RESULT.stat().st_size:,} bytes"
    print(f"{RESULT}: {RESULT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
