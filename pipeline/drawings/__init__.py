"""Drawings from rows to shards to arrays: words, strokes, encodings, batches."""
