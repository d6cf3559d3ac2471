"""Benchmarks: one file each, run as `python -m bench.<name>`; results/ holds the measurements."""
