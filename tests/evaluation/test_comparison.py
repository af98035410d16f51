"""The paired test keeps its level, and its letters say what it found."""

from itertools import chain, combinations, product

import numpy as np
import pytest
from scipy import stats

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.comparison import (
    Comparison,
    compact_letters,
    compare,
    compare_all,
    holm,
    score_system,
)
from wavshap_lightning.training.scores import SCORES

NUM_CLASSES = 4
VALUES = {name: one.values for name, one in SCORES["classes"].intervals.items()}


def draw_labels(rng, num_speakers, *, clips_each=24, balanced=True):
    """Class and speaker of each clip."""
    speakers = np.repeat(np.arange(num_speakers), clips_each)
    labels = np.tile(np.arange(clips_each) % NUM_CLASSES, num_speakers)
    return (labels if balanced else rng.choice(NUM_CLASSES, labels.size, p=[0.1, 0.2, 0.3, 0.4])), speakers


def draw_predictions(rng, labels, speakers, ease, *, num_seeds=5, speakers_a_fold=4, of_fold=0.2, better=0.0):
    """What seeds predict, each a little better or worse on a whole fold, on a speaker, and on a clip."""
    predicted = np.empty((num_seeds, len(labels)), int)
    for seed in range(num_seeds):
        moved = rng.normal(0, of_fold, len(labels))[speakers // speakers_a_fold]
        moved += rng.normal(0, 0.3, len(labels))[speakers] + rng.normal(0, 1, len(labels)) + better
        wrong = (labels + rng.integers(1, NUM_CLASSES, len(labels))) % NUM_CLASSES
        predicted[seed] = np.where(ease + moved > 0, labels, wrong)
    return predicted


def class_sums(labels, predicted, units):
    """Of each seed, unit and class: clips that are recognized, clips, and clips that are predicted so."""
    size = (units.max() + 1) * NUM_CLASSES

    def count(classes, weights=None):
        return np.bincount(units * NUM_CLASSES + classes, weights, size).reshape(-1, NUM_CLASSES)

    columns = [(count(labels, labels == one), count(labels), count(one)) for one in predicted]
    return np.moveaxis(np.array(columns, float), 1, -1)


def scored(labels, speakers, predicted, *, speakers_a_fold=4, score="uar"):
    """Score of a system whose folds test so many speakers each."""
    units = range(speakers.max() + 1)
    sums = class_sums(labels, predicted, speakers)
    folds = [unit // speakers_a_fold for unit in units]
    return score_system(sums, folds, [f"{unit:03d}" for unit in units], VALUES[score])


def draw_ease(rng, speakers):
    """How easy each clip is, whatever the system."""
    return rng.normal(0, 0.5, len(speakers))[speakers] + rng.normal(0, 1, len(speakers))


def draw_pair(rng, num_speakers=24, *, balanced=True, better=0.0, score="uar", **options):
    """Two systems on the same clips, which differ by their seeds unless one is `better`."""
    labels, speakers = draw_labels(rng, num_speakers, balanced=balanced)
    ease = draw_ease(rng, speakers)
    predicted = (draw_predictions(rng, labels, speakers, ease, better=x, **options) for x in (better, 0.0))
    a_fold = options.get("speakers_a_fold", 4)
    return [scored(labels, speakers, one, speakers_a_fold=a_fold, score=score) for one in predicted]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# The score and the influence of each speaker


def test_the_value_is_the_mean_over_folds_and_seeds_of_the_mean_recall(rng):
    labels, speakers = draw_labels(rng, 8, balanced=False)
    predicted = draw_predictions(rng, labels, speakers, draw_ease(rng, speakers))
    expected = [
        np.mean([(one[own] == label)[labels[own] == label].mean() for label in range(NUM_CLASSES)])
        for one, own in product(predicted, (speakers < 4, speakers >= 4))
    ]
    assert scored(labels, speakers, predicted).value == pytest.approx(np.mean(expected))


def test_of_unequal_speakers_in_one_fold_deviations_are_those_of_the_delta_method(rng):
    labels, speakers = draw_labels(rng, 6, balanced=False)
    (predicted,) = draw_predictions(rng, labels, speakers, draw_ease(rng, speakers), num_seeds=1)
    expected = np.zeros(6)
    for label in range(NUM_CLASSES):
        own = labels == label
        residual = np.where(own, (predicted == labels) - (predicted == labels)[own].mean(), 0.0)
        expected += np.bincount(speakers, residual) / own.sum() / NUM_CLASSES
    found = scored(labels, speakers, predicted[None], speakers_a_fold=6)
    np.testing.assert_allclose(found.deviations, expected, atol=1e-8)


def test_variance_over_seeds_is_that_of_single_speakers_and_what_they_share(rng):
    labels, speakers = draw_labels(rng, 24)
    predicted = draw_predictions(rng, labels, speakers, draw_ease(rng, speakers), of_fold=0.5)
    of_speaker = (predicted == labels).reshape(5, 6, 4, -1).mean(-1)  # as many clips of each class
    whole = of_speaker.mean(2).var(0, ddof=1).sum() / 36 / 5
    single = of_speaker.var(0, ddof=1).sum() / 24**2 / 5
    assert scored(labels, speakers, predicted).shared_variance == pytest.approx(whole - single)


def test_a_speaker_tested_in_several_folds_counts_as_one(rng):
    labels, speakers = draw_labels(rng, 6)
    predicted = draw_predictions(rng, labels, speakers, draw_ease(rng, speakers), num_seeds=1)
    units = speakers + 6 * rng.integers(0, 3, len(speakers))  # every speaker in three folds
    sums = class_sums(labels, predicted, units)
    found = score_system(sums, [unit // 6 for unit in range(18)], [*"abcdef"] * 3, VALUES["wa"])
    assert (found.speakers, len(found.deviations)) == (tuple("abcdef"), 6)
    assert found.deviations.sum() == pytest.approx(0.0, abs=1e-12)


# The test


def test_with_one_seed_and_equal_speakers_it_is_students_paired_test(rng):
    labels, speakers = draw_labels(rng, 12)
    ease = draw_ease(rng, speakers)
    a, b = (draw_predictions(rng, labels, speakers, ease, num_seeds=1) for _ in range(2))
    recalls = [(one[0] == labels).reshape(12, -1).mean(1) for one in (a, b)]
    expected = stats.ttest_rel(*recalls)
    difference, low, high, p = compare(*(scored(labels, speakers, one) for one in (a, b)))
    ends = expected.confidence_interval()
    assert (difference, p) == (pytest.approx(np.subtract(*recalls).mean()), pytest.approx(expected.pvalue))
    assert (low, high) == (pytest.approx(ends.low), pytest.approx(ends.high))


def test_it_agrees_with_all_sign_flips_of_ten_speakers(rng):
    signs = np.array([*product([-1, 1], repeat=10)])
    for better in (0.0, 0.2, 0.4, 0.6):
        a, b = draw_pair(rng, 10, better=better, num_seeds=1, speakers_a_fold=2)
        each = a.deviations - b.deviations + (a.value - b.value) / 10
        exact = (abs(signs @ each) >= abs(each.sum()) - 1e-12).mean()
        assert compare(a, b)[3] == pytest.approx(exact, abs=0.03)


def test_exchanging_the_systems_changes_the_sign_alone(rng):
    a, b = draw_pair(rng)
    difference, low, high, p = compare(a, b)
    assert compare(b, a) == pytest.approx((-difference, -high, -low, p))


def test_a_system_does_not_differ_from_itself(rng):
    a, _ = draw_pair(rng, num_seeds=1)
    assert compare(a, a) == (0.0, 0.0, 0.0, 1.0)


def test_a_single_speaker_shows_nothing(rng):
    a, b = draw_pair(rng, 1, better=5.0)
    assert compare(a, b)[3] == 1.0
    assert a.interval() == (None, None)


def test_an_interval_stays_within_the_scores_there_are(rng):
    for better, end in ((3.0, 1.0), (-4.0, 0.0)):
        best, _ = draw_pair(rng, 4, better=better, num_seeds=2)
        assert 0.0 < best.value < 1.0
        assert end in best.interval()


def test_systems_of_other_speakers_are_refused(rng):
    a, _ = draw_pair(rng, 8)
    b, _ = draw_pair(rng, 12)
    with pytest.raises(SettingError, match=r"speakers=\['008', .* same clips"):
        compare(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    "design",
    [
        {"num_speakers": 24},
        {"num_speakers": 24, "of_fold": 0.0, "balanced": False},
        {"num_speakers": 24, "of_fold": 0.6, "score": "macro_f1"},
        {"num_speakers": 24, "speakers_a_fold": 24, "of_fold": 0.3},
        {"num_speakers": 10, "speakers_a_fold": 1, "score": "wa"},
        {"num_speakers": 60, "speakers_a_fold": 12, "num_seeds": 3},
    ],
)
def test_five_percent_of_pairs_of_one_system_come_out_different(rng, design):
    pairs = [draw_pair(rng, **design) for _ in range(3000)]
    assert 0.03 < np.mean([compare(*pair)[3] < 0.05 for pair in pairs]) < 0.07


@pytest.mark.slow
def test_a_better_system_is_found(rng):
    assert np.mean([compare(*draw_pair(rng, better=0.3))[3] < 0.05 for _ in range(100)]) > 0.9


# Many pairs


def test_holm_is_bonferronis_method_on_every_set_of_pairs(rng):
    for p_values in rng.random((20, 5)) ** 3:
        sets = [*chain.from_iterable(combinations(range(5), size) for size in range(1, 6))]
        bonferroni = {chosen: min(1.0, len(chosen) * p_values[list(chosen)].min()) for chosen in sets}
        expected = [max(p for chosen, p in bonferroni.items() if index in chosen) for index in range(5)]
        assert holm(p_values.tolist()) == pytest.approx(expected)


def test_holm_of_no_pair_is_empty():
    assert holm([]) == []


def test_all_pairs_are_compared_once_and_corrected_together(rng):
    labels, speakers = draw_labels(rng, 24)
    ease = draw_ease(rng, speakers)
    systems = {
        name: scored(labels, speakers, draw_predictions(rng, labels, speakers, ease, better=better))
        for name, better in {"a": 1.5, "b": 0.0, "c": 0.0}.items()
    }
    found, of_another = compare_all([systems, {name: systems[name] for name in "ab"}])
    assert [(one.a, one.b) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [one.p_corrected for one in found + of_another] == holm([one.p for one in found + of_another])
    assert [one.different for one in found] == [True, True, False]


def random_comparisons(rng, names):
    """Comparisons of all pairs, each of which differs by chance."""
    pairs = [*combinations(names, 2)]
    p_values = rng.choice([0.01, 0.5], len(pairs)).tolist()
    return [Comparison(*pair, 0.0, 0.0, 0.0, p, p) for pair, p in zip(pairs, p_values, strict=True)]


def test_letters_are_the_largest_sets_without_a_difference(rng):
    for size in (1, 2, 3, 5, 7):
        for _ in range(20):
            names = [*"stuvwxy"[:size]]
            comparisons = random_comparisons(rng, names)
            differing = [{one.a, one.b} for one in comparisons if one.different]
            alike = [
                {*chosen}
                for count in range(1, size + 1)
                for chosen in combinations(names, count)
                if not any(pair <= {*chosen} for pair in differing)
            ]
            expected = [one for one in alike if not any(one < other for other in alike)]
            letters = compact_letters(names, comparisons)
            found = [
                {name for name in names if letter in letters[name]} for letter in {*"".join(letters.values())}
            ]
            assert sorted(map(sorted, found)) == sorted(map(sorted, expected))
            assert letters["s"].startswith("a")


def test_letters_go_on_after_z():
    names = [f"{index:02d}" for index in range(30)]
    comparisons = [Comparison(a, b, 0.1, 0.0, 0.2, 0.0, 0.0) for a, b in combinations(names, 2)]
    letters = compact_letters(names, comparisons)
    assert [letters[name] for name in names[24:]] == ["y", "z", "a1", "b1", "c1", "d1"]
