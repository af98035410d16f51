"""Edits do what they say, where they say; and attributions are held against them."""

from __future__ import annotations

import math

import librosa
import numpy as np
import pytest
import torch

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.evaluation.edits import (
    EDITS,
    change_level,
    change_tempo,
    edit_span,
    observe,
    shift_pitch,
    size_agreement,
    tilt_spectrum,
)

RATE = 16_000
MIDDLE = Span(0.4, 0.7)


def voice(hertz=150.0, seconds=1.0):
    at_s = np.arange(int(seconds * RATE)) / RATE
    return (0.1 * sum(np.sin(2 * np.pi * hertz * k * at_s) / k for k in range(1, 20))).astype(np.float32)


def pitch_of(sound):
    return float(np.median(librosa.yin(sound, fmin=80, fmax=400, sr=RATE)))


def tilt_of(sound):
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    return 10 * np.log10(power[hertz > 1000].sum() / power[hertz <= 1000].sum())


def test_pitch_goes_up_and_the_length_stays():
    shifted = shift_pitch(voice(), RATE, 3.0)
    assert pitch_of(shifted) / pitch_of(voice()) == pytest.approx(2 ** (3 / 12), rel=0.02)
    assert len(shifted) == RATE


def test_tempo_changes_the_length_and_not_the_pitch():
    slower = change_tempo(voice(), RATE, 0.8)
    assert len(slower) == pytest.approx(RATE / 0.8, rel=0.01)
    assert pitch_of(slower) == pytest.approx(pitch_of(voice()), rel=0.02)


def test_level_and_tilt():
    assert np.abs(change_level(voice(), RATE, -6.0)).max() == pytest.approx(
        np.abs(voice()).max() * 10 ** (-0.3), rel=1e-5
    )
    duller = tilt_spectrum(voice(), RATE, -6.0)
    assert tilt_of(duller) < tilt_of(voice()) - 6
    assert np.mean(duller**2) == pytest.approx(np.mean(voice() ** 2), rel=1e-4)


@pytest.mark.parametrize("name", EDITS)
def test_outside_the_span_the_clip_stays_and_seams_do_not_click(name):
    clip = torch.from_numpy(voice())
    edited = edit_span(clip, MIDDLE, EDITS[name], RATE)
    start, end = int(0.4 * RATE), int(0.7 * RATE)
    torch.testing.assert_close(edited[:start], clip[:start])
    torch.testing.assert_close(edited[len(edited) - (RATE - end) :], clip[end:])
    assert not torch.equal(edited[start:end], clip[start:end])
    assert (len(edited) == len(clip)) == (name != "tempo")
    steps = edited.diff().abs()
    assert float(steps[start - 2 : start + 2].max()) <= 1.5 * float(clip.diff().abs().max())


def test_what_is_heard_in_one_span_is_found_there():
    """The score hears the second and, less, the fourth of five spans; edits make them softer."""
    spans = [Span(k / 5, (k + 1) / 5) for k in range(5)]
    weights = (0.0, 3.0, 0.1, 1.0, 0.2)
    edges = [int(span.start_s * RATE) for span in spans]

    def score(sound):
        parts = [sound[edge : edge + RATE // 5].square().mean() for edge in edges]
        return float(sum(weight * part for weight, part in zip(weights, parts, strict=True)))

    clip = torch.from_numpy(voice())
    asked = {"edit": EDITS["level"], "sample_rate": RATE}
    observed = observe(score, clip, spans, **asked)
    assert max(range(5), key=observed.__getitem__) == 1
    assert size_agreement(torch.tensor([0.0, -9.0, 1.0, 5.0, 2.0]), observed) == pytest.approx(1)
    assert size_agreement(torch.tensor([9.0, 0.0, 3.0, 1.0, 2.0]), observed) == pytest.approx(-1)
    deaf = observe(lambda _: 1.0, clip, spans, **asked)
    assert deaf == (0, 0, 0, 0, 0)
    assert math.isnan(size_agreement(torch.arange(5.0), deaf))
