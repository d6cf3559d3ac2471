"""Queries to git about the project."""

from __future__ import annotations

import subprocess


def git(*arguments: str) -> str:
    """The output of a git command, stripped; empty if it fails, for example without a repository or without git."""
    try:
        return subprocess.run(["git", *arguments], check=False, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""
