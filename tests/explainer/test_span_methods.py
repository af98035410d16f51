"""Methods that take spans of frames away, asked for by name."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.settings import SPAN_METHODS
from wavshap_lightning.viz.figures import plot


@pytest.mark.parametrize("method", SPAN_METHODS)
def test_each_is_asked_for_by_name_and_drawn(method, classifier, clip, tmp_path):
    found = explain(classifier, clip, target="happy", method=method, stages=["frames"], num_draws=160)
    values = found.values("frames", "frames")
    count = {"occlusion": 10, "shapley": 8}.get(method, 16)
    assert len(found.values("frames", "spans")) == count
    assert len(values) == found.times["frames"].count
    torch.testing.assert_close(values.sum(), found.values("frames", "spans").sum())
    found.save(tmp_path / "found")
    assert type(found).load(tmp_path / "found").attributions["frames"].method == method
    assert plot(found).axes


def test_words_may_be_the_players(classifier, clip):
    found = explain(
        classifier,
        clip,
        target="happy",
        method="shapley",
        stages=["frames"],
        segments=[(0.0, 0.03), (0.05, 0.08)],
    )
    of_segments = found.values("frames", "segments")
    assert of_segments.shape == (3,)
    torch.testing.assert_close(found.values("frames", "frames").sum(), of_segments.sum())
    assert found.relative_gap()["frames"] < 1e-4
    assert len(found.to_dict()["segments"]) == 3


def test_evaluations_are_shared_among_the_baselines(classifier, clip):
    settings = {"method": "kernel_shap", "stages": ["frames"], "num_draws": 400, "num_baselines": 5}
    found = explain(classifier, clip, target="happy", **settings)
    assert found.attributions["frames"].num_draws == (80 + 2) * 5
