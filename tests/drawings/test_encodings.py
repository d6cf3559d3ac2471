"""Encodings, against OpenCV's lines and plain Python's arithmetic."""

import csv
import itertools
import json
import random

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.drawings import encodings
from pipeline.drawings.encodings import (
    Distortion,
    identity,
    mirror,
    num_channels,
    num_features,
    num_threads,
    pen_movements,
    points,
    random_distortion,
    raster,
    set_threads,
    workers,
)
from pipeline.drawings.shards import TIMED_SCHEMA, Drawings, Shard, Shards, open_shard, write_shard
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Augmentation
from pipeline.foundation.signatures import check_keywords

STILL = Augmentation(
    flip=0.0, rotate=0.0, scale=0.0, shear=0.0, shift=0.0, jitter=0.0, stroke_dropout=0.0, mixup=0.0, mirror_test=False
)
MOVED = Augmentation(
    flip=0.5, rotate=30.0, scale=0.2, shear=0.3, shift=0.1, jitter=0.0, stroke_dropout=0.0, mixup=0.0, mirror_test=False
)
SHAKEN = MOVED.model_copy(update={"jitter": 0.05, "stroke_dropout": 0.4})
FINER = 8
EVERY_CHANNEL = ["pause", "thirds", "velocity", "stroke_order"]

coordinates = st.integers(0, 255)
a_stroke = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=6).map(
    lambda points: tuple(zip(*points, strict=True))
)
some_drawings = st.lists(st.lists(a_stroke, min_size=1, max_size=4), min_size=1, max_size=4)
fits = st.sampled_from(["truncate", "resample"])


@st.composite
def timed_drawings(draw):
    """Drawings whose points have times that never fall."""
    drawings = []
    for drawing in draw(some_drawings):
        now, strokes = 0, []
        for xs, ys in drawing:
            waits = draw(st.lists(st.integers(0, 900), min_size=len(xs), max_size=len(xs)))
            times = list(itertools.accumulate(waits, initial=now))[1:]
            now = times[-1]
            strokes.append((xs, ys, times))
        first = strokes[0][2][0]
        drawings.append([(xs, ys, [time - first for time in times]) for xs, ys, times in strokes])
    return drawings


@pytest.fixture
def threads():
    """Give back how many threads there were."""
    before = num_threads()
    yield
    set_threads(before)


def by_hand(seed=0, count=12):
    """Drawings of a few curved, wobbly strokes, as long as real ones are, timed."""
    rng = np.random.default_rng(seed)
    drawings = []
    for _ in range(count):
        strokes, now = [], 0
        for _ in range(rng.integers(1, 6)):
            turns = rng.normal(rng.normal(0, 0.4), 0.4, rng.integers(3, 20)).cumsum() + rng.uniform(0, 2 * np.pi)
            path = np.stack([np.cos(turns), np.sin(turns)]).cumsum(1) * rng.uniform(10, 25) + rng.uniform(
                60, 190, (2, 1)
            )
            times = now + rng.integers(10, 300, path.shape[1]).cumsum()
            now = times[-1] + rng.integers(100, 1500)
            strokes.append((*path.clip(0, 255).astype(int).tolist(), times.tolist()))
        drawings.append(strokes)
    return drawings


def real(mini, count):
    """Drawings of all words' files in turn, as lists of strokes."""
    files = sorted((mini / "train_simplified").glob("*.csv"))
    drawings = []
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            rows = itertools.islice(csv.DictReader(file), -(-count // len(files)))
            drawings += [[tuple(stroke) for stroke in json.loads(row["drawing"])] for row in rows]
    return drawings[:count]


def draw(drawings, distortion=None, **changes):
    drawings = Drawings.from_lists(drawings) if isinstance(drawings, list) else drawings
    how = {"side": 32, "stroke_width": 1.5, "margin": 2.0, "channels": ["stroke_order"], **changes}
    return raster(drawings, distortion or identity(len(drawings)), **how)


def move(drawings, distortion=None, **changes):
    drawings = Drawings.from_lists(drawings) if isinstance(drawings, list) else drawings
    how = {"length": 16, "fit": "resample", "timing": False, **changes}
    return pen_movements(drawings, distortion or identity(len(drawings)), **how)


def spread(drawings, distortion=None, length=16, fit="resample"):
    drawings = Drawings.from_lists(drawings) if isinstance(drawings, list) else drawings
    return points(drawings, distortion or identity(len(drawings)), length=length, fit=fit)


def every_encoding(drawings, distortion):
    """What all encoders make of timed drawings, as bytes."""
    found = [draw(drawings, distortion, channels=EVERY_CHANNEL)]
    found += [array for fit in ("truncate", "resample") for array in move(drawings, distortion, fit=fit, timing=True)]
    return [array.tobytes() for array in [*found, *spread(drawings, distortion)]]


def splitmix(seed, number):
    """A number of splitmix64's stream, in Python's integers."""
    most = 2**64 - 1
    z = (seed + number * 0x9E3779B97F4A7C15) & most
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & most
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & most
    return z ^ (z >> 31)


def staying(drawing, seed, dropout):
    """The numbers of the strokes that stay."""
    longest = max(range(len(drawing)), key=lambda s: len(drawing[s][0]))
    return [s for s in range(len(drawing)) if s == longest or (splitmix(seed, -1 - s) >> 11) / 2**53 >= dropout]


def traced(drawing, distortion, place):
    """The strokes that stay as lists of (x, y) in -1..1, distorted, and their numbers."""
    seed, affine = int(distortion.seeds[place]), distortion.affine[place].tolist()
    kept = staying(drawing, seed, distortion.dropout)
    xs, ys = ([value for s in kept for value in drawing[s][axis]] for axis in (0, 1))
    middle_x, middle_y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    before = list(itertools.accumulate((len(stroke[0]) for stroke in drawing), initial=0))
    strokes = []
    for s in kept:
        stroke = []
        for number, (x, y) in enumerate(zip(drawing[s][0], drawing[s][1], strict=True), before[s]):
            u, v, bits = (x - middle_x) / 127.5, (y - middle_y) / 127.5, splitmix(seed, number)
            shake = ((bits >> 40) / 2**23 - 1, (bits >> 16) % 2**24 / 2**23 - 1)
            stroke.append(tuple(row[0] * u + row[1] * v + row[2] + 2 * distortion.jitter * by
                                for row, by in zip(affine, shake, strict=True)))  # fmt: skip
        strokes.append(stroke)
    return strokes, kept


def by_opencv(strokes, side, thickness, margin):
    """Strokes in -1..1 by OpenCV: each on a canvas of FINER times the side, then made small."""
    canvas = np.zeros((side * FINER, side * FINER), np.uint8)
    for number, stroke in enumerate(strokes):
        ink = max(127, 255 - 13 * number)
        pixels = np.array(stroke) * ((side - 1) / 2 - margin) + (side - 1) / 2
        fine = np.round(((pixels + 0.5) * FINER - 0.5) * 16).astype(np.int32)  # in sixteenths
        drawn = np.zeros_like(canvas)
        cv2.polylines(drawn, [fine], False, ink, thickness, cv2.LINE_8, 4)
        canvas = np.maximum(canvas, drawn)
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)


def drawn_twice(drawings, side, thickness, margin, distortion=None):
    """The pictures of some drawings, ours and OpenCV's: (N, side, side) float each."""
    distortion = distortion or identity(len(drawings))
    width = (thickness + 1) / FINER  # OpenCV inks both borders of a line whose thickness is even
    ours = draw(drawings, distortion, side=side, stroke_width=width, margin=margin)[..., 0].astype(float)
    strokes = [traced(drawing, distortion, place)[0] for place, drawing in enumerate(drawings)]
    return ours, np.array([by_opencv(each, side, thickness, margin) for each in strokes], float)


def assert_drawn_as_by_opencv(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99
        assert np.abs(one - other).sum() < 0.09 * other.sum()
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.015)


@pytest.mark.parametrize(("side", "thickness", "margin"), [(32, 12, 1.5), (64, 16, 2.0), (48, 24, 4.0), (150, 16, 4.0)])
def test_a_raster_is_what_opencv_draws_large_and_makes_small(side, thickness, margin):
    assert_drawn_as_by_opencv(*drawn_twice(by_hand(), side, thickness, margin))


def test_a_distorted_raster_is_what_opencv_draws_of_the_distorted_strokes():
    drawings = by_hand(count=24)
    distortion = random_distortion(np.random.default_rng(5), len(drawings), SHAKEN)
    assert_drawn_as_by_opencv(*drawn_twice(drawings, 64, 16, 12.0, distortion))


def test_a_thousand_real_drawings_are_drawn_as_by_opencv(mini):
    ours, theirs = drawn_twice(real(mini, 1000), 64, 16, 2.0)
    assert len(ours) == 1000
    assert min(np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(ours, theirs, strict=True)) > 0.97
    assert np.abs(ours - theirs).mean(axis=(1, 2)).max() < 4
    assert_drawn_as_by_opencv(ours, theirs)


@pytest.mark.parametrize("side", [128, 64])
@pytest.mark.parametrize(
    ("right", "down"), [(5, 1), (1, 1), (1, 5), (8, -7), (5, -1), (1, -5), (7, 8), (17, 0), (0, 17)]
)
def test_a_long_line_is_drawn_as_many_short_ones_along_it(side, right, down):
    steps = 250 // max(right, abs(down))
    xs, ys = [right * step for step in range(steps + 1)], [255 * (down < 0) + down * step for step in range(steps + 1)]
    long, short = [([xs[0], xs[-1]], [ys[0], ys[-1]])], [(xs, ys)]
    for width in (1.0, 3.5, 12.0):
        one, other = draw([long, short], side=side, stroke_width=width, margin=-2.0).astype(int)  # cut off at the ends
        assert np.abs(one - other).max() <= 1


def test_a_raster_is_bytes_with_channels_last_and_empty_where_there_is_no_ink():
    images = draw(by_hand(count=3), side=28)
    assert images.shape == (3, 28, 28, 1)
    assert images.dtype == np.uint8
    assert (draw([[((0, 255), (0, 0))]]) > 0).any(axis=(1, 2, 3)).all()
    assert (images == 0).mean() > 0.5


@pytest.mark.parametrize("side", [1, 2, 5, 15, 16, 17])
def test_a_small_raster_is_the_middle_of_a_larger_one_with_as_much_more_margin(side):
    drawings = [[((0, 255, 90), (0, 200, 255)), ((128,), (40,))]]
    small = draw(drawings, side=side, margin=0.0, channels=["thirds", "stroke_order"])
    large = draw(drawings, side=side + 20, margin=10.0, channels=["thirds", "stroke_order"])
    np.testing.assert_array_equal(small, large[:, 10:-10, 10:-10])


@pytest.mark.parametrize("width", [1.0, 2.0, 5.0])
def test_a_stroke_of_one_point_is_a_round_dot_of_its_width(width):
    (image,) = draw([[((40,), (90,))]], side=33, stroke_width=width)[..., 0]
    assert image[16, 16] == 255
    np.testing.assert_array_equal(image, image.T)
    np.testing.assert_array_equal(image, image[::-1, ::-1])
    assert image.sum() / 255 == pytest.approx(np.pi * (width / 2) ** 2, rel=0.4)
    assert (image[16] > 0).sum() <= width + 1


def test_the_margin_stays_empty_and_the_longest_side_fills_the_rest():
    (image,) = draw([[((0, 255), (0, 255))]], side=32, stroke_width=1.0, margin=5.0)[..., 0]
    rows = np.flatnonzero(image.any(axis=1))
    assert (rows.min(), rows.max()) == (5, 26)


def test_two_points_on_one_spot_are_a_dot():
    np.testing.assert_array_equal(draw([[((40, 40), (90, 90))]]), draw([[((40,), (90,))]]))


@given(some_drawings, st.integers(0, 255), st.integers(0, 255))
@settings(deadline=None, max_examples=40)
def test_where_on_the_canvas_a_drawing_lies_changes_nothing(drawings, right, down):
    small = [[(tuple(x // 2 for x in xs), tuple(y // 2 for y in ys)) for xs, ys in drawing] for drawing in drawings]
    right, down = right // 2, down // 2
    moved = [[(tuple(x + right for x in xs), tuple(y + down for y in ys)) for xs, ys in drawing] for drawing in small]
    np.testing.assert_array_equal(draw(small), draw(moved))
    np.testing.assert_array_equal(move(small)[0], move(moved)[0])
    np.testing.assert_array_equal(spread(small)[0], spread(moved)[0])


@given(some_drawings)
@settings(deadline=None, max_examples=40)
def test_a_mirrored_drawing_is_the_mirrored_picture(drawings):
    mirrored = draw(drawings, mirror(len(drawings))).astype(int)
    assert np.abs(mirrored - draw(drawings)[:, :, ::-1]).max() <= 1


def test_a_quarter_turn_of_a_drawing_is_a_quarter_turn_of_its_picture():
    drawings = by_hand()
    turn = identity(len(drawings))
    turn.affine[:] = [[0, -1, 0], [1, 0, 0]]  # x right, y down: clockwise
    turned = draw(drawings, turn).astype(int)
    assert np.abs(turned - np.rot90(draw(drawings), -1, axes=(1, 2))).max() <= 1


def test_a_shift_of_whole_pixels_moves_the_picture_by_as_many():
    drawings = [[((100, 150, 120), (100, 120, 160)), ((110,), (130,))]]
    half = (32 - 1) / 2 - 2
    shift = identity(1)
    shift.affine[:, 0, 2], shift.affine[:, 1, 2] = 3 / half, -2 / half
    moved = draw(drawings, shift).astype(int)
    assert np.abs(moved - np.roll(draw(drawings), (-2, 3), axis=(1, 2))).max() <= 1


def test_ink_that_a_distortion_moves_off_the_canvas_is_cut_off():
    far = identity(2)
    far.affine[:, :, 2] = [[9, 9], [-0.9, 0]]
    images = draw(by_hand(count=2), far)
    assert not images[0].any()
    assert images[1].any()


def test_ink_fades_from_stroke_to_stroke_down_to_half():
    bars = [[((x, x), (0, 255)) for x in range(0, 256, 15)]]
    (image,) = draw(bars, side=128, stroke_width=3.0)[..., 0]
    inks = [image[40:80, round(bar * 15 / 127.5 * 61.5 + 2)].max() for bar in range(18)]
    assert inks == [255, 242, 229, 216, 203, 190, 177, 164, 151, 138, *[127] * 8]


def test_where_strokes_cross_the_first_stays():
    across, down = ((0, 255), (127, 127)), ((127, 127), (0, 255))
    (image,) = draw([[across, down]], side=33, stroke_width=3.0)[..., 0]
    assert image[16, 16] == 255
    assert image[5, 16] == 242


@given(some_drawings)
@settings(deadline=None, max_examples=40)
def test_the_thirds_together_are_the_picture_of_stroke_order(drawings):
    np.testing.assert_array_equal(draw(drawings, channels=["thirds"]).max(axis=3), draw(drawings)[..., 0])


def test_each_third_is_a_third_of_the_points():
    xs = range(0, 241, 30)  # 9 points from left to right, 30 apart
    (image,) = draw([[(tuple(xs), (0,) * 9)]], side=128, stroke_width=1.0, channels=["thirds"])
    pixels = [round((x - 120) / 127.5 * 61.5 + 63.5) for x in xs]
    for channel, (first, last) in enumerate([(0, 2), (2, 5), (5, 8)]):  # a segment belongs to its last point
        columns = np.flatnonzero(image[:, :, channel].any(axis=0))
        assert columns.min() == pytest.approx(pixels[first], abs=1)
        assert columns.max() == pytest.approx(pixels[last], abs=1)


@given(timed_drawings(), st.permutations(EVERY_CHANNEL), st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_channels_stand_in_the_order_they_are_named(drawings, names, count, seed):
    distortion = random_distortion(np.random.default_rng(seed), len(drawings), SHAKEN)
    names = names[:count]
    alone = [draw(drawings, distortion, channels=[name], side=20) for name in names]
    together = draw(drawings, distortion, channels=names, side=20)
    np.testing.assert_array_equal(together, np.concatenate(alone, axis=3))
    assert together.shape[3] == num_channels(names)


def test_ink_of_velocity_is_the_speed_of_the_pen():
    #        40 units in 200 ms is usual,  three times that,  no way,    no time,    a dot
    xs, ys = [0, 40, 100, 100, 200], [0, 0, 0, 0, 0]
    times = [0, 200, 300, 500, 500]
    (image,) = draw(
        [[(xs, ys, times), ([240], [0], [900])]], side=257, stroke_width=3.0, margin=0.0, channels=["velocity"]
    )[..., 0]
    row = image[128]
    places = [round((x - 120) / 127.5 * 128 + 128) for x in (20, 70, 150, 240)]
    assert row[places].tolist() == [191, 223, 255, 127]  # half the ink, and a half, three quarters, all, none of a half


def test_ink_of_pause_is_the_wait_before_the_stroke():
    strokes = [([x, x], [0, 255], [start, start + 50]) for x, start in zip(range(0, 251, 50), WAITED, strict=True)]
    (image,) = draw([strokes], side=257, stroke_width=3.0, margin=0.0, channels=["pause"])[..., 0]
    inks = [image[128, round((x - 125) / 127.5 * 128 + 128)] for x in range(0, 251, 50)]
    assert inks == [127, 191, 223, 127, 153, 159]


WAITED = list(itertools.accumulate([0, 450, 1250, 50, 150, 183]))  # after 50 ms of drawing: 400, 1200, 0, 100, 133 ms


def test_times_that_fall_are_taken_for_no_time():
    """A recording may have them: the clock of a phone was set."""
    strokes = [([0, 100], [0, 0], [500, 100]), ([0, 100], [99, 99], [50, 80])]
    (image,) = draw([strokes], stroke_width=3.0, channels=["velocity", "pause"])
    assert image[..., 0].max() == 255
    assert image[..., 1].max() == 127
    (movements,), _ = move([strokes], timing=True)
    np.testing.assert_allclose(movements[:4, 5:], np.array([[0, 0], [1, 0], [0, 0], [100 / 106, 0]]), atol=1e-6)


@pytest.mark.parametrize("channels", [["velocity"], ["stroke_order", "pause"]])
def test_a_picture_of_timing_needs_times(channels):
    with pytest.raises(SketchstackError, match=rf"^{channels[-1]} needs the time of each point.*raw ndjson"):
        draw([[((0, 9), (0, 9))]], channels=channels)


def test_movements_with_timing_need_times():
    with pytest.raises(SketchstackError, match=r"timing: true needs the time of each point.*train_raw"):
        move([[((0, 9), (0, 9))]], timing=True)


@pytest.mark.parametrize("seed", range(3))
def test_a_random_distortion_with_all_limits_at_zero_changes_nothing(seed):
    found = random_distortion(np.random.default_rng(seed), 5, STILL)
    np.testing.assert_array_equal(found.affine, identity(5).affine)
    assert (found.jitter, found.dropout) == (0, 0)


def test_a_random_map_scales_then_shears_then_rotates_then_flips_within_its_limits():
    maps = random_distortion(np.random.default_rng(0), 400, MOVED).affine.astype(float)
    for affine in maps:
        linear = affine[:, :2].copy()
        linear[0] *= np.sign(np.linalg.det(linear))  # undo the flip
        angle = np.arctan2(linear[1, 0], linear[0, 0])  # shear and scale leave the first axis's direction
        back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        (scale_x, sheared), (zero, scale_y) = back @ linear
        assert abs(np.degrees(angle)) <= 30.001
        assert abs(zero) < 1e-6
        assert abs(scale_x - 1) <= 0.2 + 1e-6
        assert abs(scale_y - 1) <= 0.2 + 1e-6
        assert abs(sheared / scale_y) <= 0.3 + 1e-6
        assert np.abs(affine[:, 2]).max() <= 0.2 + 1e-6  # a tenth of a canvas that is 2 wide
    flipped = np.linalg.det(maps[:, :, :2]) < 0
    assert 0.4 < flipped.mean() < 0.6
    spread_out = maps.std(axis=0)
    assert spread_out.min() > 0.05, "every limit is made use of"


@pytest.mark.parametrize(("flip", "sign"), [(0.0, 1), (1.0, -1)])
def test_flip_is_a_probability(flip, sign):
    maps = random_distortion(np.random.default_rng(0), 50, STILL.model_copy(update={"flip": flip})).affine
    np.testing.assert_array_equal(maps, (identity(50) if sign == 1 else mirror(50)).affine)


def test_every_drawing_has_a_seed_of_its_own():
    found = random_distortion(np.random.default_rng(0), 1000, SHAKEN)
    assert len(set(found.seeds.tolist())) == 1000
    assert (found.jitter, found.dropout) == (0.05, 0.4)


def shaken(count, seed=0, jitter=0.0, dropout=0.0):
    """Distortions that move no drawing as a whole."""
    seeds = np.random.default_rng(seed).integers(2**64, size=count, dtype=np.uint64)
    return identity(count)._replace(seeds=seeds, jitter=jitter, dropout=dropout)


def test_jitter_moves_each_point_within_its_limit_all_ways_alike():
    drawings = [[(tuple(range(0, 200)), tuple(range(200, 0, -1)))]] * 50
    still, _ = spread(drawings, length=200)
    moved, _ = spread(drawings, shaken(50, jitter=0.03), length=200)
    by = (moved - still)[..., :2].astype(float)
    assert np.abs(by).max() <= 0.06 + 1e-6  # 3 of 100 of a canvas that is 2 wide
    np.testing.assert_allclose(np.histogram(by, 10, (-0.06, 0.06))[0] / by.size, 0.1, atol=0.01)
    assert abs(np.corrcoef(by[..., 0].ravel(), by[..., 1].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(by[:, 1:, 0].ravel(), by[:, :-1, 0].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(by[0, :, 0], by[1, :, 0])[0, 1]) < 0.3, "every drawing moves on its own"


def test_strokes_are_left_out_with_their_probability_but_never_the_longest():
    drawings = [[((1,), (1,)), ((2, 2), (2, 2)), ((3, 3), (3, 4)), ((4,), (4,))]] * 4000
    _, lengths = move(drawings, shaken(4000, dropout=0.3), length=6)
    counts = np.bincount(lengths, minlength=7) / 4000
    some = 0.7  # of the other three, of 1, 2 and 1 points
    expected = np.zeros(7)
    for ones, two in itertools.product(range(3), range(2)):
        chance = [1, 2, 1][ones] * some**ones * (1 - some) ** (2 - ones) * (some if two else 1 - some)
        expected[2 + ones + 2 * two] += chance
    np.testing.assert_allclose(counts, expected, atol=0.03)


def test_of_the_longest_strokes_the_first_stays():
    drawings = [[((5,), (5,)), ((0, 40), (9, 9)), ((7, 7), (0, 200))]] * 20
    found, lengths = move(drawings, shaken(20, dropout=1.0))
    assert set(lengths.tolist()) == {2}
    np.testing.assert_allclose(found[:, 1, :2], np.tile([40 / 127.5, 0], (20, 1)), atol=1e-6)


@given(some_drawings, st.integers(0, 2**64 - 1), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_strokes_left_out_are_as_if_never_drawn(drawings, seed, dropout):
    seeds = np.array([(seed + n) % 2**64 for n in range(len(drawings))], np.uint64)
    distortion = identity(len(drawings))._replace(seeds=seeds, dropout=dropout)
    without = [[drawing[s] for s in staying(drawing, int(seeds[n]), dropout)] for n, drawing in enumerate(drawings)]
    for encode in (draw, lambda *args: draw(*args, channels=["thirds"])):
        np.testing.assert_array_equal(encode(drawings, distortion), encode(without))
    for encode in (move, spread):
        for ours, theirs in zip(encode(drawings, distortion), encode(without), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_stroke_keeps_its_wait_when_the_one_before_is_left_out_but_the_first_has_none():
    drawing = [([0], [0], [0]), ([0, 9], [90, 90], [400, 500]), ([5], [5], [900]), ([7], [7], [1300])]
    seeds = {tuple(staying(drawing, seed, 0.5)): seed for seed in range(200)}
    for kept, waits in {(0, 1, 2, 3): [0, 0.5, 0, 0.5, 0.5], (1, 3): [0, 0, 0.5], (0, 1, 3): [0, 0.5, 0, 0.5]}.items():
        distortion = identity(1)._replace(seeds=np.array([seeds[kept]], np.uint64), dropout=0.5)
        (movements,), (length,) = move([drawing], distortion, timing=True)
        np.testing.assert_allclose(movements[:length, 6], waits, atol=1e-6)


def test_ink_of_velocity_and_pause_is_that_of_the_strokes_that_stay():
    strokes = [
        ([0, 0, 0], [0, 9, 255], [0, 9, 255]),
        ([80, 80], [0, 255], [300, 900]),
        ([160, 160], [0, 255], [1700, 1955]),
        ([240, 240], [0, 255], [2355, 2355 + 2550]),  # after 400 ms, at 0.1 units/ms
    ]
    seed = next(seed for seed in range(200) if staying(strokes, seed, 0.5) == [0, 3])
    how = {"side": 257, "stroke_width": 3.0, "margin": 0.0, "channels": ["velocity", "pause"]}
    (image,) = draw([strokes], identity(1)._replace(seeds=np.array([seed], np.uint64), dropout=0.5), **how)
    assert image[128, round(120 / 127.5 * 128 + 128)].tolist() == [170, 191]
    longer = ([0, 0, 0], [0, 9, 255], [1300, 1309, 1555])  # 400 ms later, at 1 unit/ms
    (image,) = draw([[strokes[1], longer]], identity(1)._replace(dropout=1.0), **how)
    assert image.max(axis=(0, 1)).tolist() == [233, 127], "the first that stays has no wait"


@given(timed_drawings(), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_a_distortion_is_a_pure_function_of_the_drawing_and_its_seed(drawings, seed):
    distortion = random_distortion(np.random.default_rng(seed), len(drawings), SHAKEN)
    assert every_encoding(drawings, distortion) == every_encoding(drawings, distortion)
    order = np.random.default_rng(seed).permutation(len(drawings))
    other = distortion._replace(affine=distortion.affine[order], seeds=distortion.seeds[order])
    reordered = [drawings[n] for n in order]
    np.testing.assert_array_equal(draw(drawings, distortion)[order], draw(reordered, other))
    np.testing.assert_array_equal(move(drawings, distortion)[0][order], move(reordered, other)[0])
    np.testing.assert_array_equal(spread(drawings, distortion)[0][order], spread(reordered, other)[0])


def points_of(drawing, distortion, place, length, fit):
    """The points kept, in plain Python: their strokes, their numbers in their strokes, x and y; and how many stay."""
    strokes, kept = traced(drawing, distortion, place)
    flat = [(s, n, *point) for s, stroke in enumerate(strokes) for n, point in enumerate(stroke)]
    count = min(len(flat), length)
    numbers = [k * len(flat) // count if fit == "resample" else k for k in range(count)]
    return [(number, *flat[number]) for number in numbers], strokes, kept


def share(value, usual):
    """Of 0 to infinity, as 0..1."""
    return value / (value + usual) if value > 0 else 0


def movements_of(drawing, distortion, place, length, fit):
    """Pen movements in plain Python, without timing where the drawing has none."""
    found, strokes, kept = points_of(drawing, distortion, place, length, fit)
    rows, last = [], None
    for k, (number, s, n, x, y) in enumerate(found):
        last_kept = k + 1 == len(found) or found[k + 1][1] != s
        ends = last_kept if fit == "resample" else n + 1 == len(strokes[s])
        dx, dy = (x - last[3], y - last[4]) if last else (0, 0)
        row = [dx, dy, float(ends), x, y]
        if len(drawing[0]) == 3:
            xs, ys, times = drawing[kept[s]]
            speed = wait = 0
            if last and last[1] == s:
                way = ((xs[n] - xs[last[2]]) ** 2 + (ys[n] - ys[last[2]]) ** 2) ** 0.5
                speed = share(way, 0.2 * (times[n] - times[last[2]]))
            elif s > 0:
                wait = share(times[0] - drawing[kept[s] - 1][2][-1], 400)
            row += [speed, wait]
        rows.append(row)
        last = (number, s, n, x, y)
    return rows


def assert_moved_as_in_python(drawings, distortion, length, fit):
    timing = len(drawings[0][0]) == 3
    movements, lengths = move(drawings, distortion, length=length, fit=fit, timing=timing)
    assert movements.shape == (len(drawings), length, num_features(timing=timing))
    assert movements.dtype == np.float32
    assert lengths.dtype == np.int32
    for n, drawing in enumerate(drawings):
        expected = movements_of(drawing, distortion, n, length, fit)
        assert lengths[n] == len(expected)
        np.testing.assert_allclose(movements[n, : lengths[n]], expected, atol=2e-6)
        assert not movements[n, lengths[n] :].any(), "behind the end there is nothing"


@given(st.one_of(some_drawings, timed_drawings()), st.integers(1, 12), fits, st.integers(0, 99))
@settings(deadline=None)
def test_pen_movements_equal_a_plain_oracle(drawings, length, fit, seed):
    distortion = random_distortion(np.random.default_rng(seed), len(drawings), SHAKEN)
    assert_moved_as_in_python(drawings, distortion, length, fit)


def test_pen_movements_of_real_drawings_equal_a_plain_oracle(mini):
    drawings = real(mini, 80)
    for length, fit in ((24, "resample"), (24, "truncate"), (96, "resample")):
        assert_moved_as_in_python(drawings, identity(len(drawings)), length, fit)


def test_timing_of_movements_by_hand():
    strokes = [([0, 40, 100], [0, 0, 0], [0, 200, 300]), ([100, 100], [30, 30], [700, 900])]
    (movements,), _ = move([strokes], length=5, timing=True)
    # 0.2 units/ms is usual, 0.6 three times that; a wait of 400 ms is usual
    np.testing.assert_allclose(movements[:, 5:], np.array([[0, 0], [0.5, 0], [0.75, 0], [0, 0.5], [0, 0]]), atol=1e-6)


def test_movements_add_up_to_positions():
    movements, lengths = move(by_hand(), length=128)
    for each, length in zip(movements, lengths, strict=True):
        walked = each[:length, :2].astype(float).cumsum(axis=0) + each[0, 3:]
        np.testing.assert_allclose(walked, each[:length, 3:], atol=1e-5)


@pytest.mark.parametrize("fit", ["truncate", "resample"])
def test_the_pen_goes_up_once_a_stroke_when_all_points_are_kept(fit):
    drawings = by_hand()
    movements, lengths = move(drawings, length=128, fit=fit)
    for each, length, drawing in zip(movements, lengths, drawings, strict=True):
        ends = np.cumsum([len(stroke[0]) for stroke in drawing]) - 1
        assert length == ends[-1] + 1
        assert np.flatnonzero(each[:, 2]).tolist() == ends.tolist()


def test_a_long_drawing_resampled_keeps_its_first_point_and_evenly_spaced_others():
    xs = tuple(range(0, 200, 2))
    movements, lengths = move([[(xs, xs)]], length=10)
    assert lengths.tolist() == [10]
    np.testing.assert_allclose(movements[0, :, 3], (np.arange(0, 200, 20) - 99) / 127.5, atol=1e-6)
    assert movements[0, :, 2].tolist() == [0] * 9 + [1]


def test_a_long_drawing_truncated_keeps_its_first_points_and_the_pen_stays_down():
    xs = tuple(range(0, 200, 2))
    movements, lengths = move([[(xs, xs)]], length=10, fit="truncate")
    assert lengths.tolist() == [10]
    np.testing.assert_allclose(movements[0, :, 3], (np.arange(0, 20, 2) - 99) / 127.5, atol=1e-6)
    assert not movements[0, :, 2].any()


@given(some_drawings, st.integers(1, 12), fits, st.integers(0, 99))
@settings(deadline=None)
def test_points_equal_a_plain_oracle(drawings, length, fit, seed):
    distortion = random_distortion(np.random.default_rng(seed), len(drawings), SHAKEN)
    found, lengths = spread(drawings, distortion, length, fit)
    assert found.shape == (len(drawings), length, 4)
    assert (found.dtype, lengths.dtype) == (np.float32, np.int32)
    for n, drawing in enumerate(drawings):
        kept, strokes, _ = points_of(drawing, distortion, n, length, fit)
        whole = max(1, sum(map(len, strokes)) - 1)
        expected = [(x, y, s / 16, number / whole) for number, s, _, x, y in kept]
        assert lengths[n] == len(expected)
        np.testing.assert_allclose(found[n, : lengths[n]], expected, atol=2e-6)
        assert not found[n, lengths[n] :].any(), "behind the end there is nothing"


def test_points_of_a_drawing_by_hand():
    (found,), (length,) = spread([[((0, 100), (0, 50)), ((100,), (0,))]], length=4)
    assert length == 3
    half, quarter = 50 / 127.5, 25 / 127.5
    expected = [[-half, -quarter, 0, 0], [half, quarter, 0, 0.5], [half, -quarter, 1 / 16, 1], [0.0, 0, 0, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_there_may_be_no_drawings():
    assert draw([]).shape == (0, 32, 32, 1)
    assert draw([], channels=["velocity"]).shape == (0, 32, 32, 1)
    movements, lengths = move([])
    assert (movements.shape, lengths.shape) == ((0, 16, 5), (0,))
    assert spread([])[0].shape == (0, 16, 4)


@pytest.mark.usefixtures("threads")
def test_the_bytes_do_not_depend_on_the_number_of_threads():
    drawings = Drawings.from_lists(by_hand(count=50) * 30)
    distortion = random_distortion(np.random.default_rng(0), len(drawings), SHAKEN)
    assert len(drawings) > 5 * encodings.WORTHWHILE
    found = []
    for count in (1, 2, 5):
        set_threads(count)
        found.append(every_encoding(drawings, distortion))
    with workers() as pool:
        found.append(pool.submit(every_encoding, drawings, distortion).result())
    assert all(each == found[0] for each in found)


@pytest.mark.usefixtures("threads")
def test_an_encoder_uses_as_many_threads_as_were_set_but_a_worker_keeps_to_its_own(monkeypatch):
    drawings = Drawings.from_lists([[((0, 9), (0, 9))]] * 4 * encodings.WORTHWHILE)
    parts, encode_part = [], encodings._encode_part

    def spy(kernel, pieces, *rest):
        parts.append(sum(len(rows) for _, rows, _ in pieces))
        encode_part(kernel, pieces, *rest)

    monkeypatch.setattr(encodings, "_encode_part", spy)
    for count in (1, 3):
        set_threads(count)
        parts.clear()
        draw(drawings)
        assert len(parts) == count
        assert sum(parts) == len(drawings)
    with workers() as pool:
        parts.clear()
        pool.submit(draw, drawings).result()
        assert len(parts) == 1


@pytest.mark.usefixtures("threads")
def test_an_error_on_any_thread_comes_through(monkeypatch):
    drawings, encode_part = Drawings.from_lists([[((0, 9), (0, 9))]] * 4 * encodings.WORTHWHILE), encodings._encode_part
    for bad in range(4):

        def broken(kernel, pieces, *rest, bad=bad):
            if bad * encodings.WORTHWHILE in pieces[0].places:
                raise ZeroDivisionError(f"part {bad}")
            encode_part(kernel, pieces, *rest)

        monkeypatch.setattr(encodings, "_encode_part", broken)
        set_threads(4)
        with pytest.raises(ZeroDivisionError, match=f"part {bad}"):
            draw(drawings)


@given(st.lists(timed_drawings(), min_size=1, max_size=4), st.data())
@settings(deadline=None, max_examples=30)
def test_drawings_of_several_shards_are_encoded_as_those_of_one(shards, data):
    flat = [drawing for shard in shards for drawing in shard]
    rows = np.array(data.draw(st.lists(st.integers(0, len(flat) - 1), min_size=1, max_size=8)), np.int64)
    distortion = random_distortion(np.random.default_rng(0), len(rows), SHAKEN)
    several = Shards([Shard.from_lists(shard) for shard in shards]).take(rows)
    assert every_encoding(several, distortion) == every_encoding([flat[row] for row in rows], distortion)


def test_encoders_read_the_mapped_file_and_leave_it_as_it_is(tmp_path):
    drawings = by_hand(count=30)
    columns = {
        "key_id": range(30),
        "word": [0] * 30,
        "countrycode": ["DE"] * 30,
        "recognized": [None] * 30,
        "timestamp": [None] * 30,
        "stroke": [[len(stroke[0]) for stroke in drawing] for drawing in drawings],
    }
    columns |= {
        name: [[value for stroke in drawing for value in stroke[axis]] for drawing in drawings]
        for axis, name in enumerate("xyt")
    }
    types = {field.name: field.type for field in TIMED_SCHEMA} | {"countrycode": pa.string()}
    write_shard(tmp_path / "s.arrow", pa.table({name: pa.array(columns[name], types[name]) for name in types}))
    before = (tmp_path / "s.arrow").read_bytes()
    mapped = Shards([open_shard(tmp_path / "s.arrow")])[:]
    distortion = random_distortion(np.random.default_rng(0), 30, SHAKEN)
    assert every_encoding(mapped, distortion) == every_encoding(drawings, distortion)
    assert (tmp_path / "s.arrow").read_bytes() == before


@pytest.mark.usefixtures("threads")
def test_each_kernel_is_compiled_once():
    """Other tests may have handed the kernels other arrays, so what counts is what all these add to the first."""
    set_threads(2)
    count = 2 * encodings.WORTHWHILE
    drawings = Drawings.from_lists(by_hand(count=count))
    plain = Drawings.from_lists([[stroke[:2] for stroke in drawing] for drawing in by_hand(count=count)])
    kernels = (encodings._raster, encodings._pen_movements, encodings._points, encodings._random_maps)
    shaken, still = (random_distortion(np.random.default_rng(0), count, each) for each in (SHAKEN, STILL))
    every_encoding(drawings, shaken)
    before = [len(kernel.signatures) for kernel in kernels]
    for distortion in (identity(count), mirror(count), still):
        every_encoding(drawings, distortion)
        draw(plain, distortion, stroke_width=1, margin=2)
        move(plain, distortion)
    assert [len(kernel.signatures) for kernel in kernels] == before


@pytest.mark.parametrize(
    ("encode", "block", "message"),
    [
        (raster, {"side": 9, "stroke_width": 1, "margin": 0, "channels": []}, "channels.*at least 1"),
        (raster, {"side": 9, "stroke_width": 1, "margin": 0, "channels": 3}, "channels.*list"),
        (raster, {"side": 9, "stroke_width": 1, "margin": 0, "channels": ["speed"]}, "channels.0.*'velocity'"),
        (raster, {"side": 9, "stroke_width": 1, "margin": 0, "channels": ["pause", "pause"]}, "a name stands twice"),
        (pen_movements, {"length": 9, "fit": "cut", "timing": False}, "fit.*'truncate' or 'resample'"),
        (points, {"length": 0, "fit": "truncate"}, "length.*greater"),
    ],
)
def test_wrong_params_of_an_encoding_are_refused_by_name(encode, block, message):
    with pytest.raises(SketchstackError, match=message):
        check_keywords("learners.some.encoding", block, encode)


def test_a_distortion_of_many_drawings_can_be_drawn_again():
    one, other = (random_distortion(np.random.default_rng([7, 1]), 9, SHAKEN) for _ in range(2))
    assert isinstance(one, Distortion)
    assert one.affine.tobytes() == other.affine.tobytes()
    assert one.seeds.tobytes() == other.seeds.tobytes()
    random.seed(1)  # no global state is looked at
    np.testing.assert_array_equal(random_distortion(np.random.default_rng([7, 1]), 9, SHAKEN).seeds, one.seeds)
