"""The lines of dvc.yaml, a file each: `python -m pipeline.stages.NAME`."""
