"""Where the texts of a matplotlib figure are: whether they overlap, or are cut off."""

from __future__ import annotations

from typing import Any


def boxes(made: Any) -> list[tuple[str, Any]]:
    """The texts of a figure and where they are, in pixels; of ticks those that are inside the axes."""
    from matplotlib.text import Text

    made.draw_without_rendering()
    hidden: set[int] = set()
    for axes in made.axes:
        ticks = (
            (axes.get_xlim(), axes.get_xticks(), axes.get_xticklabels()),
            (axes.get_ylim(), axes.get_yticks(), axes.get_yticklabels()),
        )
        for limits, places, texts in ticks:
            beyond = (
                text for place, text in zip(places, texts, strict=False) if not min(limits) <= place <= max(limits)
            )
            hidden |= set(map(id, beyond))
    texts = {id(text): text for text in made.findobj(Text) if id(text) not in hidden}
    seen = (text for text in texts.values() if text.get_visible() and text.get_text().strip())
    return [(text.get_text(), text.get_window_extent()) for text in seen]


def overlapping(made: Any) -> list[tuple[str, str]]:
    """Pairs of texts of a figure that overlap by more than a pixel each way."""
    found = boxes(made)
    return [
        (one, other)
        for number, (one, box) in enumerate(found)
        for other, beside in found[number + 1 :]
        if min(box.x1, beside.x1) - max(box.x0, beside.x0) > 1 and min(box.y1, beside.y1) - max(box.y0, beside.y0) > 1
    ]


def outside(made: Any) -> list[str]:
    """Texts of a figure that its edges cut off."""
    own = made.bbox
    return [
        text
        for text, box in boxes(made)
        if box.x0 < own.x0 - 1 or box.x1 > own.x1 + 1 or box.y0 < own.y0 - 1 or box.y1 > own.y1 + 1
    ]
