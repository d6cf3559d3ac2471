"""Modules that all other packages use: params, errors, artefacts, environment, progress, git."""
