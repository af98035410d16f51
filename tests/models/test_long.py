"""Laws of long recordings: piece by piece comes out what comes out in one piece."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models import attention
from wavshap_lightning.models.long import LongBackbone, edges
from wavshap_lightning.models.normalization import channel_statistics

NUM_FRAMES = 60
NUM_SAMPLES = 80 + 40 * (NUM_FRAMES - 1) + 17  # and some that are in no frame
WEIGHTS = torch.tensor([0.2, 0.5, 0.3])


@pytest.fixture(autouse=True)
def few_queries_at_once(monkeypatch):
    """Blocks of a few queries, the last one smaller."""
    monkeypatch.setattr(attention, "BLOCK_SCORES", 7 * NUM_FRAMES * 4)


@pytest.fixture(params=[False, True], ids=["as it is", "normalized"])
def any_backbone(request, variant, build_model, open_backbone):
    """Every family, both places of the norm."""
    return open_backbone(build_model(*variant), normalize=request.param)


@pytest.fixture
def long_clip(generator):
    ramp = torch.linspace(0.01, 0.3, NUM_SAMPLES)
    return 0.05 + ramp * torch.randn(2, NUM_SAMPLES, generator=generator)


@pytest.mark.parametrize("window_frames", [1, 7, NUM_FRAMES - 1, NUM_FRAMES, NUM_FRAMES + 1])
def test_frames_are_the_same_however_long_the_windows(any_backbone, long_clip, window_frames, relative_error):
    found = LongBackbone(any_backbone, window_frames).frontend(long_clip)
    expected = any_backbone.frontend(long_clip)
    assert found.shape == expected.shape
    assert relative_error(found, expected) <= 1e-5


def test_layers_and_their_mix_are_the_same(any_backbone, long_clip, relative_error):
    frames = any_backbone.frontend(long_clip)
    expected, piecewise = any_backbone.encoder(frames), LongBackbone(any_backbone, 9)
    assert relative_error(piecewise.encoder(frames), expected) <= 1e-5
    mixed = torch.einsum("l,blth->bth", WEIGHTS, expected)
    assert relative_error(piecewise.mixed(frames, WEIGHTS), mixed) <= 1e-5


def test_gradients_to_the_waveform_are_the_same(any_backbone, long_clip, generator, relative_error):
    piecewise, probe = LongBackbone(any_backbone, 9), torch.randn(32, generator=generator)

    def gradient(frontend, mixed):
        waveforms = long_clip.clone().requires_grad_()
        return torch.autograd.grad((mixed(frontend(waveforms)) @ probe).square().sum(), waveforms)[0]

    expected = gradient(
        any_backbone.frontend,
        lambda frames: torch.einsum("l,blth->bth", WEIGHTS, any_backbone.encoder(frames)),
    )
    found = gradient(piecewise.frontend, lambda frames: piecewise.mixed(frames, WEIGHTS))
    assert relative_error(found, expected) <= 1e-4


def test_the_graph_of_a_long_recording_serves_several_backward_passes(open_backbone, long_clip):
    piecewise = LongBackbone(open_backbone(), 9)
    frames = piecewise.frontend(long_clip[:1]).requires_grad_()
    mixed = piecewise.mixed(frames, WEIGHTS)
    first, again = (torch.autograd.grad(mixed.sum(), frames, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("piece_by_piece", [True, False])
def test_no_pair_of_frames_is_kept_for_the_gradient(open_backbone, long_clip, piece_by_piece):
    """In one piece a number for each pair and head is."""
    kept = []
    backbone = open_backbone()
    frames = backbone.frontend(long_clip[:1]).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda one: kept.append(one.numel()) or one, lambda one: one
    ):
        LongBackbone(backbone, 9).mixed(frames, WEIGHTS) if piece_by_piece else backbone.encoder(frames)
    assert (max(kept) < NUM_FRAMES * NUM_FRAMES * 4) == piece_by_piece


@pytest.mark.parametrize("num_frames", [1, 2, 5, 33])
def test_the_bias_by_offset_is_the_bias_of_every_pair(open_backbone, num_frames):
    backbone = open_backbone()
    owner, config = backbone.model.encoder.layers[0].attention, backbone.model.config
    buckets = attention.relative_position_buckets(
        num_frames, num_buckets=16, max_distance=20, device=torch.device("cpu")
    )
    expected = attention.relative_position_bias(owner, buckets)
    by_offset = attention.bias_by_offset(owner, num_frames, config)
    assert torch.equal(by_offset.rows(slice(0, num_frames)), expected)
    assert torch.equal(by_offset.rows(slice(num_frames // 2, num_frames)), expected[:, num_frames // 2 :])


@pytest.mark.parametrize("bias", [False, True])
def test_statistics_of_a_convolution_are_those_of_what_it_gives(generator, bias):
    convolution = torch.nn.Conv1d(1, 5, 10, 5, bias=bias).requires_grad_(False)
    waveforms = 0.3 + torch.randn(2, 997, generator=generator)
    states, found = convolution(waveforms[:, None]), channel_statistics(waveforms, convolution)
    torch.testing.assert_close(found.mean.float(), states.mean(2))
    torch.testing.assert_close(found.variance.float(), states.var(2, correction=0))


@pytest.mark.parametrize(
    ("num_frames", "window_frames"), [(1, 1), (10, 10), (10, 11), (11, 10), (9, 10), (100, 7)]
)
def test_windows_hold_every_frame_once_and_are_no_longer_than_asked(num_frames, window_frames):
    found = edges(num_frames, window_frames)
    sizes = [after - before for before, after in pairwise(found)]
    assert (found[0], found[-1]) == (0, num_frames)
    assert len(sizes) == -(-num_frames // window_frames)
    assert max(sizes) <= window_frames
    assert max(sizes) - min(sizes) <= 1


def test_a_window_without_frames_is_refused(open_backbone):
    with pytest.raises(SettingError, match="window_frames=0"):
        LongBackbone(open_backbone(), 0)
