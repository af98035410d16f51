"""Explanations in acoustic cues: how much pitch, loudness, tempo and spectrum of a voice do to a score.

Cues are moved from the clip to a reference, all combinations of them; each is synthesized and classified. The
exact Shapley values of the cues, the effect of the resynthesis and what the cues leave unexplained sum to the
difference between the scores of two sounds. Values below their uncertainty are not ranked. Shapley values are
for the sum; what a single edit does, `leave_one_out` predicts as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, lru_cache
from itertools import combinations, compress, product
from math import inf
from os import PathLike
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from scipy.special import stdtrit
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.shapley.shapley import shapley_weights
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.audio.voice import (
    CUES,
    MAX_BAND_GAIN_DB,
    Voice,
    VoiceMeasures,
    analyze_voice,
    differences,
    mean_measures,
    resynthesize,
)
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.explainer.diagnostics import Diagnostic
from wavshap_lightning.explainer.recording import AudioSource, Recording, open_recording
from wavshap_lightning.explainer.settings import PREDICTED, ScoreKind
from wavshap_lightning.explainer.targets import most_voted, score_of_task, target_named, target_names
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import Task
from wavshap_lightning.models.loading import load_classifier

FLAT, NEUTRAL = "flat", "neutral"

SHIFTS = (0.0, -0.1, 0.1)
"""Semitones by which F0 is shifted in each rendering of a sound. Nobody hears it, but the pulses of the voice
fall elsewhere, and scores change by chance."""

NO_F0 = "the clip or the reference has no F0, as in a whisper or creak, or where there is no voice"
MAX_DURATION_S = 30.0
BATCH = 8

LEAST_EXPLAINED = 0.25
MAX_DISAGREEMENT, MAX_STRETCH = 0.1, 2.0

WARNINGS = {
    "resynthesis": "The score of the clip is {:+.2f} above that of its resynthesis, which changes the "
    "prediction or is more than any cue does: the cues explain another sound.",
    "little_explained": "These cues do not explain this clip: they carry less than a quarter of the "
    "difference from the reference, or none is larger than its uncertainty.",
    "trackers_disagree": "Two trackers of F0 are more than 3 semitones apart in {:.0%} of the voiced "
    "frames, as with creak, several voices, music or noise: do not rely on the cues of pitch.",
    "turned_down": "{:.0f} sounds exceed full scale: they are classified as they are, and played softer.",
    "stretch": "The active span of the reference is {:.2f} times as long as the clip's. Tempo compares "
    "durations, which tell the rate of speech only where the words are the same.",
    "bandwidth": "Bands of clip and reference are up to {:.0f} dB apart, as with a telephone or another "
    "microphone; the spectrum is moved by 30 dB at most.",
}
"""Messages of the diagnostics."""

SCORES = ("score", "reference_score", "resynthesis", "remainder", "share_explained", "rows")

Sound = Float32[np.ndarray, "_"]


@dataclass(frozen=True)
class CueEffect:
    """One cue of a clip and what it does to the score.

    Args:
        cue: Name of the cue.
        value: Shapley value: mean change of the score, over all orders of moving cues, when the clip's own
            cue takes the place of the reference's.
        half_width: Half-width of its 95 % interval under inaudible shifts of F0, pooled over the cues.
        resolved: Whether the interval leaves out zero.
        difference: Physical difference of the clip from the reference.
        leave_one_out: Score of the resynthesis above that with this cue alone moved to the reference.
    """

    cue: str
    value: float
    half_width: float
    resolved: bool
    difference: float
    leave_one_out: float


@dataclass(frozen=True)
class CueExplanation:
    """Explanation of one clip in acoustic cues, for one target.

    The outputs for all combinations of cues are kept: `dataclasses.replace(explanation, target="sad")`
    explains another target.

    Args:
        clip: File of the clip; empty if a waveform was given.
        reference: Name of the reference.
        voice: Analysis of the clip.
        reference_measures: Cues of the reference.
        labels: Names of the outputs.
        task: Meaning of the outputs.
        target: Name of the explained scalar: a label, a margin or a dimension.
        score_kind: Score of the target.
        missing: Cues that are left out, with the reason.
        clip_logits: Outputs of the classifier for the clip.
        reference_logits: Outputs for the reference; None unless it is one clip.
        logits: Outputs `(renderings, combinations, outputs)`. In combination `k`, cue `i` of those not
            missing is the clip's own if bit `i` of `k` is set, else the reference's.
        num_turned_down: Number of sounds beyond full scale, which are played softer than they are classified.
    """

    clip: str
    reference: str
    voice: Voice = field(repr=False)
    reference_measures: VoiceMeasures
    labels: tuple[str, ...]
    task: Task
    target: str
    score_kind: ScoreKind
    missing: Mapping[str, str]
    clip_logits: Sequence[float]
    reference_logits: Sequence[float] | None
    logits: Sequence[Sequence[Sequence[float]]]
    num_turned_down: int

    def _score(self, logits: Any) -> Float64[Tensor, " sounds"]:  # noqa: ANN401 - nested lists
        target = _target(self.target, self.labels, self.score_kind, self.clip_logits)
        return target(torch.tensor(logits, dtype=torch.float64).reshape(-1, len(self.labels)))[:, 0]

    @property
    def moved(self) -> tuple[str, ...]:
        """The cues in which clip and reference differ, of those not missing."""
        return _moved(self.voice.measures, self.reference_measures, self.missing)

    @cached_property
    def values(self) -> Float64[Tensor, "renderings combinations"]:
        """Score of each combination of cues in each rendering."""
        return self._score(self.logits).reshape(len(self.logits), -1)

    @property
    def score(self) -> float:
        """Score of the clip."""
        return float(self._score(self.clip_logits))

    @property
    def reference_score(self) -> float:
        """Score of the reference; of the clip with all cues moved to it if the reference is not one clip."""
        known = self.reference_logits
        return float(self.values[:, 0].mean() if known is None else self._score(known))

    @property
    def resynthesis(self) -> float:
        """Score of the clip above that of its resynthesis."""
        return self.score - float(self.values[:, -1].mean())

    @property
    def remainder(self) -> float | None:
        """Score of the clip with all cues moved above that of the reference; None if that is not one clip."""
        left = float(self.values[:, 0].mean()) - self.reference_score
        return None if self.reference_logits is None else left

    @cached_property
    def cues(self) -> tuple[CueEffect, ...]:
        """The cues that both sounds have."""
        found, mean = self.values @ shapley_weights(_coalitions(len(self.moved))).T, self.values.mean(0)
        stderr = float((found.var(0).mean() / len(found)).sqrt())
        half_width = stderr * float(stdtrit((len(found) - 1) * len(self.moved), 0.975))
        apart = differences(self.voice.measures, self.reference_measures)
        lost = [float(mean[-1] - mean[-1 - 2**place]) for place in range(len(self.moved))]
        rows = zip(self.moved, found.mean(0).tolist(), lost, strict=True)
        return tuple(
            CueEffect(cue, value, half_width, abs(value) > half_width, apart[cue], loss)
            for cue, value, loss in rows
        )

    @property
    def rows(self) -> dict[str, float]:
        """Cues, resynthesis and any remainder, which sum to the difference of the two scores."""
        rest = {} if self.remainder is None else {"remainder": self.remainder}
        return {one.cue: one.value for one in self.cues} | {"resynthesis": self.resynthesis} | rest

    @property
    def share_explained(self) -> float | None:
        """Share of the difference of the two scores that the cues carry; None without a reference clip."""
        whole = self.score - self.reference_score
        return None if self.remainder is None or not whole else sum(one.value for one in self.cues) / whole

    def interactions(self) -> dict[tuple[str, str], float]:
        """Shapley interaction index of each pair: what two cues do together beyond what each does alone.

        It is the sum of the Harsanyi dividends of all combinations with both, divided by their size less one.
        Source: Grabisch and Roubens (1999), International Journal of Game Theory 28.
        """
        present, value = _coalitions(len(self.moved)).double(), self.values.mean(0)
        size = present.sum(1)
        within = (present[:, None] >= present).all(2)
        dividends = (within * (-1.0) ** (size[:, None] - size)) @ value
        index = present.T @ ((dividends / (size - 1).clamp(min=1))[:, None] * present)
        pairs = combinations(range(len(self.moved)), 2)
        return {(self.moved[one], self.moved[other]): float(index[one, other]) for one, other in pairs}

    def sound(self, moved: Iterable[str] = ()) -> Sound:
        """Samples of the clip with some cues moved to the reference, turned down until they fit into [-1, 1].

        Args:
            moved: The cues; none for the resynthesis.

        Raises:
            AudioError: If the clip or the reference lacks such a cue.
        """
        samples = resynthesize(self.voice, self.reference_measures, dict.fromkeys(moved, 1.0))
        return samples / max(1.0, np.abs(samples).max())

    @property
    def predictions(self) -> list[str | None]:
        """Labels of the largest output for the clip and for its resynthesis; None for dimensions."""
        best = [int(np.argmax(of)) for of in (self.clip_logits, self.logits[0][-1])]
        return [None if self.task == "dimensions" else self.labels[one] for one in best]

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Reasons not to trust the explanation."""
        own, to, share = self.voice.measures, self.reference_measures, self.share_explained
        stretch, largest = to.tempo / own.tempo, max(abs(one.value) for one in self.cues)
        apart_db = float(np.abs(np.subtract(own.spectrum, to.spectrum)).max())
        is_other = len({*self.predictions}) > 1 or abs(self.resynthesis) > largest
        is_little = share is not None and share < LEAST_EXPLAINED
        apart = self.voice.tracker_disagreement or 0.0
        found: dict[str, tuple[float | None, bool]] = {
            "resynthesis": (self.resynthesis, is_other),
            "little_explained": (share, is_little or not any(one.resolved for one in self.cues)),
            "trackers_disagree": (apart, apart > MAX_DISAGREEMENT),
            "turned_down": (float(self.num_turned_down), self.num_turned_down > 0),
            "stretch": (stretch, not 1 / MAX_STRETCH <= stretch <= MAX_STRETCH),
            "bandwidth": (apart_db, apart_db > MAX_BAND_GAIN_DB),
        }
        rows = [("cue_missing", f"{cue} is left out: {why}.", None) for cue, why in self.missing.items()]
        told = [(name, WARNINGS[name].format(at), at) for name, (at, holds) in found.items() if holds]
        return tuple(Diagnostic(name, "warning", message, at) for name, message, at in (*rows, *told))

    def to_dict(self) -> dict[str, Any]:
        """The record in plain JSON types, with the numbers that follow from it."""
        names = {*(one.name for one in fields(self)), *SCORES} - {"voice"}
        plain = {name: getattr(self, name) for name in sorted(names)}
        plain |= zip(("prediction", "resynthesis_prediction"), self.predictions, strict=True)
        plain |= {name: [asdict(one) for one in getattr(self, name)] for name in ("cues", "diagnostics")}
        own, to = self.voice, self.reference_measures
        plain |= {"measures": asdict(own.measures), "reference_measures": asdict(to)}
        return plain | {"interactions": [[*pair, value] for pair, value in self.interactions().items()]}


def explain_cues(
    classifier: EmotionClassifier | str | PathLike[str],
    clip: AudioSource,
    *,
    reference: AudioSource | Sequence[AudioSource] | VoiceMeasures,
    reference_name: str = "",
    target: str = PREDICTED,
    score: ScoreKind = "log_odds",
    renderings: int = len(SHIFTS),
) -> CueExplanation:
    """Explain a clip in acoustic cues.

    Each combination of cues is synthesized and classified; its score is the mean over renderings that differ
    in F0 by 0.1 semitones.

    Args:
        classifier: The classifier, or a MODEL that
            [`load_classifier`][wavshap_lightning.models.loading.load_classifier] opens.
        clip: A file, a clip of a corpus, or a waveform at the classifier's sample rate; at most 30 s.
        reference: Where cues are moved to: a clip, such as a neutral one of the speaker, to whose own score
            the rows then sum; several, of which the mean is taken; measures, such as those of a corpus; or
            `"flat"`, the clip without a range of pitch.
        reference_name: Name of the reference; its file, or what it is, if empty.
        target: A label, `"predicted"`, a margin or a dimension; of several the first.
        score: Score of a class.
        renderings: Number of renderings, 2 or 3; more are more certain.

    Raises:
        WavshapError: If the model, the clip, the reference and the target do not go together, or the extra
            `cues` is not installed; the message says why.
    """
    if renderings not in range(2, len(SHIFTS) + 1):
        raise SettingError(f"renderings={renderings} must be 2 to {len(SHIFTS)}")
    if isinstance(classifier, str | PathLike):
        classifier = load_classifier(classifier)
    classifier = classifier.part(target)
    grid, kind = classifier.backbone.frame_grid, score_of_task(score, classifier.task)
    recording = open_recording(clip, grid)
    if recording.duration_s > MAX_DURATION_S:
        raise AudioError(
            f"duration={recording.duration_s:.1f} s: at most {MAX_DURATION_S:g} s for cues; cut the clip"
        )
    voice = analyze_voice(recording.waveform.numpy(), recording.sample_rate)
    to, others, name = _open_reference(reference, voice, grid)
    missing = {cue: NO_F0 for cue in CUES if cue not in differences(voice.measures, to)}
    longest_s = recording.duration_s + max(0.0, to.tempo - voice.measures.tempo)
    if longest_s * grid.sample_rate > (grid.max_samples or inf):
        missing["tempo"] = f"the clip would last {longest_s:.1f} s, longer than the model takes"
    moved = _moved(voice.measures, to, missing)
    if not moved:
        raise AudioError(
            f"reference={reference_name or name}: no cue differs, or there is no F0; choose another"
        )
    absent = [[*compress(moved, ~present)] for present in _coalitions(len(moved)).numpy()]
    plan = product(SHIFTS[:renderings], absent)
    sounds = [resynthesize(voice, to, dict.fromkeys(cues, 1.0), shift=shift) for shift, cues in plan]
    with leave_no_trace(classifier), torch.no_grad():
        own = _logits(classifier, [one.waveform.numpy() for one in (recording, *others)])
        logits = _logits(classifier, sounds).reshape(renderings, len(absent), -1)
    labels = classifier.labels
    asked = _target(target, labels, kind, own[0].tolist(), most_voted(recording.votes, labels))
    return CueExplanation(
        clip=recording.path,
        reference=reference_name or name,
        voice=voice,
        reference_measures=to,
        labels=labels,
        task=classifier.task,
        target=target_names(asked, labels)[0],
        score_kind=kind,
        missing=missing,
        clip_logits=own[0].tolist(),
        reference_logits=own[1].tolist() if others else None,
        logits=logits.tolist(),
        num_turned_down=sum(float(np.abs(one).max()) > 1 for one in sounds),
    )


def reference_clips(clip: Clip, clips: Iterable[Clip], kind: Literal["neutral", "speaker"]) -> list[Clip]:
    """Other clips of a clip's speaker that may serve as its reference; none if the speaker is unknown.

    Args:
        clip: The clip.
        clips: Clips at hand.
        kind: `"neutral"` for the first one that is labeled neutral, with the clip's text if there is one;
            `"speaker"` for all.
    """
    own = [one for one in clips if (one.speaker, one.corpus) == (clip.speaker, clip.corpus) and one != clip]
    neutral = sorted((one for one in own if one.label == NEUTRAL), key=lambda one: one.text != clip.text)
    return [] if not clip.speaker else own if kind == "speaker" else neutral[:1]


def _open_reference(
    reference: AudioSource | Sequence[AudioSource] | VoiceMeasures, voice: Voice, grid: FrameGrid
) -> tuple[VoiceMeasures, list[Recording], str]:
    """Measures of a reference, the clip that it is if it is one, and its name."""
    if isinstance(reference, VoiceMeasures):
        return reference, [], "measures"
    if isinstance(reference, str) and reference == FLAT:
        return replace(voice.measures, pitch_range=0.0), [], FLAT
    given = reference if isinstance(reference, list | tuple) else [reference]
    opened = [open_recording(one, grid, name=f"reference[{index}]") for index, one in enumerate(given)]
    measures = mean_measures([_measured(one.waveform.numpy().tobytes(), one.sample_rate) for one in opened])
    if len(opened) > 1:
        return measures, [], f"mean of {len(opened)} clips"
    return measures, opened, opened[0].path


@lru_cache(maxsize=64)  # one clip is the reference of many
def _measured(samples: bytes, sample_rate: int) -> VoiceMeasures:
    return analyze_voice(np.frombuffer(samples, dtype=np.float32), sample_rate).measures


def _moved(own: VoiceMeasures, to: VoiceMeasures, missing: Collection[str]) -> tuple[str, ...]:
    return tuple(cue for cue in CUES if cue not in missing and getattr(own, cue) != getattr(to, cue))


def _coalitions(count: int) -> Bool[Tensor, "coalitions players"]:
    return (torch.arange(2**count)[:, None] >> torch.arange(count)) % 2 == 1


def _logits(classifier: nn.Module, sounds: Sequence[Sound]) -> Float64[Tensor, "sounds outputs"]:
    """Outputs of the classifier for each sound, from batches padded at the end."""
    place, found = next(classifier.parameters()), []  # its device and precision
    for start in range(0, len(sounds), BATCH):
        batch = [torch.from_numpy(one) for one in sounds[start : start + BATCH]]
        lengths = torch.tensor([len(one) for one in batch], device=place.device)
        found.append(classifier(pad_sequence(batch, batch_first=True).to(place), lengths))
    return torch.cat(found).double().cpu()


def _target(
    name: str, labels: Sequence[str], kind: ScoreKind, logits: Sequence[float], choices: Sequence[int] = ()
) -> Target:
    """One scalar by name; the first of several."""
    ranking = torch.tensor(logits).argsort(descending=True, stable=True).tolist()
    asked = target_named(name, labels, kind, ranking, choices)
    return replace(asked, classes=asked.classes[:1])
