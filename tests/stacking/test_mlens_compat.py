import os
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from pipeline.stacking.mlens_compat import TOUCHED, mlens_imports

BEFORE = {name: os.environ.get(name) for name in TOUCHED}

with mlens_imports():
    from mlens.ensemble import SuperLearner


def test_mlens_agrees_with_scikit_learn_on_digits():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    nearest, bayes = KNeighborsClassifier(5), GaussianNB(var_smoothing=1e-2)
    last = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8)
    ours = SuperLearner(folds=3, n_jobs=1)
    ours.add([("nearest", nearest), ("bayes", bayes)], proba=True, dtype=np.float64)
    ours.add_meta(last, proba=True, dtype=np.float64)
    ours.fit(X[:1000], y[:1000])
    # KFold and mlens both cut by position, so the folds are the same; mlens orders columns by name.
    members = [("bayes", bayes), ("nearest", nearest)]
    theirs = StackingClassifier(members, last, cv=KFold(3), stack_method="predict_proba").fit(X[:1000], y[:1000])
    assert np.abs(ours.predict(X[1000:]) - theirs.predict_proba(X[1000:])).max() < 1e-6


def test_importing_mlens_leaves_the_process_as_it_was():
    assert {name: os.environ.get(name) for name in TOUCHED} == BEFORE
    assert not hasattr(sys.modules["collections"], "Sequence")
    with pytest.raises(ModuleNotFoundError):  # not an ImportWarning from a finder that mlens left behind
        __import__("a_module_that_is_not_there")
    assert not any("mlens" in type(finder).__module__ for finder in sys.meta_path)
