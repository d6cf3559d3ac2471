"""The names of files of drawings: format, compression and word."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.raw.packing import compression_of

BITMAPS = ".npy"
# Each format, with the folders of Google's bucket that its downloads have as a prefix: full_simplified_cat.ndjson.
FORMATS = {
    ".csv": (),
    ".ndjson": ("full_simplified_", "full_raw_"),
    ".jsonl": ("full_simplified_", "full_raw_"),
    ".parquet": (),
    ".bin": ("full_binary_",),
    ".npz": ("sketchrnn_",),
    BITMAPS: ("full_numpy_bitmap_",),
}
TEXT = {".csv", ".ndjson", ".jsonl"}
COMPLETE = ".full"  # cat.full.npz holds all drawings of cat, cat.npz at most 75,000


def listed(names: Sequence[str], most: int) -> str:
    """Names as a list; of more than `most`, the first and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def word_of_name(name: str) -> str | None:
    """The word that a file's name says, as it is spelled there; None if it is not the name of a file of drawings.

    Only suffixes of known formats are removed, in upper or lower case, so a word may contain dots.
    """
    word, kind = _split(uncompressed_name(name.strip()))
    if kind is None:
        return None
    for prefix in FORMATS[kind]:
        word = word.removeprefix(prefix) or word
    if kind == ".npz" and word.lower().endswith(COMPLETE):
        word = word[: -len(COMPLETE)] or word
    word = word.strip()
    return None if not word or word.startswith(".") else word


def format_of(name: str) -> str:
    """The format of a file of drawings: a key of FORMATS, or an empty text for any other file."""
    return _split(uncompressed_name(name.strip()))[1] or ""


def uncompressed_name(name: str) -> str:
    """A file's name without the suffix of its compression."""
    suffix = compression_of(name)
    return name[: -len(suffix)] if suffix else name


def _split(name: str) -> tuple[str, str | None]:
    kind = next((kind for kind in FORMATS if name.lower().endswith(kind)), None)
    return (name[: -len(kind)], kind) if kind else (name, None)


def has_hashed_ids(name: str) -> bool:
    """Whether the drawings of a file have no ids of their own, so that they get hashes as ids."""
    return format_of(name) == ".npz"
