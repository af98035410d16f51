"""The objective asks what is known, of those who can know it."""

from __future__ import annotations

import pytest
import torch
from pretraining.objective import Objective
from pretraining.targets import FRAME_GROUPS, UTTERANCE, Targets

BATCH, FRAMES, HIDDEN, LAYERS = 4, 12, 8, 3
NUM_TARGETS = sum(FRAME_GROUPS.values())


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def targets() -> Targets:
    frames = random(BATCH, FRAMES, NUM_TARGETS)
    frames[:, :, -1] = (frames[:, :, -1] > 0).float()
    return Targets(frames, random(BATCH, len(UTTERANCE), seed=1), torch.tensor([0, 5, -1, 2]))


@pytest.fixture
def layers() -> list[torch.Tensor]:
    return [random(BATCH, FRAMES, HIDDEN, seed=seed).requires_grad_() for seed in range(LAYERS)]


@pytest.fixture
def objective() -> Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Objective(HIDDEN, LAYERS)


def no_masks() -> torch.Tensor:
    return torch.zeros(BATCH, FRAMES, dtype=torch.bool)


def test_what_is_unknown_costs_nothing(objective, layers, targets):
    unknown = Targets(
        torch.full_like(targets.frames, torch.nan),
        torch.full_like(targets.utterance, torch.nan),
        torch.full((BATCH,), -1),
    )
    terms = objective(layers, unknown, no_masks())
    assert all(value == 0 for name, value in terms.items() if name not in ("voicing", "total"))


def test_unknown_targets_leave_the_gradient_of_the_others_as_it_was(objective, layers, targets):
    targets.frames[:, 3:5, :10] = torch.nan
    total = objective(layers, targets, no_masks())["total"]
    assert total.isfinite()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(total, layers))


def test_right_answers_cost_nothing(targets):
    """With the targets themselves as the layer, a reader that copies is right."""
    copying = Objective(NUM_TARGETS, 1, frame_layers=(0,))
    with torch.no_grad():
        copying.frame_readers[0].weight.copy_(torch.eye(NUM_TARGETS))
        copying.frame_readers[0].bias.zero_()
    terms = copying([targets.frames], targets, no_masks())
    for name in ("mel", "prosody", "quality"):
        assert terms[name].item() == pytest.approx(0.0, abs=1e-6)


def test_calibration_standardises_what_is_known(targets):
    objective = Objective(HIDDEN, LAYERS)
    targets.frames[0, 0, 0] = torch.nan
    shifted = Targets(3 + 2 * targets.frames, targets.utterance, targets.voice)
    objective.calibrate([shifted, shifted])
    flat = shifted.frames.flatten(0, 1)
    torch.testing.assert_close(objective.frame_mean[:-1], flat.nanmean(0)[:-1])
    known = flat[:, 0][flat[:, 0].isfinite()]
    assert objective.frame_std[0].item() == pytest.approx(known.std(correction=0).item(), rel=1e-5)
    assert (objective.frame_mean[-1], objective.frame_std[-1]) == (0.0, 1.0)


def test_the_first_layer_is_not_asked_about_hidden_frames(objective, layers, targets):
    masked = no_masks()
    masked[2:, 4:7] = True
    total = objective(layers, targets, masked)["total"]
    first, _, last = torch.autograd.grad(total, layers)
    assert not first[masked].any()
    assert first[~masked].any()
    assert last[masked].any(), "the last layer guesses them"


def test_clips_with_hidden_frames_are_not_asked_about_the_whole(objective, layers, targets):
    masked = no_masks()
    masked[2:, 4:7] = True
    terms = objective(layers, targets, masked)
    _, middle, _ = torch.autograd.grad(terms["utterance"] + terms["voice"], layers)
    assert middle[:2].any()
    assert not middle[2:].any()


def test_guessing_voices_costs_one(objective, layers, targets):
    with torch.no_grad():
        for reader in objective.utterance_readers:
            reader[1].weight.zero_()
            reader[1].bias.zero_()
    assert objective(layers, targets, no_masks())["voice"].item() == pytest.approx(1.0)
