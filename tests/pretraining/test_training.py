"""A run follows from its seed, whether or not it was interrupted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from pretraining.corpus import (
    HELD_OUT_VARIANTS,
    CorpusSettings,
    StepBatches,
    collate,
    draw_masks,
    draw_utterance,
    make_corpus,
)
from pretraining.module import PretrainingData, PretrainingModule, Recipe, build_trainer
from pretraining.utterances import NUM_FRAMES

from wavshap_lightning.training.loggers import RunSettings, build_loggers

pytestmark = pytest.mark.slow

SETTINGS = CorpusSettings(seed=0, num_utterances=6)
RECIPE = Recipe(seed=0, num_steps=4, batch_size=4, steps_per_epoch=2)


@pytest.fixture(scope="module")
def corpus() -> dict[str, torch.Tensor]:
    return collate(draw_utterance(SETTINGS, index) for index in range(SETTINGS.num_utterances))


def test_half_of_the_corpus_is_espeak_and_never_in_a_held_out_voice(corpus):
    voices = corpus["voice"].tolist()
    assert [voice >= 0 for voice in voices] == [True, False] * 3
    many = [draw_utterance(SETTINGS, 2 * index).voice for index in range(30)]
    assert not set(many) & set(HELD_OUT_VARIANTS)


def test_held_out_utterances_are_others(corpus):
    held_out = draw_utterance(CorpusSettings(seed=0, num_utterances=2, held_out=True), 1)
    assert not np.array_equal(held_out.waveform, draw_utterance(SETTINGS, 1).waveform)


def test_a_corpus_is_made_once_and_read_from_then_on(tmp_path, monkeypatch):
    monkeypatch.setattr("pretraining.corpus.SHARD_SIZE", 2)
    settings = CorpusSettings(seed=1, num_utterances=2)
    calls: list[int] = []
    made = make_corpus(settings, tmp_path, num_processes=1, on_progress=calls.append)
    assert len(calls) == 1
    again = make_corpus(settings, tmp_path, num_processes=1, on_progress=calls.append)
    assert len(calls) == 1
    for name, values in made.items():
        assert torch.equal(values.nan_to_num(), again[name].nan_to_num())


def test_a_batch_follows_from_seed_and_step_alone(corpus):
    whole = StepBatches(corpus, seed=3, batch_size=4, start=0, count=10)
    tail = StepBatches(corpus, seed=3, batch_size=4, start=7, count=3)
    other = StepBatches(corpus, seed=4, batch_size=4, start=0, count=10)
    assert torch.equal(whole[8].waveforms, tail[1].waveforms)
    assert torch.equal(whole[8].masked, tail[1].masked)
    assert not torch.equal(whole[8].waveforms, whole[9].waveforms)
    assert not torch.equal(whole[8].waveforms, other[8].waveforms)
    with pytest.raises(IndexError):
        tail[3]


def test_three_quarters_of_the_clips_are_heard_whole():
    masked = draw_masks(16, torch.Generator().manual_seed(0))
    assert masked.shape == (16, NUM_FRAMES)
    assert not masked[:12].any()
    assert masked[12:].any(1).all()
    assert 0.15 < masked[12:].float().mean() < 0.35


def train(
    corpus: dict[str, torch.Tensor], folder: Path, *, steps: int, resume: bool = False
) -> dict[str, torch.Tensor]:
    module, data = PretrainingModule(RECIPE), PretrainingData(RECIPE, corpus, corpus, num_workers=0)
    module.objective.calibrate([data.steps(0, 2)[step].targets for step in range(2)])
    loggers = [build_loggers(RunSettings(wandb="off"), folder)[0]]
    trainer = build_trainer(
        RECIPE, folder, loggers=loggers, stop_after=steps, accelerator="cpu", progress=False
    )
    trainer.fit(
        module, datamodule=data, ckpt_path=folder / "last.ckpt" if resume else None, weights_only=True
    )
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def whole_run(corpus, tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(corpus, folder, steps=4)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_an_interrupted_run_ends_where_the_other_one_does(corpus, whole_run, tmp_path):
    _, whole = whole_run
    train(corpus, tmp_path, steps=2)
    parts = train(corpus, tmp_path, steps=4, resume=True)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_the_loss_is_written_down_every_epoch(whole_run):
    folder, _ = whole_run
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("train/total", "val/total"):  # Lightning's table has them in rows of their own
        assert len([row for row in rows if row[name]]) == 2
