"""Whole runs by DVC in a clone of its own: the stages fit together, a learner is added as the README says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bench.browser import checked, chromium
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path) -> str:
    """Run a command with this environment's tools first on the PATH; show its output if it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def readme_example() -> tuple[str, str, str]:
    """The example of a new learner in docs/learners.md: its name, its file, its block of params."""
    readme = (ROOT / "docs" / "learners.md").read_text()
    name, code = re.search(r"`pipeline/learners/(\w+)\.py`:\n\n```python\n(.*?)```", readme, re.DOTALL).groups()  # type: ignore[union-attr]
    block = re.search(rf"```yaml\n(  {name}:\n.*?)```", readme, re.DOTALL).group(1)  # type: ignore[union-attr]
    return name, code, block


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone with the README's learner added, and a competition small enough for a test, after `dvc repro`."""
    folder = tmp_path_factory.mktemp("clone")
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\n")
    for name in filter(None, tracked):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    learner, code, block = readme_example()
    (folder / "pipeline" / "learners" / f"{learner}.py").write_text(code)
    params = yaml.safe_load((folder / "profiles" / "synthetic.yaml").read_text())
    params["learners"] |= yaml.safe_load(block)
    params["ensemble"] = ["lstm", learner]
    params["synthesize"] |= {"train_rows": 30, "test_rows": 10}
    params["submit"]["competition"] = "doodles"
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run("git", "init", "-q", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "start", cwd=folder)
    run("dvc", "repro", cwd=folder)
    return folder


def test_a_learner_added_as_the_readme_says_is_trained_scored_stacked_and_submitted(clone):
    learner, _, _ = readme_example()
    table = pd.read_csv(clone / "models/synthetic/meta" / "fold_scores.csv")
    assert set(table.loc[table["kind"] == "base", "name"]) == {"lstm", learner}
    assert (table.groupby("name").size() == 3).all()
    weights = json.loads((clone / "models/synthetic/meta" / "weights.json").read_text())
    assert learner in weights["convex_weights"]
    assert (clone / "submissions/synthetic" / f"{learner}.csv").exists()


def ran(clone: Path) -> list[str]:
    """The stages that `dvc repro` runs, in order."""
    return re.findall(r"Running stage '([^']+)'", run("dvc", "repro", cwd=clone))


NO_RESULT = {  # file, before, after: edits that cannot change a result
    "comment": ("pipeline/learners/_torch.py", "DIE_WITH_PARENT = 1", "# A comment.\nDIE_WITH_PARENT = 1"),
    "docstring": ("pipeline/foundation/errors.py", '"""How Sketchstack', '"""In what words Sketchstack'),
    "layout": ("pipeline/drawings/encodings.py", "FADE = 13 / 255", "FADE = (\n    13\n    / 255\n)"),
    "error": ("pipeline/drawings/words.py", "is missing; run", "is not there; run"),
    "schema": (
        "pipeline/foundation/params.py",
        "    balance: Literal",
        "    stars: int | None = None\n    balance: Literal",
    ),
    "learner": ("pipeline/learners/other.py", "", "class Learner: ...\n"),
    "command": ("pipeline/commands/count.py", "", "def main() -> None: ...\n"),
}


@contextlib.contextmanager
def edited(path: Path, before: str, after: str) -> Iterator[None]:
    text = path.read_text() if path.exists() else None
    assert before in (text or "")
    path.write_text((text or "").replace(before, after, 1) if before else after)
    try:
        yield
    finally:
        if text is None:
            path.unlink()
        else:
            path.write_text(text)


def test_an_edit_that_cannot_change_a_result_runs_nothing_and_others_run_what_they_reach(clone):
    learner, _, _ = readme_example()
    assert ran(clone) == ["fingerprint"]
    with contextlib.ExitStack() as edits:
        for name, before, after in NO_RESULT.values():
            edits.enter_context(edited(clone / name, before, after))
        assert ran(clone) == ["fingerprint"]
    with edited(clone / "pipeline/learners" / f"{learner}.py", "nn.ReLU()", "nn.GELU()"):
        found = ran(clone)
        assert found[0] == "fingerprint"
        assert sorted(found[1:4]) == [f"train@{learner}-{fold}" for fold in range(3)]
        assert found[4:] == ["stack", "submit", "score", "report"]
    assert ran(clone) == ["fingerprint"]  # the rest comes back from the run cache


def test_going_to_another_profile_and_back_runs_the_fingerprint_alone(clone):
    before = (clone / "params.yaml").read_text()
    other = yaml.safe_load(before) | {"profile": "other", "ensemble": ["lstm"]}
    (clone / "params.yaml").write_text(yaml.safe_dump(other, sort_keys=False))
    assert ran(clone)[-4:] == ["stack", "submit", "score", "report"]
    (clone / "params.yaml").write_text(before)
    assert ran(clone) == ["fingerprint"]
    assert {path.name for path in (clone / "submissions").iterdir() if path.is_dir()} == {"synthetic", "other"}


def test_every_submission_is_scored_on_the_test_labels(clone):
    scores = json.loads((clone / "reports/synthetic" / "test.json").read_text())
    submissions = {path.stem for path in (clone / "submissions/synthetic").glob("*.csv")} - {"ranking"}
    assert submissions == set(scores)
    assert len(submissions) >= 6
    assert all(0 < score <= 1 for score in scores.values())


@pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the PATH")
def test_the_last_stage_has_written_a_report_with_which_nothing_is_wrong(clone):
    report = clone / "reports/synthetic" / "report.html"
    assert checked(report).all() == []
    assert readme_example()[0] in report.read_text()


def test_dvc_has_nothing_left_to_do_and_its_own_commands_work(clone):
    assert ran(clone) == ["fingerprint"]
    assert "super_learner" in run("dvc", "metrics", "show", cwd=clone)
    assert "train@lstm-0" in run("dvc", "dag", "--mermaid", cwd=clone)
    assert "dvc_plots" in run("dvc", "plots", "show", cwd=clone)


def test_only_what_git_should_hold_has_changed(clone):
    changed = run("git", "status", "--porcelain", cwd=clone).split("\n")
    assert {line[3:] for line in changed if line} <= {"dvc.lock"}


def commit(folder: Path, message: str) -> None:
    run("git", "add", "-A", cwd=folder)
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run("git", *author, "commit", "-q", "--allow-empty", "-m", message, cwd=folder)


def test_a_recorded_submission_is_reproduced_and_after_a_change_the_change_is_named(clone):
    commit(clone, "a run")
    record = [sys.executable, "-m", "pipeline.commands.submit", "--record", "super_learner", "--public", "0.5"]
    run(*record, cwd=clone)
    commit(clone, "the ledger")
    reproduce = [sys.executable, "-m", "pipeline.commands.reproduce", "super_learner"]
    assert "super_learner: the same bytes as recorded" in run(*reproduce, cwd=clone)
    assert not (clone / "logs/synthetic" / "reproduce" / "super_learner").exists()

    before = (clone / "params.yaml").read_text()
    params = yaml.safe_load(before)
    epochs = params["learners"]["lstm"]["training"]["epochs"]
    params["learners"]["lstm"]["training"]["epochs"] = epochs + 1
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    commit(clone, "another epoch")
    done = subprocess.run([*reproduce, "--at", "HEAD"], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"\d+ of \d+ rows differ, \d+ in the first guess", done.stdout)
    assert re.search(r"MAP@3 out of fold 0\.\d+ instead of 0\.\d+, a difference of [+-]0\.\d+", done.stdout)
    assert f"params       learners.lstm.training.epochs {epochs + 1} instead of {epochs}\n" in done.stdout
    for kind in ("environment", "data", "code"):
        assert re.search(rf"{kind} +as recorded", done.stdout), done.stdout
    assert "that differs: of train@lstm-0" in done.stdout
    (clone / "params.yaml").write_text(before)
    commit(clone, "as before")


def test_an_experiment_runs_what_its_param_changes_and_nothing_else(clone):
    commit(clone, "before the experiment")
    said = run("dvc", "exp", "run", "--name", "narrow", "-S", "learners.lstm.network.units=8", cwd=clone)
    stages = re.findall(r"Running stage '([^']+)'", said)
    trainings = [f"train@lstm-{fold}" for fold in range(3)]
    assert stages == ["fingerprint", *trainings, "stack", "submit", "score", "report"]
    shown = run("env", "COLUMNS=140", sys.executable, "-m", "pipeline.commands.experiments", cwd=clone)
    assert "learners.lstm.network.units 8 instead of 64" in shown
    assert re.search(r"narrow .*[+-]0\.\d{4} ", " ".join(shown.split()))
    assert "learners.lstm.network.units" in run("dvc", "params", "diff", cwd=clone)
    assert "super_learner" in run("dvc", "metrics", "diff", cwd=clone)
    assert "dvc_plots" in run("dvc", "plots", "diff", cwd=clone)
    run("git", "checkout", "-q", ".", cwd=clone)
    run("dvc", "checkout", "-q", cwd=clone)


def test_a_stage_stopped_by_bad_input_says_why_in_one_paragraph(clone):
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params["learners"]["lstm"]["network"]["unitz"] = 3
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.stages.train", "lstm", "0"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "learners.lstm.network.unitz is unknown" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
