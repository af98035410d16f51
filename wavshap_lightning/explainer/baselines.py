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
    family, count = settings.baselines, settings.num_baselines
    generator = torch.Generator().manual_seed(settings.seed)
    if (family in RECORDED_FAMILIES) != bool(others):
        raise SettingError(
            f"baselines={family!r}, recordings: {len(others)} were given; give recordings for "
            f"{', '.join(RECORDED_FAMILIES)}, and for nothing else"
        )
    if family == "silence":
        return silence(waveform, score)
    if family in DRAWN:
        if count is None and settings.method in ("integrated_gradients", *SPAN_METHODS):
            count = DECLARED_IF_NEEDED
        drawn = DRAWN[family](waveform)
        return drawn if count is None else drawn.declare(count, generator)
    if count is None:
        return recordings(waveform, others, family)
    if count > len(others):
        raise SettingError(f"num_baselines={count}, but there are only {len(others)} recordings; give more")
    chosen = torch.randperm(len(others), generator=generator)[:count].tolist()
    return recordings(waveform, [others[index] for index in chosen], family)
