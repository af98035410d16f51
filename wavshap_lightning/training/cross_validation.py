"""Evaluation of a classifier on a split, and of all folds together: in files and on the screen."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64, Int
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.evaluation.intervals import LEVEL, Estimate
from wavshap_lightning.files import write_atomically, write_csv, write_json
from wavshap_lightning.models.head import SOFTMAX_TASKS, Outputs
from wavshap_lightning.training.scores import (
    SCORES,
    Numbers,
    Predictions,
    Sums,
    confusion_counts,
    ratio,
    reliability_table,
    score_predictions,
)
from wavshap_lightning.viz.figures import figure_png, plot_calibration

FOLD_FILE = "fold.json"
NUM_RESAMPLES = 2000
PERCENTILES = (50.0 * (1.0 - LEVEL), 50.0 * (1.0 + LEVEL))
RELIABILITY_COLUMNS = ("low", "high", "confidence", "accuracy", "num_clips")


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a classifier for the clips of one split.

    Args:
        predictions: The predictions.
        speakers: The speaker of every clip of the split, in its order.
        protocol: Protocol record of the clips: how the corpus is split.
        temperature: That of the first task, if its classes were calibrated.
    """

    predictions: Predictions
    speakers: tuple[str, ...]
    protocol: Mapping[str, Any]
    temperature: float | None = None

    def scores(self) -> dict[str, float]:
        """Scores by name; see [`score_predictions`][wavshap_lightning.training.scores.score_predictions]."""
        return {name: float(value) for name, value in score_predictions(self.predictions).items()}

    def shown(self) -> list[list[str]]:
        """Names of the scores of each task to print, the main one first."""
        tasks = ((prefix, SCORES[part.task]) for prefix, part in self.predictions.parts().items())
        return [[prefix + name for name in (one.main, *one.more)] for prefix, one in tasks]

    def by_speaker(self) -> dict[str, Predictions]:
        """Predictions for the clips of each speaker."""
        of_clip = [self.speakers[position] for position in self.predictions.positions.tolist()]
        return {
            speaker: self.predictions.select(torch.tensor([name == speaker for name in of_clip]))
            for speaker in sorted(set(of_clip))
        }

    def speaker_scores(self) -> list[list[Any]]:
        """Header, then of each speaker number of clips and two scores of each task; the worst one first.

        Speakers without a main score are last.
        """
        names = [name for names in self.shown() for name in names[:2]]
        rows: list[list[Any]] = []
        for speaker, found in self.by_speaker().items():
            scores = score_predictions(found)
            rows.append([speaker, len(found.labels), *(float(scores[name]) for name in names)])
        worst_first = -1.0 if SCORES[self.predictions.task].mode == "min" else 1.0
        rows.sort(key=lambda row: math.inf if math.isnan(row[2]) else worst_first * row[2])
        return [["speaker", "num_clips", *names], *rows]


def report(
    result: Evaluation, split: str, labels: Sequence[str], *, folder: Path | None, console: Console
) -> dict[str, Any]:
    """Print scores, tables of each task and speakers, and write them into the folder of the run.

    Scores are returned with the ends of their intervals, as in `SPLIT.json`.

    Args:
        result: The evaluation.
        split: `validation` or `test`.
        labels: The outputs of the first task, in the order of the logits.
        folder: Folder for `SPLIT.json`, `SPLIT_speakers.csv`, and of classes and votes `SPLIT_confusion.csv`,
            `SPLIT_reliability.csv` and its figure `SPLIT_reliability.png`; none are written if None.
        console: Screen to print on.
    """
    ends, speakers = _ends(score_intervals([result])), result.speaker_scores()
    ends = ends if all(result.speakers) else dict.fromkeys(ends)  # nobody knows how many are unknown
    numbers = {**_plain(result.scores()), **ends}
    tables: dict[str, list[Any]] = {"speakers": speakers}
    if result.temperature is not None:
        scaled = result.predictions.at_temperature(result.temperature)
        numbers |= {"temperature": result.temperature, "scaled_ece": float(score_predictions(scaled)["ece"])}
    for prefix, part in result.predictions.parts().items():
        if part.task in SOFTMAX_TASKS:
            names = part.outputs[0].labels if part.outputs else labels
            counts = confusion_counts(part).tolist()
            rows = ([label, *row] for label, row in zip(names, counts, strict=True))
            tables[f"{prefix}confusion"] = [["label", *names], *rows]
            bins = reliability_table(part)
            tables[f"{prefix}reliability"], curves = [RELIABILITY_COLUMNS, *bins], {"as trained": bins}
            if result.temperature is not None and not prefix:
                curves[f"at temperature {result.temperature:.2f}"] = reliability_table(scaled)
            if folder and bins:
                png = figure_png(plot_calibration(curves, f"{split.capitalize()} clips"))
                write_atomically(folder / f"{split}_{prefix}reliability.png", png)
            console.print(_confusion_table(split, names, counts))
        else:
            console.print(_output_table(split, prefix, part, numbers))
    if folder:
        write_json(folder / f"{split}.json", {**numbers, "protocol": result.protocol})
        for name, table in tables.items():
            write_csv(folder / f"{split}_{name}.csv", table)
    shown = [(name or "unknown", str(n), *map("{:.3f}".format, row)) for name, n, *row in speakers[1:]]
    title = f"{split.capitalize()} speakers, worst first"
    console.print(_table(title, ("speaker", "clips", *map(score_title, speakers[0][2:])), shown))
    lines = (f"{score_title(name)} {_shown(numbers, name)}" for names in result.shown() for name in names)
    for title, line in zip_longest([split.capitalize()], lines, fillvalue=""):
        console.print(f"{title:<16} {line}", highlight=False)
    return numbers


def score_intervals(results: Sequence[Evaluation], *, seed: int = 0) -> dict[str, Estimate]:
    """Mean over folds of the scores that have an interval, also of each dimension or label.

    Args:
        results: Test of every fold.
        seed: Random seed of each [`bootstrap`][].
    """
    found, num_clips = {}, sum(len(result.predictions.labels) for result in results)
    folds = [[own.parts() for own in result.by_speaker().values()] for result in results]
    for prefix, part in results[0].predictions.parts().items():
        for name, one in SCORES[part.task].intervals.items():
            sums = [np.stack([one.sums(own[prefix]) for own in fold]) for fold in folds]
            by_name = {name: sums}
            for index, label in enumerate(part.outputs[0].labels if one.of_output else ()):
                by_name[f"{one.of_output}_{label}"] = [fold[:, [index]] for fold in sums]
            for title, own in by_name.items():
                found[prefix + title] = bootstrap(own, one.values, np.random.default_rng(seed), num_clips)
    return found


def save_fold(result: Evaluation, folder: Path) -> None:
    """Write `fold.json` into a fold's folder, as its last file: a fold that has it is finished."""
    found = result.predictions
    rows = zip(found.positions.tolist(), found.labels.tolist(), found.logits.tolist(), strict=True)
    clips = [
        {"speaker": result.speakers[position], "position": position, "label": label, "logits": logits}
        for position, label, logits in rows
    ]
    content = {"fold": result.protocol["fold"], "protocol": result.protocol, "clips": clips}
    if found.outputs:  # files of classes alone stay as they were
        content["outputs"] = [asdict(one) for one in found.outputs]
        for clip, row in zip(clips, found.targets.tolist(), strict=True):
            clip["targets"] = [None if math.isnan(value) else value for value in row]
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
        targets = np.array([clip.get("targets", ()) for clip in clips], dtype=np.float32)  # None becomes NaN
        columns, positions = torch.from_numpy(targets), torch.arange(len(clips))
        outputs = tuple(Outputs.from_dict(one) for one in content.get("outputs", ()))
        predictions = Predictions(logits, labels, positions, columns, outputs)
        return Evaluation(predictions, tuple(clip["speaker"] for clip in clips), content["protocol"])
    except (ValueError, TypeError, KeyError) as error:
        raise SettingError(f"fold={path} cannot be read ({error!r}); delete it to run it again") from error


def summarize_folds(results: Sequence[Evaluation], folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Content of `cv.json`: means over the folds, with bootstrap intervals of the main scores.

    Args:
        results: Test of every fold, in order.
        folder: Folder of the cross-validation, with a folder for each fold.
        seed: Random seed of the bootstrap; see [`bootstrap`][].

    Raises:
        CorpusError: If the folds are not of one protocol and the same number of clips.
    """
    # Folds that were kept from an earlier start must have divided what the others did.
    found = [(result.protocol["hash"], sum(result.protocol["clips"].values())) for result in results]
    if differing := [fold for fold, one in enumerate(found) if one != found[0]]:
        raise CorpusError(f"folds={differing} differ from fold=0 in protocol or clips; run all folds again")
    intervals = score_intervals(results, seed=seed)
    tasks = results[0].shown()
    shown, mains = [name for names in tasks for name in names], [names[0] for names in tasks]
    rows: list[dict[str, Any]] = []
    for fold, result in enumerate(results):
        scores, speakers = result.scores(), " ".join(sorted(set(result.speakers)))
        rows.append({"fold": fold, "clips": len(result.predictions.labels), "test_speakers": speakers})
        rows[-1] |= {name: scores[name] for name in dict.fromkeys((*shown, *intervals))}
        rows[-1]["folder"] = f"{folder}/fold_{fold}"
    averaged = [name for name in shown if name not in {*mains, "ece"}]
    means = {name: float(torch.tensor([row[name] for row in rows]).mean()) for name in averaged}
    protocol = {k: value for k, value in results[0].protocol.items() if k not in ("fold", "clips")}
    return {
        "folds": [_plain(row) for row in rows],
        **_plain({name: one.value for name, one in intervals.items()}),
        **_ends(intervals),
        "confidence": LEVEL,
        "resampled": next(iter(intervals.values())).resampled,
        **_plain(means),
        "protocol": protocol,
    }


def save_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """Write `cv.json` and `cv.csv`."""
    write_json(folder / "cv.json", summary)
    write_csv(folder / "cv.csv", [[*summary["folds"][0]], *([*row.values()] for row in summary["folds"])])


def fold_table(summary: Mapping[str, Any]) -> Table:
    """A printable table of the folds and their mean."""
    folds = summary["folds"]
    facts, names = ("fold", "clips", "test_speakers"), [name for name in folds[0] if name in summary]
    columns = names[:3]
    rows = [[*(str(one[name]) for name in facts), *(_shown(one, name) for name in columns)] for one in folds]
    title = f"{summary['protocol'].get('name', '')}: {len(rows)} folds"
    table = _table(title, ("fold", "clips", "test speakers", *map(score_title, columns)), rows)
    table.add_section()
    known = any(summary.get(f"{name}_low") is not None for name in names)
    meaning = f"{LEVEL:.0%} interval over {summary['resampled']}" if known else ""
    table.add_row("mean", "", meaning, *(_shown(summary, name) for name in columns))
    for name in names[3:]:
        table.add_row("", "", Text(score_title(name)), _shown(summary, name))
    return table


def bootstrap(
    folds: Sequence[Sums], values: Callable[[Sums], Numbers], generator: np.random.Generator, num_clips: int
) -> Estimate:
    """The mean of a score over folds with its 95 % percentile interval, resampling speakers within folds.

    Clips of one speaker rise and fall together, so speakers are drawn, not clips. Where a fold tests a single
    speaker there is nothing to draw within it, and whole folds are drawn instead: where one speaker at a time
    is left out, these are the speakers. Models are taken as they are: the interval says how the number varies
    with the speakers tested, not with those trained on or with training seeds.

    One fewer is drawn than there are, which gives a mean its unbiased variance; as many as there are would
    make the interval too narrow by a seventh with four speakers a fold and by a third with two. It is still
    somewhat narrow where fewer than about ten are drawn in all.

    Args:
        folds: For each fold, the sums of its test speakers, `(speakers, outputs, sums)`.
        values: Of sums, numbers whose mean over outputs is the score; see
            [`Interval`][wavshap_lightning.training.scores.Interval].
        generator: Draws the resamples.
        num_clips: Number of clips behind the score.

    Source: Rao and Wu 1988, "Resampling Inference with Complex Survey Data", section 2.
    """

    def score(sums: Sums) -> Float64[np.ndarray, "..."]:
        numbers = values(sums)
        return ratio(np.stack([np.nansum(numbers, axis=-1), (~np.isnan(numbers)).sum(axis=-1)], axis=-1))

    scores = score(np.stack([fold.sum(0) for fold in folds]))
    resampled: Literal["speakers", "folds"] = "speakers" if min(map(len, folds)) > 1 else "folds"
    if resampled == "speakers":
        means = np.mean([score(_resampled(fold, generator)) for fold in folds], axis=0)
    else:
        means = scores[_draws(len(folds), generator)].mean(1) if len(folds) > 1 else scores[:0]
    known, number = means[~np.isnan(means)], sum(map(len, folds)) if resampled == "speakers" else len(folds)
    low, high = np.percentile(known, PERCENTILES).tolist() if len(known) else (np.nan, np.nan)
    return Estimate(float(np.mean(scores)), low, high, num_clips, resampled, number)


def _ends(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Ends of the intervals for JSON."""
    ends = {f"{name}_{end}": getattr(one, end) for name, one in estimates.items() for end in ("low", "high")}
    return _plain(ends)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for JSON, which has no NaN."""
    return {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in values.items()}


def _resampled(sums: Sums, generator: np.random.Generator) -> Sums:
    """Sums over the speakers of each resample, `(resamples, outputs, sums)`."""
    counts = [np.bincount(drawn, minlength=len(sums)) for drawn in _draws(len(sums), generator)]
    return np.tensordot(np.stack(counts).astype(float), sums, 1)


def _draws(number: int, generator: np.random.Generator) -> Int[np.ndarray, "resamples draws"]:
    return generator.integers(number, size=(NUM_RESAMPLES, number - 1))


def score_title(score: str) -> str:
    """Title of a score, without its task.

    >>> score_title("uar"), score_title("macro_f1"), score_title("dimensions_ccc")
    ('UAR', 'macro F1', 'CCC')
    """
    for task in SCORES:
        score = score.removeprefix(f"{task}_")
    return score.upper() if len(score) <= len("rmse") else score.replace("_", " ").replace("f1", "F1")


def _shown(scores: Mapping[str, Any], name: str) -> str:
    """A score as tables have it, with its interval if that is known."""
    value, low, high = (scores.get(name + end) for end in ("", "_low", "_high"))
    return "-" if value is None else f"{value:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")


def _output_table(split: str, prefix: str, part: Predictions, scores: Mapping[str, Any]) -> Table:
    """Scores of each dimension or label, and its clips with a target."""
    names, rows = SCORES[part.task].by_output, []
    for label, count in zip(part.outputs[0].labels, (~part.targets.isnan()).sum(0).tolist(), strict=True):
        rows.append((label, str(count), *(_shown(scores, f"{prefix}{name}_{label}") for name in names)))
        if scores.get(f"{prefix}pcc_{label}") == 0.0:
            found = f"dimension={label}: predictions or targets of the {split} clips are constant"
            rank_zero_warn(f"{found}; its CCC is 0. Train longer, or give other clips", stacklevel=2)
    return _table(f"{split.capitalize()} {part.task}", ("", "clips", *map(score_title, names)), rows)


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
