"""Numba's cache of compiled functions, for odd machines: damage heals itself, and no place to write is no error.

`pipeline/__init__.py` loads this module right after Numba's own, before anything is compiled. Stock Numba ends with a
traceback where a file of the cache is damaged, where the disk is full, and where no folder can be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba.core import caching

DIGEST = hashlib.sha256().digest_size
_told: set[str] = set()


class ReadOnlyLocator(caching.InTreeCacheLocator):
    """`__pycache__` where no place can be written: functions can still be loaded from there."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        """The place of a function's cache, whether or not it can be written."""
        return cls(py_func, py_file)


@contextlib.contextmanager
def _forgiven(cache: Any) -> Iterator[None]:
    """Compile again where the cache cannot be read, and go on where it cannot be written."""
    try:
        yield
    except OSError as error:
        _tell(error.strerror or str(error), "is not kept: each process compiles again, which takes a minute")
    except Exception as error:  # pickle raises whatever damaged bytes lead it to
        _tell(f"{cache.cache_path} cannot be used: {error}", "is made again, which takes a minute")
        _remove(cache._cache_file)


def _remove(files: Any) -> None:
    """Remove a function's index, and its data: an index that starts again would name old data of other types."""
    index = Path(files._index_path)
    for path in [index, *index.parent.glob(f"{index.stem}.*.nbc")]:
        with contextlib.suppress(OSError):
            path.unlink()


def _with_digest(files: Any, value: Any) -> bytes:
    """A value as Numba writes it, and a hash behind it, which pickle does not read."""
    data: bytes = caching.dumps(value)
    return data + hashlib.sha256(data).digest()


def _checked_data(files: Any, name: str) -> Any:
    """A compiled function, as it was written."""
    written = Path(files._data_path(name)).read_bytes()
    data, digest = written[:-DIGEST], written[-DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError(f"{name} is not as this version writes it")
    return pickle.loads(data)


def _tell(reason: str, outcome: str) -> None:
    """Say it once, on stderr."""
    if outcome not in _told and sys.stderr is not None:
        _told.add(outcome)
        with contextlib.suppress(OSError, ValueError):
            print(f"Numba's cache of compiled functions {outcome} ({reason}).", file=sys.stderr, flush=True)


caching.CacheImpl._locator_classes = [*caching.CacheImpl._locator_classes, ReadOnlyLocator]
for _owner, _name, _function in (
    (caching.Cache, "_guard_against_spurious_io_errors", _forgiven),
    (caching.IndexDataCacheFile, "_dump", _with_digest),
    (caching.IndexDataCacheFile, "_load_data", _checked_data),
):
    setattr(_owner, _name, _function)
