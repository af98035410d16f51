"""`explain.py scorecard`: several attribution methods on the same clips, measured and judged."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Literal

from wavshap_lightning.cli.clips import ModelOptions, attempt, find_clips, label_of, open_for, open_model
from wavshap_lightning.cli.explain import make_example
from wavshap_lightning.cli.output import Output, status_of, writing_to
from wavshap_lightning.cli.terminal import on_one_line, tell
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.controls import CONTROLS
from wavshap_lightning.evaluation.measure import LABEL, measure, usual_methods
from wavshap_lightning.evaluation.scorecard import METRICS, SANITY, Scorecard, save_table, verdict
from wavshap_lightning.models.loading import models_in
from wavshap_lightning.viz.scorecard_figure import plot_scorecard


def score_methods(
    model: str,
    audio: list[str],
    opening: ModelOptions,
    *,
    target: Literal["predicted", "label"] = "predicted",
    others: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
    out: str = "explanations",
) -> int:
    """Measure eight attribution methods and three controls; write scorecard.csv and scorecard.png.

    Args:
        model: Checkpoint, run, exported folder or Hugging Face model.
        audio: Recordings; those that cannot be read are named and left out.
        opening: What the model does not tell about itself.
        target: Class of each clip to explain; label needs a manifest.
        others: Models with heads trained from other seeds or on the folds of a cross-validation, for the rank
            correlation of maps.
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
    asked = find_clips(audio, output.folder)
    classifier = open_model(model, device, opening).part(target)
    output.open()
    asked = asked or make_example(output.folder / "sounds", seed)
    heads = [open_model(one, device, opening).part(target) for name in others for one in models_in(name)]
    unknown = [clip.path for clip in asked.values() if label_of(clip) is None]
    if target == LABEL and unknown:
        raise SettingError(f"target={LABEL!r}: {unknown[0]} has no label; give a manifest with labels")
    clips = [clip for clip in asked.values() if attempt(partial(open_for, classifier), clip)[0]]
    if clips:
        with warnings.catch_warnings():
            # The table has those of single methods on single clips.
            warnings.simplefilter("ignore", UserWarning)
            values = measure(classifier, clips, usual_methods(seed), target=target, others=heads, seed=seed)
        _write(Scorecard(values, CONTROLS, [clip.speaker for clip in clips]), output)
        tell(f"{len(clips)} of {len(asked)} clips measured: {on_one_line(output.folder / 'scorecard.csv')}")
    return status_of(len(clips), len(asked))


def _write(card: Scorecard, output: Output) -> None:
    """The table and the figure; verdicts are printed."""
    figure = plot_scorecard(
        card.rows,
        controls=CONTROLS,
        titles={metric.name: metric.title for metric in METRICS if metric.group != "estimate"},
        plain=SANITY,
        title=f"Scorecard, {card.num_clips} clips",
        note=card.note,
    )
    output.write("scorecard.png", figure)
    with writing_to(output.folder):
        save_table(card, output.folder / "scorecard.csv")
    tell("\n".join(f"{method}: {verdict(card, method)}" for method in card.compared))
    most = max(card.rows, key=lambda row: row["clips"])
    note = f" ({card.note})" if card.note else ""
    tell(f"Resampled for the intervals: {most['units']} {most['resampled']}{note}")
