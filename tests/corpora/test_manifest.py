import json
import os
import stat
import unicodedata
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.corpora.clip import SPLITS, Clip, Span, normalized
from wavshap_lightning.corpora.manifest import (
    COLUMNS,
    DIMENSIONS,
    find_file,
    load_manifest,
    read_manifest,
    save_manifest,
)
from wavshap_lightning.errors import CorpusError

FIXED = settings(derandomize=True, deadline=None)

# Names of missing values, which spreadsheets write, are refused by design.
words = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
    .map(normalized)
    .filter(
        lambda word: word and word.lower() not in {"nan", "null", "<na>"} and word[0] not in "#0123456789"
    )
)
seconds = st.floats(0, 1e6, allow_nan=False)


times = st.tuples(seconds, seconds).map(sorted).filter(lambda pair: pair[0] < pair[1])
# Plain values only: the shape checker draws random numbers where records are built.
cells = st.fixed_dictionaries(
    {
        "label": words,
        "speaker": words | st.just(""),
        "corpus": words | st.just(""),
        "split": st.none() | st.sampled_from(SPLITS),
        "text": st.none() | words,
        "votes": st.dictionaries(words, st.floats(0, 9), max_size=2).map(lambda its: tuple(its.items())),
        "values": st.dictionaries(words, st.floats(-9, 9), max_size=2).map(lambda its: tuple(its.items())),
        "dialogue": st.none() | words,
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    (folder / 'sub, "folder"').mkdir()
    for name in ("a.wav", "ü b.wav", 'sub, "folder"/c.wav'):
        (folder / name).touch()
    return folder


@FIXED
@given(
    rows=st.lists(
        st.tuples(cells, st.none() | times, st.lists(st.tuples(times, words), max_size=2)),
        min_size=3,
        max_size=3,
    ),
    suffix=st.sampled_from([".csv", ".jsonl", ".CSV"]),
)
def test_what_was_saved_is_read_back_equal(folder, rows, suffix):
    clips = [
        Clip(
            path,
            start_s=span and span[0],
            end_s=span and span[1],
            evidence=tuple(Span(*limits, kind) for limits, kind in evidence),
            **fields,
        )
        for path, (fields, span, evidence) in zip(sorted(folder.rglob("*.wav")), rows, strict=True)
    ]
    table = folder / f"table{suffix}"
    save_manifest(table, clips)
    assert read_manifest(table) == clips


def test_every_field_of_a_clip_is_a_column():
    assert set(COLUMNS) == {field.name for field in fields(Clip)} | {*DIMENSIONS}


def write(folder, text, name="table.csv"):
    (folder / "a.wav").touch()
    (folder / "b.wav").touch()
    table = folder / name
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return table


def test_a_manifest_can_be_moved_with_its_folder(tmp_path):
    for name in ("table.csv", "table.jsonl"):
        home, away = tmp_path / name / "home", tmp_path / name / "away"
        (home / "clips").mkdir(parents=True)
        (home / "clips/a.wav").touch()
        save_manifest(home / name, [Clip(home / "clips/a.wav", "sad")])
        home.rename(away)
        assert read_manifest(away / name) == [Clip(away / "clips/a.wav", "sad")]


def test_paths_outside_the_folder_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.wav").touch()
    save_manifest(Path("lists/table.csv"), [Clip(Path("a.wav"), "sad")])
    assert read_manifest(Path("lists/table.csv"))[0].path == tmp_path / "a.wav"
    save_manifest("table.csv", [Clip(Path("a.wav"), "sad")])
    assert Path("table.csv").read_text() == "path,label\na.wav,sad\n"
    assert read_manifest("table.csv")[0].path == Path("a.wav")


def test_a_table_from_a_spreadsheet_is_read(tmp_path):
    table = write(
        tmp_path,
        b"\xef\xbb\xbfpath, label,speaker,start_s,end_s,gender\r\na.wav,sad,ann,0,1.5,f\r\n"
        b"\r\nb.wav,happy,,,,m\r\n",
    )
    assert read_manifest(table) == [
        Clip(tmp_path / "a.wav", "sad", "ann", start_s=0.0, end_s=1.5),
        Clip(tmp_path / "b.wav", "happy"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "path, label, speaker, split, start_s, end_s\na.wav, angry, ann , train, 0.5,\t \n"),
        ("t.csv", 'path,label,speaker,split,start_s\n a.wav," angry ",\tann,train\u00a0, 0.5 \n'),
        (
            "t.jsonl",
            '{"path": " a.wav", "label": "angry ", "speaker": "\\tann", "split": " train", "start_s": 0.5}',
        ),
    ],
)
def test_white_space_makes_no_class_and_hides_no_speaker(tmp_path, name, text):
    assert read_manifest(write(tmp_path, text, name)) == [
        Clip(tmp_path / "a.wav", "angry", "ann", split="train", start_s=0.5)
    ]


TABLE = "path,label,speaker,start_s\na.wav,sad,Jörg,0.5\nb.wav,happy,,\n"
SPREADSHEETS = {
    "rows of bare commas": TABLE.replace("b.wav", ",,,\nb.wav") + ",,,\r\n,,,\n",
    "empty columns": "path,label,speaker,start_s,,\na.wav,sad,Jörg,0.5,,\nb.wav,happy,,,,\n",
    "cells left out at the end of a row": TABLE.replace("b.wav,happy,,", "b.wav,happy"),
    "an index": ",path,label,speaker,start_s\n0,a.wav,sad,Jörg,0.5\n1,b.wav,happy,,\n",
    "a line that names the separator": "sep=;\r\n" + TABLE.replace(",", ";").replace("0.5", "0,5"),
    "semicolons and decimal commas": TABLE.replace(",", ";").replace("0.5", "0,5"),
    "tabs": TABLE.replace(",", "\t"),
    "Unicode text": TABLE.replace(",", "\t").encode("utf-16"),
    "carriage returns": TABLE.replace("\n", "\r"),
    "a quoted header": '"path", "label","speaker", "start_s"\n' + TABLE.split("\n", 1)[1],
    "invisible signs": TABLE.replace("path", "\ufeffpa\u200bth").replace("label", "label\u00a0"),
}


@pytest.mark.parametrize("text", SPREADSHEETS.values(), ids=SPREADSHEETS)
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_leftovers_of_spreadsheets_change_nothing(tmp_path, name, text):
    assert read_manifest(write(tmp_path, text, name)) == [
        Clip(tmp_path / "a.wav", "sad", "Jörg", start_s=0.5),
        Clip(tmp_path / "b.wav", "happy"),
    ]


def test_numbers_in_json_are_names_as_well(tmp_path):
    (clip,) = read_manifest(write(tmp_path, '{"path": "a.wav", "label": 0, "speaker": 12}\r', "t.jsonl"))
    assert (clip.label, clip.speaker) == ("0", "12")


def test_votes_and_kinds_lose_their_white_space_too(tmp_path):
    text = (
        '{"path": "a.wav", "label": "sad", "votes": [[" sad", 2]], '
        '"evidence": [{"start_s": 0, "end_s": 1, "kind": "word "}]}'
    )
    (clip,) = read_manifest(write(tmp_path, text, "t.jsonl"))
    assert (clip.votes, clip.evidence) == ((("sad", 2.0),), (Span(0.0, 1.0, "word"),))


def test_votes_and_values_are_pairs_or_an_object_and_dimensions_have_columns_too(tmp_path):
    (tmp_path / "a.wav").touch()
    pairs = 'path;label;votes;values\na.wav;sad;"[[""sad"", 2]]";"[[""arousal"", 3.5], [""tension"", 1]]"\n'
    columns = 'path;label;votes;values;arousal\na.wav;sad;"{""sad"": 2}";"{""tension"": 1}";3,5\n'
    clips = [read_manifest(write(tmp_path, text, "t.csv"))[0] for text in (pairs, columns)]
    assert clips[0].votes == clips[1].votes == (("sad", 2.0),)
    assert dict(clips[0].values) == dict(clips[1].values) == {"arousal": 3.5, "tension": 1.0}


def test_without_any_label_that_of_most_votes_is_taken(tmp_path):
    text = (
        "path,votes,arousal\n"
        'a.wav,"{""sad"": 2, ""angry"": 1}",3\n'
        'b.wav,"{""sad"": 1, ""angry"": 1}",\n'
        "c.wav,,-1\n"
    )
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).touch()
    clips = read_manifest(write(tmp_path, text, "t.csv"))
    assert [clip.label for clip in clips] == ["sad", "no-agreement", "unlabeled"]
    assert [clip.values for clip in clips] == [(("arousal", 3.0),), (), (("arousal", -1.0),)]


def test_null_and_missing_cells_are_empty_fields(tmp_path):
    table = write(
        tmp_path, '\n{"path": "a.wav", "label": "sad", "speaker": null, "evidence": null}\r\n\n', "t.jsonl"
    )
    assert read_manifest(table) == [Clip(tmp_path / "a.wav", "sad")]


CSV_FAULTS = {
    "": r"missing columns=\['path', 'label'\]; found columns=\[\]",
    "path,emotion\na.wav,sad\n": r"missing columns=\['label'\]; found columns=\['path', 'emotion'\]",
    "path:label\na.wav:sad\n": r"found columns=\['path:label'\]",
    "path,label,label\na.wav,sad,sad\n": "must name every column once",
    "path,label\n": "has no rows",
    "path,label,Speaker\na.wav,sad,ann\n": "column='Speaker' is not a field.*did you mean 'speaker'",
    "path,label,start\na.wav,sad,1\n": "did you mean 'start_s'",
    "path,label\na.wav,sad\nb.wav\n": r"line=3: missing=\['label'\], found=\['path'\]",
    "path,label,,\na.wav,sad,,really\n": "line=2: cells=4 but the header names 2 columns",
    "path,label\na.wav,#N/A\n": "line=2: label='#N/A' must be text, not an error, an empty value",
    "path,label,speaker\na.wav,sad,#BEZUG!\n": "line=2: speaker='#BEZUG!' must be text, not an error",
    "path,label,speaker\na.wav,sad,1.23457E+12\n": "speaker='1.23457E.12' must be .* a rounded number",
    "path,label\na.wav,nan\n": "line=2: label='nan' must be text",
    "path,label\na.wav,\u200b\n": "line=2: .*label='' is empty",
    'path,label,start_s\na.wav,sad,"0,5"\n': "start_s='0,5' must be a number of seconds, with a decimal p",
    "path,label\na.wav,sad,really\n": "line=2: cells=3 but",
    'path,label\na.wav,"sad\n': "line=2: not a row of a CSV file",
    "path,label\na.wav,\n": r"line=2: missing=\['label'\], found=\['path'\]",
    "path,label\na.wav, \n": r"line=2: missing=\['label'\], found=\['path'\]",
    "path,label,start_s\na.wav,sad,soon\n": "line=2: start_s='soon' must be a number of seconds",
    "path,label,start_s,end_s\na.wav,sad,2,1\n": "line=2: end_s=1.0 must be a finite time after start_s=2.0",
    "path,label,start_s\na.wav,sad,nan\n": "line=2: start_s=nan must be a finite time",
    "path,label,split\na.wav,sad,dev\n": "line=2: .*split='dev' must be one of train, validation, test",
    "path,label,evidence\na.wav,sad,here\n": "line=2: evidence='here' must be a JSON list of objects like",
    "path,label,evidence\na.wav,sad,3\n": "line=2: evidence='3' must be a JSON list",
    "path,label,evidence\na.wav,sad,[3]\n": r"line=2: evidence='\[3\]' must be a JSON list of objects like",
    'path,label,evidence\na.wav,sad,"[{""start_s"": false, ""end_s"": 1}]"\n': "line=2: evidence=.* must be",
    "path,label,start_s\na.wav,sad,true\n": "line=2: start_s='true' must be a number of seconds",
    "path,label,votes\na.wav,sad,[3]\n": "line=2: votes=.* must be a JSON list of pairs like",
    'path,label,votes\na.wav,sad,"{""sad"": -1}"\n': "line=2: .*votes=.*-1.0.* number of at least 0",
    'path,label,values\na.wav,sad,"{""arousal"": NaN}"\n': "line=2: .*values=.*nan.* with a finite number",
    "path,label,valence\na.wav,sad,high\n": "line=2: valence='high' must be a number",
    "path,label,valance\na.wav,sad,3\n": "column='valance' .* did you mean 'valence'",
    'path,arousal,values\na.wav,3,"{""arousal"": 3}"\n': "line=2: .*values=.* must name each once",
    "path,label,arousal\na.wav,sad,3\nb.wav,,4\n": r"line=3: missing=\['label'\]",
    'path,label,text\na.wav,sad,"two\nlines"\nb.wav,,x\n': r"line=4: missing=\['label'\]",
    "path,label\na.wav,sad\nb.wav,sad\na.wav,happy\n": "line 2 and line 4 are the same clip, path=.*a.wav",
}


@pytest.mark.parametrize(("text", "message"), CSV_FAULTS.items())
def test_a_faulty_csv_is_explained(tmp_path, text, message):
    with pytest.raises(CorpusError, match=message):
        read_manifest(write(tmp_path, text))


JSON_FAULTS = {
    "": "has no rows",
    '{"path": "a.wav", "label": "sad"}\n{"path": \n': "line=2: not a JSON object",
    "[1]\n": "line=1: not a JSON object",
    '{"path": "a.wav"}': r"line=1: missing=\['label'\], found=\['path'\]",
    '{"path": "a.wav", "label": " "}': r"line=1: missing=\['label'\], found=",
    '{"path": "a.wav", "label": true}': "line=1: label=True must be text",
    '{"path": "a.wav", "label": 1.5}': "line=1: label=1.5 must be text",
    '{"path": "a.wav", "label": "sad"},': "line=1: not a JSON object .*one object per line, without brackets",
    '[{"path": "a.wav", "label": "sad"}]': "line=1: not a JSON object .*one object per line, without bracke",
    '{"path": "a.wav", "label": "sad", "start_s": "x"}': "line=1: start_s='x' must be a number",
    '{"path": "a.wav", "label": "sad", "votes": [["x", "y"]]}': "votes=.* must be a JSON list of pairs",
    '{"path": "a.wav", "label": "sad", "start_s": false}': "line=1: start_s=False must be a number",
    '{"path": "a.wav", "label": "sad", "end_s": true}': "line=1: end_s=True must be a number of seconds",
    '{"path": "a.wav", "label": "sad", "votes": [["x", true]]}': "votes=.* must be a JSON list of pairs",
    '{"path": "a.wav", "label": "sad", "evidence": [{"start_s": 0, "end_s": true}]}': "evidence=.* must be a",
    '{"path": "a.wav", "label": "sad", "evidence": [{"start_s": 0, "end_s": 1, "kid": "word"}]}': (
        'evidence=.*\'kid\'.* must be .*"start_s": .*"end_s": .*"kind": .* no other key'
    ),
    '{"path": "a.wav", "label": "sad", "evidence": [{"start_s": 1}]}': "must be a JSON list of objects",
    '{"path": "a.wav", "label": "sad", "evidence": [{"start_s": 1, "end_s": 0}]}': "line=1: end_s=0.0",
    '{"path": "a.wav", "label": "sad", "dialog": "x"}': "did you mean 'dialogue'",
}


@pytest.mark.parametrize(("text", "message"), JSON_FAULTS.items())
def test_faulty_json_lines_are_explained(tmp_path, text, message):
    with pytest.raises(CorpusError, match=message):
        read_manifest(write(tmp_path, text, "table.jsonl"))


def test_files_that_are_no_manifest_are_explained(tmp_path):
    with pytest.raises(CorpusError, match=r"cannot be read from .*: No such file or directory"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(CorpusError, match=r"suffix='\.txt' must be one of \.csv, \.tsv, \.jsonl"):
        read_manifest(write(tmp_path, "path\tlabel\n", "table.txt"))
    with pytest.raises(CorpusError, match="is not UTF-8"):
        read_manifest(write(tmp_path, "path,label\na.wav,m\xfcde\n".encode("latin-1")))
    with pytest.raises(CorpusError, match="is only a pointer of Git LFS; run `git lfs pull` there"):
        read_manifest(write(tmp_path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"))
    with pytest.raises(CorpusError, match="holds zero bytes"):
        read_manifest(write(tmp_path, "path,label\na.wav,sad\n".encode("utf-16-le")))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(CorpusError, match="cannot be read"):
        read_manifest(tmp_path / "folder.csv")


@pytest.mark.parametrize("name", ["gone", "gone.csv", "gone.tsv"])
def test_a_root_that_is_not_there_is_said_to_be_missing(tmp_path, name):
    with pytest.raises(CorpusError, match=rf"{name} cannot be read from .*: No such file"):
        load_manifest(tmp_path / name)


def test_missing_audio_is_counted_and_five_are_listed(tmp_path):
    rows = "".join(f"gone{index}.wav,sad\n" for index in range(7))
    with pytest.raises(
        CorpusError, match=r"7 of 8 audio files do not exist \(line 3: .*gone0.*gone4\.wav and 2 more\)"
    ) as caught:
        read_manifest(write(tmp_path, f"path,label\na.wav,sad\n{rows}"))
    assert str(tmp_path) in str(caught.value)


NAMES = ["ann_fröhlich_0.wav", "Zoë/müde 1.wav", "ANN/Happy_2.wav", "deep/é/ü/3.wav"]
SPELLINGS = {
    "composed": lambda name: unicodedata.normalize("NFC", name),
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "on Windows": lambda name: name.replace("/", "\\"),
    "in small letters": str.lower,
    "with odd spaces": lambda name: name.replace(" ", "\u202f"),
}


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_files_are_found_however_the_table_spells_them(tmp_path, on_disk, spelling):
    paths = [tmp_path / unicodedata.normalize(on_disk, name) for name in NAMES]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    rows = "".join(f"{spelling(name)},sad\n" for name in NAMES)
    assert [clip.path for clip in read_manifest(write(tmp_path, f"path,label\n{rows}"))] == paths


def test_addresses_and_the_home_folder_are_paths_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my clip.wav").touch()
    address = f"file://{tmp_path}/my%20clip.wav"
    for name in (address, "~/my clip.wav", "my%20clip.wav"):
        (clip,) = read_manifest(write(tmp_path, f"path,label\n{name},sad\n"))
        assert clip.path == tmp_path / "my clip.wav"


def test_a_name_that_is_there_as_written_is_taken_and_an_unclear_one_is_not(tmp_path):
    for name in ("Ann.wav", "ANN.wav", "a\\b.wav"):
        (tmp_path / name).touch()
    rows = "path,label\nANN.wav,sad\na\\b.wav,sad\n"
    assert [clip.path.name for clip in read_manifest(write(tmp_path, rows))] == ["ANN.wav", "a\\b.wav"]
    with pytest.raises(CorpusError, match=r"ann\.wav.*There is no 'ann\.wav' in .*, but 'A(nn|NN)\.wav'"):
        read_manifest(write(tmp_path, "path,label\nann.wav,sad\n"))
    for name in ("Eve", "EVE", "annab"):
        (tmp_path / name).mkdir()
    with pytest.raises(CorpusError, match=r"There is no 'eve' in .*, but 'E(ve|VE)'"):
        read_manifest(write(tmp_path, "path,label\neve/1.wav,sad\n"))
    with pytest.raises(CorpusError, match=r"There is no 'anna' in .*, but 'annab'"):
        read_manifest(write(tmp_path, "path,label\nanna/1.wav,sad\n"))
    with pytest.raises(CorpusError, match="1 of 1 audio files do not exist"):
        read_manifest(write(tmp_path, f"path,label\n{'x' * 300},sad\n"))


def test_names_that_are_not_utf_8_survive_json_lines_and_are_found_by_their_text(tmp_path):
    path = tmp_path / os.fsdecode("m\xfcde.wav".encode("latin-1"))
    try:
        path.touch()
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    save_manifest(tmp_path / "t.jsonl", [Clip(path, "sad")])
    assert (tmp_path / "t.jsonl").read_bytes().isascii()
    assert read_manifest(tmp_path / "t.jsonl") == [Clip(path, "sad")]
    assert read_manifest(write(tmp_path, "path,label\nmüde.wav,sad\n")) == [Clip(path, "sad")]


def test_a_folder_is_listed_once_for_ten_thousand_paths(tmp_path, monkeypatch):
    names = [f"ü{index}.wav" for index in range(10)]
    for name in names:
        (tmp_path / name).touch()
    listed = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: listed.append(folder) or iterdir(folder))
    listings = {}
    found = [find_file(tmp_path / unicodedata.normalize("NFD", name), listings) for name in names]
    assert found == [tmp_path / name for name in names]
    assert listed == [tmp_path]


def test_spans_of_one_file_are_no_duplicates(tmp_path):
    table = write(tmp_path, "path,label,start_s,end_s\na.wav,sad,0,1\na.wav,sad,1,2\na.wav,sad,0,2\n")
    assert [clip.end_s for clip in read_manifest(table)] == [1.0, 2.0, 2.0]


def test_what_could_not_be_read_is_not_saved(tmp_path):
    clip = Clip(tmp_path / "a.wav", "sad")
    with pytest.raises(CorpusError, match=r"clips=\[\] is empty"):
        save_manifest(tmp_path / "t.csv", [])
    with pytest.raises(CorpusError, match="clip 0 and clip 1 are the same clip"):
        save_manifest(tmp_path / "t.csv", [clip, clip])
    with pytest.raises(CorpusError, match=r"suffix='\.txt' must be"):
        save_manifest(tmp_path / "t.txt", [clip])
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_leaves_the_old_manifest(tmp_path, monkeypatch):
    table = tmp_path / "t.jsonl"
    save_manifest(table, [Clip(tmp_path / "a.wav", "sad")])
    before = table.read_bytes()

    def fail(self, target):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(CorpusError, match="cannot be written: no space left"):
            save_manifest(table, [Clip(tmp_path / "b.wav", "sad")])
    with pytest.raises(CorpusError, match=r"cannot be written.*surrogates.*save JSON Lines"):
        save_manifest(tmp_path / "t.csv", [Clip(tmp_path / "s\udc80d.wav", "sad")])
    assert table.read_bytes() == before
    assert list(tmp_path.iterdir()) == [table]


def test_others_can_read_what_was_saved(tmp_path):
    mask = os.umask(0o022)
    try:
        save_manifest(tmp_path / "t.csv", [Clip(tmp_path / "a.wav", "sad")])
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "t.csv").stat().st_mode) == 0o644


def test_json_lines_are_for_people_too(tmp_path):
    save_manifest(
        tmp_path / "t.jsonl", [Clip(tmp_path / "a.wav", "müde", evidence=(Span(0.5, 1.0, "word"),))]
    )
    (line,) = (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()
    assert "müde" in line
    assert json.loads(line) == {
        "path": "a.wav",
        "label": "müde",
        "evidence": [{"start_s": 0.5, "end_s": 1.0, "kind": "word"}],
    }


def test_a_corpus_root_may_be_the_manifest_or_its_folder(tmp_path):
    table = write(tmp_path, "path,label\na.wav,sad\n", "manifest.csv")
    assert load_manifest(tmp_path) == load_manifest(table) == read_manifest(table)
    write(tmp_path, '{"path": "a.wav", "label": "sad"}', "manifest.jsonl")
    for root, count in ((tmp_path, 2), (tmp_path.parent, 0)):
        with pytest.raises(CorpusError, match=rf"holds {count} files named manifest\.csv, \.tsv or \.jsonl"):
            load_manifest(root)
