"""Cached predicted probabilities, metrics, bootstrap."""
