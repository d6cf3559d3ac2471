"""What people run by hand, a file each: `sketchstack COMMAND`."""
