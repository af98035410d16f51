import pytest

from wavshap_lightning.corpora.meld import load_meld
from wavshap_lightning.errors import CorpusError

HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
)
TABLES = {"train": "train_sent_emo.csv", "dev": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
RELEASE = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}


def row(dialogue=0, turn=0, *, emotion="joy", speaker="Monica", text='"Hi, you!"'):
    return f'1,{text},{speaker},{emotion},positive,{dialogue},{turn},8,21,"00:16:16,059","00:16:21,731"\n'


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def build(root, rows, table_folder="", audio_folder="{release}", missing=()):
    for split, lines in rows.items():
        table = root / table_folder.format(split=split) / TABLES[split]
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(HEADER + "".join(lines), encoding="utf-8")
        for line in lines:
            dialogue, turn = line.split(",positive,")[1].split(",")[:2]
            stem = f"dia{dialogue}_utt{turn}"
            if stem not in missing:
                touch(root / audio_folder.format(split=split, release=RELEASE[split]) / f"{stem}.wav")
    return root


ROWS = {
    "train": [row(), row(0, 1, emotion="anger", speaker="Ross")],
    "dev": [row(emotion="neutral")],
    "test": [row(emotion="fear")],
}


def test_ids_that_repeat_across_splits_stay_apart(tmp_path):
    clips = load_meld(build(tmp_path, ROWS))
    assert [(clip.split, clip.dialogue, clip.label) for clip in clips] == [
        ("validation", "validation-dia0", "neutral"),
        ("test", "test-dia0", "fearful"),
        ("train", "train-dia0", "happy"),
        ("train", "train-dia0", "angry"),
    ]
    assert clips[0].path == tmp_path / "dev_splits_complete/dia0_utt0.wav"
    assert (clips[2].text, clips[2].speaker, clips[3].speaker) == ("Hi, you!", "Monica", "Ross")


@pytest.mark.parametrize(
    ("table_folder", "audio_folder"),
    [
        ("", "{split}"),
        ("", "{split}/{release}"),
        ("", "wav/{split}"),
        ("{split}", "{split}"),
        ("{split}", "{split}/{release}"),
    ],
)
def test_recordings_may_lie_beside_the_tables_or_in_folders(tmp_path, table_folder, audio_folder):
    corpus = build(tmp_path / "MELD.Raw", ROWS, table_folder, audio_folder)
    assert len(load_meld(corpus)) == len(load_meld(tmp_path)) == 4


def test_recordings_of_several_splits_in_one_folder_are_not_guessed(tmp_path):
    with pytest.raises(CorpusError, match=r"2 of 2 turns of train_sent_emo\.csv have no recording"):
        load_meld(build(tmp_path / "y", ROWS, audio_folder=""))
    only_train = build(tmp_path / "x", {"train": ROWS["train"]}, audio_folder="")
    assert len(load_meld(only_train)) == 2


def test_the_two_broken_turns_are_left_out_of_their_own_split_only(tmp_path):
    rows = {split: [row(125, 3), row(110, 7)] for split in TABLES}
    clips = load_meld(build(tmp_path, rows))
    assert sorted((clip.split, clip.path.stem) for clip in clips) == [
        ("test", "dia110_utt7"),
        ("test", "dia125_utt3"),
        ("train", "dia110_utt7"),
        ("validation", "dia125_utt3"),
    ]


def test_missing_recordings_are_counted_and_the_remedy_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"1 of 2 turns of train_sent_emo.csv.*\(dia0_utt1\).*ffmpeg -i"):
        load_meld(build(tmp_path, ROWS, missing=["dia0_utt1"]))


def test_tables_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"none of \['train_sent_emo.csv'.*Expected files such as"):
        load_meld(tmp_path)
    with pytest.raises(CorpusError, match=r"labels=\['glee'\] of train_sent_emo.csv must be among"):
        load_meld(build(tmp_path / "a", {"train": [row(emotion="glee")]}))
    build(tmp_path / "b/one", ROWS)
    with pytest.warns(
        UserWarning, match=r"3 files are there twice with the same content, in .*/b and in .*/b/one;"
    ):
        assert load_meld(build(tmp_path / "b", ROWS)) == load_meld(build(tmp_path / "b", ROWS))
    (tmp_path / "b/one/train_sent_emo.csv").write_text(HEADER)
    with pytest.raises(CorpusError, match=r"twice differ \(.*/train_sent_emo\.csv\)"):
        load_meld(tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/dev_sent_emo.csv").write_text("Utterance,Speaker\n")
    with pytest.raises(
        CorpusError, match=r"missing columns=\['Emotion', 'Dialogue_ID', 'Utterance_ID'\]; found"
    ):
        load_meld(tmp_path / "c")


def test_a_row_without_a_label_is_named_and_a_split_without_labels_can_be_left_out(tmp_path):
    build(tmp_path, {"train": [row(0)], "test": [row(1, emotion="")]})
    with pytest.raises(CorpusError, match=r"line=2 of test_sent_emo\.csv: Emotion is empty; remove the row"):
        load_meld(tmp_path)
    next(tmp_path.rglob("test_sent_emo.csv")).unlink()
    assert [clip.split for clip in load_meld(tmp_path)] == ["train"]


def test_films_are_read_as_they_come(tmp_path):
    root = build(tmp_path, {"train": [row()]})
    (sound,) = root.rglob("*.wav")
    sound.rename(sound.with_suffix(".mp4"))
    (clip,) = load_meld(root)
    assert clip.path == sound.with_suffix(".mp4")
