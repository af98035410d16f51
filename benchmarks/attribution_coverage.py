"""Do the stated 95 % intervals hold what they state?

A linear model, a small MLP and a small WavLM trained end to end on RAVDESS, with clips of actors who did not
train; paths in the frames and in the layers; declared baselines and a distribution; 64 draws. The number
is the share of units whose interval holds the converged value. Units of one run are correlated, so the
range is that of the mean over runs: 1.96 standard errors, from how runs differ.

    python benchmarks/attribution_coverage.py --root DIR
"""

from __future__ import annotations

import argparse

import torch
from _common import Measurement, read_arguments, report
from _problems import Case, Linear, Stage, build_mlp, ravdess_cases, simple_input, trained_classifier, walks
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineDistribution
from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import summed

NUM_DRAWS = 64
NUM_CLIPS, NUM_SEEDS, SIMPLE_SEEDS = 3, 24, 200
LOW, HIGH = 0.90, 0.98
NUM_POPULATION = 20_000
ROUNDING = 1e-6


def main() -> None:
    """Measure every model and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir"])
    trained = trained_classifier(arguments.root, arguments.cache_dir, quick=arguments.quick)
    seeds = 4 if arguments.quick else NUM_SEEDS
    measurements = simple_lines(8 if arguments.quick else SIMPLE_SEEDS)
    for stage in ("frames", "layers"):
        for kind in ("declared noise", "real clips", "distribution of noise"):
            cases = ravdess_cases(
                trained, arguments.root, 1 if arguments.quick else NUM_CLIPS, stages=(stage,), kinds=(kind,)
            )
            shares = [share for case in cases for share in case_shares(case, arguments, seeds)]
            measurements += _lines(f"trained WavLM, {stage}, {kind}", shares)
            print(measurements[-2], flush=True)
    report("attribution_coverage", measurements, arguments, model=trained.facts)


def simple_lines(num_seeds: int) -> list[Measurement]:
    """The linear model, whose mean over the distribution is known, and the MLP."""
    distribution = walks()
    declared = distribution.declare(16, torch.Generator().manual_seed(2))
    lines = []
    for name, model in (("linear", Linear().eval()), ("MLP", build_mlp())):
        view = summed(1, name="frames", smooth_variance=True)
        stage = Stage(name, model, simple_input(), None, view, lambda terms: terms.sum(-1))
        for kind, baselines in (("declared", declared), ("distribution", distribution)):
            if (name, kind) == ("linear", "declared"):
                continue  # exact at 64 draws: nothing to cover
            case = Case("", stage, kind, baselines, Target("log_odds", (1,)))
            case = Case("", stage, kind, baselines, Target("logit", (1,))) if name == "linear" else case
            reference = linear_reference(model) if name == "linear" else simple_reference(case)
            lines += _lines(f"{name}, frames, {kind}", shares_of(case, reference, num_seeds))
    return lines


def linear_reference(model: Linear) -> Tensor:
    """The walks' mean is zero."""
    return (simple_input() * model.weight[..., 1]).sum(1).double()


def simple_reference(case: Case) -> Tensor:
    """Many draws of a fast model; for a distribution a fixed set of many thousands."""
    baselines = case.baselines
    if isinstance(baselines, BaselineDistribution):
        baselines = baselines.declare(NUM_POPULATION, torch.Generator().manual_seed(6))
    return case.stage.estimate(baselines, case.target, 999, 2**17).values[0]


def case_shares(case: Case, arguments: argparse.Namespace, num_seeds: int) -> list[Tensor]:
    """Covered share of every run."""
    return shares_of(case, case.reference(arguments.cache_dir, quick=arguments.quick), num_seeds)


def shares_of(case: Case, reference: Tensor, num_seeds: int) -> list[Tensor]:
    """Covered share of every run, and of every run before."""
    runs = (case.stage.estimate(case.baselines, case.target, seed, NUM_DRAWS) for seed in range(num_seeds))
    return [covered(run, reference) for run in runs]


def covered(found: ViewEstimate, reference: Tensor) -> Tensor:
    """Share of units whose interval holds the reference; those below rounding count as held."""
    rounding = ROUNDING * reference.abs().max()
    return ((found.values[0] - reference).abs() <= found.half_width()[0] + rounding).double().mean()


def _lines(name: str, shares: list[Tensor]) -> list[Measurement]:
    """One line for each side of what is claimed."""
    runs = torch.stack(shares)
    mean, error = float(runs.mean()), float(runs.std() / len(runs) ** 0.5)
    low, high = mean - 1.96 * error, mean + 1.96 * error
    note = f"{len(runs)} runs of {NUM_DRAWS} draws"
    return [
        Measurement(name, mean, low, high, at_least=LOW, note=note),
        Measurement(f"{name}, not too wide", mean, low, high, at_most=HIGH),
    ]


if __name__ == "__main__":
    main()
