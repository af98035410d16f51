"""Laws of the three paths: the same baselines, the same total, every kind of units complete."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.estimation.problem import attribute
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.views.frames import summed
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.stages import MemoizedStage, Stages

STAGES = ("frames", "layers", "waveform")
UNITS = [
    ("frames", "frames"),
    ("frames", "segments"),
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
    assert found.top_layers(1)[0].unit == 2


def test_the_normalisation_is_inside_the_graph(build_classifier, clip):
    """Louder in the waveform is the same to a classifier that divides the level out."""
    classifier = build_classifier(normalize=True)
    settings = {"stages": ["waveform"], "num_baselines": 4, "num_draws": 512}
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
    settings = {"stages": STAGES, "num_baselines": 4}
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


def test_a_remembering_stage_asks_once_for_a_row_and_never_where_gradients_flow():
    asked = []

    def stage(rows):
        asked.append(len(rows))
        return 2 * rows

    remembering, rows = MemoizedStage(stage), torch.arange(6.0).reshape(3, 2)
    with torch.no_grad():
        assert torch.equal(remembering(rows), 2 * rows)
        assert torch.equal(
            remembering(torch.cat([rows[1:], rows[:1] + 9])), 2 * torch.cat([rows[1:], rows[:1] + 9])
        )
    assert asked == [3, 1]
    followed = rows.clone().requires_grad_()
    assert remembering(followed).requires_grad
    assert asked == [3, 1, 3]


def test_a_remembering_stage_stops_taking_more():
    asked = []
    remembering = MemoizedStage(lambda rows: asked.append(len(rows)) or rows + 1, max_rows=2)
    rows = torch.arange(5.0)[:, None]
    assert torch.equal(remembering(rows), rows + 1)
    assert torch.equal(remembering(rows), rows + 1)
    assert asked == [5, 3]


def test_baselines_are_encoded_once_for_all_paths(build_classifier, clip, monkeypatch):
    classifier, rows = build_classifier(), []
    frontend = classifier.backbone.frontend

    def counting(waveforms, lengths=None):
        rows.append(len(waveforms) * (not waveforms.requires_grad))
        return frontend(waveforms, lengths)

    monkeypatch.setattr(classifier.backbone, "frontend", counting)
    explain(classifier, clip, stages=["frames", "layers"], num_draws=16)
    # the baselines and the clip; for the diagnostics four baselines of their own and the quieter clip
    assert sum(rows) == 16 + 1 + 4 + 1


def test_another_precision_is_the_same_weights_and_leaves_the_classifier_alone(classifier, clip):
    before = classifier.backbone.settings
    with torch.no_grad():
        logits = Stages(classifier, "fp32").from_waveforms(clip[None])
        torch.testing.assert_close(logits, classifier(clip[None]))
    assert Stages(classifier, "bf16").frontend._stage.__self__.settings.precision == "bf16"
    assert classifier.backbone.settings is before
