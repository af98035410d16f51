"""An explanation in numbers."""

from __future__ import annotations

import pytest

from wavshap_lightning.evaluation.summary import summarize
from wavshap_lightning.explainer.explainer import explain


@pytest.fixture(scope="module")
def explanation(classifier, waveform):
    return explain(classifier, waveform, target=("sad", "angry"), num_draws=16)


def test_every_number_is_that_of_its_target(explanation):
    numbers = {target: summarize(explanation, target) for target in explanation.targets}
    assert explanation.targets == ("sad", "angry")
    assert numbers["sad"]["probability"] + numbers["angry"]["probability"] == pytest.approx(1)
    assert numbers["sad"]["score"] == pytest.approx(-numbers["angry"]["score"], rel=1e-5)
    assert numbers["sad"]["gap/frames"] == explanation.attributions["frames"].relative_gap[0]
    assert sum(numbers["sad"][f"share/{where}"] for where in ("speech", "pause", "edges")) == pytest.approx(1)
    assert sum(numbers["sad"][f"layers/{layer:02d}"] for layer in range(4)) == pytest.approx(1)
    assert numbers["sad"]["draws/frames"] == 16


def test_without_a_path_there_are_no_numbers_of_it(classifier, waveform):
    found = explain(classifier, waveform, target="sad", stages=("waveform",), num_draws=4)
    numbers = summarize(found, "sad")
    assert found.time_stage == "waveform"
    assert "entropy" in numbers
    assert not any(name.startswith(("share/", "layers/")) for name in numbers)
    assert explain(classifier, waveform, target="sad", stages=("layers",), num_draws=4).time_stage is None
