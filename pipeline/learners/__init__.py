"""Learners: one file each, found by its name. To add one, copy the file nearest to it and see the README."""
