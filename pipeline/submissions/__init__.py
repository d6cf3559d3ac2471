"""Probabilities → checked and ranked CSVs, Kaggle, the ledger."""
