import pytest

from wavshap_lightning.corpora.esd import load_esd
from wavshap_lightning.errors import CorpusError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def build(root, transcript=None, speaker="0011"):
    touch(root / "0001/Sad/train/0001_001051.wav")
    touch(root / "0011/Surprise/0011_001401.wav")
    touch(root / "ReadMe.txt")
    if transcript is not None:
        (root / speaker / f"{speaker}.txt").write_bytes(transcript)
    return root


def test_label_and_speaker_come_from_the_folders(tmp_path):
    for root in (build(tmp_path / "Emotion Speech Dataset"), tmp_path):
        clips = load_esd(root)
        assert [(clip.label, clip.speaker, clip.text) for clip in clips] == [
            ("sad", "0001", None),
            ("surprised", "0011", None),
        ]


def test_one_language_can_be_chosen(tmp_path):
    build(tmp_path)
    assert [clip.speaker for clip in load_esd(tmp_path, language="mandarin")] == ["0001"]
    assert [clip.speaker for clip in load_esd(tmp_path, language="english")] == ["0011"]
    (tmp_path / "0011/Surprise/0011_001401.wav").unlink()
    with pytest.raises(CorpusError, match="none of its 1 clips is of language='english'"):
        load_esd(tmp_path, language="english")
    with pytest.raises(CorpusError, match="language='french' must be one of mandarin, english"):
        load_esd(tmp_path, language="french")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("ending", ["\tSurprise", " Surprise", "\t", ""])
def test_english_transcripts_are_read_in_any_of_their_encodings(tmp_path, encoding, ending):
    transcript = f"\n0011_001401\tIt\u2019s here.{ending}\r\n\r\n"
    assert load_esd(build(tmp_path, transcript.encode(encoding)))[1].text == "It\u2019s here."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
@pytest.mark.parametrize("label", ["伤心", "Sad", ""])
def test_mandarin_transcripts_may_end_in_a_chinese_label_or_none(tmp_path, encoding, label):
    transcript = f"0001_001051\t它们的确很是美丽\t{label}\n"
    assert load_esd(build(tmp_path, transcript.encode(encoding), "0001"))[0].text == "它们的确很是美丽"


def test_a_file_in_no_emotions_folder_or_of_no_speaker_is_an_error(tmp_path):
    for stranger in ("0011/0011_000001.wav", "0021/Sad/0021_000001.wav", "0011/Sad/hello.wav"):
        root = build(tmp_path / stranger.replace("/", "-"))
        touch(root / stranger)
        with pytest.raises(CorpusError, match=r"1 of 3 audio files have names that the corpus does not use"):
            load_esd(root)


def test_a_root_without_the_corpus_or_with_it_twice_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match=r"Expected files such as ROOT/0011/Angry.*https://github.com"):
        load_esd(tmp_path)
    build(tmp_path / "a")
    build(tmp_path / "b")
    with pytest.warns(UserWarning, match="files are there twice with the same content"):
        copies_left_out = load_esd(tmp_path)
    assert len(copies_left_out) == len(load_esd(tmp_path / "a"))
    next((tmp_path / "b").rglob("*.wav")).write_bytes(b"x")
    with pytest.raises(CorpusError, match="twice differ"):
        load_esd(tmp_path)
