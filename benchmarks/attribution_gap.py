"""How much is missing to completeness before the correction, at default settings?

The completeness gap `|sum of attributions - (score - mean baseline score)|`, relative to the score's change
or to the scatter of the baselines' scores, whichever is larger, after the default 64 draws from noise at
the clip's level. A small WavLM trained end to end on RAVDESS, clips of actors who did not train.

    python benchmarks/attribution_gap.py --root DIR
"""

from __future__ import annotations

import numpy as np
from _common import Measurement, read_arguments, report
from _problems import ravdess_cases, trained_classifier

from wavshap_lightning.attribution.estimation.estimate import FIRST_DRAWS, Stopping

NUM_CLIPS = 60
BARS = {"frames": 0.05, "layers": 0.01}
KINDS = ("distribution of noise", "declared noise")


def main() -> None:
    """Measure and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir"])
    trained = trained_classifier(arguments.root, arguments.cache_dir, quick=arguments.quick)
    measurements, default = [], Stopping(num_draws=FIRST_DRAWS)
    for stage, bar in BARS.items():
        for kind in KINDS:
            num_clips = 2 if arguments.quick else NUM_CLIPS
            cases = ravdess_cases(trained, arguments.root, num_clips, stages=(stage,), kinds=(kind,))
            gaps = [
                case.stage.explain(case.baselines, case.target, 0, default).relative_gap for case in cases
            ]
            measurements += _lines(f"{stage}, {kind}", np.array(gaps)[:, 0], bar)
    report("attribution_gap", measurements, arguments, model=trained.facts)


def _lines(name: str, gaps: np.ndarray, bar: float) -> list[Measurement]:
    within = float((gaps <= bar).mean())
    middle, low, high = (float(np.quantile(gaps, share)) for share in (0.5, 0.05, 0.95))
    note = f"median and 5th to 95th of 100 over {len(gaps)} clips; greatest {gaps.max():.2g}"
    default = name.endswith("distribution of noise")
    return [
        Measurement(name, middle, low, high, at_most=bar if default else None, note=note),
        Measurement(f"{name}, clips within the bar", within),
    ]


if __name__ == "__main__":
    main()
