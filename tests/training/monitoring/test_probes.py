"""Which clips are watched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.monitoring.probes import Probe, choose_probes, find_probes
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
    assert [(probe.position - 100) % 3 for probe in chosen] == [0, 0, 1, 1, 2, 2]
    assert chosen == choose(predict(seed=5), per_class=2)
    assert chosen != choose(predict(), per_class=2, seed=1)


def test_a_class_with_fewer_clips_gives_all_it_has():
    assert len(choose(predict(4), per_class=2)) == 4


def test_hardest_have_the_highest_loss_and_wrong_the_highest_probability_of_another_class():
    logits = torch.tensor([[5.0, 0.0], [0.0, 2.0], [4.0, 0.0], [9.0, 0.0], [0.0, 0.5]])
    labels = torch.tensor([0, 0, 1, 0, 0])
    predictions = Predictions(logits, labels, torch.arange(5))
    assert choose(predictions, num_hardest=2) == [Probe(2, "hardest"), Probe(1, "hardest")]
    assert choose(predictions, num_wrong=9) == [Probe(2, "wrong"), Probe(1, "wrong"), Probe(4, "wrong")]
    both = choose(predictions, num_hardest=1, num_wrong=1)
    assert both == [Probe(2, "hardest"), Probe(1, "wrong")]


def test_no_clip_is_chosen_twice():
    chosen = choose(predict(), per_class=3, num_hardest=10, num_wrong=10)
    positions = [probe.position for probe in chosen]
    assert len(set(positions)) == len(positions)


CLIPS = [
    Clip(Path("/data/ann/a_01.wav"), "happy"),
    Clip(Path("/data/bob/a_01.wav"), "sad"),
    Clip(Path("/data/long.wav"), "sad", start_s=1.0, end_s=2.0),
]


@pytest.mark.parametrize("name", ["bob/a_01.wav", "/data/bob/a_01.wav"])
def test_a_clip_is_found_by_what_tells_it_from_others(name):
    assert find_probes([name], CLIPS) == [Probe(1, "named")]
    assert find_probes(["long@1.000"], CLIPS) == [Probe(2, "named")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_01", r"clips='a_01' is the name of 2 clips \(/data/ann/a_01.wav"),
        ("b", r"clips='b' is none of the 3 clips of this part; give names such as 'a_01'"),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(name, message):
    with pytest.raises(SettingError, match=message):
        find_probes([name], CLIPS)
