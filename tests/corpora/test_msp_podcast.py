import pytest

from wavshap_lightning.corpora.msp_podcast import load_msp_podcast
from wavshap_lightning.errors import CorpusError

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
ROWS = [
    ("MSP-PODCAST_0001_0001.wav", "A", "7", "Train"),
    ("MSP-PODCAST_0001_0002.wav", "X", "Unknown", "Train"),
    ("MSP-PODCAST_0002_0001.wav", "C", "8", "Development"),
    ("MSP-PODCAST_0003_0001.wav", "U", "9", "Test1"),
    ("MSP-PODCAST_0004_0001.wav", "O", "Unknown", "Test2"),
]


def build(root, rows=ROWS, *, labels="Labels", audio="Audios", missing=()):
    table = root / labels / "labels_consensus.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(
        HEADER + "".join(f"{name},{emo},4.0,4.0,4.0,{who},Male,{split}\n" for name, emo, who, split in rows)
    )
    (root / audio).mkdir(parents=True, exist_ok=True)
    for name, *_ in rows:
        if name not in missing:
            (root / audio / name).touch()
    return root


def test_consensus_labels_speakers_and_splits_are_read(tmp_path):
    clips = load_msp_podcast(build(tmp_path))
    assert [(clip.label, clip.speaker, clip.split) for clip in clips] == [
        ("angry", "7", "train"),
        ("no-agreement", "", "train"),
        ("contempt", "8", "validation"),
        ("surprised", "9", "test"),
    ]
    assert clips[0].path == tmp_path / "Audios/MSP-PODCAST_0001_0001.wav"


def test_another_test_set_replaces_the_first(tmp_path):
    clips = load_msp_podcast(build(tmp_path), test_set="Test2")
    assert [(clip.label, clip.name) for clip in clips if clip.split == "test"] == [
        ("other", "MSP-PODCAST_0004_0001")
    ]
    assert len(clips) == 4
    with pytest.raises(CorpusError, match="test_set='Test4' must be one of Test1, Test2, Test3"):
        load_msp_podcast(tmp_path, test_set="Test4")


@pytest.mark.parametrize(
    ("labels", "audio"), [("", "Audio"), ("Labels", "Audios/audio_files"), ("", "audios")]
)
def test_folders_may_be_named_as_in_other_releases(tmp_path, labels, audio):
    corpus = build(tmp_path / "MSP", labels=labels, audio=audio)
    assert len(load_msp_podcast(corpus)) == len(load_msp_podcast(tmp_path)) == 4


def test_only_turns_that_are_wanted_need_recordings(tmp_path):
    build(tmp_path, missing=[ROWS[-1][0]])
    assert len(load_msp_podcast(tmp_path)) == 4
    with pytest.raises(CorpusError, match=r"1 of 4 turns .* have no recording \(MSP-PODCAST_0004_0001\)"):
        load_msp_podcast(tmp_path, test_set="Test2")


def test_only_turns_that_are_wanted_need_labels(tmp_path):
    """Test3 is published without its labels, and releases to come may have more test sets."""
    rows = [("MSP-PODCAST_0005_0001.wav", "", "", "Test3"), ("MSP-PODCAST_0006_0001.wav", "?", "", "Test4")]
    build(tmp_path, [*ROWS, *rows])
    assert len(load_msp_podcast(tmp_path)) == 4
    with pytest.raises(
        CorpusError, match=r"line=7 of .*: Split_Set='Test3' is asked for and EmoClass is empty; choose"
    ):
        load_msp_podcast(tmp_path, test_set="Test3")
    build(tmp_path, [*ROWS, ("MSP-PODCAST_0005_0001.wav", "", "", "Train")])
    with pytest.raises(CorpusError, match="EmoClass is empty; label the turn, or delete its line"):
        load_msp_podcast(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a.wav", "Q", "1", "Train"), r"labels=\['Q'\] of labels_consensus.csv must be"),
        (("a.wav", "A", "1", "Tset"), r"line=7 of labels_consensus.csv: Split_Set='Tset' must be"),
    ],
)
def test_unknown_codes_are_refused(tmp_path, row, message):
    with pytest.raises(CorpusError, match=f"{message}"):
        load_msp_podcast(build(tmp_path, [*ROWS, row]))


def test_a_root_without_the_table_says_what_was_expected(tmp_path):
    with pytest.raises(
        CorpusError,
        match=r"none of \['labels_consensus.csv'\] is below it. Expected files such as ROOT/Labels",
    ):
        load_msp_podcast(tmp_path)


COLUMNS = """FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom,Gender,Split_Set
{0},WORKER00000001,Angry,"Angry,Frustrated",6,2,5,Male,Train
{0},WORKER00000002,Angry,Disgust,5,2,6,Male,Train
{0},WORKER00000003,Surprise,,5,3,4,Male,Train
{0},WORKER00000004,Other-Annoyed,"Neutral, Other",5,3,4,Male,Train
"""
ONE_CELL = """FileName,EmoDetail
{0},"WORKER00000001; Angry; Angry,Frustrated; A:6.000000; V:2.000000; D:5.000000;"
{0},"WORKER00000002; Angry; Disgust; A:5.000000; V:2.000000; D:6.000000;"
{0},"WORKER00000003; Surprise; ; A:5.000000; V:3.000000; D:4.000000;"
{0},"WORKER00000004; Other-Annoyed; Neutral, Other; A:5.000000; V:3.000000; D:4.000000;"
"""


@pytest.mark.parametrize("table", [COLUMNS, ONE_CELL])
def test_votes_are_those_of_the_detailed_table_with_secondary_emotions_on_demand(tmp_path, table):
    build(tmp_path)
    (tmp_path / "Labels/labels_detailed.csv").write_text(table.format(ROWS[0][0]))
    first, second, *_ = load_msp_podcast(tmp_path)
    assert dict(first.votes) == {"angry": 2.0, "surprised": 1.0, "other": 1.0}
    assert second.votes == ()
    first, *_ = load_msp_podcast(tmp_path, votes="all")
    secondary = {"frustrated": 1.0, "disgust": 1.0, "neutral": 1.0}
    assert dict(first.votes) == {"angry": 2.0, "surprised": 1.0, "other": 2.0} | secondary
    with pytest.raises(CorpusError, match="votes='secondary' must be primary or all"):
        load_msp_podcast(tmp_path, votes="secondary")


def test_values_are_those_of_the_consensus(tmp_path):
    table = build(tmp_path) / "Labels/labels_consensus.csv"
    text = table.read_text()
    table.write_text(text.replace(",A,4.0,4.0,4.0,", ",A,5.2,2.4,").replace(",2.4,7,", ",2.4,,7,"))
    first, second, *_ = load_msp_podcast(tmp_path)
    assert dict(first.values) == {"arousal": 5.2, "valence": 2.4}  # dominance is missing
    assert dict(second.values) == dict.fromkeys(("arousal", "valence", "dominance"), 4.0)
    table.write_text(text.replace(",A,4.0,", ",A,high,"))
    with pytest.raises(CorpusError, match=r"line=2 of labels_consensus.csv: .*'high'.* must be numbers"):
        load_msp_podcast(tmp_path)


def test_no_test_set_leaves_training_and_validation(tmp_path):
    clips = load_msp_podcast(build(tmp_path), test_set="none")
    assert [clip.split for clip in clips] == ["train", "train", "validation"]
