"""Cross-validation: one run a fold, and an interval that knows clips of one speaker are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.table import Table
from rich.text import Text

from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.training.files import write_csv, write_json
from wavshap_lightning.training.fold_result import FoldResult
from wavshap_lightning.training.scores import Predictions, confusion_counts, score_predictions

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence interval.

    Args:
        value: The estimate.
        low: Lower end; None where there is but one thing to resample.
        high: Upper end, likewise.
        resampled: What was resampled, `speakers` or `folds`.
    """

    value: float
    low: float | None
    high: float | None
    resampled: Literal["speakers", "folds"]

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class CrossValidation:
    """The folds together.

    Args:
        folds: One result a fold.
        uar: Mean of the folds' unweighted average recall, with its interval.
        wa: Mean of the folds' accuracy.
        macro_f1: Mean of the folds' macro F1.
    """

    folds: tuple[FoldResult, ...]
    uar: Interval
    wa: float
    macro_f1: float

    def to_dict(self) -> dict[str, Any]:
        """The summary in plain JSON types."""
        return {
            "folds": [_fold_row(result) for result in self.folds],
            "uar": self.uar.value,
            "uar_low": self.uar.low,
            "uar_high": self.uar.high,
            "confidence": CONFIDENCE,
            "resampled": self.uar.resampled,
            "wa": self.wa,
            "macro_f1": self.macro_f1,
            "protocol": {k: v for k, v in self.folds[0].protocol.items() if k not in ("fold", "clips")},
        }

    def save(self, folder: Path) -> None:
        """Write `cv.json` and `cv.csv`."""
        summary = self.to_dict()
        write_json(folder / "cv.json", summary)
        rows = [list(row.values()) for row in summary["folds"]]
        write_csv(folder / "cv.csv", [list(summary["folds"][0]), *rows])

    def table(self) -> Table:
        """The folds and their mean, to print."""
        name = self.folds[0].protocol.get("name", "")
        table = Table(title=Text(f"{name}: {len(self.folds)} folds"))  # no markup in what others named
        for name in ("fold", "clips", "test speakers", "UAR", "WA", "macro F1"):
            table.add_column(name, justify="right")
        for row in (_fold_row(result) for result in self.folds):
            scores = (f"{row[name]:.3f}" for name in ("uar", "wa", "macro_f1"))
            table.add_row(str(row["fold"]), str(row["clips"]), Text(row["test_speakers"]), *scores)
        table.add_section()
        known = self.uar.low is not None
        meaning = f"{CONFIDENCE:.0%} interval over {self.uar.resampled}" if known else ""
        table.add_row("mean", "", meaning, str(self.uar), f"{self.wa:.3f}", f"{self.macro_f1:.3f}")
        return table


def summarise_folds(results: Sequence[FoldResult], *, seed: int = 0) -> CrossValidation:
    """Mean over the folds, with a bootstrap interval for the recall; see [`bootstrap_uar`][].

    Raises:
        SettingError: If there is no fold.
        CorpusError: If the folds are not of one protocol and the same number of clips.
    """
    if not results:
        raise SettingError("folds=0: a protocol needs at least one fold")
    _check_alike(results)
    scores = [score_predictions(result.predictions) for result in results]
    mean = {name: float(torch.stack([fold[name] for fold in scores]).mean()) for name in scores[0]}
    uar = bootstrap_uar([speaker_confusions(result) for result in results], np.random.default_rng(seed))
    return CrossValidation(tuple(results), uar, mean["wa"], mean["macro_f1"])


def _check_alike(results: Sequence[FoldResult]) -> None:
    """Folds that were kept from an earlier start must have divided what the others did."""
    first, *others = ((r.protocol["hash"], sum(r.protocol["clips"].values())) for r in results)
    differing = [result.fold for result, other in zip(results[1:], others, strict=True) if other != first]
    if differing:
        raise CorpusError(
            f"folds={differing} were run on another protocol or other clips than fold={results[0].fold}: the "
            "corpus has changed since; run the cross-validation anew"
        )


def speaker_confusions(result: FoldResult) -> Int[np.ndarray, "speakers label prediction"]:
    """The confusion matrix of each test speaker of a fold."""
    return confusions_by_speaker(result.predictions, result.speakers)


def confusions_by_speaker(
    predictions: Predictions, speakers: Sequence[str]
) -> Int[np.ndarray, "speakers label prediction"]:
    """The confusion matrix of each speaker.

    Args:
        predictions: Of one part.
        speakers: The speaker of every clip of that part, in its order.
    """
    speakers = [speakers[i] for i in predictions.positions.tolist()]
    return np.stack(
        [
            confusion_counts(predictions.select(torch.tensor([name == speaker for name in speakers]))).numpy()
            for speaker in sorted(set(speakers))
        ]
    )


def bootstrap_uar(
    confusions: Sequence[Int[np.ndarray, "_ label prediction"]], generator: np.random.Generator
) -> Interval:
    """The mean recall over folds with its 95 % percentile interval, resampling speakers within folds.

    Clips of one speaker rise and fall together, so speakers are drawn, not clips. Where a fold tests a single
    speaker there is nothing to draw within it, and whole folds are drawn instead: where one speaker at a time
    is left out, these are the speakers. Models are taken as they are: the interval says how the number varies
    with the speakers tested, not with those trained on or with training seeds.

    One fewer is drawn than there are, which gives a mean its unbiased variance; as many as there are would
    make the interval too narrow by a seventh with four speakers a fold and by a third with two. It is still
    somewhat narrow where fewer than about ten are drawn in all.

    Args:
        confusions: For each fold, the confusion matrix of each of its test speakers.
        generator: Draws the resamples.

    Source: Rao and Wu 1988, "Resampling Inference with Complex Survey Data", section 2.
    """
    fold_uars = _uar(np.stack([fold.sum(0) for fold in confusions]))
    value = float(np.mean(fold_uars))
    if min(len(fold) for fold in confusions) > 1:
        means = np.mean([_resampled(fold, generator) for fold in confusions], axis=0)
        return Interval(value, *_percentiles(means), "speakers")
    if len(confusions) > 1:
        means = np.mean(fold_uars[_draws(len(confusions), generator)], axis=1)
        return Interval(value, *_percentiles(means), "folds")
    return Interval(value, None, None, "folds")


def _resampled(
    speakers: Int[np.ndarray, "speakers label prediction"], generator: np.random.Generator
) -> Float[np.ndarray, " resamples"]:
    return _uar(speakers[_draws(len(speakers), generator)].sum(1))


def _draws(number: int, generator: np.random.Generator) -> Int[np.ndarray, "resamples draws"]:
    return generator.integers(number, size=(NUM_RESAMPLES, number - 1))


def _uar(confusions: Int[np.ndarray, "matrices label prediction"]) -> Float[np.ndarray, " matrices"]:
    """Recall averaged over the labels that occur, of each matrix."""
    correct, totals = np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(2)
    recalls = np.divide(correct, totals, out=np.full(totals.shape, np.nan), where=totals > 0)
    return np.nanmean(recalls, axis=1)


def _percentiles(values: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)


def _fold_row(result: FoldResult) -> dict[str, Any]:
    scores = score_predictions(result.predictions)
    return {
        "fold": result.fold,
        "clips": len(result.predictions.labels),
        "test_speakers": " ".join(sorted(set(result.speakers))),
        **{name: float(scores[name]) for name in ("uar", "wa", "macro_f1", "ece")},
        "folder": result.folder,
    }
