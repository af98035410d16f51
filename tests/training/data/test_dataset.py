"""Laws of the datasets: padding is zero, augmentation is decided by its seed and leaves no trace."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.dataset import StatisticsBatches, WaveformBatches
from wavshap_lightning.training.data.sampler import BatchSampler

LABELS = ("neutral", "happy", "sad")


def draw_everywhere(samples, sample_rate):
    """Adds what the three global generators give, as augmentation libraries do."""
    noise = random.random() + np.random.rand() + float(torch.rand(()))  # noqa: NPY002, S311
    return samples + np.float32(noise)


def global_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


@pytest.fixture(scope="module")
def clips(corpus):
    return read_manifest(corpus)[:7]


@pytest.fixture
def build_batches(clips):
    def build_batches(transform=None):
        labels, targets = [LABELS.index(clip.label) for clip in clips], torch.zeros(len(clips), 0)
        return WaveformBatches(clips, labels, targets, sample_rate=16_000, transform=transform)

    return build_batches


def test_a_batch_holds_the_clips_padded_with_zeros(clips, build_batches):
    batch = build_batches()[[(position, 0) for position in (4, 0, 2)]]
    assert batch.positions.tolist() == [4, 0, 2]
    for row, position in enumerate((4, 0, 2)):
        waveform = torch.from_numpy(load_audio(clips[position].path))
        length = len(waveform)
        assert batch.lengths[row] == length
        assert torch.equal(batch.waveforms[row, :length], waveform)
        assert not batch.waveforms[row, length:].any()
        assert LABELS[batch.labels[row]] == clips[position].label
    assert batch.waveforms.shape[1] == batch.lengths.max()


def test_augmentation_is_decided_by_its_seed(build_batches):
    batches = build_batches(draw_everywhere)
    first, again, other = (batches[[(2, seed)]].waveforms for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_augmentation_leaves_every_global_state_as_it_was(build_batches, unchecked_types):
    batches = build_batches(draw_everywhere)
    before = global_states()
    batches[[(0, 1)]]
    assert global_states() == before


def test_augmentation_leaves_no_trace_when_it_fails(build_batches, unchecked_types):
    def fail(samples, sample_rate):
        draw_everywhere(samples, sample_rate)
        raise ValueError("no")

    batches = build_batches(fail)
    before = global_states()
    with pytest.raises(ValueError, match="no"):
        batches[[(0, 1)]]
    assert global_states() == before


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on a single processor
def test_augmentation_does_not_depend_on_the_number_of_workers(build_batches, clips):
    def epoch(num_workers):
        sampler = BatchSampler([0.5] * len(clips), batch_size=2, shuffle=True, seed=3)
        batches = build_batches(draw_everywhere)
        return list(DataLoader(batches, sampler=sampler, batch_size=None, num_workers=num_workers))

    for here, there in zip(epoch(0), epoch(2), strict=True):
        assert torch.equal(here.waveforms, there.waveforms)
        assert torch.equal(here.positions, there.positions)


def test_another_epoch_is_augmented_otherwise(clips):
    sampler = BatchSampler([0.5] * len(clips), batch_size=2, shuffle=True, seed=3)
    seeds = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        seeds.append(dict(request for batch in sampler for request in batch))
    assert seeds[0].keys() == seeds[1].keys()
    assert all(seeds[0][position] != seeds[1][position] for position in seeds[0])


@pytest.mark.parametrize("wrong", [lambda x, _: x[None], lambda x, _: x.sum()])
def test_a_transform_must_give_a_waveform(build_batches, wrong):
    with pytest.raises(SettingError, match=r"transform: shape=.*one waveform"):
        build_batches(wrong)[[(0, 0)]]


def test_a_file_that_vanished_is_told(tmp_path, clips):
    gone = replace(clips[0], path=tmp_path / "gone.wav")
    with pytest.raises(AudioError, match=r"gone\.wav"):
        WaveformBatches([gone], [0], torch.zeros(1, 0), sample_rate=16_000)[[(0, 0)]]


def test_batches_of_statistics_hold_the_entries_asked_for(tmp_path):
    cache = TensorCache(tmp_path)
    stored = {
        f"{i}": {"mean": torch.full((2, 3), float(i)), "covariance": torch.rand(3, 3)} for i in range(4)
    }
    cache.write(stored)
    batches = StatisticsBatches(cache, ["3", "0", "2"], [2, 0, 1], torch.tensor([[3.0], [0.0], [2.0]]))
    batch = batches[[(2, 0), (0, 0)]]
    assert len(batches) == 3
    assert batch.labels.tolist() == [1, 2]
    assert batch.positions.tolist() == [2, 0]
    assert batch.targets.tolist() == [[2.0], [3.0]]
    for name in ("mean", "covariance"):
        assert torch.equal(batch.statistics[name], torch.stack([stored["2"][name], stored["3"][name]]))


@pytest.mark.parametrize("names", [("mean", "covariance"), ("layers",)])
def test_neighbours_are_those_asked_for_one_by_one(tmp_path, names):
    cache = TensorCache(tmp_path)
    cache.write({str(i): {name: torch.rand(2, 4, 3) for name in names} for i in range(5)})
    batches = StatisticsBatches(cache, list("01234"), [0, 1, 0, 1, 1], torch.rand(5, 2))
    expected = batches[[(position, 0) for position in (1, 2, 3)]]
    found = batches.between(1, 4)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.positions, expected.positions)
    assert torch.equal(found.targets, expected.targets)
    for name, values in expected.statistics.items():
        assert torch.equal(found.statistics[name], values)


def test_batches_of_frames_are_padded_with_zeros(tmp_path):
    cache = TensorCache(tmp_path)
    stored = {str(n): {"layers": torch.rand(2, n, 3)} for n in (4, 7)}
    cache.write(stored)
    batch = StatisticsBatches(cache, ["4", "7"], [0, 1], torch.zeros(2, 0))[[(0, 0), (1, 0)]]
    layers = batch.statistics["layers"]
    assert batch.statistics["num_frames"].tolist() == [4, 7]
    assert torch.equal(layers[0, :, :4], stored["4"]["layers"])
    assert torch.equal(layers[1], stored["7"]["layers"])
    assert not layers[0, :, 4:].any()
