"""Clips that are explained again and again, and the time that this may take."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import torch

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.training.monitoring.error_log import ErrorLog
from wavshap_lightning.training.monitoring.probes import (
    Probe,
    TimeBudget,
    choose_probes,
    explain_probes,
    find_probes,
)
from wavshap_lightning.training.scores import Predictions


def predict(num_clips=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_clips, 3, generator=generator)
    return Predictions(logits, torch.arange(num_clips) % 3, torch.arange(num_clips) + 100)


def choose(predictions, per_class=0, num_hardest=0, num_wrong=0, seed=0):
    return choose_probes(
        predictions, per_class=per_class, num_hardest=num_hardest, num_wrong=num_wrong, seed=seed
    )


def test_each_class_has_its_clips_and_the_seed_decides_which():
    chosen = choose(predict(), per_class=2)
    assert [(position - 100) % 3 for position in chosen] == [0, 0, 1, 1, 2, 2]
    assert chosen == choose(predict(seed=5), per_class=2)
    assert chosen != choose(predict(), per_class=2, seed=1)


def test_a_class_with_fewer_clips_gives_all_it_has():
    assert len(choose(predict(4), per_class=2)) == 4


def test_hardest_have_the_highest_loss_and_wrong_the_highest_probability_of_another_class():
    logits = torch.tensor([[5.0, 0.0], [0.0, 2.0], [4.0, 0.0], [9.0, 0.0], [0.0, 0.5]])
    labels = torch.tensor([0, 0, 1, 0, 0])
    predictions = Predictions(logits, labels, torch.arange(5))
    assert choose(predictions, num_hardest=2) == {2: "hardest", 1: "hardest"}
    assert choose(predictions, num_wrong=9) == {2: "wrong", 1: "wrong", 4: "wrong"}
    both = choose(predictions, num_hardest=1, num_wrong=1)
    assert both == {2: "hardest", 1: "wrong"}


def test_no_clip_is_chosen_twice_and_all_are_there():
    chosen = choose(predict(), per_class=3, num_hardest=10, num_wrong=10)
    assert list(chosen.values()).count("class") == 9
    assert list(chosen.values()).count("hardest") == 10


CLIPS = [
    Clip(Path("/data/ann/a_01.wav"), "happy"),
    Clip(Path("/data/bob/a_01.wav"), "sad"),
    Clip(Path("/data/long.wav"), "sad", start_s=1.0, end_s=2.0),
]


@pytest.mark.parametrize("name", ["bob/a_01.wav", "/data/bob/a_01.wav"])
def test_a_clip_is_found_by_what_tells_it_from_others(name):
    assert find_probes([name], CLIPS) == {1: "named"}
    assert find_probes(["long@1.000"], CLIPS) == {2: "named"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_01", r"clips='a_01' matches 2 of 3 clips .* such as /data/ann/a_01.wav, /data/bob/a_01.wav"),
        ("b", r"clips='b' matches 0 of 3 clips of this split instead of one; .* such as a_01"),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(name, message):
    with pytest.raises(SettingError, match=message):
        find_probes([name], CLIPS)


# Time


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def run(max_seconds, num_clips, *, wanted_s, overhead_s=0.0, known_s=0.0):
    """Seconds of drawing of each clip that was explained, and the seconds it took in all."""
    clock = Clock()
    budget = TimeBudget(max_seconds, now=clock)
    budget.count_overhead(known_s)
    budget.begin_epoch()
    drawn = []
    for clips_left in range(num_clips, 0, -1):
        seconds = budget.share(clips_left)
        if seconds <= 0:
            break
        drawn.append(min(wanted_s, seconds))
        clock.now_s += drawn[-1] + overhead_s
        budget.count_overhead(overhead_s)
    return drawn, clock.now_s - 100.0


def test_without_a_limit_and_within_it_every_clip_has_the_time_it_needs():
    assert run(None, 3, wanted_s=5.0) == ([5.0] * 3, 15.0)
    assert run(60.0, 3, wanted_s=5.0) == ([5.0] * 3, 15.0)


@pytest.mark.parametrize("overhead_s", [0.0, 0.1, 0.4])
def test_seconds_are_kept_and_shared_evenly(overhead_s):
    drawn, seconds = run(6.0, 8, wanted_s=100.0, overhead_s=overhead_s, known_s=overhead_s)
    assert drawn == pytest.approx([6.0 / 8 - overhead_s] * 8)
    assert seconds == pytest.approx(6.0)


def test_clips_are_left_out_rather_than_the_limit_broken():
    drawn, seconds = run(2.0, 20, wanted_s=1.0, overhead_s=0.3, known_s=0.3)
    assert 1 <= len(drawn) < 20
    assert all(drawn)
    assert seconds <= 1.15 * 2


def test_one_clip_is_explained_however_slow_they_were_last_time():
    assert len(run(2.0, 4, wanted_s=1.0, overhead_s=0.1, known_s=50.0)[0]) >= 1


def test_time_spent_before_the_clips_counts():
    clock = Clock()
    budget = TimeBudget(4.0, now=clock)
    clock.now_s += 5.0
    assert budget.share(3) <= 0


@pytest.mark.usefixtures("unchecked_types")
def test_clips_that_are_left_out_come_first_in_the_next_epoch():
    ticks, errors = count(), ErrorLog()  # the clock moves at every look, and no clip can be explained
    budget = TimeBudget(5.0, now=lambda: next(ticks))
    probes = [Probe(clip, name, name, "named") for clip, name in zip(CLIPS, "abc", strict=True)]
    assert not list(explain_probes(None, probes, ExplainSettings(), budget, errors))
    assert [probe.name for probe in probes] == ["b", "c", "a"]
    with pytest.warns(UserWarning, match="2 of 3 clips are left out by the budget"):
        errors.warn("epoch_000")
