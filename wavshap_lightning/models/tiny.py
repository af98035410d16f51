"""The embedded backbone: a small WavLM that needs no download."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import WavLMConfig, WavLMModel

TINY_FOLDER = Path(__file__).parent / "embedded" / "tiny"
"""Weights, configuration and model card; transformers opens it too."""


def tiny_config() -> WavLMConfig:
    """The geometry of the embedded backbone.

    Hop 320 samples like every WavLM, receptive field 1080 samples (67.5 ms), three transformer
    layers of 128. The first convolution is long enough to act as a filter bank; layer norm
    makes it exact under padding and defined for silence.
    """
    return WavLMConfig(
        conv_dim=(216, 128, 128, 128),
        conv_kernel=(400, 4, 4, 3),
        conv_stride=(40, 2, 2, 2),
        conv_bias=True,
        feat_extract_norm="layer",
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
        num_buckets=64,
        max_bucket_distance=256,
        do_stable_layer_norm=True,
        mask_time_prob=0.0,
        layerdrop=0.0,
    )


def open_tiny_model() -> WavLMModel:
    """The embedded backbone with its pretrained weights, in single precision."""
    model = build_tiny_model(seed=0)
    model.load_state_dict(load_file(TINY_FOLDER / "model.safetensors"))
    return model


def build_tiny_model(seed: int) -> WavLMModel:
    """A WavLM of the tiny geometry with random weights, drawn from `seed`.

    The global random state is as it was afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every GPU too
        return WavLMModel(tiny_config())
