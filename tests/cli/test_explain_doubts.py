"""`explain.py` on whether to believe it: the doctor, families of baselines, the scorecard."""

from __future__ import annotations

import json

import pytest

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.cli import scorecard as explain_scorecard
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.explainer.settings import ExplainSettings

pytestmark = pytest.mark.usefixtures("surroundings")

FEW = ("--num_draws", "8", "--report=false", "--figures=false", "--sounds=false")
STEM = "a clip _b_"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(run_explain, checkpoint, out):
    """`(*arguments) -> exit status`, into `out`."""
    return lambda *arguments: run_explain(checkpoint, *arguments, "--out", out)


@pytest.fixture
def score(run_explain, checkpoint, out):
    """`(*arguments) -> exit status` of `explain.py scorecard`, into `out`."""
    return lambda *arguments: run_explain("scorecard", checkpoint, *arguments, "--out", out)


@pytest.fixture
def numbers(out):
    return lambda: json.loads((out / f"clips/{STEM}.json").read_text())


def test_the_doctor_speaks_first(run, clip, numbers):
    assert run(clip, *FEW, "--stages", "frames") == 0
    found = numbers()["baseline_checks"]
    assert found["baselines"] == "noise"
    assert found["target"] == numbers()["target"]
    assert set(found["early_shares"]) == {"frames"}


def test_reliability_is_told_once(run, clip, capsys):
    """By a diagnostic if fewer than half of the strongest frames are certain, else on its own line."""
    for draws in ("2", "256"):
        assert run(clip, "--num_draws", draws, *FEW[2:], "--stages", "frames") == 0
        assert " ".join(capsys.readouterr().out.split()).count("strongest frames are certain") == 1


def test_families_are_compared_on_request(run, clip, numbers, capsys):
    assert run(clip, *FEW, "--stages", "frames", "--families", "noise,time_shifted") == 0
    (pair,) = numbers()["families"]
    assert (pair["first"], pair["second"]) == ("noise", "time_shifted")
    assert -1 <= pair["correlation"] <= 1
    assert "noise and time_shifted" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("families", "said"),
    [("noise", "must name two or more"), ("noise,music", "value: music")],
)
def test_families_that_are_none_are_told_before_any_work(run, clip, out, capsys, families, said):
    assert run(clip, *FEW, "--families", families) == 2
    assert said in capsys.readouterr().err
    assert not (out / "clips").exists()


@pytest.fixture
def two_methods(monkeypatch):
    """Instead of eight: the command is tried here, not the methods."""
    methods = {
        name: ExplainSettings(stages=("frames",), method=name, num_draws=8)
        for name in ("gradient_shap", "saliency")
    }
    monkeypatch.setattr(explain_scorecard, "usual_methods", lambda _seed: methods)


@pytest.mark.usefixtures("two_methods")
def test_a_scorecard_of_clips_is_a_table_a_picture_and_verdicts(score, clip, out, read_csv, capsys):
    broken = clip.with_name("broken.wav")
    broken.write_bytes(b"RIFF")
    assert score(clip.parent) == 1
    rows = read_csv(out / "scorecard.csv")
    assert {row["method"] for row in rows} == {"gradient_shap", "saliency", "random", "energy", "edges"}
    assert (out / "scorecard.png").stat().st_size > 10_000
    printed = capsys.readouterr()
    assert "gradient_shap: no verdict: 1 clips are too few" in printed.out
    assert "Resampled for the intervals: 1 clips (who speaks is not known of every clip" in printed.out
    assert {row["resampled"] for row in rows} == {"clips"}
    assert not {row["metric"] for row in rows} & {"other_seeds"}
    of_random = {row["metric"]: row["mean"] for row in rows if row["method"] == "random"}
    assert float(of_random["other_class"]) == pytest.approx(1)
    assert "broken.wav" in printed.err


@pytest.mark.slow
@pytest.mark.usefixtures("two_methods")
def test_a_second_head_is_asked_how_far_maps_agree(score, clip, checkpoint, out, read_csv):
    assert score(clip, "--others", checkpoint) == 0
    agreed = {
        row["method"]: row["mean"]
        for row in read_csv(out / "scorecard.csv")
        if row["metric"] == "other_seeds"
    }
    assert float(agreed["gradient_shap"]) == pytest.approx(1)  # it is the same head


@pytest.mark.slow
@pytest.mark.usefixtures("two_methods")
def test_a_scorecard_of_labels_takes_them_from_the_manifest(score, clip, out, tmp_path, capsys):
    assert score(clip, "--target", "label") == 2
    assert "has no label" in capsys.readouterr().err
    length_s = len(load_audio(clip)) / 16_000
    save_manifest(tmp_path / "m.jsonl", [Clip(clip, "sad", start_s=0.0, end_s=length_s)])
    assert score(tmp_path / "m.jsonl", "--target", "label") == 0
    assert (out / "scorecard.csv").is_file()


def test_a_scorecard_of_one_class_is_refused(score, clip, out, capsys):
    assert score(clip, "--target", "sad") == 2
    assert "Expected a typing.Literal['predicted', 'label']" in capsys.readouterr().err
    assert not out.exists()
