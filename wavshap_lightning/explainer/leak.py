"""Leak: how much of what a span of sound does to the score reaches it through frames elsewhere.

A map of frames shows which frames a classifier reads. Where frames depend on the whole clip, as under a
group norm, these need not be those of the sound that decides: a loud sound moves the statistics, and a
classifier can read them anywhere. A counterfactual without the sound shows what its own frames carry.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.explainer.settings import Stage
from wavshap_lightning.explainer.stage_attribution import OpenClip
from wavshap_lightning.explainer.time_grid import TimeGrid, seen_by_frames

SPAN_S, FADE_S = 0.1, 0.005

# An effect below this, in units of the score, may be rounding.
SMALLEST_EFFECT = 1e-4

Span = tuple[int, int]
"""First sample and end, which does not belong to it."""


def strongest_span(values: Float[Tensor, " units"], times: TimeGrid, duration_s: float) -> Span:
    """Samples of the 100 ms in which the sum of the values is largest in magnitude.

    Args:
        values: A number for each unit of time.
        times: Position of the units.
        duration_s: End of the clip; units of silence that the model adds are left out.
    """
    count = times.num_within(duration_s)
    width = min(max(1, round(SPAN_S * times.sample_rate / times.hop_samples)), count)
    start = int(values[:count].unfold(0, width, 1).sum(1).abs().argmax()) * times.hop_samples
    start += times.first_sample + (times.size_samples - times.hop_samples) // 2  # a hop around each center
    return max(start, 0), min(start + width * times.hop_samples, round(duration_s * times.sample_rate))


def span_effect(
    score: Score,
    clip: Float[Tensor, "*layer time channels"],
    others: Float[Tensor, "baselines *layer time channels"],
    own: Bool[Tensor, " time"],
) -> tuple[Float[Tensor, " baselines"], Float[Tensor, " baselines"]]:
    """Effect of a span on a score, and the part of it that the span's own frames carry.

    The part is the mean over both orders of exchanging the own frames before the others, and after them: the
    exact Shapley value of two players.

    Args:
        score: Function to one number for each row.
        clip: The clip at the input of a stage.
        others: Counterfactuals there, in which other sound fills the span.
        own: The span's own frames.

    Returns:
        `score(clip) - score(others)`, and the part.
    """
    swapped = (torch.where(own[:, None], *pair) for pair in ((others, clip), (clip, others)))
    whole, without_own, own_alone, neither = (score(rows) for rows in (clip[None], *swapped, others))
    return whole - neither, (whole - without_own + own_alone - neither) / 2


@torch.no_grad()
def measure_leak(
    clip: OpenClip,
    stage: Stage,
    found: Attribution,
    baselines: Float[Tensor, "baselines samples"],
    wanted: int,
) -> float | None:
    """Share of the effect of sounds that reaches the score through frames that are not the sounds' own.

    The sounds are the strongest 100 ms of the map and the loudest of the clip, whose effects are added up.
    The strongest alone would not do: where a classifier reads the statistics that a loud sound moves, the
    map is strongest at frames elsewhere, whose own sound hardly matters.

    Args:
        clip: The clip in the classifier.
        stage: Stage after the waveform, which cannot leak.
        found: Attributions from this stage, with a view of frames.
        baselines: Sounds as long as the clip and at its level, which replace a span at the level of the rest.
        wanted: Class whose score is probed, where it is among those explained; else the first of these.

    Returns:
        The share; None if neither effect is larger than its standard deviation over the baselines.
    """
    stages, times, target = clip.stages, clip.times[stage], found.target
    index = target.classes.index(wanted) if wanted in target.classes else 0
    loudness = seen_by_frames(clip.waveform, clip.classifier.backbone.frame_grid).square().sum(1)
    position = torch.arange(len(clip.waveform), device=clip.waveform.device)
    first = times.first_sample + times.hop_samples * torch.arange(times.count, device=position.device)
    fade, parts = 1 + round(FADE_S * times.sample_rate), []
    for strength in (found.views["frames"].values[index], loudness):
        start, end = strongest_span(strength, times, clip.recording.duration_s)
        weight = (torch.minimum(position + 1 - start, end - position).to(baselines) / fade).clamp(0, 1)
        rest = ((1 - weight) * clip.waveform).norm() / (1 - weight).norm()  # a loud sound must not stay loud
        others = rest / clip.waveform.square().mean().sqrt() * baselines
        sounds = torch.cat([clip.waveform[None], torch.lerp(clip.waveform, others, weight)])
        inputs = stages.frontend(sounds) if stage == "frames" else stages.encoder(stages.frontend(sounds))
        effects, carried = span_effect(
            lambda rows: target(stages.score(stage)(rows))[:, index].double(),
            inputs[0],
            inputs[1:],
            (first < end) & (first + times.size_samples > start),
        )
        is_known = effects.mean().abs() > effects.std(correction=0).clamp(min=SMALLEST_EFFECT)
        parts.append(torch.stack([carried.mean(), (effects - carried).mean()]).abs() * is_known)
    own, other = torch.stack(parts).sum(0).tolist()
    return other / (own + other) if own + other else None
