"""Encodings, against OpenCV's lines and plain Python's arithmetic."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.drawings import Drawings
from pipeline.encodings import identity, mirror, pen_movements, random_affine, raster
from pipeline.params import Augmentation
from pipeline.rawfiles import RawFile, Row, read_rows
from tests.test_strokes import lists_of

STILL = Augmentation(flip=0, rotate=0, scale=0, shear=0, shift=0, mirror_test=False)
FINER = 8
MOVED = Augmentation(flip=0.5, rotate=30, scale=0.2, shear=0.3, shift=0.1, mirror_test=False)

coordinates = st.integers(0, 255)
a_stroke = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=6).map(
    lambda points: tuple(zip(*points, strict=True))
)
some_drawings = st.lists(st.lists(a_stroke, min_size=1, max_size=4), min_size=1, max_size=4)


def by_hand(seed=0, count=12):
    """Drawings of a few curved, wobbly strokes, as long as real ones are."""
    rng = np.random.default_rng(seed)
    drawings = []
    for _ in range(count):
        strokes = []
        for _ in range(rng.integers(1, 6)):
            turns = rng.normal(rng.normal(0, 0.4), 0.4, rng.integers(3, 20)).cumsum() + rng.uniform(0, 2 * np.pi)
            path = np.stack([np.cos(turns), np.sin(turns)]).cumsum(1) * rng.uniform(10, 25) + rng.uniform(
                60, 190, (2, 1)
            )
            strokes.append(tuple(path.clip(0, 255).astype(int).tolist()))
        drawings.append(strokes)
    return drawings


def real(mini, count=20):
    """The first rows of a few words' files as lists of strokes."""
    drawings = []
    for word in ("t-shirt", "ant", "house", "wine glass"):
        rows = read_rows(RawFile(mini / "train_simplified" / f"{word}.csv", 0, word.replace(" ", "_")))
        for row in itertools.islice(rows, count):
            assert isinstance(row, Row)
            drawings.append([tuple(stroke) for stroke in lists_of(row.strokes)])
    return drawings


def draw(drawings, affine=None, **changes):
    drawings = Drawings.from_lists(drawings)
    how = {"side": 32, "stroke_width": 1.5, "margin": 2.0, "channels": 1, **changes}
    return raster(drawings, identity(len(drawings)) if affine is None else affine, **how)


def move(drawings, affine=None, length=16):
    drawings = Drawings.from_lists(drawings)
    return pen_movements(drawings, identity(len(drawings)) if affine is None else affine, length=length)


def centred(drawing):
    """The strokes with the bounding box's middle at 0, in units of half a canvas."""
    xs, ys = ([value for stroke in drawing for value in stroke[axis]] for axis in (0, 1))
    middle = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    return [
        [((x - middle[0]) / 127.5, (y - middle[1]) / 127.5) for x, y in zip(*stroke, strict=True)] for stroke in drawing
    ]


def by_opencv(drawing, side, thickness, margin):
    """A drawing by OpenCV: every stroke on a canvas of FINER times the side, then made small."""
    canvas = np.zeros((side * FINER, side * FINER), np.uint8)
    for number, stroke in enumerate(centred(drawing)):
        ink = max(127, 255 - 13 * number)
        pixels = np.array(stroke) * ((side - 1) / 2 - margin) + (side - 1) / 2
        fine = np.round(((pixels + 0.5) * FINER - 0.5) * 16).astype(np.int32)  # in sixteenths
        drawn = np.zeros_like(canvas)
        cv2.polylines(drawn, [fine], False, ink, thickness, cv2.LINE_8, 4)
        canvas = np.maximum(canvas, drawn)
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)


def assert_drawn_as_by_opencv(drawings, side, thickness, margin):
    width = (thickness + 1) / FINER  # OpenCV inks both borders of a line whose thickness is even
    ours = draw(drawings, side=side, stroke_width=width, margin=margin)[..., 0].astype(float)
    theirs = np.array([by_opencv(drawing, side, thickness, margin) for drawing in drawings], float)
    for one, other in zip(ours, theirs, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.992
        assert np.abs(one - other).sum() < 0.09 * other.sum()
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.015)


@pytest.mark.parametrize(("side", "thickness", "margin"), [(32, 12, 1.5), (64, 16, 2.0), (48, 24, 4.0)])
def test_a_raster_is_what_opencv_draws_large_and_makes_small(side, thickness, margin):
    assert_drawn_as_by_opencv(by_hand(), side, thickness, margin)


def test_real_drawings_are_drawn_as_by_opencv(mini):
    assert_drawn_as_by_opencv(real(mini), 64, 16, 2.0)


def test_a_raster_is_bytes_with_channels_last_and_empty_where_there_is_no_ink():
    images = draw(by_hand(count=3), side=28)
    assert images.shape == (3, 28, 28, 1)
    assert images.dtype == np.uint8
    assert (draw([[((0, 255), (0, 0))]]) > 0).any(axis=(1, 2, 3)).all()
    assert (images == 0).mean() > 0.5


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


@given(some_drawings)
@settings(deadline=None, max_examples=40)
def test_a_mirrored_drawing_is_the_mirrored_picture(drawings):
    mirrored = draw(drawings, mirror(len(drawings))).astype(int)
    assert np.abs(mirrored - draw(drawings)[:, :, ::-1]).max() <= 1


def test_a_quarter_turn_of_a_drawing_is_a_quarter_turn_of_its_picture():
    drawings = by_hand()
    turn = np.tile(np.array([[0, -1, 0], [1, 0, 0]], np.float32), (len(drawings), 1, 1))  # x right, y down: clockwise
    turned = draw(drawings, turn).astype(int)
    assert np.abs(turned - np.rot90(draw(drawings), -1, axes=(1, 2))).max() <= 1


def test_a_shift_of_whole_pixels_moves_the_picture_by_as_many():
    drawings = [[((100, 150, 120), (100, 120, 160)), ((110,), (130,))]]
    half = (32 - 1) / 2 - 2
    affine = identity(1)
    affine[:, 0, 2], affine[:, 1, 2] = 3 / half, -2 / half
    moved = draw(drawings, affine).astype(int)
    assert np.abs(moved - np.roll(draw(drawings), (-2, 3), axis=(1, 2))).max() <= 1


def test_ink_that_an_affine_map_moves_off_the_canvas_is_cut_off():
    far = identity(2)
    far[:, :, 2] = [[9, 9], [-0.9, 0]]
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
def test_three_channels_together_are_the_picture_of_one(drawings):
    np.testing.assert_array_equal(draw(drawings, channels=3).max(axis=3), draw(drawings)[..., 0])


def test_each_channel_has_a_third_of_the_points():
    points = range(0, 241, 30)  # 9 points from left to right, 30 apart
    (image,) = draw([[(tuple(points), (0,) * 9)]], side=128, stroke_width=1.0, channels=3)
    pixels = [round((x - 120) / 127.5 * 61.5 + 63.5) for x in points]
    for channel, (first, last) in enumerate([(0, 2), (2, 5), (5, 8)]):  # a segment belongs to its last point
        columns = np.flatnonzero(image[:, :, channel].any(axis=0))
        assert columns.min() == pytest.approx(pixels[first], abs=1)
        assert columns.max() == pytest.approx(pixels[last], abs=1)


@pytest.mark.parametrize("seed", range(3))
def test_a_random_map_with_all_limits_at_zero_changes_nothing(seed):
    np.testing.assert_array_equal(random_affine(np.random.default_rng(seed), 5, STILL), identity(5))


def test_a_random_map_scales_then_shears_then_rotates_then_flips_within_its_limits():
    maps = random_affine(np.random.default_rng(0), 400, MOVED).astype(float)
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
    spread = maps.std(axis=0)
    assert spread.min() > 0.05, "every limit is made use of"


@pytest.mark.parametrize(("flip", "sign"), [(0.0, 1), (1.0, -1)])
def test_flip_is_a_probability(flip, sign):
    maps = random_affine(np.random.default_rng(0), 50, STILL.model_copy(update={"flip": flip}))
    np.testing.assert_array_equal(maps, identity(50) if sign == 1 else mirror(50))


def movements_of(drawing, affine, length):
    """Pen movements in plain Python."""
    strokes = centred(drawing)
    points = [(number, x, y) for number, stroke in enumerate(strokes) for x, y in stroke]
    kept = [points[k * len(points) // min(len(points), length)] for k in range(min(len(points), length))]
    rows, last = [], None
    for k, (number, u, v) in enumerate(kept):
        x, y = (row[0] * u + row[1] * v + row[2] for row in affine.tolist())
        ends = k + 1 == len(kept) or kept[k + 1][0] != number
        dx, dy = (x - last[0], y - last[1]) if last else (0, 0)
        rows.append((dx, dy, float(ends), x, y))
        last = (x, y)
    return rows


def assert_moved_as_in_python(drawings, affine, length):
    movements, lengths = move(drawings, affine, length)
    assert movements.shape == (len(drawings), length, 5)
    assert movements.dtype == np.float32
    assert lengths.dtype == np.int32
    for n, drawing in enumerate(drawings):
        expected = movements_of(drawing, affine[n], length)
        assert lengths[n] == len(expected)
        np.testing.assert_allclose(movements[n, : lengths[n]], expected, atol=2e-6)
        assert not movements[n, lengths[n] :].any(), "behind the end there is nothing"


@given(some_drawings, st.integers(1, 12), st.integers(0, 99))
@settings(deadline=None)
def test_pen_movements_equal_a_plain_oracle(drawings, length, seed):
    affine = random_affine(np.random.default_rng(seed), len(drawings), MOVED)
    assert_moved_as_in_python(drawings, affine, length)


def test_pen_movements_of_real_drawings_equal_a_plain_oracle(mini):
    drawings = real(mini)
    for length in (24, 96):
        assert_moved_as_in_python(drawings, identity(len(drawings)), length)


def test_movements_add_up_to_positions():
    movements, lengths = move(by_hand(), length=128)
    for each, length in zip(movements, lengths, strict=True):
        walked = each[:length, :2].astype(float).cumsum(axis=0) + each[0, 3:]
        np.testing.assert_allclose(walked, each[:length, 3:], atol=1e-5)


def test_the_pen_goes_up_once_a_stroke_when_all_points_are_kept():
    drawings = by_hand()
    movements, lengths = move(drawings, length=128)
    for each, length, drawing in zip(movements, lengths, drawings, strict=True):
        ends = np.cumsum([len(xs) for xs, _ in drawing]) - 1
        assert length == ends[-1] + 1
        assert np.flatnonzero(each[:, 2]).tolist() == ends.tolist()


def test_a_long_drawing_keeps_its_first_point_and_evenly_spaced_others():
    xs = tuple(range(0, 200, 2))
    movements, lengths = move([[(xs, xs)]], length=10)
    assert lengths.tolist() == [10]
    np.testing.assert_allclose(movements[0, :, 3], (np.arange(0, 200, 20) - 99) / 127.5, atol=1e-6)


def test_there_may_be_no_drawings():
    assert draw([]).shape == (0, 32, 32, 1)
    movements, lengths = move([])
    assert (movements.shape, lengths.shape) == ((0, 16, 5), (0,))
