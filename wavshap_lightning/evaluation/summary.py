"""One explanation in a handful of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.stability import correlation, reliability
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.recording import AudioSource
from wavshap_lightning.explainer.settings import PREDICTED, RECORDED_FAMILIES, ExplainSettings


def magnitude_shares(values: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
    """Each unit's share of the sum of magnitudes; all 0 where there is none.

    >>> magnitude_shares(torch.tensor([3.0, -1.0]))
    tensor([0.7500, 0.2500])
    """
    magnitudes = values.abs()
    return magnitudes / magnitudes.sum().clamp(min=torch.finfo(magnitudes.dtype).tiny)


def evenness(values: Float[Tensor, " units"]) -> float:
    """Entropy of the shares, relative to the largest there can be.

    `-sum p log p / log n`: 1 where all units count the same, 0 where one has all. NaN for a single unit, or
    where nothing is attributed.

    >>> evenness(torch.tensor([2.0, -2.0])), evenness(torch.tensor([0.0, 1.0, 0.0]))
    (1.0, 0.0)
    """
    shares = magnitude_shares(values.double())
    if len(shares) < 2 or not shares.sum() > 0:
        return float("nan")
    return max(0.0, -float(torch.special.xlogy(shares, shares).sum()) / math.log(len(shares)))


DRAWN_FAMILIES = ("noise", "spectral_noise", "time_shifted")
"""Those that need nothing but the clip."""


def explain_by_family(
    explainer: Explainer,
    clip: AudioSource,
    target: str = PREDICTED,
    *,
    families: Sequence[str] = DRAWN_FAMILIES,
    recordings: Sequence[AudioSource] = (),
) -> dict[str, Explanation]:
    """One clip, explained against each of several families of baselines.

    Args:
        explainer: The classifier, and all other settings.
        clip: A file, a clip of a corpus, a waveform, or an open recording.
        target: A label, `"predicted"` or a margin; a single target.
        families: Names of at least two families.
        recordings: Baselines of the families that consist of recordings.

    Raises:
        SettingError: If there are fewer than two, or one is unknown.
        WavshapError: If the clip cannot be explained.
    """
    if len({*families}) < 2:
        raise SettingError(f"families={list(families)} must name two different families at least")
    found = {}
    for family in families:
        settings = ExplainSettings.from_dict({**explainer.settings.to_dict(), "baselines": family})
        one = Explainer(explainer.classifier, settings)
        given = recordings if family in RECORDED_FAMILIES else ()
        found[family] = one.explain(clip, target, recordings=given, check_baselines=False)
    return found


def family_agreement(explanations: Mapping[str, Explanation]) -> dict[tuple[str, str], float]:
    """Pearson's correlation of the frames' attributions, for every two families.

    Close to 1: what the map shows does not depend on the choice. Much below: the families ask different
    questions, and the map has to be read together with its baseline.

    Args:
        explanations: Of one clip and one target, by family; each with a path that says when.

    Raises:
        SettingError: If one does not say when.
    """
    frames = {}
    for family, one in explanations.items():
        path = one.time_stage
        if path is None:
            raise SettingError(
                f"{family!r} was explained along {', '.join(one.attributions)}, which does not say when; "
                "explain with 'frames' or 'waveform' among stages"
            )
        frames[family] = one.values(path, "frames")
    return {pair: correlation(frames[pair[0]], frames[pair[1]]) for pair in combinations(frames, 2)}


def summarize(explanation: Explanation, target: str) -> dict[str, float]:
    """Numbers that summarize one target, by name.

    `probability`, `score` and `baseline_score` of the target; for each path `gap/PATH` (relative, before the
    correction) and `draws/PATH`; of the frames `reliability`, `entropy` (1: spread evenly, 0: all in one) and
    `share/speech`, `share/pause`, `share/edges`; of the layers `layers/00` and so on, shares of the
    magnitude, where that path was taken.

    Args:
        explanation: Which.
        target: One of its targets, a label.
    """
    index = explanation.targets.index(target)
    numbers = {"probability": explanation.probabilities[target], "score": explanation.score[target]}
    for path, found in explanation.attributions.items():
        if found.mean_baseline_score is not None:
            numbers["baseline_score"] = found.mean_baseline_score[index]
        if found.relative_gap is not None:
            numbers[f"gap/{path}"] = found.relative_gap[index]
        numbers[f"draws/{path}"] = float(found.num_draws)
    return numbers | _of_frames(explanation, target) | _of_layers(explanation, target)


def _of_frames(explanation: Explanation, target: str) -> dict[str, float]:
    path = explanation.time_stage
    if path is None:
        return {}
    values = explanation.values(path, "frames", target)
    stderr = explanation.attributions[path].views["frames"].stderr
    numbers = {"entropy": evenness(values)}
    if stderr is not None:
        numbers["reliability"] = reliability(values, stderr[explanation.targets.index(target)])
    if path == "frames":
        numbers |= {f"share/{where}": share for where, share in explanation.shares(target=target).items()}
    return numbers


def _of_layers(explanation: Explanation, target: str) -> dict[str, float]:
    if "layers" not in explanation.attributions:
        return {}
    shares = magnitude_shares(explanation.values("layers", "layers", target)).tolist()
    return {f"layers/{layer:02d}": share for layer, share in enumerate(shares)}
