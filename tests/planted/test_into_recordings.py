"""Laws of a corpus of recordings with planted cues on disk."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from wavshap_lightning.audio.io import load_audio, save_audio
from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.manifest import read_manifest, read_table
from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.planted.into_recordings import (
    SOURCES,
    PlantedInSettings,
    check_speakers,
    draw_labels,
    ensure_planted_in,
    open_source,
    read_left_out,
    split_of_speakers,
)
from wavshap_lightning.planted.scenes import draw_clip
from wavshap_lightning.planted.voices import draw_speaker

RAVDESS = Path(__file__).parents[2].parent / "shared/data/ravdess"
SPEAKERS, TAKES = ("ann", "ben", "cat"), range(3)
SETTINGS = PlantedInSettings(
    "folders", {"speaker_pattern": "/(?P<speaker>[a-z]+)_"}, labels=("neutral", "angry")
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Speech of three people, one folder a class, and a file of noise."""
    root = tmp_path_factory.mktemp("recordings")
    for (index, who), take in product(enumerate(SPEAKERS), TAKES):
        rng = np.random.default_rng([4, index, take])
        speech, _ = draw_clip(draw_speaker(rng, voice="female"), "neutral", rng)
        save_audio(root / ("calm" if take % 2 else "proud") / f"{who}_{take}.wav", speech)
    save_audio(root / "calm/ann_noise.wav", 0.1 * np.random.default_rng(0).uniform(-1, 1, 16_000))
    (root / "calm/ann_broken.wav").write_bytes(b"RIFF")
    return root


def write(root, recordings, settings=SETTINGS, **more):
    return ensure_planted_in(root, open_source(recordings, settings), settings, **more)


class WritingError(Exception):
    pass


def begins_to_write(root, recordings, settings=SETTINGS):
    """Whether the corpus would be written again; ends at once if so."""

    def stop(done, total):
        raise WritingError

    try:
        write(root, recordings, settings, on_progress=stop)
    except WritingError:
        return True
    return False


@pytest.fixture(scope="module")
def written(recordings, tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    return root, write(root, recordings)


def bytes_below(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_same_settings_same_bytes(written, recordings, tmp_path):
    write(tmp_path, recordings)
    assert bytes_below(tmp_path) == bytes_below(written[0])


def test_the_manifest_lists_what_was_written(written):
    root, clips = written
    assert read_manifest(root / "manifest.jsonl") == clips
    assert {clip.path for clip in clips} == set(root.rglob("*.flac"))
    assert {clip.corpus for clip in clips} == {"planted-in-folders"}
    for clip in clips:
        assert [span.kind for span in clip.evidence] == (["roughness"] if clip.label == "angry" else [])


def test_splits_share_no_speaker_and_hold_every_label(written):
    _, clips = written
    splits = [[clip for clip in clips if clip.split == split] for split in SPLITS]
    assert sum(len({clip.speaker for clip in members}) for members in splits) == len(SPEAKERS)
    assert all({clip.label for clip in members} == set(SETTINGS.labels) for members in splits)


def test_the_table_says_where_each_clip_comes_from(written):
    root, clips = written
    table = read_table(root / SOURCES, required=[])
    rows = {cells["clip"]: cells for cells in table.values() if cells["clip"]}
    assert len(rows) == len(clips)
    for clip in clips:
        cells = rows[clip.path.relative_to(root).as_posix()]
        start, stop = (round(float(cells[name]) * 16_000) for name in ("start_s", "end_s"))
        original = load_audio(cells["source"])[start:stop]
        span = [round(time_s * 16_000) for one in clip.evidence for time_s in (one.start_s, one.end_s)]
        inside = np.r_[slice(*span)] if span else np.array([], dtype=int)
        waveform = load_audio(clip.path)
        assert cells["gain"] == "1"
        assert np.array_equal(np.delete(waveform, inside), np.delete(original, inside))
        assert bool(span) == (not np.array_equal(waveform, original))
        assert Path(cells["source"]).parent.name == cells["source_label"]
        assert Path(cells["source"]).name.split("_")[0] == clip.speaker


def test_recordings_without_a_place_for_a_cue_are_reported(written):
    root, _ = written
    reasons = {path.name: reason for path, reason in read_left_out(root)}
    assert set(reasons) == {"ann_noise.wav", "ann_broken.wav"}
    assert "no 300 ms in a row" in reasons["ann_noise.wav"]
    assert "ann_broken.wav" in reasons["ann_broken.wav"]


def test_progress_counts_every_step(recordings, tmp_path):
    seen = []
    write(tmp_path, recordings, on_progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [*range(1, 12), *range(14, 23)]
    assert {total for _, total in seen} == {22}


def test_a_complete_corpus_is_left_alone(written, recordings):
    root, clips = written
    assert not begins_to_write(root, recordings)
    assert write(root, recordings) == clips


@pytest.mark.parametrize("damaged", ["planted.json", "manifest.jsonl", "sources.csv", "flac"])
def test_a_damaged_or_lost_file_is_written_again(written, recordings, damaged, tmp_path):
    for name, content in bytes_below(written[0]).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[:-9] if name.endswith(damaged) else content)
    assert begins_to_write(tmp_path, recordings)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"difficulty": "hard"}, {"source_labels": ("calm",)}, {"cue_strength": 0.5}],
    ids=str,
)
def test_other_settings_write_it_again(written, recordings, changes, tmp_path):
    shutil.copytree(written[0], tmp_path / "copy")
    assert begins_to_write(tmp_path / "copy", recordings, replace(SETTINGS, **changes))


def test_another_recording_writes_it_again(written, recordings, tmp_path):
    shutil.copytree(written[0], tmp_path / "copy")
    shutil.copytree(recordings, tmp_path / "recordings")
    (tmp_path / "recordings/calm/ann_broken.wav").write_bytes(b"RIFX")
    assert begins_to_write(tmp_path / "copy", tmp_path / "recordings")


def test_a_place_does_not_depend_on_the_other_recordings(written, recordings, tmp_path):
    source = open_source(recordings, SETTINGS)
    fewer = replace(source, clips=tuple(clip for clip in source.clips if not clip.path.stem.endswith("_0")))
    few = ensure_planted_in(tmp_path, fewer, SETTINGS)

    def spans(root, clips):
        table = read_table(root / SOURCES, required=[])
        sources = {cells["clip"]: cells["source"] for cells in table.values()}
        return {sources[clip.path.relative_to(root).as_posix()]: clip.evidence for clip in clips}

    before, after = spans(*written), spans(tmp_path, few)
    both = [name for name in after if after[name] and before[name]]
    assert both
    assert all(after[name] == before[name] for name in both)


def test_too_few_recordings_are_refused_with_the_reasons(tmp_path):
    noise = 0.1 * np.random.default_rng(0).uniform(-1, 1, 16_000)
    for who in SPEAKERS:
        save_audio(tmp_path / "in/calm" / f"{who}_0.wav", noise)
    with pytest.raises(CorpusError, match=r"(?s)without 3 recordings in which .*ann_0.wav.*speakers=\[\]"):
        write(tmp_path / "out", tmp_path / "in")
    assert not (tmp_path / "out/planted.json").exists()


def test_too_few_recordings_for_the_labels_are_refused(recordings, tmp_path):
    labels = ("neutral", "angry", "happy", "sad", "fearful")
    with pytest.raises(CorpusError, match=r": no recording for .* in train.*ask for fewer labels"):
        write(tmp_path, recordings, replace(SETTINGS, labels=labels))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "nothing"}, "corpus='nothing' must be one of"),
        ({"source": "planted"}, "source='planted' must hold real recordings: one of ravdess"),
        ({"source": 3}, "source=3 must hold real recordings"),
        ({"source_options": "x"}, "source_options='x' must be names with values"),
        ({"labels": ("neutral", "disgust")}, "must be two or more different ones of neutral, happy"),
        ({"labels": ("neutral",)}, r"labels=\('neutral',\) must be two or more"),
        ({"clips_per_speaker": 0}, "clips_per_speaker=0 must be at least 1"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"cue_strength": 3.0}, "cue_strength=3.0 must lie between"),
        ({"difficulty": "brutal"}, "difficulty='brutal' must be one of"),
    ],
    ids=str,
)
def test_settings_outside_their_range_are_refused(changes, message, unchecked_types):
    with pytest.raises((SettingError, CorpusError), match=message):
        replace(SETTINGS, **changes)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"root='.*gone' of corpus='ravdess': there is no such folder"):
        open_source(tmp_path / "gone", PlantedInSettings("ravdess"))


@pytest.mark.skipif(not RAVDESS.is_dir(), reason="RAVDESS is not at ../shared/data/ravdess")
def test_cues_are_planted_in_ravdess(tmp_path):
    settings = PlantedInSettings("RAVDESS", labels=("neutral", "sad"), clips_per_speaker=4)
    source = open_source(RAVDESS, settings)
    clips = ensure_planted_in(tmp_path, replace(source, clips=source.clips[:12]), settings)
    assert len(clips) + len(read_left_out(tmp_path)) == 12
    assert {len(clip.evidence) for clip in clips if clip.label == "sad"} == {1}
    assert {len(clip.evidence) for clip in clips if clip.label == "neutral"} == {0}
    assert {clip.corpus for clip in clips} == {"planted-in-ravdess"}


# Labels and splits are independent of the recordings

DRAWN_LABELS = ("neutral", "happy", "sad", "angry", "fearful", "surprised")
EMOTIONS = ("angry", "calm", "happy")


def toy_clips(num_speakers=6, per_emotion=7):
    return [
        Clip(Path(f"{who}/{emotion}-{take}.wav"), emotion, speaker=f"s{who}", corpus="toy")
        for who, emotion, take in product(range(num_speakers), EMOTIONS, range(per_emotion))
    ]


def test_every_label_comes_equally_often_with_every_speaker():
    clips = toy_clips()
    labels = draw_labels(clips, DRAWN_LABELS, 0)
    for speaker in {clip.speaker for clip in clips}:
        own = Counter(label for clip, label in zip(clips, labels, strict=True) if clip.speaker == speaker)
        assert set(own) == set(DRAWN_LABELS)
        assert max(own.values()) - min(own.values()) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_the_label_of_a_recording_says_nothing_about_the_planted_one(seed):
    clips = toy_clips(num_speakers=20)
    pairs = Counter(zip((clip.label for clip in clips), draw_labels(clips, DRAWN_LABELS, seed), strict=True))
    table = [[pairs[emotion, label] for label in DRAWN_LABELS] for emotion in EMOTIONS]
    assert stats.chi2_contingency(table).pvalue > 0.2
    assert stats.chi2_contingency(table).statistic < 10  # on average what chance gives with 10 degrees


def test_labels_depend_on_the_seed_and_on_nobody_else():
    clips = toy_clips()
    assert (
        draw_labels(clips, DRAWN_LABELS, 0)
        == draw_labels(clips, DRAWN_LABELS, 0)
        != draw_labels(clips, DRAWN_LABELS, 1)
    )
    alone = [clip for clip in clips if clip.speaker == "s3"]
    together = [
        label for clip, label in zip(clips, draw_labels(clips, DRAWN_LABELS, 0), strict=True) if clip in alone
    ]
    assert draw_labels(alone, DRAWN_LABELS, 0) == together


def test_splits_are_drawn_by_seed_and_share_no_speaker():
    clips = toy_clips(num_speakers=12)
    splits = [split_of_speakers(clips, seed) for seed in range(5)]
    assert all(Counter(found.values()) == {"train": 8, "validation": 2, "test": 2} for found in splits)
    assert len({tuple(sorted(found.items())) for found in splits}) > 1
    assert split_of_speakers(list(reversed(clips)), 0) == splits[0]


def test_splits_that_keep_speakers_apart_are_kept_and_others_are_not():
    clips = toy_clips(num_speakers=3)
    own = [replace(clip, split=SPLITS[int(clip.speaker[1])]) for clip in clips]
    assert split_of_speakers(own, 0) == {"s0": "train", "s1": "validation", "s2": "test"}
    mixed = [replace(clip, split=SPLITS[index % 3]) for index, clip in enumerate(clips)]
    assert split_of_speakers(mixed, 0) == split_of_speakers(clips, 0)


def test_unknown_and_few_speakers_are_refused():
    clips = toy_clips(num_speakers=2)
    with pytest.raises(CorpusError, match=r"toy: speakers=\['s0', 's1'\] must be at least 3"):
        check_speakers(clips, "toy")
    with pytest.raises(CorpusError, match=r"1 of 43 recordings name none \(x.wav\)"):
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
    return open_source(
        folder, PlantedInSettings("folders", {"speaker_pattern": "/(?P<speaker>[a-d])_"}, **more)
    )


def test_recordings_can_be_chosen_by_label_and_number(folder):
    assert len(opened(folder).clips) == 36
    calm = opened(folder, source_labels=("calm",), clips_per_speaker=2, seed=1).clips
    assert {clip.label for clip in calm} == {"calm"}
    assert Counter(clip.speaker for clip in calm) == dict.fromkeys("abcd", 2)
    assert calm != opened(folder, source_labels=("calm",), clips_per_speaker=2, seed=2).clips


def test_recordings_of_one_name_in_different_folders_are_chosen_independently(tmp_path):
    """As sessions name their takes alike."""
    for who, take, session in product("abcd", range(8), ("first", "second")):
        path = tmp_path / "calm" / session / f"{who}_{take}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(session)
    assert len(opened(tmp_path).clips) == 64
    assert len({clip.name for clip in opened(tmp_path).clips}) == 32
    chosen = opened(tmp_path, clips_per_speaker=8).clips
    assert any(count == 1 for count in Counter(clip.name for clip in chosen).values())


def test_a_label_that_is_not_there_is_refused(folder):
    with pytest.raises(
        CorpusError, match=r"source_labels=\['bored'\] .* missing=\['bored'\], found angry \(12\), calm"
    ):
        opened(folder, source_labels=("bored",))


def test_a_source_is_known_again_unless_something_changed(folder):
    before = opened(folder).sha256
    assert opened(folder).sha256 == before
    (folder / "calm/a_0.wav").write_text("louder")
    assert opened(folder).sha256 != before
