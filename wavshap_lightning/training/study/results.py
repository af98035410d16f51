"""Results of a study: settings chosen on validation speakers, fold by fold, and the scores of these."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.comparison import SystemScore, score_system
from wavshap_lightning.files import write_csv
from wavshap_lightning.models.head import Outputs
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.scores import SCORES, Predictions, Sums, ratio
from wavshap_lightning.training.study.settings import Axis, Cell, Plan, StudyCorpus
from wavshap_lightning.training.study.stress import Numbers

CELLS = "cells"
Entry = Mapping[str, Tensor]
"""What is stored of a cell: `validation (rates, seeds)`, the best UAR of the validation clips; `epochs`, the
epoch (from 0) that has it; `test_logits (rates, seeds, clips, classes)` at that epoch; `positions (clips,)`
of these clips in the corpus. For inflation alone: `test_curve (rates, seeds, epochs)`, the test UAR of every
epoch, and `leaky_logits`, those of the epoch that is best on the test clips."""

ChosenOn = Literal["validation", "test"]


class Choice(NamedTuple):
    """Choice of a fold.

    Args:
        cell: The cell, which has the layer and the pooling.
        rate: Index of the learning rate.
        score: Mean UAR over seeds by which it is chosen.
        epochs: Epoch of each seed, from 0.
    """

    cell: Cell
    rate: int
    score: float
    epochs: tuple[int, ...]

    def to_dict(self, learning_rate: float) -> dict[str, Any]:
        """The choice as `study.json` has it; epochs count from 1, and the median of the seeds is told."""
        found = {"fold": self.cell.fold, "layer": self.cell.layer, "pooling": self.cell.pooling}
        return found | {"learning_rate": learning_rate, "epoch": 1 + int(np.median(self.epochs))}


@dataclass(frozen=True)
class System:
    """A row of the table: test predictions of all folds, one fold after the other.

    Args:
        name: Its name.
        corpus: The corpus with its labels and clips.
        chosen: What is chosen for each fold.
        positions: Index of each tested clip in the corpus.
        folds: The fold that tests it.
        logits: Logits of the head of each seed.
    """

    name: str
    corpus: StudyCorpus
    chosen: tuple[Choice, ...]
    positions: Int[Tensor, " clips"]
    folds: Int[Tensor, " clips"]
    logits: Float[Tensor, "seeds clips classes"]

    @cached_property
    def labels(self) -> Int[Tensor, " clips"]:
        """Index of the class of each tested clip."""
        return torch.tensor([self.corpus.clips[i]["label"] for i in self.positions.tolist()])

    @cached_property
    def speakers(self) -> list[str]:
        """Speaker of each tested clip."""
        return [self.corpus.clips[i]["speaker"] for i in self.positions.tolist()]

    @cached_property
    def probabilities(self) -> Float[Tensor, "clips classes"]:
        """Probabilities, averaged over seeds."""
        return self.logits.double().softmax(-1).mean(0)

    def sums(self, score: str = "uar") -> list[dict[str, Sums]]:
        """Sums over the clips of each test speaker, `(seeds * outputs, sums)`, for each fold.

        The mean over all outputs, those of each seed one after the other, is the mean over seeds.
        """
        of, found = SCORES["classes"].intervals[score].sums, [dict[str, Sums]() for _ in self.chosen]
        places = np.array(
            [f"{fold} {who}" for fold, who in zip(self.folds.tolist(), self.speakers, strict=True)]
        )
        for place in np.unique(places):
            own, (fold, _, who) = torch.from_numpy(places == place).nonzero()[:, 0], place.partition(" ")
            seeds = (Predictions(one[own], self.labels[own], own) for one in self.logits)
            found[int(fold)][who] = np.concatenate([of(one) for one in seeds])
        return found

    def score(self, name: str = "uar") -> SystemScore:
        """A score with its uncertainty over speakers and seeds: its mean over seeds and folds.

        Args:
            name: `uar`, `wa` or `macro_f1`.
        """
        sums, values = self.sums(name), SCORES["classes"].intervals[name].values
        folds = [fold for fold, own in enumerate(sums) for _ in own]
        rows = [own.reshape(len(self.logits), -1, own.shape[-1]) for fold in sums for own in fold.values()]
        return score_system(np.stack(rows, 1), folds, [*chain(*sums)], values)

    def recalls(self) -> Float64[np.ndarray, "folds seeds classes"]:
        """Recall of each class; NaN where a fold does not test it."""
        found = [ratio(np.sum([*fold.values()], axis=0)[:, :2]) for fold in self.sums()]
        return np.stack(found).reshape(len(found), len(self.logits), -1)

    def gaps(self) -> list[dict[str, Any]]:
        """Differences between genders and languages where these are known; see `Numbers.groups`."""
        outputs, of = Outputs("classes", tuple(self.corpus.labels)), self.corpus.clips
        clips = [
            Clip(Path(of[i]["path"]), self.corpus.labels[of[i]["label"]], of[i]["speaker"], of[i]["corpus"])
            for i in self.positions.tolist()
        ]
        found = Predictions(self.probabilities.log().float(), self.labels, torch.arange(len(clips)))
        return Numbers(clips, outputs).groups(found, ("gender", "language"))[1]

    def row(self, learning_rates: Sequence[float]) -> dict[str, Any]:
        """Its row of `study.json`, without comparisons."""
        labels, recalls, uar = self.corpus.labels, self.recalls(), self.score()
        by_seed, std = np.nanmean(recalls, axis=2).mean(0), partial(np.std, ddof=1)
        predicted = self.logits.argmax(-1).flatten().bincount(minlength=len(labels)) / len(self.logits)
        rates = (learning_rates[one.rate] for one in self.chosen)
        row: dict[str, Any] = {
            "name": self.name,
            "corpus": self.corpus.name,
            "backbone": self.chosen[0].cell.backbone,
        }
        row |= {"split": self.corpus.split, "uar": uar.value, **_ends(uar, "uar_")}
        row |= {score: self.score(score).value for score in ("wa", "macro_f1")}
        row |= {"seed_std": float(std(by_seed)) if len(by_seed) > 1 else None}
        row |= {"validation_uar": float(np.mean([one.score for one in self.chosen]))}
        row |= {"recall": dict(zip(labels, np.nanmean(recalls, axis=(0, 1)).tolist(), strict=True))}
        row |= {"predicted": dict(zip(labels, predicted.tolist(), strict=True))}
        row |= {"num_clips": len(self.labels), "speakers": len({*self.speakers}), "gaps": self.gaps()}
        chosen = [one.to_dict(rate) for one, rate in zip(self.chosen, rates, strict=True)]
        return row | {"chosen": chosen}

    def table(self) -> list[list[Any]]:
        """Rows of `predictions/NAME.csv`: of each tested clip, probabilities averaged over seeds."""
        names = self.corpus.labels
        paths = (self.corpus.clips[i]["path"] for i in self.positions.tolist())
        labels, best = (
            (names[i] for i in self.labels.tolist()),
            (names[i] for i in self.probabilities.argmax(1).tolist()),
        )
        shares = ([f"{p:.6f}" for p in row] for row in self.probabilities.tolist())
        columns = paths, self.speakers, self.folds.tolist(), labels, best, shares
        rows = [[*facts, *row] for *facts, row in zip(*columns, strict=True)]
        return [["clip", "speaker", "fold", "label", "predicted", *(f"p_{x}" for x in names)], *rows]


def read_entries(plan: Plan, folder: Path) -> dict[Cell, Entry]:
    """Entries of all cells of a study.

    Raises:
        SettingError: If some are not finished.
    """
    cache, keys = TensorCache(folder / CELLS), {cell: plan.key(cell) for cell in plan.cells()}
    if missing := len(cache.missing(keys.values())):
        found = f"out={folder}: {missing} of {len(keys)} cells are not finished"
        raise SettingError(f"{found}; run the study, or the shards that are left, again")
    return {cell: cache.read(key) for cell, key in keys.items()}


def choose_system(
    name: str, corpus: StudyCorpus, entries: Mapping[Cell, Entry], chosen_on: ChosenOn = "validation"
) -> System:
    """Choose cell and learning rate of each fold by the mean UAR over seeds; the first of equals.

    Args:
        name: Name of the system.
        corpus: Corpus of the cells.
        entries: The cells to choose from, of all folds.
        chosen_on: Clips whose UAR chooses, and the epoch too: those of the test fold make scores too high.
    """
    honest, chosen = chosen_on == "validation", dict[int, Choice]()
    for cell, one in entries.items():
        best, epochs = (one["validation"], one["epochs"]) if honest else one["test_curve"].max(2)
        means = best.double().mean(1).tolist()
        rate = int(np.argmax(means))
        if cell.fold not in chosen or means[rate] > chosen[cell.fold].score:
            chosen[cell.fold] = Choice(cell, rate, means[rate], tuple(epochs[rate].tolist()))
    ordered = tuple(chosen[fold] for fold in sorted(chosen))
    positions = [entries[one.cell]["positions"] for one in ordered]
    folds = torch.cat([torch.full_like(one, fold) for fold, one in enumerate(positions)])
    logits = [entries[one.cell]["test_logits" if honest else "leaky_logits"][one.rate] for one in ordered]
    return System(name, corpus, ordered, torch.cat(positions), folds, torch.cat(logits, 1))


def choose_systems(
    plan: Plan, entries: Mapping[Cell, Entry], axes: Sequence[Axis], chosen_on: ChosenOn = "validation"
) -> list[System]:
    """A system for each corpus of the plan and each value of these axes; all else is chosen.

    Args:
        plan: The plan.
        entries: All cells.
        axes: What systems differ in.
        chosen_on: See [`choose_system`][].
    """
    groups: dict[tuple[Any, ...], dict[Cell, Entry]] = {}
    for cell, entry in entries.items():
        values = (cell.corpus, *(getattr(cell, axis) for axis in axes))
        groups.setdefault(values, {})[cell] = entry
    return [
        choose_system(", ".join(map(_shown, values)), plan.corpora[corpus], own, chosen_on)
        for (corpus, *values), own in groups.items()
    ]


def layer_rows(plan: Plan, entries: Mapping[Cell, Entry]) -> list[dict[str, Any]]:
    """Score of every layer and of the mix of all, for `layers` of `study.json`."""
    rows: list[dict[str, Any]] = []
    for one in choose_systems(plan, entries, ("backbone", "layer")):
        uar, cell = one.score(), one.chosen[0].cell
        rows.append({"corpus": one.corpus.name, "backbone": cell.backbone, "layer": cell.layer})
        rows[-1] |= {"uar": uar.value, **_ends(uar)}
    return rows


def summarize(plan: Plan, folder: Path) -> dict[str, Any]:
    """Content of `study.json`; predictions of each system are written into `predictions/`.

    Raises:
        SettingError: If some cells are not finished.
    """
    settings, entries = plan.study(), read_entries(plan, folder)
    corpora = [one for one in plan.corpora if one.split == "speakers"]
    of_table = {cell: one for cell, one in entries.items() if plan.corpora[cell.corpus] in corpora}
    systems = choose_systems(plan, of_table, settings.compare)
    for one in systems:
        file = re.sub(r"[^\w.-]+", "_", f"{one.corpus.name}_{one.name}")
        write_csv(folder / "predictions" / f"{file}.csv", one.table())
    study: dict[str, Any] = {"name": settings.name, "command": f"python train.py bench {folder}/study.yaml"}
    study |= {"settings": plan.settings, "labels": corpora[0].labels, "seeds": settings.seeds}
    study |= {"corpora": [one.to_dict() for one in corpora]}
    study |= {"systems": [one.row(settings.learning_rates) for one in systems], "comparisons": []}
    study |= {"layers": layer_rows(plan, of_table), "transfer": [], "inflation": [], "stress": None}
    return study | {"attributions": [], "findings": [], "limits": []}


def _shown(value: Any) -> str:  # noqa: ANN401 - of several types
    """A value of an axis in a name."""
    return f"layer {value}" if isinstance(value, int) else str(value)


def _ends(one: SystemScore, prefix: str = "") -> dict[str, float | None]:
    return dict(zip((f"{prefix}low", f"{prefix}high"), one.interval(), strict=True))
