"""The report on a split says what the scores say; the folds together have means and an interval."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import accuracy_score, recall_score

from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.models.head import Outputs
from wavshap_lightning.training.cross_validation import (
    NUM_RESAMPLES,
    Evaluation,
    bootstrap,
    fold_table,
    read_fold,
    report,
    save_fold,
    save_summary,
    score_intervals,
    summarize_folds,
)
from wavshap_lightning.training.scores import Predictions, confusion_counts, ratio

NUM_CLASSES = 3


def draw_fold(fold, speakers=("ann", "bob", "cat"), clips_each=12):
    """A fold whose clips are recognised about two times in three."""
    generator = torch.Generator().manual_seed(fold)
    num_clips = clips_each * len(speakers)
    labels = torch.randint(NUM_CLASSES, (num_clips,), generator=generator)
    logits = 2.0 * torch.eye(NUM_CLASSES)[labels] + 1.5 * torch.randn(
        num_clips, NUM_CLASSES, generator=generator
    )
    return Evaluation(
        Predictions(logits, labels, torch.arange(num_clips)),
        tuple(f"{speakers[index % len(speakers)]}{fold}" for index in range(num_clips)),
        {"name": "toy, by speaker", "fold": fold, "clips": {"test": 36}, "hash": "abc"},
    )


@pytest.fixture(scope="module")
def results():
    return [draw_fold(fold) for fold in range(3)]


def bootstrap_uar(folds, generator):
    """Interval of the recall from the confusion matrices of each fold's speakers."""
    sums = [np.stack([np.diagonal(fold, axis1=1, axis2=2), fold.sum(2)], -1).astype(float) for fold in folds]
    return bootstrap(sums, ratio, generator, num_clips=0)


def speaker_confusions(result):
    return np.stack([confusion_counts(found).numpy() for found in result.by_speaker().values()])


def recall_over_occurring(matrix):
    """Unweighted average recall of one confusion matrix, class by class."""
    recalls = [row[index] / row.sum() for index, row in enumerate(matrix) if row.sum()]
    return sum(recalls) / len(recalls)


def summarize(results, seed=0):
    return summarize_folds(results, Path("runs/toy"), seed=seed)


class TestSummary:
    def test_values_are_means_over_folds(self, results):
        summary = summarize(results)
        for name in ("uar", "wa", "macro_f1"):
            assert summary[name] == pytest.approx(np.mean([fold.scores()[name] for fold in results]))

    def test_a_small_fold_counts_as_much_as_a_large_one(self):
        folds = [draw_fold(0, clips_each=3), draw_fold(1, clips_each=60)]
        assert summarize(folds)["wa"] == pytest.approx(np.mean([fold.scores()["wa"] for fold in folds]))

    def test_the_interval_holds_the_value_and_the_seed_decides_it(self):
        results = [draw_fold(fold, speakers=tuple("abcdefgh")) for fold in range(2)]
        first, again, other = (summarize(results, seed=seed) for seed in (1, 1, 2))
        assert first["uar_low"] < first["uar"] < first["uar_high"]
        assert first == again
        assert first != other

    @pytest.mark.parametrize("change", [{"hash": "xyz"}, {"clips": {"test": 35}}])
    def test_folds_of_another_corpus_are_refused(self, results, change):
        strange = replace(results[1], protocol={**results[1].protocol, **change})
        with pytest.raises(CorpusError, match=r"folds=\[1\] differ from fold=0 in protocol or clips"):
            summarize([results[0], strange, results[2]])


class TestSpeakers:
    def test_their_confusions_sum_to_the_fold(self, results):
        matrices = speaker_confusions(results[0])
        assert matrices.shape == (3, NUM_CLASSES, NUM_CLASSES)
        np.testing.assert_array_equal(matrices.sum(0), confusion_counts(results[0].predictions).numpy())

    def test_positions_say_who_speaks(self, results):
        backwards = results[0].predictions.select(torch.arange(36).flip(0))
        turned = replace(results[0], predictions=backwards)
        np.testing.assert_array_equal(speaker_confusions(turned), speaker_confusions(results[0]))

    def test_they_are_scored_alone_worst_first(self, results):
        predictions = results[0].predictions
        found = {speaker: row for speaker, *row in results[0].speaker_scores()[1:]}
        for index, speaker in enumerate(("ann0", "bob0", "cat0")):
            own = predictions.select(torch.arange(index, 36, 3))
            labels, predicted = own.labels.numpy(), own.logits.argmax(1).numpy()
            uar = recall_score(labels, predicted, average="macro", labels=np.unique(labels))
            assert found[speaker] == [
                12,
                pytest.approx(uar),
                pytest.approx(accuracy_score(labels, predicted)),
            ]
        uars = [uar for _, _, uar, _ in results[0].speaker_scores()[1:]]
        assert uars == sorted(uars)

    def test_a_speaker_is_found_by_position(self):
        predictions = Predictions(5.0 * torch.eye(2), torch.tensor([0, 0]), torch.tensor([3, 1]))
        found = Evaluation(predictions, ("-", "bob", "-", "ann"), {}).speaker_scores()
        assert [(speaker, accuracy) for speaker, _, _, accuracy in found[1:]] == [("bob", 0.0), ("ann", 1.0)]


def ends(folds, seed=0):
    found = bootstrap_uar(folds, np.random.default_rng(seed))
    return found.low, found.high


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

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("num_folds", "num_speakers", "least"), [(1, 40, 0.9), (6, 4, 0.88), (24, 1, 0.9), (10, 1, 0.86)]
    )
    def test_it_covers_the_truth_about_as_often_as_it_says(self, num_folds, num_speakers, least):
        generator = np.random.default_rng(0)
        num_trials, mean = 200, 0.7
        covered = 0
        for _ in range(num_trials):
            folds = [draw_speakers(generator, num_speakers, mean) for _ in range(num_folds)]
            found = bootstrap_uar(folds, generator)
            covered += found.low <= mean <= found.high
        assert least <= covered / num_trials <= 0.98


def printed(table):
    console = Console(file=io.StringIO(), width=140)
    console.print(table)
    return console.file.getvalue()


class TestSummaryFiles:
    def test_the_summary_is_read_back(self, results, tmp_path):
        summary = summarize(results)
        save_summary(summary, tmp_path / "new")
        assert json.loads((tmp_path / "new" / "cv.json").read_text(encoding="utf-8")) == summary
        assert summary["confidence"] == 0.95
        assert summary["protocol"] == {"name": "toy, by speaker", "hash": "abc"}

    def test_the_table_has_a_row_a_fold(self, results, tmp_path):
        save_summary(summarize(results), tmp_path)
        header, *rows = read_csv(tmp_path / "cv.csv")
        rows = [dict(zip(header, row, strict=True)) for row in rows]
        assert [row["fold"] for row in rows] == ["0", "1", "2"]
        for row, result in zip(rows, results, strict=True):
            assert row["clips"] == "36"
            assert row["test_speakers"].split() == sorted(set(result.speakers))
            assert row["folder"] == f"runs/toy/fold_{row['fold']}"
            for name in ("uar", "wa", "macro_f1", "ece"):
                assert float(row[name]) == result.scores()[name]

    def test_the_table_is_printed(self, results):
        summary = summarize(results)
        shown = printed(fold_table(summary))
        assert "toy, by speaker: 3 folds" in shown
        assert f"{summary['uar']:.3f} [{summary['uar_low']:.3f}, {summary['uar_high']:.3f}]" in shown
        assert "95% interval over speakers" in shown
        assert all(f"ann{fold} bob{fold} cat{fold}" in shown for fold in range(3))

    @pytest.mark.parametrize(("num_folds", "told"), [(3, "95% interval over folds"), (1, "0.")])
    def test_what_was_resampled_is_told(self, num_folds, told):
        summary = summarize([draw_fold(fold, speakers=("ann",)) for fold in range(num_folds)])
        shown = printed(fold_table(summary))
        assert told in shown
        assert ("interval" in shown) == (num_folds > 1)
        assert (summary["resampled"], summary["uar_low"] is None) == ("folds", num_folds == 1)

    def test_names_with_brackets_are_printed_as_they_are(self):
        fold = draw_fold(0, speakers=("[/ann]", "[red]"))
        fold = replace(fold, protocol={**fold.protocol, "name": "[/] of mine"})
        shown = printed(fold_table(summarize([fold])))
        assert all(name in shown for name in ("[/] of mine", "[/ann]0", "[red]0"))


class TestFold:
    def test_every_number_is_read_back_as_it_was(self, tmp_path):
        logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) / 3
        predictions = Predictions(logits, torch.arange(7) % 3, torch.arange(7))
        protocol = {"name": "toy", "fold": 2, "folds": [1, 2]}
        save_fold(Evaluation(predictions, tuple("abcabcß"), protocol), tmp_path / "fold_2")
        found = read_fold(tmp_path / "fold_2")
        for name in ("logits", "labels", "positions"):
            assert torch.equal(getattr(found.predictions, name), getattr(predictions, name))
        assert (found.speakers, found.protocol) == (tuple("abcabcß"), protocol)

    def test_a_fold_without_a_result_is_not_finished(self, tmp_path):
        assert read_fold(tmp_path / "fold_0") is None

    @pytest.mark.parametrize(
        "content", ["", "{}", "[]", '{"fold": 0, "protocol": {}, "clips": [{"position": 0}]}']
    )
    def test_a_result_that_was_changed_is_told(self, tmp_path, content):
        (tmp_path / "fold.json").write_text(content)
        with pytest.raises(SettingError, match=r"fold\.json cannot be read .*delete it to run it again"):
            read_fold(tmp_path)


LABELS = ("angry", "happy", "wütend", "absent")
SPEAKERS = ("ann", "bob", "", "ann", "bob", "")
PREDICTED = torch.tensor([0, 1, 2, 1, 0, 2])


@pytest.fixture
def toy():
    logits = 3.0 * torch.eye(4)[PREDICTED] - 1.0
    predictions = Predictions(logits, torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    return Evaluation(predictions, SPEAKERS, {"name": "toy", "fold": 2})


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_report(result, folder, split="test", labels=LABELS):
    """Writes the report into a folder and returns what was printed."""
    console = Console(file=io.StringIO(), width=100)
    report(result, split, labels, folder=folder, console=console)
    return console.file.getvalue()


def cells_of(line):
    return [cell.strip() for cell in line.strip(" │┃").replace("┃", "│").split("│")]


class TestReport:
    def test_the_scores_are_read_back_with_the_protocol(self, toy, tmp_path):
        write_report(toy, tmp_path / "new")
        read = json.loads((tmp_path / "new" / "test.json").read_text(encoding="utf-8"))
        ends = product(("uar", "wa", "macro_f1"), ("low", "high"))
        unknown = {f"{name}_{end}": None for name, end in ends}  # nobody knows who speaks two of the clips
        assert read == {**toy.scores(), **unknown, "protocol": {"name": "toy", "fold": 2}}

    def test_the_interval_is_over_speakers(self, toy, tmp_path):
        known = replace(toy, speakers=("ann", "bob", "cid", "ann", "bob", "cid"))
        write_report(known, tmp_path)
        read = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
        expected = bootstrap_uar([speaker_confusions(known)], np.random.default_rng(0))
        assert (read["uar"], read["uar_low"], read["uar_high"]) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
        assert read["uar_low"] < read["uar"] < read["uar_high"]

    def test_one_speaker_has_no_interval(self, toy, tmp_path):
        write_report(replace(toy, speakers=("ann",) * 6), tmp_path)
        read = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
        assert (read["uar_low"], read["uar_high"]) == (None, None)

    def test_the_confusion_matrix_is_read_back(self, toy, tmp_path):
        write_report(toy, tmp_path)
        header, *rows = read_csv(tmp_path / "test_confusion.csv")
        assert header == ["label", *LABELS]
        assert [row[0] for row in rows] == list(LABELS)
        counts = [[int(count) for count in row[1:]] for row in rows]
        assert counts == confusion_counts(toy.predictions).tolist()

    def test_the_speakers_are_read_back_worst_first(self, toy, tmp_path):
        write_report(toy, tmp_path)
        header, *rows = read_csv(tmp_path / "test_speakers.csv")
        assert header == ["speaker", "num_clips", "uar", "wa"]
        assert [[row[0], int(row[1]), float(row[2]), float(row[3])] for row in rows] == toy.speaker_scores()[
            1:
        ]
        assert rows[-1][0] == ""

    def test_splits_do_not_overwrite_each_other(self, toy, tmp_path):
        for split in ("test", "validation"):
            write_report(toy, tmp_path, split)
        kinds = (".json", "_confusion.csv", "_reliability.csv", "_reliability.png", "_speakers.csv")
        assert {path.name for path in tmp_path.iterdir()} == {
            split + kind for split in ("test", "validation") for kind in kinds
        }

    def test_the_screen_shows_scores_confusion_and_speakers(self, toy):
        lines = write_report(toy, None).splitlines()
        rows = {cells[0]: cells for cells in map(cells_of, lines) if len(cells) > 1}
        assert rows["angry"] == ["angry", "1", "1", ".", ".", "0.50"]
        assert rows["wütend"] == ["wütend", ".", ".", "2", ".", "1.00"]
        assert rows["absent"] == ["absent", ".", ".", ".", ".", "-"]
        assert rows["ann"] == ["ann", "2", "0.500", "0.500"]
        assert rows["unknown"] == ["unknown", "2", "1.000", "1.000"]
        assert lines[-4] == "Test             UAR 0.667"
        assert [line.split()[:-1] for line in lines[-3:]] == [["WA"], ["macro", "F1"], ["ECE"]]

    def test_names_with_brackets_are_shown_as_they_are(self, toy):
        labels = ("[/]", "[red]happy", *LABELS[2:])
        speakers = ("[bold]ann", "[/x]", "", "[bold]ann", "[/x]", "")
        shown = write_report(replace(toy, speakers=speakers), None, labels=labels)
        for name in (*labels, "[bold]ann", "[/x]"):
            assert name in shown


TASKS = {"distribution": ("jsd", 3), "labels": ("macro_f1", 3), "dimensions": ("ccc", 2)}


def draw_task_fold(*tasks, fold=0, num_speakers=6, clips_each=10, missing=()):
    """A fold with targets of some tasks, each near its predictions, with an error of its own each speaker."""
    generator = torch.Generator().manual_seed(fold)
    num_clips, outputs, tables = num_speakers * clips_each, [], []
    for task in tasks:
        size = TASKS[task][1]
        shift = torch.randn(num_speakers, size, generator=generator).repeat(clips_each, 1)
        logits, noise = (torch.randn(num_clips, size, generator=generator) for _ in range(2))
        raw = logits + 0.7 * noise + 0.7 * shift
        kinds = {"distribution": raw.softmax(1), "labels": (raw > 0).float(), "dimensions": 4.0 + raw}
        tables.append((logits + (4.0 if task == "dimensions" else 0.0), kinds[task]))
        outputs.append(Outputs(task, tuple("abc"[:size])))
    logits, targets = (torch.cat(columns, 1) for columns in zip(*tables, strict=True))
    targets[list(missing)] = math.nan
    indices = torch.arange(num_clips)
    return Evaluation(
        Predictions(logits, torch.full((num_clips,), -100), indices, targets, tuple(outputs)),
        tuple(f"s{fold}{index % num_speakers}" for index in range(num_clips)),
        {"name": "toy", "fold": fold, "clips": {"test": num_clips}, "hash": "abc"},
    )


@pytest.mark.parametrize("task", TASKS)
class TestOtherTasks:
    def test_a_fold_is_read_back_as_it_was(self, task, tmp_path):
        result = draw_task_fold(task, missing=[3, 4])
        save_fold(result, tmp_path)
        found = read_fold(tmp_path)
        assert found.predictions.outputs == result.predictions.outputs
        for name in ("logits", "labels", "targets"):
            expected = getattr(result.predictions, name)
            torch.testing.assert_close(
                getattr(found.predictions, name), expected, rtol=0, atol=0, equal_nan=True
            )

    def test_the_main_score_has_an_interval_over_speakers(self, task, tmp_path):
        result, main = draw_task_fold(task, missing=[3, 4]), TASKS[task][0]
        write_report(result, tmp_path)
        read = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
        assert read[f"{main}_low"] < read[main] < read[f"{main}_high"]
        assert read[main] == pytest.approx(score_intervals([result])[main].value, abs=1e-6)

    def test_one_speaker_has_no_interval(self, task):
        found = score_intervals([draw_task_fold(task, num_speakers=1, clips_each=20)])
        assert all(math.isnan(one.low) and not math.isnan(one.value) for one in found.values())

    def test_folds_are_averaged(self, task, tmp_path):
        main, folds = TASKS[task][0], [draw_task_fold(task, fold=fold) for fold in range(2)]
        summary = summarize(folds)
        assert summary[main] == pytest.approx(np.mean([fold.scores()[main] for fold in folds]), abs=1e-6)
        assert summary[f"{main}_low"] < summary[main] < summary[f"{main}_high"]
        save_summary(summary, tmp_path)
        shown = printed(fold_table(summary))
        assert f"{summary[main]:.3f} [{summary[f'{main}_low']:.3f}" in shown
        assert [row[0] for row in read_csv(tmp_path / "cv.csv")] == ["fold", "0", "1"]

    def test_speakers_are_listed_worst_first(self, task, tmp_path):
        write_report(draw_task_fold(task), tmp_path)
        header, *rows = read_csv(tmp_path / "test_speakers.csv")
        assert header[:3] == ["speaker", "num_clips", TASKS[task][0]]
        scores = [float(row[2]) for row in rows]
        assert scores == sorted(scores, reverse=task == "distribution")
        assert len(rows) == 6

    def test_a_speaker_without_targets_is_listed_last(self, task):
        rows = draw_task_fold(task, missing=range(2, 60, 6)).speaker_scores()[1:]
        assert [row[0] for row in rows if math.isnan(row[2])] == [rows[-1][0]] == ["s02"]
        scores = [row[2] for row in rows[:-1]]
        assert scores == sorted(scores, reverse=task == "distribution")

    def test_the_screen_is_readable_at_80_columns(self, task):
        console = Console(file=io.StringIO(), width=80)
        report(draw_task_fold(task), "test", ("a", "b", "c"), folder=None, console=console)
        lines = console.file.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        title = {"jsd": "JSD", "macro_f1": "macro F1", "ccc": "CCC"}[TASKS[task][0]]
        assert any(line.startswith(f"Test             {title} ") for line in lines)


def test_the_interval_of_a_dimension_is_that_of_its_own_concordance():
    """Against the concordance of whole resamples of speakers, clip by clip."""
    result = draw_task_fold("dimensions", num_speakers=8, missing=[5])
    found = score_intervals([result], seed=3)
    generator, columns = np.random.default_rng(3), {"ccc": [], "ccc_a": [], "ccc_b": []}
    draws = generator.integers(8, size=(NUM_RESAMPLES, 7))[:200]
    own = list(result.by_speaker().values())
    for draw in draws:
        clips = [own[speaker] for speaker in draw]
        values, targets = (
            torch.cat([getattr(one, name) for one in clips]).double() for name in ("logits", "targets")
        )
        cccs = []
        for column in range(2):
            kept = ~targets[:, column].isnan()
            x, y = values[kept, column].numpy(), targets[kept, column].numpy()
            cccs.append(2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))
        for name, value in zip(columns, (np.mean(cccs), *cccs), strict=True):
            columns[name].append(value)
    for name, values in columns.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=0.03)


def test_the_interval_of_a_mean_divergence_is_that_of_its_standard_error():
    result = draw_task_fold("distribution", num_speakers=30)
    votes, logits = result.predictions.targets.double(), result.predictions.logits.double()
    divergence = jensenshannon(votes.numpy(), logits.softmax(1).numpy(), base=2, axis=1) ** 2
    of_speaker = divergence.reshape(-1, 30).mean(0)
    found = score_intervals([result])["jsd"]
    expected = 1.96 * of_speaker.std(ddof=1) / 30**0.5
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)


def test_several_tasks_are_reported_together(tmp_path):
    result = draw_task_fold("dimensions", "distribution", "labels")
    shown = write_report(result, tmp_path)
    read = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
    for name in ("ccc", "ccc_a", "distribution_jsd", "labels_macro_f1", "labels_f1_c"):
        assert read[f"{name}_low"] < read[name] < read[f"{name}_high"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "test.json",
        "test_speakers.csv",
        "test_distribution_confusion.csv",
        "test_distribution_reliability.csv",
        "test_distribution_reliability.png",
    }
    for title in ("Test dimensions", "Test labels", "CCC", "JSD", "macro F1"):
        assert title in shown


def test_a_constant_dimension_is_named(tmp_path):
    result = draw_task_fold("dimensions")
    result.predictions.logits[:, 1] = 3.0
    with pytest.warns(
        UserWarning, match="dimension=b: predictions or targets of the test clips are constant"
    ):
        write_report(result, tmp_path)
    assert json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))["ccc_b"] == 0.0


def test_a_score_that_nothing_is_known_of_is_null(tmp_path):
    result = draw_task_fold("dimensions")
    result.predictions.targets[:, 0] = math.nan
    shown = write_report(result, tmp_path)
    read = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
    assert (read["ccc_a"], read["ccc"]) == (None, read["ccc_b"])
    assert any(cells_of(line)[:3] == ["a", "0", "-"] for line in shown.splitlines())


def test_calibration_is_scored_at_the_temperature(toy, tmp_path):
    write_report(replace(toy, temperature=2.5), tmp_path)
    read = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
    logits = toy.predictions.logits / 2.5
    expected = Evaluation(replace(toy.predictions, logits=logits), SPEAKERS, {}).scores()["ece"]
    assert (read["temperature"], read["scaled_ece"]) == (2.5, pytest.approx(expected))
    rows = read_csv(tmp_path / "test_reliability.csv")
    assert rows[0] == ["low", "high", "confidence", "accuracy", "num_clips"]
    assert sum(int(row[-1]) for row in rows[1:]) == 6
    once = (tmp_path / "test_reliability.png").read_bytes()
    write_report(replace(toy, temperature=2.5), tmp_path)
    assert (tmp_path / "test_reliability.png").read_bytes() == once
    write_report(toy, tmp_path)
    assert (tmp_path / "test_reliability.png").read_bytes() != once
