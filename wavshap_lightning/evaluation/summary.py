"""An explanation in a handful of numbers, and how much it depends on the family of baselines."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.evaluation.intervals import bootstrap_mean
from wavshap_lightning.evaluation.similarity import correlation, intraclass_correlation
from wavshap_lightning.evaluation.words import ENOUGH_CLIPS, spoken_shares
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.recording import AudioSource
from wavshap_lightning.explainer.settings import AUTO, FRAME_STAGES, PREDICTED, RECORDED_FAMILIES, STAGES


def magnitude_shares(values: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
    """Each unit's share of the sum of magnitudes; all 0 if the sum is 0.

    >>> magnitude_shares(torch.tensor([3.0, -1.0]))
    tensor([0.7500, 0.2500])
    """
    magnitudes = values.abs()
    return magnitudes / magnitudes.sum().clamp(min=torch.finfo(magnitudes.dtype).tiny)


def evenness(values: Float[Tensor, " units"]) -> float:
    """Normalized entropy of the shares of the attribution's magnitude.

    `-sum p log p / log n`: 1 if all shares are equal, 0 if one unit has everything. NaN for a single unit,
    or if all attributions are 0.

    >>> evenness(torch.tensor([2.0, -2.0])), evenness(torch.tensor([0.0, 1.0, 0.0]))
    (1.0, 0.0)
    """
    shares = magnitude_shares(values.double())
    if len(shares) < 2 or not shares.sum() > 0:
        return float("nan")
    return max(0.0, -float(torch.special.xlogy(shares, shares).sum()) / math.log(len(shares)))


def family_agreement(
    explainer: Explainer,
    clip: AudioSource,
    target: str = PREDICTED,
    *,
    families: Sequence[str] = ("noise", "spectral_noise", "time_shifted"),
    recordings: Sequence[AudioSource] = (),
) -> dict[tuple[str, str], float]:
    """Pearson's correlation of the frames' attributions for every two families of baselines.

    Close to 1: what the map shows does not depend on the choice. Much below: the families ask different
    questions, and the map has to be read together with its baseline.

    Args:
        explainer: The classifier, and all other settings.
        clip: A file, a clip of a corpus, a waveform, or an open recording.
        target: A label, `"predicted"` or a margin; a single target.
        families: Names of the families; by default those that need nothing but the clip.
        recordings: Baselines of the families that consist of recordings.

    Raises:
        SettingError: If a family is unknown.
        WavshapError: If the clip cannot be explained.
    """
    frames, stage = {}, next((one for one in STAGES if one in explainer.settings.stages), AUTO)
    for family in families:
        changed: dict[str, Any] = {"stages": (stage,), "segments": (), "baselines": family}
        other = Explainer(explainer.classifier, replace(explainer.settings, **changed))
        given = recordings if family in RECORDED_FAMILIES else ()
        found = other.explain(clip, target, recordings=given, check_baselines=False)
        frames[family] = found.values(found.time_stage or stage, "frames")
    return {pair: correlation(frames[pair[0]], frames[pair[1]]) for pair in combinations(frames, 2)}


def summarize(explanation: Explanation, target: str) -> dict[str, float]:
    """Numbers that summarize one target, by name.

    `probability` (of a class or label), `score` and `baseline_score` of the target; for each stage
    `gap/STAGE` (relative, before the correction) and `draws/STAGE`; of the frames `intraclass_correlation`,
    `certain` (share of the strongest that certainly are), `entropy` (1: spread evenly, 0: all in one) and
    `share/speech`, `share/pause`, `share/edges`, and, where the times of the words are known, `share/words`,
    `share/between_words` and `share/vowels`; of an explanation in cues `cues/pitch_level` and
    so on, its terms; of the layers `layers/00` and so on, shares of the
    magnitude, where that stage was explained.

    Args:
        explanation: The explanation.
        target: One of its targets, a label.
    """
    index = explanation.targets.index(target)
    chances = explanation.probabilities
    numbers = {"probability": chances[target]} if target in chances else {}
    numbers["score"] = explanation.score[target]
    for stage, found in explanation.attributions.items():
        if found.mean_baseline_score is not None:
            numbers["baseline_score"] = found.mean_baseline_score[index]
        if found.relative_gap is not None:
            numbers[f"gap/{stage}"] = found.relative_gap[index]
        numbers[f"draws/{stage}"] = float(found.num_draws)
    if explanation.time_stage is not None:
        frames = explanation.attributions[explanation.time_stage].views["frames"]
        numbers["entropy"] = evenness(frames.values[index])
        if frames.stderr is not None:
            numbers["intraclass_correlation"] = intraclass_correlation(
                frames.values[index], frames.stderr[index]
            )
        if (ranking := explanation.reliability(stage=explanation.time_stage, target=target)) is not None:
            numbers["certain"] = ranking.certain_share
    if explanation.time_stage in FRAME_STAGES:
        shares = explanation.shares(target=target) | spoken_shares(explanation, target)
        numbers |= {f"share/{name}": share for name, share in shares.items()}
    terms = explanation.cues["rows"] if explanation.cues.get("target") == target else {}
    numbers |= {f"cues/{name}": value for name, value in terms.items()}
    if "layers" in explanation.attributions:
        layers = magnitude_shares(explanation.values("layers", "layers", target)).tolist()
        numbers |= {f"layers/{layer:02d}": share for layer, share in enumerate(layers)}
    return numbers


def cue_profiles(clips: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean explanation in acoustic cues of the clips of each target: a row for each term.

    A row holds the `target` and its number of `clips`, the `cue`, the mean `value` with its 95 % interval
    (`low`, `high`; None for fewer than five clips), the kind of units `resampled` for it and their number
    `n`, the mean `difference` from the reference in the unit of the cue, and `strongest`, the share of the
    clips where this cue is the largest.

    Args:
        clips: Of each clip its `cues`, in plain JSON types, and its `speaker`, empty if unknown.
    """
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for clip in clips:
        groups[clip["cues"]["target"]].append(clip)
    return [row for target, group in groups.items() for row in _profile(target, group)]


def _profile(target: str, group: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    terms, speakers = [clip["cues"]["rows"] for clip in group], [clip["speaker"] for clip in group]
    units = [{one["cue"]: one["difference"] for one in clip["cues"]["cues"]} for clip in group]
    sizes = [{cue: abs(of[cue]) for cue in found} for found, of in zip(units, terms, strict=True)]
    largest = [max(of, key=of.__getitem__, default="") for of in sizes]
    about: dict[str, Any] = {"target": target, "clips": len(group)}
    for cue in dict.fromkeys(name for found in (*units, *terms) for name in found):
        mean = bootstrap_mean([found.get(cue, math.nan) for found in terms], speakers)
        differences = [found[cue] for found in units if cue in found]
        low, high = (mean.low, mean.high) if mean.num_clips >= ENOUGH_CLIPS else (None, None)
        row = {**about, "cue": cue, "value": mean.value, "low": low, "high": high}
        row |= {"resampled": mean.resampled, "n": mean.num_resampled, "difference": None, "strongest": None}
        if differences:
            row |= {"difference": fmean(differences), "strongest": largest.count(cue) / len(group)}
        yield row
