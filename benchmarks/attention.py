"""Is attention through `scaled_dot_product_attention` the same function, and how much faster is it?

One whole WavLM of Base geometry with random weights, in fp32: all layers of a clip, and the gradient of
a random projection of them with respect to the waveform, ours against transformers' own. Then the
time of a forward pass and of a forward and backward pass to the waveform.

    python benchmarks/attention.py
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from _common import (
    Measurement,
    build_wavlm,
    draw_waveforms,
    over_repeats,
    ratios,
    read_arguments,
    relative_difference,
    report,
    time_interleaved,
)
from torch import Tensor

from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.frontends import TransformersModule
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

DURATION_S, QUICK_DURATION_S = 3.0, 0.5
BAR = 1e-5

Layers = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure and report."""
    arguments = read_arguments(__doc__, needs=["device", "repeats"])
    device = arguments.device
    torch.backends.cudnn.allow_tf32 = False  # fp32 is what is claimed
    model = build_wavlm(spread=True).to(device)
    ours = SpeechBackbone(PretrainedSpeechModel(copy.deepcopy(model), name="random"))
    theirs = layers_of_transformers(model)
    (waveform,) = draw_waveforms([QUICK_DURATION_S if arguments.quick else DURATION_S])
    waveforms = waveform[None].to(device)
    with torch.no_grad():
        values = relative_difference(ours(waveforms), theirs(waveforms))
    gradients = relative_difference(input_gradient(ours, waveforms), input_gradient(theirs, waveforms))
    repeats = 1 if arguments.quick else arguments.repeats
    measurements = [
        Measurement("layers, relative difference", values, at_most=BAR),
        Measurement("input gradients, relative difference", gradients, at_most=BAR),
        *_speed(ours, theirs, waveforms, repeats),
    ]
    report("attention", measurements, arguments)


def layers_of_transformers(model: TransformersModule) -> Layers:
    """All hidden states of transformers' own forward pass, the last one after the final norm."""

    def layers_of(waveforms: Tensor) -> Tensor:
        outputs = model(waveforms, output_hidden_states=True)
        return torch.stack([*outputs.hidden_states[:-1], outputs.last_hidden_state], 1)

    return layers_of


def input_gradient(layers_of: Layers, waveforms: Tensor) -> Tensor:
    """The gradient of a fixed random projection of the layers with respect to the waveforms."""
    waveforms = waveforms.clone().requires_grad_()
    layers = layers_of(waveforms)
    direction = torch.randn(layers.shape, generator=torch.Generator().manual_seed(1)).to(layers.device)
    return torch.autograd.grad((layers * direction).sum(), waveforms)[0]


def _speed(ours: Layers, theirs: Layers, waveforms: Tensor, repeats: int) -> list[Measurement]:
    measurements = []
    for name, run in (("forward", _forward), ("forward and backward", input_gradient)):
        functions = {"theirs": partial(run, theirs, waveforms), "ours": partial(run, ours, waveforms)}
        seconds = time_interleaved(functions, repeats, device=str(waveforms.device))
        gains = ratios(seconds["theirs"], seconds["ours"])
        measurements += [
            over_repeats(f"{name}, transformers", seconds["theirs"], unit="s"),
            over_repeats(f"{name}, ours", seconds["ours"], unit="s"),
            over_repeats(f"{name}, transformers / ours", gains, unit="x", note="parameters frozen in both"),
        ]
    return measurements


@torch.no_grad()
def _forward(layers_of: Layers, waveforms: Tensor) -> Tensor:
    return layers_of(waveforms)


if __name__ == "__main__":
    main()
