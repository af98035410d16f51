"""Measuring methods on clips: each is explained by each method, and by controls that ask no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Float, Float64
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.controls import edge_map, energy_map, random_map
from wavshap_lightning.evaluation.edits import EditedSpans, edit_spans
from wavshap_lightning.evaluation.faithfulness import (
    FILLS,
    Perturbations,
    Proof,
    infidelity,
    lost_by,
    masked_sound,
    open_proof,
    over_chance,
    perturb,
    removal_curves,
    top_share,
)
from wavshap_lightning.evaluation.localization import inside_spans, localise
from wavshap_lightning.evaluation.sanity import Doubts, dependence, open_doubts
from wavshap_lightning.evaluation.stability import SNRS_DB, reliability, sensitivities
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.recording import open_recording
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.time_grid import times_of
from wavshap_lightning.models.classifier import EmotionClassifier

Frames = Float[Tensor, " time"]


@dataclass(frozen=True)
class Trials:
    """Measurements that all maps of a clip share.

    Args:
        proof: The clip's frames, and the classifier to ask.
        perturbations: Random changes, and what they did.
        by_chance: By fill, what is lost in a random order.
        edited: What edits did; None without.
    """

    proof: Proof
    perturbations: Perturbations
    by_chance: Mapping[str, Float64[Tensor, " two"]]
    edited: EditedSpans | None

    def of(self, values: Frames) -> dict[str, float]:
        """All that asks the classifier again."""
        proof = self.proof
        curves = removal_curves(proof.score, proof.frames, values, proof.fills)
        label = proof.target.classes[0]
        masked = masked_sound(proof.logits_of, proof.frames, top_share(values), proof.fills, label)
        return {
            **self._faithfulness(values),
            "deletion": curves.deletion,
            "insertion": curves.insertion,
            "abpc": curves.abpc,
            "infidelity": infidelity(values, self.perturbations),
            **vars(masked),
            **({} if self.edited is None else self.edited.agreements(values)),
        }

    def _faithfulness(self, values: Frames) -> dict[str, float]:
        numbers: dict[str, float] = {}
        order = values.argsort(descending=True)
        for name, fill in zip(FILLS, self.proof.fills, strict=True):
            lost = lost_by(self.proof.score, self.proof.frames, [order], fill[None])[:, 0]
            found = over_chance(lost, self.by_chance[name])
            numbers[f"comprehensiveness_{name}"] = found.comprehensiveness
            numbers[f"sufficiency_{name}"] = found.sufficiency
        return numbers


@contextmanager
def open_trials(
    classifier: EmotionClassifier,
    waveform: Float[Tensor, " samples"],
    target: Target,
    generator: torch.Generator,
    *,
    edits: bool = True,
) -> Iterator[Trials]:
    """Inside, maps can be tried; afterwards the classifier is as it was.

    Args:
        classifier: The one that was explained.
        waveform: The clip.
        target: What is explained; one scalar.
        generator: Draws fills, perturbations and a random order.
        edits: Whether spans of the clip are edited too.
    """
    with open_proof(classifier, waveform, target, generator) as proof:
        perturbations = perturb(proof.score, proof.frames, proof.fills, generator)
        order = torch.randperm(len(proof.frames), generator=generator)
        by_chance = {
            name: lost_by(proof.score, proof.frames, [order], fill[None])[:, 0]
            for name, fill in zip(FILLS, proof.fills, strict=True)
        }
        edited = edit_spans(classifier, waveform, target) if edits else None
        yield Trials(proof, perturbations, by_chance, edited)


LABEL, PREDICTED = "label", "predicted"
CONTROLS = ("random", "energy", "edges")
SANITY_CLIPS = 10
"""So many are explained thrice more, with parameters drawn anew and for another class."""

Methods = Mapping[str, ExplainSettings]


def usual_methods(seed: int = 0) -> dict[str, ExplainSettings]:
    """The eight methods of the scorecard, along the path from the frames, otherwise with their defaults."""
    names = (
        "gradient_shap",
        "integrated_gradients",
        "saliency",
        "input_x_gradient",
        "smooth_grad",
        "occlusion",
        "kernel_shap",
        "lime",
    )
    return {name: ExplainSettings(stages=("frames",), method=name, seed=seed) for name in names}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Plan:
    """Methods, target and settings of a scorecard.

    Args:
        methods: By name, how each explains; along the path from the frames.
        target: Which class of each clip is explained: `"label"`, what it was annotated as, or `"predicted"`.
        sanity_clips: On how many clips, spread evenly, it is measured on what maps depend; 0 for none. Each
            method explains these clips three times more.
        rivals: Classifiers that differ in the head alone, trained from other seeds: each method explains
            the clips of `sanity_clips` with each of them too.
        edits: Whether attributions are held against what edits of pitch, tempo, level and tilt do.
        stability: Whether each method explains each clip again with noise; the dearest part.
        seed: Of fills, orders, perturbations, parameters drawn anew and controls.

    Raises:
        SettingError: If a method takes other paths or has a control's name, there is no such target, or a
            number of clips is negative.
    """

    methods: Methods = field(default_factory=usual_methods)
    target: str = PREDICTED
    sanity_clips: int = SANITY_CLIPS
    rivals: Sequence[EmotionClassifier] = ()
    edits: bool = True
    stability: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target not in (LABEL, PREDICTED):
            raise SettingError(f"target={self.target!r} must be {LABEL!r} or {PREDICTED!r}")
        if self.sanity_clips < 0:
            raise SettingError(f"sanity_clips={self.sanity_clips} must be at least 0, which is none")
        for name, settings in self.methods.items():
            _check_method(name, settings)

    def doubted(self, num_clips: int) -> frozenset[int]:
        """Clips that are explained again: as many as `sanity_clips`, evenly spaced.

        >>> sorted(Plan(sanity_clips=3).doubted(7))
        [0, 3, 6]
        """
        count = min(self.sanity_clips, num_clips)
        if count < 2:
            return frozenset(range(count))
        return frozenset(round(place * (num_clips - 1) / (count - 1)) for place in range(count))

    def num_explanations(self, num_clips: int) -> int:
        """How many maps methods make, but for those of stability."""
        again = len(self.doubted(num_clips)) * (3 + len(self.rivals))
        return (num_clips + again) * len(self.methods)

    def check(self, classifier: EmotionClassifier) -> None:
        """Refuse rivals that are not heads of the same classes on the same backbone.

        Raises:
            SettingError: If one has other labels, another order of them, another sample rate, or another
                backbone.
        """
        own = classifier.backbone
        for place, rival in enumerate(self.rivals):
            if rival.labels != classifier.labels or rival.sample_rate != classifier.sample_rate:
                raise SettingError(
                    f"rivals[{place}] knows {', '.join(rival.labels)} at {rival.sample_rate} Hz, the "
                    f"classifier {', '.join(classifier.labels)} at {classifier.sample_rate} Hz; compare "
                    "heads of the same classes, in the same order"
                )
            if rival.backbone.fingerprint != own.fingerprint:
                raise SettingError(
                    f"rivals[{place}].backbone.fingerprint={rival.backbone.fingerprint[:12]} "
                    f"({rival.backbone.settings.name!r}) must be the classifier's, {own.fingerprint[:12]} "
                    f"({own.settings.name!r}): rivals differ in the seed of the head alone; train them on "
                    "the same backbone"
                )


def _check_method(name: str, settings: ExplainSettings) -> None:
    if settings.stages != ("frames",):
        raise SettingError(
            f"methods[{name!r}] has stages={list(settings.stages)}; methods are compared along "
            "stages=['frames']"
        )
    if name in CONTROLS:
        raise SettingError(f"methods[{name!r}]: that is the name of a control; use another")


def measure(
    classifier: EmotionClassifier, clips: Sequence[Clip], plan: Plan | None = None
) -> dict[str, dict[str, list[float]]]:
    """Every metric of every method and control on every clip: what [`compare`][] takes.

    With a bar on standard error, where that is a terminal. The classifier is as it was afterwards.

    Args:
        classifier: The one to explain.
        clips: Which; localization is measured on those with evidence.
        plan: Methods, target and settings of a scorecard.

    Raises:
        AudioError: If a clip cannot be read.
        SettingError: If there is no clip, one's label is unknown to the classifier and is to be explained, or
            rivals know other classes.
    """
    plan = plan or Plan()
    if not clips:
        raise SettingError("clips=[] is empty; give at least one")
    plan.check(classifier)
    doubted = plan.doubted(len(clips))
    rows: dict[str, list[Mapping[str, float]]] = {name: [] for name in (*plan.methods, *CONTROLS)}
    with _bar(plan.num_explanations(len(clips))) as advance:
        for index, clip in enumerate(clips):
            found = measure_clip(classifier, clip, plan, index, advance, doubted=index in doubted)
            for name, numbers in found.items():
                rows[name].append(numbers)
    names = dict.fromkeys(name for of in rows.values() for one in of for name in one)
    nothing = float("nan")
    return {
        method: {name: [one.get(name, nothing) for one in of] for name in names}
        for method, of in rows.items()
    }


def measure_clip(
    classifier: EmotionClassifier,
    clip: Clip,
    plan: Plan,
    index: int = 0,
    advance: Callable[[], None] = lambda: None,
    *,
    doubted: bool = True,
) -> dict[str, dict[str, float]]:
    """Every metric of every method and control on one clip.

    Args:
        classifier: The classifier that is explained.
        clip: The clip.
        plan: Methods, target and settings.
        index: The clip's number, which its random numbers depend on.
        advance: Called after every explanation.
        doubted: Whether it is asked on what maps depend, too.
    """
    grid = classifier.backbone.frame_grid
    waveform = open_recording(clip, classifier.sample_rate, min_samples=grid.receptive_field_samples).waveform
    logits = _logits(classifier, waveform)
    target, seed = _target_of(classifier, clip, logits, plan), plan.seed * 1_000_003 + index
    doubts = open_doubts(classifier, logits, target, seed, plan.rivals) if doubted else None
    question, generator = _Question(classifier, waveform, target, doubts), torch.Generator().manual_seed(seed)
    maps, found = {}, {}
    for name, settings in plan.methods.items():
        maps[name], found[name] = _of_method(question, settings, advance)
        if plan.stability:
            found[name] |= _of_stability(question, settings, plan.seed)
    controls = {
        "random": random_map(grid.num_frames(len(waveform)), generator),
        "energy": energy_map(waveform, grid),
        "edges": edge_map(waveform, grid),
    }
    found |= {name: _of_control(question, values) for name, values in controls.items()}
    asked = Target("log_odds", (classifier.labels.index(target),))
    with open_trials(classifier, waveform, asked, generator, edits=plan.edits) as trials:
        for name, values in (maps | controls).items():
            of_evidence = _on_evidence(values, clip.evidence, classifier, len(waveform))
            found[name] = {**of_evidence, **trials.of(values), **found[name]}
    return found


@dataclass(frozen=True)
class _Question:
    """Input that all methods explain.

    Args:
        classifier: Whose decision is explained.
        waveform: The clip.
        target: The class.
        doubts: What is changed, where it is asked on what maps depend.
    """

    classifier: EmotionClassifier
    waveform: Float[Tensor, " samples"]
    target: str
    doubts: Doubts | None


def _logits(classifier: EmotionClassifier, waveform: Tensor) -> Float[Tensor, " classes"]:
    device = next(classifier.parameters()).device
    with torch.no_grad():
        return classifier(waveform[None].to(device))[0]


def _target_of(classifier: EmotionClassifier, clip: Clip, logits: Tensor, plan: Plan) -> str:
    if plan.target == PREDICTED:
        return classifier.labels[int(logits.argmax())]
    if clip.label not in classifier.labels:
        raise SettingError(
            f"path={clip.path}: label={clip.label!r} is unknown to the classifier, which knows "
            f"{', '.join(classifier.labels)}; use target={PREDICTED!r}"
        )
    return clip.label


def _of_method(
    question: _Question, settings: ExplainSettings, advance: Callable[[], None]
) -> tuple[Frames, dict[str, float]]:
    """A method's map, and what is known of it without a trial."""

    def explain(classifier: EmotionClassifier, target: str) -> Explanation:
        found = Explainer(classifier, settings).explain(question.waveform, target, check_baselines=False)
        advance()
        return found

    began_s = time.perf_counter()
    explanation = explain(question.classifier, question.target)
    numbers = {"seconds": time.perf_counter() - began_s, **_of_estimate(explanation)}
    values = explanation.values("frames", "frames")
    if question.doubts is not None:
        numbers |= dependence(
            values, lambda *asked: explain(*asked).values("frames", "frames"), question.doubts
        )
    return values, numbers


def _of_control(question: _Question, values: Frames) -> dict[str, float]:
    """A control's map stays what it is, whatever is changed; that heads agree on it says nothing."""
    if question.doubts is None:
        return {}
    return dependence(values, lambda *_: values, replace(question.doubts, rivals=()))


def _of_estimate(explanation: Explanation) -> dict[str, float]:
    found = explanation.attributions["frames"]
    numbers: dict[str, float] = {}
    if found.relative_gap is not None:
        numbers["gap"] = found.relative_gap[0]
    view = found.views.get("spans", found.views["frames"])
    if view.stderr is not None:
        numbers["reliability"] = reliability(view.values[0], view.stderr[0])
    return numbers


def _of_stability(question: _Question, settings: ExplainSettings, seed: int) -> dict[str, float]:
    explainer, generator = Explainer(question.classifier, settings), torch.Generator().manual_seed(seed)

    def again(sound: Tensor) -> Frames:
        return explainer.explain(sound, question.target, check_baselines=False).values("frames", "frames")

    found = sensitivities(again, question.waveform, generator, num_perturbations=1)
    return {f"sensitivity_{snr_db:.0f}": found[snr_db] for snr_db in SNRS_DB}


def _on_evidence(
    values: Frames, evidence: Sequence[Span], classifier: EmotionClassifier, num_samples: int
) -> dict[str, float]:
    if not evidence:
        return {}
    times = times_of(classifier.backbone.frame_grid, num_samples)["frames"]
    return vars(localise(values, inside_spans(times.center_s(), evidence)))


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("Scorecard"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("explanations", total=total)
        yield partial(bars.advance, task)
