"""Settings of an explanation.

This module does not import torch, so that the command line prints its help at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from math import inf
from numbers import Integral, Real
from typing import Any, Final, Literal, get_args

from wavshap_lightning.errors import SettingError

Stage = Literal["frames", "layers", "waveform"]
"""Stage of the model to whose input the score is attributed."""

GradientMethod = Literal[
    "gradient_shap", "integrated_gradients", "saliency", "input_x_gradient", "smooth_grad"
]
SpanMethod = Literal["occlusion", "shapley", "kernel_shap", "lime"]
MethodName = GradientMethod | SpanMethod
ClassScore = Literal["log_odds", "logit", "log_probability", "probability"]
ScoreKind = Literal[ClassScore, "value"]
RecordedFamily = Literal["other_clips", "same_speaker_neutral", "another_class"]
PrecisionChoice = Literal["fp32", "bf16", "auto"]
Family = Literal["noise", "spectral_noise", "time_shifted", "silence"] | RecordedFamily
StageChoice = Literal["auto"] | Stage
FamilyChoice = Literal["auto"] | Family

AUTO: Final = "auto"
STAGES: tuple[Stage, ...] = get_args(Stage)
FRAME_STAGES = ("frames", "layers")
"""Stages whose map in time has one value for each frame of the backbone."""

RECORDED_FAMILIES: tuple[str, ...] = get_args(RecordedFamily)
FAMILIES: tuple[str, ...] = tuple(name for kind in get_args(Family) for name in get_args(kind))
SPAN_METHODS: tuple[str, ...] = get_args(SpanMethod)
METHODS: tuple[str, ...] = (*get_args(GradientMethod), *SPAN_METHODS)

DEFAULT_DRAWS = 64
PREDICTED, SECOND, LISTENERS, ALL, VERSUS = "predicted", "second", "listeners", "all", "-vs-"

MAX_BANDS = 257
"""Frequencies of the Fourier transform behind the bands."""


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of an explanation; the defaults suit a first look.

    The fields are the keyword arguments of [`explain`][wavshap_lightning.explainer.explainer.explain], the
    options of `explain.py` and the keys of its YAML files, under the same names.

    Args:
        stages: Stages of the model to attribute the score to: `"layers"` (the layers that the head reads:
            when, which layer, which neuron), `"frames"` (the input of the encoder: when), `"waveform"` (when
            and which frequency band; the slowest), or `"auto"` for one of them, by the rule of
            `wavshap_lightning.explainer.defaults`. All stages use the same baselines, and their attributions
            have the same sum.
        method: Attribution method: `"gradient_shap"`, `"integrated_gradients"`; for comparison, without
            completeness, `"saliency"`, `"input_x_gradient"`, `"smooth_grad"`; or, with stage `"frames"`, a
            method that removes spans of frames: `"occlusion"`, `"shapley"` (exact), `"kernel_shap"`,
            `"lime"`.
        score: Class score: `"log_odds"`, `"logit"`, `"log_probability"` or `"probability"`. For labels it is
            the `"logit"`, which is the log-odds, and for dimensions the `"value"`, without being given.
        baselines: Family of baselines (reference inputs), at the clip's level: `"noise"` (white),
            `"spectral_noise"` (with the clip's long-term spectrum), `"time_shifted"` (the clip, shifted
            circularly), `"silence"`, or recordings, which are given separately: `"other_clips"`,
            `"same_speaker_neutral"`, `"another_class"`. `"auto"`: of the recordings given those that are not
            predicted as the clip is, if there are 8 or more and the head reads layers, else noise.
        num_baselines: Number of baselines, drawn once and used throughout. None: a fresh baseline for every
            draw; all of the recordings; 4 for integrated gradients and methods that remove spans.
        num_draws: Number of draws for each stage, one gradient evaluation each. Integrated gradients divide
            them among the baselines. For `"kernel_shap"` and `"lime"`, evaluations of the score; the other
            methods do not need it. None: 64 (512 evaluations of the score), 128 from the layers alone with
            recordings that `"auto"` chose as baselines, or as many as a tolerance or a time limit takes.
            Together with one of these, the largest number of draws.
        tolerance: 95 % half-width to reach, relative to the largest attribution. It applies to every unit of
            the first view of each stage (every frame, for example).
        max_seconds: Time limit for the draws of a clip, in seconds. The result then depends on the machine.
        seed: Random seed.
        precision: Precision of the backbone: `"fp32"`, or `"bf16"` for autocast, whose error is measured and
            recorded; `"auto"` for `"bf16"` at stages where it is fast and its error is small, else `"fp32"`,
            with the reason in the record; None for the backbone's own.
        chunk_size: Number of draws in one batch. None: chosen from the size of the input and the memory.
        layer: Index of a layer to attribute by frame and neuron as well.
        segments: Spans `(start_s, end_s)` over which frames are summed, in order and without overlap.
        decibels: Space the nodes of integrated gradients on the waveform evenly in decibels, for paths from
            silence.
        num_bands: Number of frequency bands, evenly spaced in mel.
        num_spans: Number of equal spans to remove, unless `segments` are given. None: spans of five frames
            for `"occlusion"`, 8 spans for `"shapley"`, 16 for the others.

    Raises:
        SettingError: If a value is out of range or two do not go together.
    """

    stages: Sequence[StageChoice] = (AUTO,)
    method: MethodName = "gradient_shap"
    score: ScoreKind = "log_odds"
    baselines: FamilyChoice = AUTO
    num_baselines: int | None = None
    num_draws: int | None = None
    tolerance: float | None = None
    max_seconds: float | None = None
    seed: int = 0
    precision: PrecisionChoice | None = None
    chunk_size: int | None = None
    layer: int | None = None
    segments: Sequence[Sequence[float]] = ()
    decibels: bool = False
    num_bands: int = 24
    num_spans: int | None = None

    def __post_init__(self) -> None:
        stages = (self.stages,) if isinstance(self.stages, str) else self.stages
        if not isinstance(stages, Iterable):
            raise SettingError(f"stages={stages!r} must be a list of some of {', '.join(STAGES)}")
        object.__setattr__(self, "stages", tuple(stages))
        object.__setattr__(self, "segments", _checked_spans(self.segments))
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None or one.default is not None:
                _check_value(one.name, value)
            if one.name in SMALLEST and value is not None:
                object.__setattr__(self, one.name, int(value))  # JSON does not know NumPy's numbers
        for is_broken, message in RULES:
            if is_broken(self):
                raise SettingError(message.format(**{**vars(self), "stages": list(self.stages)}))

    def within(self, stages: Sequence[str]) -> ExplainSettings:
        """The settings for a model with some stages only; with all of these if it has none of those named.

        Args:
            stages: Stages of the model.

        Raises:
            SettingError: If the method or the layer needs a stage that the model lacks.
        """
        kept = [one for one in self.stages if one in stages] or [one for one in STAGES if one in stages]
        needed = {"method": "frames" if self.method in SPAN_METHODS else None}
        needed["layer"] = None if self.layer is None else "layers"
        for name, stage in needed.items():
            if stage not in (None, *stages):
                words = f"needs the stage {stage}, and this model has {', '.join(stages)} alone; leave it out"
                raise SettingError(f"{name}={getattr(self, name)!r} {words}")
        return replace(self, stages=kept)

    def to_dict(self) -> dict[str, Any]:
        """The settings in plain JSON types."""
        spans = [list(span) for span in self.segments]
        return {**asdict(self), "stages": list(self.stages), "segments": spans}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExplainSettings:
        """Settings from the names and values of `to_dict`.

        Raises:
            SettingError: If a name is unknown.
        """
        known = [one.name for one in fields(cls)]
        for name, value in values.items():
            if name not in known:
                raise SettingError(f"{name}={value!r}: there is no such setting; use {', '.join(known)}")
        return cls(**values)


CHOICES: Mapping[str, tuple[str, ...]] = {
    "stages": (AUTO, *STAGES),
    "method": METHODS,
    "score": get_args(ScoreKind),
    "baselines": (AUTO, *FAMILIES),
    "precision": get_args(PrecisionChoice),
}

SMALLEST = dict.fromkeys(("num_baselines", "num_draws", "chunk_size", "num_bands", "num_spans"), 1)
SMALLEST |= {"seed": 0, "layer": 0}
"""Smallest value of each whole number."""

RULES: tuple[tuple[Callable[[ExplainSettings], object], str], ...] = (
    (lambda s: not s.stages, f"stages=() must name at least one of {', '.join(STAGES)}"),
    (lambda s: len({*s.stages}) < len(s.stages), "stages={stages} names a stage twice; name each once"),
    (lambda s: s.seed >= 2**63, "seed={seed} must be at most 2^63 - 1"),
    (lambda s: s.num_bands > MAX_BANDS, f"num_bands={{num_bands}} must be at most {MAX_BANDS}"),
    (
        lambda s: s.decibels and s.method != "integrated_gradients",
        "decibels=True does not go with method={method!r}; use method='integrated_gradients'",
    ),
    (lambda s: AUTO in s.stages and len(s.stages) > 1, "stages={stages}: auto stands alone; leave it out"),
    (
        lambda s: s.layer is not None and not {"layers", AUTO} & {*s.stages},
        "layer={layer} needs stages with 'layers'",
    ),
    (
        lambda s: s.method not in ("gradient_shap", "smooth_grad") and (s.tolerance or s.max_seconds),
        "tolerance, max_seconds: method={method!r} has no standard error and needs neither; leave them out",
    ),
    (
        lambda s: s.method in SPAN_METHODS and s.stages not in (("frames",), (AUTO,)),
        "method={method!r} removes spans of frames; use stages=['frames'] instead of stages={stages}",
    ),
    (
        lambda s: s.method not in SPAN_METHODS and s.num_spans is not None,
        f"num_spans={{num_spans}} needs a method that removes spans: one of {', '.join(SPAN_METHODS)}",
    ),
    (
        lambda s: s.num_spans is not None and s.segments,
        "num_spans={num_spans}, segments: leave one out",
    ),
)
"""Conditions under which settings do not go together, with the message and the remedy."""


def _checked_spans(segments: Any) -> tuple[tuple[float, float], ...]:  # noqa: ANN401 - from JSON and YAML too
    try:
        spans = tuple((start_s, end_s) for start_s, end_s in segments)
    except (TypeError, ValueError):
        spans = ((inf, inf),)
    are_numbers = all(isinstance(one, Real) for span in spans for one in span)
    if not are_numbers or not all(0 <= start_s < end_s < inf for start_s, end_s in spans):
        raise SettingError(
            f"segments={segments!r} must be a list of spans (start_s, end_s) with 0 <= start_s < end_s, "
            "even of one: segments=[(0.0, 0.5)]"
        )
    for before, after in pairwise(spans):
        if after[0] < before[1]:
            raise SettingError(f"segments: {before} and {after} must be in order and must not overlap")
    return spans


def _check_value(name: str, value: Any) -> None:  # noqa: ANN401 - from JSON and YAML too
    """Refuse a value that is not among the choices, of another type or out of range."""
    for chosen in value if name == "stages" else (value,):
        if name in CHOICES and chosen not in CHOICES[name]:
            raise SettingError(f"{name}={chosen!r} must be one of {', '.join(CHOICES[name])}")
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if name in SMALLEST and not (is_whole and value >= SMALLEST[name]):
        raise SettingError(f"{name}={value!r} must be a whole number of at least {SMALLEST[name]}")
    if name in ("tolerance", "max_seconds") and not (isinstance(value, Real) and 0 < float(value) < inf):
        raise SettingError(f"{name}={value!r} must be a number greater than 0; leave it out for none")
