"""Small random classifiers, a clip to explain, and what else the tests of this ring share."""

from __future__ import annotations

import pytest
import torch
from transformers import WavLMConfig, WavLMModel

from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

LABELS = ("angry", "happy", "sad")
NUM_SAMPLES = 1900

# Hop 40 samples, receptive field 80.
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (12, 12, 12, 12),
    "conv_kernel": (10, 3, 3, 3),
    "conv_stride": (5, 2, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 16,
    "max_bucket_distance": 20,
}


@pytest.fixture(scope="session")
def build_classifier():
    """`(norm="layer", labels=..., task="classes", **options) -> EmotionClassifier`, curved on purpose."""
    return _build_classifier


@pytest.fixture(scope="session")
def classifier():
    """The usual one."""
    return _build_classifier()


@pytest.fixture(scope="session")
def clip():
    """Noise that swells, and a tone."""
    drawn = torch.randn(NUM_SAMPLES, generator=torch.Generator().manual_seed(1))
    ramp = torch.linspace(0.02, 0.2, NUM_SAMPLES)
    return ramp * drawn + 0.1 * torch.sin(torch.arange(NUM_SAMPLES) * 0.3)


@pytest.fixture(scope="session")
def three_paths(classifier, clip):
    """All three paths from eight declared baselines."""
    stages = ("frames", "layers", "waveform")
    return explain(
        classifier, clip, target="happy", stages=stages, num_baselines=8, layer=1, segments=((0.0, 0.05),)
    )


@torch.no_grad()
def _build_classifier(
    norm="layer", labels=LABELS, task="classes", *, normalize=False, precision="fp32", **head
):
    settings = {"feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer", **SHAPE}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WavLMModel(WavLMConfig(**settings))
        opened = PretrainedSpeechModel(model, name="small", normalize=normalize)
        backbone, settings = SpeechBackbone(opened, precision=precision), {"hidden_size": 16, **head}
        classifier = EmotionClassifier(backbone, labels, HeadSettings(**settings), task=task)
        for parameter in classifier.parameters():  # fresh ones are nearly linear, which would hide mistakes
            parameter.add_(0.3 * torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
        [*_, last] = (one for one in classifier.head.mlp if isinstance(one, torch.nn.Linear))
        last.weight.mul_(10)
    return classifier.eval()
