"""Reliability of the strongest frames of real explanations: over draws, in the record, as a diagnostic."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from wavshap_lightning.attribution.reliability import measure_reliability
from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.diagnostics import attribution_diagnostics
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.explanation import Explanation


def strongest(values, k):
    return {*np.argsort(-np.abs(values), kind="stable")[:k].tolist()}


@pytest.fixture(scope="module")
def runs_of(classifier, clip):
    """`(num_draws, seed) -> ViewEstimate` of the frames, from eight baselines that are the same each time."""
    recordings = [torch.randn(1900, generator=torch.Generator().manual_seed(n)) * 0.1 for n in range(8)]

    def run(num_draws, seed=0):
        given = {"recordings": recordings, "baselines": "other_clips", "stages": ("frames",)}
        found = explain(classifier, clip, target="happy", num_draws=num_draws, seed=seed, **given)
        return found.attributions["frames"].views["frames"]

    return run


def test_more_draws_make_more_certain(runs_of):
    found = [measure_reliability(runs_of(draws), 0) for draws in (32, 128, 512)]
    shares, kept = ([getattr(one, name) for one in found] for name in ("certain_share", "survival"))
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]
    assert kept == sorted(kept)


@pytest.mark.slow
def test_it_tells_of_a_classifier_what_other_seeds_and_many_draws_show(runs_of):
    truth = runs_of(4096).values[0].numpy()
    views = [runs_of(32, seed) for seed in range(1, 13)]
    found = [measure_reliability(view, 0) for view in views]
    k = found[0].k
    assert sum(not {*one.certain} <= strongest(truth, k) for one in found) <= 1
    pairs = combinations([strongest(view.values[0].numpy(), k) for view in views], 2)
    kept = np.mean([len(one & other) / k for one, other in pairs])
    stated = np.mean([one.survival for one in found])
    assert stated - 0.05 < kept  # errors of evenly spread draws are stated a little too large
    assert stated > kept - 0.25


def test_an_explanation_has_it_for_views_with_one_axis(three_paths, tmp_path):
    plain = three_paths.to_dict()["reliability"]
    assert plain.keys() == {"frames", "waveform", "bands", "layers", "segments"}
    for name, (view, stage) in {"frames": ("frames", "frames"), "bands": ("bands", "waveform")}.items():
        found, columns = three_paths.reliability(view), three_paths.to_columns(view, stage=stage)
        assert plain[name] == {"k": found.k, "certain": [*found.certain], "survival": found.survival}
        position = view.removesuffix("s")
        assert {*found.certain} <= {one[position] for one in three_paths.top(view, found.k)}
        assert len(columns["attribution"]) > found.k
    three_paths.save(tmp_path / "clip.safetensors")
    assert Explanation.load(tmp_path / "clip.safetensors").to_dict()["reliability"] == plain
    with pytest.raises(AttributionError, match="view='band_frame' has 2 axes"):
        three_paths.reliability("band_frame")


def test_methods_without_standard_errors_have_none(classifier, clip):
    found = explain(classifier, clip, target="happy", method="saliency")
    assert found.reliability() is None
    assert {*found.to_dict()["reliability"].values()} == {None}


def test_every_target_has_its_own(classifier, clip):
    found = explain(classifier, clip, target="all", stages=("frames",), num_draws=16)
    held = found.to_dict()["by_target"]
    for target in found.targets:
        assert held[target]["reliability"]["frames"]["survival"] == found.reliability(target=target).survival


def test_diagnostics_say_where_fewer_than_half_are_certain(three_paths):
    attributions = dict(three_paths.attributions)
    frames = attributions["frames"].views["frames"]
    level_db = torch.zeros(frames.values.shape[1])
    for share, is_noted in ((1e-6, False), (0.25, True)):  # every frame is resolved
        view = replace(frames, stderr=share * frames.values.abs())
        views = {**attributions["frames"].views, "frames": view}
        changed = {"frames": replace(attributions["frames"], gap=(0.0,), views=views)}
        found = [
            one for one in attribution_diagnostics(changed, 0, level_db) if one.name == "unresolved_frames"
        ]
        assert bool(found) is is_noted
        for one in found:
            assert one.severity == "note"
            assert one.message.startswith(measure_reliability(view, 0).in_words("frames"))
