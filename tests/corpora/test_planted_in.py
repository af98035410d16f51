"""Laws of a corpus of recordings with planted cues on disk."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from wavshap_lightning.audio.io import load_audio, save_audio
from wavshap_lightning.corpora.clip import SPLITS
from wavshap_lightning.corpora.manifest import read_csv, read_manifest
from wavshap_lightning.errors import AudioError, CorpusError, SettingError
from wavshap_lightning.planted import into_recordings as planted_in
from wavshap_lightning.planted.into_recordings import (
    SOURCES,
    PlantedInSettings,
    ensure_planted_in,
    open_source,
    write_planted_in,
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
    return write_planted_in(root, open_source(recordings, settings), settings, **more)


def ensure(root, recordings, settings=SETTINGS):
    return ensure_planted_in(root, open_source(recordings, settings), settings)


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
    root, made = written
    assert read_manifest(root / "manifest.jsonl") == list(made.clips)
    assert {clip.path for clip in made.clips} == set(root.rglob("*.flac"))
    assert {clip.corpus for clip in made.clips} == {"planted-in-folders"}
    for clip in made.clips:
        assert [span.kind for span in clip.evidence] == (["roughness"] if clip.label == "angry" else [])


def test_parts_share_no_speaker_and_hold_every_label(written):
    _, made = written
    parts = {part: [clip for clip in made.clips if clip.split == part] for part in SPLITS}
    assert sum(len({clip.speaker for clip in part}) for part in parts.values()) == len(SPEAKERS)
    assert all({clip.label for clip in part} == set(SETTINGS.labels) for part in parts.values())


def test_the_table_says_where_each_clip_comes_from(written):
    root, made = written
    rows = {
        row.cells["clip"]: row.cells for row in read_csv(root / SOURCES, required=[]) if row.cells["clip"]
    }
    assert len(rows) == len(made.clips)
    for clip in made.clips:
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


def test_recordings_without_a_place_for_a_cue_are_reported(written, recordings):
    root, made = written
    reasons = {one.path.name: one.reason for one in made.left_out}
    assert set(reasons) == {"ann_noise.wav", "ann_broken.wav"}
    assert "no 300 ms on end" in reasons["ann_noise.wav"]
    assert "ann_broken.wav" in reasons["ann_broken.wav"]
    assert ensure(root, recordings).left_out == made.left_out


def test_progress_counts_every_step(recordings, tmp_path):
    seen = []
    write(tmp_path, recordings, on_progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [*range(1, 12), *range(14, 23)]
    assert {total for _, total in seen} == {22}


def test_a_complete_corpus_is_left_alone(written, recordings, monkeypatch):
    root, made = written
    monkeypatch.setattr(planted_in, "save_audio", lambda *_a, **_k: pytest.fail("nothing may be written"))
    assert ensure(root, recordings) == made


@pytest.fixture
def count_writing(written, monkeypatch):
    """Says how often the corpus was written, which takes long, without writing it."""
    calls = []

    def write_nothing(*args, **_kwargs):
        calls.append(args)
        return written[1]

    monkeypatch.setattr(planted_in, "write_planted_in", write_nothing)
    return calls


@pytest.mark.parametrize("damaged", ["planted.json", "manifest.jsonl", "sources.csv", "flac"])
def test_a_damaged_or_lost_file_is_written_again(written, recordings, damaged, count_writing, tmp_path):
    for name, content in bytes_below(written[0]).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[:-9] if name.endswith(damaged) else content)
    ensure(tmp_path, recordings)
    assert len(count_writing) == 1


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"difficulty": "hard"}, {"source_labels": ("calm",)}, {"cue_strength": 0.5}],
    ids=str,
)
def test_other_settings_write_it_anew(written, recordings, changes, count_writing):
    ensure(written[0], recordings, replace(SETTINGS, **changes))
    assert len(count_writing) == 1


def test_another_recording_or_format_writes_it_anew(written, recordings, count_writing, monkeypatch):
    (recordings / "calm/ann_broken.wav").write_bytes(b"RIFX")
    ensure(written[0], recordings)
    (recordings / "calm/ann_broken.wav").write_bytes(b"RIFF")
    assert len(count_writing) == 1
    monkeypatch.setattr(planted_in, "FORMAT_VERSION", planted_in.FORMAT_VERSION + 1)
    ensure(written[0], recordings)
    assert len(count_writing) == 2


def test_each_recording_has_a_generator_of_its_own(written, monkeypatch):
    """Whatever tells it from others counts: folder, file and times."""
    seeds = []

    def draw_and_end(_samples, _difficulty, generator):
        seeds.append(generator.random())
        raise AudioError("that is all there is to know")

    monkeypatch.setattr(planted_in, "_load", lambda _clip: None)
    monkeypatch.setattr(planted_in, "draw_stretch", draw_and_end)
    clip = written[1].clips[0]
    others = [
        replace(clip, path=Path("b") / clip.path.name),
        replace(clip, start_s=1.0, end_s=2.0),
        replace(clip, start_s=1.0, end_s=3.0),
    ]
    for one in (clip, clip, *others):
        with pytest.raises(AudioError):
            planted_in._draw_stretch(one, SETTINGS)
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 4


def test_too_few_recordings_are_refused_with_the_reasons(tmp_path):
    noise = 0.1 * np.random.default_rng(0).uniform(-1, 1, 16_000)
    for who in SPEAKERS:
        save_audio(tmp_path / "in/calm" / f"{who}_0.wav", noise)
    with pytest.raises(CorpusError, match=r"(?s)without 3 recordings in which .*ann_0.wav.*speakers=\[\]"):
        write(tmp_path / "out", tmp_path / "in")
    assert not (tmp_path / "out/planted.json").exists()


def test_too_few_recordings_for_the_labels_are_refused(recordings, tmp_path):
    labels = ("neutral", "angry", "happy", "sad", "fearful")
    with pytest.raises(CorpusError, match=r"there is none for .* in train.*ask for fewer labels"):
        write(tmp_path, recordings, replace(SETTINGS, labels=labels))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "nothing"}, "corpus='nothing' must be one of"),
        ({"source": "planted"}, "source='planted' must hold real recordings: one of ravdess"),
        ({"source": 3}, "source=3 must hold real recordings"),
        ({"source_options": "x"}, "source_options='x' must be names with values"),
        ({"labels": ("neutral", "disgust")}, "label='disgust' must be one of neutral, happy"),
        ({"labels": ("neutral",)}, r"labels=\('neutral',\) must be at least two"),
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
    few = replace(source, clips=source.clips[:12])
    made = write_planted_in(tmp_path, few, settings)
    assert len(made.clips) + len(made.left_out) == 12
    assert {len(clip.evidence) for clip in made.clips if clip.label == "sad"} == {1}
    assert {len(clip.evidence) for clip in made.clips if clip.label == "neutral"} == {0}
    assert {clip.corpus for clip in made.clips} == {"planted-in-ravdess"}
