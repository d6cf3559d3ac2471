"""Meta-learners: one file each, found by its name, with a class `MetaLearner`; files with an underscore are none."""

from __future__ import annotations

import importlib
import inspect
import typing
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from pipeline.foundation.errors import SketchstackError
from pipeline.stacking.metalearners._base import BaseMetaLearner

FOLDER = Path(__file__).parent


def available() -> list[str]:
    """The names of all meta-learners, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def load_metalearner(name: str, num_words: int, block: dict[str, Any]) -> BaseMetaLearner:
    """Create an unfitted meta-learner from its block in params.yaml.

    Args:
        name: a file in pipeline/stacking/metalearners.
        num_words: columns per learner.
        block: the keyword-only arguments of its constructor, all of them: there are no defaults.

    Raises:
        SketchstackError: there is no such meta-learner, or the block does not fit its constructor.
    """
    if name not in available():
        raise SketchstackError(
            f"params.yaml, stack: no meta-learner {name!r}; pipeline/stacking/metalearners/ has "
            f"{', '.join(available())}."
        )
    constructor = importlib.import_module(f"{__name__}.{name}").MetaLearner
    _check(f"stack.params.{name}", constructor, block)
    return constructor(num_words, **block)


def _check(where: str, constructor: type[BaseMetaLearner], block: dict[str, Any]) -> None:
    """Refuse a block that is not exactly the constructor's keyword-only arguments, with values of their types."""
    types = typing.get_type_hints(constructor.__init__, include_extras=True)
    arguments = inspect.signature(constructor).parameters.values()
    names = [argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY]
    fields: dict[str, Any] = {name: (types[name], ...) for name in names}
    try:
        create_model(where, __config__=ConfigDict(extra="forbid", strict=True), **fields).model_validate(block)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise SketchstackError(
            f"params.yaml, {where}: {faults}. It takes {', '.join(names) or 'no params, so write {}'}."
        ) from None
