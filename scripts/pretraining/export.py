"""Writing the backbone as transformers reads it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMModel

from wavshap_lightning.models.frontends import TransformersModule
from wavshap_lightning.models.pretrained import build_tiny_model


def export_backbone(model: WavLMModel, folder: Path) -> None:
    """Write configuration, preprocessing and half-precision weights, less what only pretraining needs.

    Args:
        model: With its own frontend; its weights are left as they are.
        folder: Made where it is not there.
    """
    weights = {name: value for name, value in model.state_dict().items() if name != "masked_spec_embed"}
    plain: TransformersModule = build_tiny_model(0)
    plain.load_state_dict(weights)
    plain.to(torch.float16).save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)  # type: ignore[no-untyped-call]
    extractor.save_pretrained(folder)
