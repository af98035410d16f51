"""An explanation in numbers, and its frames put to the proof."""

from __future__ import annotations

import pytest
import torch
from transformers import WavLMConfig, WavLMModel

from wavshap_lightning.evaluation.removal import remove_frames
from wavshap_lightning.evaluation.summary import summarise, when_path
from wavshap_lightning.explainer.explain import explain
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
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


@pytest.fixture(scope="module")
def classifier():
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        opened = PretrainedSpeechModel(WavLMModel(WavLMConfig(**SHAPE)), name="small", normalise=False)
        classifier = EmotionClassifier(SpeechBackbone(opened), ("angry", "sad"), HeadSettings(hidden_size=8))
        for parameter in classifier.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        return classifier.eval()


@pytest.fixture(scope="module")
def waveform():
    return 0.1 * torch.randn(3000, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 1, 3000)


@pytest.fixture(scope="module")
def explanation(classifier, waveform):
    return explain(classifier, waveform, ("sad", "angry"), num_draws=16)


def test_every_number_is_that_of_its_target(explanation):
    numbers = {target: summarise(explanation, target) for target in explanation.targets}
    assert explanation.targets == ("sad", "angry")
    assert numbers["sad"]["probability"] + numbers["angry"]["probability"] == pytest.approx(1)
    assert numbers["sad"]["score"] == pytest.approx(-numbers["angry"]["score"], rel=1e-5)
    assert numbers["sad"]["gap/frames"] == explanation.attributions["frames"].relative_gap[0]
    assert sum(numbers["sad"][f"share/{where}"] for where in ("speech", "pause", "edges")) == pytest.approx(1)
    assert sum(numbers["sad"][f"layers/{layer:02d}"] for layer in range(3)) == pytest.approx(1)
    assert numbers["sad"]["draws/frames"] == 16


def test_without_a_path_there_are_no_numbers_of_it(classifier, waveform):
    found = explain(classifier, waveform, "sad", views=("waveform",), num_draws=4)
    numbers = summarise(found, "sad")
    assert when_path(found) == "waveform"
    assert "entropy" in numbers
    assert not any(name.startswith(("share/", "layers/")) for name in numbers)
    assert when_path(explain(classifier, waveform, "sad", views=("layers",), num_draws=4)) is None


def test_removal_leaves_the_classifier_as_it_was_and_is_the_same_again(classifier, explanation, waveform):
    before, chance = {n: p.clone() for n, p in classifier.state_dict().items()}, torch.get_rng_state()
    first, second = (remove_frames(classifier, explanation, waveform, "sad") for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
