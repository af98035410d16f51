"""Laws of one planted clip: the cue is in its span, and nothing else tells the class."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from scipy import signal, stats

from wavshap_lightning.planted.cues import (
    CUE_OF_LABEL,
    DIFFICULTIES,
    draw_place,
)
from wavshap_lightning.planted.scenes import (
    add_distractors,
    add_lead_in,
    add_lookalikes,
    draw_clip,
)
from wavshap_lightning.planted.voices import VOICES, build_tracks, draw_speaker, draw_syllables

NUM_TWINS = 18
LABELS = tuple(CUE_OF_LABEL)
CUED = tuple(label for label, cue in CUE_OF_LABEL.items() if cue)


def draw(label, seed, **settings):
    speaker = draw_speaker(np.random.default_rng([7, seed]), voice=VOICES[seed % 3])
    return draw_clip(speaker, label, np.random.default_rng([8, seed]), **settings)


@pytest.fixture(scope="module")
def clips():
    """Clips of every label; those with one seed are twins."""
    return {label: [draw(label, seed) for seed in range(NUM_TWINS)] for label in LABELS}


@pytest.fixture(scope="module")
def spans(clips):
    """The span of each seed's cue, in samples; the same for every label."""
    return [slice(round(span.start_s * 16_000), round(span.end_s * 16_000)) for _, (span,) in clips["happy"]]


def rms_db(waveform):
    return 10 * np.log10(np.mean(waveform**2))


def roc_auc(positive, negative):
    """Probability that a positive scores above a negative, from the sum of ranks."""
    ranks = stats.rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return (ranks.mean() - (len(positive) + 1) / 2) / len(negative)


@pytest.mark.parametrize("label", LABELS)
def test_same_generator_same_bytes(clips, label):
    (first, evidence), (again, evidence_again) = clips[label][3], draw(label, 3)
    assert first.tobytes() == again.tobytes()
    assert evidence == evidence_again


def test_another_seed_gives_another_clip(clips):
    assert len({waveform.tobytes() for waveform, _ in clips["neutral"]}) == NUM_TWINS


@pytest.mark.parametrize("label", LABELS)
def test_what_is_drawn_does_not_depend_on_the_label_or_the_strength(label):
    speaker = draw_speaker(np.random.default_rng(0), voice="male")
    states = []
    for other, strength in ((label, 1.0), ("neutral", 1.0), (label, 0.0)):
        generator = np.random.default_rng(5)
        draw_clip(speaker, other, generator, cue_strength=strength)
        states.append(generator.bit_generator.state)
    assert states[0] == states[1] == states[2]


@pytest.mark.parametrize("label", LABELS)
def test_clips_are_sound(clips, label):
    for waveform, _ in clips[label]:
        assert 1.5 <= len(waveform) / 16_000 <= 2.5
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() < 1.0


@pytest.mark.parametrize("label", CUED)
def test_evidence_is_one_span_inside_the_clip(clips, label):
    for waveform, evidence in clips[label]:
        (span,) = evidence
        assert span.kind == CUE_OF_LABEL[label]
        assert 0.3 <= span.end_s - span.start_s <= 0.4
        assert span.start_s >= 0.1
        assert span.end_s <= len(waveform) / 16_000 - 0.1


def test_without_a_cue_there_is_no_evidence(clips):
    assert not any(evidence for _, evidence in clips["neutral"])
    waveform, evidence = draw("angry", 0, cue_strength=0.0)
    assert evidence == ()
    np.testing.assert_array_equal(waveform, clips["neutral"][0][0])


@pytest.mark.parametrize("label", CUED)
def test_twins_differ_in_the_span_alone_and_have_its_energy(clips, spans, label):
    changes = []
    for (cued, _), (plain, _), span in zip(clips[label], clips["neutral"], spans, strict=True):
        different = np.flatnonzero(cued != plain)
        assert span.start <= different.min()
        assert different.max() < span.stop
        assert len(different) > 0.9 * (span.stop - span.start)
        assert rms_db(cued[span]) == pytest.approx(rms_db(plain[span]), abs=1e-3)
        assert rms_db(cued) == pytest.approx(rms_db(plain), abs=1e-3)
        changes.append(rms_db(cued[span] - plain[span]) - rms_db(plain[span]))
    assert np.median(changes) > -12  # not every clip: a dark vowel has little to muffle


def test_one_class_alone_is_a_mixture_too_and_a_factor_is_a_strength(clips):
    for mixture, label, strength in (({"sad": 1.0}, "sad", 1.0), ({"sad": 0.5}, "sad", 0.5)):
        np.testing.assert_array_equal(draw(mixture, 0)[0], draw(label, 0, cue_strength=strength)[0])


def test_mixed_cues_share_one_span_and_each_is_there(clips, spans):
    for seed in range(2):
        mixed, (span,) = draw({"happy": 0.6, "neutral": 0.1, "fearful": 0.3}, seed)
        assert span.kind == "pitch_step+tremor"
        assert slice(round(span.start_s * 16_000), round(span.end_s * 16_000)) == spans[seed]
        for part in ({"happy": 0.6}, {"fearful": 0.3}, {"neutral": 1.0}):
            assert not np.array_equal(mixed, draw(part, seed)[0])
        assert np.flatnonzero(mixed != clips["neutral"][seed][0]).min() >= spans[seed].start


def draw_speech(seed, span_s=(0.3, 0.4)):
    """A generator, syllables, their control tracks and the place of a cue in them."""
    rng = np.random.default_rng(seed)
    speaker = draw_speaker(rng, voice=VOICES[seed % 3])
    syllables = draw_syllables(speaker, 2.0, rng)
    tracks = build_tracks(syllables, speaker, 2.0, rng)
    return rng, syllables, tracks, draw_place(tracks, span_s, rng)


def test_the_span_is_mostly_voiced():
    shares = []
    for seed in range(NUM_TWINS):
        _, _, tracks, place = draw_speech(seed)
        shares.append(np.mean(tracks.voicing[place.start : place.stop] > 0.1))
    assert min(shares) > 0.7
    assert np.mean(shares) > 0.9


def test_distractors_keep_clear_of_the_span_and_come_in_every_kind():
    louder, pauses, sounding = 0, 0, 0
    for seed in range(NUM_TWINS):
        rng, syllables, tracks, place = draw_speech(seed)
        changed, sounds = add_distractors(tracks, syllables, place, rng)
        inside = slice(place.start, place.stop)
        np.testing.assert_allclose(changed.gain[inside], tracks.gain[inside], atol=1e-6)
        assert not sounds[16 * place.start : 16 * place.stop].any()
        louder += changed.gain.max() > 1.5
        pauses += changed.gain.min() < 0.1
        sounding += sounds.any()
    assert louder > 0.9 * NUM_TWINS
    assert 0 < pauses < NUM_TWINS
    assert 0 < sounding <= NUM_TWINS


@pytest.mark.parametrize("label", CUED)
def test_loudness_does_not_show_where_the_evidence_is(clips, label):
    """Class by class: the mean over all of them would hide a leak in one."""
    aucs = []
    for waveform, (span,) in clips[label]:
        level = librosa.feature.rms(y=waveform, frame_length=400, hop_length=320, center=False)[0]
        center_s = (np.arange(len(level)) * 320 + 200) / 16_000
        inside = (center_s >= span.start_s) & (center_s < span.end_s)
        aucs.append(roc_auc(level[inside], level[~inside]))
    assert 0.4 <= np.mean(aucs) <= 0.6


def pitch_semitones(waveform):
    f0_hz = librosa.yin(waveform, fmin=55, fmax=700, sr=16_000, frame_length=1_024, hop_length=160)
    return np.median(12 * np.log2(f0_hz))


def pitch_above_rest(waveform, span):
    """Speakers differ by more than any cue."""
    return pitch_semitones(waveform[span]) - pitch_semitones(np.delete(waveform, np.r_[span]))


def modulation_db(low_hz, high_hz):
    """Strongest modulation of the voice's envelope in a band, relative to its mean."""

    def measure(waveform, span):
        envelope = librosa.feature.rms(y=waveform[span], frame_length=128, hop_length=32, center=False)[0]
        frequency_hz, power = signal.periodogram(envelope, 500.0, window="hann", nfft=1_024)
        band = (frequency_hz >= low_hz) & (frequency_hz <= high_hz)
        return 10 * np.log10(power[band].max() / envelope.mean() ** 2)

    return measure


def low_band_db(waveform, span):
    frequency_hz, power = signal.welch(waveform[span], 16_000, nperseg=512)
    return 10 * np.log10(power[frequency_hz < 800].sum() / power[frequency_hz > 1_200].sum())


def front_vowel_db(waveform, span):
    """How much stronger the second formant of an i is in the middle third than in the outer ones."""
    thirds = np.array_split(waveform[span], 3)
    first, middle, last = (band_share_db(third, 1_900.0, 3_600.0) for third in thirds)
    return middle - (first + last) / 2


def band_share_db(waveform, low_hz, high_hz):
    frequency_hz, power = signal.welch(waveform, 16_000, nperseg=512)
    inside = (frequency_hz >= low_hz) & (frequency_hz <= high_hz)
    return 10 * np.log10(power[inside].sum() / power.sum())


MEASURES = [
    pytest.param("happy", pitch_above_rest, 1, id="happy"),
    pytest.param("sad", low_band_db, 1, id="sad"),
    pytest.param("fearful", modulation_db(6, 10), 1, id="fearful"),
    pytest.param("angry", modulation_db(38, 72), 1, id="angry"),
    pytest.param("surprised", modulation_db(17, 25), 1, id="surprised"),
    pytest.param("disgust", front_vowel_db, 1, id="disgust"),
]


@pytest.mark.parametrize(("label", "measure", "sign"), MEASURES)
def test_the_cue_is_measured_in_the_span(clips, spans, label, measure, sign):
    cued, plain = (
        np.array([measure(waveform, span) for (waveform, _), span in zip(clips[name], spans, strict=True)])
        for name in (label, "neutral")
    )
    assert roc_auc(sign * cued, sign * plain) > 0.9
    assert np.mean(sign * (cued - plain) > 0) > 0.9


@pytest.mark.parametrize(("label", "measure", "sign"), MEASURES)
def test_a_stronger_cue_measures_more(clips, spans, label, measure, sign):
    weak = [draw(label, seed, cue_strength=0.3)[0] for seed in range(6)]
    strong = [waveform for waveform, _ in clips[label][:6]]
    gains = [measure(s, span) - measure(w, span) for s, w, span in zip(strong, weak, spans, strict=False)]
    assert np.mean(sign * np.array(gains) > 0) > 0.8


@pytest.mark.parametrize("label", CUED)
def test_a_vanishing_cue_changes_nothing(clips, label):
    plain = clips["neutral"][2][0]
    hardly_cued, _ = draw(label, 2, cue_strength=1e-7)
    assert rms_db(hardly_cued - plain + 1e-12) < rms_db(plain) - 65


SPANS_S = {"easy": (0.3, 0.4), "medium": (0.2, 0.3), "hard": (0.1, 0.2)}


@pytest.mark.parametrize(("difficulty", "span_s"), SPANS_S.items(), ids=list(SPANS_S))
def test_the_harder_the_shorter_and_the_weaker(difficulty, span_s):
    for seed in range(6):
        (cued, (span,)), (plain, _) = (
            draw(label, seed, difficulty=difficulty) for label in ("angry", "neutral")
        )
        assert span_s[0] <= round(span.end_s - span.start_s, 6) <= span_s[1]
        inside = slice(round(span.start_s * 16_000), round(span.end_s * 16_000))
        assert np.array_equal(np.delete(cued, np.r_[inside]), np.delete(plain, np.r_[inside]))


TRACKS = ("f0_hz", "gain", "jitter", "low_cut_db", "formants_hz")


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_lookalikes_keep_clear_of_the_span(difficulty):
    num_changed = 0
    for seed in range(NUM_TWINS):
        rng, _, tracks, place = draw_speech(seed, DIFFICULTIES[difficulty].span_s)
        changed = add_lookalikes(tracks, DIFFICULTIES[difficulty].num_lookalikes, place, rng)
        inside = slice(place.start, place.stop)
        assert all(
            np.array_equal(getattr(changed, name)[inside], getattr(tracks, name)[inside]) for name in TRACKS
        )
        num_changed += any(
            not np.array_equal(getattr(changed, name), getattr(tracks, name)) for name in TRACKS
        )
    expected = 0.0 if difficulty == "easy" else 0.9
    assert num_changed >= expected * NUM_TWINS
    assert num_changed == 0 or difficulty != "easy"


@pytest.mark.parametrize("tone", [False, True])
def test_a_lead_in_comes_before_the_clip(clips, tone):
    waveform, _ = clips["happy"][0]
    longer = add_lead_in(waveform, 0.25, np.random.default_rng(0), tone=tone)
    assert np.array_equal(longer[4_000:], waveform)
