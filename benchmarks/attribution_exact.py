"""Is what the estimator converges to right?

A linear model against its closed form, at several numbers of draws. Then a small MLP and a tiny WavLM
with random weights in its head: GradientSHAP over 16 declared baselines against Captum's at 20 000
draws and against Gauss-Legendre integrated gradients averaged over the baselines. Differences are given
in standard errors (of ours, and of Captum's where it takes part). Of many units some lie beyond three
standard errors by chance alone: what Student's t says of that stands beside what was found.

    python benchmarks/attribution_exact.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from _common import Measurement, draw_waveforms, read_arguments, report
from _problems import (
    DEFAULTS,
    Linear,
    Stage,
    build_mlp,
    captum_mean,
    captum_shap,
    simple_input,
    stages_of,
    walks,
)
from scipy import stats
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineSet, noise
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import open_problem
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import elements
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier

DRAWS = (1, 2, 3, 7, 16, 50, 64, 256)
CAPTUM_DRAWS, CAPTUM_CALLS = 20_000, 100
OUR_DRAWS, NODES = 1024, 128
SEEDS = 8
BAR_LINEAR, BAR_ERRORS = 1e-5, 3.0
TARGET = Target("log_odds", (1,))
DURATION_S = 0.6
EMOTIONS = tuple("abcdefgh")


@dataclass(frozen=True)
class Sizes:
    """How much is drawn."""

    captum: int
    ours: int
    nodes: int
    seeds: int


def main() -> None:
    """Measure and report."""
    arguments = read_arguments(__doc__)
    sizes = Sizes(200, 64, 8, 2) if arguments.quick else Sizes(CAPTUM_DRAWS, OUR_DRAWS, NODES, SEEDS)
    measurements = [*linear_lines(), *mlp_lines(sizes), *wavlm_lines(sizes)]
    report("attribution_exact", measurements, arguments, captum=DEFAULTS)


def linear_lines() -> list[Measurement]:
    """Greatest difference from `(x - mean of the baselines drawn) * w`."""
    score, x, first = Linear().eval(), simple_input(), Target("logit", (0,))
    worst = 0.0
    for num_draws in DRAWS:
        drawn: list[Tensor] = []
        baselines = walks().through(lambda values, drawn=drawn: drawn.append(values.clone()) or values)
        with open_problem(score, x, first) as problem:
            found = gradient_shap(problem, baselines, generator=0, stopping=Stopping(num_draws=num_draws))
        expected = (x.double() - torch.cat(drawn).double().mean(0)) * score.weight[..., 0]
        worst = max(worst, float((found.views["elements"].values[0] - expected).abs().max()))
    declared = walks().declare(16, torch.Generator().manual_seed(0))
    expected = (x.double() - declared.values.double().mean(0)) * score.weight[..., 0]
    over_set = 0.0
    for num_draws in (16, 32, 64, 4096):
        with open_problem(score, x, first) as problem:
            found = gradient_shap(problem, declared, generator=0, stopping=Stopping(num_draws=num_draws))
        over_set = max(over_set, float((found.views["elements"].values[0] - expected).abs().max()))
    note = f"{', '.join(map(str, DRAWS))} draws"
    return [
        Measurement("linear, a fresh baseline a draw", worst, at_most=BAR_LINEAR, note=note),
        Measurement(
            "linear, 16 declared baselines", over_set, at_most=BAR_LINEAR, note="16, 32, 64, 4096 draws"
        ),
    ]


def mlp_lines(sizes: Sizes) -> list[Measurement]:
    """Every input of the MLP."""
    mlp, baselines = build_mlp(), walks().declare(16, torch.Generator().manual_seed(2))
    stage = Stage("inputs", mlp, simple_input(), None, elements(), lambda terms: terms)
    return compare("MLP", stage, baselines, sizes)


def wavlm_lines(sizes: Sizes) -> list[Measurement]:
    """20 ms frames of a tiny WavLM: paths in the waveform, in the frames and in the layers."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        classifier = EmotionClassifier(SpeechBackbone(), EMOTIONS).eval()
    (waveform,) = draw_waveforms([DURATION_S])
    baselines = noise(waveform).declare(16, torch.Generator().manual_seed(3))
    lines = []
    for name, stage in stages_of(classifier, waveform).items():
        lines += compare(f"tiny WavLM, {name}", stage, baselines, sizes)
    return lines


def compare(name: str, stage: Stage, baselines: BaselineSet, sizes: Sizes) -> list[Measurement]:
    """Against both references; Captum's is one long run, ours is repeated with other seeds."""
    brought = stage.bring(baselines)
    exact = stage.quadrature(baselines, TARGET, sizes.nodes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        theirs, their_error = captum_mean(
            captum_shap(stage.score, TARGET),
            stage.input,
            brought.values,
            stage.sum_units,
            num_draws=sizes.captum,
            num_calls=CAPTUM_CALLS,
        )
    runs = [stage.estimate(baselines, TARGET, seed, sizes.ours) for seed in range(sizes.seeds)]
    against_captum = (runs[0].values[0] - theirs) / (runs[0].stderr[0].square() + their_error.square()).sqrt()
    against_nodes = torch.stack([(run.values[0] - exact) / run.stderr[0] for run in runs])
    same = (exact - theirs) / their_error
    freedom = runs[0].degrees_of_freedom
    return [
        _line(f"{name}: against Captum, {sizes.captum} draws", against_captum, CAPTUM_CALLS - 1),
        _line(f"{name}: against quadrature, one run", against_nodes[0], freedom),
        _line(f"{name}: against quadrature, {sizes.seeds} runs", against_nodes, freedom, bar=None),
        _line(f"{name}: Captum against quadrature", same, CAPTUM_CALLS - 1, bar=None),
    ]


def _line(name: str, errors: Tensor, freedom: float, bar: float | None = BAR_ERRORS) -> Measurement:
    """Greatest |z| and the share beyond three, each beside what chance gives for as many units."""
    count = errors.numel()
    found = errors.abs()
    expected = float(stats.t.isf((1 - 0.5 ** (1 / count)) / 2, freedom))
    beyond, by_chance = float((found > 3).double().mean()), 2 * float(stats.t.sf(3, freedom))
    note = (
        f"greatest of {count}; by chance: {expected:.1f} as often as not; beyond 3: {beyond:.2%}, "
        f"by chance {by_chance:.2%}"
    )
    return Measurement(name, float(found.max()), unit="standard errors", at_most=bar, note=note)


if __name__ == "__main__":
    main()
