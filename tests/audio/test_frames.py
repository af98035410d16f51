"""Laws of frame arithmetic, against a walk through the convolutions one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.errors import SettingError

WAVLM = FrameGrid((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), 16_000)

stacks = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), min_size=1, max_size=7)


def grid_of(stack: list[tuple[int, int]], sample_rate: int = 16_000) -> FrameGrid:
    kernels, strides = zip(*stack, strict=True)
    return FrameGrid(kernels, strides, sample_rate)


def num_frames_layer_by_layer(stack: list[tuple[int, int]], num_samples: int) -> int:
    length = num_samples
    for kernel, stride in stack:
        length = (length - kernel) // stride + 1 if length >= kernel else 0
    return length


def samples_seen_by(stack: list[tuple[int, int]], frame: int) -> tuple[int, int]:
    """The first sample the frame sees and the one after the last, walking back from the output."""
    first = last = frame
    for kernel, stride in reversed(stack):
        first, last = first * stride, last * stride + kernel - 1
    return first, last + 1


@given(stacks, st.integers(0, 100_000))
def test_nested_floors_equal_the_closed_form(stack, num_samples):
    assert grid_of(stack).num_frames(num_samples) == num_frames_layer_by_layer(stack, num_samples)


@given(stacks)
def test_the_receptive_field_is_the_shortest_clip_with_a_frame(stack):
    grid = grid_of(stack)
    shortest = grid.receptive_field_samples
    assert (grid.num_frames(shortest - 1), grid.num_frames(shortest)) == (0, 1)


@given(stacks, st.integers(1, 500))
def test_one_hop_more_is_one_frame_more(stack, num_frames):
    grid = grid_of(stack)
    num_samples = grid.receptive_field_samples + (num_frames - 1) * grid.hop_samples
    assert grid.num_frames(num_samples) == num_frames
    assert grid.num_frames(num_samples + grid.hop_samples - 1) == num_frames


@given(stacks, st.integers(1, 50), st.sampled_from([8_000, 16_000, 44_100]))
def test_times_are_those_of_the_samples_a_frame_sees(stack, num_frames, sample_rate):
    grid = grid_of(stack, sample_rate)
    seen = np.array([samples_seen_by(stack, frame) for frame in range(num_frames)]) / sample_rate
    np.testing.assert_allclose(grid.start_s(num_frames), seen[:, 0], rtol=1e-12)
    np.testing.assert_allclose(grid.end_s(num_frames), seen[:, 1], rtol=1e-12)
    np.testing.assert_allclose(grid.center_s(num_frames), seen.mean(axis=1), rtol=1e-12)


@pytest.mark.parametrize(
    ("num_samples", "num_frames"),
    [(0, 0), (399, 0), (400, 1), (719, 1), (720, 2), (16_000, 49), (48_000, 149)],
)
def test_wavlm_has_the_frames_it_is_known_to_have(num_samples, num_frames):
    assert WAVLM.num_frames(num_samples) == num_frames


def test_wavlm_frames_are_20_ms_apart_and_25_ms_long():
    assert (WAVLM.hop_samples, WAVLM.receptive_field_samples) == (320, 400)
    np.testing.assert_allclose(WAVLM.center_s(3), [0.0125, 0.0325, 0.0525])


def test_no_frames_have_no_times():
    assert WAVLM.start_s(0).shape == WAVLM.end_s(0).shape == WAVLM.center_s(0).shape == (0,)


@pytest.mark.parametrize(
    ("kernels", "strides", "sample_rate", "message"),
    [
        ((10, 3), (5,), 16_000, r"kernels=\(10, 3\), strides=\(5,\): need one stride per kernel"),
        ((), (), 16_000, "need one stride per kernel"),
        ((10, 0), (5, 2), 16_000, "at least 1"),
        ((10, 3), (5, 0), 16_000, "at least 1"),
        ((10, 3), (5, -2), 16_000, "at least 1"),
        ((10, 3), (5, 2), 0, "at least 1"),
    ],
)
def test_numbers_that_make_no_grid_are_refused(kernels, strides, sample_rate, message):
    with pytest.raises(SettingError, match=message):
        FrameGrid(kernels, strides, sample_rate)
