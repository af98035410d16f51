"""Clips among processes: each on one of them, the longest first."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from wavshap_lightning.audio.io import read_duration_s
from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.corpus_run.predict import ExplainData, longest_first


@pytest.fixture(scope="module")
def clips(corpus):
    return read_manifest(corpus)


@pytest.fixture
def set_up(build_trainer):
    """`(data, number, world_size, told) -> data` on one process, which is told what the first one found."""

    def set_up(data, number, world_size, told):
        trainer = build_trainer()
        trainer._accelerator_connector.strategy = SimpleNamespace(
            broadcast=lambda found: told if number else found,
            global_rank=number,
            is_global_zero=number == 0,
            world_size=world_size,
        )
        data.trainer = trainer
        data.setup("predict")
        return data

    return set_up


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("num_pending", [0, 1, 5, 25])
def test_every_pending_clip_falls_to_one_process(clips, set_up, world_size, num_pending):
    pending = list(range(num_pending))
    calls, told = [], []

    def find_pending():
        calls.append(1)
        return pending

    shares = []
    for number in range(world_size):
        data = set_up(ExplainData(clips, find_pending), number, world_size, told)
        told = data.pending
        shares.append(list(data.predict_dataloader()))
    assert sorted(position for share in shares for position in share) == pending
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len(calls) == 1  # the others are told


def test_the_longest_come_first_and_what_cannot_be_read_last(clips, tmp_path):
    clips = [*clips, replace(clips[0], path=tmp_path / "gone.wav"), replace(clips[1], start_s=0.1, end_s=5.0)]
    order = longest_first(clips, range(len(clips)))
    assert (order[0], order[-1]) == (26, 25)
    seconds = [read_duration_s(clips[position].path) for position in order[1:-1]]
    assert seconds == sorted(seconds, reverse=True)


def test_it_needs_a_trainer(clips):
    with pytest.raises(SettingError, match="trainer=None"):
        ExplainData(clips, list).setup("predict")
