"""What every room rests on: params, errors, artefacts, environment, progress, git."""
