"""Files below a root are found once, and folders and names tell labels and speakers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavshap_lightning.audio.io import AUDIO_SUFFIXES
from wavshap_lightning.corpora.folders import (
    Layout,
    audio_by_stem,
    find_audio,
    listed,
    load_flat,
    load_folders,
)
from wavshap_lightning.corpora.protocols import default_protocol
from wavshap_lightning.errors import CorpusError

LAYOUT = Layout("toy", "a/b.wav", "https://example.org")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_audio_is_found_at_any_depth_sorted_and_nothing_else(tmp_path):
    wanted = [touch(tmp_path / f"a/{suffix[1:]}/c{suffix}") for suffix in AUDIO_SUFFIXES] + [
        touch(tmp_path / "Z.WAV")
    ]
    for stranger in ("a/notes.txt", ".hidden/x.wav", "a/._x.wav", "__MACOSX/x.wav", "a/wav"):
        touch(tmp_path / stranger)
    assert find_audio(tmp_path) == sorted(wanted)
    assert audio_by_stem(tmp_path)["Z"] == tmp_path / "Z.WAV"


def test_a_root_below_a_hidden_folder_is_no_obstacle(tmp_path):
    clip = touch(tmp_path / ".cache/toy/x.wav")
    assert find_audio(clip.parent) == [clip]


def test_linked_folders_are_followed_once(tmp_path):
    touch(tmp_path / "elsewhere/x.wav")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "link2").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    assert find_audio(root) == [root / "link/x.wav"]


def test_links_back_to_a_folder_above_are_not_followed(tmp_path):
    touch(tmp_path / "x.wav")
    clip = touch(tmp_path / "a/b/y.wav")
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    assert find_audio(tmp_path / "a/b") == [clip]


def test_a_complaint_says_what_was_expected_and_where_to_get_it(tmp_path):
    for root, reason in ((tmp_path / "none", "no such folder"), (touch(tmp_path / "f"), "this is a file")):
        with pytest.raises(
            CorpusError, match=rf"corpus='toy'.*{reason}.*ROOT/a/b\.wav.*https://example\.org"
        ):
            LAYOUT.checked_folder(root)


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert LAYOUT.checked_folder("~") == tmp_path


def test_the_same_recording_twice_is_refused():
    files = [("1", Path("a/x.wav")), ("2", Path("b/x.wav"))]
    assert LAYOUT.find_copies("root", files) == set()
    with pytest.raises(
        CorpusError, match=r"twice differ \(a/x\.wav and c/x\.flac\), in a and in c; set root"
    ):
        LAYOUT.find_copies("root", [*files, ("1", Path("c/x.flac"))])


def test_a_film_beside_its_sound_is_not_taken_twice(tmp_path):
    touch(tmp_path / "a/x.mp4")
    sounds = [touch(tmp_path / "a/x.wav"), touch(tmp_path / "b/x.mp4"), touch(tmp_path / "b/y.sph")]
    assert find_audio(tmp_path) == sounds


def test_a_recording_that_is_only_in_icloud_does_not_vanish(tmp_path):
    touch(tmp_path / "._x.wav")
    path = touch(tmp_path / ".x.wav.icloud")
    assert find_audio(tmp_path) == [path]


def test_a_table_that_is_there_twice_is_read_once(tmp_path):
    for folder in ("a", "b"):
        touch(tmp_path / folder / "deep/table.csv")
    with pytest.warns(
        UserWarning, match="1 files are there twice with the same content, in .*/a and in .*/b;"
    ):
        assert LAYOUT.find_tables(tmp_path, ["table.csv"]) == {"table.csv": tmp_path / "a/deep/table.csv"}
    (tmp_path / "b/deep/table.csv").write_text("x")
    with pytest.raises(CorpusError, match=r"differ .*, in .*/a and in .*/b; set root to one copy"):
        LAYOUT.find_tables(tmp_path, ["table.csv"])


def test_lists_are_cut_after_five():
    assert listed("abcde") == "a, b, c, d, e"
    assert listed("abcdef") == "a, b, c, d, e and 1 more"
    assert listed("abc", limit=2, separator=" = ") == "a = b and 1 more"


# Corpora without a table


def build(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_the_folder_is_the_label(tmp_path):
    build(
        tmp_path,
        "Happy/anna_1.wav",
        "sad/deep/down/bob_1.FLAC",
        "sad/.cache/x.wav",
        "readme.md",
        "sad/notes.txt",
    )
    clips = load_folders(tmp_path)
    assert [(clip.label, clip.path.name, clip.speaker, clip.corpus) for clip in clips] == [
        ("Happy", "anna_1.wav", "", "folders"),
        ("sad", "bob_1.FLAC", "", "folders"),
    ]


@pytest.mark.parametrize("pattern", [r"(?P<speaker>[a-z]+)_\d", r"^[^/]+/(?P<speaker>\w+?)_"])
def test_speakers_are_searched_for_in_the_path_below_the_root(tmp_path, pattern):
    clips = load_folders(build(tmp_path, "sad/anna_1.wav", "sad/bob_2.wav"), speaker_pattern=pattern)
    assert [clip.speaker for clip in clips] == ["anna", "bob"]


def test_speakers_may_be_folders(tmp_path):
    build(tmp_path, "sad/s1/1.wav", "sad/s2/1.wav")
    clips = load_folders(tmp_path, speaker_pattern=r"^[^/]+/(?P<speaker>[^/]+)/")
    assert [clip.speaker for clip in clips] == ["s1", "s2"]


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "ogg", "opus", "aiff"])
def test_labels_are_read_from_file_names_at_any_depth(tmp_path, suffix):
    build(tmp_path, f"a/b/anna_happy_1.{suffix}", f"bob_sad_2.{suffix}")
    clips = load_flat(tmp_path, label_pattern=r"^(?P<speaker>[a-z]+)_(?P<label>[a-z]+)_")
    assert [(clip.speaker, clip.label, clip.corpus) for clip in clips] == [
        ("anna", "happy", "flat"),
        ("bob", "sad", "flat"),
    ]


def test_the_speaker_pattern_takes_precedence(tmp_path):
    build(tmp_path, "one/x_sad.wav")
    clips = load_flat(
        tmp_path, label_pattern=r"(?P<speaker>x)_(?P<label>\w+)", speaker_pattern=r"^(?P<speaker>\w+)/"
    )
    assert clips[0].speaker == "one"
    assert load_flat(tmp_path, label_pattern=r"_(?P<label>\w+)\.")[0].speaker == ""


def test_names_that_the_pattern_does_not_match_are_listed(tmp_path):
    build(tmp_path, *(f"sad/{index}.wav" for index in range(7)), "sad/anna_1.wav")
    with pytest.raises(
        CorpusError, match=r"no speaker in 7 of 8 names \(sad/0\.wav, .*sad/4\.wav and 2 more\)"
    ):
        load_folders(tmp_path, speaker_pattern=r"(?P<speaker>[a-z]+)_")
    with pytest.raises(CorpusError, match=r"no label in 7 of 8 names \(0\.wav, "):
        load_flat(tmp_path, label_pattern=r"(?P<label>[a-z]+)_")
    with pytest.raises(CorpusError, match="no label in 8 of 8 names"):
        load_flat(tmp_path, label_pattern=r"(?P<label>x*)")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(?P<label>[a-z]", "is not a regular expression: "), ("[a-z]+", "has no group 'label'")],
)
def test_a_pattern_that_cannot_work_is_refused(tmp_path, pattern, message):
    with pytest.raises(CorpusError, match=message):
        load_flat(build(tmp_path, "a.wav"), label_pattern=pattern)


def test_a_class_whose_folder_holds_nothing_that_is_read_does_not_vanish(tmp_path):
    build(tmp_path, "happy/a.wav", "sad/b.xyz", "sad/deep/c.XYZ", "sad/notes", "angry/c.wav")
    (tmp_path / "bored").mkdir()
    with pytest.raises(
        CorpusError,
        match=r"2 of 4 classes' folders hold no audio that.*\('bored' holds no file at all, "
        r"'sad' holds 2 \.xyz, 1 without suffix\); convert",
    ):
        load_folders(tmp_path)


def test_a_class_that_is_a_link_to_another_does_not_vanish(tmp_path):
    build(tmp_path, "mad/a.wav", "sad/b.wav")
    (tmp_path / "angry").symlink_to(tmp_path / "mad")
    assert [clip.label for clip in load_folders(tmp_path)] == ["angry", "mad", "sad"]


def test_a_link_back_to_the_root_makes_no_clips(tmp_path):
    build(tmp_path, "mad/a.wav", "sad/b.wav")
    (tmp_path / "sad/all").symlink_to(tmp_path)
    assert len(load_folders(tmp_path)) == 2


def test_texts_may_be_read_too(tmp_path):
    build(tmp_path, "sad/anna_kids.wav", "sad/bob_dogs.wav")
    pattern = r"(?P<speaker>[a-z]+)_(?P<text>[a-z]+)\."
    expected = [("anna", "kids"), ("bob", "dogs")]
    clips = load_folders(tmp_path, speaker_pattern=pattern)
    assert [(clip.speaker, clip.text) for clip in clips] == expected
    flat = load_flat(tmp_path, label_pattern=r"(?P<speaker>[a-z]+)_(?P<label>(?P<text>[a-z]+))\.")
    assert [(clip.speaker, clip.text) for clip in flat] == expected
    flat = load_flat(tmp_path, label_pattern="(?P<label>[a-z]+)_", speaker_pattern=pattern)
    assert [(clip.label, clip.text) for clip in flat] == expected
    with pytest.raises(CorpusError, match=r"speaker_pattern='.*' finds no text in 1 of 2 names"):
        load_folders(tmp_path, speaker_pattern="(?P<speaker>[a-z]+)_(?P<text>kids)?")


def test_two_speakers_with_texts_have_a_default_protocol(tmp_path):
    build(tmp_path, *(f"sad/{who}_{text}.wav" for who in ("anna", "bob") for text in ("kids", "dogs")))
    clips = load_folders(tmp_path, speaker_pattern=r"(?P<speaker>[a-z]+)_(?P<text>[a-z]+)\.")
    assert [len(members) for _, members in default_protocol(clips).split(clips, 0).items()] == [1, 1, 2]
    with pytest.raises(CorpusError, match=r'text=None.*protocol="random-clips"'):
        default_protocol(load_folders(tmp_path, speaker_pattern="(?P<speaker>[a-z]+)_"))


def test_roots_without_clips_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no audio file below it, only no file.*happy/anna_01\.wav"):
        load_folders(tmp_path)
    with pytest.raises(CorpusError, match=r"no audio file below it, only 2 \.xyz"):
        load_flat(build(tmp_path / "phone", "a.xyz", "b.xyz"), label_pattern="(?P<label>.)")
    with pytest.raises(CorpusError, match="no such folder"):
        load_flat(tmp_path / "none", label_pattern="(?P<label>.)")
    with pytest.raises(CorpusError, match=r"1 audio files lie in no class's folder .*stray\.wav"):
        load_folders(build(tmp_path, "sad/a.wav", "stray.wav"))


def write(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(800), 16_000)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("train_set", "train"),
        ("TrainSet", "train"),
        ("1_train", "train"),
        ("audio-train", "train"),
        ("val", "validation"),
        ("valid", "validation"),
        ("dev", "validation"),
        ("development", "validation"),
        ("validation", "validation"),
        ("test", "test"),
        ("TEST", "test"),
        ("test-data", "test"),
        ("testing", "test"),
        ("eval", "test"),
        ("evaluation", "test"),
    ],
)
@pytest.mark.parametrize("name", ["{}/{}/x.wav", "{1}/{0}/x.wav", "{}/{}/ann/x.wav"])
def test_a_folder_named_after_a_split_gives_the_split_and_never_the_label(tmp_path, folder, split, name):
    other = "test" if split == "train" else "train"
    build(tmp_path, *(name.format(home, label) for home in (folder, other) for label in ("happy", "sad")))
    clips = {clip.path.relative_to(tmp_path).as_posix(): clip for clip in load_folders(tmp_path)}
    for label in ("happy", "sad"):
        clip = clips[name.format(folder, label)]
        assert (clip.split, clip.label) == (split, label)
    build(tmp_path / "flat", f"{folder}/x_sad.wav", f"{other}/y_sad.wav")
    flat = load_flat(tmp_path / "flat", label_pattern=r"_(?P<label>\w+)")
    assert {(clip.split, clip.label) for clip in flat} == {(split, "sad"), (other, "sad")}


def test_a_training_set_alone_is_no_division(tmp_path):
    clips = load_folders(build(tmp_path, "train/happy/x.wav", "train/sad/x.wav"))
    assert [(clip.split, clip.label) for clip in clips] == [(None, "happy"), (None, "sad")]


def test_splits_in_folders_are_the_default_protocol(tmp_path):
    build(tmp_path, *(f"{split}/{label}/x.wav" for split in ("train", "dev", "test") for label in ("a", "b")))
    clips = load_folders(tmp_path)
    split = default_protocol(clips).split(clips, 0)
    assert {name: {clip.path.parts[-3] for clip in members} for name, members in split.items()} == {
        "train": {"train"},
        "validation": {"dev"},
        "test": {"test"},
    }


def test_evaluation_beside_a_test_set_is_the_validation_set(tmp_path):
    build(tmp_path, "train/sad/x.wav", "evaluation/sad/x.wav", "test/sad/x.wav")
    assert [clip.split for clip in load_folders(tmp_path)] == ["validation", "test", "train"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["train/x.wav", "test/y.wav"],
            r"1 audio files lie in no class's folder \(.*y\.wav\)\. .*train/happy/",
        ),
        (["train/sad/x.wav", "test/y.wav"], "1 audio files lie in no class's folder"),
        (
            ["train/sad/x.wav", "happy/y.wav"],
            r"folders train are named after splits, and 1 of 2 .*happy/y\.wav",
        ),
        (
            ["train/x.wav", "test/x.wav", "happy/x.wav"],
            r"1 audio files lie in no class's folder \(.*test/x\.wav\)",
        ),
        (["sad/train/x.wav", "happy/y.wav"], "folders train are named after splits"),
        (
            ["ann/happy/x.wav", "ben/happy/x.wav"],
            "folders ann, ben, which would be the classes, hold happy; set",
        ),
        (["train/ann/happy/x.wav", "train/ben/happy/x.wav"], "folders ann, ben, which would be the classes"),
        (["archive/sad/x.wav", "archive/happy/x.wav"], "folders archive, which would be the classes"),
        (["sad/x.wav", "happy/x.wav", "copy/sad/x.wav"], "which would be the classes, hold sad"),
        (["train-clean/sad/x.wav", "test-other/sad/x.wav"], "test-other, train-clean, .*, hold sad"),
        (["train-clean/7/x.wav", "test-other/7/x.wav"], "test-other, train-clean, .* are named like splits"),
    ],
)
def test_folders_that_would_be_taken_for_classes_are_refused(tmp_path, names, message):
    with pytest.raises(CorpusError, match=message):
        load_folders(build(tmp_path, *names))


def test_folders_of_speakers_below_the_classes_are_no_classes(tmp_path):
    build(tmp_path, "positive/happy/x.wav", "negative/sad/x.wav", "negative/ann/y.wav")
    assert [clip.label for clip in load_folders(tmp_path)] == ["negative", "negative", "positive"]


def test_byte_identical_copies_of_one_name_are_left_out(tmp_path):
    for seed, name in enumerate(("s1/1_sad.wav", "s2/1_sad.wav", "s1/2_happy.wav")):
        for tree in ("", "archive/"):
            write(tmp_path / f"{tree}{name}", seed)
    with pytest.warns(
        UserWarning, match=rf"3 files are there twice .*in {tmp_path} and in {tmp_path}/archive;"
    ):
        clips = load_flat(tmp_path, label_pattern=r"_(?P<label>\w+)")
    assert len(clips) == 3


def test_files_of_one_name_that_differ_are_different_recordings(tmp_path):
    for seed, speaker in enumerate(("ann", "ben")):
        write(tmp_path / f"sad/{speaker}/1.wav", seed)
    assert len(load_folders(tmp_path)) == 2
