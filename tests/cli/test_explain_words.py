"""`explain.py corpus --alignments`: tables of words and phones, against sums made by hand from the files."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict

import numpy as np
import pytest

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.planted.scenes import draw_clip
from wavshap_lightning.planted.voices import draw_speaker

pytestmark = [
    pytest.mark.usefixtures("surroundings"),
    pytest.mark.filterwarnings("ignore:path=.*the text fits badly"),  # syllables are aligned
]

TEXTS = ("kids are talking", "dogs are sitting")
FEW = ("--num_draws", "8", "--stages", "frames", "--target", "happy", "--figures=false", "--report=false")
ARPABET = {
    "vowel": {*["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]},
    "nasal": {"M", "N", "NG"},
    "fricative": {*["CH", "DH", "F", "HH", "JH", "S", "SH", "TH", "V", "Z", "ZH"]},
    "stop": {*"BDGKPT"},
    "approximant": {*"LRWY"},
    "pause": {"pause"},
    "elsewhere": {""},
}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Manifest of six clips of synthetic speech by three speakers, with texts."""
    folder, generator, clips = tmp_path_factory.mktemp("spoken"), np.random.default_rng(0), []
    for index in range(6):
        speaker = draw_speaker(generator, voice="female")
        path = folder / f"c{index}.wav"
        save_audio(path, draw_clip(speaker, "happy", generator)[0])
        clips.append(Clip(path, "happy", f"s{index % 3}", split="test", text=TEXTS[index // 3]))
    save_manifest(folder / "clips.csv", clips)
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def tables(run_explain, checkpoint, spoken, tmp_path_factory):
    """Folder of a run over the corpus, whose words are aligned."""
    pytest.importorskip("pocketsphinx", reason="the extra `align` is not installed")
    out = tmp_path_factory.mktemp("tables")
    asked = ("--corpus", "manifest", "--root", spoken, "--split", "all", "--accelerator", "cpu")
    assert run_explain("corpus", checkpoint, *asked, "--alignments", "auto", "--out", out, *FEW) == 0
    return out


def units_of(folder, tier):
    """Text, seconds and attribution of each unit of each clip, from the clips' JSON files."""
    for path in sorted((folder / "clips").glob("*.json")):
        held = json.loads(path.read_text())[tier]
        columns = (held[name] for name in ("text", "start_s", "end_s", "attribution"))
        yield [
            (text, (end or 0) - (start or 0), value) for text, start, end, value in zip(*columns, strict=True)
        ]


def classes_of(units):
    return [next(name for name, own in ARPABET.items() if text in own) for text, *_ in units]


def thirds_of(units):
    spoken = [place for place, (text, *_) in enumerate(units) if text not in ("pause", "")]
    assert len(spoken) == 3
    names = {place: f"{name} third" for place, name in zip(spoken, ("first", "second", "last"), strict=True)}
    return [names.get(place, text or "elsewhere") for place, (text, *_) in enumerate(units)]


def texts_of(units):
    return [text or "elsewhere" for text, *_ in units]


@pytest.mark.parametrize(
    ("tier", "kind", "name_all"),
    [
        ("words", "word", texts_of),
        ("words", "position", thirds_of),
        ("phones", "class", classes_of),
        ("phones", "phone", texts_of),
    ],
)
def test_the_tables_are_means_of_the_sums_in_the_files(tables, read_csv, tier, kind, name_all):
    shares, rates = defaultdict(list), defaultdict(list)
    for units in units_of(tables, tier):
        if not units[-1][2]:  # nothing lies elsewhere
            units.pop()
        names, whole = name_all(units), sum(abs(value) for *_, value in units)
        for name in {*names}:
            own = [
                (seconds, value) for one, (_, seconds, value) in zip(names, units, strict=True) if one == name
            ]
            shares[name].append(sum(abs(value) for _, value in own) / whole)
            rates[name].append(sum(value for _, value in own) / max(sum(seconds for seconds, _ in own), 1e-9))
    rows = {row["part"]: row for row in read_csv(tables / f"{tier}.csv") if row["kind"] == kind}
    assert rows.keys() == shares.keys()
    for name, row in rows.items():
        assert (row["target"], int(row["n"])) == ("happy", len(shares[name]))
        assert float(row["share"]) == pytest.approx(np.mean(shares[name]), rel=1e-4)
        if name != "elsewhere":
            assert float(row["value_per_s"]) == pytest.approx(np.mean(rates[name]), rel=1e-3, abs=1e-5)
        is_enough = len(shares[name]) >= 5
        assert (row["share_low"] != "") == is_enough
        assert row["resampled"] == f"{len(shares[name])} clips"  # of three speakers nothing can be resampled


def test_words_and_phones_sum_to_what_is_explained(tables):
    for path in (tables / "clips").glob("*.json"):
        numbers = json.loads(path.read_text())
        explained = numbers["score"] - numbers["baseline_score"]
        for tier in ("words", "phones"):
            assert sum(numbers[tier]["attribution"]) == pytest.approx(explained, abs=1e-4)


def test_the_top_word_has_the_most_evidence_for_the_target(tables, read_csv):
    rows = read_csv(tables / "summary.csv")
    assert len(rows) == 6
    for row, units in zip(rows, units_of(tables, "words"), strict=True):
        text, _, value = max((one for one in units if one[0] not in ("pause", "")), key=lambda one: one[2])
        assert row["top_word"] == (text if value > 0 else "")


def test_what_was_aligned_is_explained_alike_from_the_textgrids(
    tables, run_explain, checkpoint, spoken, tmp_path
):
    from wavshap_lightning.cli.train import main

    with pytest.raises(SystemExit) as ending:
        main(["align", str(spoken), str(tmp_path / "grids")])
    assert ending.value.code == 0
    out = tmp_path / "out"
    assert run_explain(checkpoint, spoken, "--alignments", tmp_path / "grids", "--out", out, *FEW) == 0
    for tier in ("words", "phones"):
        for own, other in zip(units_of(tables, tier), units_of(out, tier), strict=True):
            assert [one[0] for one in own] == [one[0] for one in other]
            assert [one[1] for one in own] == pytest.approx([one[1] for one in other], abs=1e-5)
            assert [one[2] for one in own] == pytest.approx([one[2] for one in other], abs=1e-4)


def test_a_clip_cut_from_a_recording_finds_its_textgrid(run_explain, checkpoint, spoken, tmp_path):
    pytest.importorskip("pocketsphinx", reason="the extra `align` is not installed")
    from wavshap_lightning.cli.train import main

    shutil.copy(spoken.parent / "c0.wav", tmp_path / "long.wav")
    (tmp_path / "cut.csv").write_text("path,label,text,start_s,end_s\nlong.wav,happy,are talking,0.5,1.5\n")
    with pytest.raises(SystemExit):
        main(["align", str(tmp_path / "cut.csv"), str(tmp_path / "grids")])
    cut, out = tmp_path / "cut.csv", tmp_path / "out"
    assert run_explain(checkpoint, cut, "--alignments", tmp_path / "grids", "--out", out, *FEW) == 0
    (units,) = units_of(out, "words")
    assert [text for text, *_ in units if text not in ("pause", "")] == ["are", "talking"]
