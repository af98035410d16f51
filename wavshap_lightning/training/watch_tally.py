"""The numbers of one epoch of explanations: rows for tables, means for curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import fmean, median
from typing import Any

from wavshap_lightning.training.class_layers import ClassLayers
from wavshap_lightning.training.shortcut import OffSpeech
from wavshap_lightning.training.watched import Found

AVERAGED = ("gap/", "reliability", "entropy", "share/", "drift/", "comprehensiveness", "sufficiency")
"""What of a clip's numbers becomes a curve: the mean over clips, of gaps the median."""


@dataclass
class Tally:
    """What has come in so far.

    Args:
        clip_rows: One for each clip and target.
        class_rows: One for each class.
        alarm: Whether the shortcut alarm goes off; None before it was asked.
    """

    clip_rows: list[dict[str, Any]] = field(default_factory=list)
    class_rows: list[dict[str, Any]] = field(default_factory=list)
    alarm: bool | None = None
    _of_classes: dict[str, float] = field(default_factory=dict)
    _of_clips: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _off_speech: dict[str, list[OffSpeech]] = field(default_factory=lambda: defaultdict(list))

    @property
    def off_speech(self) -> dict[str, OffSpeech]:
        """By label, how much lies in pauses and at edges, on average over its clips."""
        return {
            label: OffSpeech(fmean(one.share for one in clips), fmean(one.even for one in clips))
            for label, clips in self._off_speech.items()
        }

    def add_clip(self, found: Found) -> None:
        """Take in a clip; curves are of the scores of labels."""
        self.clip_rows += found.rows()
        for name, value in found.numbers[found.label].items():
            if name.startswith(AVERAGED) and isfinite(value):
                self._of_clips[name].append(value)
        off_speech = found.off_speech
        if off_speech is not None:
            self._off_speech[found.label].append(off_speech)

    def add_class(self, found: ClassLayers, *, mixed: bool) -> None:
        """Take in a class.

        Args:
            found: Its layers.
            mixed: Whether the head uses several, so that shares say something.
        """
        shares = {f"layers/{layer:02d}": share for layer, share in enumerate(found.shares.tolist())}
        neurons = " ".join(f"{layer}:{neuron}:{value:+.4g}" for layer, neuron, value in found.neurons)
        row = {"scope": "class", "label": found.label, "clips": found.num_clips, "neurons": neurons}
        self.class_rows.append({**row, "layer_entropy": found.entropy, **shares})
        if mixed:
            self._of_classes[f"layer_entropy/{found.label}"] = found.entropy
            self._of_classes |= {f"{name}/{found.label}": share for name, share in shares.items()}

    def scalars(self) -> dict[str, float]:
        """For curves; what is not a number is left out."""
        found = {**self._of_classes, **self._means()}
        return {name: value for name, value in found.items() if isfinite(value)}

    def rows(self) -> list[Mapping[str, Any]]:
        """For the table of the run."""
        means = self._means()
        return [*self.clip_rows, *self.class_rows, *([{"scope": "epoch", **means}] if means else [])]

    def _means(self) -> dict[str, float]:
        means = {name: _average(name, values) for name, values in self._of_clips.items()}
        return means if self.alarm is None else {**means, "shortcut_alarm": float(self.alarm)}


def _average(name: str, values: Sequence[float]) -> float:
    return median(values) if name.startswith("gap/") else fmean(values)
