"""Comparisons in a study: systems of a corpus, splits that leak, and tests across corpora in one label space.

Splits at random and tests across corpora are further corpora of the plan, so their heads are trained and
chosen as all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import accumulate, chain, product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml

from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.evaluation import comparison
from wavshap_lightning.evaluation.comparison import SystemScore
from wavshap_lightning.training.study.results import ChosenOn, Entry, System, choose_systems, read_entries
from wavshap_lightning.training.study.settings import Axis, Cell, Plan, StudyCorpus, StudySettings, Transfer

# In a checkout beside the package, in an installed package inside of it.
SPACES = [above / "configs/label_spaces" for above in Path(__file__).parents[2:4]]

INFLATION = ("uar", "low", "high", "difference", "difference_low", "difference_high")
TRANSFER = ("uar", "low", "high", "wa", "wa_low", "wa_high", "clips")

Entries = Mapping[Cell, Entry]
Row = dict[str, Any]
Place = tuple[str, str]  # corpus and name of a system


# Label spaces


def label_maps(settings: StudySettings) -> dict[str, Mapping[str, str | None]]:
    """New name of each label of each corpus, in the label space of the study; empty without one.

    Raises:
        SettingError: If there is no such label space, it lacks a corpus, or leaves one without a class.
    """
    space, entries = settings.label_space, zip(settings.corpus_names(), settings.corpora, strict=True)
    if space is None:
        return {}
    if isinstance(space, str):
        found = {path.stem: path for folder in SPACES for path in folder.glob("*.yaml")}
        if space not in found:
            raise SettingError(f"label_space={space!r} must be one of {sorted(found)}, or labels by corpus")
        space = dict(yaml.safe_load(found[space].read_text(encoding="utf-8")))
    keys = {name: name if name in space else str(entry["corpus"]) for name, entry in entries}
    if lacking := sorted({*keys.values()} - {*space}):
        raise SettingError(f"label_space of {sorted(space)} lacks corpora={lacking}; add their labels")
    classes = {name: {*filter(None, space[key].values())} for name, key in keys.items()}
    every = set[str]().union(*classes.values())
    if short := {name: sorted(every - own) for name, own in classes.items() if every - own}:
        remedy = "map a label to each of these, or leave them out everywhere (null)"
        raise SettingError(f"label_space leaves corpora without classes={short}; {remedy}")
    return {name: space[key] for name, key in keys.items()}


# Further corpora of the plan


def extra_corpora(settings: StudySettings, corpora: Sequence[StudyCorpus]) -> list[StudyCorpus]:
    """The corpora split at random, if inflation is to be measured, and one for each transfer.

    Args:
        settings: Settings of the study.
        corpora: Its corpora, split as their protocols say.

    Raises:
        SettingError: If corpora of a transfer differ in their classes.
        CorpusError: If a clip would be trained on and tested.
    """
    by_name = {one.name: one for one in corpora}
    at_random = [split_at_random(one) for one in corpora if settings.inflation]
    return at_random + [transfer_corpus(one, by_name) for one in settings.across]


def split_at_random(corpus: StudyCorpus) -> StudyCorpus:
    """The corpus with its clips split at random, so that training has clips of the speakers tested.

    The same clips are tested as in the corpus. There are as many folds, so that as many clips are trained on,
    but at least three.
    """
    order = np.random.default_rng(0).permutation(len(corpus.clips)).tolist()
    groups = [order[first :: max(3, len(corpus.folds))] for first in range(max(3, len(corpus.folds)))]
    tested, folds = {index for fold in corpus.folds for index in fold["test"]}, list[dict[str, list[int]]]()
    for first in range(len(groups)):
        test, validation, *others = groups[first:] + groups[:first]
        folds.append({"train": [*chain(*others)], "validation": validation})
        folds[-1]["test"] = [index for index in test if index in tested]
    protocol = {"name": f"{corpus.name}-{len(folds)}-random-folds-not-speaker-independent", "unit": "clip"}
    return replace(corpus, split="random clips", folds=folds, protocol=protocol)


def transfer_corpus(transfer: Transfer, by_name: Mapping[str, StudyCorpus]) -> StudyCorpus:
    """Clips of the training corpora and of the tested one, as a corpus of one fold.

    Of each training corpus, the validation clips of its first fold choose, and all others are trained on.
    Every clip of the tested corpus is tested.

    Args:
        transfer: Which corpora are trained on and tested.
        by_name: The corpora of the study.

    Raises:
        SettingError: If they differ in their classes.
        CorpusError: If a clip would be trained on and tested.
    """
    last, trained = by_name[transfer.test], [by_name[name] for name in transfer.train]
    if differing := {one.name: one.labels for one in (*trained, last) if one.labels != last.labels}:
        raise SettingError(f"across: {last.name} has labels={last.labels}, but {differing}; set label_space")
    names = {"train": " + ".join(transfer.train), "test": transfer.test}
    facts: dict[str, Any] = {"name": f"{names['train']} to {transfer.test}", "split": "transfer"}
    for column in ("clips", "durations_s"):
        facts[column] = [x for one in (*trained, last) for x in getattr(one, column)]
    keys = {name: [key for one in (*trained, last) for key in one.keys[name]] for name in last.keys}
    starts = [0, *accumulate(len(one.clips) for one in trained)]
    held_out = [at + i for at, one in zip(starts, trained, strict=False) for i in one.folds[0]["validation"]]
    train, test = {*range(starts[-1])} - {*held_out}, range(starts[-1], len(facts["clips"]))
    for own in keys.values():
        if shared := {*own[: test.start]} & {*own[test.start :]}:
            raise CorpusError(f"across: {len(shared)} clips of {transfer.test!r} are in {transfer.train} too")
    fold = {"train": sorted(train), "validation": held_out, "test": [*test]}
    return replace(last, **facts, keys=keys, folds=[fold], protocol=names, audit={})


# Rows of study.json


def compare_study(study: Mapping[str, Any], plan: Plan, folder: Path) -> dict[str, Any]:
    """Content of `study.json` with letters, comparisons, inflation and transfer.

    Args:
        study: Content of `study.json` without them.
        plan: The plan.
        folder: Folder of the study, with its cells.

    Raises:
        SettingError: If some cells are not finished.
    """
    settings, entries = plan.study(), read_entries(plan, folder)
    pairs, marks = compare_table(_systems(plan, entries, "speakers", axes=settings.compare).values())
    systems = [row | marks[row["corpus"], row["name"]] for row in study["systems"]]
    inflation = inflation_rows(plan, entries) if settings.inflation else []
    found = {"comparisons": pairs, "inflation": inflation, "transfer": transfer_rows(plan, entries)}
    return {**study, **found, "systems": systems}


def compare_table(systems: Iterable[System]) -> tuple[list[Row], dict[Place, Row]]:
    """All pairs of systems of each corpus, with p-values corrected for the pairs of all corpora.

    Returns:
        Rows of `comparisons` in `study.json`, and by corpus and name the `letters` of each system and whether
        it is `best`: none is shown to be better.
    """
    rows, scores = list[Row](), dict[str, dict[str, SystemScore]]()
    for one in systems:
        scores.setdefault(one.corpus.name, {})[one.name] = one.score()
    marks: dict[Place, Row] = {}
    for (corpus, own), pairs in zip(scores.items(), comparison.compare_all([*scores.values()]), strict=True):
        ranked = sorted(own, key=lambda name: -own[name].value)
        for name, letters in comparison.compact_letters(ranked, pairs).items():
            worse = any(x.different and {x.a, x.b} == {name, ranked[0]} for x in pairs)
            marks[corpus, name] = {"letters": letters, "best": not worse}
        rows += [{"corpus": corpus, **asdict(x), "different": x.different} for x in pairs]
    return rows, marks


def inflation_rows(plan: Plan, entries: Entries) -> list[Row]:
    """Scores of splits and choices that leak beside the clean one, and their differences from it.

    Clips are split by speakers or at random; epochs, learning rates, layers and poolings are chosen on the
    validation or the test clips of each fold. Scores are of the same clips, and differences paired by them.
    """
    rows, clean = list[Row](), dict[Place, SystemScore]()
    for split, chosen_on in product(("speakers", "random clips"), get_args(ChosenOn)):
        for place, system in _systems(plan, entries, split, chosen_on).items():
            own = system.score()
            row = {"corpus": place[0], "backbone": place[1], "split": split, "chosen_on": chosen_on}
            numbers = own.value, *own.interval(), *comparison.compare(own, clean.setdefault(place, own))
            rows.append(row | dict(zip(INFLATION, numbers, strict=False)))
    return rows


def transfer_rows(plan: Plan, entries: Entries) -> list[Row]:
    """Scores of tests on other corpora and, where train and test are equal, of the corpus's own folds.

    The natural prior counts every test clip alike; the balanced one weights clips so that all classes are
    equally frequent. UAR is the same under both; accuracy (`wa`) is not, and under the balanced one is UAR.
    """
    rows, tested = list[Row](), {one.test for one in plan.study().across}
    systems = {**_systems(plan, entries, "speakers"), **_systems(plan, entries, "transfer")}
    for ((corpus, backbone), system), prior in product(systems.items(), ("natural", "balanced")):
        record = {"train": corpus, "test": corpus} | system.corpus.protocol
        uar, wa = system.score(), system.score("wa" if prior == "natural" else "uar")
        row = {"backbone": backbone, "train": record["train"], "test": record["test"], "prior": prior}
        numbers = uar.value, *uar.interval(), wa.value, *wa.interval(), len(system.labels)
        rows.append(row | dict(zip(TRANSFER, numbers, strict=True)))
    return [row for row in rows if row["test"] in tested]


def _systems(
    plan: Plan, entries: Entries, kind: str, on: ChosenOn = "validation", axes: Sequence[Axis] = ("backbone",)
) -> dict[Place, System]:
    """Systems of a kind of split by corpus and name, which is the backbone; all else is chosen."""
    own = {cell: entry for cell, entry in entries.items() if plan.corpora[cell.corpus].split == kind}
    return {(one.corpus.name, one.name): one for one in choose_systems(plan, own, axes, on)}
