"""How a clip is explained, in plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.time_grid import STFT
from wavshap_lightning.models.backbone import Precision

Stage = Literal["frames", "layers", "waveform"]
"""Where a path from the baselines to the clip begins: at which stage's input."""

GradientMethod = Literal[
    "gradient_shap", "integrated_gradients", "saliency", "input_x_gradient", "smooth_grad"
]
SpanMethod = Literal["occlusion", "shapley", "kernel_shap", "lime"]
MethodName = GradientMethod | SpanMethod
ScoreKind = Literal["log_odds", "logit", "log_probability", "probability"]
RecordedFamily = Literal["other_clips", "same_speaker_neutral", "another_class"]
Family = Literal["noise", "spectral_noise", "time_shifted", "silence"] | RecordedFamily

STAGES: tuple[Stage, ...] = get_args(Stage)
RECORDED_FAMILIES: tuple[str, ...] = get_args(RecordedFamily)
FAMILIES: tuple[str, ...] = tuple(name for part in get_args(Family) for name in get_args(part))
SPAN_METHODS: tuple[str, ...] = get_args(SpanMethod)
METHODS: tuple[str, ...] = (*get_args(GradientMethod), *SPAN_METHODS)

DEFAULT_DRAWS = 64
MAX_SEED = 2**63 - 1
AT_LEAST = {
    "num_baselines": 1,
    "num_draws": 1,
    "chunk_size": 1,
    "layer": 0,
    "seed": 0,
    "num_bands": 1,
    "num_spans": 1,
}
"""The smallest value of each whole number."""


@dataclass(frozen=True)
class ExplainSettings:
    """How to explain; the defaults suit a first look.

    Args:
        stages: Where paths begin: `"frames"` (when), `"layers"` (which layer, which neuron), `"waveform"`
            (when and which band; the dearest). All have the same baselines and the same total.
        method: `"gradient_shap"`, `"integrated_gradients"`, or for comparison, without completeness,
            `"saliency"`, `"input_x_gradient"`, `"smooth_grad"`; or, along `stages=("frames",)`, those that
            take spans of frames away: `"occlusion"`, `"shapley"` (exact), `"kernel_shap"`, `"lime"`.
        score: Which score of a class is explained; see
            [`Target`][wavshap_lightning.attribution.targets.Target].
        baselines: What the clip is compared with, as loud as it: `"noise"`, `"spectral_noise"` (with the
            clip's long-term spectrum), `"time_shifted"` (the clip itself), `"silence"`, or recordings,
            given besides: `"other_clips"`, `"same_speaker_neutral"`, `"another_class"`.
        num_baselines: How many to draw and declare; None to draw a fresh one every time (recordings: to
            declare all of them; integrated gradients and what takes spans away: 4).
        num_draws: Gradient evaluations for each stage; integrated gradients share them among the baselines.
            Of `"kernel_shap"` and `"lime"`, evaluations of the score, shared likewise; other methods take
            what they take. None: 64 (512 of the score), or, with a tolerance or a time limit, as many as it
            takes. With one of these a number is the most that are taken.
        tolerance: Half-width of the 95 % interval to reach in every unit of the first view of each stage,
            relative to the largest attribution.
        max_seconds: Time limit for all draws of a clip. What comes out then depends on the machine.
        seed: Seed of everything drawn.
        precision: `"fp32"`, or `"bf16"` for autocast, whose error is measured and recorded; None for the
            backbone's own.
        chunk_size: Draws that go through the model at once; found if None.
        layer: A layer to be stated in full, frames by neurons.
        segments: Spans `(start_s, end_s)` to add frames up over, in order and apart from one another.
        decibels: Take integrated gradients on the waveform evenly in decibels of alpha: for silence.
        num_bands: Bands of frequency, evenly spaced in mel.
        num_spans: How many equal spans are taken away, where `segments` does not say which; None: spans of
            five frames for `"occlusion"`, 8 for `"shapley"`, 16 for the others.
        window_s: A recording longer than this goes through the backbone piece by piece, in windows of at
            most so many seconds: the same numbers, less memory, more time. None: one of more than 30 s in
            windows of 10 s.

    Raises:
        SettingError: If a value is out of range or two do not go together.
    """

    stages: Sequence[Stage] = ("frames", "layers")
    method: MethodName = "gradient_shap"
    score: ScoreKind = "log_odds"
    baselines: Family = "noise"
    num_baselines: int | None = None
    num_draws: int | None = None
    tolerance: float | None = None
    max_seconds: float | None = None
    seed: int = 0
    precision: Precision | None = None
    chunk_size: int | None = None
    layer: int | None = None
    segments: Sequence[Sequence[float]] = ()
    decibels: bool = False
    num_bands: int = 24
    num_spans: int | None = None
    window_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", _tuple_of_names(self.stages))
        object.__setattr__(self, "segments", _tuple_of_spans(self.segments))
        for name in AT_LEAST:
            value = getattr(self, name)
            if isinstance(value, np.integer):
                object.__setattr__(self, name, int(value))  # NumPy's numbers are no JSON
        _check_choices(self)
        _check_ranges(self)
        _check_segments(self.segments)
        _check_together(self)

    def to_dict(self) -> dict[str, Any]:
        """The settings in plain JSON types."""
        return {
            **asdict(self),
            "stages": list(self.stages),
            "segments": [list(span) for span in self.segments],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExplainSettings:
        """What `to_dict` gave.

        Raises:
            SettingError: If a name is unknown.
        """
        unknown = sorted(values.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise SettingError(f"{unknown[0]}={values[unknown[0]]!r}: there is no such setting; use {known}")
        return cls(**values)


def _tuple_of_names(stages: Sequence[str]) -> tuple[str, ...]:
    if isinstance(stages, str):
        return (stages,)
    if not isinstance(stages, Iterable):
        raise SettingError(f"stages={stages!r} must be a list of some of {', '.join(STAGES)}")
    return tuple(stages)


def _tuple_of_spans(segments: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    if not isinstance(segments, Iterable) or not all(map(_is_numbers, segments)):
        raise SettingError(
            f"segments={segments!r} must be a list of spans (start_s, end_s), even of one: "
            "segments=[(0.0, 0.5)]"
        )
    return tuple(tuple(span) for span in segments)


def _is_numbers(span: object) -> bool:
    return isinstance(span, Iterable) and all(isinstance(number, Real) for number in span)


def _check_choices(settings: ExplainSettings) -> None:
    if not settings.stages:
        raise SettingError(f"stages=() must name at least one of {', '.join(STAGES)}")
    if len({*settings.stages}) < len(settings.stages):
        raise SettingError(f"stages={list(settings.stages)} names a stage twice; name each once")
    choices = {
        "stages": STAGES,
        "method": METHODS,
        "score": get_args(ScoreKind),
        "baselines": FAMILIES,
        "precision": (None, *get_args(Precision)),
    }
    for name, allowed in choices.items():
        chosen = settings.stages if name == "stages" else (getattr(settings, name),)
        for value in chosen:
            if value not in allowed:
                raise SettingError(f"{name}={value!r} must be one of {', '.join(map(str, allowed))}")


def _check_ranges(settings: ExplainSettings) -> None:
    for name, smallest in AT_LEAST.items():
        value = getattr(settings, name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        may_be_left_out = ExplainSettings.__dataclass_fields__[name].default is None
        if not (value is None and may_be_left_out) and not (whole and value >= smallest):
            raise SettingError(f"{name}={value!r} must be a whole number of at least {smallest}")
    if settings.seed > MAX_SEED:
        raise SettingError(f"seed={settings.seed} must be at most 2^63 - 1")
    if settings.num_bands > STFT.num_bins:
        raise SettingError(
            f"num_bands={settings.num_bands} must be at most {STFT.num_bins}, the bins there are"
        )
    for name in ("tolerance", "max_seconds", "window_s"):
        value = getattr(settings, name)
        if value is not None and not (isinstance(value, int | float) and value > 0 and isfinite(value)):
            raise SettingError(f"{name}={value!r} must be a number greater than 0; leave it out for none")


def check_within(segments: Sequence[Sequence[float]], duration_s: float) -> None:
    """Refuse a segment that begins where the clip has ended.

    Raises:
        SettingError: For the first of them.
    """
    for start_s, end_s in segments:
        if start_s >= duration_s:
            raise SettingError(
                f"segments=[{start_s:g}, {end_s:g}] begins after the clip's end at {duration_s:.3f} s; leave "
                "it out, or give spans in seconds from the clip's start"
            )


def _check_segments(segments: Sequence[Sequence[float]]) -> None:
    for span in segments:
        if len(span) != 2 or not all(map(isfinite, span)) or not 0 <= span[0] < span[1]:
            raise SettingError(f"segments={list(span)} must be (start_s, end_s) with 0 <= start_s < end_s")
    for before, after in pairwise(segments):
        if after[0] < before[1]:
            raise SettingError(
                f"segments={list(before)} and {list(after)} must be in order and not overlap, so that no "
                "frame counts twice; sort or cut them"
            )


def _check_together(settings: ExplainSettings) -> None:
    if settings.decibels and settings.method != "integrated_gradients":
        raise SettingError(
            f"decibels=True does not go with method={settings.method!r}; use method='integrated_gradients'"
        )
    if settings.layer is not None and "layers" not in settings.stages:
        raise SettingError(f"layer={settings.layer} needs 'layers' among stages={list(settings.stages)}")
    without_chance = settings.method not in ("gradient_shap", "smooth_grad")
    if without_chance and (settings.tolerance or settings.max_seconds):
        raise SettingError(
            f"tolerance={settings.tolerance}, max_seconds={settings.max_seconds}: "
            f"method={settings.method!r} takes as many draws as it is told and stops at no error; leave "
            "both out"
        )
    if settings.method in SPAN_METHODS:
        _check_spans(settings)
    elif settings.num_spans is not None:
        raise SettingError(
            f"num_spans={settings.num_spans} does not go with method={settings.method!r}, which takes no "
            f"spans away; leave it out, or use one of {', '.join(SPAN_METHODS)}"
        )


def _check_spans(settings: ExplainSettings) -> None:
    if settings.stages != ("frames",):
        raise SettingError(
            f"method={settings.method!r} takes spans of frames away; use stages=['frames'] instead of "
            f"stages={list(settings.stages)}"
        )
    if settings.num_spans is not None and settings.segments:
        raise SettingError(
            f"num_spans={settings.num_spans} and segments: either equal spans or these; leave one out"
        )
