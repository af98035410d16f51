"""A small random classifier and a clip for what is explained and measured."""

from __future__ import annotations

import pytest
import torch
from transformers import WavLMConfig, WavLMModel

from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (12, 12, 12),
    "conv_kernel": (10, 4, 4),
    "conv_stride": (5, 4, 4),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 16,
    "max_bucket_distance": 20,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


@pytest.fixture(scope="session")
def classifier():
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        opened = PretrainedSpeechModel(WavLMModel(WavLMConfig(**SHAPE)), name="small", normalize=False)
        classifier = EmotionClassifier(SpeechBackbone(opened), ("angry", "sad"), HeadSettings(hidden_size=8))
        for parameter in classifier.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        return classifier.eval()


@pytest.fixture(scope="session")
def waveform():
    """Noise that swells."""
    drawn = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    return torch.linspace(0.02, 0.2, 2000) * drawn
