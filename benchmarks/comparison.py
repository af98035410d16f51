"""Does the paired test keep its level on real heads, and how much do leaky splits inflate a score on RAVDESS?

Null pairs: a system is five training seeds on each of the six folds of actors, with layer and learning rate
chosen on validation actors by these seeds; two systems of a pair differ by their seeds alone. Seeds are drawn
for each fold from those that were trained. A test at 5 % should find a difference in 5 % of the pairs; tests
that take speakers as independent, whatever head tested them, are printed beside it.

Inflation: the same study with clips split at random, and with epoch, learning rate and layer chosen on the
test clips, as a difference from the clean score that is paired by clip.

    python benchmarks/comparison.py --root DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from _common import Measurement, read_arguments, report
from scipy import stats

from wavshap_lightning.evaluation.comparison import SystemScore, compare, score_system
from wavshap_lightning.models.backbone import BackboneSettings
from wavshap_lightning.training.scores import SCORES
from wavshap_lightning.training.study.bench import prepare, train_cells
from wavshap_lightning.training.study.comparisons import inflation_rows
from wavshap_lightning.training.study.results import Entry, read_entries
from wavshap_lightning.training.study.settings import Cell, Plan, StudyCorpus, StudySettings

NUM_SEEDS = 5  # of a system
NUM_TRAINED = 24  # from which they are drawn
NUM_PAIRS, MANY_PAIRS = 200, 4000
SIGN_FLIPS = 1999
LEVEL = 0.05
UAR = SCORES["classes"].intervals["uar"].values
DRAWS = np.random.default_rng(0)


def main() -> None:
    """Train, compare, and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir"])
    null = finish_study(arguments, "null", seeds=NUM_TRAINED, layers=[2, 3])
    pairs = null_pairs(*null, 20 if arguments.quick else MANY_PAIRS)
    inflated = inflation_rows(
        *finish_study(arguments, "inflation", seeds=NUM_SEEDS, layers=[2, 3], inflation=True)
    )
    lines = [*level_lines(pairs), *map(inflation_line, inflated)]
    report("comparison", lines, arguments, inflation=inflated)


def finish_study(
    arguments: argparse.Namespace, name: str, **settings: object
) -> tuple[Plan, Mapping[Cell, Entry]]:
    """A study of the embedded backbone on RAVDESS, trained as far as it was not before."""
    settings |= {"poolings": ["mean"], "learning_rates": [0.002, 0.005]}
    settings |= {"max_epochs": 1, "learning_rates": [0.002]} if arguments.quick else {}
    folder = arguments.cache_dir / f"comparison-{name}{'-quick' if arguments.quick else ''}"
    corpora = [{"corpus": "ravdess", "root": str(arguments.root)}]
    study = StudySettings(name, corpora, [BackboneSettings("tiny")], out=str(folder), **settings)
    plan = prepare(replace(study, cache_dir=str(arguments.cache_dir)))
    train_cells(plan, workers=1)
    return plan, read_entries(plan, folder)


# Null pairs


def null_pairs(
    plan: Plan, entries: Mapping[Cell, Entry], number: int
) -> list[tuple[SystemScore, SystemScore]]:
    """Pairs of systems without a common seed in any fold."""
    (corpus,) = plan.corpora
    names, folds = tested_speakers(corpus)
    sums = {cell: speaker_sums(entry, corpus) for cell, entry in entries.items()}
    validation = {cell: entry["validation"].double().numpy() for cell, entry in entries.items()}
    pairs = []
    for _ in range(number):
        halves: list[list[Any]] = [[], []]
        for fold in range(len(corpus.folds)):
            drawn = DRAWS.permutation(NUM_TRAINED)
            for place, half in enumerate(halves):
                seeds = drawn[place * NUM_SEEDS : (place + 1) * NUM_SEEDS]
                means = {
                    (cell, rate): mean
                    for cell, own in validation.items()
                    if cell.fold == fold
                    for rate, mean in enumerate(own[:, seeds].mean(1))
                }
                cell, rate = max(means, key=lambda choice: means[choice])
                half.append(sums[cell][rate, seeds])
        a, b = (score_system(np.concatenate(half, 1), folds, names, UAR) for half in halves)
        pairs.append((a, b))
    return pairs


def tested_speakers(corpus: StudyCorpus) -> tuple[list[str], list[int]]:
    """Test speakers of all folds, and the fold of each."""
    by_fold = [sorted({corpus.clips[i]["speaker"] for i in fold["test"]}) for fold in corpus.folds]
    return [*chain(*by_fold)], [fold for fold, own in enumerate(by_fold) for _ in own]


def speaker_sums(entry: Entry, corpus: StudyCorpus) -> np.ndarray:
    """Recognized clips, clips, and predictions, `(rates, seeds, speakers, classes, 3)`."""
    clips = [corpus.clips[i] for i in entry["positions"].tolist()]
    _, speakers = np.unique([clip["speaker"] for clip in clips], return_inverse=True)
    member, one_hot = np.eye(speakers.max() + 1)[speakers], np.eye(len(corpus.labels))
    labels = one_hot[[clip["label"] for clip in clips]]
    predicted = one_hot[entry["test_logits"].argmax(-1).numpy()]
    columns = predicted * labels, np.broadcast_to(labels, predicted.shape), predicted
    return np.stack([np.einsum("cs,...ck->...sk", member, one) for one in columns], -1)


def level_lines(pairs: list[tuple[SystemScore, SystemScore]]) -> list[Measurement]:
    """Share of pairs that each test calls different."""
    found = np.array([compare(*pair)[3] < LEVEL for pair in pairs])
    few = found[:NUM_PAIRS]
    others = {"Student's t over speakers alone": speakers_alone, "sign flips of speakers": sign_flips}
    return [
        share_line(f"{len(few)} null pairs called different", few, at_least=0.03, at_most=0.07),
        share_line(f"{len(found)} null pairs called different", found),
        *(
            share_line(
                f"{len(few)} null pairs, {name}",
                np.array([test(*pair) < LEVEL for pair in pairs[:NUM_PAIRS]]),
            )
            for name, test in others.items()
        ),
    ]


def share_line(name: str, found: np.ndarray, **bars: float) -> Measurement:
    """A share with its exact 95 % interval."""
    ends = stats.binomtest(int(found.sum()), len(found)).proportion_ci()
    return Measurement(
        name,
        float(found.mean()),
        ends.low,
        ends.high,
        note="range: 95 % interval, as if pairs were independent",
        **bars,
    )


def speakers_alone(a: SystemScore, b: SystemScore) -> float:
    """P-value of Student's paired test over speakers."""
    each = a.deviations - b.deviations + (a.value - b.value) / len(a.deviations)
    return float(stats.ttest_1samp(each, 0.0).pvalue)


def sign_flips(a: SystemScore, b: SystemScore) -> float:
    """P-value of random signs of the speakers' differences."""
    each = a.deviations - b.deviations + (a.value - b.value) / len(a.deviations)
    drawn = DRAWS.choice([-1.0, 1.0], (SIGN_FLIPS, len(each))) @ each
    return float((1 + (np.abs(drawn) >= abs(each.sum()) - 1e-12).sum()) / (SIGN_FLIPS + 1))


# Inflation


def inflation_line(row: Mapping[str, Any]) -> Measurement:
    """UAR of a split and a choice, with the difference from the clean one."""
    name = f"UAR, {row['split']}, chosen on {row['chosen_on']} clips"
    numbers = (row["difference"], row["difference_low"], row["difference_high"])
    difference = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*numbers)
    clean = (row["split"], row["chosen_on"]) == ("speakers", "validation")
    return Measurement(
        name, row["uar"], row["low"], row["high"], note="" if clean else f"difference {difference}"
    )


if __name__ == "__main__":
    main()
