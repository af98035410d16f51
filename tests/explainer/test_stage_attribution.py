"""Laws of the three stages: the same baselines, the same total, every kind of units complete."""

from __future__ import annotations

import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.views.frames import summed
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.settings import SPAN_METHODS
from wavshap_lightning.viz.figures import plot

STAGES = ("frames", "layers", "waveform")
UNITS = [
    ("frames", "frames"),
    ("frames", "segments"),
    ("layers", "frames"),
    ("layers", "segments"),
    ("layers", "layers"),
    ("layers", "layer_frame"),
    ("layers", "layer_neuron"),
    ("waveform", "frames"),
    ("waveform", "segments"),
    ("waveform", "bands"),
    ("waveform", "band_frame"),
]


@torch.no_grad()
def expected_total(classifier, clip, count, seed=0):
    """`f(x) - mean f(b)` by hand, for the log-odds of the second class."""
    declared = noise(clip).declare(count, torch.Generator().manual_seed(seed)).values
    logits = classifier(torch.cat([clip[None], declared]))
    odds = logits[:, 1] - logits[:, [0, 2]].logsumexp(1)
    return float(odds[0] - odds[1:].mean())


@pytest.mark.parametrize(("path", "view"), UNITS)
def test_every_kind_of_units_adds_up_to_the_difference_of_scores(path, view, three_paths, classifier, clip):
    found = three_paths.attributions[path]
    total = expected_total(classifier, clip, 8)
    assert abs(total) > 0.1
    assert float(found.sums(view)) == pytest.approx(total, abs=1e-4)
    assert found.score[0] - found.mean_baseline_score[0] == pytest.approx(total, abs=1e-5)
    if path != "waveform":  # there the gap depends on the random weights, which depend on transformers
        assert found.relative_gap[0] < 0.05


def test_a_distribution_gives_every_path_the_same_baselines(classifier, clip):
    found = explain(classifier, clip, target="happy", stages=STAGES, num_draws=32, seed=3)
    means = [found.attributions[path].mean_baseline_score[0] for path in STAGES]
    assert means == pytest.approx([means[0]] * 3, abs=1e-5)
    assert {path: found.attributions[path].num_draws for path in STAGES} == dict.fromkeys(STAGES, 32)
    assert "distribution" in found.attributions["frames"].estimand


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "attentive"])
@pytest.mark.parametrize("layer", ["learned", 1])
def test_the_layer_path_equals_the_path_through_the_unmixed_stack(pooling, layer, build_classifier, clip):
    classifier = build_classifier(pooling=pooling, layer=layer)
    found = explain(classifier, clip, target="happy", stages=["layers"], num_baselines=4, num_draws=32)
    frames = classifier.frontend(clip[None])
    baselines = noise(clip).declare(4, torch.Generator().manual_seed(0))
    expected = attribute(
        gradient_shap,
        classifier.head,
        classifier.encoder(frames)[0],
        found.attributions["layers"].target,
        baselines.through(classifier.frontend).through(classifier.encoder),
        generator=0,
        stopping=None,
        views=(summed(2, name="layer_frame", smooth_variance=True), summed(1, name="layer_neuron")),
    )
    again = explain(classifier, clip, target="happy", stages=["layers"], num_baselines=4)
    for view in ("layer_frame", "layer_neuron"):
        values, reference = again.attributions["layers"].views[view], expected.views[view]
        torch.testing.assert_close(values.values, reference.values, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(values.stderr, reference.stderr, rtol=2e-2, atol=1e-6)
    assert found.attributions["layers"].num_draws == 32


def test_layers_the_head_does_not_take_have_no_part(build_classifier, clip):
    found = explain(build_classifier(layer="last"), clip, stages=["layers"], num_draws=8)
    assert found.values("layers", "layers")[:2].tolist() == [0.0, 0.0]
    assert found.top("layers", 1)[0]["layer"] == 2


def test_the_normalisation_is_inside_the_graph(build_classifier, clip):
    """Louder in the waveform is the same to a classifier that divides the level out."""
    classifier = build_classifier(normalize=True)
    settings = {"stages": ["waveform"], "num_baselines": 4, "num_draws": 128}
    quiet, loud = (explain(classifier, level * clip, target="sad", **settings) for level in (1.0, 3.0))
    values = [found.values("waveform", "frames") for found in (quiet, loud)]
    torch.testing.assert_close(*values, rtol=1e-3, atol=1e-5)
    assert quiet.attributions["waveform"].relative_gap[0] < 0.05


def test_one_layer_in_full_adds_up_to_that_layer(three_paths):
    detail = three_paths.values("layers", "layer_1")
    assert detail.shape == (three_paths.times["layers"].count, 16)
    whole = three_paths.values("layers", "layers")[1]
    assert float(detail.sum()) == pytest.approx(float(whole), rel=0.02, abs=1e-3)


def test_all_classes_at_once_are_the_classes_one_by_one(classifier, clip):
    settings = {"stages": STAGES, "num_baselines": 4, "num_draws": 16}
    together = explain(classifier, clip, target="all", **settings)
    assert together.targets == classifier.labels
    for label in classifier.labels:
        alone = explain(classifier, clip, target=label, **settings)
        for path, view in (("frames", "frames"), ("layers", "layer_neuron"), ("waveform", "band_frame")):
            torch.testing.assert_close(
                together.values(path, view, label), alone.values(path, view), rtol=1e-4, atol=1e-6
            )


def test_a_margin_is_the_difference_of_two_logits(classifier, clip):
    settings = {"stages": ["frames"], "num_baselines": 4, "score": "logit"}
    margin = explain(classifier, clip, target="happy-vs-sad", **settings)
    happy, sad = (explain(classifier, clip, target=label, **settings) for label in ("happy", "sad"))
    assert margin.targets == ("happy-vs-sad",)
    assert margin.score["happy-vs-sad"] == pytest.approx(happy.score["happy"] - sad.score["sad"], abs=1e-5)
    found = margin.values("frames", "frames")
    expected = happy.values("frames", "frames") - sad.values("frames", "frames")
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()  # each has its own correction


@pytest.mark.parametrize("method", SPAN_METHODS)
def test_methods_that_remove_spans_are_asked_for_by_name_and_drawn(method, classifier, clip, tmp_path):
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


@pytest.mark.parametrize(
    ("spans", "method", "least"), [(4, "kernel_shap", 28), (6, "kernel_shap", 64), (4, "lime", 64)]
)
def test_the_fewest_evaluations_are_named_and_suffice(classifier, clip, spans, method, least):
    settings = {"method": method, "stages": ["frames"], "num_spans": spans, "num_baselines": 2}
    said = (
        f"num_draws={least - 1}, method='{method}': take at least {least} for {spans} spans and 2 baselines"
    )
    with pytest.raises(SettingError, match=said):
        explain(classifier, clip, target="happy", num_draws=least - 1, **settings)
    assert explain(classifier, clip, target="happy", num_draws=least, **settings).time_stage == "frames"
