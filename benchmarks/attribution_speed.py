"""How much faster is one draw than Captum's, and what does a call cost besides its draws?

Base geometry (random weights), 3 s of sound, the path in the waveform. Ours is a whole call from one declared
baseline as in the explanation of a second clip: the model has been checked, and its logits of the clip are
computed. Captum's `GradientShap` has the transformers model in fp32, parameters as they were opened, and as
many draws, which it takes in one batch. Both are divided by the draws. The cost besides the draws is that of
one draw minus the cost of each further one.

A clip costs what `Explainer.explain` of a second clip takes with its defaults and 3 s of sound, on the
embedded backbone and on the geometry of Whisper tiny.en without padding, both under a head of chance. Passes
of a clip through the encoder are counted.

On a GPU: clips a second at 64 draws, Captum with all of them in one forward pass, and the share of the matrix
rate measured in bf16.

    python benchmarks/attribution_speed.py
    python benchmarks/attribution_speed.py --device cuda
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable

import torch
from _common import (
    Measurement,
    bf16_refusal,
    draw_waveforms,
    over_repeats,
    ratios,
    read_arguments,
    relative_difference,
    report,
    time_interleaved,
)
from _problems import DEFAULTS, DURATION_S, LABELS, TARGET, Pair, base_pair, captum_call
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import checked_logits, open_problem
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.views.frames import grouped
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.backbone import Precision, SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

DRAWS, GPU_DRAWS = (1, 10, 16), (64,)
BARS: dict[Precision, float] = {"fp32": 1.0, "bf16": 1.8}
BAR_GPU, BAR_SHARE = 10.0, 0.4
MATRIX_SIZE = 8192
WHISPER_TINY = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}


def main() -> None:
    """Measure and report."""
    arguments = read_arguments(__doc__, needs=["device", "repeats"])
    on_gpu = arguments.device != "cpu"
    torch.backends.cudnn.allow_tf32 = False  # fp32 is what is claimed
    draws = (1, 4) if arguments.quick else GPU_DRAWS if on_gpu else DRAWS
    pairs = {
        precision: base_pair(precision=precision, device=arguments.device, quick=arguments.quick)
        for precision in BARS
        if precision == "fp32" or not bf16_refusal(arguments.device)
    }
    calls = {f"Captum {count}": captum_call(pairs["fp32"], count) for count in draws}
    for precision, pair in pairs.items():
        checked_logits(pair.ours, pair.waveform)
        calls |= {f"{precision} {count}": our_draws(pair, count) for count in draws}
    repeats = 1 if arguments.quick else arguments.repeats
    seconds = time_interleaved(calls, repeats, device=arguments.device)
    measurements = [Measurement("gradients, relative difference", _difference(pairs["fp32"]))]
    for name in ("Captum", *pairs):
        measurements += cost_lines(name, {count: seconds[f"{name} {count}"] for count in draws})
    for precision, bar in BARS.items():
        measurements += gain_lines(precision, bar, draws, seconds, arguments.device)
    if on_gpu:
        measurements += gpu_lines(pairs, seconds, max(draws), arguments.device)
    measurements += clip_lines(arguments)
    report("attribution_speed", measurements, arguments, captum=DEFAULTS, draws=draws)


def our_draws(pair: Pair, num_draws: int) -> Callable[[], object]:
    """A whole call of a model that has been checked."""
    baselines = noise(pair.waveform.cpu()).declare(1, torch.Generator().manual_seed(0))
    views = (grouped(320, name="frames"),)
    stopping = Stopping(num_draws=num_draws)

    def call() -> object:
        with torch.no_grad():
            logits = pair.ours(pair.waveform[None])[0]
        with open_problem(pair.ours, pair.waveform, TARGET, views=views, logits=logits) as problem:
            return gradient_shap(problem, baselines, generator=0, stopping=stopping)

    return call


def cost_lines(name: str, seconds: dict[int, list[float]]) -> list[Measurement]:
    """Seconds of one draw, and of what comes besides the draws where one draw was timed alone."""
    fewest, most = min(seconds), max(seconds)
    lines = [
        over_repeats(f"one draw of {count}, {name}", [one / count for one in seconds[count]], unit="s")
        for count in seconds
        if count > 1
    ]
    if fewest == 1 < most:
        fixed = [
            alone - (many - alone) / (most - 1) for alone, many in zip(seconds[1], seconds[most], strict=True)
        ]
        lines.append(over_repeats(f"besides the draws, {name}", fixed, unit="s"))
    return lines


def gain_lines(
    precision: Precision, bar: float, draws: tuple[int, ...], seconds: dict[str, list[float]], device: str
) -> list[Measurement]:
    """Captum's seconds over ours, for as many draws; the bar is for the most."""
    found = []
    for count in draws:
        name, at_least = f"Captum / ours, {precision}, {count} draws", bar if count == max(draws) else None
        if f"{precision} {count}" not in seconds:
            note = f"skipped: {bf16_refusal(device)}"
            found.append(Measurement(name, None, at_least=at_least, unit="x", note=note))
        elif count > 1:
            gains = ratios(seconds[f"Captum {count}"], seconds[f"{precision} {count}"])
            found.append(over_repeats(name, gains, unit="x", at_least=at_least))
    return found


def clip_lines(arguments: argparse.Namespace) -> list[Measurement]:
    """Seconds of the explanation of a clip by each classifier, and the passes that it took."""
    (waveform,) = draw_waveforms([DURATION_S])
    settings = ExplainSettings(num_draws=4 if arguments.quick else None)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        whisper = PretrainedSpeechModel(WhisperEncoder(WhisperConfig(**WHISPER_TINY)), name="random")
        short = SpeechBackbone(whisper, pad_to_window=False)
        backbones = {"embedded": SpeechBackbone("tiny"), "Whisper tiny.en": short}
        models = {name: EmotionClassifier(one, LABELS).eval() for name, one in backbones.items()}
    passes = {name: count_passes(model) for name, model in models.items()}
    explainers = {name: Explainer(one.to(arguments.device), settings) for name, one in models.items()}

    def call(name: str) -> Callable[[], object]:
        return lambda: (passes[name].clear(), explainers[name].explain(waveform))

    calls = {name: call(name) for name in models}
    repeats = 1 if arguments.quick else arguments.repeats
    seconds = time_interleaved(calls, repeats, device=arguments.device)
    notes = {
        name: f"{found['forth']} passes without gradients, {found['back']} with"
        for name, found in passes.items()
    }
    return [over_repeats(f"one clip, {name}", seconds[name], unit="s", note=notes[name]) for name in models]


def count_passes(classifier: EmotionClassifier) -> Counter[str]:
    """A running count of clips through the encoder, without a gradient and with."""
    found: Counter[str] = Counter()
    encode = classifier.backbone.encoder

    def counting(frames: Tensor, *arguments: Tensor) -> Tensor:
        found["back" if frames.requires_grad else "forth"] += len(frames)
        return encode(frames, *arguments)

    classifier.backbone.encoder = counting  # type: ignore[method-assign]
    return found


def gpu_lines(
    pairs: dict[Precision, Pair], seconds: dict[str, list[float]], count: int, device: str
) -> list[Measurement]:
    """Clips a second against Captum's, and the share of the matrix rate."""
    fast = "bf16" if "bf16" in pairs else "fp32"
    gains = ratios(seconds[f"Captum {count}"], seconds[f"{fast} {count}"])
    rate = matrix_rate(device)
    work = count * flops_of_a_draw(pairs[fast])
    ours = seconds[f"{fast} {count}"]
    shares = [work / value / rate for value in ours]
    note = f"{rate / 1e12:.0f} TFLOP/s measured; {work / count / 1e9:.0f} GFLOP a draw"
    return [
        over_repeats(f"clips a second, ours {fast}", [1 / value for value in ours], unit="1/s"),
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


if __name__ == "__main__":
    main()
