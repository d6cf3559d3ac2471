"""Dependencies of a run's bytes outside the repository: the interpreter, the processor, the libraries."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.foundation.logs import note, noted
from pipeline.foundation.places import places

LIBRARIES = (
    "keras", "lightgbm", "mlens", "numba", "numpy", "opencv-python-headless", "ortools", "pandas", "pyarrow",
    "scikit-learn", "scipy", "tensorflow", "tensorflow-cpu", "torch",
)  # fmt: skip
VECTORS = ("avx", "avx2", "fma", "avx512f", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_tile")
GPUS = Path("/proc/driver/nvidia/gpus")


def environment() -> dict[str, str]:
    """Versions of the installed libraries by name, the processor, and its vector instructions."""
    found = {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor(),
        "instructions": instructions(),
    }
    if GPUS.exists():  # NVIDIA's driver tells without torch
        lines = [line for path in sorted(GPUS.glob("*/information")) for line in path.read_text().splitlines()]
        found["gpus"] = ", ".join(line.partition(":")[2].strip() for line in lines if line.startswith("Model:"))
    return found | versions(LIBRARIES)


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of the installed libraries by name."""
    found = {}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def processor() -> str:
    """The processor's name, with family and model: machines of several generations call themselves "AMD EPYC"."""
    about = _about_processor()
    name = about.get("model name") or platform.processor() or platform.machine()
    return f"{name}, family {about['cpu family']}, model {about['model']}" if "cpu family" in about else name


def instructions() -> str:
    """The vector instructions of the processor that libraries choose between, and those that they are held to."""
    flags = _about_processor().get("flags", "").split()
    found = " ".join(flag for flag in VECTORS if flag in flags) or "none"
    return f"{found}, held to {os.environ.get('ATEN_CPU_CAPABILITY', 'none')}"


def allow_bfloat16() -> None:
    """Let oneDNN use the processor's instructions for bfloat16, before the first layer runs; AVX2 has none.

    Held to AVX2 it computes bfloat16 in float32, number by number, and training takes 17 times as long. All processors
    with AVX512_BF16 are held to the same instructions, so those with AMX do not use it.
    """
    if os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2":
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"


def _about_processor() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def tools_path() -> str:
    """The PATH for a command, with the tools of this environment first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def as_text(known: dict[str, str]) -> str:
    """An environment in one line."""
    return "; ".join(f"{name}={version}" for name, version in known.items())


def from_text(text: str) -> dict[str, str]:
    """What `as_text` wrote."""
    pairs = (part.partition("=") for part in text.split("; ") if "=" in part)
    return {name: version for name, _, version in pairs}


def _record() -> Path:
    return places().logs / "submit" / "environment.json"


def record_environment(hashes: Sequence[str]) -> None:
    """Record in logs/ the environment of files with these SHA-256: in a manifest it would change an output's hash.

    A file that was made before keeps its first environment.
    """
    now = as_text(environment())
    made = dict.fromkeys(hashes, now) | _recorded()
    note(_record(), {"made": made})


def recorded_environment(sha256: str) -> str:
    """The environment that made a file, in one line; empty if another machine made it."""
    return _recorded().get(sha256, "")


def _recorded() -> dict[str, str]:
    """Environments by the SHA-256 of the file; empty if the record is missing or damaged."""
    made = noted(_record()).get("made")
    return made if isinstance(made, dict) else {}
