"""A process of its own: two training steps of each torch learner on given batches; prints a hash of the weights."""

import hashlib
import sys
from pathlib import Path

import numpy as np

from pipeline.drawings.batches import Batch
from pipeline.foundation.params import load_params
from pipeline.learners._base import load_learner

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Train on the arrays of an .npz: `<learner>/<number>` are the inputs, `labels` the labels of all."""
    params = load_params(ROOT / "profiles/synthetic.yaml")
    arrays = np.load(sys.argv[1])
    for name in sorted({key.partition("/")[0] for key in arrays if "/" in key}):
        inputs = tuple(arrays[key] for key in arrays if key.startswith(f"{name}/"))
        learner = load_learner(name, params.learner(name), num_words=30, seed=(1, 2), threads=2)
        learner.build()
        labels = arrays["labels"]
        for step in range(2):
            learner.train_step(Batch(step, inputs if len(inputs) > 1 else inputs[0], labels, labels, 1.0), 1e-3)
        weights = b"".join(array.tobytes() for array in learner.weights().values())
        print(name, hashlib.sha256(weights).hexdigest()[:16], flush=True)


if __name__ == "__main__":
    main()
