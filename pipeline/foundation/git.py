"""Queries to git about the project."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

IN_ENGLISH = {"LC_ALL": "C", "LANGUAGE": "C"}
START = "`git init && git add --all && git commit -m start` makes one"


def git(*arguments: str) -> str:
    """The output of a git command, stripped; empty if it fails, for example without a repository or without git."""
    try:
        return subprocess.run(["git", *arguments], check=False, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def git_trouble(root: Path | None = None) -> str:
    """Why git does not answer for a folder (the working one), and what to do; empty if it does."""
    root = (root or Path.cwd()).absolute()
    ask = ["git", "-C", str(root), "rev-parse", "--git-dir"]
    try:
        asked = subprocess.run(ask, check=False, capture_output=True, text=True, env={**os.environ, **IN_ENGLISH})
    except OSError as error:
        return f"git cannot be run ({error.strerror}): install git, or put its folder on the PATH"
    said = " ".join(asked.stderr.split())
    if not asked.returncode:
        return ""
    if "dubious ownership" in said or "safe.directory" in said:
        return (
            f"git does not trust {root}, because it belongs to another user: "
            f"`git config --global --add safe.directory {shlex.quote(str(root))}` makes git (and DVC) trust it"
        )
    if "not a git repository" in said.lower():
        return f"{root} is not a git repository, as after the download of a source archive: clone it, or {START}"
    return f"git fails in {root}: {said or f'exit code {asked.returncode}'}"


def is_without_git() -> bool:
    """Whether the working folder is in no git repository; whether git is installed makes no difference."""
    return not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents))


def why_no_commit(revision: str) -> str:
    """Why a revision names no commit, as a sentence with its remedy; empty if it may simply be misspelled."""
    if trouble := git_trouble():
        return f"{trouble[0].upper()}{trouble[1:]}."
    if not git("rev-parse", "--verify", "--quiet", "HEAD"):
        return "This git repository has no commit yet: `git add --all && git commit -m start` makes one."
    if git("rev-parse", "--is-shallow-repository") == "true":
        return f"This clone is shallow, so it has no earlier commits: `git fetch --unshallow`, if {revision!r} is one."
    return ""
