from pathlib import Path

import pytest

from wavshap_lightning.corpora.iemocap import FOUR_CLASSES, load_iemocap, read_turns
from wavshap_lightning.corpora.labels import apply_label_map
from wavshap_lightning.errors import CorpusError

EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral;\t()
C-F1:\tFrustration; Anger;\t(tired)
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M003\texc\t[2.5000, 2.5000, 2.5000]
C-E2:\tExcited;\t()

[14.8872 - 18.0175]\tSes01F_impro01_F002\txxx\t[2.5000, 2.5000, 2.5000]
"""
NAMES = ["Ses01F_impro01_F000", "Ses01F_impro01_F002", "Ses01F_impro01_M003"]


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="latin-1")
    return path


def build(root, evaluation=EVALUATION, *, sentences=NAMES, dialogue=False):
    session = root / "Session1"
    write(session / "dialog/EmoEvaluation/Ses01F_impro01.txt", evaluation)
    write(session / "dialog/EmoEvaluation/._Ses01F_impro01.txt", "[not a turn")
    write(session / "dialog/EmoEvaluation/Categorical/Ses01F_impro01_e1.txt", "[not a turn")
    write(
        session / "dialog/transcriptions/Ses01F_impro01.txt",
        "Ses01F_impro01_F000 [006.29-008.23]: Excuse me.\n",
    )
    for name in sentences:
        write(session / f"sentences/wav/Ses01F_impro01/{name}.wav")
    if dialogue:
        write(session / "dialog/wav/Ses01F_impro01.wav")
    return root


def test_the_speaker_is_the_last_letter_and_not_the_dialogues(tmp_path):
    clips = {clip.name: clip for clip in load_iemocap(build(tmp_path))}
    assert {name: clip.speaker for name, clip in clips.items()} == dict(
        zip(NAMES, ["Ses01F", "Ses01F", "Ses01M"], strict=True)
    )
    assert {clip.dialogue for clip in clips.values()} == {"Ses01F_impro01"}


def test_labels_votes_and_texts_are_read(tmp_path):
    neutral, nobody, excited = load_iemocap(build(tmp_path))
    assert [clip.label for clip in (neutral, nobody, excited)] == ["neutral", "no-agreement", "excited"]
    # Not the actress's own verdict, C-F1.
    assert neutral.votes == (("neutral", 2.0),)
    assert (neutral.text, excited.text) == ("Excuse me.", None)
    assert (neutral.start_s, neutral.end_s) == (None, None)


def test_votes_are_emotions_and_values_are_valence_arousal_and_dominance(tmp_path):
    turn = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[140.2250 - 145.6000]\tSes01F_impro01_F000\tang\t[1.5000, 4.0000, 4.5000]
C-E1:\tAnger; Frustration;\t()
C-E3:\tNeutral state;\t()
C-E4:\tAnger; Other;\t(disbelief)
C-F1:\tSadness;\t()
A-E3:\tval 2; act 4; dom  4;\t()
A-E4:\tval 1; act 4; dom  5;\t(threatening, belligerent)

[146.0000 - 147.0000]\tSes01F_impro01_F001\tneu
"""
    names = ["Ses01F_impro01_F000", "Ses01F_impro01_F001"]
    angry, plain = load_iemocap(build(tmp_path, turn, sentences=names))
    assert dict(angry.votes) == {"angry": 2.0, "frustrated": 1.0, "neutral": 1.0, "other": 1.0}
    assert dict(angry.values) == {"valence": 1.5, "arousal": 4.0, "dominance": 4.5}
    assert (plain.votes, plain.values) == ((), ())


def test_the_default_map_makes_excitement_happy_and_leaves_the_rest_out(tmp_path):
    mapped = apply_label_map(load_iemocap(build(tmp_path)), FOUR_CLASSES)
    assert [(clip.name, clip.label) for clip in mapped] == [(NAMES[0], "neutral"), (NAMES[2], "happy")]


def test_without_sentence_files_clips_are_spans_of_the_dialogue(tmp_path):
    clips = load_iemocap(build(tmp_path, sentences=[], dialogue=True))
    assert [(clip.start_s, clip.end_s) for clip in clips] == [
        (6.2901, 8.2357),
        (10.01, 11.3925),
        (14.8872, 18.0175),
    ]
    assert {clip.path for clip in clips} == {tmp_path / "Session1/dialog/wav/Ses01F_impro01.wav"}


def test_the_root_may_be_one_above(tmp_path):
    build(tmp_path / "IEMOCAP_full_release")
    assert len(load_iemocap(tmp_path)) == 3


def test_turns_without_recording_are_counted(tmp_path):
    with pytest.raises(
        CorpusError, match=r"2 of 3 turns of Session1 have no recording \(Ses01F_impro01_M003, "
    ):
        load_iemocap(build(tmp_path, sentences=NAMES[:1]))


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (EVALUATION.replace("\tneu\t", "\tjoy\t"), r"labels=\['joy'\] of Session1 must be among"),
        (EVALUATION.replace("8.2357]", "8.2357"), "is not a turn; fetch a clean copy"),
        ("% nothing\n", "hold no turn"),
    ],
)
def test_a_damaged_evaluation_is_an_error(tmp_path, evaluation, message):
    with pytest.raises(CorpusError, match=message):
        load_iemocap(build(tmp_path, evaluation))


def test_a_folder_without_sessions_says_what_was_expected(tmp_path):
    with pytest.raises(
        CorpusError, match=r"no SessionN/dialog/EmoEvaluation.*Expected files such as ROOT/Session1"
    ):
        load_iemocap(tmp_path)


def test_names_with_more_tokens_keep_their_dialogue(tmp_path):
    line = "[1.0 - 2.0]\tSes05M_script03_2_M012\tang\t[1.0, 1.0, 1.0]\n"
    ((_, turn),) = read_turns(write(Path(tmp_path) / "t.txt", line))
    assert (turn.dialogue, turn.speaker) == ("Ses05M_script03_2", "Ses05M")
