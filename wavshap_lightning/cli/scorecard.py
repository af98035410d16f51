"""`explain.py --scorecard`: several methods on the same clips, measured and judged."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from wavshap_lightning.cli.clips import Item
from wavshap_lightning.cli.terminal import complain, shown
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError, WavshapError
from wavshap_lightning.evaluation.measure import CONTROLS, LABEL, PREDICTED, Plan, measure, usual_methods
from wavshap_lightning.evaluation.scorecard import METRICS, SANITY, compare, save_table, table, verdicts
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.viz.scorecard_figure import plot_scorecard

TARGETS = (PREDICTED, LABEL)


def check_target(target: str) -> None:
    """Refuse what a scorecard cannot explain.

    Raises:
        SettingError: If the target is a single class or several.
    """
    if target not in TARGETS:
        raise SettingError(
            f"target={target!r} does not go with --scorecard, which explains of each clip what is predicted "
            f"or its label; use --target {PREDICTED} or --target {LABEL}"
        )


def score_methods(
    classifier: EmotionClassifier,
    items: Sequence[Item],
    out: Path,
    *,
    target: str,
    seed: int,
    rivals: Sequence[EmotionClassifier] = (),
) -> int:
    """Measure the usual methods on the clips; write `scorecard.csv` and `scorecard.png`, print the verdicts.

    Args:
        classifier: Which to explain.
        items: The clips; those that cannot be read are named and left out.
        out: Where to.
        target: `"predicted"` or `"label"`, which needs a manifest.
        seed: Of everything drawn.
        rivals: Heads trained from other seeds, to find out how far maps agree.

    Returns:
        Of how many clips.

    Raises:
        SettingError: If clips lack the label that is to be explained, or rivals know other classes
            or stand on another backbone.
    """
    plan = Plan(usual_methods(seed), target=target, seed=seed, rivals=rivals)
    plan.check(classifier)
    clips = _readable(classifier, [_clip_of(item, target) for item in items])
    if not clips:
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of single methods on single clips; the table has them
        values = measure(classifier, clips, plan)
    card = compare(values, controls=CONTROLS, speakers=[clip.speaker for clip in clips])
    save_table(card, out / "scorecard.csv")
    titles = {metric.name: metric.title for metric in METRICS if metric.group != "estimate"}
    figure = plot_scorecard(
        table(card),
        controls=card.controls,
        titles=titles,
        plain=SANITY,
        title=f"Scorecard, {len(clips)} clips",
        note=card.note,
    )
    figure.savefig(out / "scorecard.png", metadata={"Software": None})
    for method, words in verdicts(card).items():
        sys.stdout.write(f"{method}: {words}\n")
    sys.stdout.write(f"Resampled for the intervals: {card.units.count} {card.units.kind}")
    sys.stdout.write(f" ({card.note})\n" if card.note else "\n")
    sys.stdout.write(f"{len(clips)} of {len(items)} clips measured: {shown(out / 'scorecard.csv')}\n")
    return len(clips)


def _clip_of(item: Item, target: str) -> Clip:
    if item.clip is not None:
        return item.clip
    if target == LABEL:
        raise SettingError(
            f"target={LABEL!r}: {item.path} has no label; give a manifest (.csv, .jsonl) with labels"
        )
    return Clip(item.path, "unknown")


def _readable(classifier: EmotionClassifier, clips: Sequence[Clip]) -> list[Clip]:
    explainer, kept = Explainer(classifier), []
    for clip in clips:
        try:
            explainer.open(clip)
        except WavshapError as error:
            complain(f"left out: {error}")
        else:
            kept.append(clip)
    return kept
