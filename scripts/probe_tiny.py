"""Compare backbones on synthetic speech: which manner of speaking is heard, in voices never trained on?

What decides about a recipe, so that no real corpus has to. Logistic regression on mean and standard
deviation of each layer, six folds of voices; random weights and log-mel bands beside it.

    python scripts/probe_tiny.py runs/tiny-seed0/tiny runs/tiny-seed1/tiny
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from pretraining.probe import draw_probe, hear, score
from pretraining.targets import log_mel
from rich.console import Console
from rich.table import Table
from torch import Tensor

from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.pretrained import PretrainedSpeechModel, build_tiny_model

Layers = Callable[[Float[Tensor, "batch time"]], Float[Tensor, "batch layer frames hidden"]]
BATCH_SIZE = 16


def main() -> None:
    """Score everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("backbones", nargs="+", help="folders written by pretrain_tiny.py, or 'tiny'")
    rows: dict[str, Layers] = {
        "log-mel bands": lambda waveforms: log_mel(waveforms)[:, None],
        "random weights": SpeechBackbone(PretrainedSpeechModel(build_tiny_model(0), name="random")),
    }
    rows |= {name: SpeechBackbone(name) for name in parser.parse_args().backbones}
    table = Table("features", "speech", *(f"layer {layer}" for layer in range(4)), title="recall (UAR)")
    for kind, (clips, manners, voices) in draw_probe().items():
        waveforms = hear(clips, voices)
        for name, layers in rows.items():
            features = pooled(layers, waveforms)
            scores = [score(features[:, layer], manners, voices) for layer in range(features.shape[1])]
            table.add_row(name, kind, *(f"{value:.3f}" for value in scores))
    Console().print(table)


@torch.no_grad()
def pooled(
    layers: Layers, waveforms: Float[Tensor, "clips time"]
) -> Float[np.ndarray, "clips layer features"]:
    """Mean and standard deviation over the frames of each layer."""
    parts = []
    for start in range(0, len(waveforms), BATCH_SIZE):
        std, mean = torch.std_mean(layers(waveforms[start : start + BATCH_SIZE]), dim=2)
        parts.append(torch.cat([mean, std], dim=2))
    return torch.cat(parts).numpy()


if __name__ == "__main__":
    main()
