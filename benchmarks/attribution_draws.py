"""How many draws does it take to be as close to the truth as independent draws come?

A small WavLM trained end to end on RAVDESS, the loudest 1.2 s of clips of actors who did not train, the
log-odds of the predicted class. The error is the root mean square difference from a converged reference,
relative to the reference's own, over 20 ms frames (`layers`: over layer x frame). It is measured for 64 draws
over several seeds, and for independent draws, as Captum makes them, in groups of 16, 64 and 256; their
error is fitted with `c / sqrt(n)`. "Fewer" is the number of independent draws with the error of our 64,
divided by 64. Where every draw takes a fresh baseline, "at most" is what 64 of these would be worth if each
one's path were integrated exactly. One line ties the independent draws to Captum's own.

    python benchmarks/attribution_draws.py --root DIR
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import dataclass

import torch
from _common import Measurement, read_arguments, report
from _problems import (
    DEFAULTS,
    Case,
    captum_shap,
    independent_draws,
    ravdess_cases,
    relative_rmse,
    trained_classifier,
)
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineSet

NUM_DRAWS = 64
POOL, GROUPS = 512, (16, 64, 256)
NODES = 12
NUM_CLIPS, NUM_SEEDS = 3, 8
BARS = {
    ("waveform", "declared noise"): 4.0,
    ("frames", "declared noise"): 20.0,
    ("layers", "declared noise"): 100.0,
    ("waveform", "real clips"): 2.0,
    ("frames", "real clips"): 4.0,
    ("layers", "real clips"): 50.0,
    ("waveform", "distribution of noise"): 1.8,
    ("frames", "distribution of noise"): 4.0,
    ("layers", "distribution of noise"): 10.0,
}


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors of one case.

    Args:
        independent: `c` of `c / sqrt(n)`.
        ours: Of `NUM_DRAWS` draws.
        fresh: What the luck of fresh baselines leaves, each with an exact path; None for declared ones.
    """

    independent: float
    ours: float
    fresh: float | None = None

    @property
    def gain(self) -> float:
        """Independent draws for the error of `NUM_DRAWS` of ours, divided by these."""
        return (self.independent / self.ours) ** 2 / NUM_DRAWS

    @property
    def most(self) -> float | None:
        """The gain if alpha cost nothing."""
        return None if self.fresh is None else (self.independent / self.fresh) ** 2 / NUM_DRAWS


def main() -> None:
    """Measure every case and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir"])
    trained = trained_classifier(arguments.root, arguments.cache_dir, quick=arguments.quick)
    measurements, found = [], {}
    for (stage, kind), bar in BARS.items():
        cases = ravdess_cases(
            trained, arguments.root, 1 if arguments.quick else NUM_CLIPS, stages=(stage,), kinds=(kind,)
        )
        errors = [measure(case, arguments) for case in cases]
        whole = pooled(errors)
        found[f"{stage}, {kind}"] = {
            "independent": whole.independent,
            "ours": whole.ours,
            "clips": [[each.independent, each.ours] for each in errors],
        }
        measurements.append(_line(stage, kind, whole, errors, bar))
        print(measurements[-1], flush=True)
    measurements.append(tie_line(trained, arguments))
    report("attribution_draws", measurements, arguments, model=trained.facts, errors=found, captum=DEFAULTS)


def measure(case: Case, arguments: argparse.Namespace) -> Errors:
    """Errors of independent draws and of ours, over seeds."""
    reference = case.reference(arguments.cache_dir, quick=arguments.quick)
    pool = independent_draws(case.stage, case.baselines, case.target, 256 if arguments.quick else POOL, 1)
    constants = [
        float(relative_rmse(pool.reshape(-1, size, *reference.shape).mean(1), reference)) * math.sqrt(size)
        for size in GROUPS
    ]
    seeds = range(2 if arguments.quick else NUM_SEEDS)
    runs = [case.stage.estimate(case.baselines, case.target, seed, NUM_DRAWS).values[0] for seed in seeds]
    ours = float(relative_rmse(torch.stack(runs), reference))
    fresh = _fresh_error(case, reference, 2 if arguments.quick else NUM_SEEDS)
    return Errors(math.exp(statistics.fmean(map(math.log, constants))), ours, fresh)


def _fresh_error(case: Case, reference: Tensor, num_seeds: int) -> float | None:
    if isinstance(case.baselines, BaselineSet):
        return None
    drawn = (
        case.baselines.declare(NUM_DRAWS, torch.Generator().manual_seed(seed)) for seed in range(num_seeds)
    )
    exact = [case.stage.quadrature(baselines, case.target, NODES) for baselines in drawn]
    return float(relative_rmse(torch.stack(exact), reference))


def pooled(errors: list[Errors]) -> Errors:
    """Root mean square over clips."""
    ours = math.sqrt(statistics.fmean(each.ours**2 for each in errors))
    fresh = [each.fresh**2 for each in errors if each.fresh is not None]
    independent = math.sqrt(statistics.fmean(each.independent**2 for each in errors))
    return Errors(independent, ours, math.sqrt(statistics.fmean(fresh)) if fresh else None)


def _line(stage: str, kind: str, whole: Errors, errors: list[Errors], bar: float) -> Measurement:
    gains = [each.gain for each in errors]
    note = (
        f"error at {NUM_DRAWS}: {whole.ours:.2g}, independent "
        f"{whole.independent / math.sqrt(NUM_DRAWS):.2g}; range over {len(errors)} clips"
    )
    if whole.most is not None:
        note += f"; at most {whole.most:.2g}x"
    name = f"{stage}, {kind}"
    return Measurement(name, whole.gain, min(gains), max(gains), "x fewer", at_least=bar, note=note)


def tie_line(trained, arguments: argparse.Namespace) -> Measurement:  # noqa: ANN001
    """Captum's own error at 64 draws over that of the independent draws here; one, but for chance."""
    (case,) = ravdess_cases(trained, arguments.root, 1, stages=("frames",), kinds=("declared noise",))
    reference, stage = case.reference(arguments.cache_dir, quick=arguments.quick), case.stage
    calls = 4 if arguments.quick else 32
    attribute, baselines = captum_shap(stage.score, case.target), stage.bring(case.baselines).values
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        theirs = [stage.sum_units(attribute(stage.input, baselines, NUM_DRAWS)) for _ in range(calls)]
    draws = independent_draws(stage, case.baselines, case.target, calls * NUM_DRAWS, 2)
    plain = draws.reshape(calls, NUM_DRAWS, -1).mean(1)
    ratio = relative_rmse(torch.stack(theirs), reference) / relative_rmse(plain, reference)
    note = f"frames, declared noise, {NUM_DRAWS} draws, {calls} times"
    return Measurement("Captum's error / independent draws' here", float(ratio), unit="x", note=note)


if __name__ == "__main__":
    main()
