"""Checks of params.yaml's blocks against the signatures of the functions that take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import (
    ConfigDict,
    ValidationError,
    create_model,
)

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.places import PARAMS


def check_keywords(place: str, block: dict[str, Any], function: Callable[..., Any]) -> None:
    """Check a block of params.yaml against the keyword-only arguments of the function that takes it.

    Raises:
        SketchstackError: a name is unknown or missing, or a value is not of the annotated type.
    """
    arguments = [each for each in inspect.signature(function).parameters.values() if each.kind is each.KEYWORD_ONLY]
    known = ", ".join(each.name for each in arguments) or "no params: write {}"
    fields: dict[str, Any] = {}
    for each in arguments:
        annotation = each.annotation
        # One by one: the return annotation may name a framework that is not imported yet.
        evaluated = (
            eval(annotation, inspect.unwrap(function).__globals__) if isinstance(annotation, str) else annotation
        )
        fields[each.name] = (evaluated, ...)
    try:
        create_model(place, __config__=ConfigDict(extra="forbid", strict=True), **fields).model_validate(block)
    except ValidationError as error:
        faults = []
        positional = inspect.signature(function).parameters.keys() - fields.keys()
        for fault in error.errors():
            message = f"{fault['msg']} (it is {fault['input']!r})"
            unknown = "does not stand behind a `*` in the signature" if fault["loc"][0] in positional else "is unknown"
            what = {"extra_forbidden": unknown, "missing": "is missing"}.get(fault["type"], message)
            faults.append(".".join([place, *map(str, fault["loc"])]) + f" {what}")
        raise SketchstackError(f"{PARAMS}: {'; '.join(faults)}. That block has {known}.") from None
