"""Nested blocks of params by dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flattened(block: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested blocks, by dotted name."""
    if not isinstance(block, Mapping) or not block:
        yield place, block
        return
    for name, value in block.items():
        yield from flattened(value, f"{place}.{name}" if place else str(name))


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The values that differ between two mappings, as text by name."""
    names = sorted(before.keys() | after.keys())
    return [
        f"{name} {after.get(name, 'absent')} instead of {before.get(name, 'absent')}"
        for name in names
        if before.get(name) != after.get(name)
    ]
