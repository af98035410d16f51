"""The explanation of one clip: what was found on each path, and what it was found in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.aggregate import Reduction, Sign, over_frames, top
from wavshap_lightning.attribution.outcome import ViewEstimate
from wavshap_lightning.attribution.record import Attribution, Parts, read_record, write_record
from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.grids import TimeGrid
from wavshap_lightning.explainer.notebook import to_html
from wavshap_lightning.explainer.plain import plain_path, plain_units
from wavshap_lightning.explainer.ranking import FrameRank, LayerRank, NeuronRank
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.shares import attribution_shares
from wavshap_lightning.explainer.storage import pack, unpack
from wavshap_lightning.explainer.targets import PREDICTED, target_names

METADATA_KEY = "explanation"


@dataclass(frozen=True)
class Explanation:
    """What `explain` found in one clip.

    Attributions lie in `attributions[path].views[name].values`, `(targets, *units)`, with their standard
    errors beside them:

    | path | units |
    |---|---|
    | `"frames"` | `frames` |
    | `"layers"` | `layers`, `layer_frame`, `layer_neuron` |
    | `"waveform"` | `frames` (spans as long as the backbone's hop), `bands`, `band_frame` |

    Where segments were asked for, the first and the last have `segments`: one more than these, for what lies
    elsewhere. Where layer 3 was asked for in full, the second has `layer_3`, its frames by neurons.
    Apart from that one, all kinds of units have the same sum: `score - mean_baseline_score`.

    Args:
        attributions: A record for each path.
        labels: The classes, in the order of the logits.
        logits: The classifier's.
        clip: The clip's file; empty if it came as numbers.
        clip_sha256: Digest of the file's bytes, or of the numbers.
        sample_rate: Samples per second of the waveform.
        num_samples: Its length.
        times: Where the frames of the path lie, by path.
        band_edges_hz: Edges of the bands, one more than there are; empty without them.
        frame_level_db: How loud each frame is, relative to full scale.
        settings: How it was explained.
        clip_start_s: Where in its file the clip begins, in seconds; None for the start.
        clip_end_s: Where in its file it ends; None for the end.
    """

    attributions: Mapping[str, Attribution]
    labels: tuple[str, ...]
    logits: tuple[float, ...]
    clip: str
    clip_sha256: str
    sample_rate: int
    num_samples: int
    times: Mapping[str, TimeGrid]
    band_edges_hz: tuple[float, ...]
    frame_level_db: Float[Tensor, " frames"]
    settings: ExplainSettings
    clip_start_s: float | None = None
    clip_end_s: float | None = None

    def __repr__(self) -> str:
        """One line; the numbers are asked for by name."""
        share = self.probabilities[self.prediction]
        return (
            f"Explanation(clip={self.clip!r}, duration_s={self.duration_s:.3f}, "
            f"prediction={self.prediction!r} ({share:.0%}), targets={self.targets}, "
            f"paths={(*self.attributions,)}, resolved={self.resolved})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: a sentence, and a small table."""
        return to_html(self)

    @property
    def duration_s(self) -> float:
        """How long the clip is, in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each class."""
        values = torch.tensor(self.logits, dtype=torch.float64).softmax(0).tolist()
        return dict(zip(self.labels, values, strict=True))

    @property
    def prediction(self) -> str:
        """The class with the largest logit."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def targets(self) -> tuple[str, ...]:
        """What is explained: labels, or a margin."""
        return target_names(self._any.target, self.labels)

    @property
    def score(self) -> dict[str, float]:
        """The clip's score for each target."""
        return dict(zip(self.targets, self._any.score, strict=True))

    @property
    def resolved(self) -> bool:
        """Whether every path reached the tolerance; true where none was asked for."""
        return all(found.resolved for found in self.attributions.values())

    def relative_gap(self, target: str | None = None) -> dict[str, float | None]:
        """What was missing to completeness on each path before the correction, relative to what is explained.

        That is `score - mean_baseline_score`, or the scatter of the baselines' scores where it is larger.
        Much of it says that more draws are needed. None for methods that do not claim completeness.
        """
        index = self._target_index(target)
        gaps = {path: found.relative_gap for path, found in self.attributions.items()}
        return {path: None if gap is None else gap[index] for path, gap in gaps.items()}

    @property
    def _any(self) -> Attribution:
        return next(iter(self.attributions.values()))

    def values(self, path: str, view: str, target: str | None = None) -> Float[Tensor, " *units"]:
        """The attributions of one view to one target.

        Args:
            path: Which path.
            view: Which kind of units.
            target: One of `targets`; None for the only one, or the prediction; `"predicted"` for the latter.

        Raises:
            AttributionError: If there is no such path, view or target; the message says what there is.
        """
        return self._view(path, view).values[self._target_index(target)]

    def half_widths(self, path: str, view: str, target: str | None = None) -> Float[Tensor, " *units"] | None:
        """Half the widths of the 95 % intervals that go with `values`; None for methods without an error."""
        found = self._view(path, view)
        return None if found.stderr is None else found.half_width()[self._target_index(target)]

    def top_frames(
        self,
        k: int = 5,
        *,
        path: str = "frames",
        layer: int | None = None,
        sign: Sign = "any",
        target: str | None = None,
    ) -> list[FrameRank]:
        """The frames that matter most, the strongest first.

        Args:
            k: How many at most.
            path: `"frames"` or `"waveform"`.
            layer: A layer whose frames are meant instead.
            sign: Whether both signs count, only what speaks for the target, or only what speaks against it.
            target: As in `values`.

        Raises:
            AttributionError: As in `values`, or if `k`, `layer` or `sign` is out of range.
        """
        path = path if layer is None else "layers"
        ranked = self._top(
            path, "frames" if layer is None else "layer_frame", k, sign, target=target, layer=layer
        )
        starts_s, ends_s = self.times[path].start_s(), self.times[path].end_s()
        return [FrameRank(float(starts_s[i]), float(ends_s[i]), value, half) for i, value, half in ranked]

    def top_layers(self, k: int = 5, *, sign: Sign = "any", target: str | None = None) -> list[LayerRank]:
        """The layers that matter most; arguments and errors as in `top_frames`."""
        return [LayerRank(*found) for found in self._top("layers", "layers", k, sign, target=target)]

    def top_neurons(
        self,
        layer: int,
        k: int = 5,
        *,
        by: Reduction = "sum",
        sign: Sign = "any",
        target: str | None = None,
    ) -> list[NeuronRank]:
        """The neurons of a layer that matter most.

        Args:
            layer: Which layer; 0 is the projected frames.
            k: As in `top_frames`, like `sign` and `target`.
            by: Which number stands for all frames: the sum of their attributions, the mean, or the largest;
                the last has no error and needs the layer stated in full (`ExplainSettings.layer`).
            sign: See there.
            target: See there.

        Raises:
            AttributionError: As in `top_frames`, if `by` is none of these, or the layer not stated in full.
        """
        if by not in get_args(Reduction):
            raise AttributionError(f"by={by!r} must be one of {', '.join(get_args(Reduction))}")
        if by == "max":
            largest = over_frames(self.values("layers", f"layer_{layer}", target), by, axis=0)
            return [NeuronRank(unit.index[0], unit.value, None) for unit in top(largest, k, sign=sign)]
        count = self.times["layers"].count if by == "mean" else 1
        return [
            NeuronRank(neuron, value / count, None if half is None else half / count)
            for neuron, value, half in self._top(
                "layers", "layer_neuron", k, sign, target=target, layer=layer
            )
        ]

    def shares(self, *, target: str | None = None) -> dict[str, float]:
        """How much of the attribution's magnitude, over frames, lies in speech, in pauses and at the edges.

        Where an explanation dwells on edges or pauses, the classifier may have learned the recordings
        instead of the voices. See
        [`attribution_shares`][wavshap_lightning.explainer.shares.attribution_shares].
        """
        return attribution_shares(self.values("frames", "frames", target), self.frame_level_db)

    def to_dict(self, *, target: str | None = None) -> dict[str, Any]:
        """The explanation of one target in plain JSON types."""
        index = self._target_index(target)
        plain: dict[str, Any] = {
            "clip": self.clip,
            "sha256": self.clip_sha256,
            "start_s": self.clip_start_s,
            "end_s": self.clip_end_s,
            "sample_rate": self.sample_rate,
            "duration_s": self.duration_s,
            "labels": list(self.labels),
            "probabilities": self.probabilities,
            "prediction": self.prediction,
            "target": self.targets[index],
            "score": self._any.score[index],
            "settings": self.settings.to_dict(),
            "paths": {path: plain_path(found, index) for path, found in self.attributions.items()},
        }
        plain |= plain_units(self.attributions, index, self.times, self.band_edges_hz, self.settings.segments)
        return plain | ({"shares": self.shares(target=target)} if "frames" in self.attributions else {})

    def _top(
        self, path: str, view: str, k: int, sign: Sign, *, target: str | None, layer: int | None = None
    ) -> list[tuple[int, float, float | None]]:
        """Place, attribution and half-width of the strongest units, of one layer if there is one."""
        values, half_widths = self.values(path, view, target), self.half_widths(path, view, target)
        if layer is not None:
            if not 0 <= layer < len(values):
                raise AttributionError(f"layer={layer} does not exist; use 0 to {len(values) - 1}")
            values, half_widths = values[layer], None if half_widths is None else half_widths[layer]
        ranked = top(values, k, stderr=half_widths, sign=sign)
        return [(unit.index[0], unit.value, unit.stderr) for unit in ranked]

    def _view(self, path: str, view: str) -> ViewEstimate:
        if path not in self.attributions:
            raise AttributionError(
                f"path={path!r} was not taken; this explanation has {', '.join(self.attributions)}. Explain "
                f"the clip again with it among views=[...]"
            )
        views = self.attributions[path].views
        if view not in views:
            raise AttributionError(f"view={view!r} is not there; path={path!r} has {', '.join(views)}")
        return views[view]

    def _target_index(self, target: str | None) -> int:
        names = self.targets
        asked = self.prediction if target == PREDICTED and PREDICTED not in names else target
        wanted = asked or (names[0] if len(names) == 1 else self.prediction)
        if wanted not in names:
            raise AttributionError(f"target={wanted!r} was not explained; use one of {', '.join(names)}")
        return names.index(wanted)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, all of it or nothing; the same explanation gives the same bytes.

        Raises:
            OSError: If the disk refuses.
        """
        write_record(Path(path), METADATA_KEY, self._to_parts())

    @classmethod
    def load(cls, path: str | Path) -> Explanation:
        """Read what `save` wrote.

        Raises:
            AttributionError: If the file is missing, damaged, or not an explanation.
        """
        return read_record(Path(path), METADATA_KEY, cls._from_parts)

    def _to_parts(self) -> Parts:
        return pack(vars(self))

    @classmethod
    def _from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Explanation:
        return cls(**unpack(header, tensors))
