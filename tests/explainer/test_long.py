"""Laws of long recordings: explained piece by piece, they are explained as they would be in one piece."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.settings import STAGES, ExplainSettings
from wavshap_lightning.explainer.stages import LONG_S, logits_of, open_stages, window_frames
from wavshap_lightning.models import attention

SAMPLE_RATE = 16_000
SHORT_S = 0.02
VIEWS = {"frames": "frames", "layers": "layer_frame", "waveform": "band_frame"}


@pytest.fixture(autouse=True)
def few_queries_at_once(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK_SCORES", 2000)


@pytest.mark.parametrize(
    ("norm", "head"), [("group", {}), ("layer", {"pooling": "attentive"}), ("layer", {"layer": 0})]
)
def test_piece_by_piece_every_path_comes_to_the_same(build_classifier, clip, norm, head):
    classifier, settings = (
        build_classifier(norm, **head),
        {"stages": STAGES, "num_baselines": 2, "num_draws": 4},
    )
    whole = explain(classifier, clip, "all", **settings)
    pieces = explain(classifier, clip, "all", window_s=SHORT_S, **settings)
    assert pieces.times == whole.times
    np.testing.assert_allclose(pieces.logits, whole.logits, rtol=1e-4, atol=1e-5)
    for path, view in VIEWS.items():
        for label in classifier.labels:
            expected = whole.values(path, view, label)
            difference = (pieces.values(path, view, label) - expected).norm() / expected.norm()
            assert difference <= 1e-4, (path, label)


@pytest.mark.parametrize("path", STAGES)
def test_attributions_are_complete(classifier, clip, path):
    found = explain(classifier, clip, "sad", stages=[path], window_s=SHORT_S, num_draws=4).attributions[path]
    explained = found.score[0] - found.mean_baseline_score[0]
    assert float(found.sums(next(iter(found.views)))[0]) == pytest.approx(explained, rel=1e-5, abs=1e-6)


def test_the_same_seed_gives_the_same_and_chunks_change_nothing(classifier, clip):
    first, again, others = (
        explain(classifier, clip, "sad", stages=["frames"], window_s=SHORT_S, num_draws=8, chunk_size=size)
        for size in (4, 4, 3)
    )
    values = [one.values("frames", "frames") for one in (first, again, others)]
    assert torch.equal(values[0], values[1])
    torch.testing.assert_close(values[2], values[0], rtol=1e-4, atol=1e-7)


def test_a_window_that_holds_the_whole_clip_leaves_it_in_one_piece(classifier, clip):
    seconds = len(clip) / SAMPLE_RATE
    whole = explain(classifier, clip, "sad", stages=["frames"], num_draws=8)
    same = explain(classifier, clip, "sad", stages=["frames"], num_draws=8, window_s=seconds)
    assert torch.equal(same.values("frames", "frames"), whole.values("frames", "frames"))


@pytest.mark.parametrize(("extra", "in_pieces"), [(-1, False), (0, False), (1, True)])
def test_only_what_is_longer_than_a_window_is_cut(classifier, extra, in_pieces):
    grid = classifier.backbone.frame_grid
    asked = window_frames(ExplainSettings(window_s=0.5), grid, SAMPLE_RATE // 2 + extra)
    by_itself = window_frames(ExplainSettings(), grid, int(LONG_S * SAMPLE_RATE) + extra)
    assert (asked is not None, by_itself is not None) == (in_pieces, in_pieces)
    assert asked in (None, SAMPLE_RATE // 2 // grid.hop_samples)


def test_a_window_shorter_than_a_frame_holds_one(classifier):
    assert window_frames(ExplainSettings(window_s=1e-9), classifier.backbone.frame_grid, 1900) == 1


def test_prediction_and_explanation_agree(classifier, clip):
    settings = ExplainSettings(stages=["frames"], window_s=SHORT_S, num_draws=4)
    found = explain(classifier, clip, "sad", stages=["frames"], window_s=SHORT_S, num_draws=4)
    assert logits_of(classifier, clip, settings).tolist() == pytest.approx(found.logits, rel=1e-6)
    torch.testing.assert_close(logits_of(classifier, clip), classifier(clip[None])[0].detach())


def test_no_path_but_that_from_the_layers_holds_all_layers(classifier, clip):
    with leave_no_trace(classifier):
        stages = open_stages(classifier, window_frames=9)
        layers = []
        stages.encoder._stage = layers.append
        stages.from_waveforms(clip[None])
    assert not layers


def test_layers_that_take_too_much_memory_are_refused_and_the_rest_is_explained(
    classifier, clip, monkeypatch
):
    monkeypatch.setattr("wavshap_lightning.explainer.stages.MAX_LAYERS_BYTES", 20 * 4 * 3 * 16)
    with pytest.raises(SettingError, match="leave 'layers' out"):
        explain(classifier, clip, "sad", stages=["frames", "layers"], num_draws=4)
    assert explain(classifier, clip, "sad", stages=["frames"], num_draws=4).score


def test_the_settings_are_kept(classifier, clip):
    found = explain(classifier, clip, "sad", stages=["frames"], window_s=SHORT_S, num_draws=4)
    assert found.to_dict()["settings"]["window_s"] == SHORT_S
    assert ExplainSettings.from_dict(found.settings.to_dict()) == found.settings


@pytest.mark.parametrize("window_s", [0.0, -1.0, float("nan"), float("inf")])
def test_windows_without_a_length_are_refused(window_s):
    with pytest.raises(SettingError, match="window_s="):
        ExplainSettings(window_s=window_s)
