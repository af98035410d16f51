"""How many draws does it take to be as close to the truth as independent draws come?

A small WavLM trained end to end on RAVDESS, the loudest 1.2 s of clips of actors who did not train, the
log-odds of the predicted class. The error is the root mean square difference from a converged reference,
relative to the reference's own, over 20 ms frames (`layers`: over layer x frame). It is measured for 64 draws
over several seeds, and for independent draws, as Captum makes them, in groups of 16, 64 and 256; their
error is fitted with `c / sqrt(n)`. "Fewer" is the number of independent draws with the error of our 64,
divided by 64. Where every draw takes a fresh baseline, "at most" is what 64 of these would be worth if each
one's path were integrated exactly. One line ties the independent draws to Captum's own.

Then seconds to an error of 10 % at Base geometry (3 s of sound, random weights): a whole call of ours with
the draws that this takes here, baselines and their scores included, and as many of Captum's draws as it needs
on the waveform, at the time of one (of its default five); interleaved.

    python benchmarks/attribution_draws.py --root DIR
    python benchmarks/attribution_draws.py --root DIR --seconds       # needs a quiet machine
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from itertools import pairwise

import torch
from _common import RESULTS, Measurement, over_repeats, ratios, read_arguments, report, time_interleaved
from _problems import (
    DEFAULTS,
    Case,
    base_pair,
    captum_call,
    captum_shap,
    independent_draws,
    our_call,
    ravdess_cases,
    relative_rmse,
    trained_classifier,
)
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineSet

NUM_DRAWS = 64
POOL, GROUPS = 512, (16, 64, 256)
OUR_DRAWS = (16, 32, 64, 128, 256)
GOAL = 0.1
CAPTUM_DRAWS = 5
NODES = 12
NUM_CLIPS, NUM_SEEDS = 3, 8
TIMED = ("declared noise", "distribution of noise")
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
BARS_SECONDS = {"waveform": 15.0, "frames": 50.0}
STAGES = ("waveform", "frames", "layers")


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors of one case.

    Args:
        independent: `c` of `c / sqrt(n)`.
        ours: By number of draws.
        fresh: What the luck of fresh baselines leaves, each with an exact path; None for declared ones.
    """

    independent: float
    ours: dict[int, float]
    fresh: float | None = None

    @property
    def gain(self) -> float:
        """Independent draws for the error of `NUM_DRAWS` of ours, divided by these."""
        return (self.independent / self.ours[NUM_DRAWS]) ** 2 / NUM_DRAWS

    @property
    def most(self) -> float | None:
        """The gain if alpha cost nothing."""
        return None if self.fresh is None else (self.independent / self.fresh) ** 2 / NUM_DRAWS

    def draws_to(self, goal: float) -> float:
        """Draws of ours to an error of `goal`: between those tried by powers, never fewer than the fewest."""
        numbers = sorted(self.ours)
        for few, many in pairwise(numbers):
            if self.ours[many] <= goal or many == numbers[-1]:
                slope = math.log(self.ours[many] / self.ours[few]) / math.log(many / few)
                return max(numbers[0], few * (goal / self.ours[few]) ** (1 / min(slope, -0.1)))
        return numbers[-1]


def main() -> None:
    """Measure every case and report, or time what `--seconds` asks for."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir", "repeats", "seconds"])
    if arguments.seconds:
        report("attribution_seconds", seconds_lines(arguments), arguments, captum=DEFAULTS)
        return
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
    ours = {}
    for count in OUR_DRAWS if case.kind in TIMED else (NUM_DRAWS,):
        seeds = range(2 if arguments.quick else _seeds(case, count))
        runs = [case.stage.estimate(case.baselines, case.target, seed, count).values[0] for seed in seeds]
        ours[count] = float(relative_rmse(torch.stack(runs), reference))
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


def _seeds(case: Case, count: int) -> int:
    """More of the number that is compared, and where a draw is cheap."""
    return NUM_SEEDS if count == NUM_DRAWS or case.stage.name == "layers" else NUM_SEEDS // 4


def pooled(errors: list[Errors]) -> Errors:
    """Root mean square over clips."""
    mean = {n: math.sqrt(statistics.fmean(each.ours[n] ** 2 for each in errors)) for n in errors[0].ours}
    fresh = [each.fresh**2 for each in errors if each.fresh is not None]
    independent = math.sqrt(statistics.fmean(each.independent**2 for each in errors))
    return Errors(independent, mean, math.sqrt(statistics.fmean(fresh)) if fresh else None)


def _line(stage: str, kind: str, whole: Errors, errors: list[Errors], bar: float) -> Measurement:
    gains = [each.gain for each in errors]
    note = (
        f"error at {NUM_DRAWS}: {whole.ours[NUM_DRAWS]:.2g}, independent "
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


def seconds_lines(arguments: argparse.Namespace) -> list[Measurement]:
    """Seconds to the goal, from the errors last measured and from whole calls timed now."""
    path = RESULTS / f"attribution_draws{'-quick' if arguments.quick else ''}.json"
    errors = {
        name: Errors(found["independent"], {int(n): error for n, error in found["ours"].items()})
        for name, found in json.loads(path.read_text())["errors"].items()
    }
    draws = {
        f"{stage}, {kind}": math.ceil(errors[f"{stage}, {kind}"].draws_to(GOAL))
        for stage in BARS_SECONDS
        for kind in TIMED
    }
    theirs = {kind: (errors[f"waveform, {kind}"].independent / GOAL) ** 2 for kind in TIMED}
    pair = base_pair(quick=arguments.quick)
    calls = {"Captum": captum_call(pair, CAPTUM_DRAWS)}
    for name, number in draws.items():
        calls[name] = our_call(pair, *name.split(", "), 2 if arguments.quick else number)
    seconds = time_interleaved(calls, 1 if arguments.quick else arguments.repeats)
    one = [value / CAPTUM_DRAWS for value in seconds["Captum"]]
    lines = [over_repeats("one draw of Captum's on the waveform", one, unit="s")]
    for name, number in draws.items():
        stage, kind = name.split(", ")
        needed = theirs[kind]
        gains = ratios([value * needed for value in one], seconds[name])
        took = statistics.median(seconds[name])
        note = (
            f"{number} draws, {took:.3g} s with all that goes before; Captum's waveform: {needed:.0f} draws"
        )
        title = f"seconds to {GOAL:.0%}, {name}"
        lines.append(over_repeats(title, gains, unit="x fewer", at_least=BARS_SECONDS[stage], note=note))
    return lines


if __name__ == "__main__":
    main()
