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


def _in_environment() -> None:
    """Run `python -m pipeline…` by the project's own Python, whichever Python was on the PATH."""
    words = getattr(_sys, "orig_argv", [])
    module = words[words.index("-m") + 1 :][:1] if "-m" in words else []
    if not module or not module[0].startswith("pipeline"):
        return
    _sys.excepthook = _in_one_line
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
    if _platform.machine() in ("x86_64", "AMD64") and not _os.environ.get("SKETCHSTACK_NATIVE"):
        for name, value in _SAME_BYTES.items():
            _os.environ.setdefault(name, value)


_in_environment()
_same_bytes()
if "numba.core.caching" not in _sys.modules:
    _sys.meta_path.insert(0, _AfterNumba)
