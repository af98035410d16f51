"""Which explanations find planted evidence, and which name the frames that a classifier goes by?

Eight methods and three controls: on PlantedSpeech, with the demo's classifier and speakers of a corpus of
their own, explaining each clip's label; and on crops of RAVDESS, with a small WavLM and eight actors that
it was not trained on, explaining its prediction. Speakers are resampled for the intervals. Prints the
verdicts, and writes tables and figures beside the JSON. Nothing was tuned on these clips.

    python benchmarks/scorecard.py --root RAVDESS
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from _common import RESULTS, Measurement, read_arguments, report
from _problems import heldout_spans, trained_classifier
from _runs import demo_heads, demo_run, other_speakers_clips

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.controls import CONTROLS
from wavshap_lightning.evaluation.intervals import Estimate
from wavshap_lightning.evaluation.measure import LABEL, measure
from wavshap_lightning.evaluation.scorecard import METRICS, SANITY, Metric, Scorecard, save_table, verdict
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.viz.scorecard_figure import plot_scorecard

OURS = "gradient_shap"
BAR_AUC, BAR_UAR = 0.9, 0.9
BAR_S, BAR_CLIPS = 600.0, 50
QUICK_CLIPS = 2
OTHER_SEEDS = (1, 2)
NAMED = {metric.name: metric for metric in METRICS}
SHORT = (
    "auc",
    "comprehensiveness_noise",
    "sufficiency_noise",
    "consistency_pitch",
    "all_redrawn",
    "other_class",
)
"""Metrics of the small figure."""
FAITHFUL = ("comprehensiveness_noise", "comprehensiveness_mean", "sufficiency_noise", "sufficiency_mean")


@dataclass(frozen=True)
class Scored:
    """A corpus and what became of it.

    Args:
        name: Of the corpus.
        card: The comparison.
        seconds: How long it took to explain and to measure.
    """

    name: str
    card: Scorecard
    seconds: float


def main() -> None:
    """Measure both and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir", "clips", "checkpoint"])
    arguments.clips = QUICK_CLIPS if arguments.quick else arguments.clips
    demo = demo_run(arguments)
    trained = trained_classifier(arguments.root, arguments.cache_dir, quick=arguments.quick)
    heads = demo_heads(arguments.cache_dir, () if arguments.quick else OTHER_SEEDS)
    clips = other_speakers_clips(arguments.cache_dir, arguments.clips)
    planted = score("PlantedSpeech", demo.classifier, clips, target=LABEL, others=heads)
    spans = heldout_spans(arguments.root, arguments.clips)
    ravdess = score("RAVDESS", trained.classifier, spans)
    for scored in (planted, ravdess):
        write(scored, quick=arguments.quick)
    lines = [
        Measurement("PlantedSpeech: best validation UAR", demo.uar, at_least=BAR_UAR),
        *localization_lines(planted.card),
        *faithfulness_lines(ravdess.card),
        *(cost_line(scored) for scored in (planted, ravdess)),
    ]
    report("scorecard", lines, arguments, recall=trained.facts["recall"], cards=[
        plain(scored) for scored in (planted, ravdess)
    ])  # fmt: skip


def score(name: str, classifier: EmotionClassifier, clips: Sequence[Clip], **settings: Any) -> Scored:  # noqa: ANN401 - those of measure
    """Explain and measure."""
    start = time.perf_counter()
    values = measure(classifier, clips, **settings)
    seconds = time.perf_counter() - start
    return Scored(name, Scorecard(values, CONTROLS, [clip.speaker for clip in clips]), seconds)


def localization_lines(card: Scorecard) -> list[Measurement]:
    """How well ours finds the evidence, and by how much it beats what asks no model."""
    found = card.estimate(OURS, "auc")
    lines = [_line("PlantedSpeech: AUC of signed GradientSHAP", found, at_least=BAR_AUC)]
    return lines + [_over(card, control, NAMED["auc"], "PlantedSpeech") for control in CONTROLS]


def faithfulness_lines(card: Scorecard) -> list[Measurement]:
    """Whether ours names frames that matter, with either fill, more than chance and loudness do."""
    pairs = product(FAITHFUL, ("random", "energy"))
    return [_over(card, control, NAMED[name], "RAVDESS") for name, control in pairs]


def _over(card: Scorecard, control: str, metric: Metric, corpus: str) -> Measurement:
    """By how much ours is better, clip by clip: the end of the interval that must lie above 0."""
    found = card.difference(OURS, control, metric.name)
    ends = (found.low, found.high) if metric.better == "higher" else (-found.high, -found.low)
    note = "lower end of the interval, higher is better for us"
    name = f"{corpus}: {metric.name} over {control}"
    return Measurement(name, ends[0], *ends, at_least=0.0, note=note)


def _line(name: str, found: Estimate, **more: float | str) -> Measurement:
    return Measurement(name, found.value, found.low, found.high, **more)  # type: ignore[arg-type]


def cost_line(scored: Scored) -> Measurement:
    """Seconds, as for 50 clips."""
    per_card = scored.seconds / scored.card.num_clips * BAR_CLIPS
    note = f"from {scored.card.num_clips} clips, {len(scored.card.compared)} methods"
    return Measurement(f"{scored.name}: {BAR_CLIPS} clips", per_card, unit="s", at_most=BAR_S, note=note)


def write(scored: Scored, *, quick: bool) -> None:
    """Table and figure; the verdicts are printed."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    stem = RESULTS / f"scorecard-{scored.name.lower()}{'-quick' if quick else ''}"
    save_table(scored.card, stem.with_suffix(".csv"))
    titles = {metric.name: metric.title for metric in METRICS if metric.group != "estimate"}
    title, note = f"Scorecard on {scored.name}", scored.card.note
    for ending, some in (("", titles), ("-short", {name: titles[name] for name in SHORT})):
        figure = plot_scorecard(
            scored.card.rows, controls=CONTROLS, titles=some, plain=SANITY, title=title, note=note
        )
        figure.savefig(stem.with_name(f"{stem.name}{ending}.png"))
    for method in scored.card.compared:
        print(f"{scored.name}, {method}: {verdict(scored.card, method)}")


def plain(scored: Scored) -> Mapping[str, object]:
    """What JSON keeps of a card."""
    rows = [
        {key: None if value != value else value for key, value in row.items()}  # noqa: PLR0124 - NaN
        for row in scored.card.rows
    ]
    words = {method: verdict(scored.card, method) for method in scored.card.compared}
    return {"corpus": scored.name, "verdicts": words, "rows": rows}


if __name__ == "__main__":
    main()
