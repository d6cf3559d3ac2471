"""Rows → shards → arrays: words, strokes, encodings, batches."""
