"""Silence that a model adds to a clip: counted in all sums, one number in words, and not drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.compare import check_comparable
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pretrained import PretrainedSpeechModel
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.figures import plot
from wavshap_lightning.viz.sound import split_by_attribution

# A clip of 0.4 s in a window of one second: 50 frames, of which 20 have their centers in the clip and one
# more at its end.
SHAPE = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
NUM_FRAMES, NUM_WITHIN = 50, 21


def open_classifier(**settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WhisperEncoder(WhisperConfig(**SHAPE, max_source_positions=NUM_FRAMES))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        backbone = SpeechBackbone(PretrainedSpeechModel(model, name="small"), **settings)
        return EmotionClassifier(backbone, ["angry", "happy", "sad"]).eval()


@pytest.fixture(scope="module")
def waveform():
    noise = torch.randn(6400, generator=torch.Generator().manual_seed(1))
    return noise * torch.linspace(0.01, 0.3, 6400)


@pytest.fixture(scope="module")
def explanation(waveform):
    stages = ("frames", "layers", "waveform")
    return explain(open_classifier(), waveform, target="happy", stages=stages, num_baselines=2, num_draws=16)


def test_one_model_with_and_without_padding_is_not_compared():
    with pytest.raises(
        SettingError, match=r"'small' \(pad_to_window=True, 16000 Hz\) and 'small' \(pad_to_window=F"
    ):
        check_comparable(open_classifier(), open_classifier(pad_to_window=False))


def test_recordings_as_baselines_may_be_longer_than_the_window(waveform):
    recording = torch.randn(20_000, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)
    asked = {"baselines": "other_clips", "target": "sad", "stages": ("layers",)}
    longer, cut = (
        explain(open_classifier(), waveform, recordings=[one], num_draws=2, **asked).values(
            "layers", "layers"
        )
        for one in (recording, recording[: len(waveform)])
    )
    assert torch.equal(longer, cut)


def test_the_padding_counts_in_every_sum(explanation):
    frames = explanation.values("frames", "frames")
    assert len(frames) == NUM_FRAMES
    assert frames[NUM_WITHIN:].abs().sum() > 0.01 * frames.abs().sum()
    found = explanation.attributions["frames"]
    assert float(frames.sum()) == pytest.approx(found.score[0] - found.mean_baseline_score[0], rel=1e-4)


def test_its_share_stands_apart_and_in_words(explanation):
    frames, shares = explanation.values("frames", "frames"), explanation.shares()
    assert list(shares) == ["speech", "pause", "edges", "padding"]
    assert sum(shares.values()) == pytest.approx(1)
    padding = frames[NUM_WITHIN:]
    assert shares["padding"] == pytest.approx(float(padding.abs().sum() / frames.abs().sum()))
    (note,) = (one for one in explanation.diagnostics["happy"] if one.name == "attribution_to_padding")
    assert note.value == pytest.approx(shares["padding"])
    assert f"{shares['padding']:.0%} of the magnitude" in note.message
    assert f"{float(padding.sum()):+.3g} in sum" in note.message
    assert explanation.to_dict()["padded_s"] == pytest.approx(1.0)


def test_frames_are_counted_in_the_clip_alone(waveform):
    found = explain(open_classifier(), waveform, stages=("frames",), target="happy", num_draws=2)
    (doubt,) = (one for one in found.diagnostics["happy"] if one.name == "unresolved_frames")
    assert f"of {NUM_WITHIN} frames are resolved" in doubt.message


def test_nothing_of_it_is_drawn(explanation, waveform):
    saved = explanation.to_saved_clip()
    for view in (ClipView.from_explanation(explanation, waveform), ClipView.from_saved(saved, "clip")):
        for name in ("frames", "layer_frame"):
            units = view.units(name)
            assert units.values.shape[-1] == NUM_WITHIN == units.times.count
            assert (units.times.center_s() <= 0.4).all()
        assert view.units("frames").names[0] == "0.000\N{EN DASH}0.033 s"
        assert view.units("waveform").times.count == 20
    figure = plot(explanation, waveform)
    (axes,) = (one for one in figure.axes if one.get_label() == "frames")
    assert axes.get_xlim() == (0, 0.4)
    caption = next(one for one in figure.axes if one.get_label() == "caption").texts[0].get_text()
    assert "The model adds silence to the clip." in caption


def test_layers_alone_are_not_spread_over_the_clip(waveform):
    found = explain(open_classifier(), waveform, stages=("layers",), num_baselines=2, num_draws=4)
    view = ClipView.from_saved(found.to_saved_clip(), "clip")
    assert view.units("layer_frame").times.count == view.units("frames").times.count == NUM_WITHIN


def test_the_strongest_frames_are_of_the_clip(explanation, waveform):
    for view in ("frames", "layer_frame"):
        rows = explanation.top(view, k=1000, stage={"frames": "frames"}.get(view))
        assert {row["frame"] for row in rows} == {*range(NUM_WITHIN)}
    frames = explanation.values("frames", "frames").numpy().copy()
    frames[NUM_WITHIN:] = 1e3
    parts = split_by_attribution(waveform.numpy(), frames, explanation.times["frames"], share=0.05)
    assert np.abs(parts["kept"]).max() > 0


@pytest.mark.parametrize("method", ["shapley", "occlusion"])
def test_spans_divide_the_clip_and_the_padding_is_one_more(method, waveform):
    found = explain(
        open_classifier(), waveform, stages=("frames",), method=method, num_spans=4, num_baselines=2
    )
    values = found.values("frames", "frames")
    assert len(values[:NUM_WITHIN].unique()) == 4
    assert len(values[NUM_WITHIN:].unique()) == 1


def test_without_the_window_there_is_none(waveform):
    found = explain(open_classifier(pad_to_window=False), waveform, num_baselines=2, num_draws=4)
    assert len(found.frame_values()) == 20
    assert list(found.shares()) == ["speech", "pause", "edges"]
    assert "padded_s" not in found.to_dict()
