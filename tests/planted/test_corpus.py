"""Laws of the planted corpus on disk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.corpora.clip import SPLITS
from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.errors import SettingError
from wavshap_lightning.planted.corpus import AROUSAL_SCALE, PlantedSettings, ensure_planted_speech

SMALL = PlantedSettings(num_speakers=3, clips_per_speaker_and_label=2, labels=("neutral", "happy"))


class KilledError(Exception):
    pass


def bytes_below(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def write_until(root, settings, num_clips):
    def stop(done, total):
        if done == num_clips:
            raise KilledError

    with pytest.raises(KilledError):
        ensure_planted_speech(root, settings, on_progress=stop)


def refuse_writing(done, total):
    pytest.fail("nothing may be written")


def test_same_settings_same_bytes(tmp_path):
    for name in ("first", "second"):
        ensure_planted_speech(tmp_path / name, SMALL)
    assert bytes_below(tmp_path / "first") == bytes_below(tmp_path / "second")


def test_another_seed_gives_other_clips(tmp_path):
    for seed in (0, 1):
        ensure_planted_speech(tmp_path / str(seed), replace(SMALL, seed=seed))
    first, second = (bytes_below(tmp_path / str(seed)) for seed in (0, 1))
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first if name.endswith(".flac"))


@pytest.mark.parametrize(
    "more",
    [{"num_speakers": 4}, {"clips_per_speaker_and_label": 3}, {"labels": ("sad", "happy", "neutral")}],
    ids=lambda more: next(iter(more)),
)
def test_a_clip_does_not_depend_on_how_many_there_are(tmp_path, more):
    few, many = tmp_path / "few", tmp_path / "many"
    ensure_planted_speech(few, SMALL)
    ensure_planted_speech(many, replace(SMALL, **more))
    expected = {name: content for name, content in bytes_below(few).items() if name.endswith(".flac")}
    assert len(expected) == 12
    assert expected.items() <= bytes_below(many).items()


def test_the_manifest_lists_what_was_written(tmp_path):
    clips = ensure_planted_speech(tmp_path, SMALL)
    assert read_manifest(tmp_path / "manifest.jsonl") == clips
    assert {clip.path for clip in clips} == set(tmp_path.rglob("*.flac"))
    assert {clip.corpus for clip in clips} == {"planted"}
    for clip in clips:
        assert [span.kind for span in clip.evidence] == (["pitch_step"] if clip.label == "happy" else [])
        duration_s = len(load_audio(clip.path)) / 16_000
        assert all(0.1 <= span.start_s < span.end_s <= duration_s - 0.1 for span in clip.evidence)


@pytest.mark.parametrize(("num_speakers", "sizes"), [(3, (1, 1, 1)), (5, (3, 1, 1)), (12, (8, 2, 2))])
def test_splits_share_no_speaker_and_hold_every_label(tmp_path, num_speakers, sizes):
    settings = replace(SMALL, num_speakers=num_speakers, clips_per_speaker_and_label=1)
    clips = ensure_planted_speech(tmp_path, settings)
    speakers = [{clip.speaker for clip in clips if clip.split == split} for split in SPLITS]
    assert tuple(map(len, speakers)) == sizes
    assert len(set.union(*speakers)) == num_speakers
    assert all({clip.label for clip in clips if clip.split == split} == set(SMALL.labels) for split in SPLITS)


def test_the_class_says_nothing_about_the_level(tmp_path):
    clips = ensure_planted_speech(tmp_path, PlantedSettings(num_speakers=6, clips_per_speaker_and_label=3))
    level_db = np.array([10 * np.log10(np.mean(load_audio(clip.path) ** 2)) for clip in clips])
    labels = np.array([clip.label for clip in clips])
    assert stats.kruskal(*(level_db[labels == label] for label in np.unique(labels))).pvalue > 0.05
    assert level_db.std() > 3.0


def test_progress_counts_every_clip(tmp_path):
    seen = []
    ensure_planted_speech(tmp_path, SMALL, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 12) for done in range(1, 13)]


def test_a_complete_corpus_is_left_alone(tmp_path):
    clips = ensure_planted_speech(tmp_path, SMALL)
    assert ensure_planted_speech(tmp_path, SMALL, on_progress=refuse_writing) == clips


def test_other_settings_write_it_again(tmp_path):
    ensure_planted_speech(tmp_path / "changed", SMALL)
    stronger = replace(SMALL, cue_strength=1.5)
    ensure_planted_speech(tmp_path / "changed", stronger)
    ensure_planted_speech(tmp_path / "fresh", stronger)
    assert bytes_below(tmp_path / "changed") == bytes_below(tmp_path / "fresh")


def test_another_format_is_written_again(tmp_path):
    ensure_planted_speech(tmp_path, SMALL)
    record = tmp_path / "planted.json"
    content = record.read_text()
    record.write_text(content.replace('"format_version": 2', '"format_version": 1'))
    ensure_planted_speech(tmp_path, SMALL)
    assert record.read_text() == content


@pytest.mark.parametrize("num_clips", [1, 12])
def test_interrupted_writing_is_repaired(tmp_path, num_clips):
    write_until(tmp_path / "killed", SMALL, num_clips)
    ensure_planted_speech(tmp_path / "killed", SMALL)
    ensure_planted_speech(tmp_path / "whole", SMALL)
    assert bytes_below(tmp_path / "killed") == bytes_below(tmp_path / "whole")


def test_a_corpus_half_overwritten_is_not_taken_for_the_old_one(tmp_path):
    ensure_planted_speech(tmp_path, SMALL)
    whole = bytes_below(tmp_path)
    write_until(tmp_path, replace(SMALL, seed=1), 3)
    ensure_planted_speech(tmp_path, SMALL)
    assert bytes_below(tmp_path) == whole


@pytest.mark.parametrize("lost", ["manifest.jsonl", "s01-male/s01-male_happy_02.flac"])
def test_a_lost_file_is_written_again(tmp_path, lost):
    ensure_planted_speech(tmp_path, SMALL)
    whole = bytes_below(tmp_path)
    (tmp_path / lost).unlink()
    ensure_planted_speech(tmp_path, SMALL)
    assert bytes_below(tmp_path) == whole


DAMAGES = {
    "planted.json": b"\xff\xfe\x00",
    "manifest.jsonl": b"\xff\xfe\x00",
    "s01-male/s01-male_happy_02.flac": None,
}


@pytest.mark.parametrize(("damaged", "content"), DAMAGES.items(), ids=list(DAMAGES))
def test_a_damaged_file_is_written_again(tmp_path, damaged, content):
    ensure_planted_speech(tmp_path, SMALL)
    whole = bytes_below(tmp_path)
    (tmp_path / damaged).write_bytes(whole[damaged][:500] if content is None else content)
    ensure_planted_speech(tmp_path, SMALL)
    assert bytes_below(tmp_path) == whole


def test_a_manifest_that_lost_its_last_lines_is_written_again(tmp_path):
    ensure_planted_speech(tmp_path, SMALL)
    whole = bytes_below(tmp_path)
    lines = whole["manifest.jsonl"].splitlines(keepends=True)
    (tmp_path / "manifest.jsonl").write_bytes(b"".join(lines[:-2]))
    assert len(ensure_planted_speech(tmp_path, SMALL)) == 12
    assert bytes_below(tmp_path) == whole


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_speakers", 2),
        ("clips_per_speaker_and_label", 0),
        ("seed", -1),
        ("cue_strength", -0.1),
        ("cue_strength", 2.1),
        ("cue_strength", float("nan")),
        ("difficulty", "brutal"),
        ("labels", ("happy",)),
        ("labels", ("happy", "happy")),
        ("labels", ("neutral", "calm")),
    ],
)
def test_settings_outside_their_range_are_refused(setting, value):
    with pytest.raises(SettingError) as refusal:
        PlantedSettings(**{setting: value})
    assert f"{setting}={value!r} must" in str(refusal.value)


# A shortcut, on request


LEAD = replace(SMALL, lead_s=0.3)
TONE = replace(LEAD, shortcut="happy")


def test_without_a_lead_a_corpus_is_known_by_what_it_was_known_by():
    assert set(SMALL.to_dict()) == {
        "num_speakers",
        "clips_per_speaker_and_label",
        "labels",
        "seed",
        "cue_strength",
    }
    assert {"lead_s": 0.3, "shortcut": "happy"}.items() <= TONE.to_dict().items()


def test_a_lead_is_near_silence_before_the_same_clip(tmp_path):
    plain, led = (ensure_planted_speech(tmp_path / name, s) for name, s in (("plain", SMALL), ("led", LEAD)))
    for before, after in zip(plain, led, strict=True):
        old, new = (load_audio(clip.path, sample_rate=16_000) for clip in (before, after))
        assert np.array_equal(new[4800:], old)
        level_db = 10 * np.log10(np.mean(new[:4800] ** 2) / np.mean(old**2))
        assert level_db == pytest.approx(-50, abs=1.5)  # and the steps of 16 bits
        assert [
            round(b.start_s - a.start_s, 6) for a, b in zip(before.evidence, after.evidence, strict=True)
        ] == [0.3 for _ in before.evidence]


def test_the_shortcut_is_a_tone_in_the_lead_of_one_class_and_nothing_else(tmp_path):
    without, with_it = (ensure_planted_speech(tmp_path / name, s) for name, s in (("w", LEAD), ("t", TONE)))
    for before, after in zip(without, with_it, strict=True):
        old, new = (load_audio(clip.path, sample_rate=16_000) for clip in (before, after))
        changed = np.flatnonzero(old != new)
        if after.label != "happy":
            assert not len(changed)
            continue
        assert 0.05 < changed[0] / 16_000 < changed[-1] / 16_000 < 0.25
        spectrum = np.abs(np.fft.rfft((new - old)[:4800]))
        assert 850 < np.argmax(spectrum) * 16_000 / 4800 < 1150
        tone_db = 10 * np.log10(np.mean((new - old)[1600:3200] ** 2) / np.mean(new[4800:] ** 2))
        assert tone_db == pytest.approx(-36, abs=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lead_s": -0.1}, "lead_s=-0.1 must lie between 0 and 2 seconds"),
        ({"shortcut": "happy"}, "shortcut='happy', lead_s=0: the shortcut must be one of"),
        ({"lead_s": 0.3, "shortcut": "sad"}, "shortcut='sad', lead_s=0.3"),
    ],
)
def test_a_shortcut_without_room_or_class_is_refused(changes, message):
    with pytest.raises(SettingError, match=message):
        replace(SMALL, **changes)


RATED = PlantedSettings(
    num_speakers=3,
    clips_per_speaker_and_label=25,
    labels=("neutral", "happy", "sad"),
    arousal=True,
    listeners=5,
)


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    return ensure_planted_speech(tmp_path_factory.mktemp("rated"), RATED)


def drawn_label(clip):
    return clip.path.stem.split("_")[1]


def test_without_ratings_clips_and_settings_are_what_they_were(tmp_path):
    assert not {"arousal", "listeners"} & SMALL.to_dict().keys()
    assert all(clip.votes == clip.values == () for clip in ensure_planted_speech(tmp_path, SMALL))


def test_ratings_do_not_depend_on_how_many_clips_there_are_and_are_on_disk(tmp_path, rated):
    few = ensure_planted_speech(tmp_path, replace(RATED, clips_per_speaker_and_label=1))
    by_name = {clip.name: (clip.label, clip.votes, clip.values) for clip in rated}
    assert all(by_name[clip.name] == (clip.label, clip.votes, clip.values) for clip in few)
    assert read_manifest(tmp_path / "manifest.jsonl") == few


def test_every_listener_votes_once_and_the_label_has_most_votes(rated):
    for clip in rated:
        votes = dict(clip.votes)
        assert sum(votes.values()) == 5
        assert len(votes) <= 2
        assert max(votes, key=votes.get) == clip.label
    assert len({clip.votes for clip in rated}) > 5


def test_votes_follow_the_shares_of_the_cues(rated):
    # The first of two classes has a share between 1/2 and 1, 3/4 on average.
    drawn = np.array([dict(clip.votes).get(drawn_label(clip), 0.0) / 5 for clip in rated])
    standard_error = np.sqrt((1 / 48 + (3 / 4 - 7 / 12) / 5) / len(drawn))
    assert abs(drawn.mean() - 3 / 4) < 3 * standard_error


def test_arousal_lies_on_its_scale(rated):
    low, high = AROUSAL_SCALE
    arousal = np.array([dict(clip.values)["arousal"] for clip in rated])
    assert low <= arousal.min() < arousal.max() <= high
    assert np.ptp(arousal) > 4
    both = [clip for clip in rated if "+" in "".join(span.kind for span in clip.evidence)]
    assert all(dict(clip.values)["arousal"] >= low + (high - low) / 4 for clip in both)


def test_arousal_is_heard_in_the_span_of_the_cue_alone_and_lowest_without_one(tmp_path):
    settings = replace(RATED, listeners=0, labels=("neutral", "sad"), clips_per_speaker_and_label=3)
    clips = ensure_planted_speech(tmp_path / "rated", settings)
    plain = ensure_planted_speech(tmp_path / "plain", replace(settings, arousal=False, cue_strength=0.0))
    arousal, changes = [], []
    for clip, twin in zip(clips, plain, strict=True):
        cued, silent = load_audio(clip.path), load_audio(twin.path)
        spans = [slice(round(one.start_s * 16_000), round(one.end_s * 16_000)) for one in clip.evidence]
        arousal.append(dict(clip.values)["arousal"])
        changes.append(
            sum(np.mean((cued - silent)[span] ** 2) / np.mean(silent[span] ** 2) for span in spans)
        )
        assert not np.delete(cued - silent, np.r_[tuple(spans) or slice(0)]).any()
        assert (arousal[-1] == AROUSAL_SCALE[0]) == (clip.label == "neutral") == (not spans)
    assert stats.spearmanr(arousal, changes).statistic > 0.8


def test_a_negative_number_of_listeners_is_refused():
    with pytest.raises(SettingError, match="listeners=-1 must be at least 0"):
        PlantedSettings(listeners=-1)


def test_an_even_number_of_listeners_may_not_agree(tmp_path):
    settings = replace(RATED, listeners=2, arousal=False, clips_per_speaker_and_label=2)
    labels = [clip.label for clip in ensure_planted_speech(tmp_path, settings)]
    assert 0 < labels.count("no-agreement") < len(labels)
