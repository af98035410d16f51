"""Faithfulness of a linear score is known; infidelity is Captum's where that is defined."""

from __future__ import annotations

import math
from math import ceil

import pytest
import torch

from wavshap_lightning.evaluation.faithfulness import (
    SHARES,
    faithfulness,
    frame_faithfulness,
    infidelity,
    masked_sound,
    random_removals,
    removal_curves,
    removal_losses,
    removal_of,
)
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.models.classifier import EmotionClassifier


def generator(seed):
    return torch.Generator().manual_seed(seed)


def add(inputs):
    return inputs.sum((1, 2))


class TestComprehensivenessAndSufficiency:
    TIME = 40

    @pytest.fixture
    def frames(self):
        return torch.rand(self.TIME, 3, generator=generator(0)) + 0.1

    @pytest.fixture
    def weights(self):
        return torch.randn(self.TIME, generator=generator(1))

    @pytest.fixture
    def score(self, weights):
        return lambda inputs: inputs.sum(2) @ weights

    @pytest.fixture
    def measure(self, score, frames):
        """`(attributions) -> (comprehensiveness, sufficiency)` relative to the mean of random orders."""

        def measure(attributions, fills=None, num_random=1):
            fills = torch.zeros(2, *frames.shape) if fills is None else fills
            without = removal_of(score, frames, fills)
            orders = [torch.randperm(len(frames), generator=generator(2 + k)) for k in range(num_random)]
            chance = torch.stack([removal_losses(without, order) for order in orders]).mean(0)
            return tuple(faithfulness(without, attributions, chance).values())

        return measure

    def test_of_a_linear_score_it_is_the_sum_of_what_is_removed_over_that_of_an_average_frame(
        self, measure, frames, weights
    ):
        terms = frames.sum(1) * weights
        best = terms.sort(descending=True).values
        counts = sorted({max(1, ceil(share * self.TIME)) for share in SHARES})
        gained = sum(float(best[:count].sum() - count * terms.mean()) for count in counts) / len(counts)
        assert measure(terms, num_random=2000) == pytest.approx((gained, -gained), rel=0.02)

    def test_the_wrong_order_is_worse_than_chance(self, measure, frames, weights):
        terms = frames.sum(1) * weights
        right, wrong = (measure(sign * terms, num_random=50) for sign in (1, -1))
        assert right[0] > 0 > wrong[0]
        assert right[1] < 0 < wrong[1]

    def test_random_attributions_come_to_0_on_average(self, measure, frames, weights):
        values = [
            measure(torch.rand(self.TIME, generator=generator(100 + k)), num_random=20) for k in range(200)
        ]
        scale = measure(frames.sum(1) * weights)[0]
        assert abs(sum(one[0] for one in values)) / len(values) < 0.1 * scale

    def test_fills_that_change_nothing_change_nothing(self, measure, frames, weights):
        assert measure(weights, fills=frames[None]) == pytest.approx((0, 0), abs=1e-5)

    def test_the_score_is_called_on_a_few_at_a_time_without_gradients(self, score, frames, weights):
        sizes = []

        def watched(inputs):
            sizes.append(len(inputs))
            assert not torch.is_grad_enabled()
            return score(inputs)

        removal_losses(removal_of(watched, frames, frames[None]), weights.argsort())
        assert max(sizes) <= 8


def test_equal_frames_are_removed_in_order_of_time():
    """As spans of frames that share a value are; an order of chance would change from machine to machine."""
    weights, frames = torch.rand(200, generator=generator(0)), torch.ones(200, 1)
    without = removal_of(lambda inputs: inputs.sum(2) @ weights, frames, torch.zeros(1, 200, 1))
    spans = torch.tensor([0.0, 2.0, 1.0, 2.0]).repeat_interleave(50)
    later = spans - 1e-3 * torch.arange(200)
    measured = [faithfulness(without, one, torch.zeros(2).double()) for one in (spans, later)]
    assert measured[0] == measured[1]


def test_values_are_measured_in_their_own_unit(classifier, waveform):
    """Twice the value, twice what it loses."""
    regressor = EmotionClassifier(classifier.backbone, ("arousal", "valence"), task="dimensions").eval()
    explanation = explain(regressor, waveform, num_draws=8)
    one = frame_faithfulness(regressor, explanation, waveform, "valence")
    with torch.no_grad():
        for parameter in regressor.head.mlp[-1].parameters():
            parameter.mul_(2)
    twice = frame_faithfulness(regressor, explanation, waveform, "valence")
    assert twice == pytest.approx({name: 2 * value for name, value in one.items()}, rel=1e-4)


def test_the_classifier_is_as_it_was_and_the_numbers_are_the_same_again(classifier, waveform):
    explanation = explain(classifier, waveform, target=("sad", "angry"), num_draws=16)
    before, chance = {n: p.clone() for n, p in classifier.state_dict().items()}, torch.get_rng_state()
    first, second = (frame_faithfulness(classifier, explanation, waveform, "sad") for _ in range(2))
    assert first == second
    assert first.keys() == {"comprehensiveness", "sufficiency"}
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())


class TestRemovalCurves:
    TIME = 20

    @pytest.fixture
    def terms(self):
        return torch.randn(self.TIME, generator=generator(0), dtype=torch.float64)

    @pytest.fixture
    def curves(self, terms):
        """`(attributions, fills) -> areas` of the sum of all frames."""

        def curves(attributions, fills=None, **more):
            fills = torch.zeros(2, self.TIME, 1, dtype=torch.float64) if fills is None else fills
            return removal_curves(removal_of(add, terms[:, None], fills), attributions, **more)

        return curves

    def test_of_a_linear_score_the_areas_are_those_of_sorted_sums(self, curves, terms):
        found = curves(terms, num_steps=self.TIME)
        kept = terms.sort(descending=True).values.flip(0).cumsum(0).flip(0)  # after the largest are gone
        most = torch.cat([kept, kept.new_zeros(1)])
        least = torch.cat([kept.new_zeros(1), terms.sort(descending=True).values.cumsum(0)]).flip(0)
        assert found["deletion"] == pytest.approx(float(torch.trapezoid(most) / self.TIME))
        assert found["insertion"] == pytest.approx(float(torch.trapezoid(least) / self.TIME))
        assert found["abpc"] == pytest.approx(found["insertion"] - found["deletion"])
        assert found["abpc"] > 0

    def test_the_opposite_order_swaps_the_areas(self, curves, terms):
        right, wrong = curves(terms), curves(-terms)
        assert wrong == pytest.approx(
            {"deletion": right["insertion"], "insertion": right["deletion"], "abpc": -right["abpc"]}
        )

    def test_all_fills_count_alike_and_one_that_changes_nothing_is_a_flat_line(self, curves, terms):
        frames = terms[:, None]
        flat = curves(terms, frames[None])
        assert flat["deletion"] == pytest.approx(float(terms.sum()))
        assert flat["abpc"] == pytest.approx(0)
        zeros = torch.zeros_like(frames)
        both, alone = curves(terms, torch.stack([frames, zeros])), curves(terms, zeros[None])
        assert both["deletion"] == pytest.approx((flat["deletion"] + alone["deletion"]) / 2)

    def test_fewer_frames_than_steps_are_removed_one_by_one(self):
        frames = torch.tensor([[2.0], [1.0]])
        without = removal_of(add, frames, torch.zeros(1, 2, 1))
        found = removal_curves(without, torch.tensor([1.0, 0.0]))
        assert found["deletion"] == pytest.approx((3 / 2 + 1 + 0) / 2)
        assert found["insertion"] == pytest.approx((3 / 2 + 2 + 0) / 2)


class TestInfidelity:
    TIME, CHANNELS = 15, 2

    def remove(self, score, frames, fills=None, **more):
        fills = torch.zeros(1, *frames.shape) if fills is None else fills
        return random_removals(score, frames, fills, generator(2), **more)

    @pytest.fixture
    def frames(self):
        return torch.randn(self.TIME, self.CHANNELS, generator=generator(0))

    @pytest.fixture
    def weights(self):
        return torch.randn(self.TIME, generator=generator(1))

    @pytest.fixture
    def curved(self, weights):
        return lambda inputs: (
            (inputs * weights[:, None]).sum((1, 2)).tanh() + inputs[:, :, 0].square().mean(1)
        )

    def test_attributions_of_an_additive_score_predict_everything_up_to_a_factor(self, frames, weights):
        terms = (frames * weights[:, None]).sum(1)
        removals = self.remove(lambda inputs: (inputs * weights[:, None]).sum((1, 2)), frames)
        assert infidelity(terms, *removals) < 1e-9
        assert infidelity(-7 * terms, *removals) < 1e-9
        assert infidelity(terms.flip(0), *removals) > 0.1

    def test_zero_attributions_are_no_better_than_no_change(self):
        lost = torch.randn(1000, generator=generator(0), dtype=torch.float64)
        removed = torch.rand(1000, self.TIME, generator=generator(1)) < 0.5
        assert infidelity(torch.zeros(self.TIME), removed, lost) == pytest.approx(
            float(lost.square().mean() / lost.var(unbiased=False))
        )
        assert math.isnan(infidelity(torch.ones(self.TIME), removed, torch.ones(1000).double()))

    def test_it_is_captums_over_the_variance(self, frames, curved):
        metrics = pytest.importorskip("captum.metrics", reason="captum is not installed")
        values = torch.randn(self.TIME, generator=generator(3))
        removed, lost = self.remove(curved, frames, count=40)
        where = removed[:, :, None].expand(-1, -1, self.CHANNELS)

        def perturb_them(inputs):
            """Captum multiplies attributions with the first, so that each frame's is in one channel."""
            return where.float(), torch.where(where, 0.0, inputs)

        spread = torch.stack([values, torch.zeros(self.TIME)], 1)
        theirs = metrics.infidelity(
            curved, perturb_them, frames[None], spread[None], n_perturb_samples=40, normalize=True
        )
        expected = float(theirs) / float(lost.var(unbiased=False))
        assert infidelity(values, removed, lost) == pytest.approx(expected, rel=1e-4)

    def test_every_loss_is_that_of_its_own_fill(self, frames, curved):
        fills = torch.stack([torch.zeros(self.TIME, self.CHANNELS), frames.flip(0)])
        removed, lost = self.remove(curved, frames, fills, count=7)
        for row, (where, loss) in enumerate(zip(removed, lost, strict=True)):
            filled = torch.where(where[:, None], fills[int(row >= math.ceil(7 / 2))], frames)
            expected = curved(frames[None]) - curved(filled[None])
            assert float(expected) == pytest.approx(float(loss), abs=1e-5)
        assert set(removed.sum(1).tolist()) == {round(self.TIME / 2)}

    def test_constant_attributions_know_but_the_mean(self, frames, curved):
        assert infidelity(torch.ones(self.TIME), *self.remove(curved, frames)) == pytest.approx(1, abs=1e-9)


class TestMaskedSound:
    FRAMES = torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.0, 0.5]])
    ZEROS = torch.zeros(1, 3, 2)
    FIRST, LAST = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])

    def measure(self, attributions, fills=ZEROS, label=0, **more):
        without = removal_of(lambda inputs: inputs.sum(1), self.FRAMES, fills)
        return masked_sound(without, attributions, label, **more)

    @staticmethod
    def probability(*frames):
        return float(torch.tensor(frames).sum(0).softmax(0)[0])

    def test_where_the_mask_alone_says_more(self):
        p, p_only = self.probability(*self.FRAMES.tolist()), self.probability([2.0, 0.0])
        p_without = self.probability([-1.0, 1.5])
        assert p_only > p > p_without
        assert self.measure(self.FIRST) == pytest.approx(
            {
                "increase": 1,
                "drop": 0,
                "gain": (p_only - p) / (1 - p),
                "removal_drop": p - p_without,
                "fidelity": float((p > 0.5) == (p_only > 0.5)),
            },
            rel=1e-5,
        )

    def test_where_the_mask_says_the_opposite(self):
        p, p_only = self.probability(*self.FRAMES.tolist()), self.probability([-1.0, 1.5])
        found = self.measure(self.LAST, share=0.6)
        assert (found["increase"], found["gain"]) == (0, 0)
        assert found["drop"] == pytest.approx((p - p_only) / p, rel=1e-5)
        assert found["removal_drop"] == pytest.approx(p - self.probability([2.0, 0.0]), rel=1e-5)

    def test_all_is_kept_and_nothing_changes(self):
        found = self.measure(self.FIRST, label=1, share=1.0)
        assert (found["increase"], found["gain"], found["fidelity"]) == (0, 0, 1)
        assert found["drop"] == pytest.approx(0, abs=1e-7)

    def test_fills_are_averaged(self):
        fills = torch.cat([self.ZEROS, self.FRAMES[None] + 1])
        first, second = (self.measure(self.FIRST, fill[None]) for fill in fills)
        expected = {name: (first[name] + second[name]) / 2 for name in first}
        assert self.measure(self.FIRST, fills) == pytest.approx(expected)

    def test_at_least_one_frame_is_kept(self):
        assert self.measure(self.FIRST, share=0.01) == self.measure(self.FIRST, share=0.3)
