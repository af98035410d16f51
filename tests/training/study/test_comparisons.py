"""Systems of a study are compared on the same clips; splits that leak score higher; label spaces fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score, recall_score

from wavshap_lightning.corpora import iemocap, meld, msp_podcast
from wavshap_lightning.corpora.catalogue import CORPORA
from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.evaluation.comparison import compare
from wavshap_lightning.models.backbone import BackboneSettings
from wavshap_lightning.training.study.comparisons import (
    compare_study,
    compare_table,
    extra_corpora,
    label_maps,
    split_at_random,
    transfer_corpus,
)
from wavshap_lightning.training.study.results import choose_systems, read_entries, summarize
from wavshap_lightning.training.study.settings import Plan, StudyCorpus, StudySettings, Transfer

SPACES = {path.stem: path for path in (Path(__file__).parents[3] / "configs/label_spaces").glob("*.yaml")}

MakeCorpus = Callable[..., StudyCorpus]
MakePlan = Callable[..., Plan]
WriteCells = Callable[..., None]
Finished = tuple[Plan, Path, dict[str, Any]]


def study_of(*corpora: str, **settings: Any) -> StudySettings:
    return StudySettings(
        name="s",
        corpora=[{"corpus": name} for name in corpora],
        backbones=[BackboneSettings("tiny")],
        **settings,
    )


# Label spaces


@pytest.mark.parametrize("name", SPACES)
def test_a_label_space_names_every_label_of_each_corpus_and_gives_each_all_classes(name: str) -> None:
    of_loader = {"iemocap": iemocap.LABELS, "meld": meld.LABELS, "msp-podcast": msp_podcast.LABELS}
    space = yaml.safe_load(SPACES[name].read_text())
    classes = {new for labels in space.values() for new in labels.values() if new}
    for corpus, labels in space.items():
        own = {*(of_loader[corpus].values() if corpus in of_loader else CORPORA[corpus].label_map or ())}
        assert {*labels} == own, corpus
        assert {*filter(None, labels.values())} == classes, corpus
    assert label_maps(study_of(*space, label_space=name)) == space


def test_without_a_label_space_there_are_no_maps() -> None:
    assert label_maps(study_of("ravdess")) == {}


def test_two_manifests_have_maps_by_their_own_names() -> None:
    corpora = [{"corpus": "manifest", "name": "a"}, {"corpus": "manifest", "name": "b"}]
    space: dict[str, dict[str, str | None]] = {
        "a": {"joy": "happy", "anger": "angry"},
        "b": {"+": "happy", "-": "angry"},
    }
    settings = replace(study_of("manifest", label_space=space), corpora=corpora)
    assert label_maps(settings) == space


@pytest.mark.parametrize(
    ("corpora", "space", "message"),
    [
        (["ravdess"], "five", r"label_space='five' must be one of \['four', 'six'\]"),
        (["ravdess", "esd"], "six", r"lacks corpora=\['esd'\]"),
        (
            ["ravdess", "esd"],
            {"ravdess": {"happy": "happy", "calm": "calm"}, "esd": {"happy": "happy", "sad": None}},
            r"without classes=\{'esd': \['calm'\]\}; map a label",
        ),
    ],
)
def test_a_label_space_that_does_not_fit_is_refused_by_name(
    corpora: list[str], space: Any, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        label_maps(study_of(*corpora, label_space=space))


# Further corpora


def test_a_random_split_tests_the_same_clips_with_speakers_in_all_splits(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(6, 30)
    found = split_at_random(corpus)
    assert (found.split, found.clips, found.protocol["unit"]) == ("random clips", corpus.clips, "clip")
    tested = sorted(index for fold in found.folds for index in fold["test"])
    assert tested == sorted(index for fold in corpus.folds for index in fold["test"])
    for fold in found.folds:
        assert sorted(chain(*fold.values())) == [*range(180)]
        assert {len(fold[name]) for name in ("validation", "test")} == {60}
        speakers = [{corpus.clips[index]["speaker"] for index in own} for own in fold.values()]
        assert speakers[0] == speakers[1] == speakers[2]


def test_an_official_split_stays_the_set_that_is_tested(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus()
    official = replace(corpus, folds=corpus.folds[:1])
    found = split_at_random(official)
    assert len(found.folds) == 3
    assert sorted(chain(*(fold["test"] for fold in found.folds))) == official.folds[0]["test"]


def test_a_transfer_trains_on_some_corpora_and_tests_every_clip_of_another(make_corpus: MakeCorpus) -> None:
    a, b, c = (make_corpus(3, size, name=name) for name, size in {"a": 6, "b": 9, "c": 12}.items())
    found = transfer_corpus(Transfer(["a", "b"], "c"), {"a": a, "b": b, "c": c})
    (fold,) = found.folds
    assert (found.name, found.split, len(found.durations_s)) == ("a + b to c", "transfer", 81)
    assert [found.clips[index]["corpus"] for index in fold["test"]] == ["c"] * 36
    assert sorted(chain(*fold.values())) == [*range(81)]
    own = {(clip["corpus"], clip["speaker"]) for clip in (found.clips[index] for index in fold["validation"])}
    assert own == {("a", "s1"), ("b", "s1")}
    for index, clip in enumerate(found.clips):
        assert found.keys["good"][index] == f"good/{clip['path']}"


def test_a_clip_that_would_be_trained_on_and_tested_is_refused(make_corpus: MakeCorpus) -> None:
    a = make_corpus(name="a")
    with pytest.raises(CorpusError, match=r"72 clips of 'again' are in \['a'\]"):
        transfer_corpus(Transfer(["a"], "again"), {"a": a, "again": replace(a, name="again")})


def test_corpora_of_other_classes_are_refused_by_name(make_corpus: MakeCorpus) -> None:
    a, b = make_corpus(name="a"), replace(make_corpus(name="b"), labels=["neutral", "happy", "angry"])
    with pytest.raises(SettingError, match=r"b has labels=.*'angry'.*, but \{'a': .*set label_space"):
        transfer_corpus(Transfer(["a"], "b"), {"a": a, "b": b})


# Rows


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory,
    make_plan: MakePlan,
    make_corpus: MakeCorpus,
    write_cells: WriteCells,
) -> Finished:
    """A finished study of two corpora that measures inflation, and tests one on the other."""
    folder, corpora = (
        tmp_path_factory.mktemp("study"),
        [make_corpus(9, name=name) for name in ("toy", "other")],
    )
    settings = {"inflation": True, "across": [Transfer(["toy"], "other")], "seeds": 3}
    settings |= {"layers": [0], "poolings": ["mean"], "learning_rates": [0.01, 0.1]}
    listed = make_plan(corpora, **settings)
    plan = make_plan([*corpora, *extra_corpora(listed.study(), corpora)], **settings)
    write_cells(plan, folder)
    return plan, folder, compare_study(summarize(plan, folder), plan, folder)


def test_the_study_lists_what_was_asked_for(study: Finished) -> None:
    *_, found = study
    assert [(one["corpus"], one["a"], one["b"]) for one in found["comparisons"]] == [
        ("toy", "good", "poor"),
        ("other", "good", "poor"),
    ]
    assert all(one["different"] and one["low"] > 0 for one in found["comparisons"])
    assert [(one["letters"], one["best"]) for one in found["systems"]] == [("a", True)] * 2 + [
        ("b", False)
    ] * 2
    places = [
        (one["train"], one["test"], one["prior"]) for one in found["transfer"] if one["backbone"] == "good"
    ]
    assert sorted(places) == [
        ("other", "other", "balanced"),
        ("other", "other", "natural"),
        ("toy", "other", "balanced"),
        ("toy", "other", "natural"),
    ]
    kinds = [(one["split"], one["chosen_on"]) for one in found["inflation"]]
    assert len(kinds) == 16
    assert len({*kinds}) == 4


def test_a_choice_on_test_clips_scores_higher_and_the_clean_row_differs_by_nothing(study: Finished) -> None:
    *_, found = study
    clean = [
        one for one in found["inflation"] if (one["split"], one["chosen_on"]) == ("speakers", "validation")
    ]
    leaky = [one for one in found["inflation"] if (one["split"], one["chosen_on"]) == ("speakers", "test")]
    for one, other, row in zip(clean, leaky, found["systems"], strict=True):
        assert one["uar"] == pytest.approx(row["uar"])
        assert one["difference"] == one["difference_low"] == one["difference_high"] == 0.0
        assert other["difference"] == pytest.approx(other["uar"] - one["uar"])
        assert 0.0 < other["difference"] < other["difference_high"]


def test_scores_of_a_transfer_are_those_of_scikit_learn(study: Finished) -> None:
    plan, folder, found = study
    entries = {
        cell: one
        for cell, one in read_entries(plan, folder).items()
        if plan.corpora[cell.corpus].split == "transfer"
    }
    system, _ = choose_systems(plan, entries, ("backbone",))
    labels = system.labels.numpy()
    predicted = system.logits.argmax(-1).numpy()
    expected = {
        "natural": np.mean([accuracy_score(labels, one) for one in predicted]),
        "balanced": np.mean([recall_score(labels, one, average="macro") for one in predicted]),
    }
    rows = [one for one in found["transfer"] if (one["train"], one["backbone"]) == ("toy", "good")]
    assert {one["prior"]: one["wa"] for one in rows} == pytest.approx(expected)
    for one in rows:
        assert one["uar"] == pytest.approx(expected["balanced"])
        assert one["low"] < one["uar"] < one["high"]
        assert one["clips"] == len(labels)


def test_without_a_known_speaker_no_system_is_shown_to_differ(study: Finished) -> None:
    plan, folder, _ = study
    nobody = [replace(one, clips=[{**clip, "speaker": ""} for clip in one.clips]) for one in plan.corpora]
    unknown = replace(plan, corpora=nobody)
    found = compare_study(summarize(unknown, folder), unknown, folder)
    assert {one["different"] for one in found["comparisons"]} == {False}
    assert {one["low"] for one in found["comparisons"]} == {None}


def test_the_table_compares_with_the_test_of_two_systems(study: Finished) -> None:
    plan, folder, _ = study
    entries = {cell: one for cell, one in read_entries(plan, folder).items() if cell.corpus == 0}
    systems = choose_systems(plan, entries, ("backbone",))
    (row,), marks = compare_table(systems)
    expected = compare(*(one.score() for one in systems))
    assert (row["difference"], row["low"], row["high"], row["p"]) == pytest.approx(expected)
    assert marks["toy", "good"] == {"letters": "a", "best": True}
