"""`explain.py compare`: the same clips under other classifiers or other epochs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from wavshap_lightning.cli.clips import ClipExplainer, ClipOptions, ExplainedClip, find_items, open_model
from wavshap_lightning.cli.explain import explain_items
from wavshap_lightning.cli.output import Output, write_figure, writing_to
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.compare import Comparison, check_comparable, compare, plain_comparisons
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import choose_epochs, epoch_of_model
from wavshap_lightning.viz.comparisons import plot_comparison


def compare_models(
    model: str,
    audio: list[str],
    clip: ClipOptions,
    settings: ExplainSettings,
    output: Output,
    *,
    others: Sequence[str] = (),
    epochs: str | None = None,
    device: str = "cpu",
) -> int:
    """Explain recordings with MODEL and with other models or epochs, from the same draws, and compare.

    Args:
        model: The first model.
        audio: Recordings; a synthetic clip is made if there are none.
        clip: The question about every clip.
        settings: How to explain.
        output: Files to write.
        others: Models to compare with.
        epochs: Epochs of MODEL's run to compare with, such as 9,19,29, or all.
        device: Where to compute, such as cpu, cuda or cuda:1.

    Returns:
        The exit status.

    Raises:
        WavshapError: If a model cannot be opened or compared with the first, or an epoch was not kept.
    """
    chosen = {} if epochs is None else choose_epochs(model, epochs)
    named = {**{name: name for name in others}, **{f"epoch {n}": str(path) for n, path in chosen.items()}}
    if not named:
        raise SettingError("others=[], epochs=None: give models to compare with, or epochs of the run")
    items = find_items(audio, output.folder)
    work = ClipExplainer(open_model(model, device), settings, clip, len(items))
    classifiers = tuple(_open_other(path, device, work) for path in named.values())
    epoch = None if epochs is None else epoch_of_model(model)
    first = model if epoch is None else f"epoch {epoch}"
    comparer = Comparer(work, classifiers, (first, *named), output)
    return explain_items(model, work, items, output, also=comparer.compare)


@dataclass(frozen=True)
class Comparer:
    """Compares the first classifier with each other on one clip after the other.

    Args:
        work: Explains a clip with the first.
        others: The other classifiers.
        names: Names of all, the first one's first.
        output: Files to write.
    """

    work: ClipExplainer
    others: tuple[EmotionClassifier, ...]
    names: tuple[str, ...]
    output: Output

    def compare(self, found: ExplainedClip) -> Callable[[], None]:
        """Compare on one clip; return what writes the numbers, and the figure if figures are written.

        Raises:
            WavshapError: If another classifier cannot explain the clip.
        """
        explanation, recordings = found.explanation, self.work.recordings_for(found.item)
        comparisons: list[Comparison] = []
        for other in self.others:
            comparisons.append(
                compare(self.work.explainer, other, found.item.clip, explanation, recordings=recordings)
            )
            explanation = comparisons[0].first  # with the draws and the target of all
        return partial(self.write, found, comparisons)

    def write(self, found: ExplainedClip, comparisons: Sequence[Comparison]) -> None:
        """Write the comparisons of one clip.

        Raises:
            SettingError: If the disk refuses.
        """
        item, place = found.item, self.output.folder / "compare"
        numbers = plain_comparisons(comparisons, self.names)
        text = json.dumps(numbers, ensure_ascii=False, allow_nan=False, indent=1)
        with writing_to(self.output.folder):
            if self.output.figures:
                figure = plot_comparison(
                    comparisons,
                    found.waveform,
                    names=self.names,
                    label=item.label,
                    evidence=item.clip.evidence,
                )
                write_figure(place / f"{item.stem}.png", figure)
            write_atomically(place / f"{item.stem}.json", text.encode(errors="backslashreplace"))


def _open_other(model: str, device: str, work: ClipExplainer) -> EmotionClassifier:
    first, other = work.classifier, open_model(model, device)
    check_comparable(first, other)
    target_named(work.options.target, other.labels, 0, work.explainer.settings.score)
    one, its = first.backbone, other.backbone
    if one.fingerprint == its.fingerprint and one.settings == its.settings and one.settings.frozen:
        other.backbone = one  # so that many epochs take no more memory than one
    return other
