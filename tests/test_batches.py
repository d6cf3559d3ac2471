"""What a learner is fed depends on seed, epoch and step, and on nothing that happened before."""

import threading
import time
from collections import Counter

import numpy as np
import pytest

from pipeline.batches import AHEAD, Batches, made_ahead
from pipeline.drawings import Drawings, Shards
from pipeline.encodings import pen_movements
from pipeline.params import Augmentation

ROWS, SIZE = 23, 5
MOVED = Augmentation(flip=0.5, rotate=30, scale=0.2, shear=0.3, shift=0.1, mirror_test=False)


def rows_and_maps(drawings, affine):
    """An encoding that shows which rows came and how they are to be moved."""
    return drawings.key_id.copy(), affine


def some_batches(rows=ROWS, seed=(7, 0), encode=rows_and_maps):
    drawings = Drawings.from_lists([[((row, 90), (5, row))] for row in range(rows)], [row % 4 for row in range(rows)])
    return Batches(Shards([drawings]), encode, MOVED, SIZE, seed)


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
    def encode(drawings, affine):
        return pen_movements(drawings, affine, length=4)

    one, other = some_batches(encode=encode), some_batches(encode=encode)
    other.batch(9)
    assert bytes_of(one.batch(6)) == bytes_of(other.batch(6))


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


def test_a_drawing_is_moved_anew_in_every_epoch_and_unlike_its_neighbours():
    batches = some_batches()
    maps = [affine.tobytes() for step in range(12) for affine in batches.batch(step).inputs[1]]
    assert len(set(maps)) == 12 * SIZE


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


def test_an_error_in_the_encoder_comes_through_at_its_step():
    bad_step = next(step for step in range(1, 12) if 17 in some_batches().batch(step).inputs[0])

    def encode(drawings, affine):
        if 17 in drawings.key_id:
            raise ZeroDivisionError("row 17")
        return rows_and_maps(drawings, affine)

    steps = some_batches(encode=encode).steps(bad_step - 1, 12)
    assert next(steps).step == bad_step - 1
    with pytest.raises(ZeroDivisionError, match="row 17"):
        next(steps)


def test_batches_are_made_before_they_are_asked_for_but_no_more_than_agreed():
    made = []

    def items():
        for step in range(50):
            made.append(step)
            yield some_batches().batch(step)

    ahead = made_ahead(items(), AHEAD)
    assert made == [], "nothing is made before the first is asked for"
    next(ahead)
    wait_until(lambda: len(made) >= AHEAD + 2)  # one taken, AHEAD in the queue, one in the hand
    time.sleep(0.05)
    assert len(made) == AHEAD + 2
    del ahead


@pytest.mark.parametrize("taken", [1, 3])
def test_abandoning_the_batches_ends_their_thread(taken):
    before = set(threading.enumerate())
    steps = some_batches().steps(0, 10_000)
    for _ in range(taken):
        next(steps)
    (worker,) = set(threading.enumerate()) - before
    del steps
    worker.join(timeout=60)
    assert not worker.is_alive()


def test_the_thread_ends_with_the_last_batch():
    before = set(threading.enumerate())
    assert len(list(some_batches().steps(0, 6))) == 6
    wait_until(lambda: set(threading.enumerate()) <= before)


def wait_until(true):
    """Wait for what another thread brings about; a busy machine may stall for a while."""
    for _ in range(12_000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came about")
