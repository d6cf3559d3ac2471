"""Stage `synthesize`: write a synthetic competition in Kaggle's exact format, without a download."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline.foundation.artefacts import whole_folder
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.synthetic.competition import check_place, check_profile, write_test, write_train
from pipeline.synthetic.figures import FIGURES


@one_paragraph_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Write data/<competition>."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.stages.synthesize", description="Write a synthetic competition in Kaggle's format."
    )
    parser.add_argument("competition", help="its name in synthesize.competitions of params.yaml, as in data/<name>")
    competition = parser.parse_args(arguments).competition
    params = load_params()
    check_profile(competition, params)
    check_place(params)
    with whole_folder(Path(params.data.folder)) as folder:
        write_train(folder / params.data.train, params)
        write_test(folder, params)
    print(f"{params.data.folder}: {len(FIGURES)} words, {params.synthesize.train_rows} training drawings each")


if __name__ == "__main__":
    main()
