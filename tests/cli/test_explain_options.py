"""The arguments of `explain.py`: defaults, a configuration, lists, and help that fits on a screen."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from wavshap_lightning.cli.clips import ClipOptions, by_stem, find_clips, safe_stem
from wavshap_lightning.cli.explain import COMMANDS
from wavshap_lightning.cli.options import read_arguments
from wavshap_lightning.cli.output import Output
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.settings import FAMILIES, METHODS, STAGES, ExplainSettings, ScoreKind

MAX_LINES, MAX_COLUMNS = 53, 100


@pytest.fixture
def read():
    """`(*words) -> arguments` of a command like that of `explain.py`."""

    def command(
        model: str,
        audio: list[str],
        clip: ClipOptions,
        settings: ExplainSettings,
        output: Output,
        *,
        device: str = "cpu",
    ) -> int:
        """Explain recordings."""

    def read(*words, **defaults):
        return read_arguments(command, words, prog="explain.py", defaults=defaults)

    return read


def test_options_may_stand_between_the_recordings(read):
    found = read("model", "a.wav", "--num_draws", "8", "b.wav")
    assert (found["model"], found["audio"]) == ("model", ["a.wav", "b.wav"])
    assert found["settings"] == ExplainSettings(num_draws=8)


def test_a_value_may_be_empty(read):
    assert read("model", "--tier", "", "a.wav")["clip"] == read("model", "--tier=")["clip"] == ClipOptions()


def test_every_field_of_the_settings_is_an_option(read):
    values = {"method": "integrated_gradients", "score": "logit", "baselines": "silence"}
    numbers = {"num_baselines": 1, "num_draws": 16, "seed": 3, "chunk_size": 2, "num_bands": 12}
    words = [f"--{name}={value}" for name, value in {**values, **numbers}.items()]
    found = read("model", *words, "--stages=frames", "--decibels=true", "--segments=[[0.0, 0.5]]")["settings"]
    expected = ExplainSettings(stages=STAGES[:1], **values, **numbers, decibels=True, segments=[(0.0, 0.5)])
    assert found == expected


def test_a_configuration_holds_where_the_command_line_says_nothing(tmp_path, read):
    config = tmp_path / "explain.yaml"
    config.write_text(
        "target: happy\nmax_seconds: 2.5\nstages: [frames, layers]\nfigures: false\nrecordings: [a, b]\n"
        "tolerance: null\nwaveform: true\n"
    )
    found = read("model", "a.wav", "--config", str(config), "--target", "sad")
    assert found["clip"] == ClipOptions(target="sad", recordings=["a", "b"])
    assert found["settings"] == ExplainSettings(max_seconds=2.5, stages=["frames", "layers"])
    assert (found["output"].figures, found["output"].waveform) == (False, True)
    assert found["audio"] == ["a.wav"]


def test_a_list_on_the_command_line_replaces_that_of_the_configuration(tmp_path, read):
    (tmp_path / "explain.yaml").write_text("recordings: [a, b]\ntarget: happy\n")
    found = read("model", "--config", str(tmp_path / "explain.yaml"), "--recordings", "c: 3.wav,d.wav")
    assert found["clip"] == ClipOptions(target="happy", recordings=["c: 3.wav", "d.wav"])


def test_defaults_of_a_command_may_differ_from_those_of_its_settings(read):
    assert read("model", stages=["layers"], figures=False)["settings"].stages == ("layers",)
    assert read("model", "--figures=true", figures=False)["output"].figures


@pytest.mark.parametrize("content", ["colour: red", "- a\n- b", "a: [", "num_draws: many"])
def test_a_configuration_that_says_nothing_useful_is_refused(tmp_path, read, content, capsys):
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(SystemExit) as ending:
        read("model", "--config", str(tmp_path / "bad.yaml"))
    assert ending.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--num_draw", "8"], ["--config", "none.yaml"], ["--num_draws"]])
def test_a_mistyped_option_is_refused_in_a_few_lines(read, words, capsys):
    with pytest.raises(SystemExit) as ending:
        read("model", *words)
    assert ending.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) <= 6


@pytest.fixture
def help_of(run_explain, capsys):
    """`(command) -> text` of its help."""

    def help_of(command):
        assert run_explain(*([command] if command else []), "--help") == 0
        return capsys.readouterr().out

    return help_of


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_on_a_screen(help_of, command):
    lines = help_of(command).splitlines()
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= MAX_COLUMNS


@pytest.mark.usefixtures("surroundings")
def test_the_help_names_every_choice(help_of):
    shown = help_of("")
    for name in (*STAGES, *FAMILIES, *METHODS, *get_args(ScoreKind), "happy-vs-sad", *COMMANDS):
        assert name in shown


def test_names_of_files_are_safe_distinct_and_do_not_depend_on_order(tmp_path):
    paths = [tmp_path / name for name in ("a/clip.wav", "b/clip.wav", "c/CLIP.wav", "c/other.wav")]
    clips = [Clip(path, "sad") for path in paths]
    named = by_stem(clips)
    assert named == by_stem(clips[::-1])
    assert len({stem.casefold() for stem in named}) == 4
    assert named["other"] == clips[3]
    spans = [Clip(paths[0], "sad", start_s=0.0, end_s=end_s) for end_s in (1.0, 2.0)]
    assert list(by_stem(spans).values()) == spans
    assert all(stem not in ("", ".", "..") for stem in map(safe_stem, ("", ".", "..", "   ")))
    assert len(safe_stem("\u611f" * 300).encode()) <= 120


def test_a_clip_given_twice_is_explained_once(tmp_path):
    assert len(find_clips([str(tmp_path / "a.wav")] * 2, tmp_path / "out")) == 1


def test_a_folder_without_audio_is_refused(tmp_path):
    with pytest.raises(SettingError, match="holds no audio"):
        find_clips([str(tmp_path)], Path("out"))
