"""Probe clips: the few that are explained again and again while a model learns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.scores import Predictions

Why = Literal["class", "hardest", "wrong", "named"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A clip to watch.

    Args:
        position: Where it stands in its part of the split.
        why: One of its class, one of the hardest, one of the confidently wrong, or named by the user.
    """

    position: int
    why: Why


def choose_probes(
    predictions: Predictions, *, per_class: int, num_hardest: int, num_wrong: int, seed: int
) -> list[Probe]:
    """Some clips of each class by chance, then the hardest, then the confidently wrong; each clip once.

    Hardest are those with the highest loss, confidently wrong those with the highest probability of a
    class that is not theirs among the misclassified. Of equals the one that stands first is taken.

    Args:
        predictions: Of the part the probes are chosen from.
        per_class: How many of each class.
        num_hardest: How many of the hardest besides.
        num_wrong: How many of the confidently wrong besides.
        seed: Decides the chance.
    """
    labels = predictions.labels
    losses = F.cross_entropy(predictions.logits.double(), labels, reduction="none")
    certainty, predicted = predictions.logits.double().softmax(1).max(1)
    confidence = torch.where(predicted == labels, -torch.inf, certainty)
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    by_class = (
        [row for row in order if int(labels[row]) == label][:per_class]
        for label in sorted(set(labels.tolist()))
    )
    chosen: dict[int, Why] = dict.fromkeys((row for rows in by_class for row in rows), "class")
    chosen |= _next(losses.argsort(descending=True, stable=True).tolist(), num_hardest, chosen, "hardest")
    wrong = confidence.argsort(descending=True, stable=True)[: int((predicted != labels).sum())]
    chosen |= _next(wrong.tolist(), num_wrong, chosen, "wrong")
    return [Probe(int(predictions.positions[row]), why) for row, why in chosen.items()]


def find_probes(names: Sequence[str], clips: Sequence[Clip]) -> list[Probe]:
    """The clips that a user named.

    Args:
        names: Names of clips, names of files, or the last parts of their paths.
        clips: Those to choose from.

    Raises:
        SettingError: If there is no such clip, or several.
    """
    return [Probe(_find(name, clips), "named") for name in names]


def _next(order: Sequence[int], count: int, taken: Iterable[int], why: Why) -> dict[int, Why]:
    already = set(taken)
    return dict.fromkeys([row for row in order if row not in already][:count], why)


def _find(name: str, clips: Sequence[Clip]) -> int:
    found = [position for position, clip in enumerate(clips) if _is_called(clip, name)]
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(str(clips[position].path) for position in found[:3])
        raise SettingError(
            f"clips={name!r} is the name of {len(found)} clips ({paths}, ...); give more of its path"
        )
    example = clips[0].name if clips else "none"
    raise SettingError(
        f"clips={name!r} is none of the {len(clips)} clips of this part; give names such as {example!r}"
    )


def _is_called(clip: Clip, name: str) -> bool:
    path = clip.path.as_posix()
    return name in (clip.name, path) or path.endswith(f"/{name.lstrip('/')}")
