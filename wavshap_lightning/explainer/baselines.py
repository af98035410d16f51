"""Baselines by the name of their family, and the same ones at every stage."""

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
DECLARED_IF_NEEDED = 4
"""Baselines of a method that needs a declared set."""


def waveform_baselines(
    settings: ExplainSettings, waveform: Waveform, others: Sequence[Tensor], score: Score | None
) -> Baselines:
    """The baselines of a clip, as waveforms.

    Args:
        settings: Which family, and how many to declare.
        waveform: The clip.
        others: Recordings, for the families that consist of them.
        score: Logits of waveforms, to find out whether silence is well-posed; None to go without.

    Raises:
        SettingError: If recordings are missing or of no use, or fewer than are to be declared.
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


def at_stage(baselines: Baselines, stages: Sequence[Callable[[Tensor], Tensor]], like: Tensor) -> Baselines:
    """The same baselines after some stages.

    Args:
        baselines: As waveforms.
        stages: In order.
        like: A tensor where the stages compute.
    """
    moved = baselines.through(lambda values: values.to(like))
    for stage in stages:
        moved = moved.through(stage)
    return moved


def _drawn(distribution: BaselineDistribution, settings: ExplainSettings) -> Baselines:
    """As a distribution, or some of it as a declared set."""
    count = settings.num_baselines
    if count is None and settings.method in ("integrated_gradients", *SPAN_METHODS):
        count = DECLARED_IF_NEEDED
    if count is None:
        return distribution
    return distribution.declare(count, torch.Generator().manual_seed(settings.seed))


def _chosen(others: Sequence[Tensor], settings: ExplainSettings) -> list[Tensor]:
    """All, or so many at random."""
    count = settings.num_baselines
    if count is None:
        return list(others)
    if count > len(others):
        raise SettingError(
            f"num_baselines={count}, but there are only {len(others)} recordings; give more, or declare fewer"
        )
    generator = torch.Generator().manual_seed(settings.seed)
    return [others[index] for index in torch.randperm(len(others), generator=generator)[:count].tolist()]
