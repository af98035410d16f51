"""Laws of the two kinds of baselines, and of the families: level, length, spectrum, silence."""

from __future__ import annotations

from itertools import count as count_up

import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import (
    BaselineDistribution,
    BaselineSet,
    noise,
    recordings,
    silence,
    spectral_noise,
    time_shifted,
)
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError


def test_an_empty_set_is_refused():
    with pytest.raises(AttributionError, match="baselines='mine' must hold at least one"):
        BaselineSet(torch.empty(0, 4), "mine")


def test_baselines_that_are_not_finite_are_named():
    values = torch.zeros(4, 3)
    values[1, 2], values[3, 0] = torch.nan, torch.inf
    with pytest.raises(AttributionError, match="index 1 is not finite"):
        BaselineSet(values)


def test_a_set_goes_through_a_stage_once():
    calls = []

    def encode(values):
        calls.append(len(values))
        return values.cumsum(1)[:, ::2]

    values = torch.arange(12.0).reshape(3, 4)
    found = BaselineSet(values, "mine").through(encode)
    assert torch.equal(found.values, values.cumsum(1)[:, ::2])
    assert (calls, found.name) == ([3], "mine")


def test_a_distribution_goes_through_stages_in_order(distribution):
    encoded = distribution.through(lambda values: values + 1).through(lambda values: values.sum(2))
    plain = distribution.draw(5, torch.Generator().manual_seed(9))
    torch.testing.assert_close(encoded.draw(5, torch.Generator().manual_seed(9)), (plain + 1).sum(2))


def test_encoding_needs_no_gradient(network, distribution):
    encoded = distribution.through(network)
    assert not encoded.draw(2, torch.Generator()).requires_grad
    assert not distribution.declare(2, torch.Generator()).through(network).values.requires_grad


def test_declaring_keeps_what_was_drawn(distribution):
    declared = distribution.declare(7, torch.Generator().manual_seed(5))
    assert torch.equal(declared.values, distribution.draw(7, torch.Generator().manual_seed(5)))
    assert (len(declared), declared.name) == (7, "walks")


def test_every_draw_is_a_fresh_one():
    counting = BaselineDistribution(lambda generator: (torch.tensor([float(n)]) for n in count_up()))
    assert counting.draw(4, torch.Generator()).flatten().tolist() == [0, 1, 2, 3]


def test_a_stream_that_ends_says_so():
    short = BaselineDistribution(lambda generator: iter([torch.zeros(2)]), "short")
    with pytest.raises(AttributionError, match="baselines='short' ended at 1 of 3"):
        short.draw(3, torch.Generator())


# Families for a clip


NUM_SAMPLES = 4001


@pytest.fixture
def clip(generator):
    """Brown noise: most of its power lies low."""
    walk = torch.randn(NUM_SAMPLES, generator=generator).cumsum(0)
    return 0.1 * (walk - walk.mean()) / walk.std()


def level(waveforms):
    return waveforms.double().square().mean(-1).sqrt()


def low_share(waveforms):
    power = torch.fft.rfft(waveforms).abs().square()
    return (power[..., : power.shape[-1] // 16].sum(-1) / power.sum(-1)).mean().item()


@pytest.mark.parametrize("family", [noise, spectral_noise, time_shifted])
def test_every_draw_is_as_loud_and_as_long_as_the_clip(family, clip, generator):
    drawn = family(clip).draw(5, generator)
    assert drawn.shape == (5, NUM_SAMPLES)
    torch.testing.assert_close(level(drawn), level(clip).expand(5), rtol=1e-5, atol=0)
    assert len({row.sum().item() for row in drawn.diff(dim=1).abs()}) >= 4
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("family", [noise, spectral_noise, time_shifted])
def test_a_draw_does_not_depend_on_how_many_are_drawn(family, clip):
    whole = family(clip).stream(torch.Generator().manual_seed(1))
    singles = torch.stack([next(whole) for _ in range(3)])
    assert torch.equal(family(clip).draw(3, torch.Generator().manual_seed(1)), singles)


def test_spectral_noise_has_the_clips_spectrum_and_white_noise_has_none(clip, generator):
    assert low_share(clip) > 0.9
    assert low_share(spectral_noise(clip).draw(20, generator)) == pytest.approx(low_share(clip), abs=0.06)
    assert low_share(noise(clip).draw(20, generator)) == pytest.approx(1 / 16, abs=0.02)


def test_spectral_noise_does_not_follow_the_clip_in_time(clip, generator):
    burst = clip * (torch.arange(NUM_SAMPLES) < NUM_SAMPLES // 4)
    drawn = spectral_noise(burst).draw(20, generator).square().mean(0)
    assert (drawn[: NUM_SAMPLES // 4].mean() / drawn.mean()).item() == pytest.approx(1.0, abs=0.25)


def test_a_shifted_clip_is_the_clip_begun_elsewhere(clip, generator):
    shifted = time_shifted(clip).draw(1, generator)[0]
    assert not torch.equal(shifted, clip)
    assert torch.equal(shifted.sort().values, clip.sort().values)


def test_recordings_are_fitted_to_length_and_level(clip, generator):
    others = [torch.randn(count, generator=generator) for count in (100, NUM_SAMPLES, 9000)]
    found = recordings(clip, others, "another_class")
    torch.testing.assert_close(level(found.values), level(clip).expand(3), rtol=1e-5, atol=0)
    assert found.name == "another_class"
    repeated = found.values[0] / found.values[0, 0] * others[0][0]
    torch.testing.assert_close(repeated[100:200], others[0], rtol=1e-4, atol=1e-4)
    cropped = found.values[2] / found.values[2, 0] * others[2][0]
    torch.testing.assert_close(cropped, others[2][:NUM_SAMPLES], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("clip_", "message"),
    [
        (torch.zeros(50), r"clip: root mean square=0\.0 over 50 samples"),
        (torch.empty(0), r"over 0 samples"),
        (torch.tensor([0.1, torch.nan]), "root mean square=nan"),
    ],
)
@pytest.mark.parametrize("family", [noise, spectral_noise, time_shifted, lambda clip: recordings(clip, [])])
def test_a_clip_without_a_level_is_refused(family, clip_, message):
    with pytest.raises(AttributionError, match=message):
        family(clip_)


def test_a_bad_recording_is_named(clip):
    good = torch.ones(10)
    with pytest.raises(AttributionError, match=r"other_clips\[1\]: root mean square=0.0 over 0 samples"):
        recordings(clip, [good, torch.empty(0)])
    with pytest.raises(AttributionError, match=r"other_clips\[2\]: root mean square=0"):
        recordings(clip, [good, good, torch.zeros(3)])
    with pytest.raises(AttributionError, match="'other_clips' must hold at least one"):
        recordings(clip, [])


# Silence


def of_any_level(inputs):
    """Divides the level out, as a group norm over the clip does."""
    size = (inputs.square().mean(1, keepdim=True) + 1e-7).sqrt()
    return torch.stack([(inputs / size)[:, :100].mean(1), inputs[:, 0] * 0], 1)


def of_this_level(inputs):
    return torch.stack([inputs[:, :100].mean(1), inputs.square().mean(1)], 1)


def test_silence_is_refused_where_the_level_is_divided_out(clip):
    with pytest.raises(AttributionError, match=r"baselines='silence' is ill-posed.*invariant to gain"):
        silence(clip, of_any_level)


def test_silence_is_refused_where_most_happens_where_nothing_is_left_to_hear(clip):
    """A third of the change of this score, which levels out 60 dB below the clip, lies above alpha = 0.1."""

    def compressing(inputs):
        power = inputs.square().mean(1) / clip.square().mean()
        return torch.stack([(power + 1e-6).log(), inputs[:, 0]], 1)

    with pytest.raises(AttributionError, match="most of the change lies where the clip is inaudible"):
        silence(clip, compressing)


def test_silence_is_fine_where_the_level_counts(clip):
    found = silence(clip, of_this_level)
    assert found.values.shape == (1, NUM_SAMPLES)
    assert not found.values.any()


def test_decibels_resolve_the_path_from_silence(clip):
    """On the linear path the same number of nodes misses what happens next to silence."""
    target, baselines = Target("logit", (0,)), silence(clip, None)
    linear, decibels = (
        attribute(
            integrated_gradients, of_any_level, clip, target, baselines, num_nodes=16, decibels=decibels
        )
        for decibels in (False, True)
    )
    assert linear.relative_gap[0] > 0.05
    assert decibels.relative_gap[0] < 1e-3
