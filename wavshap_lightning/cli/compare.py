"""`explain.py --compare MODEL2` and `--epochs`: the same clips under other classifiers."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from wavshap_lightning.cli.clips import Explained, Work, baselines_for, open_model
from wavshap_lightning.cli.output import write_figure, writing_to
from wavshap_lightning.explainer.compare import Comparison, check_comparable, compare, plain_comparisons
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import choose_epochs, epoch_of_model
from wavshap_lightning.viz.comparisons import plot_comparison


@dataclass(frozen=True)
class Rivals:
    """The other classifiers.

    Args:
        classifiers: In the order in which they were given.
        work: What is done to every clip with the first.
        names: What all are called, the first one first.
    """

    classifiers: tuple[EmotionClassifier, ...]
    work: Work
    names: tuple[str, ...]

    def compare(self, found: Explained) -> list[Comparison]:
        """The first with each other on one clip, all from the same draws.

        Raises:
            WavshapError: If one of them cannot explain it.
        """
        explanation, others = found.explanation, baselines_for(self.work, found.item)
        comparisons: list[Comparison] = []
        for rival in self.classifiers:
            comparisons.append(
                compare(self.work.explainer, rival, found.item.recording, explanation, recordings=others)
            )
            explanation = comparisons[0].first  # with the draws and the target of all
        return comparisons

    def write(self, comparisons: list[Comparison], found: Explained, folder: Path, *, figure: bool) -> None:
        """Write the numbers, and the figure where one is wanted.

        Raises:
            SettingError: If the disk refuses.
        """
        place, stem, item = folder / "compare", found.item.stem, found.item
        numbers = plain_comparisons(comparisons, self.names)
        text = json.dumps(numbers, ensure_ascii=False, allow_nan=False, indent=1)
        with writing_to(folder):
            if figure:
                page = plot_comparison(
                    comparisons, found.waveform, names=self.names, label=item.label, evidence=item.evidence
                )
                write_figure(place / f"{stem}.png", page)
            write_atomically(place / f"{stem}.json", text.encode(errors="backslashreplace"))


def open_rivals(options: Namespace, work: Work) -> Rivals | None:
    """The other classifiers, where some were given.

    Raises:
        ModelError: If one is none.
        SettingError: If they cannot be compared with the first, or an epoch was not kept.
        AttributionError: If one does not know the target.
    """
    epochs = {} if options.epochs is None else choose_epochs(options.model, options.epochs)
    named = {**{name: name for name in options.compare}, **{f"epoch {n}": str(p) for n, p in epochs.items()}}
    if not named:
        return None
    rivals = tuple(_open_rival(model, options, work) for model in named.values())
    return Rivals(rivals, work, (_name_of_first(options), *named))


def _name_of_first(options: Namespace) -> str:
    epoch = None if options.epochs is None else epoch_of_model(options.model)
    return str(options.model) if epoch is None else f"epoch {epoch}"


def _open_rival(model: str, options: Namespace, work: Work) -> EmotionClassifier:
    first, rival = work.explainer.classifier, open_model(model, options.device)
    check_comparable(first, rival)
    target_named(options.target, rival.labels, 0, work.explainer.settings.score)
    if _share_a_backbone(first, rival):
        rival.backbone = first.backbone  # so that many epochs take no more memory than one
    return rival


def _share_a_backbone(first: EmotionClassifier, rival: EmotionClassifier) -> bool:
    one, other = first.backbone, rival.backbone
    return one.fingerprint == other.fingerprint and one.settings == other.settings and one.settings.frozen
