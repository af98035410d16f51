"""`explain.py scorecard`: several attribution methods on the same clips, measured and judged."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Literal

from wavshap_lightning.cli.clips import find_items, open_model
from wavshap_lightning.cli.explain import make_example
from wavshap_lightning.cli.output import Output, status_of, write_figure, writing_to
from wavshap_lightning.cli.terminal import complain, shown
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError, WavshapError
from wavshap_lightning.evaluation.measure import CONTROLS, LABEL, measure, usual_methods
from wavshap_lightning.evaluation.scorecard import METRICS, SANITY, Scorecard, save_table, verdicts
from wavshap_lightning.explainer.recording import open_recording
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.viz.scorecard_figure import plot_scorecard


def score_methods(
    model: str,
    audio: list[str],
    *,
    target: Literal["predicted", "label"] = "predicted",
    others: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
    out: str = "explanations",
) -> int:
    """Measure eight attribution methods and three controls: scorecard.csv, scorecard.png, verdicts in words.

    Args:
        model: The model.
        audio: Recordings; those that cannot be read are named and left out.
        target: Class of each clip to explain; label needs a manifest.
        others: Heads trained from other seeds, to measure how far maps agree.
        seed: Random seed.
        device: Where to compute, such as cpu, cuda or cuda:1.
        out: Folder of the output.

    Returns:
        The exit status.

    Raises:
        WavshapError: If a model cannot be opened, clips lack the label that is to be explained, or the other
            heads have other classes or another backbone.
    """
    output = Output(out)
    items = find_items(audio, output.folder)
    classifier = open_model(model, device)
    output.open()
    items = items or make_example(output.folder / "sounds", seed)
    heads = [open_model(name, device) for name in others]
    for item in items:
        if target == LABEL and item.label is None:
            raise SettingError(
                f"target={LABEL!r}: {item.clip.path} has no label; give a manifest (.csv, .jsonl) with labels"
            )
    clips = _readable(classifier, [item.clip for item in items])
    if clips:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # of single methods on single clips; the table has them
            values = measure(classifier, clips, usual_methods(seed), target=target, others=heads, seed=seed)
        _write(Scorecard(values, CONTROLS, [clip.speaker for clip in clips]), output)
        path = shown(output.folder / "scorecard.csv")
        sys.stdout.write(f"{len(clips)} of {len(items)} clips measured: {path}\n")
    return status_of(len(clips), len(items))


def _write(card: Scorecard, output: Output) -> None:
    """The table and the figure; verdicts are printed."""
    rows, note = card.rows(), card.note
    figure = plot_scorecard(
        rows,
        controls=CONTROLS,
        titles={metric.name: metric.title for metric in METRICS if metric.group != "estimate"},
        plain=SANITY,
        title=f"Scorecard, {card.num_clips} clips",
        note=note,
    )
    with writing_to(output.folder):
        save_table(rows, output.folder / "scorecard.csv")
        write_figure(output.folder / "scorecard.png", figure)
    for method, words in verdicts(card).items():
        sys.stdout.write(f"{method}: {words}\n")
    most = max(rows, key=lambda row: row["clips"])
    note = f" ({note})" if note else ""
    sys.stdout.write(f"Resampled for the intervals: {most['units']} {most['resampled']}{note}\n")


def _readable(classifier: EmotionClassifier, clips: Sequence[Clip]) -> list[Clip]:
    kept: list[Clip] = []
    grid = classifier.backbone.frame_grid
    for clip in clips:
        try:
            open_recording(clip, classifier.sample_rate, min_samples=grid.receptive_field_samples)
        except WavshapError as error:
            complain(f"left out: {error}")
        else:
            kept.append(clip)
    return kept
