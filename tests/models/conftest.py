"""Small random speech transformers, and what else the tests of this ring share."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.pretrained import PretrainedSpeechModel
from wavshap_lightning.models.record import TrainingProvenance

sys.path.insert(0, str(Path(__file__).parent))
import published

VARIANTS = [
    *product(("wavlm", "wav2vec2", "hubert"), ("group", "layer")),
    ("data2vec-audio", "layer"),
    ("wav2vec2-conformer", "layer"),
    ("sew", "group"),
    ("sew-d", "group"),
]


@pytest.fixture(params=VARIANTS, ids="-".join)
def variant(request):
    """A family and where its feature extractor normalizes."""
    return request.param


@pytest.fixture
def build_model():
    """`(family, norm, **config) -> model` as transformers builds it; equal arguments, equal weights."""
    return published.build_model


@pytest.fixture
def open_backbone():
    """`(model, normalize=False, **options) -> SpeechBackbone`; a small WavLM where no model is given."""

    def open_backbone(model=None, *, normalize=False, **options):
        opened = PretrainedSpeechModel(model or published.build_model(), name="small", normalize=normalize)
        return SpeechBackbone(opened, **options)

    return open_backbone


@pytest.fixture
def generator():
    """The tests' own source of randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def padded_batch(generator):
    """Three clips of noise at different levels and offsets, zero-padded, and their lengths."""
    lengths = torch.tensor([1600, 611, 80])
    waveforms = torch.zeros(3, 1600)
    for clip, (length, level, offset) in enumerate(
        zip(lengths, (0.1, 0.4, 0.02), (0.0, 0.3, -0.1), strict=True)
    ):
        waveforms[clip, :length] = offset + level * torch.randn(int(length), generator=generator)
    return waveforms, lengths


@pytest.fixture
def layers(generator):
    """Three layers of three clips as a backbone gives them: offset noise, zero beyond the last frame."""
    num_frames = torch.tensor([9, 4, 1])
    scale = torch.tensor([0.5, 1.0, 3.0])[None, :, None, None]
    values = scale * torch.randn(3, 3, 9, 8, generator=generator) + scale.flip(1)
    valid = torch.arange(9) < num_frames[:, None]
    return values * valid[:, None, :, None], num_frames


@pytest.fixture
def relative_error():
    """`(found, expected) -> float`, by Euclidean length."""

    def relative_error(found, expected):
        assert found.shape == expected.shape
        return float(((found - expected).norm() / expected.norm()).detach())

    return relative_error


@pytest.fixture(scope="session")
def save_model():
    """`(model, folder)`: a folder as it is published, with weights and preprocessing."""
    return published.save_model


@pytest.fixture
def model(variant, build_model):
    """Each variant as transformers has it."""
    return build_model(*variant)


@pytest.fixture
def backbone(variant, build_model, open_backbone):
    """The same weights as ours."""
    return open_backbone(build_model(*variant))


@pytest.fixture
def clip(generator):
    return 0.05 + 0.2 * torch.randn(1, 1600, generator=generator)


EXPORTED_LABELS = ("angry", "happy", "sad")
PROTOCOL = {
    "name": "ravdess-6-folds",
    "corpus": "ravdess",
    "folds": [{"name": "a", "train": ["01", "02"], "validation": ["03"], "test": ["04", "05"]}] * 6,
    "unit": "speaker",
    "shared_validation": False,
    "seed": 0,
    "hash": "f00d" * 16,
    "fold": 2,
    "clips": {"train": 120, "validation": 60, "test": 61},
    "digest": "d1",
}
SCORES = {
    "test": {"uar": 0.61234, "uar_low": 0.55, "uar_high": 0.66, "wa": 0.6, "macro_f1": 0.59, "loss": 1.0}
}
EXPORTED_PROVENANCE = TrainingProvenance(PROTOCOL, {"torch": "2.8"}, SCORES)


@pytest.fixture
def export():
    """`(classifier, folder, **options) -> folder` that was written."""

    def export(classifier, folder, **options):
        classifier.save_pretrained(folder, **options)
        return folder

    return export


@pytest.fixture(scope="session")
def exported_provenance():
    """Where classifiers for export come from: a split, and how good they were on it."""
    return EXPORTED_PROVENANCE


@pytest.fixture
def build_exportable(build_model, save_model, tmp_path):
    """`(provenance=..., labels=..., task=..., **backbone) -> EmotionClassifier` on a backbone in a folder."""
    folder = save_model(build_model(), tmp_path / "backbone")

    def build(provenance=EXPORTED_PROVENANCE, labels=EXPORTED_LABELS, task="classes", **backbone):
        head = HeadSettings(hidden_size=16)
        opened = SpeechBackbone(str(folder), **backbone)
        return EmotionClassifier(opened, labels, head, task=task, provenance=provenance).eval()

    return build


@pytest.fixture
def on_tiny():
    """A classifier whose backbone everybody has."""
    return EmotionClassifier(SpeechBackbone("tiny"), EXPORTED_LABELS, provenance=EXPORTED_PROVENANCE).eval()
