"""What do explanations of all classes at once cost against one class?

Base geometry (random weights), eight classes, 3 s of sound, declared noise. On the waveform every class needs
a backward pass of its own through the whole network, the forward pass is shared: (1 + 8) / (1 + 1) = 4.5 by
the arithmetic. In the layers the mix is a linear step outside of the score, and every class
needs a backward pass through the head alone. Baselines are brought to the
layers before the clock starts: they would cost either the same.

    python benchmarks/attribution_classes.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from _common import Measurement, over_repeats, ratios, read_arguments, report, time_interleaved
from _problems import LABELS, TARGET, Pair, base_pair, stages_of

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import open_problem
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.targets import Target, every_class

DRAWS = {"waveform": 4, "layers": 64}
BARS = {"waveform": 5.0, "layers": 1.5}
TARGETS = {"one class": TARGET, "all classes": every_class(len(LABELS))}


def main() -> None:
    """Measure and report."""
    arguments = read_arguments(__doc__, needs=["repeats"])
    pair = base_pair(quick=arguments.quick)
    repeats = 1 if arguments.quick else arguments.repeats
    measurements: list[Measurement] = []
    for stage, bar in BARS.items():
        draws = 4 if arguments.quick else DRAWS[stage]
        calls = {name: call_of(pair, stage, target, draws) for name, target in TARGETS.items()}
        seconds = time_interleaved(calls, repeats)
        costs = ratios(seconds["all classes"], seconds["one class"])
        measurements += [
            over_repeats(f"{stage}, {name}", values, unit="s", note=f"{draws} draws")
            for name, values in seconds.items()
        ]
        name = f"{stage}, {len(LABELS)} classes / one"
        measurements.append(over_repeats(name, costs, unit="x", at_most=bar))
    report("attribution_classes", measurements, arguments)


def call_of(pair: Pair, name: str, target: Target, num_draws: int) -> Callable[[], object]:
    """GradientSHAP of one stage, from one declared baseline on the waveform and sixteen in the layers."""
    stage = stages_of(pair.ours, pair.waveform)[name]
    count = 1 if name == "waveform" else 16
    baselines = stage.bring(noise(pair.waveform).declare(count, torch.Generator().manual_seed(0)))

    def call() -> object:
        with open_problem(stage.explained, stage.input, target, views=(stage.view,)) as problem:
            return gradient_shap(problem, baselines, generator=0, stopping=Stopping(num_draws=num_draws))

    return call


if __name__ == "__main__":
    main()
