"""Warnings are given when they are due, and only then."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wavshap_lightning.explainer.diagnostics import caveats, ignores_level
from wavshap_lightning.explainer.explainer import explain


def changed(explanation, path="frames", **fields):
    attributions = {**explanation.attributions, path: replace(explanation.attributions[path], **fields)}
    return replace(explanation, attributions=attributions)


@pytest.fixture(scope="module")
def sound(three_paths):
    """An explanation that leaves nothing to be said."""
    views = three_paths.attributions["frames"].views
    sure = replace(views["frames"], stderr=1e-9 * views["frames"].stderr)
    quiet = changed(three_paths, views={**views, "frames": sure})
    for path in quiet.attributions:
        quiet = changed(quiet, path, gap=(0.0,))
    return quiet


def test_nothing_to_be_said(sound, classifier):
    assert caveats(sound, classifier) == []


def test_a_large_gap(sound, classifier):
    found = sound.attributions["frames"]
    whole = max(abs(found.score[0] - found.mean_baseline_score[0]), found.baseline_score_std[0])
    assert caveats(changed(sound, gap=(0.09 * whole,)), classifier) == []
    (words,) = caveats(changed(sound, gap=(-0.11 * whole,)), classifier)
    assert "gap of the path from the frames was 11%" in words


def test_moments_that_are_mostly_chance(sound, classifier):
    views = sound.attributions["frames"].views
    unsure = replace(views["frames"], stderr=views["frames"].values.abs())
    (words,) = caveats(changed(sound, views={**views, "frames": unsure}), classifier)
    assert "hold 100% of the attribution" in words


def test_a_tolerance_that_was_not_reached(sound, classifier):
    unresolved = torch.zeros_like(sound.attributions["frames"].views["frames"].values, dtype=torch.bool)
    unresolved[0, 3] = True
    (words,) = caveats(changed(sound, unresolved=unresolved, draws_needed=500), classifier)
    assert words.startswith("The tolerance was not reached (frames): 1 of ")


@pytest.mark.parametrize(
    ("norm", "normalize", "ill"), [("layer", False, False), ("group", False, True), ("layer", True, True)]
)
def test_silence_under_a_model_that_ignores_level(build_classifier, clip, norm, normalize, ill):
    classifier = build_classifier(norm, normalize=normalize)
    assert ignores_level(classifier) is ill
    found = explain(classifier, clip, baselines="silence", stages=["layers"], num_draws=4)
    assert any("ill-posed" in words for words in caveats(found, classifier)) is ill
    with torch.no_grad():
        loud, quiet = (
            classifier.frontend(level * clip[None], torch.tensor([len(clip)])) for level in (1.0, 0.3)
        )
    assert torch.allclose(loud, quiet, atol=1e-2) is ill
