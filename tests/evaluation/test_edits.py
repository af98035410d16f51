"""Edits do what they say, where they say; and attributions are held against them."""

from __future__ import annotations

import math
from itertools import pairwise

import librosa
import numpy as np
import pytest
import torch

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.evaluation.edits import (
    EDITS,
    SHORTEST_SAMPLES,
    change_level,
    change_tempo,
    consistency_of_maps,
    divide,
    edit_span,
    shift_pitch,
    size_agreement,
    tilt_spectrum,
)
from wavshap_lightning.explainer.time_grid import times_of

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


GRID = FrameGrid((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), RATE)


def times_for(num_samples):
    return times_of(GRID, num_samples)["frames"]


def test_maps_of_what_the_score_depends_on_agree_and_their_reverse_disagrees():
    """The score is a weighted sum of the energy of eight spans."""
    clip, times = torch.from_numpy(voice()), times_for(RATE)
    owner, spans = divide(times, RATE)
    weights = torch.tensor([0.0, 3.0, -0.1, 1.0, 0.2, -5.0, 0.5, 2.0])
    edges = [round(span.start_s * RATE) for span in spans] + [RATE]

    def score(sound):
        energy = [sound[start:end].square().sum() for start, end in pairwise(edges)]
        return float((weights * torch.stack(energy)).sum())

    sizes = weights.abs()[owner]
    found = consistency_of_maps(score, clip, times, {"right": -sizes, "wrong": sizes - 9})
    assert found["right"]["consistency_level"] == pytest.approx(1)
    assert found["wrong"]["consistency_level"] == pytest.approx(-1)
    assert found["right"].keys() == {f"consistency_{name}" for name in EDITS}


def test_without_any_effect_there_is_no_agreement():
    found = consistency_of_maps(
        lambda _: 1.0, torch.from_numpy(voice()), times_for(RATE), {"any": torch.arange(49.0)}
    )
    assert all(map(math.isnan, found["any"].values()))


def test_magnitudes_are_compared():
    assert size_agreement(
        torch.tensor([0.0, -9.0, 1.0, 5.0, 2.0]), [0.0, 3.0, 0.1, 1.0, 0.2]
    ) == pytest.approx(1)
    assert size_agreement(
        torch.tensor([9.0, 0.0, 3.0, 1.0, 2.0]), [0.0, 3.0, 0.1, 1.0, 0.2]
    ) == pytest.approx(-1)


@pytest.mark.parametrize("num_samples", [*range(3000, 10_000, 97), 16_000])
def test_spans_cover_the_clip_and_hold_two_windows_of_the_vocoder_where_more_would_not(num_samples):
    """At hops as long as WavLM's a span may fall a third short of its share of the clip."""
    times = times_for(num_samples)
    divided = divide(times, num_samples)
    if divided is None:
        assert num_samples < 3 * 1.6 * SHORTEST_SAMPLES
        return
    owner, spans = divided
    assert (spans[0].start_s, spans[-1].end_s) == (0.0, num_samples / RATE)
    assert all(first.end_s == second.start_s for first, second in pairwise(spans))
    assert (
        min(round(span.end_s * RATE) - round(span.start_s * RATE) for span in spans)
        >= SHORTEST_SAMPLES
        == 1024
    )
    assert len(spans) == 8 or (len(spans) + 1) * SHORTEST_SAMPLES > num_samples / 1.6
    for place, at_s in zip(owner.tolist(), times.center_s(), strict=True):
        assert spans[place].start_s <= at_s < spans[place].end_s


def test_a_clip_too_short_for_three_spans_has_no_such_metrics():
    found = consistency_of_maps(lambda _: 1.0, torch.ones(2500), times_for(2500), {"any": torch.ones(7)})
    assert found == {"any": {}}


def test_frames_of_silence_after_the_clip_belong_to_no_span():
    clip, padded = torch.from_numpy(voice()), FrameGrid((400,), (320,), RATE, max_frames=150, fixed=True)
    owner, spans = divide(times_of(padded, RATE)["frames"], RATE)
    assert (spans[0].start_s, spans[-1].end_s, len(spans)) == (0, 1, 8)
    values = torch.arange(150.0)
    found = [
        consistency_of_maps(lambda sound: float(sound[:4000].square().sum()), clip, times, {"any": one})
        for times, one in (
            (times_of(padded, RATE)["frames"], values),
            (times_of(padded, RATE)["frames"], torch.cat([values[: len(owner)], -values[len(owner) :]])),
        )
    ]
    assert found[0] == found[1]
    assert not any(map(math.isnan, found[0]["any"].values()))
