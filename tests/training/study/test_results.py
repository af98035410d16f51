"""What is chosen is chosen on validation clips, and its test predictions are scored once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, recall_score

from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.study.results import (
    CELLS,
    choose_system,
    choose_systems,
    read_entries,
    summarize,
)
from wavshap_lightning.training.study.settings import Cell, Plan, StudyCorpus, read_plan

MakePlan = Callable[..., Plan]
WriteCells = Callable[..., None]


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path, make_plan: MakePlan) -> None:
    plan = make_plan()
    plan.save(tmp_path)
    assert read_plan(tmp_path) == plan
    assert [plan.key(cell) for cell in read_plan(tmp_path).cells()] == [
        plan.key(cell) for cell in plan.cells()
    ]


def test_cells_are_all_combinations_each_with_a_key_of_its_own(make_plan: MakePlan) -> None:
    plan = make_plan()
    cells = [*plan.cells()]
    assert len(cells) == 2 * 3 * 2 * 3  # backbones, layers with the mix, poolings, folds
    assert len({plan.key(cell) for cell in cells}) == len(cells)
    longer = replace(plan, settings={**plan.settings, "max_epochs": 5})
    assert plan.key(cells[0]) != longer.key(cells[0])


def test_the_choice_depends_on_validation_alone(
    tmp_path: Path, make_plan: MakePlan, write_cells: WriteCells
) -> None:
    plan = make_plan()
    write_cells(plan, tmp_path)
    entries = read_entries(plan, tmp_path)
    own = {cell: one for cell, one in entries.items() if cell.backbone == "good"}
    system = choose_system("good", plan.corpora[0], own)
    for choice in system.chosen:
        rivals = [one["validation"].mean(1) for cell, one in own.items() if cell.fold == choice.cell.fold]
        assert choice.score == pytest.approx(float(torch.stack(rivals).max()))
    spoiled = {cell: {**one, "test_curve": torch.rand_like(one["test_curve"])} for cell, one in own.items()}
    assert choose_system("good", plan.corpora[0], spoiled).chosen == system.chosen


def test_scores_are_those_of_scikit_learn_averaged_over_seeds_and_folds(
    tmp_path: Path, make_plan: MakePlan, write_cells: WriteCells
) -> None:
    plan = make_plan()
    write_cells(plan, tmp_path)
    system = choose_systems(plan, read_entries(plan, tmp_path), ["backbone"])[0]
    expected: dict[str, list[float]] = {"uar": [], "macro_f1": []}
    for fold in range(3):
        inside = system.folds == fold
        for logits in system.logits:
            y, found = system.labels[inside].numpy(), logits[inside].argmax(1).numpy()
            expected["uar"].append(recall_score(y, found, average="macro"))
            expected["macro_f1"].append(f1_score(y, found, average="macro"))
    assert system.score().value == pytest.approx(np.mean(expected["uar"]))
    assert system.row([0.1, 0.2, 0.3])["macro_f1"] == pytest.approx(np.mean(expected["macro_f1"]))


def test_every_clip_is_tested_once_and_listed_with_its_probabilities(
    tmp_path: Path, make_plan: MakePlan, write_cells: WriteCells, make_corpus: Callable[..., StudyCorpus]
) -> None:
    plan = make_plan([make_corpus(), make_corpus(9, name="more")])
    write_cells(plan, tmp_path)
    study = summarize(plan, tmp_path)
    assert [(one["corpus"], one["name"]) for one in study["systems"]] == [
        ("toy", "good"), ("more", "good"), ("toy", "poor"), ("more", "poor")
    ]  # fmt: skip
    header, *rows = (tmp_path / "predictions" / "more_good.csv").read_text().splitlines()
    assert header == "clip,speaker,fold,label,predicted,p_neutral,p_happy,p_sad"
    assert sorted(row.split(",")[0] for row in rows) == sorted(clip["path"] for clip in plan.corpora[1].clips)
    best = {row.split(",")[4]: row.split(",")[5:] for row in rows}
    assert all(
        plan.corpora[1].labels[int(np.argmax([*map(float, shares)]))] == label
        for label, shares in best.items()
    )


def test_a_skilled_backbone_scores_higher_and_leaks_raise_scores(
    tmp_path: Path, make_plan: MakePlan, write_cells: WriteCells
) -> None:
    plan = make_plan()
    write_cells(plan, tmp_path, skill={"good": 2.0, "poor": 0.0})
    entries = read_entries(plan, tmp_path)
    good, poor = (one.score() for one in choose_systems(plan, entries, ["backbone"]))
    assert good.interval()[0] > poor.interval()[1]
    assert choose_systems(plan, entries, ["backbone"], "test")[1].score().value > poor.value


def test_women_and_men_are_compared_where_the_corpus_tells_who_they_are(
    tmp_path: Path, make_plan: MakePlan, write_cells: WriteCells, make_corpus: Callable[..., StudyCorpus]
) -> None:
    corpus = make_corpus()
    clips = [
        {**one, "corpus": "ravdess", "speaker": f"{int(one['speaker'][1:]) + 1:02d}"} for one in corpus.clips
    ]
    named = make_plan([replace(corpus, clips=clips)])
    write_cells(named, tmp_path, skill={"good": 2.0, "poor": 0.0})
    system = choose_systems(named, read_entries(named, tmp_path), ["backbone"])[0]
    of_men = torch.tensor([int(who) % 2 == 1 for who in system.speakers])
    mute = system.logits.masked_fill(of_men[:, None] & (torch.arange(3) != 0), -1e4)
    (gap,) = replace(system, logits=mute).gaps()  # of men, the first class alone is predicted
    assert (gap["kind"], gap["a"], gap["b"]) == ("gender", "female", "male")
    women = system.probabilities[~of_men].argmax(1) == system.labels[~of_men]
    recalls = [float(women[system.labels[~of_men] == label].double().mean()) for label in range(3)]
    assert gap["difference"] == pytest.approx(np.mean(recalls) - 1 / 3, abs=1e-6)
    assert replace(system, corpus=corpus).gaps() == []


def test_unfinished_studies_are_refused_with_what_is_left(
    tmp_path: Path, make_plan: MakePlan, write_cells: WriteCells
) -> None:
    plan = make_plan()
    write_cells(plan, tmp_path)
    next((tmp_path / CELLS).glob("*.safetensors")).unlink()
    with pytest.raises(SettingError, match="1 of 36 cells are not finished"):
        read_entries(plan, tmp_path)
    assert Cell(0, 0, "good", 0, "mean") in [*plan.cells()]
    assert TensorCache(tmp_path / CELLS).missing(map(plan.key, plan.cells()))
