"""Is what an explanation points at enough for the classifier to say the same?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from statistics import fmean

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stages import Stages
from wavshap_lightning.models.classifier import EmotionClassifier

Score = Callable[[Float[Tensor, "inputs time channels"]], Float[Tensor, " inputs"]]

SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
INPUTS_AT_ONCE = 8


@dataclass(frozen=True)
class Faithfulness:
    """Effect of removing and keeping the frames with the largest attributions, relative to a random order.

    Both are in the unit of the score, minus the same for frames in a random order. Attributions that say
    nothing have 0 in both on average.

    Args:
        comprehensiveness: `mean_k [s(x) - s(x without the top k)]`: how much is lost without them. The more
            above 0, the better.
        sufficiency: `mean_k [s(x) - s(only the top k)]`: how much is missing with nothing else. The more
            below 0, the better.
    """

    comprehensiveness: float
    sufficiency: float


def faithfulness(
    score: Score,
    frames: Float[Tensor, "time channels"],
    attributions: Float[Tensor, " time"],
    fills: Float[Tensor, "fills time channels"],
    generator: torch.Generator,
    *,
    shares: Sequence[float] = SHARES,
    num_random: int = 1,
) -> Faithfulness:
    """Comprehensiveness and sufficiency of frames, averaged over shares removed and over fills.

    What is removed is replaced by the same frames of a fill. No fill is neutral, so take two kinds at least.
    Source: DeYoung et al. 2020, "ERASER", section 4; where we depart: minus random order, in the unit of
    the score.

    Args:
        score: The explained score of each input; called without gradients on a few at a time.
        frames: The clip.
        attributions: Of each frame; the largest, not the farthest from zero, come first.
        fills: What stands for absence.
        generator: Draws the random orders.
        shares: Which shares of the frames are removed or kept, each at least one frame.
        num_random: How many random orders.
    """
    orders = [attributions.argsort(descending=True)]
    orders += [torch.randperm(len(frames), generator=generator) for _ in range(num_random)]
    lost = lost_by(score, frames, orders, fills, shares=shares)
    return over_chance(lost[:, 0], lost[:, 1:].mean(1))


def lost_by(
    score: Score,
    frames: Float[Tensor, "time channels"],
    orders: Sequence[Int[Tensor, " time"]],
    fills: Float[Tensor, "fills time channels"],
    *,
    shares: Sequence[float] = SHARES,
) -> Float64[Tensor, "two orders"]:
    """Mean change of the score without the first frames of each order, and with only them.

    Only differences between orders mean anything: the score of the clip itself is not taken in.

    Args:
        score: The explained score of frames.
        frames: Frames of the clip.
        orders: Orders of the frames.
        fills: Frames that replace what is removed.
        shares: Shares of the frames that are removed or kept.
    """
    counts = sorted({max(1, ceil(share * len(frames))) for share in shares})
    top = torch.stack([_first_of(order, count) for order in orders for count in counts]).to(frames.device)
    changed = torch.stack([replaced(frames, fill, where) for where in (top, ~top) for fill in fills])
    scores = scores_of(score, changed.flatten(0, 1))
    return -scores.reshape(2, len(fills), len(orders), len(counts)).mean((1, 3))


def over_chance(lost: Float64[Tensor, " two"], by_chance: Float64[Tensor, " two"]) -> Faithfulness:
    """Loss in an order minus the loss in a random one; the score of the clip cancels."""
    removed, kept = (lost - by_chance).tolist()
    return Faithfulness(removed, kept)


def _first_of(order: Int[Tensor, " time"], count: int) -> Tensor:
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[:count].cpu()] = True
    return chosen


def scores_of(score: Score, inputs: Float[Tensor, "inputs time channels"]) -> Float64[Tensor, " inputs"]:
    """The score of inputs, without gradients and a few at a time."""
    with torch.no_grad():
        return torch.cat([score(part) for part in torch.split(inputs, INPUTS_AT_ONCE)]).double()


def replaced(
    frames: Float[Tensor, "time channels"],
    fill: Float[Tensor, "time channels"],
    where: Bool[Tensor, "inputs time"],
) -> Float[Tensor, "inputs time channels"]:
    """The clip with some of its frames taken from a fill."""
    return torch.where(where[:, :, None], fill, frames)


FILLS = ("noise", "mean")


@dataclass(frozen=True)
class Proof:
    """Frames of a clip, their fills, and the rest of the classifier, to test explanations of frames.

    Args:
        frames: The clip's.
        fills: Frames of noise as loud as the clip, and the clip's mean frame.
        logits_of: The rest of the classifier.
        target: What is explained; one scalar.
    """

    frames: Float[Tensor, "time channels"]
    fills: Float[Tensor, "fills time channels"]
    logits_of: Score
    target: Target

    def score(self, inputs: Float[Tensor, "inputs time channels"]) -> Float[Tensor, " inputs"]:
        """The explained score of some frames."""
        return self.target(self.logits_of(inputs))[:, 0]


@contextmanager
def open_proof(
    classifier: EmotionClassifier,
    waveform: Float[Tensor, " samples"],
    target: Target,
    generator: torch.Generator,
    settings: ExplainSettings | None = None,
) -> Iterator[Proof]:
    """Inside, the classifier can be asked; afterwards it is as it was.

    Args:
        classifier: The one that was explained.
        waveform: The clip.
        target: What is explained; one scalar.
        generator: Draws the noise of a fill.
        settings: How it was explained; by default if None.
    """
    settings, device = settings or ExplainSettings(), next(classifier.parameters()).device
    with leave_no_trace(classifier):
        stages = Stages(classifier, settings.precision)
        both = torch.cat([waveform[None].cpu(), noise(waveform.cpu()).draw(1, generator)]).to(device)
        with torch.no_grad():
            frames, noisy = stages.frontend(both)
        fills = torch.stack([noisy, frames.mean(0).expand_as(frames)])
        yield Proof(frames, fills, stages.from_frames, target)


def remove_frames(
    classifier: EmotionClassifier, explanation: Explanation, waveform: Float[Tensor, " samples"], target: str
) -> Faithfulness:
    """How faithful the attributions of the path from the frames are to the classifier.

    Frames are filled with those of noise as loud as the clip, and with the clip's mean frame.

    Args:
        classifier: The one that was explained; it is as it was afterwards.
        explanation: With the path from the frames.
        waveform: The clip.
        target: Which of the explained labels.

    Raises:
        AttributionError: If there is no such path or target.
    """
    values = explanation.values("frames", "frames", target)
    generator = torch.Generator().manual_seed(explanation.settings.seed)
    asked = Target(explanation.settings.score, (explanation.labels.index(target),))
    with open_proof(classifier, waveform, asked, generator, explanation.settings) as proof:
        return faithfulness(proof.score, proof.frames, values, proof.fills, generator)


STEPS = 10


@dataclass(frozen=True)
class RemovalCurves:
    """The score while more and more is removed, as a share of the units from none to all.

    Args:
        deletion: Mean score along the way, the largest attributions removed first. The lower the better.
        insertion: Mean score along the way, the largest attributions put into the fill first; which is the
            way back of removing the smallest first. The higher the better.
    """

    deletion: float
    insertion: float

    @property
    def abpc(self) -> float:
        """Area between the perturbation curves, least first minus most first. The higher the better.

        0 for attributions that say nothing. Source: Simic et al. (2022).
        """
        return self.insertion - self.deletion


def removal_curves(
    score: Score,
    frames: Float[Tensor, "time channels"],
    attributions: Float[Tensor, " time"],
    fills: Float[Tensor, "fills time channels"],
    *,
    steps: int = STEPS,
) -> RemovalCurves:
    """Areas under the deletion and the insertion curve, in the unit of the score, averaged over fills.

    By the trapezoid rule over `steps` equal steps. Source: Petsiuk, Das and Saenko (2018); where we depart:
    the score, for the probability, and frames of the clip, for pixels.

    Args:
        score: The explained score of each input; called without gradients on a few at a time.
        frames: The clip.
        attributions: Of each frame.
        fills: What stands for absence; two kinds at least, as none is neutral.
        steps: Into how many steps the way from none to all is cut, at most.
    """
    steps = min(steps, len(frames))
    order = attributions.argsort(descending=True, stable=True)
    gone = torch.stack([removed_first(order, count, steps) for count in range(steps + 1)])
    least = torch.stack([removed_first(order.flip(0), count, steps) for count in range(steps + 1)])
    both = torch.cat([gone, least]).to(frames.device)
    changed = torch.stack([replaced(frames, fill, both) for fill in fills])
    curves = scores_of(score, changed.flatten(0, 1)).reshape(len(fills), 2, steps + 1).mean(0)
    areas = torch.trapezoid(curves, dim=1) / steps
    return RemovalCurves(float(areas[0]), float(areas[1]))


def removed_first(order: Tensor, step: int, steps: int) -> Bool[Tensor, " time"]:
    """Mask of the units that are removed after some of all equal steps of an order."""
    gone = torch.zeros(len(order), dtype=torch.bool)
    gone[order[: round(step * len(order) / steps)].cpu()] = True
    return gone


NUM_PERTURBATIONS = 64
CHANGED = 0.5


@dataclass(frozen=True)
class Perturbations:
    """Effects of some changes of a clip on the score; comparable with any number of explanations.

    Args:
        changed: Which units each one replaced.
        effect: How much the score lost.
    """

    changed: Bool[Tensor, "perturbations time"]
    effect: Float64[Tensor, " perturbations"]


def perturb(
    score: Score,
    frames: Float[Tensor, "time channels"],
    fills: Float[Tensor, "fills time channels"],
    generator: torch.Generator,
    *,
    count: int = NUM_PERTURBATIONS,
) -> Perturbations:
    """Replace a random half of the units, again and again, and ask for the score.

    Always as many, so that how many they are tells nothing of what they do: attributions that are all alike
    would otherwise do well.

    Args:
        score: The explained score; called without gradients on a few inputs at a time.
        frames: The clip.
        fills: What stands for absence, in turn; two kinds at least.
        generator: Draws which units.
        count: How many perturbations.
    """
    ranks = torch.rand(count, len(frames), generator=generator).argsort(1).argsort(1)
    changed = ranks < round(CHANGED * len(frames))
    where = changed.to(frames.device)
    filled = torch.cat([replaced(frames, fill, where[i :: len(fills)]) for i, fill in enumerate(fills)])
    order = torch.cat([torch.arange(count)[i :: len(fills)] for i in range(len(fills))])
    scores = scores_of(score, torch.cat([frames[None], filled]))
    return Perturbations(changed[order], (scores[0] - scores[1:]).cpu())


def infidelity(values: Float[Tensor, " time"], perturbations: Perturbations) -> float:
    """`min_beta E[(beta I.phi - df)^2] / Var df`: the lower the better, 0 if every change is predicted.

    With `I` the replaced units and `df` what the score lost. Who knows but the mean of `df` comes to 1; as
    `beta I.phi` has no constant, more is possible. Source: Yeh et al. (2019), section 2.1; where we depart:
    the factor, and relative to the variance, so that neither the unit of the attributions nor that of the
    score counts. NaN where the score does not change.

    Args:
        values: Attributions of units.
        perturbations: What `perturb` found.
    """
    predicted = perturbations.changed.double() @ values.double().cpu()
    effect = perturbations.effect
    variance = float(effect.var(unbiased=False))
    if not variance > 0:
        return float("nan")
    square = float(predicted.square().mean())
    explained = float((predicted * effect).mean()) ** 2 / square if square > 0 else 0.0
    return max(0.0, float(effect.square().mean()) - explained) / variance


Logits = Callable[[Float[Tensor, "inputs time channels"]], Float[Tensor, "inputs classes"]]

KEPT = 0.3
SURE = 1e-12


@dataclass(frozen=True)
class MaskedSound:
    """Effect on the decision of keeping only the mask, and of removing only it.

    Of one clip; over clips, take means. With `p` the probability of the explained class, `p(m)` of the clip
    with only the mask kept, `p(-m)` with it removed:

    Args:
        increase: 1 if `p(m) > p`, else 0; its mean is the average increase (AI). The higher the better.
        drop: `max(0, p - p(m)) / p` (AD). The lower the better.
        gain: `max(0, p(m) - p) / (1 - p)` (AG). The higher the better.
        removal_drop: `p - p(-m)` (FF). The higher the better.
        fidelity: 1 if the predicted class is the same with only the mask kept, else 0 (Fid-In). The higher
            the better.
    """

    increase: float
    drop: float
    gain: float
    removal_drop: float
    fidelity: float


def masked_sound(
    logits_of: Logits,
    frames: Float[Tensor, "time channels"],
    kept: Bool[Tensor, " time"],
    fills: Float[Tensor, "fills time channels"],
    label: int,
) -> MaskedSound:
    """The five numbers of one clip, averaged over fills.

    Sources: Chattopadhay et al. (2018) for AI and AD, Zhang et al. (2024) for AG, Paissan, Ravanelli and
    Subakan (2024) for FF and Fid-In of sounds. Where we depart: what is not kept is filled, not multiplied by
    0.

    Args:
        logits_of: `(inputs, time, channels) -> (inputs, classes)`.
        frames: The clip.
        kept: The mask.
        fills: What stands for absence; two kinds at least.
        label: The explained class.
    """
    where = torch.stack([~kept, kept]).to(frames.device)
    changed = torch.cat([frames[None], *(replaced(frames, fill, where) for fill in fills)])
    with torch.no_grad():
        probabilities = logits_of(changed).double().softmax(1)
    whole, rest = probabilities[0], probabilities[1:].reshape(len(fills), 2, -1)
    each = [_compare(whole, only, without, label) for only, without in rest]
    return mean_of(each)


def mean_of(each: Sequence[MaskedSound]) -> MaskedSound:
    """The mean of each number."""
    return MaskedSound(**{name: fmean(getattr(one, name) for one in each) for name in vars(each[0])})


def top_share(values: Float[Tensor, " time"], share: float = KEPT) -> Bool[Tensor, " time"]:
    """The units with the largest attributions, so many for every explanation alike.

    >>> top_share(torch.tensor([1.0, 3.0, 2.0]), 0.5)
    tensor([False,  True,  True])
    """
    chosen = torch.zeros(len(values), dtype=torch.bool)
    count = max(1, ceil(share * len(values)))
    chosen[values.argsort(descending=True, stable=True)[:count].cpu()] = True
    return chosen


def _compare(whole: Tensor, only: Tensor, without: Tensor, label: int) -> MaskedSound:
    p, p_only, p_without = float(whole[label]), float(only[label]), float(without[label])
    return MaskedSound(
        increase=float(p_only > p),
        drop=max(0.0, p - p_only) / max(p, SURE),
        gain=max(0.0, p_only - p) / max(1 - p, SURE),
        removal_drop=p - p_without,
        fidelity=float(whole.argmax() == only.argmax()),
    )
