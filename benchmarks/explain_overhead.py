"""What does explaining take besides the model? A clip at Base geometry, the path from its frames, 256 draws.

The clock is read around every gradient evaluation and around every other pass through frontend and encoder,
within one explanation with its diagnostics; what is left is the overhead: drawing, multiplying,
adding up, standard errors, the record. A fresh baseline for every draw has its score taken by a forward
pass of its own; a fixed set has it once.

    python benchmarks/explain_overhead.py                    # minutes on two cores
    python benchmarks/explain_overhead.py --quick
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

from _common import SAMPLE_RATE, Measurement, over_repeats, read_arguments, report
from _problems import base_pair
from torch import Tensor

from wavshap_lightning.attribution.estimation.problem import Problem
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.backbone import SpeechBackbone

DRAWS, QUICK_DRAWS, DURATION_S = 256, 16, 1.0
SETS = {"fresh baselines": None, "16 baselines": 16}
BAR = 0.05


@dataclass
class Clock:
    """Where the time goes.

    Args:
        seconds: By what it went into, what lies within something else counted there alone.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    _busy: bool = False

    def timed(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        """The function, its time counted unless it is called by one that is counted."""

        def call(*args: object, **options: object) -> object:
            if self._busy:
                return function(*args, **options)
            with self.count(name):
                return function(*args, **options)

        return call

    @contextmanager
    def count(self, name: str) -> Iterator[None]:
        """Count what happens within."""
        self._busy, start = True, time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self._busy = False


def main() -> None:
    """Measure and report."""
    arguments = read_arguments(__doc__, needs=["repeats"])
    measurements = [one for name in SETS for one in _measure(name, arguments)]
    report("explain_overhead", measurements, arguments)


def _measure(name: str, arguments: argparse.Namespace) -> list[Measurement]:
    pair = base_pair(quick=arguments.quick)
    waveform = pair.waveform[: round(DURATION_S * SAMPLE_RATE)]
    settings = ExplainSettings(
        stages=("frames",),
        num_draws=QUICK_DRAWS if arguments.quick else DRAWS,
        num_baselines=SETS[name],
    )
    explainer = Explainer(pair.ours, settings)
    shares = [
        shares_of_a_run(explainer, waveform) for _ in range(1 if arguments.quick else arguments.repeats)
    ]
    lines = {key: [one[key] for one in shares] for key in shares[0]}
    return [
        over_repeats(f"{name}: {key}", values, at_most=BAR if key == "overhead" else None)
        for key, values in lines.items()
    ]


def shares_of_a_run(explainer: Explainer, waveform: Tensor) -> dict[str, float]:
    """Shares of the whole time: the overhead, gradients, and other forward passes."""
    clock = Clock()
    passes = {name: getattr(SpeechBackbone, name) for name in ("frontend", "encoder")}
    start = time.perf_counter()
    with (
        patch.object(Problem, "gradients", clock.timed("gradients", Problem.gradients)),
        patch.multiple(
            SpeechBackbone, **{name: clock.timed("other passes", one) for name, one in passes.items()}
        ),
    ):
        explainer.explain(waveform, "happy")
    whole_s = time.perf_counter() - start
    counted = {name: seconds / whole_s for name, seconds in clock.seconds.items()}
    return {"overhead": 1.0 - sum(counted.values()), **counted}


if __name__ == "__main__":
    main()
