"""Learners: one file each, found by its name. To add one, copy the most similar file and see docs/learners.md."""
