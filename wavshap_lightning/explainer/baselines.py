"""Baselines of a clip by the name of their family."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import (
    BaselineDistribution,
    Baselines,
    noise,
    recordings,
    silence,
    spectral_noise,
    time_shifted,
)
from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.settings import RECORDED_FAMILIES, SPAN_METHODS, ExplainSettings

Waveform = Float[Tensor, " samples"]

DRAWN: dict[str, Callable[[Waveform], BaselineDistribution]] = {
    "noise": noise,
    "spectral_noise": spectral_noise,
    "time_shifted": time_shifted,
}

# Declared by methods that need a fixed set, where no number is given.
DECLARED_IF_NEEDED = 4


def waveform_baselines(
    settings: ExplainSettings, waveform: Waveform, others: Sequence[Tensor], score: Score | None
) -> Baselines:
    """Baselines of a clip, as waveforms.

    Args:
        settings: Family of the baselines, and how many to declare.
        waveform: The clip.
        others: Recordings, for the families that consist of them.
        score: Logits of waveforms, to find out whether silence is well-posed; None to skip that check.

    Raises:
        SettingError: If recordings are missing, given in vain, or fewer than are to be declared.
        AttributionError: If the family does not fit the clip or the score.
    """
    family = settings.baselines
    if others and family not in RECORDED_FAMILIES:
        raise SettingError(
            f"recordings: {len(others)} were given, but baselines={family!r} takes none; leave them out, or "
            f"use baselines={RECORDED_FAMILIES[0]!r}"
        )
    if family in DRAWN:
        return _drawn(DRAWN[family](waveform), settings)
    if family == "silence":
        return silence(waveform, score)
    if not others:
        raise SettingError(
            f"baselines={family!r} needs recordings; give some, as recordings=[...], or use baselines='noise'"
        )
    return recordings(waveform, _chosen(others, settings), family)


def _drawn(distribution: BaselineDistribution, settings: ExplainSettings) -> Baselines:
    """Baselines of a drawn family: the distribution itself, or some of it declared as a set."""
    count = settings.num_baselines
    if count is None and settings.method in ("integrated_gradients", *SPAN_METHODS):
        count = DECLARED_IF_NEEDED
    if count is None:
        return distribution
    return distribution.declare(count, torch.Generator().manual_seed(settings.seed))


def _chosen(others: Sequence[Tensor], settings: ExplainSettings) -> list[Tensor]:
    """All recordings, or `num_baselines` of them at random."""
    count = settings.num_baselines
    if count is None:
        return list(others)
    if count > len(others):
        raise SettingError(
            f"num_baselines={count}, but there are only {len(others)} recordings; give more, or declare fewer"
        )
    generator = torch.Generator().manual_seed(settings.seed)
    return [others[index] for index in torch.randperm(len(others), generator=generator)[:count].tolist()]
