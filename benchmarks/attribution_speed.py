"""How much faster is one draw than Captum's?

Base geometry (random weights), 3 s of sound, the path in the waveform. Ours is a whole call of 32 draws from
one declared baseline, divided by 32; Captum's `GradientShap` has the transformers model in fp32, parameters
as they were opened, and its default of five draws, divided by five. On a GPU: clips a second at 64 draws,
Captum with all of them in one forward pass, and the share of the matrix rate measured in bf16.

    python benchmarks/attribution_speed.py
    python benchmarks/attribution_speed.py --device cuda
"""

from __future__ import annotations

import argparse
import time

import torch
from _common import (
    Measurement,
    bf16_refusal,
    over_repeats,
    ratios,
    read_arguments,
    relative_difference,
    report,
    time_interleaved,
)
from _problems import DEFAULTS, TARGET, Pair, base_pair, captum_call
from torch.utils.flop_counter import FlopCounterMode

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import open_problem
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.views.frames import grouped
from wavshap_lightning.models.backbone import Precision

DRAWS, CAPTUM_DRAWS, GPU_DRAWS = 32, 5, 64
BARS: dict[Precision, float] = {"fp32": 1.25, "bf16": 3.5}
BAR_GPU, BAR_SHARE = 10.0, 0.4
MATRIX_SIZE = 8192


def main() -> None:
    """Measure and report."""
    arguments = read_arguments(__doc__, needs=["device", "repeats"])
    on_gpu = arguments.device != "cpu"
    torch.backends.cudnn.allow_tf32 = False  # fp32 is what is claimed
    ours_draws, their_draws = (GPU_DRAWS, GPU_DRAWS) if on_gpu else (DRAWS, CAPTUM_DRAWS)
    if arguments.quick:
        ours_draws, their_draws = 4, 2
    pairs = {
        precision: base_pair(precision=precision, device=arguments.device, quick=arguments.quick)
        for precision in BARS
        if precision == "fp32" or not bf16_refusal(arguments.device)
    }
    calls = {"Captum": captum_call(pairs["fp32"], their_draws)}
    calls |= {precision: our_draws(pair, ours_draws) for precision, pair in pairs.items()}
    seconds = time_interleaved(calls, 1 if arguments.quick else arguments.repeats, device=arguments.device)
    per_draw = {
        name: [value / (their_draws if name == "Captum" else ours_draws) for value in values]
        for name, values in seconds.items()
    }
    measurements = [
        Measurement("gradients, relative difference", _difference(pairs["fp32"]), note="ours fp32, theirs"),
        *(over_repeats(f"one draw, {name}", values, unit="s") for name, values in per_draw.items()),
        *(_gain(precision, per_draw, arguments) for precision in BARS),
    ]
    if on_gpu:
        measurements += gpu_lines(pairs, seconds, arguments)
    report("attribution_speed", measurements, arguments, captum=DEFAULTS, draws=ours_draws)


def our_draws(pair: Pair, num_draws: int):  # noqa: ANN201
    """A whole call."""
    baselines = noise(pair.waveform.cpu()).declare(1, torch.Generator().manual_seed(0))
    views = (grouped(320, name="frames"),)
    stopping = Stopping(num_draws=num_draws)

    def call() -> object:
        with open_problem(pair.ours, pair.waveform, TARGET, views=views) as problem:
            return gradient_shap(problem, baselines, generator=0, stopping=stopping)

    return call


def gpu_lines(
    pairs: dict[Precision, Pair], seconds: dict[str, list[float]], arguments: argparse.Namespace
) -> list[Measurement]:
    """Clips a second against Captum's, and the share of the matrix rate."""
    fast = "bf16" if "bf16" in pairs else "fp32"
    gains = ratios(seconds["Captum"], seconds[fast])
    rate = matrix_rate(arguments.device)
    work = GPU_DRAWS * flops_of_a_draw(pairs[fast])
    shares = [work / value / rate for value in seconds[fast]]
    note = f"{rate / 1e12:.0f} TFLOP/s measured; {work / GPU_DRAWS / 1e9:.0f} GFLOP a draw"
    return [
        over_repeats(f"clips a second, ours {fast}", [1 / value for value in seconds[fast]], unit="1/s"),
        over_repeats("clips a second against Captum in fp32", gains, unit="x", at_least=BAR_GPU),
        over_repeats("share of the bf16 matrix rate", shares, at_least=BAR_SHARE, note=note),
    ]


def flops_of_a_draw(pair: Pair) -> float:
    """Multiplications and additions of one forward and backward pass to the input."""
    waveform = pair.waveform[None].clone().requires_grad_()
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(TARGET(pair.ours(waveform)).sum(), waveform)
    return float(counter.get_total_flops())


def matrix_rate(device: str) -> float:
    """Operations a second of large products in bf16."""
    left, right = (torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device, dtype=torch.bfloat16) for _ in "lr")
    rates = []
    for _ in range(10):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(10):
            left @ right
        torch.cuda.synchronize(device)
        rates.append(10 * 2 * MATRIX_SIZE**3 / (time.perf_counter() - start))
    return max(rates)


def _difference(pair: Pair) -> float:
    """Between both functions' gradients at one place: that the same is computed."""
    found = []
    for score in (pair.ours, pair.theirs):
        waveform = pair.waveform[None].clone().requires_grad_()
        found.append(torch.autograd.grad(TARGET(score(waveform)).sum(), waveform)[0])
    return relative_difference(*found)


def _gain(
    precision: Precision, per_draw: dict[str, list[float]], arguments: argparse.Namespace
) -> Measurement:
    name, bar = f"Captum / ours, {precision}", BARS[precision]
    if precision not in per_draw:
        note = f"skipped: {bf16_refusal(arguments.device)}"
        return Measurement(name, None, at_least=bar, unit="x", note=note)
    return over_repeats(
        name, ratios(per_draw["Captum"], per_draw[precision]), unit="x", at_least=bar, note="a draw"
    )


if __name__ == "__main__":
    main()
