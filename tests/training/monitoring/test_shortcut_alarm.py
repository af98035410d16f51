"""The alarm: what it goes off for, and that it does in a training that learns a planted shortcut."""

from __future__ import annotations

import csv

import lightning as L  # noqa: N812
import pytest
import torch

from wavshap_lightning.models.backbone import BackboneSettings
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.training.callbacks import ReproducibleEpochs
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.module import EmotionModule
from wavshap_lightning.training.monitoring.monitor import ExplanationMonitor
from wavshap_lightning.training.monitoring.shortcut_alarm import (
    describe_alarm,
    suspects,
)

EVEN = 0.2


def shares(epoch, uar, **excess):
    off_speech = {label: {"share": EVEN + by, "even": EVEN} for label, by in excess.items()}
    return {"epoch": epoch, "uar": uar, "chance": 0.25, "off_speech": off_speech}


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([], []),
        ([shares(0, 0.25, sad=-0.1), shares(1, 0.8, sad=0.15, angry=0.0)], ["sad"]),
        ([shares(0, 0.25, sad=0.3), shares(1, 0.8, sad=-0.1)], []),
        ([shares(0, 0.25, sad=0.0), shares(1, 0.3, sad=0.5)], []),
        ([shares(0, 0.25, sad=-0.3), shares(1, 0.8, sad=-0.05)], []),
        ([shares(0, 0.25, sad=0.14), shares(1, 0.8, sad=0.15)], []),
        ([shares(0, 0.6, sad=0.14)], ["sad"]),
        ([shares(0, 0.25, sad=0.0), shares(1, 0.8, sad=0.3), shares(2, 0.8, sad=0.3)], ["sad"]),
    ],
    ids=[
        "nothing yet",
        "both rise",
        "share falls",
        "recall stays",
        "less than the time",
        "share stays",
        "learned at once",
        "goes on",
    ],
)
def test_it_goes_off_where_recall_and_the_share_outside_of_speech_have_risen(epochs, expected):
    assert list(suspects(epochs)) == expected


def test_the_order_of_labels_and_other_labels_make_no_difference():
    first = [shares(0, 0.25, sad=0.0, angry=0.0), shares(1, 0.8, sad=0.2, angry=0.3)]
    second = [shares(0, 0.25, angry=0.0), shares(1, 0.8, angry=0.3)]
    assert suspects(first)["angry"] == suspects(second)["angry"]


def test_it_says_for_which_class_and_how_much():
    said = describe_alarm({"sad": {"share": 0.31, "even": 0.14}}, "UAR is 0.67")
    assert "UAR is 0.67" in said
    assert "sad (31% of the attribution, 14% of the time)" in said


# In a training


CORPUS = {
    "num_speakers": 12,
    "clips_per_speaker_and_label": 4,  # few, so that a tone is learned sooner than a cue
    "lead_s": 0.3,
}


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    """Shared: the corpora differ in the clips of one class."""
    return str(tmp_path_factory.mktemp("cache"))


def train(folder, cache_dir, **options):
    """Train on PlantedSpeech; give the trainer, and the rows of the table for the scores of labels."""
    data = EmotionDataModule("planted", options={**CORPUS, **options}, cache_dir=cache_dir, batch_size=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = HeadSettings(layer=0, pooling="attentive", frame_dropout=0.8)
        module = EmotionModule(data.labels, BackboneSettings("tiny"), head)
    monitor = ExplanationMonitor(
        every_n_epochs=6,
        per_class=3,
        num_hardest=0,
        num_wrong=0,
        stages=("frames",),
        num_draws=16,
        faithfulness=False,
        all_layers=False,
        figures=False,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=13,
        logger=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ReproducibleEpochs(), monitor],
    )
    trainer.fit(module, datamodule=data)
    with (folder / "explanations.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["target"] == row["label"]]
    return trainer, rows


def edges(rows, label, epoch):
    shares = [float(row["share/edges"]) for row in rows if (row["label"], row["epoch"]) == (label, epoch)]
    return sum(shares) / len(shares)


@pytest.mark.slow
def test_a_training_that_learns_a_tone_in_the_silence_sets_it_off(tmp_path, cache_dir):
    with pytest.warns(UserWarning, match=r"shortcut alarm: UAR is .* hold evidence for happy \("):
        trainer, rows = train(tmp_path, cache_dir, shortcut="happy")
    assert trainer.callback_metrics["explain/shortcut_alarm"] == 1
    assert trainer.callback_metrics["val/uar"] > 0.6
    assert edges(rows, "happy", "12") > edges(rows, "sad", "12") + 0.1


@pytest.mark.slow
def test_the_same_training_without_the_tone_does_not(tmp_path, cache_dir):
    trainer, rows = train(tmp_path, cache_dir)
    assert trainer.callback_metrics["explain/shortcut_alarm"] == 0
    assert edges(rows, "neutral", "12") < 0.2  # no more than edges and the lead have of the time
