"""The explanation of one clip: what was found on each path, and what it was found in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from math import isfinite
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wavshap_lightning.attribution.record import (
    Attribution,
    Parts,
    ViewEstimate,
    from_json,
    read_record,
    write_record,
)
from wavshap_lightning.attribution.views.frames import Sign, top
from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.targets import PREDICTED, target_names
from wavshap_lightning.explainer.time_grid import TimeGrid

NUM_MOMENTS = 5

Reduction = Literal["mean", "sum", "max"]
"""Numbers that may stand for all frames."""
TIME_STAGES = ("frames", "waveform")
"""Stages whose attributions tell when, in order of preference."""


def to_html(explanation: Explanation) -> str:
    """A sentence on the decision and a table of the strongest moments and the strongest layer.

    Names are escaped: a clip or a label may be called anything.
    """
    target = explanation.targets[0] if len(explanation.targets) == 1 else explanation.prediction
    prediction = explanation.prediction
    name = PurePath(explanation.clip).name or "A waveform"
    gaps = [gap for gap in explanation.relative_gap(target).values() if gap is not None]
    sentence = (
        f"<b>{escape(name)}</b>, {explanation.duration_s:.2f} s: predicted <b>{escape(prediction)}</b> "
        f"({explanation.probabilities[prediction]:.0%}). What speaks for <b>{escape(target)}</b> and "
        f"against it (score {explanation.score[target]:+.3f}{f', gap {max(gaps):.1%}' if gaps else ''}):"
    )
    rows = "".join(_row(*cells) for cells in _rows(explanation, target))
    return f"<div><p>{sentence}</p><table>{rows}</table></div>"


def _rows(explanation: Explanation, target: str) -> Iterable[tuple[str, float, float | None]]:
    path = explanation.time_stage
    if path is not None:
        for one in explanation.top_frames(NUM_MOMENTS, stage=path, target=target):
            yield f"{one.start_s:.2f} to {one.end_s:.2f} s", one.attribution, one.half_width
    if "layers" in explanation.attributions:
        for top in explanation.top_layers(1, target=target):
            yield f"layer {top.layer}", top.attribution, top.half_width


def _row(what: str, value: float, half_width: float | None) -> str:
    interval = "" if half_width is None else f"&plusmn; {half_width:.3f}"
    return f"<tr><td>{escape(what)}</td><td>{value:+.3f}</td><td>{interval}</td></tr>"


class FrameRank(NamedTuple):
    """A frame.

    Args:
        start_s: Where what it hears begins, in seconds.
        end_s: Where that ends.
        attribution: Its attribution.
        half_width: Half the width of its 95 % interval; None where no error is known.
    """

    start_s: float
    end_s: float
    attribution: float
    half_width: float | None


class LayerRank(NamedTuple):
    """A layer; 0 is the projected frames. The rest as in [`FrameRank`][]."""

    layer: int
    attribution: float
    half_width: float | None


class NeuronRank(NamedTuple):
    """A neuron of a layer. The rest as in [`FrameRank`][]."""

    neuron: int
    attribution: float
    half_width: float | None


PAUSE_BELOW_DB = 35.0
"""A frame this much quieter than the loudest is a pause."""


def attribution_shares(
    values: Float[Tensor, " frames"], level_db: Float[Tensor, " frames"]
) -> dict[str, float]:
    """Shares of the attributions' magnitude in speech, pauses and edges; they sum to one.

    Args:
        values: The attribution of each frame.
        level_db: How loud each is. A frame 35 dB below the loudest is a pause, and an edge before the first
            or after the last frame of speech.

    >>> import torch
    >>> attribution_shares(torch.tensor([1.0, 2.0, -1.0, 4.0]), torch.tensor([-90.0, -20.0, -80.0, -25.0]))
    {'speech': 0.75, 'pause': 0.125, 'edges': 0.125}
    """
    speech = level_db > level_db.max() - PAUSE_BELOW_DB
    between = speech.cummax(0).values & speech.flip(0).cummax(0).values.flip(0)
    return {
        "speech": _share(values, speech),
        "pause": _share(values, between & ~speech),
        "edges": _share(values, ~between),
    }


def _share(values: Float[Tensor, " frames"], inside: Bool[Tensor, " frames"]) -> float:
    whole = float(values.abs().sum())
    return float(values[inside].abs().sum()) / whole if whole else 0.0


FORMAT = 1
PLAIN_FIELDS = (
    "logits",
    "clip",
    "clip_sha256",
    "clip_start_s",
    "clip_end_s",
    "sample_rate",
    "num_samples",
    "labels",
    "band_edges_hz",
)


def pack(fields: Mapping[str, Any]) -> Parts:
    """Plain JSON types, and tensors by name.

    Args:
        fields: Of an explanation, by name.
    """
    parts = {path: found.to_parts() for path, found in fields["attributions"].items()}
    tensors = {f"{path}/{name}": t for path, (_, held) in parts.items() for name, t in held.items()}
    header = {
        "format": FORMAT,
        **{name: fields[name] for name in PLAIN_FIELDS},
        "settings": fields["settings"].to_dict(),
        "times": {path: asdict(times) for path, times in fields["times"].items()},
        "attributions": [[path, plain] for path, (plain, _) in parts.items()],
    }
    return header, {**tensors, "frame_level_db": fields["frame_level_db"]}


def unpack(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields that `pack` was given.

    Raises:
        KeyError: If something is missing.
        ValueError: If it is of another format.
    """
    if header["format"] != FORMAT:
        raise ValueError(f"format={header['format']}, this version reads format={FORMAT}")
    attributions = {
        path: Attribution.from_parts(held, _below(path, tensors)) for path, held in header["attributions"]
    }
    return {
        **{name: from_json(header[name]) for name in PLAIN_FIELDS},
        "attributions": attributions,
        "settings": ExplainSettings.from_dict(header["settings"]),
        "times": {path: TimeGrid(**times) for path, times in header["times"].items()},
        "frame_level_db": tensors["frame_level_db"],
    }


def _below(path: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{path}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


UNITS_WITH_ONE_AXIS = (
    ("waveform", "waveform", "frames"),
    ("waveform", "bands", "bands"),
    ("waveform", "segments", "segments"),
    ("frames", "frames", "frames"),
    ("frames", "segments", "segments"),
    ("layers", "layers", "layers"),
)
"""Path, name among plain numbers, view; of two with one name the later stands."""


def plain_view(view: ViewEstimate, target: int) -> dict[str, list[float] | list[float | None] | None]:
    """Attributions of one target, their standard errors, and half the widths of their 95 % intervals.

    An error of which nothing is known yet is None.
    """
    plain: dict[str, list[float] | list[float | None] | None]
    plain = {"attribution": view.values[target].tolist(), "stderr": None, "half_width": None}
    if view.stderr is not None:
        plain["stderr"] = [_known(error) for error in view.stderr[target].tolist()]
        plain["half_width"] = [_known(half) for half in view.half_width()[target].tolist()]
    return plain


def _known(error: float) -> float | None:
    return error if isfinite(error) else None


def plain_path(found: Attribution, target: int) -> dict[str, Any]:
    """How one path was taken and what it came to for one target."""
    return {
        "method": found.method,
        "estimand": found.estimand,
        "num_draws": found.num_draws,
        "seed": found.seed,
        "baseline_score": _of(found.mean_baseline_score, target),
        "attribution_sum": float(found.sums(next(iter(found.views)))[target]),
        "gap": _of(found.gap, target),
        "relative_gap": _of(found.relative_gap, target),
        "resolved": found.resolved,
        "draws_needed": found.draws_needed,
        "settings": dict(found.settings),
    }


def plain_times(times: TimeGrid) -> dict[str, list[float]]:
    """Beginnings and ends in seconds."""
    return {"start_s": times.start_s().tolist(), "end_s": times.end_s().tolist()}


def plain_units(
    attributions: Mapping[str, Attribution],
    target: int,
    times: Mapping[str, TimeGrid],
    band_edges_hz: Sequence[float],
    segments: Sequence[Sequence[float]],
) -> dict[str, Any]:
    """What has one axis; the maps, layers by frames and the like, are for arrays."""
    plain: dict[str, Any] = {}
    for path, name, view in UNITS_WITH_ONE_AXIS:
        if path in attributions and view in attributions[path].views:
            plain[name] = plain_view(attributions[path].views[view], target)
    for name in plain.keys() & {"frames", "waveform"}:
        plain[name] |= plain_times(times[name])
    if "bands" in plain:
        plain["bands"] |= {"low_hz": list(band_edges_hz[:-1]), "high_hz": list(band_edges_hz[1:])}
    if "segments" in plain:
        plain["segments"]["span_s"] = [*map(list, segments), None]
    return plain


def _of(values: tuple[float, ...] | None, target: int) -> float | None:
    return None if values is None else values[target]


METADATA_KEY = "explanation"


@dataclass(frozen=True)
class Explanation:
    """What `explain` found in one clip.

    Attributions lie in `attributions[stage].views[name].values`, `(targets, *units)`, with their standard
    errors beside them:

    | stage | units |
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
            f"stages={(*self.attributions,)}, resolved={self.resolved})"
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

    @property
    def time_stage(self) -> str | None:
        """The stage whose attributions tell when: `"frames"` if there, else `"waveform"`, else None."""
        return next((stage for stage in TIME_STAGES if stage in self.attributions), None)

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

    def values(self, stage: str, view: str, target: str | None = None) -> Float[Tensor, " *units"]:
        """The attributions of one view to one target.

        Args:
            stage: The stage at whose input the path begins.
            view: Which kind of units.
            target: One of `targets`; None for the only one, or the prediction; `"predicted"` for the latter.

        Raises:
            AttributionError: If there is no such stage, view or target; the message says what there is.
        """
        return self._view(stage, view).values[self._target_index(target)]

    def half_widths(
        self, stage: str, view: str, target: str | None = None
    ) -> Float[Tensor, " *units"] | None:
        """Half the widths of the 95 % intervals that go with `values`; None for methods without an error."""
        found = self._view(stage, view)
        return None if found.stderr is None else found.half_width()[self._target_index(target)]

    def top_frames(
        self,
        k: int = 5,
        *,
        stage: str = "frames",
        layer: int | None = None,
        sign: Sign = "any",
        target: str | None = None,
    ) -> list[FrameRank]:
        """The frames that matter most, the strongest first.

        Args:
            k: How many at most.
            stage: `"frames"` or `"waveform"`.
            layer: A layer whose frames are meant instead.
            sign: Whether both signs count, only what speaks for the target, or only what speaks against it.
            target: As in `values`.

        Raises:
            AttributionError: As in `values`, or if `k`, `layer` or `sign` is out of range.
        """
        stage = stage if layer is None else "layers"
        ranked = self._top(
            stage, "frames" if layer is None else "layer_frame", k, sign, target=target, layer=layer
        )
        starts_s, ends_s = self.times[stage].start_s(), self.times[stage].end_s()
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
            largest = self.values("layers", f"layer_{layer}", target).amax(0)
            return [
                NeuronRank(neuron, float(largest[neuron]), None) for (neuron,) in top(largest, k, sign=sign)
            ]
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
        [`attribution_shares`][wavshap_lightning.explainer.explanation.attribution_shares].
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
            "stages": {path: plain_path(found, index) for path, found in self.attributions.items()},
        }
        plain |= plain_units(self.attributions, index, self.times, self.band_edges_hz, self.settings.segments)
        return plain | ({"shares": self.shares(target=target)} if "frames" in self.attributions else {})

    def _top(
        self, stage: str, view: str, k: int, sign: Sign, *, target: str | None, layer: int | None = None
    ) -> list[tuple[int, float, float | None]]:
        """Place, attribution and half-width of the strongest units, of one layer if there is one."""
        values, half_widths = self.values(stage, view, target), self.half_widths(stage, view, target)
        if layer is not None:
            if not 0 <= layer < len(values):
                raise AttributionError(f"layer={layer} does not exist; use 0 to {len(values) - 1}")
            values, half_widths = values[layer], None if half_widths is None else half_widths[layer]
        return [
            (place, float(values[place]), None if half_widths is None else float(half_widths[place]))
            for (place,) in top(values, k, sign=sign)
        ]

    def _view(self, stage: str, view: str) -> ViewEstimate:
        if stage not in self.attributions:
            raise AttributionError(
                f"stage={stage!r} was not taken; this explanation has {', '.join(self.attributions)}. "
                "Explain the clip again with it among stages=[...]"
            )
        views = self.attributions[stage].views
        if view not in views:
            raise AttributionError(f"view={view!r} is not there; stage={stage!r} has {', '.join(views)}")
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
