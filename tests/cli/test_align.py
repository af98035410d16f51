"""`train.py align`: a TextGrid for each recording whose text is known."""

from __future__ import annotations

import pytest

from wavshap_lightning.audio.alignments import read_alignment
from wavshap_lightning.audio.io import load_audio, save_audio
from wavshap_lightning.cli.train import main

pytestmark = [
    pytest.mark.usefixtures("surroundings"),
    pytest.mark.filterwarnings("ignore:path=.*the text fits badly"),  # noise is aligned
]


def run_align(*arguments):
    with pytest.raises(SystemExit) as ending:
        main(["align", *map(str, arguments)])
    return ending.value.code


def test_clips_of_a_manifest_are_aligned_and_those_that_cannot_be_are_named(clip, tmp_path, capsys):
    folder, out = clip.parent, tmp_path / "grids"
    save_audio(folder / "b.wav", load_audio(clip)[::-1].copy())
    (folder / "list.csv").write_text(f"path,label,text\n{clip.name},happy,The kids!\nb.wav,sad,\n")
    assert run_align(folder / "list.csv", out) == 1
    found = read_alignment(out / f"{clip.stem.replace('<b>', '_b_')}.TextGrid")
    assert [one.text for one in found.words] == ["the", "kids"]
    shown = capsys.readouterr()
    assert "b.wav: text=None: give --text" in shown.err
    assert "(1 of 2 clips)" in shown.out
    assert run_align(folder / "b.wav", out, "--text", "the kids") == 0
    assert read_alignment(out / "b.TextGrid", tier="phones").words[0].text == "DH"


def test_a_user_mistake_is_one_line(clip, tmp_path, capsys):
    assert run_align(tmp_path / "nowhere", tmp_path / "out", "--text", "hello") == 2
    assert run_align(clip, clip, "--text", "the kids") == 2
    assert all("Traceback" not in line for line in capsys.readouterr().err.splitlines())
