import shutil
from pathlib import Path

import pytest

from pipeline.commands import profile

PROFILES = Path(__file__).parents[2] / "profiles"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    shutil.copytree(PROFILES, tmp_path / "profiles")
    shutil.copyfile(PROFILES / "synthetic.yaml", tmp_path / "params.yaml")
    (tmp_path / "data" / "mini").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def same(name):
    return Path("params.yaml").read_bytes() == (PROFILES / f"{name}.yaml").read_bytes()


def test_a_profile_is_put_in_force_and_back_again(capsys):
    profile.main(["mini"])
    assert same("mini")
    assert "params.yaml is now profile mini: data in data/mini" in capsys.readouterr().out
    profile.main(["synthetic"])
    assert same("synthetic")


def test_an_unknown_profile_is_refused_with_the_list():
    with pytest.raises(SystemExit, match=r"no profile 'minni'; profiles/ has .*mini.*synthetic"):
        profile.main(["minni"])


def test_edits_that_no_profile_holds_are_kept_unless_forced():
    with Path("params.yaml").open("a") as file:
        file.write("# mine\n")
    with pytest.raises(SystemExit, match=r"edits[\s\S]*make profile NAME=mini\sFORCE=1"):
        profile.main(["mini"])
    assert Path("params.yaml").read_text().endswith("# mine\n")
    profile.main(["mini", "--force"])
    assert same("mini")


def test_a_profile_that_is_not_valid_is_never_put_in_force():
    Path("profiles/own.yaml").write_text("profile: own\n")
    with pytest.raises(SystemExit, match=r"profiles/own.yaml: .*is missing"):
        profile.main(["own"])
    assert same("synthetic")


def test_a_profile_whose_data_is_not_there_is_refused_with_the_remedy():
    Path("data/mini").rmdir()
    with pytest.raises(SystemExit, match=r"data/mini, which is not there[\s\S]*NAME=mini\sFROM=FOLDER"):
        profile.main(["mini"])
    assert same("synthetic")
    Path("data/mini.dvc").write_text("outs: []\n")
    with pytest.raises(SystemExit, match=r"dvc\spull\sdata/mini\.dvc"):
        profile.main(["mini"])
