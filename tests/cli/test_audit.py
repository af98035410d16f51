"""`train.py audit`: what it prints and writes, its exit status, and what a run keeps of what was found."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from transformers import WavLMConfig, WavLMForSequenceClassification

from wavshap_lightning.cli.train import main

pytestmark = pytest.mark.usefixtures("surroundings")

LABELS = ("angry", "happy")
SPLITS = {"ann": "train", "bob": "train", "cat": "validation", "dan": "test"}
COLUMNS = ("path", "label", "speaker", "split")


@pytest.fixture
def write_table(tmp_path):
    """`(splits=..., spoil=()) -> path` of a manifest; the clips named are text, as Git LFS leaves them."""

    def write_table(splits=SPLITS, spoil=()):
        generator = np.random.default_rng(0)
        rows = [COLUMNS]
        for speaker, split in splits.items():
            for index in range(4):
                name = f"{speaker}-{index}.wav"
                soundfile.write(tmp_path / name, generator.uniform(-0.1, 0.1, 8_000), 16_000)
                if name in spoil:
                    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\n")
                rows.append((name, LABELS[index % 2], speaker, split))
        table = tmp_path / "clips.csv"
        table.write_text("\n".join(",".join(row) for row in rows) + "\n")
        return table

    return write_table


def given(command, table, *more):
    words = ("--data.corpus=manifest", f"--data.root={table}", "--run.wandb=off", "--trainer.max_epochs=1")
    embedded = Path(__file__).parents[2] / "configs/backbones/tiny.yaml"
    return [command, f"--config={embedded}", *words, *map(str, more)]


def test_a_corpus_without_errors_is_summarized_without_a_model_or_a_run(write_table, capsys, tmp_path):
    out = tmp_path / "deep/found.json"
    main(given("audit", write_table(), "--out", out, "--model.backbone.name=nobody/nothing"))
    printed = capsys.readouterr().out
    assert "Nothing is wrong with these clips." in printed
    found = json.loads(out.read_text())
    assert {name: one["number"]["clips"] for name, one in found["summary"].items()} == {
        "train": 8,
        "validation": 4,
        "test": 4,
        "all": 16,
    }
    assert found["summary"]["all"]["sample rate"] == {"16000 Hz": 16}
    assert (found["findings"], found["warnings"]) == ([], [])
    assert not Path("runs").exists()


def test_errors_end_with_2_and_every_bad_file_is_in_the_json(write_table, capsys, run_main):
    bad = [f"{speaker}-{index}.wav" for speaker in ("ann", "dan") for index in range(4)]
    run_main(given("audit", write_table(spoil=bad)), code=2)
    printed = capsys.readouterr().out
    assert "error: unreadable (8)" in printed
    assert printed.count("8 x ") == 1
    found = json.loads(Path("audit.json").read_text())
    unreadable = next(one for one in found["findings"] if one["check"] == "unreadable")
    assert [Path(path).name for path in unreadable["where"]] == bad
    assert found["summary"]["train"]["number"]["unreadable"] == 4


@pytest.mark.parametrize(("without", "code"), [(["dan"], 0), (["cat", "dan"], 2), (["ann", "bob"], 2)])
def test_a_corpus_of_some_splits_is_summarized_and_refused_if_a_run_would_stop(
    write_table, capsys, without, code
):
    table = write_table({name: split for name, split in SPLITS.items() if name not in without})
    try:
        main(given("audit", table))
        status = 0
    except SystemExit as stopped:
        status = stopped.code
    assert status == code
    assert "seconds" in capsys.readouterr().out
    kept = {SPLITS[name] for name in SPLITS if name not in without}
    assert json.loads(Path("audit.json").read_text())["summary"].keys() == {*kept, "all"}


def test_a_file_that_cannot_be_written_is_one_line(write_table, capsys, run_main, tmp_path):
    (tmp_path / "file").write_text("")
    run_main(given("audit", write_table(), "--out", tmp_path / "file/audit.json"), code=2)
    assert "out=" in capsys.readouterr().err


def test_one_class_alone_is_refused_as_by_a_run(write_table, capsys, run_main):
    run_main(given("audit", write_table(), f"--data.labels=[{LABELS[0]}]"), code=2)
    assert f"labels=['{LABELS[0]}'] of corpus='manifest' root=" in capsys.readouterr().err


@pytest.mark.parametrize("table", ["~nobody/clips.csv", "clips\0.csv"])
def test_a_path_that_no_system_takes_is_one_line(table, capsys, run_main):
    run_main(given("audit", table), code=2)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_refused_run_names_the_command_that_lists_everything(write_table, capsys, run_main):
    run_main(given("fit", write_table(spoil=["ann-0.wav", "bob-3.wav"])), code=2)
    complaint = capsys.readouterr().err
    assert "errors=2 " in complaint
    assert "train.py audit" in complaint
    assert "Traceback" not in complaint


@pytest.fixture
def shown_warnings(monkeypatch):
    """Warnings shown as Python shows them outside of pytest."""
    show = lambda *one: sys.stderr.write(warnings.formatwarning(*one[:4]))  # noqa: E731
    monkeypatch.setattr(warnings, "showwarning", show)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


@pytest.mark.usefixtures("shown_warnings")
def test_what_was_found_and_warned_of_lies_beside_the_protocol(write_table, capsys):
    table = write_table(spoil=["ann-0.wav"])
    skip = ("--data.on_bad_clip=skip", "--data.max_duration_s=0.4")
    main(given("fit", table, *skip))
    run = Path("runs/emotion/version_0")
    protocol = json.loads((run / "protocol.json").read_text())
    kinds = {(one["severity"], one["check"]): one["count"] for one in protocol["findings"]}
    assert kinds == {("note", "unreadable"): 1, ("warning", "too long"): 15}
    assert any(one.startswith("1 bad clips are left out") for one in protocol["warnings"])
    assert any(one.startswith("the audit of the clips found") for one in protocol["warnings"])
    assert protocol["summary"]["train"]["number"]["unreadable"] == 1
    printed = capsys.readouterr().out
    assert "note: unreadable (1)" in printed
    assert "ann-0.wav: left out: " in printed


def test_an_unexpected_number_of_clips_is_a_note(capsys):
    folder = Path("ravdess")
    samples = np.random.default_rng(0)
    for actor in range(1, 25):
        for emotion in range(1, 9):
            path = folder / f"Actor_{actor:02}/03-01-{emotion:02}-01-01-01-{actor:02}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples.uniform(-0.1, 0.1, 4_000), 16_000)
    main(["audit", "--data.corpus=ravdess", f"--data.root={folder}"])
    assert "all splits: 192 clips, expected 1440" in capsys.readouterr().out


@pytest.mark.usefixtures("shown_warnings")
def test_warnings_of_the_loading_of_model_and_corpus_reach_the_file_of_every_clip_once(run_explain, tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = WavLMConfig(**sizes, conv_dim=(8,) * 7, num_conv_pos_embedding_groups=2, num_labels=2)
    WavLMForSequenceClassification(config).save_pretrained(tmp_path / "model")  # without its preprocessor
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 4_000)
    for folder in ("", "clips"):  # as an archive that was packed twice
        path = tmp_path / "clips" / folder / "1001_DFA_ANG_XX.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, 16_000)
    corpus = ("--corpus", "crema-d", "--root", tmp_path / "clips", "--split", "all", "--accelerator", "cpu")
    quick = ("--out", "out", "--num_draws", 4, "--stages", "[frames]")
    assert run_explain("corpus", tmp_path / "model", *corpus, *quick) == 0
    (path,) = Path("out/clips").glob("*.json")
    told = [one["message"] for one in json.loads(path.read_text())["diagnostics"]]
    assert sum("has no preprocessor_config.json" in one for one in told) == 1
    assert sum("there twice" in one for one in told) == 1


def test_a_name_that_is_no_text_is_printed_with_escapes(run_main, capsys, tmp_path):
    for index in range(16):
        folder = tmp_path / "clips" / ("happy", os.fsdecode(b"m\xfcde"))[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        samples = (index != 1) * np.random.default_rng(index).uniform(-0.1, 0.1, 4_000)
        with (folder / f"{'abcd'[index // 4]}_{index}.wav").open("wb") as file:
            soundfile.write(file, samples, 16_000, format="WAV")
    pattern = json.dumps({"speaker_pattern": "/(?P<speaker>[a-d])_"})
    run_main(
        ["audit", "--data.corpus=folders", f"--data.root={tmp_path / 'clips'}", f"--data.options={pattern}"],
        code=2,
    )
    assert "m\\udcfcde/a_1.wav: level" in capsys.readouterr().out
    assert "m\\udcfcde/a_1.wav" in Path("audit.json").read_text()
