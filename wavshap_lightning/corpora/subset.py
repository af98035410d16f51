"""Subsets: some of the clips, with every class in its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError


def draw_stratified(clips: Sequence[Clip], num_clips: int, generator: np.random.Generator) -> list[Clip]:
    """Some of the clips, drawn without replacement within each class, in the order given.

    How many of each class, `allocate` says.

    Args:
        clips: Labelled clips.
        num_clips: How many; all of them where there are no more.
        generator: Decides which.

    Raises:
        SettingError: If `num_clips` is below the number of classes, or below one.
    """
    sizes = Counter(clip.label for clip in clips)
    if num_clips < max(1, len(sizes)):
        raise SettingError(
            f"max_samples={num_clips} must be at least 1, and at least the number of classes, {len(sizes)}"
        )
    if num_clips >= len(clips):
        return list(clips)
    chosen: set[int] = set()
    for label, quota in allocate(sizes, num_clips).items():
        members = [index for index, clip in enumerate(clips) if clip.label == label]
        chosen.update(generator.choice(members, size=quota, replace=False).tolist())
    return [clip for index, clip in enumerate(clips) if index in chosen]


def allocate(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide a total among classes: one each, and the rest in proportion to size, by largest remainders.

    Args:
        sizes: Clips of each class, none empty.
        total: Between the number of classes and the sum of the sizes.

    Returns:
        Clips to take of each class, in alphabetical order of the classes; they sum to `total`.

    >>> allocate({"happy": 90, "sad": 9, "neutral": 1}, 10)
    {'happy': 7, 'neutral': 1, 'sad': 2}
    """
    labels = sorted(sizes)
    free, spare = total - len(labels), sum(sizes.values()) - len(labels)
    if spare == 0:
        return dict.fromkeys(labels, 1)
    shares = {label: divmod(free * (sizes[label] - 1), spare) for label in labels}
    quotas = {label: 1 + whole for label, (whole, _) in shares.items()}
    leftover = total - sum(quotas.values())
    for label in sorted(labels, key=lambda name: (-shares[name][1], name))[:leftover]:
        quotas[label] += 1
    return quotas
