"""The arguments of `explain.py`: defaults, a configuration, the help."""

from __future__ import annotations

from typing import get_args

import pytest

from wavshap_lightning.cli.clips import Item, find_items, name_items, safe_stem
from wavshap_lightning.cli.options import build_parser, read_options
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.settings import FAMILIES, METHODS, STAGES, ScoreKind


def test_options_may_stand_between_the_clips():
    options = read_options(["model", "a.wav", "--draws", "8", "b.wav"])
    assert (options.model, options.audio, options.draws) == ("model", ["a.wav", "b.wav"], 8)


def test_a_configuration_holds_where_the_command_line_says_nothing(tmp_path):
    config = tmp_path / "explain.yaml"
    config.write_text(
        "target: happy\nmax_seconds: 2.5\nstages: [frames, layers]\nfigures: false\nbaseline-clips: [a, b]\n"
        "tolerance: null\nwaveform: true\nscores_only: false\n"
    )
    options = read_options(["model", "a.wav", "--config", str(config), "--target", "sad"])
    assert (options.target, options.max_seconds, options.stages) == ("sad", 2.5, "frames,layers")
    assert (options.figures, options.waveform, options.scores_only) == (False, True, False)
    assert options.baseline_clips == ["a", "b"]
    assert options.audio == ["a.wav"]


@pytest.mark.parametrize("option", ["compare", "baseline-clips", "corpus-option"])
def test_a_list_on_the_command_line_replaces_that_of_the_configuration(tmp_path, option):
    config = tmp_path / "explain.yaml"
    config.write_text(f"{option}: [a=1, b=2]\ntarget: happy\n")
    words = ["model", "a.wav", "--config", str(config)]
    read = vars(read_options(words))
    assert read[option.replace("-", "_")] == ["a=1", "b=2"]
    read = vars(read_options([*words, f"--{option}", "c=3", f"--{option}", "d=4"]))
    assert read[option.replace("-", "_")] == ["c=3", "d=4"]
    assert read["target"] == "happy"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("colour: red", "'colour' is no option; use some of accelerator, baseline, "),
        ("- a\n- b", "must hold lines such as"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_configuration_that_says_nothing_useful_is_refused(tmp_path, content, said):
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(SettingError, match=said):
        read_options(["model", "--config", str(tmp_path / "bad.yaml")])


def test_a_corpus_comes_without_pictures_and_sounds_unless_they_are_asked_for(tmp_path):
    alone, many = read_options(["model", "a.wav"]), read_options(["model", "--corpus", "planted"])
    assert (alone.figures, alone.sounds, many.figures, many.sounds) == (True, True, False, False)
    (tmp_path / "explain.yaml").write_text("corpus: planted\nfigures: true\nnum_nodes: 2\n")
    asked = read_options(["model", "--config", str(tmp_path / "explain.yaml"), "--sounds"])
    assert (asked.figures, asked.sounds, asked.num_nodes) == (True, True, 2)


def test_a_missing_configuration_is_refused(tmp_path):
    with pytest.raises(SettingError, match="No such file"):
        read_options(["model", "--config", str(tmp_path / "none.yaml")])


def test_a_wrong_value_in_a_configuration_ends_as_a_wrong_flag_does(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("draws: many")
    with pytest.raises(SystemExit) as ending:
        read_options(["model", "--config", str(tmp_path / "bad.yaml")])
    assert ending.value.code == 2
    assert "--draws" in capsys.readouterr().err


def test_the_help_names_every_choice(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shown = build_parser().format_help()
    for name in (*STAGES, *FAMILIES, *METHODS, *get_args(ScoreKind), "happy-vs-sad"):
        assert name in shown
    assert len(shown.splitlines()) < 90


def test_names_of_files_are_safe_distinct_and_do_not_depend_on_order(tmp_path):
    paths = [tmp_path / name for name in ("a/clip.wav", "b/clip.wav", "c/CLIP.wav", "c/other.wav")]
    items = name_items([Item(path) for path in paths])
    backwards = name_items([Item(path) for path in reversed(paths)])
    assert {item.path: item.stem for item in items} == {item.path: item.stem for item in backwards}
    assert len({item.stem.casefold() for item in items}) == 4
    assert items[3].stem == "other"
    assert all(stem not in ("", ".", "..") for stem in map(safe_stem, ("", ".", "..", "   ")))
    assert len(safe_stem("\u611f" * 300).encode()) <= 120


def test_a_clip_given_twice_is_explained_once(tmp_path):
    assert len(find_items([str(tmp_path / "a.wav")] * 2, tmp_path / "out")) == 1


def test_a_folder_without_audio_is_refused(tmp_path):
    with pytest.raises(SettingError, match="holds no audio"):
        find_items([str(tmp_path)], tmp_path / "out")
