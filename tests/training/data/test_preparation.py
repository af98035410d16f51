"""From a corpus's name to audited clips: what is listed, split, measured, cut and refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from wavshap_lightning.corpora.manifest import read_manifest, save_manifest
from wavshap_lightning.errors import AuditError, CorpusError, SettingError
from wavshap_lightning.training.data import preparation
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.data.preparation import list_clips

SAMPLE_RATE = 16_000


@pytest.fixture
def prepare(corpus, cache_folder):
    """`(manifest=..., **settings) -> EmotionDataModule` that has audited its clips for the usual frames."""

    def prepare(manifest=corpus, **settings):
        data = EmotionDataModule("manifest", str(manifest), cache_dir=str(cache_folder), **settings)
        assert data.prepared.keys() == {"train", "validation", "test"}
        return data

    return prepare


@pytest.fixture
def copied(tmp_path, corpus):
    """A copy of the usual corpus, to be spoilt."""
    shutil.copytree(corpus.parent, tmp_path / "copy")
    return tmp_path / "copy" / "clips.jsonl"


def keyed(data):
    """Every clip with its key, by clip."""
    return {one.clip: one for clips in data.prepared.values() for one in clips}


def spoil(clip, waveform):
    soundfile.write(clip.path, waveform, SAMPLE_RATE, subtype="PCM_16")


def test_a_corpus_is_split_keyed_and_recorded(prepare, corpus):
    data = prepare()
    assert keyed(data).keys() == set(read_manifest(corpus))
    assert len({one.key for one in keyed(data).values()}) == 25
    for clip, one in keyed(data).items():
        assert one.duration_s == pytest.approx(soundfile.info(clip.path).duration)
    record = json.loads(json.dumps(data.protocol_record))
    assert record["hash"] == data.protocol.hash
    assert (record["fold"], record["clips"]) == (0, {"train": 12, "validation": 7, "test": 6})


def test_labels_are_chosen_and_renamed(prepare):
    def labels(data):
        return {clip.label for clip in keyed(data)}

    assert labels(prepare(labels=["sad", "neutral"])) == {"sad", "neutral"}
    assert labels(prepare(label_map={"sad": "low", "happy": "high", "neutral": None})) == {"low", "high"}


def test_measuring_again_reads_nothing(prepare, monkeypatch):
    first = prepare().prepared

    def refuse(*_, **__):
        raise AssertionError("a clip was measured again")

    monkeypatch.setattr(preparation, "measure_clip", refuse)
    assert prepare().prepared == first


def test_a_changed_file_is_measured_again(prepare, copied):
    clip = read_manifest(copied)[0]
    before = keyed(prepare(copied))[clip]
    spoil(clip, 0.1 * np.sin(np.arange(9000)))
    after = keyed(prepare(copied))[clip]
    assert after.key != before.key
    assert after.duration_s == pytest.approx(9000 / SAMPLE_RATE)


def test_long_clips_are_cut(prepare, corpus):
    with pytest.warns(UserWarning, match=r"(?s)the audit of the clips found.*above 0\.4 s"):
        data = prepare(max_duration_s=0.4)
    durations_s = {clip.path: soundfile.info(clip.path).duration for clip in read_manifest(corpus)}
    assert max(durations_s.values()) > 0.4 > min(durations_s.values())
    for clip, one in keyed(data).items():
        assert one.duration_s == pytest.approx(min(0.4, durations_s[clip.path]))
        assert (clip.end_s == 0.4) == (durations_s[clip.path] > 0.4)


def test_clips_cannot_be_cut_to_less_than_a_frame(prepare):
    with pytest.raises(SettingError, match=r"max_duration_s=0\.01 must be at least a frame, 0\.0250 s"):
        prepare(max_duration_s=0.01)


def test_all_bad_clips_are_told_at_once(prepare, copied):
    short, silent, broken = read_manifest(copied)[:3]
    spoil(short, 0.1 * np.ones(100))
    spoil(silent, np.zeros(8000))
    broken.path.write_bytes(b"RIFF")
    with pytest.raises(AuditError) as raised:
        prepare(copied)
    message = str(raised.value)
    assert "errors=3" in message
    for clip in (short, silent, broken):
        assert clip.name in message
    for check in ("too short", "silent", "unreadable", "leave these clips out"):
        assert check in message


def test_bad_clips_can_be_left_out(prepare, copied):
    bad = read_manifest(copied)[0]
    spoil(bad, np.zeros(8000))
    with pytest.warns(UserWarning, match=rf"(?s)1 bad clips are left out.*{bad.name}"):
        data = prepare(copied, on_bad_clip="skip")
    assert bad not in keyed(data)
    assert data.protocol_record["clips"]["train"] == 11


def test_a_split_without_a_usable_clip_is_told(prepare, copied):
    for clip in read_manifest(copied):
        if clip.split == "validation":
            spoil(clip, np.zeros(8000) + (1e-6 * len(clip.name)))
    with (
        pytest.warns(UserWarning, match="7 bad clips are left out"),
        pytest.raises(CorpusError, match="leaves no clip in validation"),
    ):
        prepare(copied, on_bad_clip="skip")


def resplit(manifest, change):
    save_manifest(manifest, [change(clip) for clip in read_manifest(manifest)])


def test_a_speaker_in_two_splits_is_an_error_unless_allowed(prepare, copied):
    resplit(copied, lambda clip: replace(clip, speaker="bob") if clip.speaker == "di" else clip)
    with pytest.raises(AuditError, match=r"(?s)shared speaker.*keeps every speaker in one split.*bob"):
        prepare(copied)
    with pytest.warns(UserWarning, match="(?s)shared speaker.*bob"):
        prepare(copied, allow_shared_speakers=True)


def test_a_class_without_training_clips_is_an_error(prepare, copied):
    resplit(
        copied,
        lambda clip: replace(clip, split="test") if clip.label == "sad" and clip.split == "train" else clip,
    )
    resplit(copied, lambda clip: replace(clip, speaker=f"{clip.speaker}-{clip.split}"))
    with pytest.raises(AuditError, match=r"(?s)absent class.*sad: no clip in train"):
        prepare(copied)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"corpus": "nobody"}, CorpusError, "corpus='nobody' must be one of ravdess"),
        ({"corpus": "ravdess"}, SettingError, r"root=None: corpus='ravdess' needs its folder.*--data\.root"),
        ({"corpus": "ravdess", "root": "/nowhere"}, CorpusError, "there is no such folder"),
        ({"options": {"volume": 3}}, SettingError, "unexpected keyword argument 'volume'"),
        ({"options": {"num_speakers": 1}}, SettingError, "num_speakers=1 must be at least 3"),
    ],
)
def test_what_cannot_be_listed_is_told(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        list_clips(
            **{"corpus": "planted", "root": None, "options": None, **settings}, cache_directory=tmp_path
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": 7}, "fold=7 must lie in 0..0"),
        ({"protocol": "nothing"}, "protocol='nothing' must be one of"),
    ],
)
def test_a_protocol_that_does_not_fit_is_told(prepare, settings, message):
    with pytest.raises(CorpusError, match=message):
        prepare(**settings)


def test_planted_speech_is_made_once_for_each_setting(tmp_path):
    options = {"num_speakers": 3, "clips_per_speaker_and_label": 1, "labels": ["neutral", "happy"]}
    first = list_clips("planted", None, options, tmp_path)
    assert len(first) == 6
    written = {clip.path: clip.path.stat().st_mtime_ns for clip in first}
    again = list_clips("planted", None, options, tmp_path)
    assert {clip.path: clip.path.stat().st_mtime_ns for clip in again} == written
    other = list_clips("planted", None, {**options, "seed": 1}, tmp_path)
    assert not {clip.path for clip in other} & written.keys()
