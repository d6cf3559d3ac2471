"""TFRecords of tf.train.Examples, written without TensorFlow.

A TFRecord is its length (8 bytes), the checksum of that (4), the Example, and the checksum of that (4); a checksum is a
CRC-32C, rotated and shifted (https://www.tensorflow.org/tutorials/load_data/tfrecord). An Example is a protobuf:
messages within messages, each a tag, a size and the bytes (https://protobuf.dev/programming-guides/encoding).

Python's protobufs and TensorFlow's writer write a fourth to an eighteenth of the rows per second, take seconds to
import, and would load a second framework into a process with a torch learner.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

HEAD, FOOT = 12, 4  # bytes before and after an Example
FIRST, SECOND = 0x0A, 0x12  # tags of a message's first and second field
LIST_TAGS = {np.dtype(np.uint8): 0x0A, np.dtype(np.float32): 0x12, np.dtype(np.int64): 0x1A}  # of a tf.train.Feature


class Values(NamedTuple):
    """A feature of N rows.

    Attributes:
        flat: row n has flat[offsets[n]:offsets[n + 1]].
        offsets: (N + 1,) int64.
        shape: of a row; None if it is a list whose length differs from row to row.
    """

    flat: np.ndarray
    offsets: np.ndarray
    shape: tuple[int, ...] | None


_compiled = numba.njit(nogil=True, cache=True)


def _crc_tables() -> np.ndarray:
    """(8, 256) uint32: tables of CRC-32C (Castagnoli) for eight bytes at a time."""
    tables = np.zeros((8, 256), np.uint32)
    tables[0] = np.arange(256)
    for _ in range(8):
        tables[0] = np.where(tables[0] & 1, (tables[0] >> 1) ^ np.uint32(0x82F63B78), tables[0] >> 1)
    for k in range(1, 8):
        tables[k] = tables[0][tables[k - 1] & 255] ^ (tables[k - 1] >> 8)
    return tables


CRC = _crc_tables()


def records(features: dict[str, Values]) -> np.ndarray:
    """Rows as consecutive TFRecords of tf.train.Examples: (bytes,) uint8.

    Args:
        features: by name; uint8 becomes one string of bytes per row, float32 and int64 a list of numbers.
    """
    rows = len(next(iter(features.values())).offsets) - 1
    pieces, sizes = [], np.zeros(rows, np.int64)  # of all entries of an Example's map
    for feature, (flat, offsets, _) in features.items():
        name, tag = np.frombuffer(feature.encode(), np.uint8), LIST_TAGS[flat.dtype]
        data, ends = (
            _varints(flat, offsets) if flat.dtype == np.int64 else (flat.view(np.uint8), flat.itemsize * offsets)
        )
        entries = _entry_sizes(ends, len(name), sizes)
        pieces.append((name, tag, data, ends, entries))
    starts = _record_starts(sizes)
    made, places = np.empty(starts[-1], np.uint8), np.empty(rows, np.int64)
    _begin(made, places, starts, sizes)
    for piece in pieces:
        _put_feature(made, places, *piece)
    _seal(made, places, starts, CRC)
    return made


@_compiled
def _checksum(data, start, end, crc):  # type: ignore[no-untyped-def]
    """The masked CRC-32C of data[start:end], eight bytes at a time if possible."""
    c, at = np.uint32(0xFFFFFFFF), start
    while end - at >= 8:
        c ^= (
            np.uint32(data[at])
            | np.uint32(data[at + 1]) << 8
            | np.uint32(data[at + 2]) << 16
            | np.uint32(data[at + 3]) << 24
        )
        near = crc[7, c & 255] ^ crc[6, (c >> 8) & 255] ^ crc[5, (c >> 16) & 255] ^ crc[4, c >> 24]
        far = crc[3, data[at + 4]] ^ crc[2, data[at + 5]] ^ crc[1, data[at + 6]] ^ crc[0, data[at + 7]]
        c, at = near ^ far, at + 8
    while at < end:
        c, at = crc[0, (c ^ data[at]) & 255] ^ (c >> 8), at + 1
    c ^= np.uint32(0xFFFFFFFF)
    return np.uint32(((c >> 15) | (c << 17)) + np.uint32(0xA282EAD8))


@_compiled
def _varint_size(value):  # type: ignore[no-untyped-def]
    """Number of bytes of a varint, which has seven bits per byte; ten if it is negative."""
    rest, size = np.uint64(value) >> np.uint64(7), 1
    while rest:
        rest, size = rest >> np.uint64(7), size + 1
    return size


@_compiled
def _put_varint(made, place, value):  # type: ignore[no-untyped-def]
    """Write a number as a varint, seven bits per byte, the lowest first; returns its end."""
    rest = np.uint64(value)
    while rest > 127:
        made[place] = (rest & np.uint64(127)) | np.uint64(128)
        rest, place = rest >> np.uint64(7), place + 1
    made[place] = rest
    return place + 1


@_compiled
def _varints(flat, offsets):  # type: ignore[no-untyped-def]
    """Lists of numbers as varints, and the offsets of each row."""
    ends = np.zeros_like(offsets)
    for n in range(len(offsets) - 1):
        ends[n + 1] = ends[n]
        for value in flat[offsets[n] : offsets[n + 1]]:
            ends[n + 1] += _varint_size(value)
    data, place = np.empty(ends[-1], np.uint8), 0
    for value in flat:
        place = _put_varint(data, place, value)
    return data, ends


@_compiled
def _field_size(size):  # type: ignore[no-untyped-def]
    """Number of bytes of a field with content of this size: a tag, the size, the content."""
    return 1 + _varint_size(size) + size


@_compiled
def _entry_sizes(offsets, name_size, sizes):  # type: ignore[no-untyped-def]
    """Sizes of map entries of a name and data; the bytes of each entry in the map are added to `sizes`."""
    entries = np.empty(len(sizes), np.int64)
    for n in range(len(sizes)):
        a_list = _field_size(offsets[n + 1] - offsets[n])
        entries[n] = _field_size(name_size) + _field_size(_field_size(a_list))
        sizes[n] += _field_size(entries[n])
    return entries


@_compiled
def _record_starts(sizes):  # type: ignore[no-untyped-def]
    """Offsets (N + 1,) of the records of Examples whose maps have these sizes."""
    starts = np.zeros(len(sizes) + 1, np.int64)
    for n in range(len(sizes)):
        starts[n + 1] = starts[n] + HEAD + _field_size(sizes[n]) + FOOT
    return starts


@_compiled
def _begin(made, places, starts, sizes):  # type: ignore[no-untyped-def]
    """Start each Example with the tag and the size of its map; its entries go to `places`."""
    for n in range(len(sizes)):
        made[starts[n] + HEAD] = FIRST
        places[n] = _put_varint(made, starts[n] + HEAD + 1, sizes[n])


@_compiled
def _put_feature(made, places, name, tag, data, offsets, entries):  # type: ignore[no-untyped-def]
    """Write a feature of each row at its place, and move the place to its end.

    A map entry is a name and a Feature; a Feature is one of three kinds of lists, by its tag; a list is its data.
    """
    for n in range(len(places)):
        size = offsets[n + 1] - offsets[n]
        a_list = _field_size(size)
        at = places[n]
        made[at] = FIRST
        at = _put_varint(made, at + 1, entries[n])
        made[at] = FIRST
        at = _put_varint(made, at + 1, len(name))
        made[at : at + len(name)] = name
        at += len(name)
        made[at] = SECOND
        at = _put_varint(made, at + 1, _field_size(a_list))
        made[at] = tag
        at = _put_varint(made, at + 1, a_list)
        made[at] = FIRST
        at = _put_varint(made, at + 1, size)
        made[at : at + size] = data[offsets[n] : offsets[n + 1]]
        places[n] = at + size


@_compiled
def _put_fixed(made, place, value, size):  # type: ignore[no-untyped-def]
    for k in range(size):
        made[place + k] = (value >> (8 * k)) & 255


@_compiled
def _seal(made, places, starts, crc):  # type: ignore[no-untyped-def]
    """Write lengths and checksums around the Examples, which end at `places`."""
    for n in range(len(places)):
        _put_fixed(made, starts[n], places[n] - starts[n] - HEAD, 8)
        _put_fixed(made, starts[n] + 8, _checksum(made, starts[n], starts[n] + 8, crc), 4)
        _put_fixed(made, places[n], _checksum(made, starts[n] + HEAD, places[n], crc), FOOT)
