"""The tutorial runs as it stands, on less data."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.py"


@pytest.mark.slow
@pytest.mark.usefixtures("surroundings")
def test_the_tutorial_trains_explains_draws_and_compares(tmp_path, capsys):
    main = runpy.run_path(str(TUTORIAL))["main"]
    small = {"clips_per_speaker_and_label": 2, "labels": ["neutral", "happy"]}
    comparison = main(tmp_path / "tutorial", num_speakers=3, num_draws=4, epochs=(1, 2), **small)
    assert {path.name for path in (tmp_path / "tutorial").iterdir()} == {
        "clip.png",
        "clip.explanation",
        "early_and_late.png",
    }
    assert comparison.differences["frames", "frames"].paired
    assert "+-" in capsys.readouterr().out
