"""Laws of what is drawn before anything is planted: labels and parts say nothing of the recordings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from scipy import stats

from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.errors import CorpusError
from wavshap_lightning.planted.into_recordings import (
    check_speakers,
    draw_labels,
    part_of_speaker,
)
from wavshap_lightning.planted.into_recordings import (
    open_source_of as open_source,
)

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "surprised")
EMOTIONS = ("angry", "calm", "happy")


def recordings(num_speakers=6, per_emotion=7):
    return [
        Clip(Path(f"{who}/{emotion}-{take}.wav"), emotion, speaker=f"s{who}", corpus="toy")
        for who, emotion, take in product(range(num_speakers), EMOTIONS, range(per_emotion))
    ]


def test_every_label_comes_equally_often_with_every_speaker():
    clips = recordings()
    labels = draw_labels(clips, LABELS, 0)
    for speaker in {clip.speaker for clip in clips}:
        own = Counter(label for clip, label in zip(clips, labels, strict=True) if clip.speaker == speaker)
        assert set(own) == set(LABELS)
        assert max(own.values()) - min(own.values()) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_the_label_of_a_recording_says_nothing_about_the_planted_one(seed):
    clips = recordings(num_speakers=20)
    pairs = Counter(zip((clip.label for clip in clips), draw_labels(clips, LABELS, seed), strict=True))
    table = [[pairs[emotion, label] for label in LABELS] for emotion in EMOTIONS]
    assert stats.chi2_contingency(table).pvalue > 0.2
    assert stats.chi2_contingency(table).statistic < 10  # on average what chance gives with 10 degrees


def test_labels_depend_on_the_seed_and_on_nobody_else():
    clips = recordings()
    assert draw_labels(clips, LABELS, 0) == draw_labels(clips, LABELS, 0) != draw_labels(clips, LABELS, 1)
    alone = [clip for clip in clips if clip.speaker == "s3"]
    together = [
        label for clip, label in zip(clips, draw_labels(clips, LABELS, 0), strict=True) if clip in alone
    ]
    assert draw_labels(alone, LABELS, 0) == together


def test_parts_are_drawn_by_seed_and_share_no_speaker():
    clips = recordings(num_speakers=12)
    parts = [part_of_speaker(clips, seed) for seed in range(5)]
    assert all(Counter(found.values()) == {"train": 8, "validation": 2, "test": 2} for found in parts)
    assert len({tuple(sorted(found.items())) for found in parts}) > 1
    assert part_of_speaker(list(reversed(clips)), 0) == parts[0]


def test_parts_that_keep_speakers_apart_are_kept_and_others_are_not():
    clips = recordings(num_speakers=3)
    own = [replace(clip, split=SPLITS[int(clip.speaker[1])]) for clip in clips]
    assert part_of_speaker(own, 0) == {"s0": "train", "s1": "validation", "s2": "test"}
    mixed = [replace(clip, split=SPLITS[index % 3]) for index, clip in enumerate(clips)]
    assert part_of_speaker(mixed, 0) == part_of_speaker(clips, 0)


def test_unknown_and_few_speakers_are_refused():
    clips = recordings(num_speakers=2)
    with pytest.raises(CorpusError, match=r"toy: speakers=\['s0', 's1'\] must be at least 3"):
        check_speakers(clips, "toy")
    with pytest.raises(CorpusError, match=r"1 of 43 recordings have no speaker, the first is path=x.wav"):
        check_speakers([*clips, Clip(Path("x.wav"), "calm")], "toy")


@pytest.fixture
def folder(tmp_path):
    """A corpus of files that hold no sound."""
    for who, emotion, take in product("abcd", EMOTIONS, range(3)):
        path = tmp_path / emotion / f"{who}_{take}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{who}{emotion}{take}")
    return tmp_path


def opened(folder, **more):
    return open_source("folders", folder, options={"speaker_pattern": "/(?P<speaker>[a-d])_"}, **more)


def test_recordings_can_be_chosen_by_label_and_number(folder):
    assert len(opened(folder).clips) == 36
    calm = opened(folder, labels=["calm"], clips_per_speaker=2, seed=1).clips
    assert {clip.label for clip in calm} == {"calm"}
    assert Counter(clip.speaker for clip in calm) == dict.fromkeys("abcd", 2)
    assert calm != opened(folder, labels=["calm"], clips_per_speaker=2, seed=2).clips


def test_recordings_of_one_name_in_different_folders_are_chosen_independently(tmp_path):
    """As sessions name their takes alike."""
    for who, take, session in product("abcd", range(8), ("first", "second")):
        path = tmp_path / "calm" / session / f"{who}_{take}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no sound")
    options = {"speaker_pattern": "/(?P<speaker>[a-d])_"}
    clips = open_source("folders", tmp_path, options=options).clips
    assert len(clips) == 64
    assert len({clip.name for clip in clips}) == 32
    chosen = open_source("folders", tmp_path, options=options, clips_per_speaker=8).clips
    assert any(count == 1 for count in Counter(clip.name for clip in chosen).values())


def test_a_label_that_is_not_there_is_refused(folder):
    with pytest.raises(
        CorpusError, match=r"source_labels=\['bored'\] .* missing=\['bored'\], found angry, calm"
    ):
        opened(folder, labels=["bored"])


def test_a_source_is_known_again_unless_something_changed(folder):
    before = opened(folder).sha256
    assert opened(folder).sha256 == before
    (folder / "calm/a_0.wav").write_text("louder")
    assert opened(folder).sha256 != before
