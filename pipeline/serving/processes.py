"""Work on networks in a process of its own: torch and TensorFlow do not share one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from pipeline.foundation.errors import SketchstackError


@contextmanager
def own_process(does: str, prepare: Callable[[], object] | None = None) -> Iterator[Callable[..., None]]:
    """Give a function that runs another one in a new process, which lasts as long as the block.

    Args:
        does: what the process does, for messages: `predicts with lstm`.
        prepare: is called first in the process.

    Yields:
        (function, *arguments) → nothing: the function and its arguments are pickled. Its errors are raised here.

    Raises:
        SketchstackError: the system has ended the process.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), prepare) as pool:

        def run(function: Callable[..., object], *arguments: object) -> None:
            try:
                pool.submit(function, *arguments).result()
            except BrokenProcessPool:
                raise SketchstackError(
                    f"the process that {does} was ended by the system, probably for want of memory; close other "
                    "programs and run the same command again."
                ) from None

        yield run
