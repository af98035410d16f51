"""What an epoch may cost, by a clock that only moves when told."""

from __future__ import annotations

import pytest

from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.monitoring.budget import Allowance, Budget


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def run(budget, num_clips, *, views=2, per_draw_s=0.0, besides_s=0.0, known_s=0.0):
    """Draws of each clip that was explained, and the seconds it took in all."""
    clock = Clock()
    allowance = Allowance(budget, num_clips, views, besides_s=known_s, now=clock)
    draws = []
    for _ in range(num_clips):
        share = allowance.next_clip()
        if share is None:
            break
        taken = share.num_draws
        if share.max_seconds is not None and per_draw_s:
            taken = min(taken, int(share.max_seconds / (per_draw_s * views)) + 1)
        clock.now_s += taken * views * per_draw_s + besides_s
        allowance.spend(taken * views, besides_s)
        draws.append(taken)
    return draws, clock.now_s - 100.0


def test_without_a_limit_every_clip_has_its_draws():
    assert run(Budget(64), 3) == ([64, 64, 64], 0.0)


@pytest.mark.parametrize(("max_draws", "num_clips"), [(100, 5), (640, 10), (1_000_000, 4), (33, 8), (8, 1)])
def test_draws_are_kept_and_shared_evenly(max_draws, num_clips):
    draws, _ = run(Budget(64, max_draws=max_draws), num_clips)
    assert 2 * sum(draws) <= max_draws
    assert all(count >= 4 for count in draws)
    if max_draws >= 2 * 4 * num_clips:
        assert len(draws) == num_clips
        assert max(draws) - min(draws) <= 2


def test_where_draws_do_not_suffice_for_all_some_have_enough():
    assert run(Budget(64, max_draws=20), 8)[0] == [4, 4]


@pytest.mark.parametrize("besides_s", [0.0, 0.1, 0.4])
def test_seconds_are_kept_and_shared(besides_s):
    budget = Budget(10_000, max_seconds=6.0)
    draws, seconds = run(budget, 8, per_draw_s=0.01, besides_s=besides_s, known_s=besides_s)
    assert len(draws) == 8
    assert 0.85 * 6 <= seconds <= 1.15 * 6


def test_what_is_not_needed_is_not_taken():
    draws, seconds = run(Budget(10, max_seconds=60.0), 5, per_draw_s=0.01)
    assert draws == [10] * 5
    assert seconds == pytest.approx(1.0)


def test_clips_are_left_out_rather_than_the_limit_broken():
    draws, seconds = run(Budget(64, max_seconds=2.0), 20, per_draw_s=0.01, besides_s=0.3, known_s=0.3)
    assert 1 <= len(draws) < 20
    assert seconds <= 1.15 * 2


def test_one_clip_is_explained_however_dear_they_were_last_time():
    draws, _ = run(Budget(64, max_seconds=2.0), 4, per_draw_s=0.01, besides_s=0.1, known_s=50.0)
    assert len(draws) >= 1


def test_what_came_before_counts():
    clock = Clock()
    clock.now_s = 105.0
    assert Allowance(Budget(8, max_seconds=4.0), 3, 1, began_s=100.0, now=clock).next_clip() is None


@pytest.mark.parametrize("settings", [{"num_draws": 3}, {"max_draws": 0}, {"max_seconds": -1.0}])
def test_a_budget_for_nothing_is_refused(settings):
    with pytest.raises(SettingError, match=f"{next(iter(settings))}="):
        Budget(**settings)
