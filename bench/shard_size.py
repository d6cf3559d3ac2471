"""Bytes of a drawing in the shards, and what compression would save and cost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.competition import run_benchmark, run_shuffle, write_copies
from bench.tables import Bar, Measured, Row, arguments, in_turn, rate
from pipeline.drawings.shards import open_shard
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import Params
from pipeline.foundation.places import places

CODECS = ("lz4", "zstd")
TIMES = 20  # that a run reads all shards: once takes milliseconds


def measure(params: Params, scratch: Path, runs: int, rows: int | None) -> Measured:
    """Size of the shards as they are and compressed; opening them and reading every point of each in turn."""
    home = scratch / "ours"
    write_copies(params, home, 1, rows)
    run_shuffle(home)
    pa.set_cpu_count(params.threads)  # decompress
    plain = sorted((home / places(home).folds).glob("fold*/*.arrow"))
    count = sum(len(open_shard(path)) for path in plain)
    kinds = {"uncompressed": plain} | {codec: _compressed(plain, codec, scratch / codec) for codec in CODECS}
    for paths in kinds.values():
        read_all(paths, 1)
    found = in_turn(runs, **{kind: partial(rate, partial(read_all, paths, TIMES)) for kind, paths in kinds.items()})
    sizes = {kind: [sum(path.stat().st_size for path in paths) / count] for kind, paths in kinds.items()}
    return Measured(
        Path(__file__).stem,
        f"Shards of {count:,} drawings",
        [
            Row("size", "bytes/drawing", sizes["uncompressed"], bars=(Bar("ours", "≤", 140),)),
            *(Row(f"size with {codec}", "bytes/drawing", sizes[codec], sizes["uncompressed"]) for codec in CODECS),
            Row("open and read all", "drawings/s", found["uncompressed"]),
            *(
                Row(f"open and read all, {codec}", "drawings/s", found[codec], found["uncompressed"])
                for codec in CODECS
            ),
        ],
        [
            "lz4 and zstd stand against the shards as they are: uncompressed, so that encoders read them where "
            f"they are mapped. Arrow decompresses on {params.threads} threads when a shard is opened."
        ],
    )


def _compressed(paths: Sequence[Path], codec: str, folder: Path) -> list[Path]:
    """Copies of shards whose buffers are compressed."""
    folder.mkdir()
    copies = [folder / f"{path.parent.name}-{path.name}" for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        with pa.memory_map(str(path)) as source, pa.OSFile(str(copy), "wb") as sink:
            reader = pa.ipc.open_file(source)
            with pa.ipc.new_file(sink, reader.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
                writer.write_batch(reader.get_batch(0))
    return copies


def read_all(paths: Sequence[Path], times: int) -> int:
    """Open shards and read every byte that encoders read, some times over; how many drawings that were."""
    count = 0
    for path in [*paths] * times:
        shard = open_shard(path)
        for array in vars(shard).values():
            np.bitwise_or.reduce(array)
        count += len(shard)
    return count


@one_paragraph_errors
def main() -> None:
    """Measure the shards' size."""
    run_benchmark(measure, arguments(main.__doc__).parse_args())


if __name__ == "__main__":
    main()
