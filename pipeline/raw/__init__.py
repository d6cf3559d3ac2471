"""Raw files of Kaggle and Google → rows: formats, records, corrections, folds."""
