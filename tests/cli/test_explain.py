"""`explain.py`: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from wavshap_lightning.audio.io import load_audio, save_audio
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.files import load_clip

COLUMNS = (
    "clip,status,reason,label,prediction,probability,"
    "target,score,baseline_score,attribution_sum,gap,certain,draws,seconds"
)
STEM = "a clip _b_"

pytestmark = pytest.mark.usefixtures("surroundings")


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_seconds(rows):
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in rows]


def test_a_clip_leaves_figure_numbers_sounds_and_a_row(quick, out, clip, read_csv):
    assert quick(clip, "--figures=true") == 0
    assert files_of(out).keys() == {
        "summary.csv",
        *(f"clips/{STEM}.{suffix}" for suffix in ("json", "npz", "png")),
        *(f"sounds/{STEM}.{what}.wav" for what in ("kept", "removed")),
    }
    assert (out / "summary.csv").read_text().splitlines()[0] == COLUMNS
    (row,) = read_csv(out / "summary.csv")
    assert (row["clip"], row["status"], row["reason"], row["draws"]) == (str(clip), "ok", "", "8")
    total = float(row["score"]) - float(row["baseline_score"])
    assert float(row["attribution_sum"]) == pytest.approx(total, abs=1e-4)


def test_numbers_are_those_of_python(quick, out, clip, classifier):
    assert quick(clip, "--target", "sad", "--score", "logit", "--seed", "3", "--waveform=true") == 0
    saved = load_clip(out / "clips", STEM)
    stages = ("frames", "layers")
    found = explain(classifier, clip, target="sad", stages=stages, score="logit", seed=3, num_draws=8)
    assert saved.arrays["frame_attribution"] == pytest.approx(
        found.values("frames", "frames").numpy(), abs=1e-5
    )
    assert saved.numbers["target"] == "sad"
    np.testing.assert_array_equal(saved.arrays["waveform"], load_audio(clip))


def test_the_terminal_says_what_matters(quick, clip, capsys):
    assert quick(clip) == 0
    shown = capsys.readouterr().out
    for word in (
        "predicted",
        "log-odds of",
        "gap",
        "largest",
        "strongest frames are certain",
        "layer",
        "neurons",
        "±",
    ):
        assert word in shown
    assert len([line for line in shown.splitlines() if " s  " in line and "±" in line]) == 5
    assert max(map(len, shown.splitlines()[1:-1])) <= 100
    assert "\x1b" not in shown


def test_many_clips_are_a_line_each(quick, clip, capsys):
    for index in range(6):
        shutil.copy(clip, clip.with_name(f"{index}.wav"))
    clip.unlink()
    assert quick(clip.parent, "--sounds=false") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("]")[0] for line in lines[:6]] == [f"[{count}/6" for count in range(1, 7)]
    assert lines[6].startswith("6 of 6 clips explained: ")
    assert len(lines) == 7


def test_the_same_command_twice_gives_the_same_files(quick, out, clip, tmp_path, read_csv):
    assert quick(clip, "--figures=true") == 0
    out.rename(tmp_path / "before")
    assert quick(clip, "--figures=true") == 0
    before, after = files_of(tmp_path / "before"), files_of(out)
    rows = [without_seconds(read_csv(folder / "summary.csv")) for folder in (tmp_path / "before", out)]
    assert rows[0] == rows[1]
    assert {n: c for n, c in before.items() if n != "summary.csv"} == {
        n: c for n, c in after.items() if n != "summary.csv"
    }


def test_without_audio_a_clip_is_made_that_can_be_heard(quick, out, read_csv):
    assert quick("--figures=true") == 0
    assert 1 < len(load_audio(out / "sounds" / "example.wav")) / 16_000 < 3
    (row,) = read_csv(out / "summary.csv")
    assert row["label"] == "angry"
    found = load_clip(out / "clips", "example").numbers["reliability"]["frames"]
    assert float(row["certain"]) == pytest.approx(len(found["certain"]) / found["k"])
    assert (out / "clips" / "example.png").is_file()


def test_a_manifest_brings_labels_and_what_is_missing_is_a_row(quick, out, clip, read_csv):
    manifest = clip.parent / "manifest.csv"
    clips = [
        Clip(clip, "sad", evidence=(Span(0.1, 0.2, "cue"),)),
        Clip(clip, "happy", start_s=0.1, end_s=0.4),
        Clip(clip.with_name("gone.wav"), "sad"),
    ]
    save_manifest(manifest, clips)
    assert quick(manifest) == 1
    rows = read_csv(out / "summary.csv")
    assert [(row["status"], row["label"]) for row in rows] == [
        ("ok", "sad"),
        ("ok", "happy"),
        ("failed", "sad"),
    ]
    assert "there is no such file" in rows[2]["reason"]
    assert rows[1]["clip"] == f"{clip}@0.100"
    saved = load_clip(out / "clips", f"{STEM}.wav@0.100")
    assert saved.numbers["duration_s"] == pytest.approx(0.3)
    assert saved.numbers["label"] == "happy"


def test_every_class_side_by_side(quick, out, clip, classifier):
    assert quick(clip, "--target", "all", "--figures=true") == 0
    numbers = json.loads((out / "clips" / f"{STEM}.json").read_text())
    assert numbers["target"] == numbers["prediction"]
    assert tuple(numbers["by_target"]) == classifier.labels
    for target, held in numbers["by_target"].items():
        sums = {"score", "baseline_score", "attribution_sum", "gap"}
        assert held.keys() == {*sums, "frames", "layers", "reliability"}
        total = held["score"] - held["baseline_score"]
        assert sum(held["frames"]["attribution"]) == pytest.approx(total, abs=1e-3), target
    own = numbers["by_target"][numbers["target"]]
    assert own["frames"]["attribution"] == numbers["frames"]["attribution"]


def test_a_margin(quick, out, clip):
    assert quick(clip, "--target", "happy-vs-sad") == 0
    assert json.loads((out / "clips" / f"{STEM}.json").read_text())["target"] == "happy-vs-sad"


@pytest.fixture
def segments_of(quick, out, clip):
    """`(alignments, *flags) -> texts of the segments, messages about them` of the explained clip."""

    def explained(alignments, *flags):
        assert quick(clip, "--alignments", alignments, *flags) == 0
        numbers = json.loads((out / "clips" / f"{STEM}.json").read_text())
        told = [one for one in numbers["diagnostics"] if one["name"] == "segments"]
        assert {one["severity"] for one in told} <= {"warning"}
        return [row["text"] for row in numbers["segments"]], [one["message"] for one in told]

    return explained


def test_words_of_an_alignment(segments_of, out, tmp_path, capsys):
    (tmp_path / "words.csv").write_text("text,start_s,end_s\nmary,0.05,0.2\nrolled,0.2,0.55\n")
    assert segments_of(tmp_path / "words.csv") == (["pause", "mary", "rolled", ""], [])
    numbers = json.loads((out / "clips" / f"{STEM}.json").read_text())
    assert numbers["segments"][2]["end_s"] == pytest.approx(0.5)
    assert numbers["words"]["text"] == ["pause", "mary", "rolled", ""]
    assert "phones" not in numbers
    assert "top words" in capsys.readouterr().out


def test_words_that_reach_far_beyond_the_clip_are_doubted(segments_of, tmp_path):
    (tmp_path / "words.csv").write_text("text,start_s,end_s\nmary,0.05,0.2\nrolled,0.2,9.0\n")
    texts, (told,) = segments_of(tmp_path / "words.csv")
    assert texts == ["pause", "mary", "rolled", ""]
    assert "end at 9.00 s, and the clip at 0.50 s; is it the alignment of another recording?" in told


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("silent.csv", "text,start_s,end_s\nsil,0,0.5\n"),
        ("header.csv", "text,start_s,end_s\n"),
        ("empty.ctm", ""),
        ("others.ctm", "one 1 0 0.5 mary\ntwo 1 0 0.5 rolled\n"),
        ("beyond.csv", "text,start_s,end_s\nmary,0.5,0.6\n"),
        ("folder", None),
    ],
)
def test_without_a_word_speech_and_pauses_are_explained_with_a_warning(segments_of, tmp_path, name, content):
    (tmp_path / name).mkdir() if content is None else (tmp_path / name).write_text(content)
    texts, told = segments_of(tmp_path / name)
    assert {*texts} <= {"speech", "pause", ""}
    assert told[-1].endswith("; speech and pauses instead")


def test_words_are_aligned_with_a_text(quick, out, clip, monkeypatch, tmp_path, read_csv, capsys):
    monkeypatch.setenv("WAVSHAP_CACHE", str(tmp_path))
    assert quick(clip, "--text", "The kids!") == 0
    numbers = json.loads((out / "clips" / f"{STEM}.json").read_text())
    assert [row["text"] for row in numbers["segments"] if row["text"] not in ("", "pause")] == ["the", "kids"]
    told = [one["message"] for one in numbers["diagnostics"] if one["name"] == "segments"]
    assert all(
        one.startswith(f"segments={clip}: the text fits badly, low confidence of the, kids (2 of 2)")
        for one in told
    )
    (row,) = read_csv(out / "summary.csv")
    assert [*row] == [*COLUMNS.split(","), "top_word"]
    words = dict(zip(numbers["words"]["text"], numbers["words"]["attribution"], strict=True))
    best = max(("the", "kids"), key=words.__getitem__)
    assert row["top_word"] == (best if words[best] > 0 else "")
    shown = capsys.readouterr().out
    assert "top words" in shown
    assert "kids?" in shown
    assert "?: its times are uncertain" in shown


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "die Hunde", "words=hunde: not in the English dictionary"),
        ("a.lab", "", "text='' holds no word"),
        ("a.md", "hello", "text=None: give --text, a column text, or a .txt or .lab file"),
    ],
)
def test_a_text_that_cannot_be_aligned_is_a_warning(segments_of, clip, name, text, message):
    clip.with_suffix(f".{name.partition('.')[2]}").write_text(text)
    texts, (told,) = segments_of("auto")
    assert {*texts} <= {"speech", "pause", ""}
    assert told.startswith(f"segments={clip}: {message}")
    assert told.endswith("; speech and pauses instead")


def test_what_was_noticed_while_reading_an_alignment_is_a_diagnostic(segments_of, tmp_path):
    (tmp_path / "words.csv").write_text("text,start_s,end_s\nmary,0.05,0.2\nrolled,0.2,0.2\n")
    texts, (told,) = segments_of(tmp_path / "words.csv")
    assert texts == ["pause", "mary", "pause", ""]
    assert "without duration" in told


@pytest.mark.parametrize("name", ["Fröhlich.csv", "fro\u0308hlich.CSV", "FRÖHLICH.csv"])
def test_a_folder_of_alignments_by_name(quick, out, clip, tmp_path, name):
    shutil.copy(clip, clip.with_name("fröhlich.wav"))
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / name).write_text("text,start_s,end_s\nmary,0.05,0.2\n")
    assert quick(clip.parent, "--alignments", tmp_path / "words") == 0
    numbers = {stem: json.loads((out / "clips" / f"{stem}.json").read_text()) for stem in (STEM, "fröhlich")}
    assert numbers["fröhlich"]["segments"][1]["text"] == "mary"
    assert {row["text"] for row in numbers[STEM]["segments"]} <= {"speech", "pause", ""}
    assert any(
        "there is no a clip <b> with .TextGrid" in one["message"] for one in numbers[STEM]["diagnostics"]
    )


def test_one_alignment_for_several_clips_is_refused(quick, clip, tmp_path, capsys):
    shutil.copy(clip, clip.with_name("other.wav"))
    (tmp_path / "words.csv").write_text("text,start_s,end_s\nmary,0.05,0.2\n")
    assert quick(clip.parent, "--alignments", tmp_path / "words.csv") == 2
    assert "there are 2 clips" in capsys.readouterr().err


def test_recordings_to_compare_with(quick, out, clip, tmp_path):
    other = tmp_path / "other" / "b.wav"
    other.parent.mkdir()
    shutil.copy(clip, other)
    for named in (("--baselines", "other_clips"), ()):
        assert quick(clip, *named, "--recordings", other.parent) == 0
        settings = json.loads((out / "clips" / f"{STEM}.json").read_text())["settings"]
        assert settings["baselines"] == "other_clips"
    assert quick(clip, "--baselines", "other_clips") == 2
    assert quick(clip, "--baselines", "noise", "--recordings", other) == 2


@pytest.mark.parametrize(("count", "family"), [(1, "noise"), (4, "noise"), (12, "other_clips")])
def test_clips_serve_as_baselines_for_the_others_if_there_are_enough(
    run_explain, regressor, out, clip, count, family
):
    waves = np.random.default_rng(1).uniform(-0.1, 0.1, (count - 1, 8_000)) * np.linspace(0, 1, 8_000)
    for index, waveform in enumerate(waves):
        save_audio(clip.with_name(f"{index}.wav"), waveform)
    assert run_explain(regressor, clip.parent, "--out", out, "--num_draws", "11", "--figures=false") == 0
    numbers = json.loads((out / "clips" / f"{STEM}.json").read_text())
    assert numbers["settings"]["baselines"] == family
    assert numbers["reasons"].keys() == {"stages", "baselines"}
    others = [one for one in sorted(clip.parent.glob("*.wav")) if one != clip]  # never the clip itself
    named = {"baselines": family, "recordings": others if family == "other_clips" else ()}
    alone = explain(regressor, clip, target="arousal", num_draws=11, **named).to_dict()
    assert numbers["baseline_score"] == pytest.approx(alone["baseline_score"], abs=1e-5)


def test_what_was_written_is_not_searched_for_audio(quick, out, clip, read_csv, run_explain, checkpoint):
    below = clip.parent / "out"
    for _ in range(2):
        assert (
            run_explain(
                checkpoint,
                clip.parent,
                "--out",
                below,
                "--num_draws",
                "4",
                "--stages",
                "frames",
                "--report=false",
            )
            == 0
        )
        assert len(read_csv(below / "summary.csv")) == 1


def test_the_page_of_all_clips(run_explain, checkpoint, out, clip):
    pytest.importorskip("wavshap_lightning.viz.report")
    broken = clip.with_name("broken.wav")
    broken.write_bytes(b"RIFF")
    few = ("--num_draws", "2", "--stages", "frames", "--figures=false", "--sounds=false")
    assert run_explain(checkpoint, clip, broken, "--out", out, *few) == 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "a clip &lt;b&gt;.wav" in page
    assert "broken.wav" in page
