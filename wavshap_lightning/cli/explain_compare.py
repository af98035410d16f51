"""`explain.py --compare MODEL2`: the same clips under a second classifier."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from wavshap_lightning.cli.explain_clip import Explained, Work, baselines_for
from wavshap_lightning.cli.explain_files import write_figure, writing_to
from wavshap_lightning.cli.model_argument import open_model
from wavshap_lightning.explainer.compare import Comparison, check_comparable, compare
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.viz.compare_page import plot_comparison


@dataclass(frozen=True)
class Rival:
    """A second classifier.

    Args:
        classifier: The classifier.
        work: What is done to every clip with the first.
        names: What the two are called.
    """

    classifier: EmotionClassifier
    work: Work
    names: tuple[str, str]

    def compare(self, found: Explained) -> Comparison:
        """The two on one clip.

        Raises:
            WavshapError: If the second cannot explain it.
        """
        others = baselines_for(self.work, found.item)
        return compare(
            self.work.explainer, self.classifier, found.item.recording, found.explanation, recordings=others
        )

    def write(self, comparison: Comparison, found: Explained, folder: Path, *, figure: bool) -> None:
        """Write the numbers, and the figure where one is wanted.

        Raises:
            SettingError: If the disk refuses.
        """
        place, stem, item = folder / "compare", found.item.stem, found.item
        numbers = {"models": list(self.names), **comparison.to_dict()}
        text = json.dumps(numbers, ensure_ascii=False, allow_nan=False, indent=1)
        with writing_to(folder):
            if figure:
                page = plot_comparison(
                    comparison, found.waveform, names=self.names, label=item.label, evidence=item.evidence
                )
                write_figure(place / f"{stem}.png", page)
            write_atomically(place / f"{stem}.json", text.encode(errors="backslashreplace"))


def open_rival(options: Namespace, work: Work) -> Rival | None:
    """The second classifier, where one was given.

    Raises:
        ModelError: If it is none.
        SettingError: If the two cannot be compared.
        AttributionError: If it does not know the target.
    """
    if options.compare is None:
        return None
    classifier = open_model(options.compare, options.device)
    check_comparable(work.explainer.classifier, classifier)
    target_named(options.target, classifier.labels, 0, work.explainer.settings.score)
    return Rival(classifier, work, (options.model, options.compare))
