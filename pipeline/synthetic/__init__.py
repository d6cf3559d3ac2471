"""The embedded competition: templates of words, drawing styles, files in Kaggle's format."""
