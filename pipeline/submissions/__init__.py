"""Submissions: from probabilities to checked and ranked CSVs, to Kaggle and the ledger."""
