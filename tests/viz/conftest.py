"""Explanations made by hand: no model is needed to draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from wavshap_lightning.attribution.record import Attribution, ViewEstimate, tensor_sha256
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.audio.io import hash_audio_file, load_audio, save_audio
from wavshap_lightning.explainer.diagnostics import Diagnostic
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.targets import score_of_task
from wavshap_lightning.explainer.time_grid import band_edges_hz, times_of
from wavshap_lightning.viz.clip_view import ClipView

LABELS = ("neutral", "happy", "sad", "angry")
NUM_SAMPLES = 12_345
GRID = FrameGrid((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), 16_000)
NUM_LAYERS, NUM_NEURONS, NUM_BANDS = 5, 6, 24


@pytest.fixture(scope="session")
def waveform():
    """A tone that swells in noise."""
    rng = np.random.default_rng(0)
    time_s = np.arange(NUM_SAMPLES) / 16_000
    return 0.5 * time_s * np.sin(2 * np.pi * 440 * time_s) + 0.01 * rng.standard_normal(NUM_SAMPLES)


@pytest.fixture(scope="session")
def build_explanation(waveform):
    """`(classes=(1,), paths=..., with_errors=True, seed=0, **fields) -> Explanation`."""

    def build(classes=(1,), paths=("frames", "layers", "waveform"), *, with_errors=True, seed=0, **fields):
        times = times_of(GRID, NUM_SAMPLES)
        drawn = np.random.default_rng(seed)
        settings = ExplainSettings(
            stages=paths, score=score_of_task("log_odds", fields.get("task", "classes"))
        )
        common = {"times": times, "settings": settings, **_sound(waveform), **fields}
        found = {path: _attribution(path, times, classes, drawn, with_errors) for path in paths}
        return Explanation(
            **{"attributions": found, "labels": LABELS, "logits": (0.0, 2.0, 1.0, -1.0), **common}
        )

    return build


@pytest.fixture(scope="session")
def explanation(build_explanation):
    """All three paths, one target."""
    return build_explanation()


@pytest.fixture(scope="session")
def make_sure():
    """`(explanation)`: errors so small that some units are certain to be among the strongest."""

    def make_sure(found):
        attributions = {}
        for stage, one in found.attributions.items():
            views = {name: replace(view, stderr=0.01 * view.stderr) for name, view in one.views.items()}
            attributions[stage] = replace(one, views=views)
        return replace(found, attributions=attributions)

    return make_sure


@pytest.fixture(scope="session")
def sure(build_explanation, make_sure):
    """An explanation some of whose units are certain to be among the strongest."""
    return make_sure(build_explanation())


@pytest.fixture
def on_disk(build_explanation, waveform, tmp_path):
    """An explanation whose clip is a file."""
    path = tmp_path / "clip.flac"
    save_audio(path, waveform)
    assert len(load_audio(path)) == NUM_SAMPLES
    return replace(build_explanation(), clip=str(path), clip_sha256=hash_audio_file(path))


@pytest.fixture(scope="session")
def build_clip(build_explanation, waveform):
    """`(name="clip.wav", label="sad", texts=(), sound=True, **as build_explanation) -> ClipView`."""

    def build(name="clip.wav", label="sad", texts=(), *, sound=True, warnings=(), **wanted):
        explanation = build_explanation(**wanted)
        doubts = tuple(Diagnostic("test", "warning", words) for words in warnings)
        explanation = replace(explanation, diagnostics=dict.fromkeys(explanation.targets, doubts))
        saved = explanation.to_saved_clip(label=label, texts=texts)
        return ClipView.from_saved(saved, name, waveform if sound else None)

    return build


@pytest.fixture(scope="session")
def assert_texts_are_apart():
    """`(figure)`: fails where two texts overlap, or one leaves the page."""

    def check(figure):
        figure.draw_without_rendering()
        page = figure.get_window_extent()
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        boxes = [(text.get_text(), text.get_window_extent().padded(-1.5)) for text in texts]
        for place, (first, one) in enumerate(boxes):
            assert page.x0 <= one.x0 < one.x1 <= page.x1, first
            assert page.y0 <= one.y0 < one.y1 <= page.y1, first
            for second, other in boxes[place + 1 :]:
                assert not one.overlaps(other), (first, second)

    return check


def _sound(waveform):
    return {
        "clip": "",
        "clip_sha256": tensor_sha256(torch.from_numpy(waveform)),
        "sample_rate": 16_000,
        "num_samples": NUM_SAMPLES,
        "band_edges_hz": tuple(band_edges_hz(NUM_BANDS, 16_000)),
        "frame_level_db": torch.linspace(-80.0, -20.0, GRID.num_frames(NUM_SAMPLES)),
    }


def _attribution(path, times, classes, drawn, with_errors):
    count = times[path].count
    shapes = {
        "frames": {"frames": (count,)},
        "layers": {
            "layer_frame": (NUM_LAYERS, count),
            "layers": (NUM_LAYERS,),
            "layer_neuron": (NUM_LAYERS, NUM_NEURONS),
        },
        "waveform": {
            "frames": (count,),
            "band_frame": (NUM_BANDS, times["stft"].count),
            "bands": (NUM_BANDS,),
        },
    }[path]
    views = {name: _view((len(classes), *shape), drawn, with_errors) for name, shape in shapes.items()}
    numbers = tuple(float(place) for place in range(len(classes)))
    return Attribution(
        method="gradient_shap" if with_errors else "saliency",
        estimand="the mean over the distribution of baselines (noise)",
        views=views,
        target=Target("log_odds", classes),
        prediction=1,
        score=numbers,
        mean_baseline_score=numbers if with_errors else None,
        baseline_score_std=tuple(1.0 for _ in classes) if with_errors else None,
        gap=tuple(0.01 for _ in classes) if with_errors else None,
        num_draws=64,
        seed=7 if with_errors else None,
        settings={},
    )


def _view(shape, drawn, with_errors):
    values = torch.from_numpy(drawn.standard_normal(shape))
    errors = torch.from_numpy(drawn.uniform(0.05, 1.0, shape)) if with_errors else None
    return ViewEstimate(values, errors, 30.0)
