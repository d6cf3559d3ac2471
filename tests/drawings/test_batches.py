"""What a learner is fed depends on seed, epoch and step, and on nothing that happened before."""

import gc
import threading
import time
from collections import Counter

import numpy as np
import pytest

from pipeline.drawings.batches import AHEAD, Batches, _order, made_ahead
from pipeline.drawings.encodings import num_threads, pen_movements, raster, set_threads
from pipeline.drawings.shards import Shard, Shards
from pipeline.foundation.params import Augmentation

ROWS, SIZE = 23, 5
MOVED = Augmentation(
    flip=0.5,
    rotate=30.0,
    scale=0.2,
    shear=0.3,
    shift=0.1,
    jitter=0.02,
    stroke_dropout=0.1,
    mixup=0.0,
    mirror_test=False,
)


@pytest.fixture(params=[1, 2, 5], autouse=True)
def threads(request):
    """Every test with one thread and with several."""
    before = num_threads()
    set_threads(request.param)
    yield request.param
    set_threads(before)


def rows_and_maps(drawings, distortion):
    """An encoding that shows which rows came and how they are to be moved."""
    return drawings.key_id.copy(), distortion.affine, distortion.seeds


def some_batches(rows=ROWS, seed=(7, 0), encode=rows_and_maps):
    shard = Shard.from_lists([[((row, 90), (5, row))] for row in range(rows)], [row % 4 for row in range(rows)])
    return Batches(Shards([shard]), encode, MOVED, SIZE, seed)


def rows_of(batches, epoch):
    steps = range(epoch * batches.steps_an_epoch, (epoch + 1) * batches.steps_an_epoch)
    return [row for step in steps for row in batches.batch(step).inputs[0].tolist()]


def bytes_of(batch):
    return batch.step, [part.tobytes() for part in batch.inputs], batch.labels.tobytes()


def test_a_batch_is_a_pure_function_of_its_step():
    one, other = some_batches(), some_batches()
    forwards = [bytes_of(one.batch(step)) for step in range(12)]
    assert len({repr(each) for each in forwards}) == 12
    for step in (11, 0, 7, 7, 3):
        assert bytes_of(other.batch(step)) == forwards[step]


def test_what_an_encoder_makes_of_a_step_is_the_same_to_the_byte():
    def encode(drawings, distortion):
        picture = raster(drawings, distortion, side=16, stroke_width=1.5, margin=1.0, channels=["thirds"])
        return picture, *pen_movements(drawings, distortion, length=4, fit="resample", timing=False)

    one, other = some_batches(encode=encode), some_batches(encode=encode)
    other.batch(9)
    assert bytes_of(one.batch(6)) == bytes_of(other.batch(6))
    assert [bytes_of(batch) for batch in one.steps(3, 12)] == [bytes_of(other.batch(step)) for step in range(3, 12)]


def test_labels_go_with_their_rows():
    batch = some_batches().batch(3)
    assert batch.labels.tolist() == [row % 4 for row in batch.inputs[0]]
    assert batch.labels.dtype == np.int64


@pytest.mark.parametrize("epoch", range(3))
def test_an_epoch_visits_no_row_twice_and_leaves_out_the_remainder_alone(epoch):
    visits = Counter(rows_of(some_batches(), epoch))
    assert set(visits.values()) == {1}
    assert len(visits) == ROWS - ROWS % SIZE


def test_every_epoch_has_an_order_and_a_remainder_of_its_own():
    epochs = [rows_of(some_batches(), epoch) for epoch in range(4)]
    assert len({tuple(each) for each in epochs}) == 4
    assert len({frozenset(each) for each in epochs}) == 4


def test_a_drawing_is_distorted_differently_in_every_epoch_and_from_its_neighbours():
    batches = some_batches()
    for part in (1, 2):
        moves = [each.tobytes() for step in range(12) for each in batches.batch(step).inputs[part]]
        assert len(set(moves)) == 12 * SIZE


@pytest.mark.parametrize("seed", [(8, 0), (7, 1)])
def test_another_seed_or_held_out_fold_gives_other_orders_and_maps(seed):
    one, other = some_batches().batch(0), some_batches(seed=seed).batch(0)
    assert one.inputs[0].tolist() != other.inputs[0].tolist()
    assert not np.array_equal(one.inputs[1], other.inputs[1])


def test_fewer_rows_than_a_batch_are_one_small_batch():
    batches = some_batches(rows=3)
    assert batches.steps_an_epoch == 1
    assert sorted(batches.batch(5).inputs[0].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("start", [0, 3, 4, 11, 12])
def test_going_on_from_a_step_gives_the_tail_of_the_whole(start):
    whole = [bytes_of(batch) for batch in some_batches().steps(0, 12)]
    assert [each[0] for each in whole] == list(range(12))
    assert [bytes_of(batch) for batch in some_batches().steps(start, 12)] == whole[start:]


def test_an_epoch_is_shuffled_once_however_many_threads_come_to_it(monkeypatch):
    rngs, default_rng = [], np.random.default_rng

    def slow_rng(seed):
        rngs.append(len(seed))
        time.sleep(0.01)
        return default_rng(seed)

    monkeypatch.setattr(np.random, "default_rng", slow_rng)
    batches = some_batches(seed=(7, 0, threading.get_native_id(), time.monotonic_ns()))
    steps = 3 * batches.steps_an_epoch
    assert len(list(batches.steps(0, steps))) == steps
    assert rngs.count(6) == 3, "one an epoch, beside one a step"
    assert rngs.count(7) == steps


def test_an_order_takes_four_bytes_a_row():
    order = _order(100_000, (1, 2))
    assert order.nbytes == 400_000
    assert np.array_equal(np.sort(order), np.arange(100_000))


def test_an_error_in_the_encoder_comes_through_at_its_step():
    bad_step = next(step for step in range(1, 12) if 17 in some_batches().batch(step).inputs[0])

    def encode(drawings, distortion):
        if 17 in drawings.key_id:
            raise ZeroDivisionError("row 17")
        return rows_and_maps(drawings, distortion)

    steps = some_batches(encode=encode).steps(bad_step - 1, 12)
    assert next(steps).step == bad_step - 1
    with pytest.raises(ZeroDivisionError, match="row 17"):
        next(steps)


def test_items_are_made_before_they_are_asked_for_but_no_more_than_agreed(threads):
    made = []

    def make(number):
        made.append(number)
        return number

    ahead = made_ahead(make, range(50))
    assert made == [], "nothing is made before the first is asked for"
    for taken in range(1, 4):
        assert next(ahead) == taken - 1
        wait_until(lambda taken=taken: len(made) >= taken + AHEAD * threads)
        time.sleep(0.05)
        assert sorted(made) == list(range(taken + AHEAD * threads))
    del ahead


def test_items_come_in_order_whichever_is_made_first():
    def make(number):
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    assert list(made_ahead(make, range(20))) == list(range(20))


@pytest.mark.parametrize("taken", [1, 3])
def test_abandoning_the_batches_ends_their_threads(taken, threads):
    before = set(threading.enumerate())
    steps = some_batches().steps(0, 10_000)
    for _ in range(taken):
        next(steps)
    started = set(threading.enumerate()) - before
    assert 1 <= len(started) <= threads
    del steps
    gc.collect()
    assert not started & set(threading.enumerate())


def test_what_is_not_begun_when_the_items_are_abandoned_is_not_made(threads):
    made = []

    def make(number):
        made.append(number)
        time.sleep(0.2 if number else 0)

    ahead = made_ahead(make, range(50))
    next(ahead)
    del ahead
    gc.collect()
    assert len(made) <= 1 + threads


def test_the_threads_end_with_the_last_batch_and_with_an_error():
    before = set(threading.enumerate())
    assert len(list(some_batches().steps(0, 6))) == 6
    assert set(threading.enumerate()) == before
    with pytest.raises(ZeroDivisionError):
        list(made_ahead(lambda number: 1 // (number - 7), range(99)))
    assert set(threading.enumerate()) == before


def wait_until(true):
    """Wait for what another thread brings about; a busy machine may stall for a while."""
    for _ in range(12_000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came about")
