"""The report on an evaluation: scores, confusion matrix and speakers, in files and on the screen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.evaluation.intervals import Estimate
from wavshap_lightning.files import write_csv, write_json
from wavshap_lightning.training.scores import (
    Predictions,
    SpeakerScore,
    confusion_counts,
    score_predictions,
    score_speakers,
)

FILE_NAME = "fold.json"


@dataclass(frozen=True)
class FoldResult:
    """Predictions of a fold's best checkpoint for the fold's test clips.

    Args:
        fold: Which fold.
        predictions: Of its test clips.
        speakers: The speaker of each of them.
        protocol: The fold's protocol record.
        folder: Where its run was written.
    """

    fold: int
    predictions: Predictions
    speakers: tuple[str, ...]
    protocol: dict[str, Any]
    folder: str

    def save(self) -> None:
        """Write `fold.json` into the fold's folder, as its last file: a fold that has it is finished."""
        clips = [
            {"speaker": self.speakers[position], "position": position, "label": label, "logits": logits}
            for position, label, logits in zip(
                self.predictions.positions.tolist(),
                self.predictions.labels.tolist(),
                self.predictions.logits.tolist(),
                strict=True,
            )
        ]
        write_json(
            Path(self.folder, FILE_NAME), {"fold": self.fold, "protocol": self.protocol, "clips": clips}
        )


def read_fold(folder: Path) -> FoldResult | None:
    """The result that was saved in a fold's folder, every number as it was; None if the fold is not finished.

    Raises:
        SettingError: If the file was changed and cannot be read.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        clips = sorted(content["clips"], key=lambda clip: int(clip["position"]))
        predictions = Predictions(
            torch.tensor([clip["logits"] for clip in clips], dtype=torch.float32),
            torch.tensor([clip["label"] for clip in clips]),
            torch.arange(len(clips)),
        )
        speakers = tuple(clip["speaker"] for clip in clips)
        return FoldResult(content["fold"], predictions, speakers, content["protocol"], str(folder))
    except (ValueError, TypeError, KeyError) as error:
        raise SettingError(
            f"fold={path} cannot be read ({error!r}); delete it, and the fold is run again"
        ) from error


NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


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
    uar: Estimate
    wa: float
    macro_f1: float

    def to_dict(self) -> dict[str, Any]:
        """The summary in plain JSON types."""
        return {
            "folds": [_fold_row(result) for result in self.folds],
            "uar": self.uar.value,
            **_ends(self.uar),
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
        known = self.uar.num_resampled > 1
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
) -> Estimate:
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
    value, num_clips = float(np.mean(fold_uars)), int(sum(fold.sum() for fold in confusions))
    if min(len(fold) for fold in confusions) > 1:
        means = np.mean([_resampled(fold, generator) for fold in confusions], axis=0)
        return Estimate(value, *_percentiles(means), num_clips, "speakers", sum(map(len, confusions)))
    if len(confusions) > 1:
        means = np.mean(fold_uars[_draws(len(confusions), generator)], axis=1)
        return Estimate(value, *_percentiles(means), num_clips, "folds", len(confusions))
    return Estimate(value, np.nan, np.nan, num_clips, "folds", 1)


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


def _ends(uar: Estimate) -> dict[str, float | None]:
    """Ends of the interval for JSON, which has no NaN."""
    ends = {"uar_low": uar.low, "uar_high": uar.high}
    return {name: None if math.isnan(end) else end for name, end in ends.items()}


def _fold_row(result: FoldResult) -> dict[str, Any]:
    scores = score_predictions(result.predictions)
    return {
        "fold": result.fold,
        "clips": len(result.predictions.labels),
        "test_speakers": " ".join(sorted(set(result.speakers))),
        **{name: float(scores[name]) for name in ("uar", "wa", "macro_f1", "ece")},
        "folder": result.folder,
    }


SHOWN_SCORES = {"uar": "UAR", "wa": "WA", "macro_f1": "macro F1", "ece": "ECE"}


@dataclass(frozen=True)
class Report:
    """Scores of a classifier on one split.

    Args:
        part: `validation` or `test`.
        labels: The classes, in the order of the logits.
        predictions: Of the clips of the part.
        speakers: The speaker of every clip of the part, in its order.
        protocol: How the corpus is split, as it is stored.
    """

    part: str
    labels: tuple[str, ...]
    predictions: Predictions
    speakers: tuple[str, ...]
    protocol: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write `PART.json`, `PART_confusion.csv` and `PART_speakers.csv`."""
        scores = {**self._scores(), **_ends(self._uar()), "protocol": self.protocol}
        write_json(folder / f"{self.part}.json", scores)
        counts = confusion_counts(self.predictions).tolist()
        rows = [[label, *row] for label, row in zip(self.labels, counts, strict=True)]
        write_csv(folder / f"{self.part}_confusion.csv", [["label", *self.labels], *rows])
        speakers = score_speakers(self.predictions, self.speakers)
        write_csv(
            folder / f"{self.part}_speakers.csv", [list(SpeakerScore.__slots__), *map(astuple, speakers)]
        )

    def show(self, console: Console) -> None:
        """Print the scores and both tables."""
        counts = confusion_counts(self.predictions).tolist()
        console.print(_confusion_table(self.part, self.labels, counts))
        console.print(_speaker_table(self.part, score_speakers(self.predictions, self.speakers)))
        scores = self._scores()
        shown = "  ".join(f"{title} {scores[name]:.3f}" for name, title in SHOWN_SCORES.items())
        console.print(f"{self.part.capitalize():<16} {shown}", highlight=False)

    def _uar(self) -> Estimate:
        """The UAR with its interval over speakers, whose ends are NaN where they are not all known."""
        confusions = confusions_by_speaker(self.predictions, self.speakers)
        uar = bootstrap_uar([confusions], np.random.default_rng(0))
        return uar if all(self.speakers) else replace(uar, low=np.nan, high=np.nan)

    def _scores(self) -> dict[str, float]:
        return {name: float(value) for name, value in score_predictions(self.predictions).items()}


def _confusion_table(part: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    table = Table(title=f"{part.capitalize()} clips by label (row) and prediction (column)")
    for name in ("", *labels, "recall"):
        table.add_column(Text(name), justify="right")  # a Text, since brackets in a string would be markup
    for index, (label, row) in enumerate(zip(labels, counts, strict=True)):
        recall = f"{row[index] / sum(row):.2f}" if sum(row) else "-"
        table.add_row(Text(label), *(str(count) if count else "." for count in row), recall)
    return table


def _speaker_table(part: str, speakers: Sequence[SpeakerScore]) -> Table:
    table = Table(title=f"{part.capitalize()} speakers, worst first")
    for name in ("speaker", "clips", "UAR", "WA"):
        table.add_column(name, justify="right")
    for score in speakers:
        speaker = Text(score.speaker or "unknown")
        table.add_row(speaker, str(score.num_clips), f"{score.uar:.3f}", f"{score.wa:.3f}")
    return table
