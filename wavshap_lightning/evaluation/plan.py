"""What a scorecard measures: which methods, explaining what, and how much besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier

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
    return {name: ExplainSettings(views=("frames",), method=name, seed=seed) for name in names}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Plan:
    """What is measured.

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
        """Which clips are explained again: as many as `sanity_clips`, spread evenly.

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
    if settings.views != ("frames",):
        raise SettingError(
            f"methods[{name!r}] has views={list(settings.views)}; methods are compared along views=['frames']"
        )
    if name in CONTROLS:
        raise SettingError(f"methods[{name!r}]: that is the name of a control; use another")
