"""Agreement over families of baselines: the same question agrees with itself, others are told apart."""

from __future__ import annotations

import pytest
from scipy import stats

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.summary import explain_by_family, family_agreement
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.settings import ExplainSettings


@pytest.fixture(scope="module")
def by_family(classifier, waveform):
    explainer = Explainer(classifier, ExplainSettings(stages=("frames",), num_draws=32))
    families = ("noise", "time_shifted", "other_clips")
    return explain_by_family(
        explainer, waveform, families=families, recordings=[waveform.flip(0), waveform.roll(50)]
    )


def test_every_family_is_asked_and_every_pair_is_compared(by_family):
    assert {name: found.settings.baselines for name, found in by_family.items()} == {
        name: name for name in ("noise", "time_shifted", "other_clips")
    }
    agreement = family_agreement(by_family)
    assert len(agreement) == 3
    for (first, second), value in agreement.items():
        frames = [by_family[name].values("frames", "frames").numpy() for name in (first, second)]
        assert value == pytest.approx(stats.pearsonr(*frames).statistic)


def test_a_family_agrees_with_itself(by_family):
    again = {"noise": by_family["noise"], "the same": by_family["noise"]}
    assert family_agreement(again) == {("noise", "the same"): pytest.approx(1.0)}


def test_one_family_is_no_comparison(classifier, waveform):
    explainer = Explainer(classifier, ExplainSettings(stages=("frames",)))
    with pytest.raises(SettingError, match="must name two different families"):
        explain_by_family(explainer, waveform, families=["noise", "noise"])


def test_a_path_that_does_not_say_when_is_refused(classifier, waveform):
    explainer = Explainer(classifier, ExplainSettings(stages=("layers",), num_draws=8))
    found = explain_by_family(explainer, waveform, families=["noise", "time_shifted"])
    with pytest.raises(SettingError, match="does not say when"):
        family_agreement(found)
