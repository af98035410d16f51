"""The explanation of one clip: attributions of each stage, and what they were found in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.reliability import Reliability, measure_reliability
from wavshap_lightning.attribution.views.frames import Sign, top
from wavshap_lightning.audio.segments import Segment
from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.diagnostics import Diagnostic, attribution_shares
from wavshap_lightning.explainer.files import SavedClip, format_of, read_explanation, write_explanation
from wavshap_lightning.explainer.settings import FRAME_STAGES, PREDICTED, STAGES, ExplainSettings
from wavshap_lightning.explainer.targets import target_names
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.models.head import Task, logits_to_outputs

Units = Float[Tensor, "*units"]

# Columns of a table that say where a unit lies, and those that say how much is attributed to it.
POSITIONS = ("text", "start_s", "end_s", "low_hz", "high_hz", "confidence")
NUMBERS = ("attribution", "stderr", "half_width")

# Name among the arrays, view, and the stages of which the first that was explained has it.
MAPS = (
    ("frame_attribution", "frames", FRAME_STAGES),
    ("layer_frame", "layer_frame", ("layers",)),
    ("layer_neuron", "layer_neuron", ("layers",)),
    ("band_frame", "band_frame", ("waveform",)),
)

# The same for names among the numbers.
UNITS_WITH_ONE_AXIS = (
    ("frames", "frames", FRAME_STAGES),
    ("waveform", "frames", ("waveform",)),
    ("bands", "bands", ("waveform",)),
    ("layers", "layers", ("layers",)),
    ("words", "words", STAGES),
    ("phones", "phones", STAGES),
)


@dataclass(frozen=True)
class Explanation:
    """Explanation of one clip, for one target or several.

    Attributions are in `attributions[stage].views[name].values`, with shape `(targets, *units)`, and their
    standard errors in `stderr` of the same view:

    | stage | views |
    |---|---|
    | `"frames"` | `frames` |
    | `"layers"` | `frames`, `layers`, `layer_frame`, `layer_neuron` |
    | `"waveform"` | `frames` (spans as long as the backbone's hop), `bands`, `band_frame` |

    With `segments` in the settings, all also have the view `segments`, and with `tiers` of the recording
    `words` and `phones`, pauses among them; the last unit of each is the rest of the clip. With
    `layer=3`, `"layers"` also has `layer_3`, frames by neurons. All views except that one have the same sum:
    `score - mean_baseline_score`.

    Args:
        attributions: Attributions by stage.
        labels: Names of the outputs, in their order: classes, labels or dimensions.
        logits: Outputs of the classifier: logits, or values of dimensions.
        clip: File of the clip; empty if a waveform was given.
        clip_sha256: Digest of the file's bytes, or of the waveform.
        sample_rate: Samples per second of the waveform.
        num_samples: Samples of the waveform.
        times: Position of the frames in time, by stage, and of the columns of `band_frame` as `"stft"`.
        band_edges_hz: Edges of the bands, one more than there are bands; empty without them.
        frame_level_db: Level of each frame, in dB relative to full scale, without those of silence that the
            model adds to the clip.
        settings: Settings of the explanation.
        clip_start_s: Start of the clip in its file, in seconds; None for the file's start.
        clip_end_s: End of the clip in its file, in seconds; None for the file's end.
        diagnostics: Reasons for doubt, by target.
        reasons: Reasons for settings that were chosen where `"auto"` was given, by name.
        baseline_checks: Numbers behind the diagnostics of the baselines; None where they were not checked.
        task: Meaning of the outputs.
        agreement: Agreement with other classifiers about the strongest frames for the default target, as from
            [`agreement_of`][wavshap_lightning.explainer.compare.agreement_of]; None without others.
        scale: Lowest and highest value of dimensions; None if unknown.
        votes: Votes of the annotators by label; empty if unknown.
        annotated_values: Annotated values by dimension; empty if unknown.
        tiers: Words and phones with their times in the clip, pauses among them; empty if unknown.
        cues: Explanation in acoustic cues, as from
            [`CueExplanation.to_dict`][wavshap_lightning.explainer.cues.CueExplanation.to_dict], with its
            `reference` in words; empty without one.
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
    diagnostics: Mapping[str, tuple[Diagnostic, ...]] = field(default_factory=dict)
    baseline_checks: Mapping[str, Any] | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    task: Task = "classes"
    agreement: Mapping[str, Any] | None = None
    scale: tuple[float, float] | None = None
    votes: Mapping[str, float] = field(default_factory=dict)
    annotated_values: Mapping[str, float] = field(default_factory=dict)
    tiers: Mapping[str, Sequence[Segment]] = field(default_factory=dict)
    cues: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line, without the numbers."""
        found = f"values={ {name: round(value, 4) for name, value in self.outputs.items()} }"
        if self.prediction:
            found = f"prediction={self.prediction!r} ({self.probabilities[self.prediction]:.0%})"
        return (
            f"Explanation(clip={self.clip!r}, duration_s={self.duration_s:.3f}, {found}, "
            f"targets={self.targets}, stages={(*self.attributions,)})"
        )

    @property
    def duration_s(self) -> float:
        """Duration of the clip in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def outputs(self) -> dict[str, float]:
        """Probability of each class or label, or value of each dimension."""
        values = logits_to_outputs(torch.tensor(self.logits, dtype=torch.float64), self.task).tolist()
        return dict(zip(self.labels, values, strict=True))

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each class or label; empty for dimensions."""
        return {} if self.task == "dimensions" else self.outputs

    @property
    def prediction(self) -> str:
        """Class or label with the largest logit; empty for dimensions."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default="")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the scalars that are explained: labels, or a margin."""
        return target_names(self._any.target, self.labels)

    @property
    def default_target(self) -> str:
        """Target that is meant where none is named: the prediction if it was explained, else the first."""
        return self.prediction if self.prediction in self.targets else self.targets[0]

    @property
    def score(self) -> dict[str, float]:
        """Score of the clip for each target."""
        return dict(zip(self.targets, self._any.score, strict=True))

    @property
    def time_stage(self) -> str | None:
        """The stage of the map in time: `"frames"`, else `"layers"`, else `"waveform"`; None without one."""
        return next(iter(self._stages_with("frames")), None)

    @property
    def _any(self) -> Attribution:
        return next(iter(self.attributions.values()))

    def relative_gap(self, target: str | None = None) -> dict[str, float | None]:
        """Completeness gap of each stage before the correction, relative to the explained difference.

        The denominator is `score - mean_baseline_score`, or the standard deviation of the baselines' scores
        if that is larger. A large gap calls for more draws. None for methods without completeness.

        Args:
            target: One of `targets`; None for the only one, or the prediction.
        """
        index = self._target_index(target)
        gaps = {stage: found.relative_gap for stage, found in self.attributions.items()}
        return {stage: None if gap is None else gap[index] for stage, gap in gaps.items()}

    def values(self, stage: str, view: str, target: str | None = None) -> Float[Tensor, " *units"]:
        """Attributions of one view to one target.

        Args:
            stage: Stage whose input the score is attributed to.
            view: Kind of units.
            target: One of `targets`; None for the only one, or the prediction; `"predicted"` for the latter.

        Raises:
            AttributionError: If there is no such stage, view or target; the message lists those that exist.
        """
        return self._units(stage, view, target)[0]

    def frame_values(self, target: str | None = None) -> Float[Tensor, " frames"]:
        """Attributions of the backbone's frames to one target, from the path that begins there or at layers.

        Args:
            target: One of `targets`; None for the only one, or the prediction.

        Raises:
            AttributionError: If neither stage was explained, or there is no such target.
        """
        stage = self.time_stage if self.time_stage in FRAME_STAGES else FRAME_STAGES[0]
        return self.values(stage, "frames", target)

    def top(
        self,
        view: str = "frames",
        k: int = 5,
        *,
        stage: str | None = None,
        layer: int | None = None,
        sign: Sign = "any",
        target: str | None = None,
    ) -> list[dict[str, Any]]:
        """Units with the largest attributions, the largest first; none of silence that the model adds.

        Args:
            view: Kind of units, such as `"frames"`, `"layers"` or `"layer_neuron"`.
            k: Maximum number of units.
            stage: Stage whose attributions are read; the first that has the view if None.
            layer: Rank the frames or neurons of this layer alone.
            sign: Both signs (`"any"`), or only evidence for (`"positive"`) or against (`"negative"`) the
                target.
            target: One of `targets`; None for the only one, or the prediction.

        Returns:
            A row of the table of [`to_columns`][] for each.

        Raises:
            AttributionError: If there is no such stage, view, layer or target, or `k` or `sign` is out of
                range.
        """
        columns = self.to_columns(view, stage=stage, target=target)
        if layer is not None:
            of_layer = columns.get("layer", np.empty(0)) == layer
            if not of_layer.any():
                raise AttributionError(f"layer={layer}: view={view!r} has no such layer; see to_columns()")
            columns = {name: numbers[of_layer] for name, numbers in columns.items()}
        if self._padding() and view in ("frames", "layer_frame"):
            count = self.times["layers"].num_within(self.duration_s)
            columns = {name: numbers[columns["frame"] < count] for name, numbers in columns.items()}
        places = top(torch.from_numpy(columns["attribution"]), k, sign=sign)
        return [{name: numbers[place].item() for name, numbers in columns.items()} for (place,) in places]

    def reliability(
        self, view: str = "frames", *, stage: str | None = None, target: str | None = None
    ) -> Reliability | None:
        """Units that certainly are among the strongest, and the share of these that another seed keeps.

        Args:
            view: Kind of units along one axis, such as `"frames"`, `"bands"`, `"layers"` or `"words"`.
            stage: Stage whose attributions are read; the first that has the view if None.
            target: One of `targets`; None for the only one, or the prediction.

        Returns:
            None for methods without standard errors.

        Raises:
            AttributionError: If there is no such stage, view or target, or the view has more than one axis.
        """
        stage = stage or next(iter(self._stages_with(view) or self.attributions))
        if (num_axes := self.values(stage, view, target).ndim) > 1:
            raise AttributionError(f"view={view!r} has {num_axes} axes; use one with a single axis")
        count = self.times[stage].num_within(self.duration_s) if view == "frames" else None
        return measure_reliability(self.attributions[stage].views[view], self._target_index(target), count)

    def shares(self, *, target: str | None = None) -> dict[str, float]:
        """Shares of the magnitude of the frames' attributions in speech, in pauses and at the edges.

        There is a share of the padding too, if the model adds silence to the clip.

        A classifier whose attributions lie in pauses or at edges may have learned properties of the
        recordings instead of the voices.

        Args:
            target: One of `targets`; None for the only one, or the prediction.
        """
        return attribution_shares(self.frame_values(target), self.frame_level_db)

    def to_columns(
        self, view: str = "frames", *, stage: str | None = None, target: str | None = None
    ) -> dict[str, Shaped[np.ndarray, " units"]]:
        """Table of one view, a row for each unit: columns by name.

        Args:
            view: Kind of units, such as `"frames"`, `"layers"` or `"band_frame"`.
            stage: Stage whose attributions are read; the first that has the view if None.
            target: One of `targets`; None for the only one, or the prediction.

        Returns:
            The position of the unit (`start_s` and `end_s`, `low_hz` and `high_hz`, `frame`, `layer`,
            `neuron`, ...), for words and phones the `text` and `confidence`, its
            `attribution`, and its `stderr` and `half_width`, NaN where no error is known.

        Raises:
            AttributionError: If there is no such stage, view or target.
        """
        stage = stage or next(iter(self._stages_with(view) or self.attributions))
        values, *errors = self._units(stage, view, target)
        # Views are named after their axes, except for a layer in full, such as layer_3.
        kinds = [kind.removesuffix("s") for kind in view.split("_")]
        kinds = ["frame", "neuron"] if kinds[-1].isdigit() else kinds
        columns: dict[str, Shaped[np.ndarray, " units"]] = {}
        for kind, place in zip(kinds, np.indices(values.shape).reshape(values.ndim, -1), strict=True):
            positions = self._positions(kind, "stft" if view == "band_frame" else stage)
            columns |= {name: numbers[place] for name, numbers in positions.items()} | {kind: place}
        columns["attribution"] = values.flatten().numpy()
        for name, numbers in zip(("stderr", "half_width"), errors, strict=True):
            columns[name] = np.full(values.numel(), np.nan) if numbers is None else numbers.flatten().numpy()
        return columns

    def to_frame(self, view: str = "frames", *, stage: str | None = None, target: str | None = None) -> Any:  # noqa: ANN401 - pandas is optional
        """The table of [`to_columns`][] as a `pandas.DataFrame`.

        Args:
            view: Kind of units, such as `"frames"`, `"layers"` or `"band_frame"`.
            stage: Stage whose attributions are read; the first that has the view if None.
            target: One of `targets`; None for the only one, or the prediction.

        Raises:
            AttributionError: If pandas is not installed, or there is no such stage, view or target.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise AttributionError("to_frame needs pandas; install it with: pip install pandas") from error
        return pandas.DataFrame(self.to_columns(view, stage=stage, target=target))

    def _positions(self, kind: str, grid: str) -> dict[str, Shaped[np.ndarray, " units"]]:
        """Position of the units of one kind in time or frequency; of words and phones the text as well."""
        if kind == "frame":
            return {"start_s": self.times[grid].start_s(), "end_s": self.times[grid].end_s()}
        if kind == "band":
            return {"low_hz": np.array(self.band_edges_hz[:-1]), "high_hz": np.array(self.band_edges_hz[1:])}
        if kind == "segment":
            spans = np.array([*self.settings.segments, (np.nan, np.nan)])
            return {"start_s": spans[:, 0], "end_s": spans[:, 1]}
        if f"{kind}s" not in self.tiers:
            return {}
        units = [*self.tiers[f"{kind}s"], Segment("", np.nan, np.nan)]
        types = {"text": np.str_, **dict.fromkeys(("start_s", "end_s", "confidence"), np.float64)}
        return {name: np.array([getattr(one, name) for one in units], of) for name, of in types.items()}

    def to_dict(
        self, *, target: str | None = None, label: str | None = None, texts: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The explanation of one target in plain JSON types, as `explain.py` writes it.

        Args:
            target: One of `targets`; None for the only one, or the prediction.
            label: Annotated class of the clip.
            texts: Text of each of the settings' segments; empty for none.

        Raises:
            AttributionError: If the target was not explained, or there are texts for other segments.
        """
        index = self._target_index(target)
        target = self.targets[index]
        plain: dict[str, Any] = {
            **format_of(vars(self)),
            "clip": self.clip,
            "sha256": self.clip_sha256,
            "start_s": self.clip_start_s,
            "end_s": self.clip_end_s,
            "sample_rate": self.sample_rate,
            "duration_s": self.duration_s,
            **self._padding(),
            "labels": list(self.labels),
            **self._plain_outputs(),
            "label": label,
            "target": target,
            "method": self._any.method,
            "settings": self.settings.to_dict(),
            "reasons": dict(self.reasons),
            "time_stage": self.time_stage,
            "diagnostics": [asdict(one) for one in self.diagnostics.get(target, ())],
            "baseline_checks": self.baseline_checks,
            "stages": {stage: _plain_stage(found, index) for stage, found in self.attributions.items()},
            **self._totals(target, (*NUMBERS, *POSITIONS)),
            "segments": self._plain_segments(target, texts),
        }
        if "frames" in plain:
            plain["shares"] = self.shares(target=target)
        if self.agreement is not None and target == self.default_target:
            plain["agreement"] = self.agreement
        if len(self.targets) > 1:
            plain["by_target"] = {one: self._totals(one, NUMBERS) for one in self.targets}
        return plain

    def _plain_outputs(self) -> dict[str, Any]:
        """Values of dimensions, else probabilities and the prediction."""
        if self.task == "dimensions":
            return {"values": self.outputs}
        return {"probabilities": self.probabilities, "prediction": self.prediction}

    def _padding(self) -> dict[str, float]:
        """Duration with the silence that the model adds to the clip, if it does."""
        times = self.times["layers"]
        is_padded = times.num_within(self.duration_s) < times.count
        return {"padded_s": times.count * times.hop_samples / times.sample_rate} if is_padded else {}

    def _totals(self, target: str, names: Sequence[str]) -> dict[str, Any]:
        """Numbers of one target: its score and sums, and columns and reliability of views with one axis."""
        index = self._target_index(target)
        first = _plain_stage(self._any, index)
        plain: dict[str, Any] = {"score": self._any.score[index]}
        plain |= {name: first[name] for name in ("baseline_score", "attribution_sum", "gap")}
        for name, view, stage in self._explained(UNITS_WITH_ONE_AXIS):
            columns = self.to_columns(view, stage=stage, target=target)
            plain[name] = {one: _plain_column(columns[one]) for one in names if one in columns}
        return plain | {"reliability": self._plain_reliability(target)}

    def _plain_reliability(self, target: str) -> dict[str, Any]:
        """Reliability of the views with one axis; None for methods without standard errors."""
        found = {
            name: self.reliability(view, stage=stage, target=target)
            for name, view, stage in self._explained((*UNITS_WITH_ONE_AXIS, ("segments", "segments", STAGES)))
        }
        return {name: one and {**vars(one), "certain": [*one.certain]} for name, one in found.items()}

    def _plain_segments(self, target: str, texts: Sequence[str]) -> list[dict[str, Any]]:
        """A row for each segment; the last, without a span, is what lies elsewhere."""
        if not self._stages_with("segments"):
            return []
        spans = self.settings.segments
        if texts and len(texts) != len(spans):
            raise AttributionError(f"texts: {len(texts)} for {len(spans)} segments; give one for each")
        columns = self.to_columns("segments", target=target)
        cells = {name: columns[name].tolist() for name in ("start_s", "end_s", *NUMBERS)}
        return [
            {"text": text}
            | {name: held[row] if isfinite(held[row]) else None for name, held in cells.items()}
            for row, text in enumerate([*(texts or [""] * len(spans)), ""])
        ]

    def _stages_with(self, view: str) -> list[str]:
        return [one for one in STAGES if one in self.attributions and view in self.attributions[one].views]

    def _explained(self, table: Iterable[tuple[str, str, Sequence[str]]]) -> Iterator[tuple[str, str, str]]:
        """Name, view and stage of the rows of a table that were explained."""
        for name, view, stages in table:
            for stage in [one for one in self._stages_with(view) if one in stages][:1]:
                yield name, view, stage

    def to_saved_clip(
        self, *, target: str | None = None, label: str | None = None, texts: Sequence[str] = ()
    ) -> SavedClip:
        """Contents of the JSON and NPZ files of one target.

        Args:
            target: One of `targets`; None for the only one, or the prediction.
            label: Annotated class of the clip.
            texts: Text of each of the settings' segments; empty for none.

        Raises:
            AttributionError: If the target was not explained, or there are texts for other segments.
        """
        numbers = self.to_dict(target=target, label=label, texts=texts)
        arrays: dict[str, Shaped[np.ndarray, "..."]] = {}
        for name, view, stage in self._explained(MAPS):
            values, _, half_width = self._units(stage, view, target)
            arrays[name] = values.numpy()
            if half_width is not None and name != "frame_attribution":
                arrays[f"{name}_half_width"] = half_width.float().numpy()
        stderr = numbers.get("frames", {}).get("stderr")  # None where nothing is known yet
        if stderr is not None:
            arrays["frame_stderr"] = np.array(stderr, dtype=np.float64)
        return SavedClip(numbers, arrays)

    def _units(self, stage: str, view: str, target: str | None) -> tuple[Units, Units | None, Units | None]:
        """Attributions of one view to one target, their standard errors and half-widths of intervals."""
        if stage not in self.attributions:
            raise AttributionError(
                f"stage={stage!r} was not explained; this explanation has {', '.join(self.attributions)}. "
                "Explain the clip again with it among stages=[...]"
            )
        views = self.attributions[stage].views
        if view not in views:
            raise AttributionError(f"view={view!r} does not exist; stage={stage!r} has {', '.join(views)}")
        found, index = views[view], self._target_index(target)
        if found.stderr is None:
            return found.values[index], None, None
        return found.values[index], found.stderr[index], found.half_width()[index]

    def _target_index(self, target: str | None) -> int:
        names = self.targets
        asked = self.prediction if target == PREDICTED and PREDICTED not in names else target
        wanted = asked or self.default_target
        if wanted not in names:
            raise AttributionError(f"target={wanted!r} was not explained; use one of {', '.join(names)}")
        return names.index(wanted)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all; the same explanation gives the same bytes.

        Args:
            path: The file, such as `clip.safetensors`.

        Raises:
            OSError: If the file cannot be written.
        """
        write_explanation(Path(path), vars(self))

    @classmethod
    def load(cls, path: str | Path) -> Explanation:
        """Read a file that `save` wrote.

        Args:
            path: The file.

        Raises:
            AttributionError: If the file is missing, damaged, or not an explanation.
        """
        return cls(**read_explanation(Path(path)))


def _plain_column(numbers: Shaped[np.ndarray, " units"]) -> list[Any] | None:
    """Numbers in plain JSON types: None for one that is not known yet, and for all if none can be known."""
    if numbers.dtype.kind == "U":
        return numbers.tolist()
    return None if np.isnan(numbers).all() else [one if isfinite(one) else None for one in numbers.tolist()]


def _plain_stage(found: Attribution, index: int) -> dict[str, Any]:
    """Method, settings and sums of the attributions of one stage.

    Args:
        found: Attributions of the stage.
        index: Index of the target.
    """
    plain = ("method", "estimand", "num_draws", "seed", "resolved", "draws_needed")
    sums = {"baseline_score": found.mean_baseline_score, "gap": found.gap, "relative_gap": found.relative_gap}
    return {
        **{name: getattr(found, name) for name in plain},
        **{name: None if values is None else values[index] for name, values in sums.items()},
        "attribution_sum": float(found.sums(next(iter(found.views)))[index]),
        "settings": dict(found.settings),
    }
