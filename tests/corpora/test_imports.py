"""Tables of other projects: the same clips from each format, and words for what cannot be read."""

from __future__ import annotations

import gzip
import json
import unicodedata

import numpy as np
import pytest
import yaml

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.corpora.catalogue import load_corpus
from wavshap_lightning.corpora.imports import FORMATS
from wavshap_lightning.corpora.manifest import read_manifest, save_manifest
from wavshap_lightning.errors import CorpusError

TEXT_CODES = {
    (speaker, index): f"a{4 * row + index:02d}"
    for row, speaker in enumerate(("ann", "ben", "cat"))
    for index in range(4)
}
SPLIT_OF = {"ann": "train", "ben": "validation", "cat": "test"}


@pytest.fixture
def sounds(tmp_path):
    """Two files of a second and a half."""
    for name in ("a", "b"):
        save_audio(tmp_path / f"{name}.wav", 0.1 * np.sin(np.arange(24_000) / (9 if name == "a" else 7)))
    return tmp_path


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def spans(clips):
    return [(clip.path.name, clip.label, clip.start_s, clip.end_s) for clip in clips]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_labels_speakers_texts_and_splits(kind, build_tree, tmp_path):
    clips = load_corpus(kind, build_tree(kind, tmp_path))
    found = {(clip.path.stem, clip.label, clip.speaker, clip.split, clip.text) for clip in clips}
    expected = {
        (
            f"{speaker}_{index}",
            ("happy", "sad")[index % 2],
            speaker,
            split,
            f"sentence {index}" if kind != "audformat" else TEXT_CODES[speaker, index],
        )
        for speaker, split in SPLIT_OF.items()
        for index in range(4)
    }
    assert found == expected
    assert all(clip.path.is_file() and clip.start_s is None and clip.corpus == kind for clip in clips)
    save_manifest(tmp_path / "clips.csv", clips)
    kept = [(clip.path.resolve(), clip.label, clip.split) for clip in clips]
    assert [
        (clip.path.resolve(), clip.label, clip.split) for clip in read_manifest(tmp_path / "clips.csv")
    ] == kept


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_files_are_found_in_another_unicode_form_and_with_backslashes(tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    save_audio(tmp_path / unicodedata.normalize(other, "Jörg/müde.wav"), np.full(800, 0.1))
    name = unicodedata.normalize(form, "Jörg\\müde.wav")
    write(tmp_path / "metadata.csv", "file_name,label,speaker", f"{name},sad,Jörg")
    (clip,) = load_corpus("audiofolder", tmp_path)
    assert clip.path.is_file()


# AudioFolder


def test_metadata_may_be_json_lines_and_folders_of_the_files_tell_the_split(build_tree, tmp_path):
    for split in ("train", "test"):
        save_audio(tmp_path / "data" / split / "x.wav", np.full(800, 0.1))
    rows = [
        {"audio_file_name": f"data/{split}/x.wav", "emotion": 3, "Speaker ID": split}
        for split in ("train", "test")
    ]
    write(tmp_path / "metadata.jsonl", *map(json.dumps, rows))
    clips = load_corpus("audiofolder", tmp_path)
    assert [(clip.label, clip.speaker, clip.split) for clip in clips] == [
        ("3", "train", "train"),
        ("3", "test", "test"),
    ]


def test_a_folder_without_metadata_is_labeled_by_its_folders(tmp_path):
    for label in ("happy", "sad"):
        save_audio(tmp_path / label / "x.wav", np.full(800, 0.1))
    assert [clip.label for clip in load_corpus("audiofolder", tmp_path)] == ["happy", "sad"]


def test_metadata_may_be_parquet(sounds):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"file_name": "a.wav", "label": "sad"}, {"file_name": "b.wav", "label": "happy"}]
    table = pytest.importorskip("pyarrow").Table.from_pylist(rows)
    parquet.write_table(table, sounds / "metadata.parquet")
    assert [clip.label for clip in load_corpus("audiofolder", sounds)] == ["sad", "happy"]


def test_times_in_parquet_are_seconds(sounds):
    pa = pytest.importorskip("pyarrow")
    times = {"start": [250_000_000, 0], "end": [750_000_000, None]}
    columns = {name: pa.array(its, pa.duration("ns")) for name, its in times.items()}
    table = pa.table({"file": ["a.wav", "b.wav"], **columns, "emotion": ["sad", "happy"]})
    pytest.importorskip("pyarrow.parquet").write_table(table, sounds / "db.emotion.parquet")
    write(sounds / "db.yaml", yaml.safe_dump({"tables": {"emotion": {}}}))
    assert spans(load_corpus("audformat", sounds)) == [
        ("a.wav", "sad", 0.25, 0.75),
        ("b.wav", "happy", None, None),
    ]


def test_parquet_without_its_reader_names_the_extra(sounds, monkeypatch):
    (sounds / "metadata.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(CorpusError, match=r"parquet: pip install 'wavshap-lightning\[parquet\]'"):
        load_corpus("audiofolder", sounds)


# Kaldi


def test_kaldi_segments_are_spans_and_copying_commands_are_their_files(sounds):
    write(sounds / "wav.scp", f"r1 cat {sounds}/a.wav |", f"r2 /opt/sph2pipe -f wav -p {sounds}/b.wav |")
    write(sounds / "segments", "u1 r1 0.25 1.0", "u2 r1 1.0 -1", "u3 r2 0 -1")
    write(sounds / "utt2emotion", "u1 sad", "u2 happy", "u3 very happy")
    write(sounds / "utt2spk", "u1 ann", "u2 ann", "u3 ben")
    clips = load_corpus("kaldi", sounds)
    assert spans(clips) == [
        ("a.wav", "sad", 0.25, 1.0),
        ("a.wav", "happy", 1.0, None),
        ("b.wav", "very happy", None, None),
    ]
    assert [clip.speaker for clip in clips] == ["ann", "ann", "ben"]


@pytest.mark.parametrize(
    "stated",
    [
        "sox a.wav -t wav - speed 1.1 |",
        "cat a.wav | touch ran |",
        "touch ran; cat a.wav |",
        "sph2pipe -f wav -c 2 a.wav |",
        "raw.ark:1234",
    ],
)
def test_commands_and_archives_are_refused_and_never_run(stated, sounds, monkeypatch):
    monkeypatch.chdir(sounds)
    write(sounds / "wav.scp", f"u1 {stated}")
    write(sounds / "utt2emo", "u1 sad")
    with pytest.raises(
        CorpusError, match=r"u1 is '.*; commands are not run, and archives not opened: save the sound"
    ):
        load_corpus("kaldi", sounds)
    assert not (sounds / "ran").exists()


def test_names_without_a_recording_and_doubled_names_are_refused(sounds):
    write(sounds / "wav.scp", "u1 a.wav")
    write(sounds / "utt2emo", "u1 sad", "u2 happy")
    with pytest.raises(CorpusError, match=r"1 names without a recording \(u2\); run utils/fix_data_dir.sh"):
        load_corpus("kaldi", sounds)
    write(sounds / "utt2emo", "u1 sad", "u1 happy")
    with pytest.raises(CorpusError, match=r"ValueError: a name is there twice"):
        load_corpus("kaldi", sounds)


def test_lines_may_end_as_on_windows_and_paths_start_where_the_recipe_runs(sounds):
    for split, name in (("train", "a"), ("test_dev93", "b")):
        for file, cell in (("wav.scp", f"{name}.wav"), ("utt2emo", "sad"), ("text", "")):
            write(sounds / f"data/{split}/{file}", f"u{name}\t{cell}\r")
    clips = load_corpus("kaldi", sounds / "data")
    assert {(clip.path, clip.label, clip.split, clip.text) for clip in clips} == {
        (sounds / "a.wav", "sad", "train", None),
        (sounds / "b.wav", "sad", "validation", None),
    }


def test_a_lone_training_set_is_no_split(sounds):
    write(sounds / "data/train/wav.scp", "u1 a.wav", "u2 b.wav")
    write(sounds / "data/train/utt2emo", "u1 sad", "u2 happy")
    assert [clip.split for clip in load_corpus("kaldi", sounds / "data")] == [None, None]


# SpeechBrain


def test_speechbrain_counts_samples(sounds):
    rows = (
        "1, 0.5, $data_folder/a.wav, wav, start:4000 stop:12000, sad, string,",
        "2, 1.5, b.wav, wav, , happy, string,",
    )
    table = write(
        sounds / "clips.csv", "ID, duration, wav, wav_format, wav_opts, emo, emo_format, emo_opts", *rows
    )
    assert spans(load_corpus("speechbrain", table)) == [
        ("a.wav", "sad", 0.25, 0.75),
        ("b.wav", "happy", None, None),
    ]
    entries = {
        "1": {"wav": {"file": "a.wav", "start": 8000, "stop": 16000}, "emo": "sad"},
        "2": {"wav": "{data_root}/a.wav", "start": "4000", "stop": "16000", "emo": "happy"},
    }
    table = write(sounds / "clips.json", json.dumps(entries))
    assert spans(load_corpus("speechbrain", table)) == [
        ("a.wav", "sad", 0.5, 1.0),
        ("a.wav", "happy", 0.25, 1.0),
    ]
    write(table, json.dumps({"1": {"wav": "a.wav", "start": 0.25, "stop": 1.0, "emo": "sad"}}))
    with pytest.raises(CorpusError, match=r"clips.json 1: invalid literal .* '0.25'"):
        load_corpus("speechbrain", table)


# Lhotse


def cut(path="a.wav", *, start=0.0, duration=1.5, label="sad", **changes):
    recording = {
        "sources": [{"type": "file", "channels": [0], "source": path}],
        "duration": 1.5,
        "sampling_rate": 16000,
    }
    recording = recording | changes.pop("recording", {}) if changes.get("recording", {}) is not None else None
    supervisions = [{"speaker": "ann", "custom": {"emotion": label}}]
    about = {"id": f"{path}-{start}", "start": start, "duration": duration, "channel": 0, "type": "MonoCut"}
    return {**about, "supervisions": supervisions, "recording": recording, **changes}


def test_cuts_are_spans_of_their_files(sounds):
    write(
        sounds / "cuts.jsonl",
        json.dumps(cut()),
        json.dumps(cut("b.wav", start=0.5, duration=0.25, label="happy")),
    )
    assert spans(load_corpus("lhotse", sounds)) == [
        ("a.wav", "sad", None, None),
        ("b.wav", "happy", 0.5, 0.75),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "MixedCut"},
        {"type": "PaddingCut", "recording": {"sources": None}},
        {"recording": {"sources": [{"type": "command", "source": "touch x"}]}},
        {"recording": {"sources": [{"type": "url", "source": "https://x/a"}]}},
        {"recording": {"transforms": [{"name": "Speed"}]}},
        {"recording": {"channel_ids": [0, 1]}},
        {"supervisions": [{}, {}]},
    ],
)
def test_cuts_that_are_no_span_of_one_file_are_refused(changes, sounds):
    write(sounds / "cuts.jsonl", json.dumps(cut()), json.dumps(cut("b.wav", **changes)))
    with pytest.raises(CorpusError, match=r"cuts.jsonl line 2 cannot be read as lhotse \("):
        load_corpus("lhotse", sounds)


def test_cuts_without_an_emotion_are_left_out_with_a_warning(sounds):
    write(sounds / "cuts.jsonl", json.dumps(cut()), json.dumps(cut("b.wav", supervisions=[])))
    with pytest.warns(
        UserWarning, match=r"1 of 2 rows have no label and are left out \(.*cuts.jsonl line 2\)"
    ):
        clips = load_corpus("lhotse", sounds)
    assert [clip.path.name for clip in clips] == ["a.wav"]


def test_a_compressed_file_that_was_cut_off_is_named(sounds):
    content = gzip.compress(
        "\n".join(json.dumps(cut(start=index / 100, duration=0.01)) for index in range(99)).encode()
    )
    (sounds / "cuts.jsonl.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorpusError, match=r"cuts.jsonl.gz cannot be read as lhotse \(EOFError"):
        load_corpus("lhotse", sounds)


# audformat and nkululeko


def test_audformat_segments_take_the_columns_of_their_file(sounds):
    columns = {"emotion": {"scheme_id": "emotion"}}
    tables = {"files": {"columns": {"speaker": {}}}, "segments": {"columns": columns}}
    write(sounds / "db.yaml", yaml.safe_dump({"tables": tables}))
    write(sounds / "db.files.csv", "file,speaker", "a.wav,3")
    rows = ("a.wav,0 days 00:00:00.250000,0 days 00:00:00.750000,sad", "a.wav,0 days 00:00:01,NaT,happy")
    write(sounds / "db.segments.csv", "file,start,end,emotion", *rows)
    clips = load_corpus("audformat", sounds)
    assert spans(clips) == [("a.wav", "sad", 0.25, 0.75), ("a.wav", "happy", 1.0, None)]
    assert [clip.speaker for clip in clips] == ["3", "3"]


def test_the_names_of_audformat_tables_tell_their_splits(sounds):
    names = ("emotion.categories.train.gold_standard", "emotion.categories.dev.gold_standard")
    write(
        sounds / "db.yaml", yaml.safe_dump({"tables": {name: {"columns": {"emotion": {}}} for name in names}})
    )
    for name, row in zip(names, ("a.wav,sad", "b.wav,happy"), strict=True):
        write(sounds / f"db.{name}.csv", "file,emotion", row)
    splits = {clip.label: clip.split for clip in load_corpus("audformat", sounds)}
    assert splits == {"sad": "train", "happy": "validation"}


def test_pickled_tables_are_not_opened(sounds):
    write(sounds / "db.yaml", yaml.safe_dump({"tables": {"emotion": {"columns": {}}}}))
    (sounds / "db.emotion.pkl").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(CorpusError, match=r"db.emotion.csv is missing, and pickles are not opened"):
        load_corpus("audformat", sounds)


def test_a_table_that_names_no_split_is_refused_beside_those_that_do(build_tree, tmp_path):
    source = build_tree("nkululeko", tmp_path)
    write(source / "all.csv", "file,speaker,emotion", "wav/ann_0.wav,ann,happy")
    with pytest.raises(
        CorpusError, match=r"all.csv line 2: .*split='wav all.csv' must be .*an empty name for none"
    ):
        load_corpus("nkululeko", source)


# Columns and files


def test_a_column_without_a_name_is_no_split(sounds):
    table = write(sounds / "clips.csv", ",file,emotion", "0,a.wav,sad", "1,b.wav,happy")
    assert [clip.split for clip in load_corpus("nkululeko", table)] == [None, None]


def test_numbers_of_dimensions_are_values_and_do_without_labels(sounds):
    header = "file,emotion,arousal,valence,dominance"
    table = write(sounds / "clips.csv", header, "a.wav,sad,3.5,low,", "b.wav,happy,-1,high,2")
    clips = load_corpus("nkululeko", table)
    assert [dict(clip.values) for clip in clips] == [{"arousal": 3.5}, {"arousal": -1.0, "dominance": 2.0}]
    by_valence = load_corpus("nkululeko", table, label="valence")
    assert [clip.label for clip in by_valence] == ["low", "high"]
    table = write(sounds / "clips.csv", "file,arousal", "a.wav,3.5", "b.wav,")
    with pytest.warns(UserWarning, match=r"no known label; name it: label=COLUMN, or learn its values alone"):
        first, second = load_corpus("nkululeko", table)
    assert (first.label, first.values, second.values) == ("unlabeled", (("arousal", 3.5),), ())


def test_a_column_is_named_where_none_or_several_are_known(sounds):
    table = write(sounds / "clips.csv", "file,emotion,label,who", "a.wav,sad,0,ann", "b.wav,happy,1,ben")
    with pytest.raises(CorpusError, match=r"label=emotion or label must be one of .*name it: label=COLUMN"):
        load_corpus("nkululeko", table)
    clips = load_corpus("nkululeko", table, label="emotion", speaker="who")
    assert [(clip.label, clip.speaker) for clip in clips] == [("sad", "ann"), ("happy", "ben")]
    with pytest.raises(CorpusError, match=r"label=mood must be one of the columns \['file', 'emotion'"):
        load_corpus("nkululeko", table, label="mood")
    table = write(sounds / "clips.csv", "file,mood", "a.wav,sad")
    with pytest.raises(CorpusError, match=r"its columns \['file', 'mood'\] have no known label"):
        load_corpus("nkululeko", table)


def test_an_unknown_split_is_refused_unless_the_column_is_not_asked_for(sounds):
    table = write(sounds / "clips.csv", "file,emotion,Split_Set", "a.wav,sad,fold1", "b.wav,happy,Test1")
    with pytest.raises(CorpusError, match=r"line 2: .*split='fold1' must be .*an empty name for none"):
        load_corpus("nkululeko", table)
    assert [clip.split for clip in load_corpus("nkululeko", table, split="")] == [None, None]


def test_paths_of_another_machine_are_found_by_their_end_with_a_warning(sounds):
    (sounds / "deep").mkdir()
    (sounds / "b.wav").rename(sounds / "deep/b.wav")
    table = write(sounds / "clips.csv", "file,emotion", "/home/ann/deep/b.wav,sad", "/home/ann/a.wav,happy")
    with pytest.warns(UserWarning, match=r"paths are taken to start elsewhere: .*deep/b.wav for /home/ann"):
        clips = load_corpus("nkululeko", table)
    assert [clip.path for clip in clips] == [sounds / "deep/b.wav", sounds / "a.wav"]
    write(table, "file,emotion", "/old/x/a.wav,sad", "/old/y/a.wav,happy")
    with pytest.raises(CorpusError, match=r"2 of 2 audio files do not exist"):  # not one file, labeled twice
        load_corpus("nkululeko", table)


def test_missing_files_ask_for_the_folder_at_which_paths_start(sounds, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    table = write(elsewhere / "clips.csv", "file,emotion", "a.wav,sad", "b.wav,happy")
    with pytest.raises(
        CorpusError, match=r"2 of 2 audio files do not exist \(a.wav, b.wav\) .*audio_root=DIR"
    ):
        load_corpus("nkululeko", table)
    clips = load_corpus("nkululeko", table, audio_root=str(sounds))
    assert [clip.path for clip in clips] == [sounds / "a.wav", sounds / "b.wav"]


def test_files_may_be_spelled_otherwise_than_on_the_disk(sounds):
    (sounds / "deep").mkdir()
    (sounds / "a.wav").rename(sounds / "deep/Fro\u0308hlich.wav")
    table = write(sounds / "clips.csv", "file;emotion", "deep\\Fr\u00f6hlich.wav;sad", "B.WAV;happy")
    clips = load_corpus("nkululeko", table)
    assert [clip.path for clip in clips] == [sounds / "deep/Fro\u0308hlich.wav", sounds / "b.wav"]


def test_a_single_file_that_is_missing_is_named(sounds):
    table = write(sounds / "clips.csv", "file,emotion", "a.wav,sad", "c.wav,happy")
    with pytest.raises(CorpusError, match=r"1 of 2 audio files do not exist \(c.wav\) beside"):
        load_corpus("nkululeko", table)


def test_several_labels_in_a_cell_are_refused(sounds):
    write(sounds / "metadata.jsonl", json.dumps({"file_name": "a.wav", "label": ["sad", "angry"]}))
    with pytest.raises(CorpusError, match=r"line 1: label=\['sad', 'angry'\] must be text"):
        load_corpus("audiofolder", sounds)


def test_an_evaluation_set_validates_beside_a_test_set(sounds):
    for name, file in (("train", "a"), ("eval", "b")):
        write(sounds / f"{name}.csv", "file,emotion", f"{file}.wav,sad")
    assert {clip.split for clip in load_corpus("nkululeko", sounds)} == {"train", "test"}
    (sounds / "c.wav").write_bytes((sounds / "a.wav").read_bytes())
    write(sounds / "test.csv", "file,emotion", "c.wav,sad")
    assert {clip.split for clip in load_corpus("nkululeko", sounds)} == {"train", "validation", "test"}


def test_a_clip_that_is_there_twice_is_refused(sounds):
    table = write(sounds / "clips.csv", "file,emotion", "a.wav,sad", "a.wav,happy")
    with pytest.raises(CorpusError, match=r"clips.csv line 2 and .*clips.csv line 3 are the same clip"):
        load_corpus("nkululeko", table)


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("speechbrain", "train.json", '{"1": {"wav": '),
        ("speechbrain", "train.json", '[{"wav": "a.wav"}]'),
        (
            "speechbrain",
            "train.json",
            '{"1": {"wav": "a.wav", "emo": "x"}, "1": {"wav": "b.wav", "emo": "y"}}',
        ),
        ("speechbrain", "train.json", '{"1": {"audio": "a.wav"}}'),
        ("lhotse", "cuts.jsonl", '{"id": 1}\n'),
        ("lhotse", "cuts.jsonl", "not json"),
        ("lhotse", "cuts.jsonl.gz", "not compressed"),
        ("audformat", "db.yaml", "tables: [emotion"),
        ("audformat", "db.yaml", "name: toy"),
        ("kaldi", "wav.scp", "u1 a.wav\x00\udcff"),
        ("nkululeko", "clips.csv", "path,emotion\na.wav,sad"),
        ("audiofolder", "metadata.csv", "path,emotion\na.wav,sad"),
    ],
)
def test_tables_that_are_malformed_are_named(kind, name, content, sounds):
    (sounds / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CorpusError, match=name):
        load_corpus(kind, sounds)


@pytest.mark.parametrize("kind", [name for name in FORMATS if name != "audiofolder"])
def test_a_folder_without_tables_says_what_was_expected(kind, tmp_path):
    with pytest.raises(
        CorpusError, match=r"its columns \[\] have no known label.*Expected files such as ROOT/"
    ):
        load_corpus(kind, tmp_path)
    with pytest.raises(CorpusError, match="there is no such folder"):
        load_corpus(kind, tmp_path / "nowhere")
