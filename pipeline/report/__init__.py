"""The report of a run: one HTML file that needs no network, or the same as Markdown with pictures."""
