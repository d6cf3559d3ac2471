"""Make a recorded submission again from its commit and compare it byte for byte (`make reproduce NAME=...`).

    sketchstack reproduce NAME            at the commit that ledger.csv names
    sketchstack reproduce NAME --at HEAD  at another revision: what differs now, and why

The revision is checked out into its own worktree, which shares the DVC cache but uses only the raw files from it: every
stage runs. If the bytes differ, it counts the rows that differ, compares the scores, and names what has changed since
the record: environment, data, params or code, and the first stage whose output differs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import yaml

from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.commandline import Parser
from pipeline.foundation.environment import environment, from_text, tools_path
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.git import git_trouble, why_no_commit
from pipeline.foundation.nested import changed, flattened
from pipeline.foundation.places import PARAMS, places
from pipeline.raw.columns import read_columns
from pipeline.submissions import ledger
from pipeline.submissions.files import read_manifests

WORKTREES = Path("logs/reproduce")
LOCK = Path("dvc.lock")
CODE = ("pipeline", "dvc.yaml", "constraints.txt")
SHOWN = 5  # most names printed per kind of change, and most rows


@dataclass
class Changes:
    """Differences between the record and the new run, as text.

    Attributes:
        environment, data, params, code: changes of each kind; empty if nothing has changed.
        first_stage: the first stage, in running order, whose output differs; None if none is known.
    """

    environment: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    first_stage: str | None = None

    def lines(self) -> Iterator[str]:
        """One line per kind of change."""
        for kind in ("environment", "data", "params", "code"):
            found: list[str] = getattr(self, kind)
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            yield f"  {kind:12} {'; '.join(found[:SHOWN]) + more if found else 'as recorded'}"
        if self.first_stage:
            yield f"  {'first output':12} that differs: of {self.first_stage}"


def reproduce(name: str, at: str | None = None, root: Path = Path()) -> bool:
    """Make a submission of the ledger again; print whether its bytes are the recorded ones, and if not, why.

    Args:
        name: of the submission; the last line of the ledger with this name counts.
        at: a git revision; by default the commit of the record.
        root: the repository.

    Raises:
        SketchstackError: the submission or the commit is unknown, raw files are not available, or the run failed.
    """
    entry = recorded(name, root)
    revision = commit_of(at or entry.commit, root)
    tree = (root / WORKTREES / name).resolve()
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tree.with_name(f"{name}.log").open("a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SketchstackError(
                f"{name} is being reproduced by another process; wait for it, its output is in {log.name}."
            ) from None
        log.truncate(0)
        return _reproduced(entry, revision, tree, root, log)


def _reproduced(entry: ledger.Entry, revision: str, tree: Path, root: Path, log: TextIO) -> bool:
    """Run a revision in a worktree and compare; see `reproduce`."""
    name = entry.name
    check_out(revision, tree, root)
    bring_raw_files(tree, root)
    print(f"Running every stage of {revision[:12]} in {tree}; its output goes to {log.name}", flush=True)
    _repro(tree, log)
    made = tree / places(tree).submissions / f"{name}.csv"
    if not made.exists():
        raise SketchstackError(f"{revision[:12]} makes no submission {name!r}; see {made.parent} for those it makes.")
    if file_hash(made) == entry.sha256:
        print(f"{name}: the same bytes as recorded, SHA-256 {entry.sha256}")
        remove(tree, root)
        return True
    print(f"{name}: other bytes than recorded, SHA-256 {file_hash(made)} instead of {entry.sha256}")
    print("\n".join([*differing_rows(entry, made, tree, root), *scores(entry, tree)]))
    print("What has changed since the record:")
    print("\n".join(changes(entry, revision, tree, root).lines()))
    print(f"{tree} is kept for inspection; remove it with `git worktree remove --force {tree}`.")
    return False


def recorded(name: str, root: Path) -> ledger.Entry:
    """The last entry of the ledger with this name."""
    entries = ledger.read_ledger(root / ledger.LEDGER)
    found = [entry for entry in entries if entry.name == name]
    if not found:
        names = ", ".join(dict.fromkeys(entry.name for entry in entries)) or "no submission at all"
        raise SketchstackError(f"{ledger.LEDGER} has no submission {name!r}; it has {names}.")
    return found[-1]


def commit_of(revision: str, root: Path) -> str:
    """The commit that a revision names."""
    if trouble := git_trouble(root):
        raise SketchstackError(f"a recorded commit cannot be made again without git: {trouble}.")
    try:
        return run(["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], root).strip()
    except SketchstackError:
        remedy = why_no_commit(revision) or "Fetch it first (`git fetch --all`)."
        raise SketchstackError(f"git has no commit {revision!r} here. {remedy}") from None


def check_out(revision: str, tree: Path, root: Path) -> None:
    """Make a worktree of the revision; an earlier one in its place is removed."""
    remove(tree, root)
    # No hooks: the hook of DVC would check out the outputs.
    run(["git", "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(tree), revision], root)


def remove(tree: Path, root: Path) -> None:
    """Remove a worktree, if there is one."""
    shutil.rmtree(tree, ignore_errors=True)
    run(["git", "worktree", "prune"], root)


def bring_raw_files(tree: Path, root: Path) -> None:
    """Copy the profile's raw files from the shared DVC cache or a remote, unless a stage makes them."""
    cache, local = run(["dvc", "cache", "dir"], root).strip(), root / ".dvc" / "config.local"
    if local.exists():  # remotes and credentials of this machine
        shutil.copy(local, tree / ".dvc")
    run(["dvc", "cache", "dir", "--local", str((root / cache).resolve())], tree)
    raw = yaml.safe_load((tree / PARAMS).read_text())["data"]["folder"]
    pointer = tree / f"{raw}.dvc"
    if pointer.exists():
        run(["dvc", "pull", str(pointer.relative_to(tree))], tree)


def _surroundings() -> dict[str, str]:
    """The environment variables of a command, this environment's tools first on the PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_"))}
    return {**kept, "PATH": tools_path()}


def run(command: list[str], folder: Path) -> str:
    """Run a command with this environment's tools first on the PATH.

    Raises:
        SketchstackError: it failed; with the end of its output.
    """
    done = subprocess.run(command, cwd=folder, env=_surroundings(), capture_output=True, text=True, check=False)
    if done.returncode:
        said = " / ".join((done.stderr or done.stdout).split("\n")[-8:])
        raise SketchstackError(f"`{' '.join(command)}` failed in {folder.resolve()}: {said.strip(' /')}.")
    return done.stdout


def _repro(tree: Path, log: TextIO) -> None:
    """Run every stage of a worktree and print the name of each when it starts; all output goes to the log.

    Raises:
        SketchstackError: a stage failed.
    """
    begun, command = time.monotonic(), ["dvc", "repro", "--force", "--no-run-cache"]
    running = subprocess.Popen(
        command, cwd=tree, env=_surroundings(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert running.stdout is not None
    for line in running.stdout:
        log.write(line)
        log.flush()
        if line.startswith("Running stage"):
            print(
                f"  {time.monotonic() - begun:5.0f} s  {line.split(maxsplit=2)[2].strip().strip(chr(39) + ':')}",
                flush=True,
            )
    if running.wait():
        raise SketchstackError(f"`{' '.join(command)}` failed in {tree}; see {log.name}.")


def differing_rows(entry: ledger.Entry, made: Path, tree: Path, root: Path) -> Iterator[str]:
    """Lines about the rows that differ from the recorded file, if the DVC cache has that file."""
    before = tree / f"recorded_{entry.name}.csv"
    path = made.relative_to(tree).as_posix()
    try:
        run(["dvc", "get", str(root.resolve()), path, "--rev", entry.commit, "--force", "-o", str(before)], root)
    except SketchstackError:
        yield "  The recorded file is not in the DVC cache, so its rows cannot be compared (`dvc pull` at its commit)."
        return
    old, new = (read_columns(file, ["key_id", "word"]) for file in (before, made))
    if old["key_id"] != new["key_id"]:
        yield f"  It has other rows: {len(new['key_id'])} instead of {len(old['key_id'])}, or another order of key_ids."
        return
    pairs = zip(old["key_id"], old["word"], new["word"], strict=True)
    rows = [(number, *pair) for number, pair in enumerate(pairs, 1) if pair[1] != pair[2]]
    first = sum(was.split()[0] != now.split()[0] for _, _, was, now in rows)
    yield f"  {len(rows)} of {len(old['key_id'])} rows differ, {first} in the first guess:"
    for number, key_id, was, now in rows[:SHOWN]:
        yield f"    row {number}, key_id {key_id}: {now} instead of {was}"


def scores(entry: ledger.Entry, tree: Path) -> Iterator[str]:
    """A line about the difference of the scores."""
    manifest = next(known for known in read_manifests(tree / places(tree).submissions) if known["name"] == entry.name)
    now = manifest["oof"]["map3"]
    yield (
        f"  MAP@3 out of fold {now:.6f} instead of {float(entry.oof_map3):.6f}, a difference of "
        f"{now - float(entry.oof_map3):+.6f}; the recorded interval was {entry.low} to {entry.high}."
    )


def changes(entry: ledger.Entry, revision: str, tree: Path, root: Path) -> Changes:
    """Differences between the record and the new run."""
    found = Changes()
    then, now = from_text(entry.environment), environment()
    found.environment = changed(then, now) if then else ["not recorded"]
    params = [yaml.safe_load(text) for text in (shown(entry.commit, PARAMS, root), (tree / PARAMS).read_text())]
    before, after = (dict(flattened(each)) for each in params)
    found.params = changed(before, after)
    found.code = run(["git", "diff", "--name-only", entry.commit, revision, "--", *CODE], root).splitlines()
    locks = [yaml.safe_load(text)["stages"] for text in (shown(entry.commit, LOCK, root), (tree / LOCK).read_text())]
    raw = [raw_data(lock, each["data"]["folder"]) for lock, each in zip(locks, params, strict=True)]
    if raw[0] != raw[1]:
        found.data = [f"{params[1]['data']['folder']} {raw[1] or 'absent'} instead of {raw[0] or 'absent'}"]
    found.first_stage = first_that_differs(*locks)
    return found


def shown(commit: str, path: Path, root: Path) -> str:
    """The text of a file at a commit."""
    return run(["git", "show", f"{commit}:{path.as_posix()}"], root)


def raw_data(lock: Mapping[str, Any], folder: str) -> str | None:
    """The hash of the raw files that `shuffle` read."""
    return next((dep.get("md5") for dep in lock["shuffle"]["deps"] if dep["path"] == folder), None)


def first_that_differs(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """The first stage, in running order, that is in both and whose outputs differ."""
    for stage in ("synthesize", "shuffle", "train", "pseudo", "stack", "submit"):
        for name in sorted(after):
            if name.split("@")[0] == stage and name in before:
                outs = [{out["path"]: out.get("md5") for out in lock[name].get("outs", [])} for lock in (before, after)]
                if outs[0] != outs[1]:
                    return name
    return None


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Make a submission of the ledger again and compare it byte for byte; exit code 1 if it differs."""
    parser = Parser("reproduce", main.__doc__, "sketchstack reproduce super_learner")
    parser.add_argument("name", help="a submission in ledger.csv")
    parser.add_argument("--at", metavar="REVISION", help="run this revision instead of the recorded commit")
    given = parser.parse_args(arguments)
    if not reproduce(given.name, given.at):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
