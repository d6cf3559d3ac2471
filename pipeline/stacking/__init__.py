"""The SuperLearner over cached predictions: leak checks, calibration, meta-learners, scores."""
