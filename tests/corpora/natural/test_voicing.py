"""Where a cue may go: voiced, and neither loud nor quiet."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from wavshap_lightning.planted.recorded_cues import Voicing, cue_places, free_places

LENGTH = 30


@pytest.fixture
def voicing():
    """Two seconds that grow louder and fade, with a pause."""
    rng = np.random.default_rng(0)
    level = np.sin(np.linspace(0, np.pi, 200)) + 0.1 * rng.standard_normal(200)
    voiced = np.ones(200, dtype=bool)
    voiced[120:130] = False
    return Voicing(voiced, stats.rankdata(level))


def auc(voicing, start):
    inside = np.zeros(len(voicing.rank), dtype=bool)
    inside[start : start + LENGTH] = True
    return stats.mannwhitneyu(voicing.rank[inside], voicing.rank[~inside]).statistic / (
        LENGTH * (200 - LENGTH)
    )


def test_places_are_those_that_loudness_does_not_show(voicing):
    expected = [
        start
        for start in range(10, 200 - 10 - LENGTH)
        if 0.35 <= auc(voicing, start) <= 0.65 and voicing.voiced[start : start + LENGTH].mean() >= 0.9
    ]
    assert 0 < len(expected) < 100
    assert cue_places(voicing, LENGTH).tolist() == expected


def test_free_places_keep_away_from_what_is_taken(voicing):
    taken = np.zeros(200, dtype=bool)
    taken[60:90] = True
    found = free_places(voicing, 10, taken, 0.5).tolist()
    assert found == [
        s for s in range(10, 180) if s + 13 <= 60 or s - 3 >= 90 if voicing.voiced[s : s + 10].mean() >= 0.5
    ]


def test_what_is_too_short_has_no_place(voicing):
    assert len(cue_places(voicing, 190)) == len(free_places(voicing, 190, voicing.voiced, 0.0)) == 0
