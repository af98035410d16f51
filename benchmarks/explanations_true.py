"""Do GradientSHAP's maps say what exact Shapley values say, and do they depend on what was learned?

On PlantedSpeech, with the demo's classifier and its test speakers. First: maps summed over 8 equal spans
against exact Shapley values of these spans, the same target, the same declared baselines as fill;
Spearman's correlation. Then: maps of the classifier with randomized parameters, from the head down to
all of them, against its own. A correlation that is 0 on average still scatters from clip to clip, and
neighboring frames resemble one another: what maps come to that were shifted in time is given beside it.

    python benchmarks/explanations_true.py
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from _common import Measurement, read_arguments, report
from _runs import clips_of_test, demo_run
from torch import Tensor

from wavshap_lightning.attribution.shapley.players import equal_spans
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.similarity import randomize, rank_correlation
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier

NUM_SPANS, NUM_BASELINES, NUM_DRAWS = 8, 8, 256
BAR_SHAPLEY, BAR_RANDOM = 0.9, 0.1
RANDOM_SEEDS = 2
QUICK_CLIPS = 2


def main() -> None:
    """Measure both and report."""
    arguments = read_arguments(__doc__, needs=["cache_dir", "clips", "checkpoint"])
    count = QUICK_CLIPS if arguments.quick else arguments.clips
    classifier = demo_run(arguments).classifier
    clips = clips_of_test(arguments.cache_dir, count)
    against_exact = shapley_correlations(classifier, clips)
    against_random, shifted = randomized_correlations(classifier, clips)
    median = statistics.median(against_exact)
    quartiles = np.quantile(against_exact, [0.25, 0.75]).tolist()
    note = f"median and quartiles of {len(clips)} clips; {NUM_BASELINES} baselines, {NUM_DRAWS} draws"
    lines = [
        Measurement(
            "Spearman with exact Shapley values", median, *quartiles, at_least=BAR_SHAPLEY, note=note
        ),
        *(_of_level(level, values) for level, values in against_random.items()),
    ]
    note = "mean magnitude of maps shifted in time, against themselves"
    lines.append(Measurement("what chance gives", statistics.fmean(map(abs, shifted)), note=note))
    report("explanations_true", lines, arguments, against_exact=against_exact, against_random=against_random)


def shapley_correlations(classifier: EmotionClassifier, clips: Sequence[Clip]) -> list[float]:
    """One for each clip, of its label."""
    common = {"stages": ("frames",), "num_baselines": NUM_BASELINES}
    exact = Explainer(classifier, ExplainSettings(method="shapley", num_spans=NUM_SPANS, **common))
    ours = Explainer(classifier, ExplainSettings(num_draws=NUM_DRAWS, **common))
    return [_shapley_correlation(ours, exact, clip) for clip in clips]


def _shapley_correlation(ours: Explainer, exact: Explainer, clip: Clip) -> float:
    expected = exact.explain(clip, clip.label).values("frames", "spans")
    by_frame = ours.explain(clip, clip.label).values("frames", "frames")
    owner = equal_spans(len(by_frame), NUM_SPANS).owner
    return rank_correlation(torch.zeros_like(expected).index_add_(0, owner, by_frame), expected)


def randomized_correlations(
    classifier: EmotionClassifier, clips: Sequence[Clip]
) -> tuple[dict[str, list[float]], list[float]]:
    """By randomized part, one for each clip and seed; and those of maps shifted by half their length."""
    settings = ExplainSettings(stages=("frames",))
    own = [_map(classifier, clip, settings) for clip in clips]
    found: dict[str, list[float]] = {}
    for seed in range(RANDOM_SEEDS):
        for part, name in (("head", "head alone"), ("all", "every parameter")):
            changed = randomize(classifier, part, seed)
            maps = [_map(changed, clip, settings) for clip in clips]
            pairs = zip(own, maps, strict=True)
            found.setdefault(name, []).extend(rank_correlation(*pair) for pair in pairs)
    return found, [rank_correlation(one, one.roll(len(one) // 2)) for one in own]


def _map(classifier: EmotionClassifier, clip: Clip, settings: ExplainSettings) -> Tensor:
    return Explainer(classifier, settings).explain(clip, clip.label).values("frames", "frames")


def _of_level(level: str, values: Sequence[float]) -> Measurement:
    mean, size = statistics.fmean(values), statistics.fmean(map(abs, values))
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    bar: Mapping[str, float] = {"at_most": BAR_RANDOM} if level == "every parameter" else {}
    return Measurement(
        f"|mean Spearman|, {level} randomized",
        abs(mean),
        mean - 1.96 * error,
        mean + 1.96 * error,
        note=f"range: the signed mean's 95 % interval; mean magnitude {size:.2f}",
        **bar,
    )


if __name__ == "__main__":
    main()
