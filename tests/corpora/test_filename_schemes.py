from collections import Counter
from pathlib import Path

import pytest
import soundfile

from wavshap_lightning.corpora import filename_schemes
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import spoken_text
from wavshap_lightning.errors import CorpusError

RAVDESS = Path(__file__).parents[2].parent / "shared/data/ravdess"
LOADERS = {
    scheme.layout.corpus: scheme.load
    for scheme in vars(filename_schemes).values()
    if isinstance(scheme, filename_schemes.FilenameScheme)
}


def build(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize(
    ("corpus", "name", "expected"),
    [
        ("ravdess", "Actor_24/03-01-05-02-02-01-24.wav", ("angry", "24", "Dogs are sitting by the door")),
        ("ravdess", "03-01-08-01-01-02-01.flac", ("surprised", "01", "Kids are talking by the door")),
        ("crema-d", "1091_WSI_NEU_XX.wav", ("neutral", "1091", "We'll stop in a couple of minutes")),
        ("crema-d", "AudioWAV/1040_ITH_SAD_X.wav", ("sad", "1040", "I think I have a doctor's appointment")),
        ("emo-db", "wav/03a01Fa.wav", ("happy", "03", None)),
        ("emo-db", "16b10Lb.wav", ("bored", "16", None)),
        ("emo-db", "10a05Aa.wav", ("fearful", "10", None)),
        ("tess", "OAF_Pleasant_surprise/OAF_back_ps.wav", ("surprised", "OAF", "back")),
        ("tess", "YAF_fear/YAF_youth_fear.wav", ("fearful", "YAF", "youth")),
        ("tess", "OAF_neutral/OA_bite_neutral.wav", ("neutral", "OAF", "bite")),
        ("savee", "AudioData/DC/sa01.wav", ("sad", "DC", None)),
        ("savee", "ALL/KL_su15.wav", ("surprised", "KL", None)),
        ("savee", "JK/d03.wav", ("disgust", "JK", None)),
        ("jl-corpus", "female1_angry_10a_1.wav", ("angry", "female1", None)),
        ("jl-corpus", "JL(wav+txt)/male2_encouraging_15b_2.wav", ("encouraging", "male2", None)),
    ],
)
def test_a_file_name_is_read(tmp_path, corpus, name, expected):
    build(tmp_path, name, "readme.txt", "._" + Path(name).name)
    (clip,) = LOADERS[corpus](tmp_path)
    assert (clip.label, clip.speaker, clip.text) == expected
    assert (clip.corpus, clip.path) == (corpus, tmp_path / name)
    assert clip.split is None


def test_the_intensity_of_ravdess_is_a_value(tmp_path):
    clips = filename_schemes.RAVDESS.load(
        build(tmp_path, "03-01-05-01-01-01-01.wav", "03-01-05-02-01-01-01.wav")
    )
    assert [clip.values for clip in clips] == [(("intensity", 1.0),), (("intensity", 2.0),)]


CREMA_D_VOTES = """"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"
"100001",0,0,0,1,10,0,"1001_IEO_NEU_XX",11,0.909090909090909,"N"
"100009",5,5,0,0,1,1,"1001_IEO_ANG_MD",12,0.416666666666667,"A:D"
"200001",0,0,0,9,0,0,"1001_IEO_NEU_XX",9,1,"H"
"300001",0,9,0,0,0,0,"1001_IEO_NEU_XX",9,1,"D"
"""


@pytest.mark.parametrize("root", ["", "AudioWAV"])
def test_votes_of_crema_d_are_those_on_the_voice_alone(tmp_path, root):
    build(tmp_path, *(f"AudioWAV/1001_IEO_{emotion}.wav" for emotion in ("ANG_MD", "NEU_XX", "SAD_LO")))
    assert {clip.votes for clip in filename_schemes.load_crema_d(tmp_path / root)} == {()}
    table = tmp_path / "processedResults/tabulatedVotes.csv"
    table.parent.mkdir()
    table.write_text(CREMA_D_VOTES)
    angry, neutral, unrated = filename_schemes.load_crema_d(tmp_path / root)
    assert {label: count for label, count in angry.votes if count} == {
        "angry": 5,
        "disgust": 5,
        "neutral": 1,
        "sad": 1,
    }
    assert {label: count for label, count in neutral.votes if count} == {"happy": 1, "neutral": 10}
    assert (angry.label, neutral.label, unrated.votes) == ("angry", "neutral", ())
    table.write_text(CREMA_D_VOTES.replace('"fileName"', '"clip"'))
    with pytest.raises(CorpusError, match=r"tabulatedVotes.csv lacks the columns \['fileName'\]"):
        filename_schemes.load_crema_d(tmp_path / root)
    table.write_text(CREMA_D_VOTES.replace("5,5", "5,many"))
    with pytest.raises(CorpusError, match=r"1001_IEO_ANG_MD.*many"):
        filename_schemes.load_crema_d(tmp_path / root)


def test_a_savee_root_may_be_one_speakers_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(build(tmp_path, "JE/h01.wav") / "JE")
    (clip,) = filename_schemes.SAVEE.load(Path())
    assert (clip.speaker, clip.label) == ("JE", "happy")


def test_ravdess_leaves_out_film_and_song(tmp_path):
    names = ["03-01-01-01-01-01-01", "03-02-01-01-01-01-01", "01-01-01-01-01-01-01", "02-01-01-01-01-01-01"]
    build(tmp_path, *(f"{name}.wav" for name in names))
    assert [clip.path.stem for clip in filename_schemes.RAVDESS.load(tmp_path)] == names[:1]
    (tmp_path / f"{names[0]}.wav").unlink()
    with pytest.raises(CorpusError, match="none of its 3 audio files is a clip that is asked for"):
        filename_schemes.RAVDESS.load(tmp_path)


def test_crema_d_reads_one_of_its_two_copies(tmp_path):
    corpus = build(tmp_path / "CREMA-D", "AudioWAV/1001_DFA_ANG_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3")
    assert [clip.path.suffix for clip in filename_schemes.CREMA_D.load(corpus)] == [".wav"]
    (corpus / "AudioMP3/1001_DFA_ANG_XX.mp3").write_bytes(b"x")
    with pytest.raises(CorpusError, match="1 of 1 files that are there twice differ"):
        filename_schemes.CREMA_D.load(tmp_path)


KAGGLE = {
    "ravdess": ("Actor_01/03-01-05-01-02-01-01.wav", "audio_speech_actors_01-24"),
    "tess": ("OAF_angry/OAF_back_angry.wav", "TESS Toronto emotional speech set data"),
}


@pytest.mark.parametrize("corpus", KAGGLE)
def test_a_corpus_that_is_there_twice_is_read_once(tmp_path, corpus):
    name, inner = KAGGLE[corpus]
    for path in (tmp_path / name, tmp_path / inner / name):
        path.parent.mkdir(parents=True)
        soundfile.write(path, [0.1, 0.2], 16_000)
    with pytest.warns(
        UserWarning, match=rf"1 files are there twice .*, in {tmp_path} and in {tmp_path}/{inner};"
    ):
        assert len(LOADERS[corpus](tmp_path)) == 1
    soundfile.write(path, [0.1, 0.3], 16_000)
    with pytest.raises(CorpusError, match=rf"1 of 1 .* differ .* and in {tmp_path}/{inner}; set root to"):
        LOADERS[corpus](tmp_path)


def test_a_copy_inside_a_folder_of_its_own_name_is_named_whole(tmp_path):
    once = tmp_path / "TESS"
    for folder in (once, once / "TESS"):
        path = folder / KAGGLE["tess"][0]
        path.parent.mkdir(parents=True)
        soundfile.write(path, [0.1, 0.2], 16_000)
    with pytest.warns(UserWarning, match=rf", in {once} and in {once}/TESS; the second copy is left out"):
        assert len(LOADERS["tess"](tmp_path)) == 1


def test_films_of_the_same_takes_are_no_strangers(tmp_path):
    build(tmp_path, "AudioData/DC/a01.wav", "Films/DC/a1.avi", "Films/DC/a01.avi")
    assert [clip.path.suffix for clip in filename_schemes.SAVEE.load(tmp_path)] == [".wav"]


def test_the_two_broken_clips_of_crema_d_are_left_out(tmp_path):
    build(
        tmp_path, "1076_MTI_SAD_XX.wav", "1064_IEO_DIS_MD.wav", "1064_IEO_DIS_HI.wav", "1075_MTI_SAD_XX.wav"
    )
    assert [clip.name for clip in filename_schemes.CREMA_D.load(tmp_path)] == [
        "1064_IEO_DIS_HI",
        "1075_MTI_SAD_XX",
    ]


def test_savee_names_may_repeat_among_speakers(tmp_path):
    build(tmp_path, "DC/a01.wav", "JE/a01.wav")
    assert [clip.speaker for clip in filename_schemes.SAVEE.load(tmp_path)] == ["DC", "JE"]


@pytest.mark.parametrize(
    ("corpus", "stranger"),
    [
        ("ravdess", "03-01-09-01-01-01-01.wav"),
        ("ravdess", "03-01-01-01-01-01.wav"),
        ("crema-d", "1001_DFA_JOY_XX.wav"),
        ("crema-d", "1001_QQQ_ANG_XX.wav"),
        ("emo-db", "03a01Xa.wav"),
        ("tess", "MAF_back_angry.wav"),
        ("savee", "XX/a01.wav"),
        ("savee", "DC/sx01.wav"),
        ("jl-corpus", "xmale1_angry_1a_1.wav"),
        ("jl-corpus", "male3_angry_1a_1.wav"),
    ],
)
def test_a_name_of_another_kind_is_an_error(tmp_path, corpus, stranger):
    with pytest.raises(CorpusError, match="1 of 1 audio files have names that the corpus does not use"):
        LOADERS[corpus](build(tmp_path, stranger))


def test_five_strangers_are_listed(tmp_path):
    build(tmp_path, "03-01-01-01-01-01-01.wav", *(f"x{index}.wav" for index in range(7)))
    with pytest.raises(CorpusError, match=r"7 of 8 audio files.*x0\.wav, .*x4\.wav and 2 more\)") as caught:
        filename_schemes.RAVDESS.load(tmp_path)
    assert "x5.wav" not in str(caught.value)


@pytest.mark.parametrize("corpus", LOADERS)
def test_a_root_without_the_corpus_says_what_was_expected(tmp_path, corpus):
    for root in (build(tmp_path, "note.txt"), tmp_path / "absent", tmp_path / "note.txt"):
        with pytest.raises(CorpusError, match=rf"corpus='{corpus}'.*Expected files such as ROOT/.*https?://"):
            LOADERS[corpus](root)


@pytest.mark.skipif(not RAVDESS.is_dir(), reason="the recordings of RAVDESS are not on this machine")
def test_all_of_ravdess():
    clips = filename_schemes.RAVDESS.load(RAVDESS)
    assert len(clips) == 1440
    assert clips == sorted(clips, key=lambda clip: clip.path)
    others = ["calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
    assert Counter(clip.label for clip in clips) == {"neutral": 96, **dict.fromkeys(others, 192)}
    assert Counter(clip.speaker for clip in clips) == {f"{actor:02d}": 60 for actor in range(1, 25)}
    assert {clip.path.parent.name for clip in clips if clip.speaker == "07"} == {"Actor_07"}
    assert Counter(clip.text for clip in clips).most_common(1)[0][1] == 720
    assert Counter(clip.values for clip in clips) == {(("intensity", 1.0),): 768, (("intensity", 2.0),): 672}


# What is spoken


@pytest.mark.parametrize(
    ("path", "fields", "text"),
    [
        ("03-01-05-01-02-01-01.wav", {}, "Dogs are sitting by the door"),
        ("1001_IEO_ANG_XX.wav", {"corpus": "crema-d", "text": "It's eleven o'clock"}, "It's eleven o'clock"),
        ("OAF_back_angry.wav", {"corpus": "tess", "text": "back"}, "Say the word back"),
        ("OAF_back_angry.wav", {"corpus": "mine", "text": "Another one"}, "Another one"),
        ("a.wav", {"text": "Any words"}, "Any words"),
    ],
)
def test_the_text_of_a_clip(tmp_path, path, fields, text):
    assert spoken_text(Clip(tmp_path / path, "angry", **fields)) == text


def test_a_text_beside_a_recording_is_that_of_the_whole_recording(tmp_path):
    (tmp_path / "a.lab").write_text("second\n")
    assert spoken_text(Clip(tmp_path / "a.wav", "angry")) == "second"
    (tmp_path / "a.txt").write_text("\ufefffirst  one\n", encoding="utf-8")
    assert spoken_text(Clip(tmp_path / "a.wav", "angry")) == "first one"
    with pytest.raises(CorpusError, match="text=None: give --text"):
        spoken_text(Clip(tmp_path / "a.wav", "angry", start_s=1.0))
    (tmp_path / "a.txt").write_bytes(b"\xff\xff\xff")
    with pytest.raises(CorpusError, match=r"text=.*a.txt cannot be read: is not UTF-8"):
        spoken_text(Clip(tmp_path / "a.wav", "angry"))


def test_a_corpus_of_another_language_has_no_english_text(tmp_path):
    with pytest.raises(CorpusError, match=r"corpus='emo-db' is in German.*give alignments made elsewhere"):
        spoken_text(Clip(tmp_path / "03a01Wa.wav", "angry", corpus="emo-db"))
