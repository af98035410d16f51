"""Stages of a classifier: memoized, in any precision, and the same as the classifier."""

from __future__ import annotations

import torch

from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.stages import MAX_MEMOIZED, MemoizedStage, Stages


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
    rows = torch.arange(MAX_MEMOIZED + 3.0)[:, None]
    assert torch.equal(memoized(rows), rows + 1)
    assert sum(asked) == MAX_MEMOIZED + 3
    assert torch.equal(memoized(rows), rows + 1)
    assert sum(asked) == MAX_MEMOIZED + 3 + 3


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
