"""The view-model of one explained clip: the numbers and words that figures and pages show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.files import MAPS, SavedClip
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.explainer.time_grid import STFT, TimeGrid
from wavshap_lightning.viz.sound import GivenWaveform, Samples, cell_edges_s, find_waveform
from wavshap_lightning.viz.theme import literal, number, percent

TARGET, PREDICTED, LABELED = "\N{BLACK CIRCLE}", "\N{BLACK RIGHT-POINTING TRIANGLE}", "\N{BLACK DIAMOND}"
MOST = 0.5
"""Share of the evidence that counts as most of it."""

METHODS = {
    "gradient_shap": "GradientSHAP",
    "integrated_gradients": "Integrated gradients",
    "saliency": "Saliency",
    "input_x_gradient": "Input times gradient",
    "smooth_grad": "SmoothGrad",
    "occlusion": "Occlusion",
    "shapley": "Exact Shapley values",
    "kernel_shap": "Kernel SHAP",
    "lime": "LIME",
}
SCORES = {
    "log_odds": "log-odds of {}",
    "logit": "logit of {}",
    "log_probability": "log-probability of {}",
    "probability": "probability of {}",
    "margin": "logit of {} above {}",
}


@dataclass(frozen=True)
class Units:
    """Attributions of some units to one target.

    Args:
        values: Attribution of each unit; the last axis is time where there is a time grid.
        half_widths: Half-widths of the 95 % intervals; None for methods without an error, and infinite where
            the error is not known yet.
        times: Time grid of the last axis; None for sums over time.
    """

    values: Float[np.ndarray, "*units"]
    half_widths: Float[np.ndarray, "*units"] | None = None
    times: TimeGrid | None = None

    @property
    def unresolved(self) -> Bool[np.ndarray, "*units"]:
        """True where the interval contains 0; false everywhere without intervals."""
        if self.half_widths is None:
            return np.zeros(self.values.shape, dtype=bool)
        return np.abs(self.values) <= self.half_widths

    @property
    def resolved_values(self) -> Float[np.ndarray, "*units"]:
        """The values, NaN where unresolved."""
        return np.where(self.unresolved, np.nan, self.values)

    @property
    def signs(self) -> Int[np.ndarray, "*units"]:
        """1 for evidence for the target, -1 against it, 0 where unresolved."""
        return np.where(self.unresolved, 0, np.sign(self.values)).astype(np.int8)

    @property
    def low(self) -> Float[np.ndarray, "*units"]:
        """Lower ends of the intervals; the values where an interval has no end, as after a single draw."""
        return self.values - self._finite_half_widths

    @property
    def high(self) -> Float[np.ndarray, "*units"]:
        """Upper ends of the intervals; the values where an interval has no end."""
        return self.values + self._finite_half_widths

    @property
    def _finite_half_widths(self) -> Float[np.ndarray, "*units"]:
        if self.half_widths is None:
            return np.zeros_like(self.values)
        return np.where(np.isfinite(self.half_widths), self.half_widths, 0.0)

    @property
    def grid(self) -> TimeGrid:
        """Time grid of the last axis."""
        if self.times is None:
            raise ValueError("times=None: these units are sums over time")
        return self.times

    @property
    def edges_s(self) -> Float[np.ndarray, " edges"]:
        """Edges of the drawn units in seconds."""
        return cell_edges_s(self.grid)

    def strongest(self, count: int) -> list[tuple[float, float]]:
        """Start and end in seconds of the units with the largest magnitudes, the strongest first."""
        order = np.argsort(-np.abs(self.values), kind="stable")[:count]
        return list(zip(self.grid.start_s()[order].tolist(), self.grid.end_s()[order].tolist(), strict=True))


class Stretch(NamedTuple):
    """The shortest stretch of time that holds most of the evidence.

    Args:
        start_s: Its start in seconds.
        end_s: Its end in seconds.
        share: Share of the resolved evidence for the target in it.
    """

    start_s: float
    end_s: float
    share: float


def shortest_stretch(frames: Units) -> Stretch | None:
    """The shortest stretch with at least half of the evidence; None without resolved positive units.

    Evidence is what is positive and resolved; negative attributions do not count.

    >>> shortest_stretch(Units(np.array([1.0, 3.0, -9.0, 3.0, 4.0]), times=TimeGrid(5, 1, 1, 0, 1)))
    Stretch(start_s=3.0, end_s=5.0, share=0.636...)
    """
    evidence = np.where(frames.signs > 0, frames.values, 0.0)
    if not evidence.sum() > 0:
        return None
    held = np.concatenate([[0.0], np.cumsum(evidence)]) / evidence.sum()
    # The first end for each beginning; rounding must not lose the whole, which always holds most.
    ends = np.searchsorted(held, held[:-1] + MOST - 1e-12)
    begins = np.flatnonzero(ends < len(held))
    start_s, end_s = frames.grid.start_s(), frames.grid.end_s()
    best = begins[int(np.argmin((end_s[ends[begins] - 1] - start_s[begins]).round(9)))]
    share = held[ends[best]] - held[best]
    return Stretch(float(start_s[best]), float(end_s[ends[best] - 1]), float(share))


@dataclass(frozen=True)
class ClipView:
    """One explained clip and target, as it is shown.

    Args:
        numbers: The explanation in plain JSON types, as in a clip's JSON file.
        arrays: Its maps and their half-widths, as in a clip's NPZ file.
        times: Time grids by stage, and `"stft"` for columns of bands.
        name: Name of the clip.
        waveform: Its samples at the sample rate of the explanation; None where they cannot be had.
        no_sound: The reason why there are no samples.
        evidence: Spans known to carry the label.
    """

    numbers: Mapping[str, Any]
    arrays: Mapping[str, Shaped[np.ndarray, "..."]]
    times: Mapping[str, TimeGrid]
    name: str
    waveform: Samples | None = field(default=None, repr=False)
    no_sound: str = ""
    evidence: tuple[Span, ...] = ()

    @classmethod
    def from_explanation(
        cls,
        explanation: Explanation,
        waveform: GivenWaveform = None,
        *,
        target: str | None = None,
        label: str | None = None,
        evidence: Sequence[Span] = (),
    ) -> ClipView:
        """View of one target of an explanation.

        Args:
            explanation: The explanation of a clip.
            waveform: The clip `(num_samples,)`; None to read its file.
            target: One of `explanation.targets`; None for the only one, or the prediction.
            label: Annotated class of the clip, if it is known.
            evidence: Spans known to carry the label.

        Raises:
            AttributionError: If the target was not explained.
            AudioError: If the waveform is not as long as the one explained.
        """
        numbers = explanation.to_dict(target=target)
        numbers |= {"label": label}
        arrays: dict[str, Shaped[np.ndarray, "..."]] = {}
        for name, stage, view in MAPS:
            found = explanation.attributions.get(stage)
            if found is not None and view in found.views:
                arrays[name] = explanation.values(stage, view, numbers["target"]).cpu().numpy()
                half = explanation.half_widths(stage, view, numbers["target"])
                arrays |= {} if half is None else {f"{name}_half_width": half.cpu().numpy()}
        clip = PurePath(explanation.clip).name or "A waveform"
        samples, no_sound = find_waveform(explanation, waveform)
        return cls(numbers, arrays, explanation.times, clip, samples, no_sound, tuple(evidence))

    @classmethod
    def from_saved(cls, saved: SavedClip, name: str, waveform: Samples | None = None) -> ClipView:
        """View of a clip's JSON and NPZ files.

        Args:
            saved: Content of the two files.
            name: Name of the clip.
            waveform: Its samples at the sample rate of the explanation; None for no sound.
        """
        return cls(saved.numbers, saved.arrays, _times_of(saved), name, waveform)

    def units(self, name: str) -> Units | None:
        """Attributions of one kind of units; None if they were not explained.

        Args:
            name: `"frames"` or `"waveform"` for frames of a path from that stage, `"layers"` and `"bands"`
                for sums over time, `"layer_frame"`, `"layer_neuron"` and `"band_frame"` for maps.
        """
        if name in self.arrays:
            half = self.arrays.get(f"{name}_half_width")
            shown = Units(self.arrays[name].astype(np.float64), None if half is None else half.astype(float))
        elif self.numbers.get(name) is None:
            return None
        else:
            shown = units_from_rows(self.numbers[name]["attribution"], self.numbers[name]["half_width"])
        stage = {"band_frame": "stft", "layer_frame": "layers"}.get(name, name)
        if stage not in self.times or name == "layers":
            return shown
        return replace(shown, times=replace(self.times[stage], count=shown.values.shape[-1]))

    @property
    def frames(self) -> Units | None:
        """Attributions over time: from the frames, else from the waveform; None without either."""
        return self.units("frames") or self.units("waveform")

    @property
    def band_edges_hz(self) -> Float[np.ndarray, " edges"]:
        """Edges of the bands in hertz; empty without bands."""
        bands = self.numbers.get("bands", {"low_hz": [], "high_hz": []})
        return np.array([*bands["low_hz"], *bands["high_hz"][-1:]])

    @property
    def duration_s(self) -> float:
        """Length of the clip in seconds."""
        return float(self.numbers["duration_s"])

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return int(self.numbers["sample_rate"])

    @property
    def target(self) -> str:
        """Name of the target: a label, or a margin between two."""
        return str(self.numbers["target"])

    @property
    def prediction(self) -> str:
        """The most probable class."""
        return str(self.numbers["prediction"])

    @property
    def label(self) -> str | None:
        """Annotated class of the clip; None if it is unknown."""
        return self.numbers.get("label")

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each class."""
        return {label: self.numbers["probabilities"][label] for label in self.numbers["labels"]}

    @property
    def target_labels(self) -> tuple[str, ...]:
        """The class that the target stands for, and the one it is compared with in a margin."""
        labels = self.numbers["labels"]
        target = target_named(self.target, labels, 0, self.numbers["settings"]["score"])
        places = (*target.classes, *(() if target.against is None else (target.against,)))
        return tuple(labels[place] for place in places)

    def score_name(self, spell: Callable[[str], str] = str) -> str:
        """The score that is explained, which is the unit of all attributions.

        Args:
            spell: Rewrites the names of classes, such as `literal` for figures.
        """
        names = self.target_labels
        kind = "margin" if len(names) > 1 else self.numbers["settings"]["score"]
        return SCORES[kind].format(*map(spell, names))

    def signs_of(self, label: str, *, target: bool = True) -> str:
        """Signs that mark a class as target, prediction and label.

        Args:
            label: The class.
            target: Whether to mark the target.
        """
        marked = {PREDICTED: self.prediction, LABELED: self.label}
        marked = {TARGET: self.target_labels[0], **marked} if target else marked
        return "".join(sign for sign, name in marked.items() if name == label)

    @property
    def diagnostics(self) -> list[str]:
        """Messages of the diagnostics, as the JSON of the clip has them."""
        return [one["message"] for one in self.numbers["diagnostics"]]

    @property
    def largest_gap(self) -> float | None:
        """Largest relative completeness gap of all stages; None for methods that claim no completeness."""
        gaps = [one["relative_gap"] for one in self.numbers["stages"].values()]
        return max((gap for gap in gaps if gap is not None), default=None)

    @property
    def headline(self) -> str:
        """One sentence: the prediction, and where most of the evidence lies."""
        decision = f"Predicted {self.prediction} ({percent(self.probabilities[self.prediction])})"
        if self.label not in (None, self.prediction):
            decision += f", labeled {self.label}"
        return f"{decision}; {self._where()}."

    def _where(self) -> str:
        of = "" if self.target == self.prediction else f" for {self.target}"
        frames = self.frames
        if frames is None:
            return f"attributions{of} have no frames"
        if frames.unresolved.all():
            return f"no frame is resolved{of}: use more draws"
        stretch = shortest_stretch(frames)
        if stretch is None:
            return f"no resolved frame is evidence for {self.target}"
        if stretch.end_s - stretch.start_s > MOST * self.duration_s:
            return f"the evidence{of} is spread over the clip"
        return f"most of the evidence{of} between {stretch.start_s:.2f} and {stretch.end_s:.2f} s"

    @property
    def facts(self) -> dict[str, str]:
        """Facts on the explanation: a name and words for each."""
        numbers, stages = self.numbers, self.numbers["stages"]
        first = next(iter(stages.values()))
        mean = first["baseline_score"]
        on_average = "" if mean is None else f", {number(mean)} on average for the baselines"
        draws = {stage: one["num_draws"] for stage, one in stages.items()}
        each = [f"{count} for {stage}" for stage, count in draws.items()]
        found = {
            "Explained": self.score_name(),
            "Score": f"{number(numbers['score'])} for the clip{on_average}",
            "Sum of attributions": None
            if first["relative_gap"] is None  # the sum means nothing without completeness
            else number(first["attribution_sum"], signed=True),
            "Completeness gap (before correction)": ", ".join(
                f"{stage} {gap_words(one)}" for stage, one in stages.items()
            ),
            "Method": METHODS.get(first["method"], first["method"]),
            "Estimated": first["estimand"],
            "Draws": str(first["num_draws"]) if len({*draws.values()}) == 1 else ", ".join(each),
            "Seed": first["seed"],
            "Precision": numbers["settings"].get("precision"),
            "Tolerance": numbers["settings"].get("tolerance"),
            "Duration": f"{self.duration_s:.3f} s at {self.sample_rate} Hz",
            "SHA-256": numbers.get("sha256"),
        }
        return {name: str(value) for name, value in found.items() if value not in (None, "")}

    def line(self, *names: str) -> str:
        """Some of the facts on one line, for the caption of a figure.

        Args:
            names: Names of the facts; those that are not known are left out.
        """
        facts = self.facts
        return "   ".join(f"{name}: {literal(facts[name], 150)}." for name in names if name in facts)


def units_from_rows(values: Sequence[float], half_widths: Sequence[float | None] | None) -> Units:
    """Units from lists as JSON has them; an unknown half-width is infinite.

    >>> units_from_rows([1.0, 2.0], [0.5, None]).unresolved
    array([False,  True])
    """
    known = None if half_widths is None else [np.inf if one is None else one for one in half_widths]
    return Units(np.array(values, dtype=np.float64), None if known is None else np.array(known, dtype=float))


def gap_words(stage: Mapping[str, Any]) -> str:
    """Relative completeness gap of one stage in words."""
    return "not claimed" if stage["relative_gap"] is None else percent(stage["relative_gap"])


def _times_of(saved: SavedClip) -> dict[str, TimeGrid]:
    """Time grids of a saved clip, which has the start and end of each frame in seconds."""
    numbers, arrays = saved.numbers, saved.arrays
    rate, num_samples = numbers["sample_rate"], round(numbers["duration_s"] * numbers["sample_rate"])
    times = {
        "stft": TimeGrid(STFT.num_frames(num_samples), STFT.hop, STFT.window, STFT.hop - STFT.window, rate)
    }
    for stage in ("frames", "waveform"):
        if stage in numbers:
            starts, ends = (np.rint(np.multiply(numbers[stage][end], rate)) for end in ("start_s", "end_s"))
            size = int(ends[0] - starts[0])
            hop = int(starts[1] - starts[0]) if len(starts) > 1 else size
            times[stage] = TimeGrid(len(starts), hop, size, int(starts[0]), rate)
    if "layer_frame" in arrays:
        # Without the frames' times the columns are spread evenly over the clip.
        hop = num_samples // arrays["layer_frame"].shape[1]
        times["layers"] = times.get("frames", TimeGrid(1, hop, hop, 0, rate))
    return times
