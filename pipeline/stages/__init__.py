"""The stages of dvc.yaml, one file each: `python -m pipeline.stages.NAME`."""
