"""Evaluation of a classifier on a split, and of all folds together: in files and on the screen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.evaluation.intervals import LEVEL, Estimate
from wavshap_lightning.files import write_csv, write_json
from wavshap_lightning.training.scores import Predictions, confusion_counts, score_predictions

FOLD_FILE = "fold.json"
NUM_RESAMPLES = 2000
PERCENTILES = (50.0 * (1.0 - LEVEL), 50.0 * (1.0 + LEVEL))
SCORE_TITLES = {"uar": "UAR", "wa": "WA", "macro_f1": "macro F1", "ece": "ECE"}
SPEAKER_COLUMNS = ("speaker", "num_clips", "uar", "wa")


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a classifier for the clips of one split.

    Args:
        predictions: The predictions.
        speakers: The speaker of every clip of the split, in its order.
        protocol: Protocol record of the clips: how the corpus is split.
    """

    predictions: Predictions
    speakers: tuple[str, ...]
    protocol: Mapping[str, Any]

    def scores(self) -> dict[str, float]:
        """Scores by name; see [`score_predictions`][wavshap_lightning.training.scores.score_predictions]."""
        return {name: float(value) for name, value in score_predictions(self.predictions).items()}

    def by_speaker(self) -> dict[str, Predictions]:
        """Predictions for the clips of each speaker."""
        of_clip = [self.speakers[position] for position in self.predictions.positions.tolist()]
        return {
            speaker: self.predictions.select(torch.tensor([name == speaker for name in of_clip]))
            for speaker in sorted(set(of_clip))
        }

    def speaker_confusions(self) -> Int[np.ndarray, "speakers label prediction"]:
        """Confusion matrix of each speaker."""
        return np.stack([confusion_counts(found).cpu().numpy() for found in self.by_speaker().values()])

    def speaker_scores(self) -> list[tuple[str, int, float, float]]:
        """Speaker, number of clips, UAR over the classes the speaker has, and accuracy; worst first."""
        rows = []
        for speaker, found in self.by_speaker().items():
            scores = score_predictions(found)
            rows.append((speaker, len(found.labels), float(scores["uar"]), float(scores["wa"])))
        return sorted(rows, key=lambda row: row[2])


def report(
    result: Evaluation, split: str, labels: Sequence[str], *, folder: Path | None, console: Console
) -> None:
    """Print scores, confusion matrix and speakers, and write them into the folder of the run.

    Args:
        result: The evaluation.
        split: `validation` or `test`.
        labels: The classes, in the order of the logits.
        folder: Folder for `SPLIT.json`, `SPLIT_confusion.csv` and `SPLIT_speakers.csv`; none are written if
            None.
        console: Screen to print on.
    """
    scores, speakers = result.scores(), result.speaker_scores()
    counts = confusion_counts(result.predictions).tolist()
    if folder:
        ends = _ends(bootstrap_uar([result.speaker_confusions()], np.random.default_rng(0)))
        if not all(result.speakers):  # of unknown speakers nobody knows how many there are
            ends = dict.fromkeys(ends)
        write_json(folder / f"{split}.json", {**scores, **ends, "protocol": result.protocol})
        rows = [[label, *row] for label, row in zip(labels, counts, strict=True)]
        write_csv(folder / f"{split}_confusion.csv", [["label", *labels], *rows])
        write_csv(folder / f"{split}_speakers.csv", [SPEAKER_COLUMNS, *speakers])
    console.print(_confusion_table(split, labels, counts))
    shown = [(name or "unknown", str(count), f"{uar:.3f}", f"{wa:.3f}") for name, count, uar, wa in speakers]
    title = f"{split.capitalize()} speakers, worst first"
    console.print(_table(title, ("speaker", "clips", "UAR", "WA"), shown))
    line = "  ".join(f"{title} {scores[name]:.3f}" for name, title in SCORE_TITLES.items())
    console.print(f"{split.capitalize():<16} {line}", highlight=False)


def save_fold(result: Evaluation, folder: Path) -> None:
    """Write `fold.json` into a fold's folder, as its last file: a fold that has it is finished."""
    found = result.predictions
    rows = zip(found.positions.tolist(), found.labels.tolist(), found.logits.tolist(), strict=True)
    clips = [
        {"speaker": result.speakers[position], "position": position, "label": label, "logits": logits}
        for position, label, logits in rows
    ]
    content = {"fold": result.protocol["fold"], "protocol": result.protocol, "clips": clips}
    write_json(folder / FOLD_FILE, content)


def read_fold(folder: Path) -> Evaluation | None:
    """Test of a fold as it was saved in the fold's folder; None if the fold is not finished.

    Raises:
        SettingError: If the file was changed and cannot be read.
    """
    path = folder / FOLD_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        clips = sorted(content["clips"], key=lambda clip: int(clip["position"]))
        logits = torch.tensor([clip["logits"] for clip in clips], dtype=torch.float32)
        labels = torch.tensor([clip["label"] for clip in clips])
        predictions = Predictions(logits, labels, torch.arange(len(clips)))
        return Evaluation(predictions, tuple(clip["speaker"] for clip in clips), content["protocol"])
    except (ValueError, TypeError, KeyError) as error:
        raise SettingError(f"fold={path} cannot be read ({error!r}); delete it to run it again") from error


def summarize_folds(results: Sequence[Evaluation], folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Content of `cv.json`: means over the folds, with a bootstrap interval for the recall.

    Args:
        results: Test of every fold, in order.
        folder: Folder of the cross-validation, with a folder for each fold.
        seed: Random seed of the bootstrap; see [`bootstrap_uar`][].

    Raises:
        CorpusError: If the folds are not of one protocol and the same number of clips.
    """
    _check_alike(results)
    rows: list[dict[str, Any]] = []
    for fold, result in enumerate(results):
        scores, speakers = result.scores(), " ".join(sorted(set(result.speakers)))
        rows.append({"fold": fold, "clips": len(result.predictions.labels), "test_speakers": speakers})
        rows[-1] |= {name: scores[name] for name in SCORE_TITLES} | {"folder": f"{folder}/fold_{fold}"}
    uar = bootstrap_uar([result.speaker_confusions() for result in results], np.random.default_rng(seed))
    means = {name: float(torch.tensor([row[name] for row in rows]).mean()) for name in ("wa", "macro_f1")}
    protocol = {k: value for k, value in results[0].protocol.items() if k not in ("fold", "clips")}
    return {
        "folds": rows,
        "uar": uar.value,
        **_ends(uar),
        "confidence": LEVEL,
        "resampled": uar.resampled,
        **means,
        "protocol": protocol,
    }


def save_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """Write `cv.json` and `cv.csv`."""
    write_json(folder / "cv.json", summary)
    rows = [list(row.values()) for row in summary["folds"]]
    write_csv(folder / "cv.csv", [list(summary["folds"][0]), *rows])


def fold_table(summary: Mapping[str, Any]) -> Table:
    """A printable table of the folds and their mean."""
    folds = summary["folds"]
    rows = [(str(one["fold"]), str(one["clips"]), one["test_speakers"], *_shown(one)) for one in folds]
    title = f"{summary['protocol'].get('name', '')}: {len(rows)} folds"
    table = _table(title, ("fold", "clips", "test speakers", "UAR", "WA", "macro F1"), rows)
    table.add_section()
    uar, wa, macro_f1 = _shown(summary)
    meaning = ""
    if summary["uar_low"] is not None:
        uar += f" [{summary['uar_low']:.3f}, {summary['uar_high']:.3f}]"
        meaning = f"{LEVEL:.0%} interval over {summary['resampled']}"
    table.add_row("mean", "", meaning, uar, wa, macro_f1)
    return table


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
        drawn = [_uar(fold[_draws(len(fold), generator)].sum(1)) for fold in confusions]
        low, high = np.percentile(np.mean(drawn, axis=0), PERCENTILES).tolist()
        return Estimate(value, low, high, num_clips, "speakers", sum(map(len, confusions)))
    if len(confusions) > 1:
        means = np.mean(fold_uars[_draws(len(confusions), generator)], axis=1)
        low, high = np.percentile(means, PERCENTILES).tolist()
        return Estimate(value, low, high, num_clips, "folds", len(confusions))
    return Estimate(value, np.nan, np.nan, num_clips, "folds", 1)


def _ends(uar: Estimate) -> dict[str, float | None]:
    """Ends of the interval for JSON, which has no NaN."""
    ends = {"uar_low": uar.low, "uar_high": uar.high}
    return {name: None if math.isnan(end) else end for name, end in ends.items()}


def _check_alike(results: Sequence[Evaluation]) -> None:
    """Folds that were kept from an earlier start must have divided what the others did."""
    found = [(result.protocol["hash"], sum(result.protocol["clips"].values())) for result in results]
    differing = [fold for fold, one in enumerate(found) if one != found[0]]
    if differing:
        raise CorpusError(f"folds={differing} differ from fold=0 in protocol or clips; run all folds again")


def _draws(number: int, generator: np.random.Generator) -> Int[np.ndarray, "resamples draws"]:
    return generator.integers(number, size=(NUM_RESAMPLES, number - 1))


def _uar(confusions: Int[np.ndarray, "matrices label prediction"]) -> Float[np.ndarray, " matrices"]:
    """Recall averaged over the labels that occur, of each matrix."""
    correct, totals = np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(2)
    recalls = np.divide(correct, totals, out=np.full(totals.shape, np.nan), where=totals > 0)
    return np.nanmean(recalls, axis=1)


def _shown(scores: Mapping[str, Any]) -> tuple[str, str, str]:
    """UAR, accuracy and macro F1 as tables have them."""
    return f"{scores['uar']:.3f}", f"{scores['wa']:.3f}", f"{scores['macro_f1']:.3f}"


def _confusion_table(split: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    rows = []
    for index, (label, row) in enumerate(zip(labels, counts, strict=True)):
        recall = f"{row[index] / sum(row):.2f}" if sum(row) else "-"
        rows.append((label, *(str(count or ".") for count in row), recall))
    title = f"{split.capitalize()} clips by label (row) and prediction (column)"
    return _table(title, ("", *labels, "recall"), rows)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of what others named: brackets are no markup."""
    table = Table(title=Text(title))
    for name in columns:
        table.add_column(Text(name), justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
