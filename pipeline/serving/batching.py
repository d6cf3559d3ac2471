"""Requests that wait are predicted together: one thread predicts, the queue before it is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.serving.limits import RefusedError

Item = TypeVar("Item")
Result = TypeVar("Result")
LARGEST = 64  # items of a batch, unless one request has more
GATHERED = 0.002  # seconds that a batch waits for more items
QUEUE = 512  # items that wait
LONGEST_WAIT = 0.5  # seconds; while the oldest request has waited longer, new ones are refused


@dataclass
class Waiting(Generic[Item, Result]):
    """A request that waits.

    Attributes:
        items: of the request.
        since: when it came, in seconds of the monotonic clock.
        answer: receives a result per item.
    """

    items: Sequence[Item]
    since: float
    answer: asyncio.Future[Sequence[Result]]


class Batcher(Generic[Item, Result]):
    """Predicts the items of several requests at once.

    Args:
        predict: items to a result each; called in a thread, one call at a time.
        batched: is told the size of each batch.
    """

    def __init__(
        self, predict: Callable[[list[Item]], Sequence[Result]], batched: Callable[[int], object] = lambda size: None
    ) -> None:
        self._predict, self._batched = predict, batched
        self._thread = ThreadPoolExecutor(1, "predict")
        self._queue: deque[Waiting[Item, Result]] = deque()
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """The number of items that wait."""
        return sum(len(each.items) for each in self._queue)

    async def predict(self, items: Sequence[Item]) -> Sequence[Result]:
        """A result per item.

        Raises:
            RefusedError: too many items wait, or for too long.
        """
        late = bool(self._queue) and time.monotonic() - self._queue[0].since > LONGEST_WAIT
        if late or self.waiting + len(items) > QUEUE:
            raise RefusedError(
                503, "server", "more drawings wait than it can answer soon", "send the same request again in 1 s", 1
            )
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        request = Waiting[Item, Result](items, time.monotonic(), asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._filled.set()
        return await request.answer

    async def _run(self) -> None:
        """Predict batch after batch; an error is that of the requests of its batch."""
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            if self.waiting < LARGEST:
                await asyncio.sleep(GATHERED)
            batch = self._taken()
            items = [item for each in batch for item in each.items]
            self._batched(len(items))
            try:
                results = await loop.run_in_executor(self._thread, self._predict, items)
            except Exception as error:
                for each in batch:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                continue
            start = 0
            for each in batch:
                if not each.answer.done():  # its client may have gone
                    each.answer.set_result(results[start : start + len(each.items)])
                start += len(each.items)

    def _taken(self) -> list[Waiting[Item, Result]]:
        """The requests of the next batch, oldest first: at least one."""
        batch = [self._queue.popleft()]
        size = len(batch[0].items)
        while self._queue and size + len(self._queue[0].items) <= LARGEST:
            batch.append(self._queue.popleft())
            size += len(batch[-1].items)
        if not self._queue:
            self._filled.clear()
        return batch

    async def close(self) -> None:
        """Stop; requests that still wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for each in self._queue:
            each.answer.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
