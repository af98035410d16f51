"""What was found, in a sentence: where most of the evidence lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.viz.report.reading import Moments, when
from wavshap_lightning.viz.words import percent

MOST = 0.5
"""The share of the evidence that is most of it."""


@dataclass(frozen=True)
class Stretch:
    """The shortest stretch that holds most of the evidence.

    Args:
        start_s: Where it begins, in seconds.
        end_s: Where it ends.
        share: How much of the resolved evidence for the target it holds.
    """

    start_s: float
    end_s: float
    share: float


def shortest_stretch(moments: Moments) -> Stretch | None:
    """The shortest stretch with at least half of the evidence; None where no unit is resolved and positive.

    The evidence is what speaks for the target and is resolved. What speaks against it does not count.

    >>> from wavshap_lightning.viz.estimates import Estimates
    >>> found = Estimates(np.array([1.0, 3.0, -9.0, 3.0, 4.0]))
    >>> shortest_stretch(Moments(found, np.arange(5.0), np.arange(1.0, 6.0)))
    Stretch(start_s=3.0, end_s=5.0, share=0.636...)
    """
    evidence = np.where(moments.shown.unresolved, 0.0, np.maximum(moments.shown.values, 0.0))
    if not evidence.sum() > 0:
        return None
    held = np.concatenate([[0.0], np.cumsum(evidence)]) / evidence.sum()
    # The first end for each beginning; rounding must not lose the whole, which always holds most.
    ends = np.searchsorted(held, held[:-1] + MOST - 1e-12)
    begins = np.flatnonzero(ends < len(held))
    lengths = moments.end_s[ends[begins] - 1] - moments.start_s[begins]
    best = begins[int(np.argmin(lengths.round(9)))]
    share = held[ends[best]] - held[best]
    return Stretch(float(moments.start_s[best]), float(moments.end_s[ends[best] - 1]), float(share))


def headline(saved: SavedClip) -> str:
    """The first line of a clip: what it is heard as, and where most of the evidence lies."""
    numbers = saved.numbers
    heard = f"Heard as {numbers['prediction']} ({percent(numbers['probabilities'][numbers['prediction']])})"
    label = numbers.get("label")
    if label is not None and label != numbers["prediction"]:
        heard += f", labelled {label}"
    return f"{heard}; {_where(saved)}."


def _where(saved: SavedClip) -> str:
    numbers, moments = saved.numbers, when(saved)
    of = "" if numbers["target"] == numbers["prediction"] else f" for {numbers['target']}"
    if moments is None:
        return f"what was explained{of} does not say when"
    if moments.shown.unresolved.all():
        return f"no moment is resolved{of}: ask for more draws"
    stretch = shortest_stretch(moments)
    if stretch is None:
        return f"no resolved moment speaks for {numbers['target']}"
    if stretch.end_s - stretch.start_s > MOST * numbers["duration_s"]:
        return f"the evidence{of} is spread over the clip"
    return f"most of the evidence{of} between {stretch.start_s:.2f} and {stretch.end_s:.2f} s"
