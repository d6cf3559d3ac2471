"""What predicts new drawings: rows of any file, fitted ensembles, their guesses."""
