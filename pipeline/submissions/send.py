"""A submission → Kaggle → the ledger; without credentials or a competition, an exact account of what would be sent."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.environment import recorded_environment
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.git import git
from pipeline.foundation.params import Params, fingerprint
from pipeline.foundation.places import places
from pipeline.submissions import kaggle, ledger
from pipeline.submissions.files import check_file, read_manifests
from pipeline.submissions.scoring import score


def send(name: str | None, params: Params) -> None:
    """Check a submission, send it (the best if none is named) and record it, or say exactly what would be sent.

    Raises:
        SketchstackError: the submission is unknown or not valid, the work tree is dirty, or Kaggle refuses.
    """
    manifest = chosen(name)
    file = places().submissions / f"{manifest['name']}.csv"
    check_file(file, params.sample_path)
    entry = ledger_entry(manifest, params.submit.competition or "COMPETITION")
    message = (
        f"{entry.name} | MAP@3 {entry.oof_map3} out of fold | sha256 {entry.sha256[:16]} | commit {entry.commit[:12]}"
    )
    if params.submit.competition is None or kaggle.credentials() is None:
        say_what_would_be_sent(file, message, manifest["rows"], entry, params)
    elif known := ledger.recorded(ledger.read_ledger(), entry.competition, entry.sha256):
        print(f"{ledger.LEDGER} has this very file already, and it is not sent twice: {known.line}")
    elif hindrances := obstacles(entry):
        raise SketchstackError("; ".join(hindrances) + ".")
    else:
        with alone():
            scored = send_and_wait(file, message, entry)
        written = ledger.record(replace(entry, public=scored.public, private=scored.private))
        if written:
            print(f"{ledger.LEDGER} has a new line; commit it: {written.line}")


def record(name: str, public: float, private: float | None, params: Params) -> None:
    """Write a submission that was sent by hand into the ledger, or the scores that have become known of one in it.

    Raises:
        SketchstackError: a score is not in 0..1, the submission is unknown or not valid, or the work tree is dirty.
    """
    if params.submit.competition is None:
        raise SketchstackError("params.yaml names no competition: set submit.competition to its name at Kaggle.")
    for which, given in (("public", public), ("private", private)):
        if given is not None and not 0 <= given <= 1:
            raise SketchstackError(f"--{which} {given}: MAP@3 is a number from 0 to 1, as the leaderboard shows it.")
    entry = ledger_entry(chosen(name), params.submit.competition)
    _write(replace(entry, public=str(public), private="" if private is None else str(private)), params)


def record_on_labels(name: str | None, params: Params) -> None:
    """Write a submission (the best if none is named) with its score on the profile's own test labels into the ledger.

    Raises:
        SketchstackError: the profile has no test labels, the submission is unknown or not valid, or the work tree is
            dirty.
    """
    if params.labels_path is None:
        raise SketchstackError(
            f"the test labels of the profile {params.profile!r} are not known; send a submission to Kaggle instead "
            f"(`make submit`)."
        )
    entry = ledger_entry(chosen(name), f"test labels of {params.profile}")
    map3, _ = score(places().submissions / f"{entry.name}.csv", params.labels_path)
    _write(replace(entry, public=f"{map3:.6f}"), params)


def _write(scored: ledger.Entry, params: Params) -> None:
    """Check a submission that is not in the ledger yet, and write it there with its scores."""
    if not ledger.recorded(ledger.read_ledger(), scored.competition, scored.sha256):
        check_file(places().submissions / f"{scored.name}.csv", params.sample_path)
        if hindrances := obstacles(scored):
            raise SketchstackError("; ".join(hindrances) + ".")
    if written := ledger.record(scored):
        print(f"{ledger.LEDGER} is changed; commit it: {written.line}")
    else:
        print(f"{ledger.LEDGER} has this very file with its scores already; nothing is changed.")


@contextmanager
def alone() -> Iterator[None]:
    """Hold off other senders: two at once would both find nothing sent, and send.

    Raises:
        SketchstackError: another process is sending.
    """
    folder = os.open(places().submissions, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SketchstackError(
                f"another process is sending from {places().submissions}/; wait for it, or end it."
            ) from None
        yield
    finally:
        os.close(folder)


def send_and_wait(file: Path, message: str, entry: ledger.Entry) -> kaggle.Scored:
    """Send a submission and wait for its score; one that an interrupted run has sent is only waited for."""
    mark = f"sha256 {entry.sha256[:16]}"  # `send` puts it into the message
    if kaggle.find(entry.competition, mark) is None:
        kaggle.submit(entry.competition, file, message)
    return kaggle.wait_for_score(entry.competition, mark)


def chosen(name: str | None) -> dict[str, Any]:
    """The manifest of the submission of that name, or of the best; its CSV is still the file that was ranked."""
    manifests = {manifest["name"]: manifest for manifest in read_manifests()}
    manifest = manifests.get(name) if name else next(iter(manifests.values()))
    if manifest is None:
        raise SketchstackError(f"there is no submission {name!r}; {places().submissions}/ has {', '.join(manifests)}.")
    file = places().submissions / f"{manifest['name']}.csv"
    if not file.is_file() or file_hash(file) != manifest["sha256"]:
        raise SketchstackError(f"{file} is not the file that its manifest was written for; run `dvc repro -f submit`.")
    return manifest


def ledger_entry(manifest: dict[str, Any], competition: str) -> ledger.Entry:
    """What the ledger records, without the score to come; commit and dvc_lock are empty where there are none."""
    lock = Path("dvc.lock")
    return ledger.Entry(
        competition=competition,
        name=manifest["name"],
        sha256=manifest["sha256"],
        commit=git("rev-parse", "--verify", "--quiet", "HEAD"),
        dvc_lock=file_hash(lock) if lock.exists() else "",
        params=fingerprint(manifest["params"]),
        environment=recorded_environment(manifest["sha256"]),
        oof_map3=f"{manifest['oof']['map3']:.6f}",
        low=f"{manifest['oof']['low']:.6f}",
        high=f"{manifest['oof']['high']:.6f}",
        public="",
        private="",
    )


def obstacles(entry: ledger.Entry) -> list[str]:
    """Why a submission may not be sent yet: what it was made from must be in a commit. The ledger itself may differ."""
    changed = git("status", "--porcelain", "--", ".", f":(exclude){ledger.LEDGER}").splitlines()
    found = []
    if not entry.commit:
        found.append("there is no commit that the ledger could name; commit the project")
    elif changed:
        found.append(
            f"the work tree differs from its commit in {len(changed)} files, first {changed[0].split(maxsplit=1)[1]}, "
            f"so the ledger could not say what this submission was made from; commit or undo the changes"
        )
    if not entry.dvc_lock:
        found.append("there is no dvc.lock; run `make repro` and commit it")
    elif stale := stale_submissions():
        found.append(
            f"{places().submissions}/ is not what dvc.lock says ({stale}), so the ledger would name a commit that "
            f"never made this file; run `make repro`, or `dvc checkout` for what was made elsewhere"
        )
    return found


def stale_submissions() -> str:
    """In what submissions/ differs from dvc.lock by `dvc status`, in a phrase; empty if it does not."""
    command = ["dvc", "status", "--json", "submit"]
    dvc = shutil.which(command[0], path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    asked = subprocess.run([dvc or "dvc", *command[1:]], check=False, capture_output=True, text=True)
    if asked.returncode:
        told = [line for line in asked.stderr.splitlines() if line.startswith("ERROR")] or asked.stderr.splitlines()[
            -1:
        ]
        return f"`{' '.join(command)}` failed: {' '.join(told)}"
    changes = json.loads(asked.stdout or "{}").get("submit", [])
    return "; ".join(
        f"{kind}: {', '.join(what)}" for change in changes if isinstance(change, dict) for kind, what in change.items()
    )


def say_what_would_be_sent(file: Path, message: str, rows: int, entry: ledger.Entry, params: Params) -> None:
    """The dry run: everything that sending would do, and what is missing for it."""
    lines = {
        "command": shlex.join(kaggle.submit_command(entry.competition, file, message)),
        "file": file,
        "rows": rows,
        "sha256": entry.sha256,
        "message": message,
        "ledger": replace(entry, public="PUBLIC", private="PRIVATE").line,
    }
    print("Dry run: nothing is sent. With everything in place this would be:\n")
    for what, text in lines.items():
        print(f"  {what:8} {text}")
    print()
    if params.submit.competition is None:
        print("params.yaml names no competition: set submit.competition to its name at Kaggle.")
    if kaggle.credentials() is None:
        print(f"There are no Kaggle credentials. {kaggle.SETUP}")
    for obstacle in obstacles(entry):
        print(f"It would be refused now: {obstacle}.")
