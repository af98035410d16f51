"""What every run has: reproducible epochs, checkpoints, and the files and lines that tell of it."""

from __future__ import annotations

import csv
import json

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar

from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.checkpoint import read_checkpoint
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.training.callbacks import ReproducibleEpochs, SingleThread, default_callbacks
from wavshap_lightning.training.checkpoints import AtomicCheckpointIO
from wavshap_lightning.training.loggers import RunSettings, build_loggers


@pytest.fixture
def build_run(build_trainer, tmp_path):
    """`(**settings) -> Trainer` as the command line builds it, in `tmp_path`."""

    def build_run(*, patience=0, keep_every=0, **settings):
        callbacks = default_callbacks(
            folder=tmp_path, progress=False, patience=patience, keep_every=keep_every
        )
        defaults = {
            "logger": build_loggers(RunSettings(wandb="off"), tmp_path)[0],
            "callbacks": callbacks,
            "enable_checkpointing": True,
            "plugins": [AtomicCheckpointIO()],
        }
        return build_trainer(**{**defaults, **settings})

    return build_run


def logged(folder):
    """Rows of `metrics.csv`."""
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Watch(L.Callback):
    """Writes down what is true while training."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_train_batch_start(self, *_):
        self.seen.append(self.look())


def test_an_epoch_draws_the_same_whatever_came_before(build_trainer, build_module, build_datamodule):
    def draws(epochs):
        watch = Watch(lambda: (float(torch.rand(())), float(np.random.rand())))  # noqa: NPY002
        torch.rand(epochs)
        trainer = build_trainer(callbacks=[ReproducibleEpochs(3), watch], max_epochs=epochs)
        trainer.fit(build_module(), datamodule=build_datamodule())
        return watch.seen

    two, three = draws(2), draws(3)
    assert three[: len(two)] == two
    assert len(set(three)) == len(three)


def test_seed_epoch_and_rank_decide_the_draws(build_trainer, build_module):
    def draw(seed, epoch, rank):
        trainer = build_trainer()
        trainer.strategy.global_rank = rank
        trainer.fit_loop.epoch_progress.current.completed = epoch
        ReproducibleEpochs(seed).on_train_batch_start(trainer, build_module(), None, 0)
        return float(torch.rand(()))

    cases = [(seed, epoch, rank) for seed in (0, 1) for epoch in (0, 1) for rank in (0, 1)]
    values = [draw(*case) for case in cases]
    assert len(set(values)) == len(cases)
    assert [draw(*case) for case in cases] == values


def test_a_head_on_small_statistics_trains_on_one_thread(
    build_trainer, build_module, build_datamodule, threads
):
    watch = Watch(lambda: threads[0])
    trainer = build_trainer(callbacks=[SingleThread(), watch])
    trainer.fit(build_module(), datamodule=build_datamodule())
    assert set(watch.seen) == {1}
    assert threads == [4]


@pytest.mark.parametrize("large", ["frames", "waveforms", "unfrozen"])
def test_larger_work_keeps_all_threads(
    build_trainer, build_module, build_datamodule, backbone_folder, threads, large
):
    settings = {
        "frames": {"head": HeadSettings(pooling="attentive")},
        "waveforms": {},
        "unfrozen": {"opened": SpeechBackbone(str(backbone_folder), unfreeze_layers=1)},
    }[large]
    watch = Watch(lambda: threads[0])
    trainer = build_trainer(callbacks=[SingleThread(), watch])
    trainer.fit(build_module(**settings), datamodule=build_datamodule(cache=large != "waveforms"))
    assert set(watch.seen) == {4}


def test_threads_come_back_after_an_error(build_trainer, build_module, build_datamodule, threads):
    def fail():
        assert threads == [1]
        raise ValueError("no")

    trainer = build_trainer(callbacks=[SingleThread(), Watch(fail)])
    with pytest.raises(ValueError, match="no"):
        trainer.fit(build_module(), datamodule=build_datamodule())
    assert threads == [4]


def test_a_run_leaves_its_files(build_run, build_module, build_datamodule, tmp_path, capsys):
    trainer, module, datamodule = build_run(max_epochs=3), build_module(), build_datamodule()
    trainer.fit(module, datamodule=datamodule)
    protocol = json.loads((tmp_path / "protocol.json").read_text())
    assert protocol == datamodule.protocol_record
    rows = logged(tmp_path)
    assert {"learning_rate/head", "train/loss", "val/ece", "val/uar"} < rows[0].keys()
    assert [row["epoch"] for row in rows if row["val/uar"]] == ["0", "1", "2"]
    assert [row["epoch"] for row in rows if row["train/loss"]] == ["0", "1", "2"]
    best, last = (tmp_path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert best.stat().st_size <= last.stat().st_size / 2
    assert sorted(path.name for path in best.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
    captured = capsys.readouterr()
    shown = captured.out.splitlines()
    assert shown[0] == "Clips            12 train, 7 validation, 6 test (small-official)"
    assert shown[1].startswith("Model            ")
    assert shown[1].endswith("parameters are trained")


def test_the_best_checkpoint_is_of_the_first_best_epoch(build_run, build_module, build_datamodule, tmp_path):
    trainer = build_run(max_epochs=4)
    trainer.fit(build_module(), datamodule=build_datamodule())
    uars = [float(row["val/uar"]) for row in logged(tmp_path) if row["val/uar"]]
    content = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["epoch"] == uars.index(max(uars))
    assert "optimizer_states" not in content


@pytest.mark.parametrize(("stage", "split", "count"), [("validate", "validation", 7), ("test", "test", 6)])
def test_an_evaluation_is_reported(
    build_run, build_module, build_datamodule, tmp_path, capsys, stage, split, count
):
    getattr(build_run(), stage)(build_module(), datamodule=build_datamodule(), verbose=False)
    report = json.loads((tmp_path / f"{split}.json").read_text())
    assert report["protocol"]["clips"][split] == count
    assert {"loss", "uar", "wa", "macro_f1", "ece"} < report.keys()
    confusion = (tmp_path / f"{split}_confusion.csv").read_text().splitlines()
    assert confusion[0] == "label,neutral,happy,sad"
    counted = sum(int(cell) for row in confusion[1:] for cell in row.split(",")[1:])
    assert counted == count
    assert (tmp_path / f"{split}_speakers.csv").is_file()
    assert f"{split.capitalize()} speakers, worst first" in capsys.readouterr().out


def test_validation_within_training_is_not_reported(build_run, build_module, build_datamodule, tmp_path):
    build_run().fit(build_module(), datamodule=build_datamodule())
    assert not (tmp_path / "validation.json").exists()


def test_patience_stops_early(build_run, build_module, build_datamodule):
    class NeverBetter(L.Callback):
        def on_validation_end(self, trainer, pl_module):
            trainer.callback_metrics["val/uar"] = torch.tensor(0.5)

    trainer = build_run(
        max_epochs=20,
        callbacks=[NeverBetter(), *default_callbacks(progress=False, patience=2)],
    )
    trainer.fit(build_module(), datamodule=build_datamodule())
    assert trainer.current_epoch == 3


def test_what_is_there_by_default():
    kinds = [type(callback) for callback in default_callbacks()]
    assert kinds.count(ModelCheckpoint) == 2
    assert RichProgressBar in kinds
    assert EarlyStopping not in kinds
    assert RichProgressBar not in map(type, default_callbacks(progress=False))
    assert EarlyStopping in map(type, default_callbacks(patience=3))


@pytest.mark.parametrize(("every", "kept"), [(0, []), (1, [0, 1, 2]), (2, [1])])
def test_weights_of_every_so_many_epochs_are_kept(
    build_run, build_module, build_datamodule, tmp_path, every, kept
):
    build_run(keep_every=every, max_epochs=3).fit(build_module(), datamodule=build_datamodule())
    files = sorted((tmp_path / "checkpoints").glob("epoch_*.ckpt"))
    assert [path.stem for path in files] == [f"epoch_{epoch:03}" for epoch in kept]
    assert [read_checkpoint(path)["epoch"] for path in files] == kept
    assert not any("optimizer_states" in read_checkpoint(path) for path in files)
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    if 2 in kept:
        assert all(
            torch.equal(value, last[name]) for name, value in read_checkpoint(files[-1])["state_dict"].items()
        )


def test_without_a_terminal_every_epoch_is_a_line(
    build_run, build_module, build_datamodule, tmp_path, capsys
):
    callbacks = default_callbacks(folder=tmp_path)
    trainer = build_run(max_epochs=2, callbacks=callbacks, enable_progress_bar=True)
    trainer.fit(build_module(), datamodule=build_datamodule())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all("loss " in line and "val UAR " in line for line in lines)
