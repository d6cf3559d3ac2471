"""Sketchstack: stroke drawings in, ranked and validated top-3 submissions out. Each stage is a module here."""
