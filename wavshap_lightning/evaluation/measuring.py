"""Measuring methods on clips: each is explained by each method, and by controls that ask no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.agreement import reliability
from wavshap_lightning.evaluation.controls import edge_map, energy_map, random_map
from wavshap_lightning.evaluation.dependence import Doubts, dependence, open_doubts
from wavshap_lightning.evaluation.localisation import inside_spans, localise
from wavshap_lightning.evaluation.plan import CONTROLS, PREDICTED, Plan
from wavshap_lightning.evaluation.stability import SNRS_DB, sensitivities
from wavshap_lightning.evaluation.trials import open_trials
from wavshap_lightning.explainer.explain import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.grids import times_of
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.sound import open_sound
from wavshap_lightning.models.classifier import EmotionClassifier

Frames = Float[Tensor, " time"]


def measure(
    classifier: EmotionClassifier, clips: Sequence[Clip], plan: Plan | None = None
) -> dict[str, dict[str, list[float]]]:
    """Every metric of every method and control on every clip: what [`compare`][] takes.

    With a bar on standard error, where that is a terminal. The classifier is as it was afterwards.

    Args:
        classifier: The one to explain.
        clips: Which; localisation is measured on those with evidence.
        plan: What is measured.

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
        classifier: As in [`measure`][], like `clip` and `plan`.
        clip: See there.
        plan: See there.
        index: The clip's number, which its random numbers depend on.
        advance: Called after every explanation.
        doubted: Whether it is asked on what maps depend, too.
    """
    grid = classifier.backbone.frame_grid
    waveform = open_sound(clip, classifier.sample_rate, grid.receptive_field_samples).waveform
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
    """What methods are asked.

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
        found = Explainer(classifier, settings).explain(question.waveform, target)
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
        return explainer.explain(sound, question.target).values("frames", "frames")

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
