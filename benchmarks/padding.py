"""Does a padded batch give the same layers as its clips one by one? Ours and transformers'.

Base geometry with random weights, in the group-norm (WavLM Base) and the layer-norm (WavLM Large)
arrangement; clips of 1.0 to 2.5 s, zero-padded to the longest. The number is the greatest relative
difference of any clip's layers.

    python benchmarks/padding.py
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence

import torch
from _common import (
    GEOMETRIES,
    Measurement,
    build_wavlm,
    draw_waveforms,
    read_arguments,
    relative_difference,
    report,
)
from torch import Tensor

from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.frontends import TransformersModule, valid_mask
from wavshap_lightning.models.pretrained import PretrainedSpeechModel
from wavshap_lightning.training.data.dataset import pad_waveforms

DURATIONS_S = (1.0, 1.5, 2.0, 2.5)
QUICK_DURATIONS_S = (0.5, 1.0)

# (batch, samples) and lengths to (batch, layer, time, hidden)
Layers = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Measure both arrangements and report."""
    arguments = read_arguments(__doc__, needs=["device"])
    torch.backends.cudnn.allow_tf32 = False  # fp32 is what is claimed
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    waveforms = [
        waveform.to(arguments.device)
        for waveform in draw_waveforms(QUICK_DURATIONS_S if arguments.quick else DURATIONS_S)
    ]
    measurements = []
    for geometry in GEOMETRIES:
        model = build_wavlm(geometry).to(arguments.device)
        ours = SpeechBackbone(PretrainedSpeechModel(copy.deepcopy(model), name="random"))
        count = ours.num_frames
        differences = padding_differences(layers_of_transformers(model), waveforms, count)
        measurements += [
            Measurement(f"{geometry}, ours", max(padding_differences(ours, waveforms, count)), at_most=1e-5),
            Measurement(f"{geometry}, transformers", max(differences), note="with attention mask"),
        ]
    report("padding", measurements, arguments)


@torch.no_grad()
def padding_differences(
    layers_of: Layers, waveforms: Sequence[Tensor], count_frames: Callable[[Tensor], Tensor]
) -> list[float]:
    """The relative difference between each clip in a padded batch and the same clip alone."""
    padded, lengths = (tensor.to(waveforms[0].device) for tensor in pad_waveforms(waveforms))
    batch = layers_of(padded, lengths)
    differences = []
    for index, num_frames in enumerate(count_frames(lengths).tolist()):
        alone = layers_of(waveforms[index][None], lengths[index : index + 1])[0]
        differences.append(relative_difference(batch[index, :, :num_frames], alone))
    return differences


def layers_of_transformers(model: TransformersModule) -> Layers:
    """All hidden states of transformers' own forward pass, with an attention mask over the samples."""

    def layers_of(waveforms: Tensor, lengths: Tensor) -> Tensor:
        mask = valid_mask(lengths, waveforms.shape[1])
        outputs = model(waveforms, attention_mask=mask.long(), output_hidden_states=True)
        return torch.stack([*outputs.hidden_states[:-1], outputs.last_hidden_state], 1)

    return layers_of


if __name__ == "__main__":
    main()
