"""Intervals cover as often as they say."""

from __future__ import annotations

import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import BaselineSet
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.saliency import smooth_grad
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import summed

TARGET = Target("log_odds", (1,))
FRAMES = summed(1, name="frames", smooth_variance=True)


@pytest.mark.slow
@pytest.mark.parametrize(("num_draws", "kind"), [(16, "declared"), (256, "declared"), (64, "distribution")])
def test_intervals_cover_what_they_promise(num_draws, kind, network, frames, by_frame, request):
    baselines = request.getfixturevalue(kind)
    exact_for = baselines if kind == "declared" else baselines.declare(4000, torch.Generator().manual_seed(6))
    nodes = 64 if kind == "declared" else 6
    exact = attribute(
        integrated_gradients, network, frames, TARGET, exact_for, num_nodes=nodes, **by_frame
    ).views
    covered, squares = {"frames": [], "elements": []}, {"frames": [], "elements": []}
    for seed in range(40):
        found = attribute(
            gradient_shap,
            network,
            frames,
            TARGET,
            baselines,
            generator=seed,
            stopping=Stopping(num_draws=num_draws),
            **by_frame,
        )
        for name, view in found.views.items():
            error = (view.values - exact[name].values).abs()
            covered[name].append((error <= view.half_width()).double().mean())
            squares[name].append(torch.stack([error.square().mean(), view.stderr.square().mean()]))
    for name, shares in covered.items():
        assert torch.stack(shares).mean().item() >= 0.90, name
        actual, stated = torch.stack(squares[name]).mean(0)
        assert stated <= 9 * actual, name


class Steps(torch.nn.Module):
    """Sums over frames after steps, which are steeper in later frames."""

    def forward(self, inputs):
        steep = torch.linspace(0.5, 12, inputs.shape[1])[:, None]
        states = torch.tanh(steep * inputs).sum(2)
        return torch.stack([states.sum(1), (states[:, 1:] * states[:, :-1]).sum(1)], 1)


@pytest.mark.parametrize(("num_baselines", "num_draws"), [(1, 256), (9, 64), (16, 256), (30, 64)])
def test_intervals_of_recordings_cover_also_where_few_of_them_decide(num_baselines, num_draws, frames):
    """Baselines of heavy-tailed size, as recordings are; also where the draws are no multiple of them."""
    drawn = torch.Generator().manual_seed(num_baselines)
    sizes = torch.rand(num_baselines, 1, 1, generator=drawn).pow(-0.6)
    baselines = BaselineSet(sizes * torch.randn(num_baselines, *frames.shape, generator=drawn))
    score, view = Steps().eval(), {"views": (FRAMES,), "chunk_size": 4096}
    target = Target("margin", (0,), 1)
    exact = attribute(integrated_gradients, score, frames, target, baselines, num_nodes=512, **view).views[
        "frames"
    ]
    shares = []
    for seed in range(16):
        found = attribute(
            gradient_shap,
            score,
            frames,
            target,
            baselines,
            generator=seed,
            stopping=Stopping(num_draws=num_draws),
            **view,
        ).views["frames"]
        shares.append(((found.values - exact.values).abs() <= found.half_width()).double().mean())
    assert torch.stack(shares).mean().item() >= 0.92


def test_intervals_of_a_linear_score_cover(linear, linear_weights, frames, distribution):
    many = distribution.declare(20_000, torch.Generator().manual_seed(6)).values.mean(0)
    exact = ((frames - many) * linear_weights[..., 0]).sum(1)
    shares = []
    for seed in range(60):
        view = attribute(
            gradient_shap,
            linear,
            frames,
            Target("logit", (0,)),
            distribution,
            generator=seed,
            stopping=Stopping(num_draws=32),
            views=(FRAMES,),
        ).views["frames"]
        shares.append(((view.values[0] - exact).abs() <= view.half_width()[0]).double().mean())
    assert 0.90 <= torch.stack(shares).mean().item() <= 0.98


def test_intervals_of_smooth_grad_cover(network, frames):
    many = attribute(
        smooth_grad, network, frames, TARGET, generator=999, stopping=Stopping(num_draws=6000), chunk_size=500
    )
    shares = []
    for seed in range(40):
        view = attribute(
            smooth_grad, network, frames, TARGET, generator=seed, stopping=Stopping(num_draws=32)
        ).views["elements"]
        shares.append(
            ((view.values - many.views["elements"].values).abs() <= view.half_width()).double().mean()
        )
    assert 0.90 <= torch.stack(shares).mean().item() <= 0.98
