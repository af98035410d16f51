"""Faithfulness: attributions compared with the effect of removing and of keeping frames.

What is removed is replaced by the same frames of a fill. No fill is neutral, so there are two: frames of
noise as loud as the clip, and the clip's mean frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import PrecisionChoice
from wavshap_lightning.explainer.stages import Stages
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.models.classifier import EmotionClassifier

Frames = Float[Tensor, "time channels"]
Fills = Float[Tensor, "fills time channels"]
Attributions = Float[Tensor, " time"]
Outputs = Callable[[Float[Tensor, "inputs time channels"]], Float[Tensor, "inputs ..."]]
"""Logits, or the explained score, of some inputs."""
Removal = Callable[[Bool[Tensor, "masks time"]], Float64[Tensor, "fills masks ..."]]
"""The same without the frames of each mask, for each fill; see [`removal_of`][]."""

FILLS = ("noise", "mean")
SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the frames that are removed or kept, each at least one frame."""

NUM_STEPS = 10
NUM_REMOVALS, REMOVED_SHARE = 64, 0.5
KEPT_SHARE = 0.3
INPUTS_AT_ONCE = 8
SURE = 1e-12


def frame_faithfulness(
    classifier: EmotionClassifier, explanation: Explanation, waveform: Float[Tensor, " samples"], target: str
) -> dict[str, float]:
    """Comprehensiveness and sufficiency of the attributions of the frames, over both fills.

    Args:
        classifier: The one that was explained; it is as it was afterwards.
        explanation: With a value for each frame: of the path from the frames or from the layers.
        waveform: Samples of the clip.
        target: One of the explained labels.

    Raises:
        AttributionError: If there is no such path or target.
    """
    values, settings = explanation.frame_values(target), explanation.settings
    asked = target_named(target, explanation.labels, settings.score)
    generator = torch.Generator().manual_seed(settings.seed)
    with leave_no_trace(classifier):
        frames, fills, logits_of = removable_frames(classifier, waveform, generator, settings.precision)
        scores_without = removal_of(lambda inputs: asked(logits_of(inputs))[:, 0], frames, fills)
        order = torch.randperm(len(frames), generator=generator)
        return faithfulness(scores_without, values, removal_losses(scores_without, order))


def faithfulness_of_maps(
    classifier: EmotionClassifier,
    waveform: Float[Tensor, " samples"],
    target: Target,
    maps: Mapping[str, Attributions],
    generator: torch.Generator,
) -> dict[str, dict[str, float]]:
    """All metrics of this module, for each of several maps of a clip, with the same fills and random draws.

    Args:
        classifier: The one that was explained, of classes, in evaluation mode.
        waveform: Samples of the clip.
        target: The explained score; one scalar.
        maps: Attributions of the frames.
        generator: Draws the noise, the random removals and a random order.
    """
    frames, fills, logits_of = removable_frames(classifier, waveform, generator)

    def score(inputs: Float[Tensor, "inputs time channels"]) -> Float[Tensor, " inputs"]:
        return target(logits_of(inputs))[:, 0]

    scores_without = removal_of(score, frames, fills)
    logits_without = removal_of(logits_of, frames, fills)
    by_fill = {name: removal_of(score, frames, fill[None]) for name, fill in zip(FILLS, fills, strict=True)}
    removals = random_removals(score, frames, fills, generator)
    order = torch.randperm(len(frames), generator=generator)
    by_chance = {fill: removal_losses(without, order) for fill, without in by_fill.items()}
    found = {}
    for name, values in maps.items():
        found[name] = removal_curves(scores_without, values)
        found[name] |= masked_sound(logits_without, values, target.classes[0])
        found[name]["infidelity"] = infidelity(values, *removals)
        for fill, without in by_fill.items():
            numbers = faithfulness(without, values, by_chance[fill])
            found[name] |= {f"{metric}_{fill}": number for metric, number in numbers.items()}
    return found


def removable_frames(
    classifier: EmotionClassifier,
    waveform: Float[Tensor, " samples"],
    generator: torch.Generator,
    precision: PrecisionChoice | None = None,
) -> tuple[Frames, Fills, Outputs]:
    """The frames of a clip, their fills, and the rest of the classifier.

    Args:
        classifier: The one that was explained, in evaluation mode.
        waveform: Samples of the clip.
        generator: Draws the noise.
        precision: Precision of the backbone; its own if None, `"fp32"` if `"auto"`.
    """
    stages, device = Stages(classifier, precision), next(classifier.parameters()).device
    both = torch.cat([waveform[None].cpu(), noise(waveform.cpu()).draw(1, generator)]).to(device)
    with torch.no_grad():
        frames, noisy = stages.frontend(both)
    return frames, torch.stack([noisy, frames.mean(0).expand_as(frames)]), stages.from_frames


def removal_of(outputs_of: Outputs, frames: Frames, fills: Fills) -> Removal:
    """`(masks, time) -> (fills, masks, ...)`: outputs for a clip without the frames of each mask, by fill.

    Args:
        outputs_of: Logits or the explained score; called without gradients on a few inputs at a time.
        frames: Frames of the clip, the output of the convolutions.
        fills: Frames that replace what is removed.
    """

    def outputs_without(removed: Bool[Tensor, "masks time"]) -> Float64[Tensor, "fills masks ..."]:
        where = removed.to(frames.device)[:, :, None]
        outputs = _outputs(outputs_of, torch.cat([torch.where(where, fill, frames) for fill in fills]))
        return outputs.reshape(len(fills), len(removed), *outputs.shape[1:])

    return outputs_without


def faithfulness(
    scores_without: Removal, attributions: Attributions, by_chance: Float64[Tensor, " two"]
) -> dict[str, float]:
    """Comprehensiveness and sufficiency, averaged over the shares of removed frames and over fills.

    `comprehensiveness`: `mean_k [s(x) - s(x without the top k)]`, minus the same for a random order; higher
    is better. `sufficiency`: `mean_k [s(x) - s(only the top k)]`, minus the same for a random order; lower is
    better. Both are in the unit of the score, and 0 on average for random attributions. Source: DeYoung et
    al. (2020), "ERASER", section 4. Differences: relative to a random order, in the unit of the score.

    Args:
        scores_without: See [`removal_of`][].
        attributions: Attribution of each frame, ranked with its sign, the largest first.
        by_chance: [`removal_losses`][] of a random order, or their mean over several.
    """
    order = attributions.argsort(descending=True, stable=True)
    lost = removal_losses(scores_without, order) - by_chance
    return dict(zip(("comprehensiveness", "sufficiency"), lost.tolist(), strict=True))


def removal_losses(scores_without: Removal, order: Int[Tensor, " time"]) -> Float64[Tensor, " two"]:
    """Mean loss of the score without the first frames of an order, and with only them, over `SHARES`.

    The score of the clip itself is left out, since it cancels in the difference between two orders.

    Args:
        scores_without: See [`removal_of`][].
        order: All frames, in some order.
    """
    counts = sorted({max(1, ceil(share * len(order))) for share in SHARES})
    top = torch.stack([_first(order, count) for count in counts])
    scores = scores_without(torch.cat([top, ~top]))
    return -scores.reshape(len(scores), 2, len(counts)).mean((0, 2))


def removal_curves(
    scores_without: Removal, attributions: Attributions, *, num_steps: int = NUM_STEPS
) -> dict[str, float]:
    """Mean score while frames are removed in equal steps from none to all, by the trapezoid rule.

    `deletion`: the largest attributions are removed first; the lower the better. `insertion`: the largest are
    inserted into the fill first, which is the reverse of removing the smallest first; the higher the better.
    `abpc`, the area between both: the higher the better, 0 by chance (Simic et al. 2022). Source: Petsiuk,
    Das and Saenko (2018); where we depart: the score, for the probability, and frames, for pixels.

    Args:
        scores_without: See [`removal_of`][]; the areas are averaged over fills.
        attributions: Of each frame.
        num_steps: Number of steps, at most one for each frame.
    """
    order = attributions.argsort(descending=True, stable=True)
    num_steps = min(num_steps, len(order))
    counts = [round(step * len(order) / num_steps) for step in range(num_steps + 1)]
    removed = torch.stack([_first(some, count) for some in (order, order.flip(0)) for count in counts])
    curves = scores_without(removed).mean(0).reshape(2, num_steps + 1)
    deletion, insertion = (torch.trapezoid(curves, dim=1) / num_steps).tolist()
    return {"deletion": deletion, "insertion": insertion, "abpc": insertion - deletion}


def random_removals(
    score: Outputs, frames: Frames, fills: Fills, generator: torch.Generator, *, count: int = NUM_REMOVALS
) -> tuple[Bool[Tensor, "removals time"], Float64[Tensor, " removals"]]:
    """Remove a random half of the frames, again and again: which ones, and how much the score lost.

    Always as many: otherwise their number would tell of the effect, and constant attributions would do well.

    Args:
        score: The explained score; called without gradients on a few inputs at a time.
        frames: Frames of the clip, the output of the convolutions.
        fills: Frames that replace what is removed, in turn.
        generator: Draws the frames.
        count: Number of removals.
    """
    ranks = torch.rand(count, len(frames), generator=generator, dtype=torch.float32).argsort(1).argsort(1)
    turns, by_fill = (torch.arange(count) % len(fills)).sort(stable=True)
    removed = (ranks < round(REMOVED_SHARE * len(frames)))[by_fill]
    filled = torch.where(removed[:, :, None].to(frames.device), fills[turns], frames)
    scores = _outputs(score, torch.cat([frames[None], filled]))
    return removed, (scores[0] - scores[1:]).cpu()


def infidelity(
    attributions: Attributions,
    removed: Bool[Tensor, "removals time"],
    lost: Float64[Tensor, " removals"],
) -> float:
    """`min_beta E[(beta I.phi - df)^2] / Var df`: the lower the better, 0 if every loss is predicted.

    With `I` the removed frames and `df` what the score lost. Knowing only the mean of `df` gives 1; as
    `beta I.phi` has no constant, more is possible. Source: Yeh et al. (2019), section 2.1; where we depart:
    the factor, and relative to the variance, so that neither the unit of the attributions nor that of the
    score counts. NaN where the score does not change.

    Args:
        attributions: Of each frame.
        removed: Frames that were removed each time; see [`random_removals`][].
        lost: What the score lost by it.
    """
    predicted = removed.double() @ attributions.double().cpu()
    variance = float(lost.var(unbiased=False))
    if not variance > 0:
        return float("nan")
    square = float(predicted.square().mean())
    explained = float((predicted * lost).mean()) ** 2 / square if square > 0 else 0.0
    return max(0.0, float(lost.square().mean()) - explained) / variance


def masked_sound(
    logits_without: Removal, attributions: Attributions, label: int, *, share: float = KEPT_SHARE
) -> dict[str, float]:
    """Effect on the decision of keeping only the largest attributions, and of removing only them.

    With `p` the probability of the explained class, `p(m)` with only the mask kept, `p(-m)` with it removed;
    averaged over fills, over clips take means:

    - `increase`: 1 if `p(m) > p`, else 0; its mean is the average increase (AI). The higher the better.
    - `drop`: `max(0, p - p(m)) / p` (AD). The lower the better.
    - `gain`: `max(0, p(m) - p) / (1 - p)` (AG). The higher the better.
    - `removal_drop`: `p - p(-m)` (FF). The higher the better.
    - `fidelity`: 1 if the predicted class is the same with only the mask kept, else 0 (Fid-In). The higher
      the better.

    Sources: Chattopadhay et al. (2018) for AI and AD, Zhang et al. (2024) for AG, Paissan, Ravanelli and
    Subakan (2024) for FF and Fid-In of sounds. Differences: what is not kept is filled, not multiplied by
    0.

    Args:
        logits_without: See [`removal_of`][].
        attributions: Of each frame.
        label: The explained class.
        share: Share of the frames in the mask, at least one frame.
    """
    order = attributions.argsort(descending=True, stable=True)
    kept = _first(order, max(1, ceil(share * len(order))))
    masks = torch.stack([torch.zeros_like(kept), ~kept, kept])
    whole, only, without = logits_without(masks).softmax(2).unbind(1)
    p, p_only, p_without = (of[:, label] for of in (whole, only, without))
    by_fill = {
        "increase": p_only > p,
        "drop": (p - p_only).clamp(min=0) / p.clamp(min=SURE),
        "gain": (p_only - p).clamp(min=0) / (1 - p).clamp(min=SURE),
        "removal_drop": p - p_without,
        "fidelity": only.argmax(1) == whole.argmax(1),
    }
    return {name: float(numbers.double().mean()) for name, numbers in by_fill.items()}


def _first(order: Int[Tensor, " time"], count: int) -> Bool[Tensor, " time"]:
    """Mask of the first frames of an order."""
    mask = torch.zeros(len(order), dtype=torch.bool)
    mask[order[:count].cpu()] = True
    return mask


def _outputs(
    outputs_of: Outputs, inputs: Float[Tensor, "inputs time channels"]
) -> Float64[Tensor, "inputs ..."]:
    with torch.no_grad():
        return torch.cat([outputs_of(part) for part in torch.split(inputs, INPUTS_AT_ONCE)]).double()
