"""The figures of the synthetic competition: each word is a function that returns a template.

A template is a list of strokes on a canvas of one by one, y downwards, in drawing order. It has random proportions and
variants (the kind of house, the number of spokes, one line or four); `pipeline.synthetic.drawing` then draws it in a
drawing style. The words are chosen to be confusable: some look alike (cookie, clock, wheel, donut, pizza; house, barn;
cat, bear, rabbit), some give almost the same picture but are drawn differently (target and spiral, grass and zigzag,
bush and cloud).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.random import Generator

Stroke = np.ndarray  # (points, 2) float64, x then y
Point = tuple[float, float]


def line(*points: Point) -> Stroke:
    """A stroke with a corner at each point."""
    return np.array(points, np.float64)


def arc(x: float, y: float, rx: float, ry: float | None = None, *, start: float = 0, sweep: float = 360) -> Stroke:
    """Part of an ellipse about (x, y): `sweep` degrees from `start`, clockwise from three o'clock."""
    turn = np.radians(start + sweep * np.linspace(0, 1, max(8, round(abs(sweep) / 12))))
    return np.column_stack([x + rx * np.cos(turn), y + (ry or rx) * np.sin(turn)])


def ring(rng: Generator, x: float, y: float, rx: float, ry: float | None = None) -> Stroke:
    """An ellipse as people draw it: starts near the top, in either direction, ends close to its start."""
    sweep = rng.normal(368, 12) * (1 if rng.random() < 0.3 else -1)
    stroke = arc(x, y, rx, ry, start=rng.normal(-90, 35), sweep=sweep)
    drift = np.linspace(1, rng.normal(1, 0.05), len(stroke))[:, None]
    return (x, y) + (stroke - (x, y)) * drift


def sides(rng: Generator, *corners: Point) -> list[Stroke]:
    """A closed polygon: in one stroke, in two, or one stroke per side."""
    around = [*corners, corners[0]]
    manner = rng.random()
    if manner < 0.55:
        return [line(*around)]
    if manner < 0.75:
        half = len(corners) // 2
        return [line(*around[: half + 1]), line(*around[half:])]
    return [line(*side) for side in pairwise(around)]


def box(rng: Generator, left: float, top: float, right: float, bottom: float) -> list[Stroke]:
    """A rectangle that starts at its top left, drawn as a polygon."""
    return sides(rng, (left, top), (left, bottom), (right, bottom), (right, top))


def dot(rng: Generator, x: float, y: float, r: float = 0.02) -> Stroke:
    """A dot or a tiny ring."""
    return line((x, y), (x + r, y + r / 2)) if rng.random() < 0.4 else ring(rng, x, y, r)


def spoke(x: float, y: float, degrees: float, inner: float, outer: float) -> Stroke:
    """A radial line from (x, y), between two distances."""
    dx, dy = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return line((x + inner * dx, y + inner * dy), (x + outer * dx, y + outer * dy))


def fan_out(rng: Generator, count: int, inner: float, outer: float) -> list[Stroke]:
    """Spokes all around the middle of the canvas, roughly evenly."""
    first = rng.uniform(0, 360)
    return [spoke(0.5, 0.5, first + 360 * k / count + rng.normal(0, 6), inner, outer) for k in range(count)]


def scatter(rng: Generator, count: int, radius: float) -> list[Point]:
    """Points inside a circle in the middle of the canvas."""
    turns, reach = rng.uniform(0, 2 * np.pi, count), radius * np.sqrt(rng.random(count))
    return [(0.5 + d * np.cos(turn), 0.5 + d * np.sin(turn)) for turn, d in zip(turns, reach, strict=True)]


def teeth(rng: Generator, count: int, top: float, bottom: float) -> list[Point]:
    """Corners of a zigzag across the canvas, alternately low and high, unevenly spaced."""
    xs = np.linspace(0, 1, 2 * count + 1) + rng.normal(0, 0.06 / count, 2 * count + 1)
    return [(x, rng.normal(top if k % 2 else bottom, 0.03)) for k, x in enumerate(xs)]


def scallops(rng: Generator, count: int, start: float, sweep: float, *, rx: float, ry: float) -> list[Stroke]:
    """Bumps outwards along an ellipse in the middle of the canvas, one stroke each."""
    turns = np.radians(start + sweep * (np.arange(count + 1) + rng.normal(0, 0.12, count + 1)) / count)
    joints = np.column_stack([0.5 + rx * np.cos(turns), 0.5 + ry * np.sin(turns)])
    bumps = []
    for begin, end in pairwise(joints):
        middle, half = (begin + end) / 2, (end - begin) / 2
        out = np.array([half[1], -half[0]]) * np.sign(sweep) * rng.uniform(0.7, 1.1)
        turn = np.linspace(np.pi, 0, 9)[:, None]
        bumps.append(middle + half * np.cos(turn) + out * np.sin(turn))
    return bumps


def scalloped(rng: Generator, count: int, start: float, sweep: float, *, rx: float, ry: float) -> Stroke:
    """The bumps of `scallops` in one stroke."""
    return np.concatenate(scallops(rng, count, start, sweep, rx=rx, ry=ry))


def circle(rng: Generator) -> list[Stroke]:
    """One loop; two halves; or round and round."""
    if rng.random() < 0.12:
        return [arc(0.5, 0.5, 0.45, start=-90, sweep=185), arc(0.5, 0.5, 0.45, start=-90, sweep=-185)]
    if rng.random() < 0.12:
        return [arc(0.5, 0.5, 0.45, start=rng.uniform(0, 360), sweep=rng.choice([-1, 1]) * rng.uniform(500, 900))]
    return [ring(rng, 0.5, 0.5, 0.45)]


def cookie(rng: Generator) -> list[Stroke]:
    """Whole, bitten or crumbly, with chips."""
    chips = [dot(rng, x, y, rng.uniform(0.02, 0.07)) for x, y in scatter(rng, int(rng.integers(3, 10)), 0.33)]
    match rng.integers(5):
        case 0:  # with a bite taken
            outline = [arc(0.5, 0.5, 0.45, start=-20, sweep=310), arc(0.84, 0.2, 0.2, start=60, sweep=150)]
        case 1:  # crumbly
            outline = [scalloped(rng, int(rng.integers(11, 16)), rng.uniform(0, 360), 360, rx=0.42, ry=0.42)]
        case _:
            outline = [ring(rng, 0.5, 0.5, 0.45)]
    return outline + chips


def clock(rng: Generator) -> list[Stroke]:
    """Hands, and ticks, digits or neither."""
    hands = [spoke(0.5, 0.5, rng.uniform(0, 360), 0, length) for length in rng.uniform([0.15, 0.28], [0.28, 0.38])]
    hours = int(rng.choice([0, 4, 12], p=[0.25, 0.45, 0.3]))
    if rng.random() < 0.5:
        face = [spoke(0.5, 0.5, 360 * k / hours - 90, 0.36, 0.44) for k in range(hours)]
    else:  # something like digits
        at = [spoke(0.5, 0.5, 360 * k / hours - 90, 0.37, 0.37)[0] for k in range(hours)]
        face = [line((x - 0.02, y - 0.04), (x + 0.03, y - 0.04), (x - 0.01, y + 0.04)) for x, y in at]
    return [ring(rng, 0.5, 0.5, 0.47), *(hands + face if rng.random() < 0.5 else face + hands)]


def wheel(rng: Generator) -> list[Stroke]:
    """Spokes from a hub, sometimes a tyre."""
    hub = rng.uniform(0.04, 0.14)
    rim = [ring(rng, 0.5, 0.5, 0.47)] + ([ring(rng, 0.5, 0.5, 0.38)] if rng.random() < 0.45 else [])
    spokes = fan_out(rng, int(rng.integers(4, 10)), hub, 0.4)
    return [*rim, *([ring(rng, 0.5, 0.5, hub)] if rng.random() < 0.75 else []), *spokes]


def donut(rng: Generator) -> list[Stroke]:
    """A hole, perhaps icing, perhaps sprinkles."""
    rings = [ring(rng, 0.5, 0.5, 0.47, 0.42), ring(rng, 0.5, rng.normal(0.5, 0.02), rng.uniform(0.1, 0.22))]
    if rng.random() < 0.4:  # icing
        rings.append(scalloped(rng, 10, 0, 360, rx=0.36, ry=0.34))
    at = [(x, y) for x, y in scatter(rng, int(rng.integers(5, 16)), 0.4) if abs(x - 0.5) + abs(y - 0.5) > 0.27]
    sprinkles = [spoke(x, y, rng.uniform(0, 360), 0, 0.06) for x, y in at]
    return rings[:: rng.choice([-1, 1])] + (sprinkles if rng.random() < 0.45 else [])


def pizza(rng: Generator) -> list[Stroke]:
    """A slice, or the whole with its cuts, and pepperoni."""
    if rng.random() < 0.5:  # a slice
        crust = [line((0.1, 0.15), (0.5, 1), (0.9, 0.15)), arc(0.5, 0.18, 0.42, 0.12, start=185, sweep=170)]
        crust += [arc(0.5, 0.28, 0.34, 0.1, start=190, sweep=160)] if rng.random() < 0.6 else []
        return crust + [
            ring(rng, rng.uniform(0.35, 0.65), y, 0.05) for y in np.arange(0.33, 0.75, rng.uniform(0.1, 0.2))
        ]
    cuts = [spoke(0.5, 0.5, a + rng.normal(0, 5), -0.45, 0.45) for a in np.arange(0, 180, rng.choice([45, 60, 90]))]
    pepperoni = [ring(rng, x, y, rng.uniform(0.04, 0.07)) for x, y in scatter(rng, int(rng.integers(4, 9)), 0.37)]
    return [ring(rng, 0.5, 0.5, 0.47), *cuts, *pepperoni]


def target(rng: Generator) -> list[Stroke]:
    """Separate rings, from the middle or from the rim."""
    rings = int(rng.integers(3, 6))
    circles = [ring(rng, 0.5, 0.5, 0.47 * k / rings) for k in range(1, rings + 1)]
    return circles[:: rng.choice([-1, 1])]


def spiral(rng: Generator) -> list[Stroke]:
    """One stroke, inwards or outwards."""
    turns = rng.uniform(2.3, 4.7)
    growth = np.linspace(rng.uniform(0, 0.08), 1, round(30 * turns))[:, None]
    stroke = arc(0, 0, 0.47, start=rng.uniform(0, 360), sweep=rng.choice([-1, 1]) * 360 * turns)[: len(growth)]
    return [0.5 + (stroke * growth[: len(stroke)])[:: rng.choice([-1, 1], p=[0.2, 0.8])]]


def sun(rng: Generator) -> list[Stroke]:
    """Rays, flames in one stroke, or a face."""
    size, rays = rng.uniform(0.18, 0.3), int(rng.integers(7, 15))
    match rng.integers(4):
        case 0:  # flames in one stroke
            reach = np.where(np.arange(2 * rays + 1) % 2, 0.47, size + 0.03)
            flames = [spoke(0.5, 0.5, 180 * k / rays, 0, r)[1] for k, r in enumerate(reach)]
            return [ring(rng, 0.5, 0.5, size), np.array(flames)]
        case 1:  # with a face
            face = [dot(rng, 0.43, 0.45), dot(rng, 0.57, 0.45), arc(0.5, 0.5, 0.1, start=20, sweep=140)]
            return [ring(rng, 0.5, 0.5, size), *fan_out(rng, rays, size + 0.05, 0.48), *face]
        case _:
            return [ring(rng, 0.5, 0.5, size), *fan_out(rng, rays, size + rng.uniform(0, 0.07), 0.48)]


def flower(rng: Generator) -> list[Stroke]:
    """Petals one by one or in one stroke, with or without stem and leaves."""
    petals, heart, up = int(rng.integers(5, 9)), rng.uniform(0.07, 0.12), 0.32
    if rng.random() < 0.5:
        at = [spoke(0.5, up, 360 * k / petals, 0, heart + 0.1)[1] for k in range(petals)]
        crown = [ring(rng, x, y, 0.09) for x, y in at]
    else:
        crown = [scalloped(rng, petals, 0, 360, rx=heart + 0.08, ry=heart + 0.08) - np.array([0, 0.5 - up])]
    stem = [line((0.5, up + 0.22), (0.5 + rng.normal(0, 0.03), 1))] if rng.random() < 0.75 else []
    leaves = (
        [arc(x, 0.78, 0.12, 0.05, start=start) for x, start in ((0.63, 180), (0.37, 0))][: rng.integers(3)]
        if stem
        else []
    )
    return [ring(rng, 0.5, up, heart), *crown, *stem, *leaves]


def snowflake(rng: Generator) -> list[Stroke]:
    """Four or six arms through the middle, most with barbs."""
    turns = np.arange(0, 180, rng.choice([45, 60], p=[0.35, 0.65])) + rng.uniform(0, 30)
    arms = [spoke(0.5, 0.5, turn, -0.47, 0.47) for turn in turns]
    barbs = []
    for turn in np.concatenate([turns, turns + 180]) if rng.random() < 0.85 else []:
        (x, y), fork = spoke(0.5, 0.5, turn, rng.uniform(0.24, 0.36), 0)[0], rng.uniform(0.09, 0.16)
        barbs.append(np.array([spoke(x, y, turn - 45, 0, fork)[1], (x, y), spoke(x, y, turn + 45, 0, fork)[1]]))
    return arms + barbs


def star(rng: Generator) -> list[Stroke]:
    """A pentagram in one stroke, or an outline."""
    lean = rng.normal(-90, 6)
    if rng.random() < 0.55:  # a pentagram without lifting the pen
        first = int(rng.integers(5))
        return [np.array([spoke(0.5, 0.5, lean + 144 * (first + k), 0, 0.48)[1] for k in range(6)])]
    waist = rng.uniform(0.17, 0.24)
    corners = [spoke(0.5, 0.5, lean + 36 * k, 0, waist if k % 2 else 0.48)[1] for k in range(10)]
    return sides(rng, *((x, y) for x, y in corners))


def house(rng: Generator) -> list[Stroke]:
    """Walls and a roof, then door, window and chimney as one likes."""
    eaves, door = rng.uniform(0.38, 0.5), rng.uniform(0.25, 0.6)
    walls = box(rng, 0.15, eaves, 0.85, 1)
    roof = [line((0.08, eaves), (0.5, 0.03), (0.92, eaves))]
    chimney = [line((0.68, 0.2), (0.68, 0.05), (0.78, 0.05), (0.78, 0.32))] if rng.random() < 0.3 else []
    way_in = [line((door, 1), (door, 0.68), (door + 0.16, 0.68), (door + 0.16, 1))] if rng.random() < 0.8 else []
    window = [*box(rng, 0.55, 0.58, 0.75, 0.76), line((0.65, 0.58), (0.65, 0.76)), line((0.55, 0.67), (0.75, 0.67))]
    shell = [*roof, *walls] if rng.random() < 0.4 else [*walls, *roof]
    return [*shell, *chimney, *way_in, *(window if door < 0.37 and rng.random() < 0.7 else [])]


def barn(rng: Generator) -> list[Stroke]:
    """A broken gable or a plain roof, and a wide crossed door."""
    eaves, knee = rng.uniform(0.42, 0.52), rng.uniform(0.14, 0.26)
    gable = [(0.1, eaves), (0.1 + knee / 2, knee), (0.5, 0.02), (0.9 - knee / 2, knee), (0.9, eaves)]
    match rng.integers(3):
        case 0:  # one outline
            shell = sides(rng, (0.1, 1), *gable, (0.9, 1))
        case 1:
            shell = [line(*gable), *box(rng, 0.1, eaves, 0.9, 1)]
        case _:  # drawn with a plain roof
            shell = [line((0.05, eaves), (0.5, 0.05), (0.95, eaves)), *box(rng, 0.1, eaves, 0.9, 1)]
    left, top = rng.uniform(0.28, 0.36), rng.uniform(0.58, 0.68)
    cross = [line((left, top), (1 - left, 1)), line((1 - left, top), (left, 1))] if rng.random() < 0.8 else []
    split = [line((0.5, top), (0.5, 1))] if not cross or rng.random() < 0.25 else []
    loft = box(rng, 0.43, 0.24, 0.57, 0.38) if rng.random() < 0.4 else []
    return [*shell, *box(rng, left, top, 1 - left, 1), *cross, *split, *loft]


def envelope(rng: Generator) -> list[Stroke]:
    """A flap; folds below it; or opened."""
    top, tip = rng.uniform(0.15, 0.28), rng.uniform(0.5, 0.68)
    flap = [line((0.02, top), (0.5, tip), (0.98, top))]
    folds = [line((0.02, 0.85), (0.38, tip - 0.08)), line((0.98, 0.85), (0.62, tip - 0.08))]
    opened = [line((0.02, top), (0.5, top - 0.28), (0.98, top))]
    extra = rng.choice(3, p=[0.5, 0.35, 0.15])
    return [*box(rng, 0.02, top, 0.98, 0.85), *flap, *[[], folds, opened][extra]]


def square(rng: Generator) -> list[Stroke]:
    """Four sides."""
    right, bottom = rng.uniform(0.85, 1, 2)
    return box(rng, 0, 0, right, bottom)


def picture_frame(rng: Generator) -> list[Stroke]:
    """One box in another, perhaps mitred, perhaps with a picture."""
    wide, edge = rng.uniform(0.02, 0.15), rng.uniform(0.1, 0.18)
    left, top, right, bottom = wide, 0.15 - wide, 1 - wide, 0.85 + wide
    frame = box(rng, left, top, right, bottom) + box(rng, left + edge, top + edge, right - edge, bottom - edge)
    corners = [(left, top, 1, 1), (right, top, -1, 1), (right, bottom, -1, -1), (left, bottom, 1, -1)]
    mitres = [line((x, y), (x + dx * edge, y + dy * edge)) for x, y, dx, dy in corners]
    picture = [line((0.3, 0.68), (0.45, 0.42), (0.55, 0.6), (0.62, 0.5), (0.72, 0.68)), ring(rng, 0.68, 0.38, 0.05)]
    return [*frame, *(mitres if rng.random() < 0.35 else []), *(picture if rng.random() < 0.35 else [])]


def zigzag(rng: Generator) -> list[Stroke]:
    """One stroke, across or down."""
    points = line(*teeth(rng, int(rng.integers(2, 7)), 0.3, 0.7 + rng.uniform(-0.1, 0.2)))
    return [points[:, ::-1] if rng.random() < 0.25 else points]


def mountain(rng: Generator) -> list[Stroke]:
    """One to three peaks, with snow, with ground, or bare as a zigzag."""
    peaks = int(rng.choice([1, 2, 3], p=[0.3, 0.35, 0.35]))
    ridge = teeth(rng, peaks, 0.25, 0.85 if peaks == 1 else rng.uniform(0.65, 0.85))
    ridge[0], ridge[-1] = (0, 0.87), (1, 0.87)
    snow = []
    for x, y in ridge[1::2] if rng.random() < 0.65 else []:
        w = 0.09 if peaks == 3 else 0.13
        jags = [(x - w, y + 0.2), (x - w / 3, y + 0.14), (x, y + 0.2), (x + w / 3, y + 0.14), (x + w, y + 0.2)]
        snow.append(line(*jags))
    return [line(*ridge), *snow, *([line((0, 0.87), (1, 0.87))] if rng.random() < 0.35 else [])]


def lightning(rng: Generator) -> list[Stroke]:
    """A bolt's outline or a mere jag."""
    if rng.random() < 0.4:  # a mere jag
        return [line(*[(x + rng.normal(0, 0.05), y) for x, y in [(0.65, 0), (0.35, 0.5), (0.68, 0.45), (0.4, 1)]])]
    bolt = [(0.5, 0), (0.22, 0.5), (0.48, 0.48), (0.3, 1), (0.8, 0.36), (0.56, 0.37), (0.78, 0)]
    return sides(rng, *[(x + rng.normal(0, 0.03), y) for x, y in bolt])


def grass(rng: Generator) -> list[Stroke]:
    """Blades one by one, in tufts, or all in one like a zigzag."""
    blades = int(rng.integers(4, 10))
    corners = teeth(rng, blades, 0.3, rng.uniform(0.7, 0.9))
    if rng.random() < 0.2:  # all in one
        return [line(*corners)]
    if rng.random() < 0.5:  # tufts
        return [line(*corners[k : k + 3]) for k in range(0, 2 * blades, 2)]
    return [line(*side) for side in pairwise(corners)]


def animal(rng: Generator, ears: list[Stroke], muzzle: list[Stroke], whiskers: bool) -> list[Stroke]:
    """A face from the front: the ears tell which animal, the rest is drawn or left out as one likes."""
    head = ring(rng, 0.5, 0.62, rng.uniform(0.32, 0.4), 0.35)
    eyes = [dot(rng, 0.37, 0.54, 0.035), dot(rng, 0.63, 0.54, 0.035)]
    hairs = [
        line((0.5 + s * 0.15, y), (0.5 + s * 0.5, y + t)) for s in (-1, 1) for y, t in ((0.66, -0.05), (0.72, 0.04))
    ]
    return [head, *ears, *eyes, *(muzzle if rng.random() < 0.85 else []), *(hairs if whiskers else [])]


def cat(rng: Generator) -> list[Stroke]:
    """Pointed ears."""
    tip = rng.uniform(0.05, 0.16)
    ears = [line((0.18, 0.46), (0.2, tip), (0.42, 0.3)), line((0.58, 0.3), (0.8, tip), (0.82, 0.46))]
    nose = [line((0.46, 0.66), (0.54, 0.66), (0.5, 0.71), (0.46, 0.66)), arc(0.45, 0.73, 0.05, start=180, sweep=-180)]
    return animal(rng, ears, [*nose, arc(0.55, 0.73, 0.05, start=180, sweep=-180)], whiskers=rng.random() < 0.7)


def bear(rng: Generator) -> list[Stroke]:
    """Round ears and a snout."""
    size = rng.uniform(0.1, 0.15)
    ears = [arc(0.22, 0.32, size, start=110, sweep=250), arc(0.78, 0.32, size, start=180, sweep=250)]
    ears += [ring(rng, x, 0.32, size / 2) for x in (0.22, 0.78)] if rng.random() < 0.3 else []
    snout = [ring(rng, 0.5, 0.75, 0.16, 0.12), dot(rng, 0.5, 0.7, 0.04), line((0.5, 0.74), (0.5, 0.8))]
    return animal(rng, ears, snout, whiskers=rng.random() < 0.08)


def rabbit(rng: Generator) -> list[Stroke]:
    """Long ears and two teeth."""
    spread, width = rng.uniform(0.1, 0.18), rng.uniform(0.06, 0.1)
    ears = [arc(0.5 + s * spread, 0.16, width, 0.22, start=90 - s * 25, sweep=s * -310) for s in (-1, 1)]
    teeth_ = [line((0.45, 0.78), (0.45, 0.88), (0.55, 0.88), (0.55, 0.78)), line((0.5, 0.78), (0.5, 0.88))]
    return animal(rng, ears, [dot(rng, 0.5, 0.68, 0.03), line((0.4, 0.77), (0.6, 0.77)), *teeth_], rng.random() < 0.5)


def cloud(rng: Generator) -> list[Stroke]:
    """Bumps all around in one stroke, or flat below."""
    if rng.random() < 0.35:  # flat below
        top = scalloped(rng, int(rng.integers(3, 6)), 180, 180, rx=0.42, ry=0.2)
        return [np.concatenate([top, top[:1]])] if rng.random() < 0.5 else [top, line((0.08, 0.5), (0.92, 0.5))]
    return [scalloped(rng, int(rng.integers(6, 10)), rng.uniform(90, 270), 365, rx=0.42, ry=0.24)]


def bush(rng: Generator) -> list[Stroke]:
    """Bumps one by one above the ground, perhaps with leaves."""
    bumps = scallops(rng, int(rng.integers(4, 9)), 180, 180, rx=0.42, ry=rng.uniform(0.2, 0.36))
    if rng.random() < 0.25:
        bumps = [np.concatenate(bumps)]
    ground = [line((0.02, 0.5), (0.98, 0.5))] if rng.random() < 0.6 else []
    leaves = [
        arc(0.5 + u, 0.38 + v / 3, 0.05, start=200, sweep=140) for u, v in scatter(rng, 4, 0.3) - np.array([0.5, 0.5])
    ]
    return [*bumps, *ground, *(leaves if rng.random() < 0.4 else [])]


def wine_glass(rng: Generator) -> list[Stroke]:
    """Bowl, stem and foot, or the outline in one go."""
    waist, foot = rng.uniform(0.5, 0.62), rng.uniform(0.12, 0.22)
    bowl = arc(0.5, 0.05, rng.uniform(0.2, 0.26), waist - 0.05, start=180, sweep=-180)
    stem, base = line((0.5, waist), (0.5, 0.97)), line((0.5 - foot, 0.98), (0.5 + foot, 0.98))
    if rng.random() < 0.3:  # the outline in one go
        return [np.concatenate([bowl[:7], [(0.47, 0.93), (0.5 - foot, 1), (0.5 + foot, 1), (0.53, 0.93)], bowl[-7:]])]
    rim = [ring(rng, 0.5, 0.05, 0.22, 0.05)] if rng.random() < 0.5 else [line(tuple(bowl[0]), tuple(bowl[-1]))]
    wine = [line((0.3, 0.28), (0.7, 0.28))] if rng.random() < 0.4 else []
    return [bowl, *rim, stem, ring(rng, 0.5, 0.98, foot, 0.04) if rng.random() < 0.4 else base, *wine]


def t_shirt(rng: Generator) -> list[Stroke]:
    """The outline in one go, or neck, sides and hem."""
    cuff, hem = rng.uniform(0.32, 0.45), rng.uniform(0.26, 0.32)
    left = [(0.38, 0.08), (0.2, 0.12), (0.02, cuff), (0.15, cuff + 0.08), (hem, 0.36), (hem, 0.95)]
    right = [(1 - x, y) for x, y in left[::-1]]
    neck = arc(0.5, 0.08, 0.12, rng.uniform(0.06, 0.14), start=180, sweep=-180)
    if rng.random() < 0.5:
        return [np.concatenate([left, right, neck[::-1]])]
    return [neck, line(*left), line(*right), line(left[-1], right[0])]


def sailboat(rng: Generator) -> list[Stroke]:
    """A hull, a mast, one sail or two, perhaps the sea."""
    deck, mast = rng.uniform(0.66, 0.74), rng.uniform(0.42, 0.55)
    hull = sides(rng, (0.05, deck), (0.22, 0.95), (0.78, 0.95), (0.95, deck))
    sail = [line((mast, 0.03), (0.88, deck - 0.1), (mast, deck - 0.1))]
    jib = [line((mast, 0.08), (0.15, deck - 0.1), (mast, deck - 0.1))] if rng.random() < 0.55 else []
    sea = [line(*teeth(rng, 5, 0.95, 1))] if rng.random() < 0.25 else []
    return [*hull, line((mast, deck), (mast, 0.03)), *sail, *jib, *sea]


def ice_cream(rng: Generator) -> list[Stroke]:
    """A cone with one scoop or two, perhaps drips and a waffle pattern."""
    top = rng.uniform(0.4, 0.5)
    cone = sides(rng, (0.25, top), (0.5, 1), (0.75, top))
    scoop = [arc(0.5, top, 0.27, rng.uniform(0.25, 0.36), start=178, sweep=184)]
    drips = [scalloped(rng, 4, 180, -180, rx=0.27, ry=0.02) + np.array([0, top - 0.5])]
    second = [arc(0.5, top - 0.28, 0.2, 0.18, start=150, sweep=240)] if top > 0.46 else []
    waffle = [line((0.33, top + 0.04), (0.58, 0.82)), line((0.67, top + 0.04), (0.42, 0.82))]
    return [*cone, *scoop, *(drips if rng.random() < 0.4 else []), *second, *(waffle if rng.random() < 0.5 else [])]


# A new word goes to the end: misread words are drawn from the first ones, which so stay as they are.
FIGURES: dict[str, Callable[[Generator], list[Stroke]]] = {
    "circle": circle,
    "cookie": cookie,
    "clock": clock,
    "wheel": wheel,
    "donut": donut,
    "pizza": pizza,
    "target": target,
    "spiral": spiral,
    "sun": sun,
    "flower": flower,
    "snowflake": snowflake,
    "star": star,
    "house": house,
    "barn": barn,
    "envelope": envelope,
    "square": square,
    "picture frame": picture_frame,
    "zigzag": zigzag,
    "mountain": mountain,
    "lightning": lightning,
    "grass": grass,
    "cat": cat,
    "bear": bear,
    "rabbit": rabbit,
    "cloud": cloud,
    "bush": bush,
    "wine glass": wine_glass,
    "t-shirt": t_shirt,
    "sailboat": sailboat,
    "ice cream": ice_cream,
}
