"""The search space of a learner's params block: derived from the types of its params, or set by the learner."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
from pydantic.fields import FieldInfo

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Training
from pipeline.learners._base import Learner

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LARGE = 16  # integers from here on are widths, and change in steps that keep them divisible
TRAINING = ("batch_size", "schedule", "learning_rate", "weight_decay")  # ranges derived from their types
SEARCH: dict[str, Any] = {  # same format as a learner's `search`
    "training.warmup": (0.0, 0.5),
    "training.label_smoothing": (0.0, 0.2),
    "training.ema": [0.0, 0.99, 0.999],
}


class Dimension(NamedTuple):
    """A variable that each trial draws.

    Attributes:
        name: in the study.
        distribution: the distribution of the drawn value.
        in_force: the value that leaves the block unchanged.
        places: paths in the block whose values it changes.
        turn: old value at a path, drawn value → new value.
    """

    name: str
    distribution: BaseDistribution
    in_force: Any
    places: tuple[str, ...]
    turn: Callable[[Any, Any], Any]


def space_of(name: str, learner: type[Learner], block: dict[str, Any]) -> list[Dimension]:
    """The search space around a learner's block: network and training by their types, then the learner's `search`.

    Raises:
        SketchstackError: its `search` names a path that its block does not have, or has an invalid entry.
    """
    types = {f"network.{key}": kind for key, kind in _keyword_types(learner.network).items()}
    training = get_type_hints(Training, include_extras=True)
    types |= {f"training.{key}": training[key] for key in TRAINING}
    said = SEARCH | dict(learner.search)
    places = [place for place in types if place not in said]
    found = _layers(block, [place for place in places if _is_widths(types[place])])
    found += [each for place in places if (each := _around(place, _at(block, place), types[place]))]
    return found + [each for place, want in said.items() if (each := _as_said(name, block, place, want))]


def _keyword_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's keyword-only arguments, evaluated."""
    found = {}
    for each in inspect.signature(function).parameters.values():
        if each.kind is each.KEYWORD_ONLY:
            # One by one: the return annotation may name a framework that is not imported yet.
            text = isinstance(each.annotation, str)
            found[each.name] = eval(each.annotation, function.__globals__) if text else each.annotation
    return found


def _without_limits(kind: Any) -> tuple[Any, float, float]:
    """A type without its limits, and the limits."""
    low, high = -math.inf, math.inf
    if get_origin(kind) is not Annotated:
        return kind, low, high
    plain, *notes = get_args(kind)
    for note in itertools.chain.from_iterable(n.metadata if isinstance(n, FieldInfo) else [n] for n in notes):
        low = getattr(note, "ge", getattr(note, "gt", low))
        high = getattr(note, "le", getattr(note, "lt", high))
    return plain, low, high


def _is_widths(kind: Any) -> bool:
    plain = _without_limits(kind)[0]
    return get_origin(plain) is list and _without_limits(get_args(plain)[0])[:2] == (int, 1)


def _layers(block: dict[str, Any], places: list[str]) -> list[Dimension]:
    """Search lists of integers, one entry per layer: a factor for each list, a depth for all lists of equal length."""
    from optuna.distributions import FloatDistribution, IntDistribution

    found = []
    for depth in sorted({len(_at(block, place)) for place in places}):
        alike = tuple(place for place in places if len(_at(block, place)) == depth)
        depths = IntDistribution(max(1, depth - 1), depth + 2)
        found.append(Dimension(f"{alike[0]}.depth", depths, depth, alike, resampled))
        factors = FloatDistribution(0.5, 2.0, log=True)
        found += [Dimension(f"{place}.factor", factors, 1.0, (place,), scaled) for place in alike]
    return found


def resampled(widths: list[int], depth: int) -> list[int]:
    """Widths resampled to another depth with the same progression; the last width for depth 1."""
    places = np.linspace(0, len(widths) - 1, depth) if depth > 1 else [len(widths) - 1]
    return _whole(2 ** np.interp(places, range(len(widths)), np.log2(widths))) if depth != len(widths) else widths


def scaled(widths: list[int], factor: float) -> list[int]:
    """Widths times a factor."""
    return _whole(factor * np.asarray(widths)) if factor != 1 else widths


def _whole(widths: np.ndarray) -> list[int]:
    """Round to integers; from 8 on to multiples of 4, from 32 on to multiples of 8, which run faster."""
    steps = [1 if width < 8 else 4 if width < 32 else 8 for width in widths]
    return [max(1, step * round(width / step)) for width, step in zip(widths.tolist(), steps, strict=True)]


def _around(place: str, value: Any, kind: Any) -> Dimension | None:
    """A number from about half to twice its value, or each option of a Literal; None for other types."""
    plain, low, high = _without_limits(kind)
    if get_origin(plain) is Literal or plain is bool:
        return _options(place, value, [False, True] if plain is bool else list(get_args(plain)))
    if plain is int and value > 0:
        step = 2 ** int(math.log2(value / 8)) if value >= LARGE else 1  # heads and groups must still divide a width
        down, up = (min(value // 2, value - low) // step, min(max(value, 2), high - value) // step)
        return _range(place, value, value - step * int(down), value + step * int(up), step)
    if plain is float and math.isfinite(high - low):
        return _range(place, value, float(low), float(min(high, max(2 * value, (low + high) / 2))))
    if plain is float and value > 0:
        return _range(place, value, float(max(low, value / 4)), float(min(high, value * 4)))
    return None


def _as_said(name: str, block: dict[str, Any], place: str, want: Any) -> Dimension | None:
    """The dimension of an entry of a learner's `search`, extended to include the value in force."""
    where = f"pipeline/learners/{name}.py: search[{place!r}]"
    try:
        value = _at(block, place)
    except (KeyError, TypeError):
        raise SketchstackError(
            f"{where}: the block learners.{name} of params.yaml has no {place!r}; correct the path."
        ) from None
    if want is None:
        return None
    if isinstance(want, list):
        return _options(place, value, want)
    if isinstance(want, tuple) and len(want) == 2 and {type(each) for each in (*want, value)} <= {int, float}:
        number = int if all(isinstance(each, int) for each in (*want, value)) else float
        return _range(place, value, number(min(*want, value)), number(max(*want, value)))
    raise SketchstackError(f"{where} is {want!r}; write a list of options, two numbers (from, to), or None.")


def _options(place: str, value: Any, options: list[Any]) -> Dimension:
    """One of several options, which the study stores as JSON."""
    from optuna.distributions import CategoricalDistribution

    texts = [json.dumps(option) for option in (options if value in options else [value, *options])]
    return Dimension(
        place, CategoricalDistribution(texts), json.dumps(value), (place,), lambda now, drawn: json.loads(drawn)
    )


def _range(place: str, value: float, low: float, high: float, step: int = 1) -> Dimension:
    """A number in low..high, an integer if both are; on a log scale if it is above 0 and has no step."""
    from optuna.distributions import FloatDistribution, IntDistribution

    log = low > 0 and step == 1
    if isinstance(low, int) and isinstance(high, int):
        return Dimension(place, IntDistribution(low, high, log, step), value, (place,), lambda now, drawn: drawn)
    return Dimension(place, FloatDistribution(low, high, log), value, (place,), _rounded)


def _rounded(now: float, drawn: float) -> float:
    """Round to three significant digits, so that the printed block is exactly the one that was scored."""
    return now if drawn == now else float(f"{drawn:.3g}")


def _at(block: Any, place: str) -> Any:
    for key in place.split("."):
        block = block[key]
    return block


def block_with(block: dict[str, Any], space: list[Dimension], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The block with the values that a trial drew; other values unchanged."""
    changed = copy.deepcopy(block)
    for dimension in space:
        for place in dimension.places:
            within, _, key = place.rpartition(".")
            _at(changed, within)[key] = dimension.turn(_at(changed, place), drawn[dimension.name])
    return changed
