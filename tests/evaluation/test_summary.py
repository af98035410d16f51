"""An explanation in numbers, and the agreement of families of baselines."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch
from scipy import stats

from wavshap_lightning.evaluation.intervals import bootstrap_mean
from wavshap_lightning.evaluation.summary import (
    cue_profiles,
    evenness,
    family_agreement,
    magnitude_shares,
    summarize,
)
from wavshap_lightning.explainer.explainer import Explainer, explain
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier


@pytest.fixture(scope="module")
def explanation(classifier, waveform):
    return explain(classifier, waveform, target=("sad", "angry"), stages=("frames", "layers"), num_draws=16)


def test_every_number_is_that_of_its_target(explanation):
    numbers = {target: summarize(explanation, target) for target in explanation.targets}
    assert explanation.targets == ("sad", "angry")
    assert numbers["sad"]["probability"] + numbers["angry"]["probability"] == pytest.approx(1)
    assert numbers["sad"]["score"] == pytest.approx(-numbers["angry"]["score"], rel=1e-5)
    assert numbers["sad"]["gap/frames"] == explanation.attributions["frames"].relative_gap[0]
    assert sum(numbers["sad"][f"share/{where}"] for where in ("speech", "pause", "edges")) == pytest.approx(1)
    assert sum(numbers["sad"][f"layers/{layer:02d}"] for layer in range(4)) == pytest.approx(1)
    assert numbers["sad"]["draws/frames"] == 16
    assert numbers["sad"]["certain"] == explanation.reliability(target="sad").certain_share


def test_values_have_no_probability(classifier, waveform):
    regressor = EmotionClassifier(classifier.backbone, ("arousal", "valence"), task="dimensions").eval()
    numbers = summarize(explain(regressor, waveform, num_draws=4), "valence")
    assert "probability" not in numbers
    assert numbers["score"] != numbers["baseline_score"]


def test_without_a_path_there_are_no_numbers_of_it(classifier, waveform):
    found = explain(classifier, waveform, target="sad", stages=("waveform",), num_draws=4)
    numbers = summarize(found, "sad")
    assert found.time_stage == "waveform"
    assert "entropy" in numbers
    assert not any(name.startswith(("share/", "layers/")) for name in numbers)
    found = explain(classifier, waveform, target="sad", stages=("layers",), num_draws=4)
    assert found.time_stage == "layers"
    assert "share/speech" in summarize(found, "sad")


def test_shares_sum_to_one_and_do_not_know_signs():
    values = torch.tensor([0.5, -3.0, 1.5])
    assert magnitude_shares(values).sum() == pytest.approx(1)
    assert torch.equal(magnitude_shares(values), magnitude_shares(-values))
    assert torch.equal(magnitude_shares(torch.zeros(3)), torch.zeros(3))


def test_evenness_is_entropy_over_its_largest():
    values = torch.tensor([0.1, 0.2, 0.7])
    assert evenness(values) == pytest.approx(stats.entropy(values.double(), base=3))
    assert evenness(torch.full((9,), -0.3)) == pytest.approx(1)
    assert evenness(torch.eye(4)[2]) == 0


@pytest.mark.parametrize("values", [torch.zeros(4), torch.ones(1)])
def test_where_there_is_nothing_to_spread_it_is_not_a_number(values):
    assert math.isnan(evenness(values))


@pytest.fixture(scope="module")
def explainer(classifier):
    return Explainer(classifier, ExplainSettings(stages=("frames",), num_draws=32))


def test_every_two_families_are_compared(classifier, explainer, waveform):
    recordings = [waveform.flip(0), waveform.roll(50)]
    found = family_agreement(explainer, waveform, families=("noise", "other_clips"), recordings=recordings)
    common = {"stages": ("frames",), "num_draws": 32}
    other = explain(classifier, waveform, baselines="other_clips", recordings=recordings, **common)
    maps = [one.values("frames", "frames") for one in (explain(classifier, waveform, **common), other)]
    assert found == {("noise", "other_clips"): pytest.approx(stats.pearsonr(*maps).statistic)}


def test_the_usual_families_are_compared_along_the_frames_whatever_else_is_explained(classifier, waveform):
    explainer = Explainer(classifier, ExplainSettings(stages=("layers",), num_draws=8))
    found = family_agreement(explainer, waveform)
    assert len(found) == 3
    assert all(-1 <= value <= 1 for value in found.values())


def test_the_profile_of_a_class_is_the_mean_over_its_clips_with_the_interval_over_speakers():
    def explained(target, loud, long, resynthesis):
        of = {"loudness": loud, "tempo": long}
        cues = [{"cue": cue, "value": value, "difference": 2 * value} for cue, value in of.items()]
        return {"target": target, "cues": cues, "rows": {**of, "resynthesis": resynthesis}}

    loud, speakers = [1.0, 2.0, 3.0, -4.0, 5.0, 0.5], list("abcdef")
    clips = [
        {"cues": explained("sad", value, 1.0, -0.5), "speaker": speaker}
        for value, speaker in zip(loud, speakers, strict=True)
    ]
    clips.append({"cues": explained("happy", 7.0, 0.0, 0.0), "speaker": "a"})
    rows = {(row["target"], row["cue"]): row for row in cue_profiles(clips)}
    assert {cue for target, cue in rows if target == "sad"} == {"loudness", "tempo", "resynthesis"}
    found, expected = rows["sad", "loudness"], bootstrap_mean(loud, speakers)
    assert (found["value"], found["low"], found["high"]) == (expected.value, expected.low, expected.high)
    assert (found["resampled"], found["n"], found["clips"]) == ("speakers", 6, 6)
    assert found["difference"] == pytest.approx(2 * fmean(loud))
    assert found["strongest"] == pytest.approx(5 / 6)
    assert rows["happy", "loudness"]["value"] == 7.0
    assert rows["happy", "loudness"]["low"] is None
