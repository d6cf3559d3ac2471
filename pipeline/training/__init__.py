"""A learner on folds: fitting, checkpoints, the second round, the search for params."""
