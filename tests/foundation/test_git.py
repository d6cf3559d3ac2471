"""Why git does not answer is told by its true cause."""

import subprocess

import pytest

from pipeline.foundation import dvc, git
from pipeline.foundation.git import git_trouble, is_without_git, why_no_commit


def run_git(*arguments, **changes):
    subprocess.run(["git", *arguments], check=True, capture_output=True, **changes)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    place = tmp_path / "a folder, größer"
    place.mkdir()
    run_git("init", "-q", cwd=place)
    monkeypatch.chdir(place)
    return place


def commit(text):
    run_git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-qm", text)


def test_a_repository_with_commits_has_no_trouble(repository):
    commit("one")
    assert git_trouble() == why_no_commit("HEAD~5") == ""


def test_a_repository_without_a_commit(repository):
    assert git_trouble() == ""
    assert "has no commit yet" in why_no_commit("HEAD~1")


def test_a_shallow_clone(repository, tmp_path, monkeypatch):
    commit("one")
    commit("two")
    run_git("clone", "-q", "--depth", "1", f"file://{repository}", str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    assert "git fetch --unshallow" in why_no_commit("HEAD~1")


def test_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert "is not a git repository, as after the download of a source archive" in git_trouble()
    assert "git init" in why_no_commit("HEAD~1")


def test_no_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install git" in git_trouble()
    assert git.git("status") == ""


def test_a_repository_that_git_does_not_trust(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"git config --global --add safe.directory '{repository}'" in git_trouble()


def test_a_broken_repository_is_told_in_git_s_words(repository):
    (repository / ".git/config").write_text("[core\n")
    assert "bad config line 1" in git_trouble()


def test_dvc_runs_without_git_and_with_it_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dvc, "is_without_git", lambda: not (tmp_path / ".git").exists())
    (tmp_path / ".dvc").mkdir()
    dvc.LOCAL.write_text('[core]\nremote = "a%b"\n')
    assert "DVC runs without git" in dvc.settle_without_git()
    assert dvc.settle_without_git() == ""
    assert "no_scm = true" in dvc.LOCAL.read_text()
    (tmp_path / ".git").mkdir()
    assert "uses git again" in dvc.settle_without_git()
    assert dvc.settle_without_git() == ""
    assert dvc.LOCAL.read_text().strip() == '[core]\nremote = "a%b"'


def test_a_folder_inside_a_repository_is_in_it(repository, monkeypatch):
    (repository / "inside").mkdir()
    monkeypatch.chdir(repository / "inside")
    assert not is_without_git()
