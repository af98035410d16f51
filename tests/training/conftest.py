"""A small speech model in a folder, a few short clips, and trainers that are quick and quiet."""

from __future__ import annotations

import json
from itertools import product

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from transformers import WavLMConfig, WavLMModel

from wavshap_lightning.audio.io import SAMPLE_RATE, save_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.training.callbacks import ReproducibleEpochs
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.module import EmotionModule

LABELS = ("neutral", "happy", "sad")
SPLIT_OF_SPEAKER = {"ann": "train", "bob": "train", "cy": "validation", "di": "test"}
TAKES = 2


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory):
    """A WavLM of two layers of 32, hop 320 samples, saved as transformers saves it."""
    config = WavLMConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(16, 16, 16),
        conv_kernel=(40, 4, 4),
        conv_stride=(20, 4, 4),
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        num_buckets=16,
        max_bucket_distance=20,
        layerdrop=0.0,
    )
    folder = tmp_path_factory.mktemp("backbone")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        WavLMModel(config).save_pretrained(folder)
    preprocessing = {"do_normalize": True, "sampling_rate": SAMPLE_RATE}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder


@pytest.fixture(scope="session")
def opened(backbone_folder):
    """That model as a frozen backbone; nothing can change it."""
    return SpeechBackbone(str(backbone_folder))


@pytest.fixture(scope="session")
def write_corpus():
    """`(folder, **changes) -> manifest path`: 24 clips and one, 0.3 to 0.6 s, 3 classes, 4 speakers."""
    return _write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The manifest of the usual corpus: 12 clips to train on, 7 to validate, 6 to test."""
    return _write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory):
    """A cache that the tests share unless they are about the cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def build_datamodule(corpus, cache_folder):
    """`(**settings) -> EmotionDataModule` of the usual corpus."""

    def build_datamodule(**settings):
        defaults = {
            "corpus": "manifest",
            "root": str(corpus),
            "cache_dir": str(cache_folder),
            "batch_size": 4,
        }
        return EmotionDataModule(**{**defaults, **settings})

    return build_datamodule


@pytest.fixture
def build_module(opened):
    """`(**settings) -> EmotionModule` with a head drawn from seed 0."""

    def build_module(**settings):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return EmotionModule(**{"labels": LABELS, "opened": opened, **settings})

    return build_module


@pytest.fixture
def build_trainer(tmp_path):
    """`(**settings) -> Trainer`: one CPU, one epoch, no bars, files in `tmp_path`."""

    def build_trainer(**settings):
        defaults = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "default_root_dir": tmp_path,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [ReproducibleEpochs()],
        }
        return L.Trainer(**{**defaults, **settings})

    return build_trainer


@pytest.fixture
def attach(build_trainer, build_module):
    """`(datamodule, stage="fit", **module_settings) -> module`: as a trainer would set a datamodule up."""

    def attach(datamodule, stage="fit", **settings):
        module, trainer = build_module(**settings), build_trainer()
        trainer.strategy.connect(module)
        trainer.datamodule, datamodule.trainer, module.trainer = datamodule, trainer, trainer
        datamodule.prepare_data()
        datamodule.setup(stage)
        module.setup(stage)
        return module

    return attach


@pytest.fixture
def threads(monkeypatch):
    """Torch believes to have four threads; how many it keeps is the one entry of this list."""
    threads = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: threads.__setitem__(0, number))
    return threads


def _write_corpus(folder, *, speakers=SPLIT_OF_SPEAKER, labels=LABELS, takes=TAKES, seed=0, longest_s=0.6):
    """Noise through a resonance that depends on the label; the validation speaker has one clip more."""
    generator = np.random.default_rng(seed)
    clips = []
    for (speaker, split), label, take in product(speakers.items(), labels, range(takes)):
        clips.append(_write_clip(folder, generator, speaker, split, label, take, longest_s))
    clips.append(_write_clip(folder, generator, "cy", speakers["cy"], labels[0], takes, longest_s))
    save_manifest(folder / "clips.jsonl", clips)
    return folder / "clips.jsonl"


def _write_clip(folder, generator, speaker, split, label, take, longest_s):
    num_samples = int(SAMPLE_RATE * generator.uniform(0.3, longest_s))
    time_s = np.arange(num_samples) / SAMPLE_RATE
    pitch_hz = 200.0 * (1 + LABELS.index(label)) * generator.uniform(0.9, 1.1)
    waveform = 0.1 * np.sin(2 * np.pi * pitch_hz * time_s) + 0.02 * generator.standard_normal(num_samples)
    path = folder / f"{speaker}_{label}_{take}.wav"
    save_audio(path, waveform)
    return Clip(path, label, speaker, "small", split)
