"""A submission → Kaggle → the ledger; without credentials or a competition, an exact account of what would be sent."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.environment import recorded_environment, tools_path
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.git import git, git_trouble
from pipeline.foundation.params import Params, fingerprint
from pipeline.foundation.places import places
from pipeline.submissions import kaggle, ledger, outbox
from pipeline.submissions.files import check_file, read_manifests
from pipeline.submissions.scoring import score
from pipeline.submissions.troubles import SETUP, KaggleError

DAILY = "Kaggle allows five a day in most competitions, and counts again from midnight UTC"
LISTING_SECONDS = 120.0  # until Kaggle's list shows a submission that has arrived
UNSURE = (
    "Kaggle may have the submission all the same: the same command looks for it in Kaggle's list before it sends "
    "anything."
)


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
        with outbox.locked(entry.competition, entry.name) as box:
            scored = send_and_wait(file, message, entry, box)
            written = ledger.record(replace(entry, public=scored.public, private=scored.private))
            box.close(entry.sha256)
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


def send_and_wait(file: Path, message: str, entry: ledger.Entry, box: outbox.Outbox) -> kaggle.Submission:
    """Send a submission and wait for its score; one that is in Kaggle's list already is only waited for.

    One that Kaggle could not score is sent again.

    Raises:
        SketchstackError: Kaggle refuses it or cannot score it, its list cannot be read, or there is no score in time.
    """
    mark = f"sha256 {entry.sha256[:16]}"  # `send` puts it into the message
    if begun := box.upload(entry.sha256):
        failed, arrived = begun.before, _has_arrived(entry, mark, begun)
    else:
        listed = _listed(entry, mark)
        sent = listed.found
        failed = [each.ref for each in sent if each.status == "error"]
        arrived = len(failed) < len(sent)
        if listed.today and not arrived:
            print(f"{listed.today} submissions were sent to {entry.competition} today (UTC). {DAILY}.", flush=True)
        if failed and not arrived:
            print(f"Kaggle could not score {entry.name}, sent on {sent[0].date}; it is sent again. {_why(entry)}")
    if arrived:
        print(f"{entry.name} is in Kaggle's list of submissions; it is not sent again.", flush=True)
    left = "" if arrived else _upload(file, message, entry, box, failed)
    return _scored(entry, mark, failed, left, box)


def _listed(entry: ledger.Entry, mark: str) -> kaggle.Listed:
    """What Kaggle's list says of a file."""
    listed = kaggle.with_backoff(lambda: kaggle.submissions(entry.competition, mark))
    if not listed.whole and not listed.found:
        print(f"Kaggle lists the latest {kaggle.PAGE_SIZE} submissions only; an older one of this file is not seen.")
    return listed


def _has_arrived(entry: ledger.Entry, mark: str, begun: outbox.Upload) -> bool:
    """Whether the upload of an earlier run is in Kaggle's list; it is given some time to appear there."""
    start = time.time()
    end = max(begun.since + kaggle.PATIENCE_SECONDS if begun.accepted else start + LISTING_SECONDS, start)
    said = "Kaggle has accepted it" if begun.accepted else "it is not known whether it arrived"
    print(
        f"An earlier run sent {entry.name} on {begun.clock}; {said}. Kaggle's list is read for up to "
        f"{(end - start) / 60:.0f} minutes; if it is not there then, it is sent again.",
        flush=True,
    )
    told = kaggle.Status("its place in the list")
    while True:
        last = time.time() >= end
        if any(each.ref not in begun.before for each in _listed(entry, mark).found):
            return True
        if last:
            print(f"It is not in Kaggle's list, so {entry.name} is sent again.", flush=True)
            return False
        told.tell("not in the list yet", time.time() - start)
        time.sleep(kaggle.POLL_SECONDS)


def _upload(file: Path, message: str, entry: ledger.Entry, box: outbox.Outbox, failed: list[str]) -> str:
    """Send a submission; return what is known of the submissions left today.

    The upload inherits the lock: if this process dies, no other sends before the upload has ended.
    """
    box.begin(entry.sha256, entry.name, failed)
    print(f"Sending {file} to {entry.competition}.", flush=True)
    try:
        left = kaggle.with_backoff(lambda: kaggle.submit(entry.competition, file, message, inherited=[box.lock]))
    except KaggleError as error:
        if error.trouble.refused:
            box.close(entry.sha256)
            raise
        raise SketchstackError(f"{error} {UNSURE}") from None
    except KeyboardInterrupt:
        print(f"\nThe upload was stopped. {UNSURE}", file=sys.stderr)
        raise
    box.accept(entry.sha256, entry.name, failed)
    print(f"Kaggle has accepted {entry.name}.", flush=True)
    return left


def _scored(entry: ledger.Entry, mark: str, failed: list[str], left: str, box: outbox.Outbox) -> kaggle.Submission:
    """Wait for the score of a submission that was sent."""
    try:
        scored = kaggle.wait_for_score(entry.competition, mark, ignored=failed, left=left)
    except KeyboardInterrupt:
        print(
            f"\n{entry.name} was sent to {entry.competition}, only its score is not known yet: the same command waits "
            f"for it and records it.",
            file=sys.stderr,
        )
        raise
    if scored.status == "error":
        box.close(entry.sha256)
        raise SketchstackError(
            f"Kaggle could not score {entry.name} (submission {scored.ref}). {_why(entry)} The same command sends it "
            f"once more."
        )
    return scored


def _why(entry: ledger.Entry) -> str:
    return f"Read why at https://www.kaggle.com/competitions/{entry.competition}/submissions."


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
        found.append(f"there is no commit that the ledger could name: {git_trouble() or 'commit the project'}")
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
    dvc = shutil.which(command[0], path=tools_path())
    asked = subprocess.run([dvc or "dvc", *command[1:]], check=False, capture_output=True, text=True)
    if asked.returncode:
        told = [line for line in asked.stderr.splitlines() if line.startswith("ERROR")]
        return f"`{' '.join(command)}` failed: {' '.join(told) or asked.stderr.strip()}"
    try:
        changes = json.loads(asked.stdout or "{}").get("submit", [])
    except ValueError:
        return f"`{' '.join(command)}` printed no JSON: {asked.stdout.strip().splitlines()[-1:]}"
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
        print(f"There are no Kaggle credentials. {SETUP}")
    for obstacle in obstacles(entry):
        print(f"It would be refused now: {obstacle}.")
