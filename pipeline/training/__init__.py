"""Training of learners on folds: fitting, checkpoints, the second round (pseudo-labels), the search for params."""
