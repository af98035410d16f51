from pathlib import Path

import pytest

from wavshap_lightning.audio.io import AUDIO_SUFFIXES
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import (
    Layout,
    audio_by_stem,
    check_unique,
    entries_of,
    find_audio,
    listed,
)
from wavshap_lightning.errors import CorpusError

LAYOUT = Layout("toy", "a/b.wav", "https://example.org")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_audio_is_found_at_any_depth_sorted_and_nothing_else(tmp_path):
    wanted = [touch(tmp_path / f"a/b/c{suffix}") for suffix in AUDIO_SUFFIXES] + [touch(tmp_path / "Z.WAV")]
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


def test_entries_are_what_lies_right_below(tmp_path):
    for name in ("b/x.wav", "a.txt", ".hidden/x.wav", "._a.txt"):
        touch(tmp_path / name)
    (tmp_path / "c").symlink_to(tmp_path / "b")
    assert [path.name for path in entries_of(tmp_path)] == ["a.txt", "b", "c"]
    with pytest.raises(CorpusError, match=r"none' cannot be read \(No such file or directory\)"):
        entries_of(tmp_path / "none")


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
    clips = [
        Clip(Path(f"{folder}/x.wav"), "sad", speaker=speaker) for folder, speaker in (("a", "1"), ("b", "2"))
    ]
    check_unique(clips)
    with pytest.raises(CorpusError, match=r"a/x\.wav and c/x\.flac are the same recording twice"):
        check_unique([*clips, Clip(Path("c/x.flac"), "sad", speaker="1")])


def test_lists_are_cut_after_five():
    assert listed("abcde") == "a, b, c, d, e"
    assert listed("abcdef") == "a, b, c, d, e and 1 more"
    assert listed("abc", limit=2, separator=" = ") == "a = b and 1 more"
