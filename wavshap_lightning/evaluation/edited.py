"""A clip edited span by span, once for all maps that are held against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.players import Players, equal_spans
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.evaluation.counterfactual import EDITS, STFT_SIZE, observe, size_agreement
from wavshap_lightning.explainer.grids import TimeGrid, times_of
from wavshap_lightning.models.classifier import EmotionClassifier

NUM_SPANS, FEWEST_SPANS = 8, 3
SHORTEST_SAMPLES = 2 * STFT_SIZE
"""A span must hold two windows of the phase vocoder, also the shortest."""


@dataclass(frozen=True)
class EditedSpans:
    """What edits of the spans of a clip did to the score.

    Args:
        spans: Who owns which frame.
        observed: By edit, what the score lost, span by span.
    """

    spans: Players
    observed: Mapping[str, tuple[float, ...]]

    def agreements(self, values: Float[Tensor, " time"]) -> dict[str, float]:
        """`consistency_EDIT` of a map of frames, by edit; see [`size_agreement`][]."""
        sums = torch.zeros(self.spans.count, dtype=values.dtype)
        sums.index_add_(0, self.spans.owner, values.cpu())
        return {
            f"consistency_{name}": size_agreement(sums, observed) for name, observed in self.observed.items()
        }


def edit_spans(
    classifier: EmotionClassifier, waveform: Float[Tensor, " samples"], target: Target
) -> EditedSpans | None:
    """Edit eight spans, or fewer of a short clip, in four ways; None where it is too short for three.

    Args:
        classifier: In evaluation mode; asked once for each edited clip.
        waveform: The clip.
        target: What is explained; one scalar.
    """
    times = times_of(classifier.backbone.frame_grid, len(waveform))["frames"]
    divided = _divide(times, len(waveform), classifier.sample_rate)
    if divided is None:
        return None
    (spans, where), device = divided, next(classifier.parameters()).device

    def score(sound: Float[Tensor, " samples"]) -> float:
        with torch.no_grad():
            return float(target(classifier(sound[None].to(device)))[0, 0])

    observed = {
        name: observe(score, waveform, where, edit=edit, sample_rate=classifier.sample_rate)
        for name, edit in EDITS.items()
    }
    return EditedSpans(spans, observed)


def _divide(times: TimeGrid, num_samples: int, sample_rate: int) -> tuple[Players, list[Span]] | None:
    """As many spans as are long enough, each of them; None where these are fewer than three."""
    for count in range(min(NUM_SPANS, times.count), FEWEST_SPANS - 1, -1):
        spans = equal_spans(times.count, count)
        where = _spans_of(spans, times, num_samples / sample_rate)
        lengths = (round(span.end_s * sample_rate) - round(span.start_s * sample_rate) for span in where)
        if min(lengths) >= SHORTEST_SAMPLES:
            return spans, where
    return None


def _spans_of(spans: Players, times: TimeGrid, duration_s: float) -> list[Span]:
    """From half-way between two frames of different owners to the next such place; all of the clip."""
    centers_s = times.center_s()
    first = [int((spans.owner == place).nonzero()[0]) for place in range(1, spans.count)]
    between = [float(centers_s[index - 1] + centers_s[index]) / 2 for index in first]
    edges = [0.0, *between, duration_s]
    return [Span(start_s, end_s) for start_s, end_s in pairwise(edges)]
