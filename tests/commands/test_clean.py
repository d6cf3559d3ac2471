from pathlib import Path

import pytest
import yaml

from pipeline.commands import clean

SYNTHETIC = Path(__file__).parents[2] / "profiles/synthetic.yaml"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load(SYNTHETIC.read_text()) | {"ensemble": ["alpha", "beta"], "folds": [0, 1, 2]}
    params["learners"] = dict.fromkeys(["alpha", "beta", "gamma"], params["learners"]["gru"])
    Path("params.yaml").write_text(yaml.safe_dump(params))
    for place in ("alpha/fold0", "alpha/fold1", "alpha/fold3", "beta/fold0", "gamma/fold0"):
        Path("models/synthetic/base", place).mkdir(parents=True)
    Path("models/synthetic/meta/gamma").mkdir(parents=True)


def test_only_what_params_no_longer_name_is_set_aside(project, capsys):
    Path("models/synthetic/base/gamma/fold0/notes.txt").write_text("mine")
    clean.main([])
    left = sorted(str(path) for path in Path("models").glob("*/base/*/*"))
    assert left == [
        "models/synthetic/base/alpha/fold0",
        "models/synthetic/base/alpha/fold1",
        "models/synthetic/base/beta/fold0",
    ]
    assert Path("models/synthetic/meta/gamma").is_dir()
    assert capsys.readouterr().out.splitlines() == [
        "moved models/synthetic/base/gamma, which params.yaml no longer names, to models/synthetic/unused/gamma",
        "moved models/synthetic/base/alpha/fold3, which params.yaml no longer names, to "
        "models/synthetic/unused/alpha/fold3",
    ]
    assert Path("models/synthetic/unused/gamma/fold0/notes.txt").read_text() == "mine"


def test_what_was_set_aside_before_stays_and_goes_only_when_asked(project, capsys):
    clean.main([])
    Path("models/synthetic/base/gamma/fold7").mkdir(parents=True)
    clean.main([])
    assert sorted(path.name for path in Path("models/synthetic/unused").iterdir()) == ["alpha", "gamma", "gamma.1"]
    clean.main(["--remove"])
    assert not Path("models/synthetic/unused").exists()


def test_help_changes_nothing(project, capsys):
    before = sorted(Path("models").rglob("*"))
    with pytest.raises(SystemExit):
        clean.main(["--help"])
    assert sorted(Path("models").rglob("*")) == before


def test_there_may_be_nothing_to_remove(project, capsys):
    clean.main([])
    capsys.readouterr()
    clean.main([])
    assert capsys.readouterr().out == ""
