import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from wavshap_lightning.corpora.catalogue import CORPORA, corpus_named, load_corpus
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.imports import FORMATS
from wavshap_lightning.corpora.labels import EMOTIONS
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.errors import CorpusError, SettingError

RAVDESS = Path(__file__).parents[2].parent / "shared/data/ravdess"
NAMED = [
    name for name in CORPORA if name not in {"planted", "planted-in", "manifest", "folders", "flat", *FORMATS}
]


def build_ravdess(root, actors=range(1, 25)):
    for actor in actors:
        for emotion in range(1, 9):
            for take in (1, 2):
                (root / f"03-01-{emotion:02d}-01-01-{take:02d}-{actor:02d}.wav").touch()
    return root


def build_planted(root, corpus="planted"):
    clips = []
    for split in ("train", "validation", "test"):
        for label in ("tremor", "rising"):
            path = root / f"{split}-{label}.wav"
            path.touch()
            clips.append(Clip(path, label, speaker=f"s-{split}", corpus=corpus, split=split))
    save_manifest(root / "manifest.jsonl", clips)
    return clips


def test_the_table_is_whole():
    assert set(NAMED) == {
        "ravdess",
        "crema-d",
        "emo-db",
        "tess",
        "savee",
        "jl-corpus",
        "iemocap",
        "meld",
        "msp-podcast",
        "esd",
    }
    for name, corpus in CORPORA.items():
        assert corpus.name == name
        assert corpus.licence
    assert all(CORPORA[name].layout.homepage for name in NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_the_labels_of_a_named_corpus_are_emotions_in_order(name):
    labels = CORPORA[name].labels
    assert list(labels) == [label for label in EMOTIONS if label in labels]
    assert len(labels) >= 4
    assert not {"other", "no-agreement"} & set(labels)


def test_default_maps_merge_and_drop_only_where_they_say():
    assert CORPORA["iemocap"].labels == ("neutral", "happy", "sad", "angry")
    assert len(CORPORA["msp-podcast"].labels) == 8
    assert len(CORPORA["ravdess"].labels) == 8
    assert len(CORPORA["jl-corpus"].labels) == 10


@pytest.mark.parametrize("spelling", ["emo-db", "EMO_DB", "emodb", "EmoDB"])
def test_spelling_does_not_matter(spelling):
    assert corpus_named(spelling) is CORPORA["emo-db"]


def test_an_unknown_name_lists_the_known():
    with pytest.raises(CorpusError, match=r"corpus='ravdes' must be one of ravdess, crema-d, .*flat"):
        load_corpus("ravdes", ".")


def test_labels_can_be_mapped_selected_and_limited(tmp_path):
    build_ravdess(tmp_path)
    assert len(load_corpus("ravdess", tmp_path)) == 24 * 16
    label_map = {label: label for label in CORPORA["ravdess"].labels} | {"calm": "neutral", "disgust": None}
    clips = load_corpus(
        "ravdess", tmp_path, label_map=label_map, labels=["sad", "neutral"], max_samples=30, seed=1
    )
    assert Counter(clip.label for clip in clips) == {"neutral": 20, "sad": 10}
    again = load_corpus(
        "ravdess", tmp_path, label_map=label_map, labels=["sad", "neutral"], max_samples=30, seed=1
    )
    assert clips == again
    assert clips == sorted(clips, key=lambda clip: clip.path)


def test_maps_and_labels_that_do_not_fit_are_refused(tmp_path):
    build_ravdess(tmp_path)
    with pytest.raises(CorpusError, match=r"label_map lacks labels=\['angry', 'calm'"):
        load_corpus("ravdess", tmp_path, label_map={"sad": "sad"})
    with pytest.raises(CorpusError, match=r"missing=\['bored'\]"):
        load_corpus("ravdess", tmp_path, labels=["bored"])
    with pytest.raises(CorpusError, match="no clip is left"):
        load_corpus("ravdess", tmp_path, label_map=dict.fromkeys(CORPORA["ravdess"].labels))
    with pytest.raises(SettingError, match="max_samples=3 must be"):
        load_corpus("ravdess", tmp_path, max_samples=3)


def test_options_are_passed_on_and_unknown_ones_refused(tmp_path):
    (tmp_path / "anna_sad.wav").touch()
    clips = load_corpus("flat", tmp_path, label_pattern=r"(?P<speaker>\w+)_(?P<label>\w+)")
    assert (clips[0].speaker, clips[0].label) == ("anna", "sad")
    with pytest.raises(
        SettingError,
        match=r"missing a required argument: 'label_pattern'; its options are \['label",
    ):
        load_corpus("flat", tmp_path)
    with pytest.raises(SettingError, match=r"argument 'language'; its options are \[\]"):
        load_corpus("ravdess", tmp_path, language="english")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_pattern": 3}, "corpus='flat': label_pattern=3 must be text; put it in quotes"),
        ({"label_pattern": None}, "label_pattern=None must be text"),
        (
            {"label_pattern": "(?P<label>.)", "speaker_pattern": ["x"]},
            r"speaker_pattern=\['x'\] must be text",
        ),
        ({"label_pattern": "(?P<label>.)", "name": "x"}, r"unexpected keyword argument 'name'"),
        ({"label_pattern": "(?P<label>.)", "root": "x"}, r"multiple values for argument 'root'"),
        ({"label_pattern": "(?P<label>.)", "max_samples": 2, "seed": -1}, "seed=-1 must be at least 0"),
    ],
)
def test_options_and_settings_that_cannot_be_used_are_refused(tmp_path, options, message):
    (tmp_path / "anna_sad.wav").touch()
    with pytest.raises(SettingError, match=message):
        load_corpus("flat", tmp_path, **options)


def test_an_option_that_may_be_left_out_may_be_null(tmp_path):
    (tmp_path / "sad").mkdir()
    (tmp_path / "sad/a.wav").touch()
    assert len(load_corpus("folders", tmp_path, speaker_pattern=None)) == 1


@pytest.mark.parametrize("name", ["planted", "planted-in"])
def test_planted_speech_is_read_from_its_manifest(name, tmp_path):
    clips = build_planted(tmp_path, name)
    assert load_corpus(name, tmp_path) == clips
    split = CORPORA[name].protocol(clips).split(clips, 0)
    assert [len(members) for _, members in split.items()] == [2, 2, 2]
    (tmp_path / "manifest.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"holds 0 files named manifest.csv, .tsv or .jsonl"):
        load_corpus(name, tmp_path)


def speakers(*names, split=None, corpus="x"):
    return [
        Clip(Path(f"{name}/{index}.wav"), "sad", speaker=name, split=split, corpus=corpus, text=str(index))
        for name in names
        for index in range(4)
    ]


CLIPS = {
    "ravdess": speakers(*(f"{actor:02d}" for actor in range(1, 25))),
    "crema-d": speakers(*(str(actor) for actor in range(1001, 1092)), corpus="crema-d"),
    "emo-db": speakers(*(f"{number:02d}" for number in (3, *range(8, 17)))),
    "tess": speakers("OAF", "YAF"),
    "savee": speakers("DC", "JE", "JK", "KL"),
    "jl-corpus": speakers("female1", "female2", "male1", "male2"),
    "iemocap": speakers(*(f"Ses0{session}{letter}" for session in range(1, 6) for letter in "FM")),
    "meld": [clip for split in ("train", "validation", "test") for clip in speakers("Monica", split=split)],
    "msp-podcast": [clip for split in ("train", "validation", "test") for clip in speakers("7", split=split)],
    "esd": speakers(*(f"{number:04d}" for number in range(1, 21))),
}
FOLDS = {
    "ravdess": 6,
    "crema-d": 5,
    "emo-db": 10,
    "tess": 2,
    "savee": 4,
    "jl-corpus": 4,
    "iemocap": 5,
    "esd": 5,
}


@pytest.mark.parametrize("name", NAMED)
def test_default_protocols_split_their_corpus_by_speaker(name):
    clips = CLIPS[name]
    protocol = CORPORA[name].protocol(clips)
    assert len(protocol.folds) == FOLDS.get(name, 1)
    assert protocol.unit == ("speaker" if name in FOLDS else "split")
    for index in range(len(protocol.folds)):
        split = protocol.split(clips, index)
        assert sum(len(members) for _, members in split.items()) == len(clips)
        if protocol.unit == "speaker":
            tested = {clip.speaker for clip in split["test"]}
            assert tested.isdisjoint(clip.speaker for clip in (*split["train"], *split["validation"]))


def test_only_tess_shares_validation():
    sharing = [name for name in NAMED if CORPORA[name].protocol(CLIPS[name]).shared_validation]
    assert sharing == ["tess"]


@pytest.mark.skipif(not RAVDESS.is_dir(), reason="the recordings of RAVDESS are not on this machine")
def test_ravdess_has_the_expected_number_of_clips():
    assert len(load_corpus("ravdess", RAVDESS)) == CORPORA["ravdess"].expected_clips


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("other", ["NFC", "NFD"])
def test_roots_and_patterns_find_names_in_another_unicode_form(tmp_path, form, other):
    root = tmp_path / unicodedata.normalize(other, "Gefühle")
    for name in ("Jörg_Ärger_1", "Zoë_Freude_2"):
        root.mkdir(exist_ok=True)
        (root / unicodedata.normalize(other, f"{name}.wav")).touch()
    clips = load_corpus(
        "flat",
        unicodedata.normalize(form, str(root)),
        label_pattern=unicodedata.normalize(form, r"^(?P<speaker>\w+)_(?P<label>[Ä-Ü]?[a-zA-Z]+)_"),
        labels=[unicodedata.normalize(form, "Ärger"), "Freude"],
    )
    assert {(clip.speaker, clip.label) for clip in clips} == {("Jörg", "Ärger"), ("Zoë", "Freude")}


def test_every_scale_rises_and_belongs_to_a_dimension():
    scales = {name: corpus.scales for name, corpus in CORPORA.items() if corpus.scales}
    assert scales["msp-podcast"]["valence"] == (1.0, 7.0)
    assert scales["iemocap"]["dominance"] == (1.0, 5.0)
    assert scales["ravdess"] == {"intensity": (1.0, 2.0)}
    assert all(low < high for of_corpus in scales.values() for low, high in of_corpus.values())


@pytest.mark.parametrize("labels", [None, ["sad", "angry"]])
def test_clips_without_agreement_stay_on_demand_with_the_classes_that_are_chosen(tmp_path, labels):
    rows = ["a.wav,sad", "b.wav,angry", "c.wav,no-agreement"]
    for row in rows:
        (tmp_path / row.split(",")[0]).touch()
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label", *rows]))
    kept = {
        way: load_corpus("manifest", tmp_path, labels=labels, no_agreement=way) for way in ("drop", "soft")
    }
    assert [clip.label for clip in kept["drop"]] == ["sad", "angry"]
    assert [clip.label for clip in kept["soft"]] == ["sad", "angry", "no-agreement"]
