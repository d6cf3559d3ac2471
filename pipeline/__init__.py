"""Sketchstack: stroke drawings in, ranked and validated top-3 submissions out."""

import importlib as _importlib
import importlib.util as _util
import os as _os
import platform as _platform
import sys as _sys
from pathlib import Path as _Path
from typing import Any as _Any

# What makes one set of bytes on every x86-64 processor with AVX2: the libraries compute with these instructions alone,
# whichever newer ones the processor has. They read this when they load: see docs/submissions.md, On other processors.
_SAME_BYTES = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions and recurrent networks of torch and TensorFlow
    "MKL_CBWR": "COMPATIBLE",  # torch's matrix products: other kernels on AMD than on Intel otherwise
    "OPENBLAS_CORETYPE": "Haswell",  # matrix products of NumPy and SciPy
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # exp, log and the like of NumPy
}
_ADDRESS_SPACE = 4e9  # bytes; much of it is never used
_LIBRARIES = ("pydantic", "numba", "click", "rich", "tqdm")  # that tell this project's environment from others


def _in_one_line(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """Show an error as Python does, but in words what may come while libraries are imported: Ctrl-C, a full disk."""
    if issubclass(kind, KeyboardInterrupt):
        print("\nStopped; run the same command again to resume.", file=_sys.stderr)
    elif isinstance(error, OSError):
        print(
            f"\nError: the libraries cannot be loaded: {error}. Make room on the disk, and for temporary files "
            f"(`export TMPDIR=FOLDER` names another folder for them), and run the same command again.",
            file=_sys.stderr,
        )
    else:
        _sys.__excepthook__(kind, error, trace)  # type: ignore[arg-type]


def _open_closed_streams() -> None:
    """Let output that is closed (`2>&-`) go nowhere: else a file that is opened next gets its number, and its text."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(_sys, name) is None:
            nowhere = _os.open(_os.devnull, _os.O_WRONLY)
            if nowhere != number:
                _os.dup2(nowhere, number)
                _os.close(nowhere)
            setattr(_sys, name, _os.fdopen(number, "w", closefd=False))


def _check_address_space() -> None:
    """Refuse a limit on the address space in which libraries hang: OpenBLAS asks again for ever where it gets none."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit
    except ImportError:  # Windows has no such limit
        return
    limit, _ = getrlimit(RLIMIT_AS)
    if limit != RLIM_INFINITY and limit < _ADDRESS_SPACE:
        _sys.exit(
            f"Error: the address space of a process is limited to {limit / 1e9:.1f} GB here (`ulimit -v`), and the "
            f"libraries need {_ADDRESS_SPACE / 1e9:.0f} GB of it; run `ulimit -v unlimited` first. To limit the memory "
            f"itself, use a cgroup: `systemd-run --scope -p MemoryMax=8G make repro`."
        )


def _in_environment() -> None:
    """Run `python -m pipeline…` by the project's own Python, whichever Python was on the PATH."""
    words = getattr(_sys, "orig_argv", [])
    module = words[words.index("-m") + 1 :][:1] if "-m" in words else []
    if not module or not module[0].startswith("pipeline"):
        return
    _sys.excepthook = _in_one_line
    _open_closed_streams()
    _check_address_space()
    if all(map(_util.find_spec, _LIBRARIES)):
        return
    own = _Path(__file__).parents[1] / ".venv" / "bin" / "python"
    if own.exists() and _Path(_sys.prefix).resolve() != own.parents[1].resolve():
        _os.execv(own, [str(own), *words[1:]])
    _sys.exit("Sketchstack's libraries are not installed here; run `make setup` in the project's folder.")


class _AfterNumba:
    """Loads `foundation/numba_cache.py` as soon as Numba has loaded its own module of that, and nothing before."""

    @classmethod
    def find_spec(cls, name: str, path: _Any = None, target: _Any = None) -> _Any:
        """The module that Numba would find, which then loads ours."""
        if name != "numba.core.caching":
            return None
        _sys.meta_path.remove(cls)
        spec: _Any = _util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_both(module: _Any) -> None:
            execute(module)
            _importlib.import_module(f"{__name__}.foundation.numba_cache")

        spec.loader.exec_module = execute_both
        return spec


def _same_bytes() -> None:
    """Hold the libraries to `_SAME_BYTES`, unless SKETCHSTACK_NATIVE or a variable of theirs is set."""
    if _os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX512_CORE_BF16":  # of a parent that trains in bfloat16
        del _os.environ["ONEDNN_MAX_CPU_ISA"]
    if _platform.machine() in ("x86_64", "AMD64") and not _os.environ.get("SKETCHSTACK_NATIVE"):
        for name, value in _SAME_BYTES.items():
            _os.environ.setdefault(name, value)


_in_environment()
_same_bytes()
if "numba.core.caching" not in _sys.modules:
    _sys.meta_path.insert(0, _AfterNumba)
