"""The folds together: means, the interval over speakers, and the files."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.training.cross_validation import (
    NUM_RESAMPLES,
    FoldResult,
    bootstrap_uar,
    speaker_confusions,
    summarise_folds,
)
from wavshap_lightning.training.scores import Predictions, confusion_counts, score_predictions

NUM_CLASSES = 3


def draw_fold(fold, speakers=("ann", "bob", "cat"), clips_each=12):
    """A fold whose clips are recognised about two times in three."""
    generator = torch.Generator().manual_seed(fold)
    num_clips = clips_each * len(speakers)
    labels = torch.randint(NUM_CLASSES, (num_clips,), generator=generator)
    logits = 2.0 * torch.eye(NUM_CLASSES)[labels] + 1.5 * torch.randn(
        num_clips, NUM_CLASSES, generator=generator
    )
    return FoldResult(
        fold,
        Predictions(logits, labels, torch.arange(num_clips)),
        tuple(f"{speakers[index % len(speakers)]}{fold}" for index in range(num_clips)),
        {"name": "toy, by speaker", "fold": fold, "clips": {"test": 36}, "hash": "abc"},
        f"runs/toy/fold_{fold}",
    )


@pytest.fixture(scope="module")
def results():
    return [draw_fold(fold) for fold in range(3)]


def recall_over_occurring(matrix):
    """Unweighted average recall of one confusion matrix, class by class."""
    recalls = [row[index] / row.sum() for index, row in enumerate(matrix) if row.sum()]
    return sum(recalls) / len(recalls)


class TestSummary:
    def test_values_are_means_over_folds(self, results):
        summary = summarise_folds(results)
        scores = [score_predictions(result.predictions) for result in results]
        for name, found in (
            ("uar", summary.uar.value),
            ("wa", summary.wa),
            ("macro_f1", summary.macro_f1),
        ):
            assert found == pytest.approx(np.mean([float(fold[name]) for fold in scores]))

    def test_a_small_fold_counts_as_much_as_a_large_one(self):
        folds = [draw_fold(0, clips_each=3), draw_fold(1, clips_each=60)]
        expected = np.mean([float(score_predictions(fold.predictions)["wa"]) for fold in folds])
        assert summarise_folds(folds).wa == pytest.approx(expected)

    def test_the_interval_holds_the_value_and_the_seed_decides_it(self):
        results = [draw_fold(fold, speakers=tuple("abcdefgh")) for fold in range(2)]
        first, again, other = (summarise_folds(results, seed=seed).uar for seed in (1, 1, 2))
        assert first.low < first.value < first.high
        assert first == again
        assert first != other

    @pytest.mark.parametrize("change", [{"hash": "xyz"}, {"clips": {"test": 35}}])
    def test_folds_of_another_corpus_are_refused(self, results, change):
        strange = replace(results[1], protocol={**results[1].protocol, **change})
        with pytest.raises(CorpusError, match=r"folds=\[1\] were run on another protocol or other clips"):
            summarise_folds([results[0], strange, results[2]])

    def test_no_fold_is_refused(self):
        with pytest.raises(SettingError, match=r"folds=0.*at least one"):
            summarise_folds([])


class TestSpeakerConfusions:
    def test_they_sum_to_the_fold(self, results):
        matrices = speaker_confusions(results[0])
        assert matrices.shape == (3, NUM_CLASSES, NUM_CLASSES)
        np.testing.assert_array_equal(matrices.sum(0), confusion_counts(results[0].predictions).numpy())

    def test_positions_say_who_speaks(self, results):
        backwards = results[0].predictions.select(torch.arange(36).flip(0))
        turned = FoldResult(0, backwards, results[0].speakers, {}, "")
        np.testing.assert_array_equal(speaker_confusions(turned), speaker_confusions(results[0]))


def ends(folds, seed=0):
    interval = bootstrap_uar(folds, np.random.default_rng(seed))
    return interval.low, interval.high


def draw_speakers(generator, num_speakers, mean=0.7, num_clips=8):
    """Confusion matrices of speakers with a recall of their own, some much better than others."""
    recalls = generator.beta(10 * mean, 10 * (1 - mean), size=(num_speakers, 1))
    correct = generator.binomial(num_clips, recalls, size=(num_speakers, 2))
    return np.stack([np.diag(hits) + np.fliplr(np.diag(num_clips - hits)) for hits in correct])


class TestBootstrap:
    def test_it_meets_a_direct_computation(self, results):
        folds = [speaker_confusions(result) for result in results[:2]]
        folds[1] = folds[1][:2]
        generator = np.random.default_rng(7)
        values = np.empty((2, NUM_RESAMPLES))
        for fold, matrices in enumerate(folds):
            draws = generator.integers(len(matrices), size=(NUM_RESAMPLES, len(matrices) - 1))
            for index, draw in enumerate(draws):
                values[fold, index] = recall_over_occurring(sum(matrices[speaker] for speaker in draw))
        found = bootstrap_uar(folds, np.random.default_rng(7))
        assert (found.low, found.high) == pytest.approx(np.quantile(values.mean(0), [0.025, 0.975]))
        assert found.value == pytest.approx(np.mean([recall_over_occurring(fold.sum(0)) for fold in folds]))
        assert found.resampled == "speakers"

    @pytest.mark.parametrize(("num_folds", "num_speakers"), [(6, 4), (10, 2), (1, 40)])
    def test_its_width_is_that_of_the_standard_error(self, num_folds, num_speakers):
        """Where all have the same clips, recall is a mean over speakers, whose variance has a closed form."""
        generator = np.random.default_rng(0)
        folds = [draw_speakers(generator, num_speakers) for _ in range(num_folds)]
        recalls = np.array([[recall_over_occurring(matrix) for matrix in fold] for fold in folds])
        standard_error = (recalls.var(axis=1, ddof=1) / num_speakers).sum() ** 0.5 / num_folds
        low, high = ends(folds)
        assert (high - low) / 2 == pytest.approx(1.96 * standard_error, rel=0.1)

    def test_with_two_speakers_the_ends_are_known(self):
        good, bad = np.diag([4, 4]), np.array([[0, 4], [4, 0]])
        assert ends([np.stack([good, bad])]) == (0.0, 1.0)

    def test_folds_of_one_speaker_are_resampled_themselves(self):
        """With equal clips of each label that is as if all speakers were tested in one fold."""
        speakers = draw_speakers(np.random.default_rng(0), 24)
        found = bootstrap_uar(list(speakers[:, None]), np.random.default_rng(1))
        together = bootstrap_uar([speakers], np.random.default_rng(1))
        assert (found.value, found.low, found.high) == pytest.approx(
            (together.value, together.low, together.high)
        )
        assert (found.resampled, together.resampled) == ("folds", "speakers")

    def test_one_fold_of_one_speaker_says_nothing_of_others(self, results):
        fold = speaker_confusions(results[0])[:1]
        found = bootstrap_uar([fold], np.random.default_rng(0))
        assert all(map(math.isnan, (found.low, found.high)))
        assert (found.resampled, found.num_resampled) == ("folds", 1)
        assert found.value == pytest.approx(recall_over_occurring(fold[0]))

    def test_a_class_that_a_resample_lacks_does_not_count(self):
        one, other = np.diag([4, 0]), np.array([[0, 0], [2, 2]])
        assert ends([np.stack([one, other])]) == (0.5, 1.0)

    def test_speakers_that_differ_widen_it(self):
        alike = np.stack([np.array([[6, 4], [4, 6]])] * 10)
        apart = np.stack([np.diag([10, 10])] * 6 + [np.array([[0, 10], [10, 0]])] * 4)
        low, high = ends([alike])
        assert low == high == pytest.approx(0.6)
        low, high = ends([apart])
        assert high - low > 0.4

    @pytest.mark.parametrize(
        ("num_folds", "num_speakers", "least"), [(1, 40, 0.9), (6, 4, 0.88), (24, 1, 0.9), (10, 1, 0.86)]
    )
    def test_it_covers_the_truth_about_as_often_as_it_says(self, num_folds, num_speakers, least):
        generator = np.random.default_rng(0)
        num_trials, mean = 200, 0.7
        covered = 0
        for _ in range(num_trials):
            folds = [draw_speakers(generator, num_speakers, mean) for _ in range(num_folds)]
            interval = bootstrap_uar(folds, generator)
            covered += interval.low <= mean <= interval.high
        assert least <= covered / num_trials <= 0.98


class TestFiles:
    def test_the_summary_is_read_back(self, results, tmp_path):
        summary = summarise_folds(results)
        summary.save(tmp_path / "new")
        read = json.loads((tmp_path / "new" / "cv.json").read_text(encoding="utf-8"))
        assert read == summary.to_dict()
        assert (read["uar_low"], read["uar"], read["uar_high"]) == (
            summary.uar.low,
            summary.uar.value,
            summary.uar.high,
        )
        assert (read["wa"], read["macro_f1"], read["confidence"]) == (summary.wa, summary.macro_f1, 0.95)
        assert read["protocol"] == {"name": "toy, by speaker", "hash": "abc"}

    def test_the_table_has_a_row_a_fold(self, results, tmp_path):
        summarise_folds(results).save(tmp_path)
        with (tmp_path / "cv.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["fold"] for row in rows] == ["0", "1", "2"]
        for row, result in zip(rows, results, strict=True):
            scores = score_predictions(result.predictions)
            assert row["clips"] == "36"
            assert row["test_speakers"].split() == sorted(set(result.speakers))
            assert row["folder"] == result.folder
            for name in ("uar", "wa", "macro_f1", "ece"):
                assert float(row[name]) == float(scores[name])

    def test_the_table_is_printed(self, results):
        summary = summarise_folds(results)
        console = Console(file=io.StringIO(), width=140)
        console.print(summary.table())
        shown = console.file.getvalue()
        assert "toy, by speaker: 3 folds" in shown
        assert f"{summary.uar.value:.3f} [{summary.uar.low:.3f}, {summary.uar.high:.3f}]" in shown
        assert "95% interval over speakers" in shown
        assert all(f"ann{fold} bob{fold} cat{fold}" in shown for fold in range(3))

    @pytest.mark.parametrize(("num_folds", "told"), [(3, "95% interval over folds"), (1, "0.")])
    def test_what_was_resampled_is_told(self, tmp_path, num_folds, told):
        summary = summarise_folds([draw_fold(fold, speakers=("ann",)) for fold in range(num_folds)])
        console = Console(file=io.StringIO(), width=140)
        console.print(summary.table())
        assert told in console.file.getvalue()
        assert ("interval" in console.file.getvalue()) == (num_folds > 1)
        summary.save(tmp_path)
        read = json.loads((tmp_path / "cv.json").read_text(encoding="utf-8"))
        assert (read["resampled"], read["uar_low"] is None) == ("folds", num_folds == 1)

    def test_names_with_brackets_are_printed_as_they_are(self):
        console = Console(file=io.StringIO(), width=140)
        fold = replace(
            draw_fold(0, speakers=("[/ann]", "[red]")),
            protocol={**draw_fold(0).protocol, "name": "[/] of mine"},
        )
        console.print(summarise_folds([fold]).table())
        assert all(name in console.file.getvalue() for name in ("[/] of mine", "[/ann]0", "[red]0"))
