"""Drawings as pictures for people: as they were drawn, one hue per stroke."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.drawings.shards import Drawings

SIDE = 144  # approximate side of a picture in pixels: a raster is enlarged by an integer factor
BITS = 4  # fractional bits of OpenCV's coordinates


def drawn(drawings: Drawings) -> list[np.ndarray]:
    """Pictures of drawings as they were drawn, one hue per stroke."""
    pictures = []
    for place in range(len(drawings)):
        strokes = [np.column_stack(axes[:2]) / 127.5 - 1 for axes in drawings.strokes_of(place)]
        picture = paper()
        for number, stroke in enumerate(strokes):
            hue = np.array([[[120 - 120 * number / max(1, len(strokes) - 1), 255, 170]]], np.uint8)
            draw_path(picture, stroke, cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist(), 2)
        pictures.append(picture)
    return pictures


def paper() -> np.ndarray:
    """A blank square, (SIDE, SIDE, 3) uint8."""
    return np.full((SIDE, SIDE, 3), 255, np.uint8)


def pixels(stroke: np.ndarray) -> np.ndarray:
    """Coordinates in -1..1 as pixels of a picture with a margin, in OpenCV's fractions: (n, 2) int32."""
    return np.rint((stroke * 0.44 * SIDE + (SIDE - 1) / 2) * (1 << BITS)).astype(np.int32)


def draw_path(picture: np.ndarray, stroke: np.ndarray, colour: Sequence[float], width: int) -> None:
    """Draw lines between points in -1..1 into a picture."""
    cv2.polylines(picture, [pixels(stroke)], False, colour, width, cv2.LINE_AA, BITS)
