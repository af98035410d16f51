"""Explanations in acoustic cues, of classifiers whose cue is known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from math import factorial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.audio.voice import CUES, analyze_voice, resynthesize
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.explainer.cues import explain_cues, reference_clips
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import Outputs

RATE = 16_000
SHARES = {"pitch_level": 0.85, "pitch_range": 0.55, "loudness": 0.85, "tempo": 0.85, "spectrum": 0.55}


class Reader(EmotionClassifier):
    """A classifier whose outputs are numbers read from the waveform."""

    def __init__(self, read, labels, task="dimensions", max_frames=None):
        nn.Module.__init__(self)
        self.read, self.labels, self.task = read, tuple(labels), task
        self.outputs = (Outputs(task, self.labels),)
        grid = FrameGrid((400,), (320,), RATE, max_frames=max_frames)
        self.backbone, self.weight = SimpleNamespace(frame_grid=grid), nn.Parameter(torch.zeros(1))
        self.eval()

    def forward(self, waveforms, lengths=None):
        rows = (one[:length].numpy() for one, length in zip(waveforms, lengths, strict=True))
        return torch.tensor([self.read(row) for row in rows], dtype=torch.float64)


@pytest.fixture(scope="module")
def sounds(spoken):
    """A clip and a reference that differ in every cue."""
    return (
        torch.from_numpy(spoken(1.25, 230.0, 7.0, level=0.3, tilt=0.6)),
        torch.from_numpy(spoken(1.0, 180.0, 3.0, level=0.1, tilt=0.95)),
    )


@pytest.fixture(scope="module")
def reader(measured):
    """Five dimensions, each of which is one cue."""
    return Reader(lambda sound: [*measured(sound).values()], CUES)


@pytest.fixture(scope="module")
def found(reader, sounds):
    clip, reference = sounds
    return explain_cues(reader, clip, reference=reference, renderings=2)


def by_orders(explanation):
    """Shapley values by their definition, over all orders of moving cues."""
    moved, mean = explanation.moved, explanation.values.mean(0).tolist()
    values = dict.fromkeys(moved, 0.0)
    for order in permutations(range(len(moved))):
        held = 0
        for place in order:
            values[moved[place]] += (mean[held | 2**place] - mean[held]) / factorial(len(moved))
            held |= 2**place
    return values


@pytest.mark.parametrize("cue", CUES)
def test_a_score_that_reads_one_cue_is_explained_by_it(found, cue):
    effects = {one.cue: abs(one.value) for one in replace(found, target=cue).cues}
    assert effects[cue] / sum(effects.values()) >= SHARES[cue]


@pytest.mark.parametrize("cue", CUES)
def test_rows_sum_to_the_difference_of_two_scores(found, reader, sounds, cue):
    one = replace(found, target=cue)
    own, other = (float(reader(sound[None], [len(sound)])[0, CUES.index(cue)]) for sound in sounds)
    assert sum(one.rows.values()) == pytest.approx(own - other, abs=1e-9)
    assert (one.score, one.reference_score) == (own, other)
    assert [*one.rows] == [*CUES, "resynthesis", "remainder"]


def test_values_are_the_mean_over_all_orders(found):
    values = by_orders(found)
    assert {one.cue: one.value for one in found.cues} == pytest.approx(values, abs=1e-9)


def test_values_are_linear_in_the_score(found):
    values = {name: [one.value for one in replace(found, target=name).cues] for name in ("tempo", "loudness")}
    margin = [one.value for one in replace(found, target="tempo-vs-loudness", score_kind="logit").cues]
    assert margin == pytest.approx(np.subtract(values["tempo"], values["loudness"]))


def test_a_cue_that_does_nothing_has_no_effect_and_two_that_do_the_same_have_the_same(found):
    held = (np.arange(32)[:, None] >> np.arange(5)) % 2
    both = np.stack([held[:, 0] * held[:, 1], held[:, 2]], 1).astype(float)
    names = {"labels": ("both", "one"), "clip_logits": [1.0, 1.0], "reference_logits": [0.0, 0.0]}
    game = replace(found, **names, target="both", logits=[both.tolist()] * 2)
    assert [one.value for one in game.cues] == pytest.approx([0.5, 0.5, 0, 0, 0])
    assert [one.leave_one_out for one in game.cues] == [1, 1, 0, 0, 0]
    together = game.interactions()
    assert together.pop(("pitch_level", "pitch_range")) == pytest.approx(1)
    assert [*together.values()] == pytest.approx([0] * 9)
    assert game.share_explained == pytest.approx(1)
    assert [*replace(game, target="one").interactions().values()] == pytest.approx([0] * 10)


def test_interactions_are_those_of_the_definition(found):
    mean = found.values.mean(0).tolist()
    for (one, other), index in found.interactions().items():
        first, second = (2 ** found.moved.index(cue) for cue in (one, other))
        total = sum(
            factorial(size := held.bit_count())
            * factorial(3 - size)
            / factorial(4)
            * (mean[held | first | second] - mean[held | first] - mean[held | second] + mean[held])
            for held in range(32)
            if not held & (first | second)
        )
        assert index == pytest.approx(total)


def test_an_effect_is_resolved_above_what_shifts_do_that_nobody_hears(found):
    noise = found.values.std(0).max()
    for cue in CUES:
        for one in replace(found, target=cue).cues:
            assert one.resolved == (abs(one.value) > one.half_width)
    assert 0 < found.cues[0].half_width < 10 * noise
    constant = replace(found, logits=[found.logits[0]] * 2)
    assert constant.cues[0].half_width < 1e-9


def test_a_rerun_gives_the_same_bytes(found, reader, sounds):
    clip, reference = sounds
    again = explain_cues(reader, clip, reference=reference, renderings=2)
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.dumps(again.to_dict(), allow_nan=False) == text
    assert json.loads(text)["rows"] == found.rows


def test_the_sound_of_a_combination_has_its_outputs(found, reader):
    for moved in ((), ("tempo",), CUES):
        sound = torch.from_numpy(found.sound(moved))
        heard = reader(sound[None], [len(sound)])[0].tolist()
        held = sum(2**place for place, cue in enumerate(found.moved) if cue not in moved)
        assert found.logits[0][held] == pytest.approx(heard)


@pytest.mark.slow
def test_without_a_reference_clip_rows_sum_to_the_moved_clip(found, reader, sounds, spoken):
    clip, reference = sounds
    other = torch.from_numpy(spoken(hertz=150.0))
    several = explain_cues(reader, clip, reference=[reference, other], renderings=2)
    assert several.reference == "mean of 2 clips"
    given = explain_cues(
        reader, clip, reference=several.reference_measures, reference_name="ours", renderings=2
    )
    assert given.reference == "ours"
    assert given.logits == several.logits
    assert given.remainder is given.share_explained is None
    assert sum(given.rows.values()) == pytest.approx(given.score - given.reference_score, abs=1e-9)


@pytest.mark.slow
def test_a_flat_reference_takes_the_range_of_pitch_alone(reader, sounds):
    flat = explain_cues(reader, sounds[0], reference="flat", renderings=2, target="pitch_range")
    effects = {one.cue: one.value for one in flat.cues}
    assert effects.pop("pitch_range") > 2
    assert not effects
    assert flat.reference_score < 0.5


def test_a_whisper_is_explained_without_pitch(reader, sounds):
    noise = 0.05 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    loud = Reader(lambda sound: [10 * np.log10(np.square(sound).mean())], ["loud"])
    found = explain_cues(loud, noise, reference=sounds[1], renderings=2)
    assert [one.cue for one in found.cues] == ["loudness", "tempo", "spectrum"]
    assert sum(found.rows.values()) == pytest.approx(found.score - found.reference_score)
    told = [one.message for one in found.diagnostics if one.name == "cue_missing"]
    assert [one.split()[0] for one in told] == ["pitch_level", "pitch_range"]
    assert "no F0" in told[0]


@pytest.mark.slow
def test_tempo_is_left_out_where_the_model_takes_no_longer_sound(found, sounds):
    short = Reader(lambda sound: [float(len(sound))], ["length"], max_frames=50)
    longer = replace(found.voice.measures, tempo=2.0)
    found = explain_cues(short, sounds[1], reference=longer, renderings=2)
    assert "longer than the model takes" in found.missing["tempo"]


def names_of(explanation):
    return {one.name for one in explanation.diagnostics}


def test_diagnostics_say_what_is_wrong(found, sounds):
    assert names_of(replace(found, target="tempo")) <= {"bandwidth"}
    assert "turned_down" in names_of(replace(found, num_turned_down=3))
    voice = replace(found.voice, tracker_disagreement=0.2)
    assert "trackers_disagree" in names_of(replace(found, voice=voice))
    far = replace(found.reference_measures, tempo=9.0, spectrum=[-200.0] * 32)
    assert {"stretch", "bandwidth"} <= names_of(replace(found, reference_measures=far))
    logits = [[[1.0, 0.0]] * 31 + [[0.0, 1.0]]] * 2
    classes = {"labels": ("a", "b"), "task": "classes", "score_kind": "log_odds", "target": "a"}
    changed = replace(found, **classes, logits=logits, clip_logits=[1.0, 0.0], reference_logits=[1.0, 0.0])
    assert "resynthesis" in names_of(changed)
    still = replace(changed, logits=[[[0.5, 0.0]] * 32] * 2, reference_logits=[-5.0, 0.0])
    assert "little_explained" in names_of(still)


@pytest.mark.slow
def test_a_classifier_of_classes_is_explained_as_it_scores_each_sound_alone(classifier, spoken):
    clip, reference = (torch.from_numpy(spoken(hertz=hertz)) for hertz in (220.0, 150.0))
    found = explain_cues(classifier, clip, reference=reference, target="sad", renderings=2)
    assert {*found.predictions} <= {*classifier.labels}
    alone = torch.from_numpy(found.sound(("loudness",)))
    with torch.no_grad():
        logits = classifier(alone[None]).double()
    assert found.logits[0][31 - 4] == pytest.approx(logits[0].tolist(), abs=1e-4)
    assert sum(found.rows.values()) == pytest.approx(found.score - found.reference_score, abs=1e-9)


def test_bad_input_is_refused_in_one_line(reader, sounds):
    clip, reference = sounds
    refused = {
        "reference": (SettingError, "renderings=1", {"renderings": 1}),
        "list": (AudioError, "measures: 0 clips", {"reference": []}),
    }
    for error, words, options in refused.values():
        with pytest.raises(error, match=words):
            explain_cues(reader, clip, **{"reference": reference, **options})
    with pytest.raises(AudioError, match="at most 30 s for cues"):
        explain_cues(reader, clip.repeat(30), reference=reference)
    with pytest.raises(AudioError, match="silent"):
        explain_cues(reader, clip * 0, reference=reference)


def test_references_are_other_clips_of_the_speaker():
    def clip(name, label, speaker="ann", text="one"):
        return Clip(Path(name), label, speaker=speaker, corpus="toy", text=text)

    own = clip("a.wav", "angry")
    clips = [
        own,
        clip("b.wav", "neutral", text="two"),
        clip("c.wav", "neutral"),
        clip("d.wav", "neutral", "ben"),
    ]
    assert reference_clips(own, clips, "neutral") == [clips[2]]
    assert reference_clips(clips[2], clips, "neutral") == [clips[1]]
    assert reference_clips(own, clips, "speaker") == clips[1:3]
    assert reference_clips(clip("e.wav", "angry", ""), [clip("f.wav", "neutral", "")], "neutral") == []


def test_analysis_and_synthesis_are_those_of_the_voice(found, sounds):
    voice = analyze_voice(sounds[0].numpy(), RATE)
    assert voice.measures == found.voice.measures
    sound = resynthesize(voice, found.reference_measures, {"tempo": 1.0})
    assert np.array_equal(sound, found.sound(["tempo"]))
