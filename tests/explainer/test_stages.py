"""Stages of a classifier: memoized, in any precision, and the same as the classifier."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer import stages
from wavshap_lightning.explainer.explainer import Explainer, explain
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stages import FREE_BYTES, MAX_MEMOIZED, MemoizedStage, Stages


def test_a_memoized_stage_asks_once_for_a_row_and_never_where_gradients_flow():
    asked = []

    def stage(rows):
        asked.append(len(rows))
        return 2 * rows

    memoized, rows = MemoizedStage(stage), torch.arange(6.0).reshape(3, 2)
    with torch.no_grad():
        assert torch.equal(memoized(rows), 2 * rows)
        assert torch.equal(
            memoized(torch.cat([rows[1:], rows[:1] + 9])), 2 * torch.cat([rows[1:], rows[:1] + 9])
        )
    assert asked == [3, 1]
    followed = rows.clone().requires_grad_()
    assert memoized(followed).requires_grad
    assert asked == [3, 1, 3]


def test_a_memoized_stage_stops_taking_more():
    asked = []
    memoized = MemoizedStage(lambda rows: asked.append(len(rows)) or rows + 1)
    rows = torch.arange(MAX_MEMOIZED + 3.0)[:, None].expand(-1, FREE_BYTES // MAX_MEMOIZED // 4 + 1)
    assert torch.equal(memoized(rows), rows + 1)
    assert sum(asked) == MAX_MEMOIZED + 3
    assert torch.equal(memoized(rows), rows + 1)
    assert sum(asked) == MAX_MEMOIZED + 3 + 3


def counted(classifier, monkeypatch):
    """Clips through the backbone's two stages, by stage and whether a gradient goes back."""
    found = Counter()

    def count(name):
        stage = getattr(classifier.backbone, name)

        def counting(rows, lengths=None):
            found[name, "back" if rows.requires_grad else "forth"] += len(rows)
            return stage(rows, lengths)

        monkeypatch.setattr(classifier.backbone, name, counting)

    count("frontend")
    count("encoder")
    return found


def explain_without_diagnostics(classifier, clip, recordings=(), **settings):
    explainer = Explainer(classifier, ExplainSettings(**settings))
    return explainer.explain(clip, recordings=recordings, check_baselines=False)


@pytest.mark.parametrize("num_draws", [16, MAX_MEMOIZED + 8])
@pytest.mark.parametrize(
    ("names", "backward"),
    [
        (["layers"], {}),
        (["frames"], {"encoder": 1}),
        (["frames", "layers"], {"encoder": 1}),
        (["waveform"], {"frontend": 1, "encoder": 1}),
        (["waveform", "frames", "layers"], {"frontend": 1, "encoder": 2}),
    ],
)
def test_each_baseline_is_encoded_once_and_each_draw_takes_one_pass(
    build_classifier, clip, monkeypatch, names, backward, num_draws
):
    classifier = build_classifier()
    found = counted(classifier, monkeypatch)
    for length, checked in ((len(clip), 3), (len(clip) - 1000, 0)):  # a model is checked once, at any length
        found.clear()
        explain_without_diagnostics(classifier, clip[:length], stages=names, num_draws=num_draws)
        assert found.pop(("frontend", "forth")) == found.pop(("encoder", "forth")) == 1 + num_draws + checked
        assert found == {(stage, "back"): count * num_draws for stage, count in backward.items()}


def test_baselines_whose_layers_are_too_many_to_keep_are_still_classified_once(
    build_classifier, clip, monkeypatch
):
    classifier, num_draws = build_classifier(), MAX_MEMOIZED + 8
    with torch.no_grad():
        frames = classifier.frontend(clip[None])
        assert classifier.encoder(frames).nbytes > 2 * frames.nbytes
    monkeypatch.setattr(stages, "FREE_BYTES", 2 * MAX_MEMOIZED * frames.nbytes)  # the frames of all, no more
    found = counted(classifier, monkeypatch)
    explain_without_diagnostics(classifier, clip, stages=["frames", "layers"], num_draws=num_draws)
    assert found["encoder", "forth"] == 3 + 1 + num_draws


def test_recordings_are_encoded_once_for_all_draws_and_stages(build_classifier, clip, monkeypatch):
    classifier = build_classifier()
    found, others = counted(classifier, monkeypatch), [clip.roll(300), clip.roll(900), clip.flip(0)]
    options = {"stages": ["frames", "layers"], "num_draws": 12, "baselines": "other_clips"}
    explain_without_diagnostics(classifier, clip, others, **options)
    assert found == {
        ("frontend", "forth"): 3 + 1 + 3,
        ("encoder", "forth"): 3 + 1 + 3,
        ("encoder", "back"): 12,
    }


def mixing(states):
    return states.roll(1, 0)


def drawing(states):
    return states + torch.randn_like(states)


@pytest.mark.parametrize("spoil", [mixing, drawing])
@pytest.mark.parametrize("stage", ["waveform", "frames", "layers"])
def test_a_model_that_mixes_its_batch_or_draws_by_chance_is_refused(build_classifier, clip, spoil, stage):
    classifier = build_classifier()
    convolution = classifier.backbone.model.feature_extractor.conv_layers[-1]
    convolution.register_forward_hook(lambda _module, _inputs, states: spoil(states))
    with torch.no_grad():
        classifier.head.mlp[-1].weight *= 100  # so that the logits differ between clips
    for _ in range(2):  # also when it is asked again
        with pytest.raises(AttributionError, match="neither on the rest of its batch nor on chance"):
            explain(classifier, clip, stages=[stage], num_draws=4)


def test_another_precision_is_the_same_weights_and_leaves_the_classifier_alone(classifier, clip):
    before = classifier.backbone.settings
    with torch.no_grad():
        logits = Stages(classifier, "fp32").from_waveforms(clip[None])
        torch.testing.assert_close(logits, classifier(clip[None]))
    assert Stages(classifier, "bf16").frontend._stage.__self__.settings.precision == "bf16"
    assert classifier.backbone.settings is before
