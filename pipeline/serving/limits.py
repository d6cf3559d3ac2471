"""What a request may hold and how often a client may ask; the rest is refused with a field, a reason and a remedy."""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

MOST_BYTES = 2**20  # of a body: a raw drawing of MOST_POINTS with long numbers has about 600,000
MOST_NESTED = 8  # levels of lists and objects; a request needs 6
MOST_DRAWINGS = 64  # of a request
MOST_STROKES = 1000  # of a drawing
MOST_POINTS = 10_000  # of a drawing: two minutes of a pen that reports 80 points a second
MOST_POINTS_IN_ALL = 65_536  # of a request
# Length of a raw drawing in pixels, its longer side being 255: simplifying may take the square of it. A real drawing
# has a few thousand; twenty seconds of scribbling from corner to corner, five times a second, 36,000.
LONGEST_PATH = 65_536
CLIENTS = 10_000  # whose rate is remembered
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # of the depth, as signed bytes
_OTHERS = bytes({*range(256)} - {*b"[{]}"})


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        field: the part of the request that is at fault, such as `drawing[0][1]`.
        reason: what is wrong with it.
        remedy: what to send instead.
        retry_after: seconds after which the same request may be answered.
    """

    def __init__(self, status: int, field: str, reason: str, remedy: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.field, self.reason, self.remedy = status, field, reason, remedy
        self.retry_after = retry_after

    @property
    def content(self) -> dict[str, dict[str, str]]:
        """The body of the answer."""
        return {"error": {"field": self.field, "reason": self.reason, "remedy": self.remedy}}

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer that are its own."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def parsed_json(body: bytes) -> Any:
    """A body of JSON, strictly: no NaN or Infinity, no key twice in an object, at most MOST_NESTED levels.

    Raises:
        RefusedError: the body is something else.
    """
    depth = deepest(body)
    if depth > MOST_NESTED:
        raise _bad_body(f"it has {depth} levels of lists and objects; at most {MOST_NESTED} are read")
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _bad_body(f"it is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise _bad_body(f"it is not JSON ({error.msg}, line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise _bad_body("it is nested too deeply") from None
    except ValueError as error:  # of the hooks, or a number of thousands of digits
        told = str(error) if isinstance(error, _StrictError) else "it has a number of thousands of digits"
        raise _bad_body(told) from None


class _StrictError(ValueError):
    """What Python's JSON allows and JSON does not, or not clearly."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _StrictError(f"it has the key {shown(twice)} twice in one object")
    return found


def _no_constant(text: str) -> Any:
    raise _StrictError(f"it has {text}, which is not JSON")


def _bad_body(reason: str) -> RefusedError:
    return RefusedError(400, "body", reason, 'send one JSON object, such as {"drawing": [[[0, 255], [0, 255]]]}')


def deepest(body: bytes) -> int:
    """The number of levels of lists and objects of a text of JSON, told from its brackets outside strings."""
    steps = _STRING.sub(b"", body).translate(_STEPS, _OTHERS)
    return max(itertools.accumulate(memoryview(steps).cast("b")), default=0)


def shown(value: Any, most: int = 60) -> str:
    """A value of a request as a reason quotes it: JSON in ASCII, cut."""
    text = json.dumps(value, default=str) if not isinstance(value, int) or abs(value) < 2**63 else "a huge number"
    return text if len(text) <= most else f"{text[:most]}..."


class Bucket(NamedTuple):
    """The tokens of a client: `left` at the time `at`."""

    left: float
    at: float


class RateLimit:
    """A token bucket per client: a drawing takes one token, `rate` of them come back a second.

    Args:
        rate: tokens a second; 0 for no limit.
        burst: most tokens of a client.
        clock: seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.clock = rate, burst, clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, client: str, tokens: float) -> None:
        """Take a client's tokens.

        Raises:
            RefusedError: it has not as many.
        """
        if not self.rate:
            return
        key, now = network_of(client), self.clock()
        left, at = self._buckets.pop(key, Bucket(self.burst, now))
        left = min(self.burst, left + (now - at) * self.rate)
        enough = left >= tokens
        self._buckets[key] = Bucket(left - tokens if enough else left, now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        if not enough:
            seconds = max(1, int(-(-(tokens - left) // self.rate)))
            raise RefusedError(
                429,
                "client",
                f"this client has sent more than {self.rate:g} drawings a second",
                f"send the same request again in {seconds} s",
                seconds,
            )


def network_of(client: str) -> str:
    """The address of a client, or of its network of 64 bits if it is IPv6: each customer has one of those."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client[:64]
    return client if address.version == 4 else str(ipaddress.ip_network(f"{address.exploded}/64", strict=False))
