"""Configurations: words mean what they look like, and what is stored reads back to the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavshap_lightning.cli.options import load_yaml, parse_words
from wavshap_lightning.cli.terminal import EXIT_USAGE
from wavshap_lightning.cli.train import build_parser
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import apply_label_map
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.loggers import RunSettings, choose_wandb_mode


@pytest.fixture
def read(tmp_path):
    """`(text or bytes, *words) -> options` of `fit`, from a configuration file and words."""

    def read(content, *words):
        path = tmp_path / "given.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return parse_words(build_parser("fit"), ["--config", str(path), *words])

    return read


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[no, off, yes, on, y, N]", ["no", "off", "yes", "on", "y", "N"]),
        ("[true, false, null, ~]", [True, False, None, None]),
        ("[0, -1, 1.5, .5, 2.0e+3, .inf]", [0, -1, 1.5, 0.5, 2000.0, float("inf")]),
        ("[012, 0x1F, 12:30, 2024-01-02]", ["012", "0x1F", "12:30", "2024-01-02"]),
        ("[1_000, '1', \"no\"]", ["1_000", "1", "no"]),
        ("{0: a, 1.0: b, no: c, null: d}", {"0": "a", "1.0": "b", "no": "c", "null": "d"}),
        ("a: &x {0: b}\nc: {<<: *x, 1: d}", {"a": {"0": "b"}, "c": {"0": "b", "1": "d"}}),
        ("\ufeffa: 1\r\nb: null\r\n", {"a": 1, "b": None}),
        ("", None),
    ],
)
def test_words_without_quotes_are_text_unless_they_are_numbers_or_json(text, found):
    assert load_yaml(text) == found


@pytest.mark.parametrize(
    ("wandb", "mode"), [("off", "off"), ("false", "off"), ("no", "off"), ("offline", "offline")]
)
def test_wandb_is_off_as_it_is_written(read, wandb, mode):
    settings = RunSettings(**read(f"run: {{wandb: {wandb}}}").run.as_dict())
    assert choose_wandb_mode(settings.wandb) == (mode, "")


@pytest.mark.parametrize(
    "label_map",
    ["{0: neg, 1: pos}", "{no: neutral, yes: happy}", "{off: 0, '1': 2}", "{001: 00, 1.0: a, n: null}"],
)
def test_labels_are_kept_as_they_are_written(read, label_map):
    in_file, on_line = read(f"data: {{label_map: {label_map}}}"), read("{}", "--data.label_map", label_map)
    expected = [one.split(": ") for one in label_map.strip("{}").replace("'", "").split(", ")]
    for config in (in_file, on_line):
        clips = [Clip(Path("a.wav"), key) for key, _ in expected]
        found = [clip.label for clip in apply_label_map(clips, config.data.label_map)]
        assert found == [value for _, value in expected if value != "null"]


@pytest.mark.parametrize("labels", ["[0, 1]", "[no, yes]", "[001, 002]", "['0', 1]"])
def test_what_is_stored_reads_back_to_the_same(read, labels):
    data = f"data: {{labels: {labels}, options: {{language: no, session: 1}}}}"
    config = read(f"{data}\nmodel: {{optimizer: {{learning_rate: 1e-4}}}}")
    expected = labels.strip("[]").replace("'", "").split(", ")
    assert EmotionDataModule(labels=config.data.labels).labels == expected
    assert config.data.options == {"language": "no", "session": 1}
    assert config.model.optimizer.learning_rate == 1e-4
    again = read(build_parser("fit").dump(config, skip_unset=False))
    again.config = config.config
    assert again == config


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("dat: {fold: 1}", "dat"),
        ("data:\n\tcorpus: x", "line 2"),
        ("data: {fold: 1}\ndata: {fold: 2}", "found 'data' twice in line 2"),
        (
            "data:\n  # corpus: x\nrun: {name: x}",
            "found 'data' without a value (leave it out, or write null) in line 1",
        ),
        ("model: {optimizer: }", "found 'optimizer' without a value"),
        ("run: {patience: null}", "run.patience=null: give a value"),
        ("run: {name: 2024}", "Got value: 2024; put it in quotes"),
        ("run: {wandb: true}", "'auto', 'online', 'offline', 'off'"),
        ("model: {tasks: [{task: dimension}]}", "\"model.tasks.task\": Expected a Literal['classes'"),
        ("model: {tasks: [{task: dimension}]}", "Got value: dimension"),
        (
            "model: {tasks: [{task: dimensions, scale: 7}]}",
            '"model.tasks.scale": Expected a tuple. Got value: 7',
        ),
        ("model: {tasks: [{task: labels, wieght: 2}]}", "\"model.tasks\": Option 'wieght' is not accepted"),
        ("trainer: {max_epochs: many}", '"trainer.max_epochs": Expected a'),
        ("", "no options"),
        ("- a\n- b", "no options"),
        ("data: {root: m\xfcde}".encode("latin-1"), "not UTF-8"),
        (
            "data: {class_path: EmotionDataModule, init_args: {fold: 1}}",
            "Group 'data' does not accept option",
        ),
    ],
)
def test_a_configuration_that_cannot_be_read_is_told_in_a_few_lines(read, capsys, content, said):
    with pytest.raises(SystemExit) as ending:
        read(content)
    assert ending.value.code == EXIT_USAGE
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.splitlines()) <= 4
