"""Measuring methods on clips: each is explained by each method, and by controls that ask no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from wavshap_lightning.evaluation.faithfulness import faithfulness
from wavshap_lightning.evaluation.infidelity import Perturbations, infidelity, perturb
from wavshap_lightning.evaluation.localisation import inside_spans, localise
from wavshap_lightning.evaluation.masked_sound import masked_sound, top_share
from wavshap_lightning.evaluation.proof import FILLS, Proof, open_proof
from wavshap_lightning.evaluation.removal_curves import removal_curves
from wavshap_lightning.evaluation.stability import SNRS_DB, sensitivities
from wavshap_lightning.explainer.explain import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.grids import times_of
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.sound import open_sound
from wavshap_lightning.models.classifier import EmotionClassifier

LABEL, PREDICTED = "label", "predicted"
CONTROLS = ("random", "energy", "edges")
NUM_RANDOM_ORDERS = 1

Methods = Mapping[str, ExplainSettings]
Frames = Float[Tensor, " time"]


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
    return {name: ExplainSettings(views=("frames",), method=name, seed=seed) for name in names}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        methods: By name, how each explains; along the path from the frames.
        target: Which class of each clip is explained: `"label"`, what it was annotated as, or `"predicted"`.
        stability: Whether each method explains each clip again with noise; the dearest part.
        seed: Of fills, orders, perturbations and controls.

    Raises:
        SettingError: If a method takes other paths or has a control's name, or there is no such target.
    """

    methods: Methods = field(default_factory=usual_methods)
    target: str = PREDICTED
    stability: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target not in (LABEL, PREDICTED):
            raise SettingError(f"target={self.target!r} must be {LABEL!r} or {PREDICTED!r}")
        for name, settings in self.methods.items():
            if settings.views != ("frames",):
                raise SettingError(
                    f"methods[{name!r}] has views={list(settings.views)}; methods are compared along "
                    "views=['frames']"
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
        clips: Which; localisation is measured on those with evidence.
        plan: What is measured.

    Raises:
        AudioError: If a clip cannot be read.
        SettingError: If there is no clip, or one's label is unknown to the classifier and is to be explained.
    """
    plan = plan or Plan()
    if not clips:
        raise SettingError("clips=[] is empty; give at least one")
    rows: dict[str, list[Mapping[str, float]]] = {name: [] for name in (*plan.methods, *CONTROLS)}
    with _bar(len(clips) * len(plan.methods)) as advance:
        for index, clip in enumerate(clips):
            for name, numbers in measure_clip(classifier, clip, plan, index, advance).items():
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
) -> dict[str, dict[str, float]]:
    """Every metric of every method and control on one clip.

    Args:
        classifier: As in [`measure`][], like `clip` and `plan`.
        clip: See there.
        plan: See there.
        index: The clip's number, which its random numbers depend on.
        advance: Called after every method.
    """
    grid = classifier.backbone.frame_grid
    waveform = open_sound(clip, classifier.sample_rate, grid.receptive_field_samples).waveform
    target = _target_of(classifier, clip, waveform, plan)
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + index)
    maps, found = {}, {}
    for name, settings in plan.methods.items():
        maps[name], found[name] = _explained(classifier, waveform, target, settings, plan)
        advance()
    maps["random"] = random_map(grid.num_frames(len(waveform)), generator)
    maps["energy"], maps["edges"] = energy_map(waveform, grid), edge_map(waveform, grid)
    asked = Target("log_odds", (classifier.labels.index(target),))
    with open_proof(classifier, waveform, asked, generator) as proof:
        perturbations = perturb(proof.score, proof.frames, proof.fills, generator)
        order_seed = int(torch.randint(2**31, (), generator=generator))
        for name, values in maps.items():
            numbers = _on_frames(values, proof, perturbations, order_seed)
            found[name] = {**_on_evidence(values, clip.evidence, classifier, len(waveform)), **numbers} | (
                found.get(name, {})
            )
    return found


def _target_of(classifier: EmotionClassifier, clip: Clip, waveform: Tensor, plan: Plan) -> str:
    if plan.target == LABEL:
        if clip.label not in classifier.labels:
            raise SettingError(
                f"path={clip.path}: label={clip.label!r} is unknown to the classifier, which knows "
                f"{', '.join(classifier.labels)}; use target={PREDICTED!r}"
            )
        return clip.label
    device = next(classifier.parameters()).device
    with torch.no_grad():
        return classifier.labels[int(classifier(waveform[None].to(device))[0].argmax())]


def _explained(
    classifier: EmotionClassifier, waveform: Tensor, target: str, settings: ExplainSettings, plan: Plan
) -> tuple[Frames, dict[str, float]]:
    """A method's map, and what is known of it without trying it."""
    explainer = Explainer(classifier, settings)
    began_s = time.perf_counter()
    explanation = explainer.explain(waveform, target)
    numbers = {"seconds": time.perf_counter() - began_s, **_of_estimate(explanation)}
    if plan.stability:
        numbers |= _of_stability(explainer, waveform, target, plan.seed)
    return explanation.values("frames", "frames"), numbers


def _of_estimate(explanation: Explanation) -> dict[str, float]:
    found = explanation.attributions["frames"]
    numbers: dict[str, float] = {}
    if found.relative_gap is not None:
        numbers["gap"] = found.relative_gap[0]
    view = found.views.get("spans", found.views["frames"])
    if view.stderr is not None:
        numbers["reliability"] = reliability(view.values[0], view.stderr[0])
    return numbers


def _of_stability(explainer: Explainer, waveform: Tensor, target: str, seed: int) -> dict[str, float]:
    def again(sound: Tensor) -> Frames:
        return explainer.explain(sound, target).values("frames", "frames")

    found = sensitivities(again, waveform, torch.Generator().manual_seed(seed), num_perturbations=1)
    return {f"sensitivity_{snr_db:.0f}": found[snr_db] for snr_db in SNRS_DB}


def _on_evidence(
    values: Frames, evidence: Sequence[Span], classifier: EmotionClassifier, num_samples: int
) -> dict[str, float]:
    if not evidence:
        return {}
    times = times_of(classifier.backbone.frame_grid, num_samples)["frames"]
    return vars(localise(values, inside_spans(times.center_s(), evidence)))


def _on_frames(values: Frames, proof: Proof, perturbations: Perturbations, seed: int) -> dict[str, float]:
    """All that removes frames, each method against the same random orders."""
    numbers: dict[str, float] = {}
    for name, fill in zip(FILLS, proof.fills, strict=True):
        found = faithfulness(
            proof.score,
            proof.frames,
            values,
            fill[None],
            torch.Generator().manual_seed(seed),
            num_random=NUM_RANDOM_ORDERS,
        )
        numbers[f"comprehensiveness_{name}"] = found.comprehensiveness
        numbers[f"sufficiency_{name}"] = found.sufficiency
    curves = removal_curves(proof.score, proof.frames, values, proof.fills)
    numbers |= {"deletion": curves.deletion, "insertion": curves.insertion, "abpc": curves.abpc}
    numbers["infidelity"] = infidelity(values, perturbations)
    label = proof.target.classes[0]
    masked = masked_sound(proof.logits_of, proof.frames, top_share(values), proof.fills, label)
    return numbers | vars(masked)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("Scorecard"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("explanations", total=total)
        yield partial(bars.advance, task)
