"""Writing the backbone as transformers reads it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Wav2Vec2FeatureExtractor, WavLMModel

from wavshap_lightning.models.tiny import tiny_config


def export_backbone(model: WavLMModel, folder: Path) -> None:
    """Write configuration, preprocessing and half-precision weights, less what only pretraining needs."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().cpu().to(torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if name != "masked_spec_embed"
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = tiny_config()
    config.architectures = ["WavLMModel"]
    config.dtype = "float16"
    config.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)  # type: ignore[no-untyped-call]
    extractor.save_pretrained(folder)
