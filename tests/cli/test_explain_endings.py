"""`explain.py` where it cannot do what was asked: words before any work, and finished work kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from wavshap_lightning.cli.clips import ClipExplainer

STEM = "a clip _b_"

pytestmark = pytest.mark.usefixtures("surroundings")


def test_an_unknown_target_lists_the_labels(quick, out, clip, capsys):
    assert quick(clip, "--target", "bored") == 2
    shown = capsys.readouterr().err
    assert "target='bored'" in shown
    assert "angry, happy, sad" in shown
    assert not out.exists()


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--stages", "frames,colours"], "colours"),
        (["--method", "magic"], "value: magic"),
        (["--num_draws", "0"], "num_draws=0 must be"),
        (["--baselines", "music"], "value: music"),
        (["--share", "3"], "share=3.0 must be above 0"),
        (["--alignments", "nowhere.TextGrid"], "alignments=nowhere.TextGrid: there is no such file"),
        (["--tier", "words"], "tier='words' needs alignments"),
        (["--tier", "words", "--alignments", "auto"], "tier='words' needs alignments"),
        (["--text", "hello", "--alignments", "a.csv"], "alignments=a.csv have the words already"),
        (["--device", "nonsense"], "device='nonsense' cannot be used"),
    ],
)
def test_a_wrong_option_is_told_before_any_work(quick, out, clip, capsys, more, said):
    assert quick(clip, *more) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert not (out / "clips").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_folder_that_is_read_only_is_told(quick, out, clip, capsys):
    out.mkdir()
    out.chmod(0o500)
    assert quick(clip) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_folder_that_is_a_file_is_told(quick, out, clip, capsys):
    out.write_text("a file")
    assert quick(clip) == 2
    assert f"out={out} cannot be written" in capsys.readouterr().err


def test_a_full_disk_is_told_and_finished_work_kept(quick, out, clip, capsys, monkeypatch, read_csv):
    shutil.copy(clip, clip.with_name("z.wav"))

    def full(saved, folder, stem):
        if stem == "z":
            raise OSError(28, "No space left on device")
        save(saved, folder, stem)

    from wavshap_lightning.cli import output as explain_files

    save = explain_files.save_clip
    monkeypatch.setattr(explain_files, "save_clip", full)
    assert quick(clip.parent) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [row["status"] for row in read_csv(out / "summary.csv")] == ["ok"]


def test_a_disk_that_is_full_of_sound_is_told_once(quick, out, clip, capsys, monkeypatch):
    """The writer of sounds has advice of its own, which is not repeated."""
    from wavshap_lightning.cli import output as explain_files
    from wavshap_lightning.errors import AudioError

    def full(path, *_, **__):
        raise AudioError(f"path={path}: cannot be written; check the folder") from OSError(
            28, "No space left"
        )

    monkeypatch.setattr(explain_files, "save_audio", full)
    assert quick(clip) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"out={out} cannot be written (No space left); check" in line
    assert "path=" not in line


def test_an_interruption_keeps_what_is_finished(quick, out, clip, monkeypatch, read_csv, capsys):
    shutil.copy(clip, clip.with_name("z.wav"))
    explain = ClipExplainer.explain

    def interrupted(work, clip):
        if clip.path.stem == "z":
            raise KeyboardInterrupt
        return explain(work, clip)

    monkeypatch.setattr(ClipExplainer, "explain", interrupted)
    assert quick(clip.parent) == 130
    assert f"interrupted: 1 of 2 clips are done, in {out}" in capsys.readouterr().err
    assert [Path(row["clip"]).name for row in read_csv(out / "summary.csv")] == [clip.name]
    assert (out / "clips" / f"{STEM}.json").is_file()
    assert not [path for path in out.rglob("*") if path.name.endswith(".unfinished")]
