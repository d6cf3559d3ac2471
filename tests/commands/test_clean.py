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


def test_only_what_params_no_longer_name_is_removed(project, capsys):
    clean.main([])
    left = sorted(str(path) for path in Path("models").glob("*/base/*/*"))
    assert left == [
        "models/synthetic/base/alpha/fold0",
        "models/synthetic/base/alpha/fold1",
        "models/synthetic/base/beta/fold0",
    ]
    assert Path("models/synthetic/meta/gamma").is_dir()
    assert capsys.readouterr().out.splitlines() == [
        "removed models/synthetic/base/gamma, which params.yaml no longer names",
        "removed models/synthetic/base/alpha/fold3, which params.yaml no longer names",
    ]


def test_there_may_be_nothing_to_remove(project, capsys):
    clean.main([])
    capsys.readouterr()
    clean.main([])
    assert capsys.readouterr().out == ""
