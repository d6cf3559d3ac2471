"""One run of the shuffle stage in the working directory; the last line says what it took, as JSON."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from pipeline.stages.shuffle import main


def peak() -> float:
    """The most memory that this process held at a time, in MB.

    Raises:
        SystemExit: it has processes of its own, whose memory is not counted here.
    """
    if any(path.read_text() for path in Path("/proc/self/task").glob("*/children")):
        raise SystemExit("the stage started processes: count their memory too")
    # Not ru_maxrss: that starts at what the process that started this one held.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


if __name__ == "__main__":
    begun = time.perf_counter()
    main()
    print(json.dumps({"seconds": time.perf_counter() - begun, "peak": peak()}))
