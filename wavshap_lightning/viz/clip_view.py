"""The view-model of one explained clip: the numbers and words that figures and pages show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from wavshap_lightning.attribution.reliability import Agreement, Reliability
from wavshap_lightning.audio.segments import LOW_CONFIDENCE
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.explainer.time_grid import TimeGrid, stft_times
from wavshap_lightning.models.head import Task
from wavshap_lightning.viz.sound import GivenWaveform, Samples, find_waveform
from wavshap_lightning.viz.theme import EN_DASH, literal, number, percent

TARGET, PREDICTED, LABELED = "\N{BLACK CIRCLE}", "\N{BLACK RIGHT-POINTING TRIANGLE}", "\N{BLACK DIAMOND}"
MOST = 0.5
"""Share of the evidence that counts as most of it."""

GAP = "Completeness gap (before correction)"
RANKING = CERTAIN, SURVIVAL = "Certain to be among the strongest (dots)", "Another seed keeps"
COUNTS = "Number of models that have the frame among their strongest"
ABOUT = ("Method", "Estimated", "Draws", "Seed")
"""Facts that every caption states."""

_CLASSES = {"one": "class", "unit": "Probability", "best": "predicted", "+": "for", "-": "against"}
WORDS: Mapping[Task, Mapping[str, str]] = {
    "classes": _CLASSES,
    "distribution": _CLASSES,
    "labels": {"one": "label", "unit": "Probability", "best": "top label", "+": "for", "-": "against"},
    "dimensions": {"one": "dimension", "unit": "Value", "best": "", "+": "raises", "-": "lowers"},
}
"""By task: one of the outputs, their meaning, that of the largest, and that of the signs of attributions."""

NO_TIME = TimeGrid(0, 1, 1, 0, 1)
"""Time grid of units that are sums over time."""

TIME_GRIDS = {"frames": "frames", "waveform": "waveform", "layer_frame": "layers", "band_frame": "stft"}
"""Key of the time grid of each kind of units that has one."""

Numbers = Shaped[np.ndarray, "..."] | Sequence[float] | Sequence[float | None]


class Rows(NamedTuple):
    """Named numbers that are drawn in rows, the first on top.

    Args:
        names: Name of each number.
        values: The numbers.
        annotated: The same as annotators gave it, None where unknown; empty if all are unknown.
        annotators: Words about the annotators.
        scale: Lowest and highest value; None if unknown.
    """

    names: Sequence[str]
    values: Sequence[float]
    annotated: Sequence[float | None] = ()
    annotators: str = ""
    scale: Sequence[float] | None = None


@dataclass(frozen=True)
class Units:
    """Attributions of some units to one target.

    Args:
        values: Attribution of each unit; the last axis is time where there is a time grid.
        half_widths: Half-widths of the 95 % intervals; NaN for methods without an error, and infinite where
            the error is not known yet.
        times: Time grid of the last axis; of nothing for sums over time.
        names: Name of each row of units, such as the frequencies of a band.
        certain: Positions of the units that certainly are among the strongest.
    """

    values: Float[np.ndarray, "*units"]
    half_widths: Float[np.ndarray, "*units"]
    times: TimeGrid = NO_TIME
    names: Sequence[str] = ()
    certain: Sequence[int] = ()

    @classmethod
    def of(cls, values: Numbers, half_widths: Numbers | None = None) -> Units:
        """Units from arrays, or from lists as JSON has them.

        Args:
            values: Attribution of each unit.
            half_widths: Half-width of each interval; None for methods without intervals, and None or NaN
            for a unit whose error is unknown.

        >>> Units.of([1.0, 2.0], [0.5, None]).unresolved
        array([False,  True])
        """
        shown = np.asarray(values, dtype=np.float64)
        if half_widths is None:
            return cls(shown, np.full_like(shown, np.nan))
        known = np.asarray(half_widths, dtype=np.float64)
        return cls(shown, np.nan_to_num(known, nan=np.inf, posinf=np.inf))

    @classmethod
    def stack(cls, rows: Sequence[Units], names: Sequence[str]) -> Units:
        """Units of several explanations as the rows of one map."""
        half_widths = np.stack([row.half_widths for row in rows])
        return cls(np.stack([row.values for row in rows]), half_widths, rows[0].times, names)

    @property
    def unresolved(self) -> Bool[np.ndarray, "*units"]:
        """True where the interval contains 0; false everywhere without intervals."""
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
    def reach(self) -> Float[np.ndarray, "*units"]:
        """Half-widths, 0 where they are unknown or infinite, as after a single draw."""
        return np.where(np.isfinite(self.half_widths), self.half_widths, 0.0)

    @property
    def words(self) -> list[str]:
        """Text with attribution and interval for each unit, for units along one axis.

        >>> Units.of([1.0, 2.0], [0.5, None]).words
        ['+1, 95 % interval +0.5 to +1.5', '+2, no interval known, not resolved']
        """
        words: list[str] = []
        for value, half, unresolved in zip(self.values, self.half_widths, self.unresolved, strict=True):
            low, high = (number(value + side * half, signed=True) for side in (-1, 1))
            interval = f"95 % interval {low} to {high}" if np.isfinite(half) else "no interval known"
            remark = ", not resolved" if unresolved else ""
            remark = ", certain to be among the strongest" if len(words) in self.certain else remark
            words.append(f"{number(value, signed=True)}, {interval}{remark}")
        return words

    def within(self, duration_s: float) -> Units:
        """Without the frames of silence that a model adds to a clip."""
        count = self.times.num_within(duration_s)
        values, half_widths = self.values[..., :count], self.half_widths[..., :count]
        return replace(self, values=values, half_widths=half_widths, times=replace(self.times, count=count))

    def strongest(self, count: int) -> list[tuple[float, float]]:
        """Start and end in seconds of the units with the largest magnitudes, the strongest first."""
        order = np.argsort(-np.abs(self.values), kind="stable")[:count]
        start_s, end_s = self.times.start_s()[order], self.times.end_s()[order]
        return list(zip(start_s.tolist(), end_s.tolist(), strict=True))

    def shortest_stretch(self) -> tuple[float, float, float] | None:
        """Start and end in seconds of the shortest stretch with most of the evidence, and the share in it.

        Evidence means positive, resolved attributions. None if there is none.

        >>> seconds = TimeGrid(5, 1, 1, 0, 1)
        >>> replace(Units.of([1.0, 3.0, -9.0, 3.0, 4.0]), times=seconds).shortest_stretch()
        (3.0, 5.0, 0.636...)
        """
        evidence = np.where(self.signs > 0, self.values, 0.0)
        if not evidence.sum() > 0:
            return None
        held = np.concatenate([[0.0], np.cumsum(evidence)]) / evidence.sum()
        # The first end for each beginning; rounding must not lose the whole, which always holds most.
        ends = np.searchsorted(held, held[:-1] + MOST - 1e-12)
        begins = np.flatnonzero(ends < len(held))
        start_s, end_s = self.times.start_s(), self.times.end_s()
        best = begins[int(np.argmin((end_s[ends[begins] - 1] - start_s[begins]).round(9)))]
        share = held[ends[best]] - held[best]
        return float(start_s[best]), float(end_s[ends[best] - 1]), float(share)


@dataclass(frozen=True)
class ClipView:
    """One explained clip and target, prepared for figures and reports.

    Args:
        numbers: The explanation in plain JSON types, as in a clip's JSON file.
        arrays: Maps and their half-widths, as in a clip's NPZ file.
        times: Time grids by stage, and `"stft"` for columns of bands.
        name: Name of the clip.
        waveform: Samples at the sample rate of the explanation; None if they are not available.
        no_sound: The reason why there are no samples.
        evidence: Spans known to decide the label.
        sounds: Sounds of the explanation in cues, by name.
    """

    numbers: Mapping[str, Any]
    arrays: Mapping[str, Shaped[np.ndarray, "..."]]
    times: Mapping[str, TimeGrid]
    name: str
    waveform: Samples | None = field(default=None, repr=False)
    no_sound: str = ""
    evidence: tuple[Span, ...] = ()
    sounds: Mapping[str, Samples] = field(default_factory=dict, repr=False)

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
            evidence: Spans known to decide the label.

        Raises:
            AttributionError: If the target was not explained.
            AudioError: If the waveform is not as long as the one explained.
        """
        saved = explanation.to_saved_clip(target=target, label=label)
        name = PurePath(explanation.clip).name or "A waveform"
        samples, no_sound = find_waveform(explanation, waveform)
        return cls(saved.numbers, saved.arrays, explanation.times, name, samples, no_sound, tuple(evidence))

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
                for sums over time, `"words"` and `"phones"` for sums over each, `"layer_frame"`,
                `"layer_neuron"` and `"band_frame"` for maps.
        """
        values, half_widths = self.arrays.get(name), self.arrays.get(f"{name}_half_width")
        if values is None:
            held = self.columns(name)
            if held is None:
                return None
            values, half_widths = held["attribution"], held["half_width"]
        shown = Units.of(values, half_widths)
        if name in TIME_GRIDS:
            shown = replace(shown, times=self.times[TIME_GRIDS[name]])
            shown = shown if name == "band_frame" else shown.within(self.duration_s)
        found = self._reliability.get(name)
        certain = () if found is None else found["certain"]
        return replace(shown, names=self._names(name, shown.times, len(shown.values)), certain=certain)

    def _names(self, name: str, times: TimeGrid, count: int) -> list[str]:
        """Names of the rows of a map, or of units along one axis."""
        if name in ("bands", "band_frame"):
            return [f"{low:.0f}{EN_DASH}{high:.0f} Hz" for low, high in pairwise(self.band_edges_hz)]
        if name in ("frames", "waveform"):
            spans = zip(*np.clip([times.start_s(), times.end_s()], 0, self.duration_s), strict=True)
            return [f"{start:.3f}{EN_DASH}{end:.3f} s" for start, end in spans]
        if (held := self.columns(name) or {}).get("text"):
            trust = (1.0 if one is None else one for one in held.get("confidence") or [1.0] * count)
            marks = ("?" if one < LOW_CONFIDENCE else "" for one in trust)
            return [f"{text}{mark}" for text, mark in zip(held["text"], marks, strict=True)]
        return [f"layer {layer}" for layer in range(count)]

    def columns(self, name: str) -> Mapping[str, Any] | None:
        """Table of units along one axis, column by column, also of segments, which files hold row by row.

        Args:
            name: Such as `"frames"`, `"words"`, `"phones"` or `"segments"`.
        """
        held = self.numbers.get(name)
        if not isinstance(held, list):
            return held
        columns = {one: [row[one] for row in held] for row in held[:1] for one in row}
        halves = columns.get("half_width", ())
        return columns | {"half_width": halves if any(halves) else None} if columns else None

    @property
    def tiers(self) -> dict[str, Units]:
        """Attributions of the words and of the phones, as far as their times are known."""
        return {name: units for name in ("words", "phones") if (units := self.units(name)) is not None}

    @property
    def doubts(self) -> str:
        """Meaning of the mark of a word whose times are uncertain; empty without one."""
        marked = any(units.names != self.numbers[name]["text"] for name, units in self.tiers.items())
        return "?: its times are uncertain" if marked else ""

    @property
    def frames(self) -> Units | None:
        """Attributions over time: those of the frames, else of the waveform; None without either."""
        return self.units("frames") or self.units("waveform")

    @property
    def reliability(self) -> Reliability | None:
        """Reliability of the strongest frames; None without frames or standard errors."""
        found = self._reliability.get("frames") or self._reliability.get("waveform")
        return found and Reliability(**found)

    @property
    def cues(self) -> Mapping[str, Any]:
        """Explanation of the target in acoustic cues; empty without one."""
        found = self.numbers.get("cues", {})
        return found if found.get("target") == self.target else {}

    @property
    def agreement(self) -> Agreement | None:
        """Agreement with other models about the strongest frames; None without others."""
        return Agreement(**self.numbers["agreement"]) if "agreement" in self.numbers else None

    @property
    def _reliability(self) -> Mapping[str, Any]:
        return self.numbers.get("reliability", {})  # which files of earlier versions lack

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
    def task(self) -> Task:
        """Meaning of the outputs."""
        return self.numbers.get("task", "classes")

    @property
    def words(self) -> Mapping[str, str]:
        """Words of the task."""
        return WORDS[self.task]

    @property
    def prediction(self) -> str:
        """The most probable class or label; empty for dimensions."""
        return str(self.numbers.get("prediction", ""))

    @property
    def label(self) -> str | None:
        """Annotated class of the clip; None if it is unknown."""
        return self.numbers.get("label")

    @property
    def outputs(self) -> dict[str, float]:
        """Probability of each class or label, or value of each dimension."""
        held = self.numbers["values" if self.task == "dimensions" else "probabilities"]
        return {label: held[label] for label in self.numbers["labels"]}

    @property
    def shares(self) -> Rows:
        """Shares of the magnitude of the frames' attributions in speech, pauses and edges."""
        shares = self.numbers.get("shares") or {}
        return Rows([*shares], [*shares.values()])

    @property
    def annotated(self) -> dict[str, float]:
        """Share of the votes of each class or label, or annotated values by dimension; empty if unknown."""
        if self.task == "dimensions":
            return dict(self.numbers.get("annotated_values", {}))
        votes, labels = self.numbers.get("votes", {}), self.numbers["labels"]
        return {label: votes[label] / sum(votes.values()) for label in labels if votes.get(label, 0) > 0}

    @property
    def target_labels(self) -> tuple[str, ...]:
        """The class of the target and, for a margin, the class it is compared with."""
        labels = self.numbers["labels"]
        target = target_named(self.target, labels, self.numbers["settings"]["score"])
        places = (*target.classes, *(() if target.against is None else (target.against,)))
        return tuple(labels[place] for place in places)

    def score_name(self, spell: Callable[[str], str] = str) -> str:
        """The score that is explained, which is the unit of all attributions.

        Args:
            spell: Rewrites the names of classes, such as `literal` for figures.
        """
        label, *against = map(spell, self.target_labels)
        if against and self.task == "dimensions":
            return f"value of {label} minus {against[0]}"
        if against:
            return f"logit of {label} above {against[0]}"
        return f"{self.numbers['settings']['score'].replace('_', '-')} of {label}"

    def classes(
        self, spell: Callable[[str], str] = str, *, target: bool = True, most: int | None = None
    ) -> Rows:
        """Outputs, whose names are marked as target, prediction or label.

        Args:
            spell: Rewrites the names.
            target: Whether to mark the target.
            most: Maximum number of outputs, the marked and the most probable or first ones; all if None.
        """
        signs = {TARGET: self.target_labels[0] if target else None}
        signs |= {PREDICTED: self.prediction, LABELED: self.label}
        chances = self.outputs
        marks = {one: "".join(sign for sign, marked in signs.items() if marked == one) for one in chances}
        is_value = self.task == "dimensions"  # which are in order, not ranked
        ranked = sorted(chances, key=lambda one: (not marks[one], 0 if is_value else -chances[one]))[:most]
        shown = [one for one in chances if one in ranked]
        names = [f"{marks[one]} {spell(one)}".strip() for one in shown]
        annotated = [self.annotated.get(one) for one in shown] if self.annotated else []
        num_votes = number(sum(self.numbers.get("votes", {}).values(), 0.0))
        annotators = "annotated" if is_value else f"listeners (n={num_votes})"
        return Rows(names, [chances[one] for one in shown], annotated, annotators, self.numbers.get("scale"))

    @property
    def largest_gap(self) -> float | None:
        """Largest relative completeness gap of all stages; None for methods that claim no completeness."""
        gaps = [one["relative_gap"] for one in self.numbers["stages"].values()]
        return max((gap for gap in gaps if gap is not None), default=None)

    @property
    def headline(self) -> str:
        """One sentence: the prediction or the values, and where most of the evidence lies."""
        decision = self.values()
        if self.prediction:
            chance = percent(self.outputs[self.prediction])
            decision = f"{self.words['best'].capitalize()} {self.prediction} ({chance})"
        if self.label not in (None, self.prediction):
            decision += f", labeled {self.label}"
        return f"{decision}; {self._where()}."

    def values(self, *, target: bool = True) -> str:
        """Value of each dimension, in words.

        Args:
            target: Whether to say which one is explained.
        """
        marks = {name: ["explained"] for name in (self.target_labels if target else ())}
        for name, value in self.annotated.items():
            marks.setdefault(name, []).append(f"annotated {number(value)}")
        notes = {name: f" ({', '.join(words)})" for name, words in marks.items()}
        shown = (f"{name} {number(value)}{notes.get(name, '')}" for name, value in self.outputs.items())
        scale = [number(end) for end in self.numbers.get("scale") or ()]
        return ", ".join(shown) + (f" on a scale from {' to '.join(scale)}" if scale else "")

    @property
    def cells(self) -> list[tuple[str, str, float | None]]:
        """Heading, text and number of the cells of a table that state the prediction or the values."""
        if not self.prediction:
            return [(name, number(value), value) for name, value in self.outputs.items()]
        chance = self.outputs[self.prediction]
        word = "Top label" if self.task == "labels" else "Prediction"
        return [(word, self.prediction, None), ("Probability", percent(chance), chance)]

    def _where(self) -> str:
        target = f"higher {self.target}" if self.task == "dimensions" else self.target
        of = "" if self.target == self.prediction else f" for {target}"
        frames = self.frames
        if frames is None:
            return f"attributions{of} have no frames"
        if frames.unresolved.all():
            return f"no frame is resolved{of}: use more draws"
        stretch = frames.shortest_stretch()
        if stretch is None:
            return f"no resolved frame is evidence for {target}"
        start_s, end_s = np.clip(stretch[:2], 0, self.duration_s)
        if end_s - start_s > MOST * self.duration_s:
            return f"the evidence{of} is spread over the clip"
        return f"most of the evidence{of} between {start_s:.2f} and {end_s:.2f} s"

    @property
    def facts(self) -> dict[str, str]:
        """Facts about the explanation, as pairs of a name and a text."""
        numbers, stages = self.numbers, self.numbers["stages"]
        first = next(iter(stages.values()))
        mean, gaps = first["baseline_score"], [one["relative_gap"] for one in stages.values()]
        on_average = "" if mean is None else f", {number(mean)} on average for the baselines"
        is_complete = gaps[0] is not None  # the sum means nothing otherwise
        known, hidden = self._reliability.items(), "segments" if self.tiers else ""  # which are the words
        ranked = {name: one for name, one in known if one is not None and name != hidden}
        found = {
            "Explained": self.score_name(),
            "Score": f"{number(numbers['score'])} for the clip{on_average}",
            "Sum of attributions": number(first["attribution_sum"], signed=True) if is_complete else None,
            GAP: _by_stage(stages, ["not claimed" if gap is None else percent(gap) for gap in gaps]),
            "Votes": ", ".join(f"{one} {number(float(n))}" for one, n in numbers.get("votes", {}).items()),
            "Method": first["method"],
            "Estimated": first["estimand"],
            CERTAIN: ", ".join(f"{name} {len(one['certain'])} of {one['k']}" for name, one in ranked.items()),
            SURVIVAL: ", ".join(f"{name} {percent(one['survival'])}" for name, one in ranked.items()),
            "Agreement": self.agreement and self.agreement.in_words(),
            "Chosen": "; ".join(f"{name}, as {why}" for name, why in numbers.get("reasons", {}).items()),
            "Draws": _by_stage(stages, [one["num_draws"] for one in stages.values()]),
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


def _by_stage(stages: Iterable[str], facts: Sequence[object]) -> str:
    """One fact for all stages, or that of each.

    >>> _by_stage(["frames", "layers"], [64, 64]), _by_stage(["frames", "layers"], [64, 128])
    ('64', 'frames 64, layers 128')
    """
    words = [f"{stage} {fact}" for stage, fact in zip(stages, facts, strict=True)]
    return ", ".join(words) if len({*facts}) > 1 else str(facts[0])


def _times_of(saved: SavedClip) -> dict[str, TimeGrid]:
    """Time grids of a saved clip, which has the start and end of each frame in seconds."""
    numbers, arrays = saved.numbers, saved.arrays
    rate, num_samples = numbers["sample_rate"], round(numbers["duration_s"] * numbers["sample_rate"])
    times = {"stft": stft_times(num_samples, rate)}
    for stage in numbers.keys() & {"frames", "waveform"}:
        starts, ends = (np.rint(np.multiply(numbers[stage][end], rate)) for end in ("start_s", "end_s"))
        size = int(ends[0] - starts[0])
        hop = int(starts[1] - starts[0]) if len(starts) > 1 else size
        times[stage] = TimeGrid(len(starts), hop, size, int(starts[0]), rate)
    if "layer_frame" in arrays:
        # Without the frames' times the columns are spread evenly over the clip and its padding.
        count = arrays["layer_frame"].shape[1]
        hop = round(numbers.get("padded_s", num_samples / rate) * rate) // count
        times["layers"] = times.get("frames", TimeGrid(count, hop, hop, 0, rate))
    return times
