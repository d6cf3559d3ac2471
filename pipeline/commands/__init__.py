"""Commands that people run by hand, one file each: `sketchstack COMMAND`."""
