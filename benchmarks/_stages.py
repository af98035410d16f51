"""The three places where an attribution may begin, as the benchmarks compare them, and their baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from wavshap_lightning.attribution.baselines import (
    BaselineDistribution,
    Baselines,
    BaselineSet,
    noise,
    recordings,
)
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import attribute
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.record import Attribution, ViewEstimate
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View, grouped, summed
from wavshap_lightning.attribution.views.layers import layer_frame, layer_mix
from wavshap_lightning.models.classifier import EmotionClassifier

HOP_SAMPLES = 320
NUM_DECLARED = 16


@dataclass(frozen=True)
class Stage:
    """One place where an attribution may begin.

    Args:
        name: `waveform`, `frames` or `layers`.
        score: What follows: `(draws, *input)` to logits.
        input: The clip there.
        encode: What brings a waveform there; None for the waveform itself.
        view: 20 ms frames, or layers x frames.
        sum_units: The same sums as the view's, for attributions that others made.
        structured: The score with its structure declared, for our methods, where it has one.
    """

    name: str
    score: Callable[[Tensor], Tensor]
    input: Tensor
    encode: Callable[[Tensor], Tensor] | None
    view: View
    sum_units: Callable[[Tensor], Tensor]
    structured: Callable[[Tensor], Tensor] | None = None

    @property
    def explained(self) -> Callable[[Tensor], Tensor]:
        """The score as our methods are given it."""
        return self.structured or self.score

    def explain(self, baselines: Baselines, target: Target, seed: int, stopping: Stopping) -> Attribution:
        """GradientSHAP of waveform baselines, which are brought to this stage."""
        return attribute(
            gradient_shap,
            self.explained,
            self.input,
            target,
            self.bring(baselines),
            generator=seed,
            stopping=stopping,
            views=(self.view,),
        )

    def quadrature(self, baselines: BaselineSet, target: Target, num_nodes: int) -> Tensor:
        """The view by Gauss-Legendre quadrature from every baseline, `(*units)`."""
        found = attribute(
            integrated_gradients,
            self.explained,
            self.input,
            target,
            self.bring(baselines),
            num_nodes=num_nodes,
            views=(self.view,),
        )
        return found.views[self.view.name].values[0].contiguous()

    def estimate(self, baselines: Baselines, target: Target, seed: int, num_draws: int) -> ViewEstimate:
        """The view alone, after so many draws."""
        found = self.explain(baselines, target, seed, Stopping(num_draws=num_draws))
        return found.views[self.view.name]

    def bring(self, baselines: Baselines) -> Baselines:
        """Baselines of the waveform, at this stage."""
        return baselines if self.encode is None else baselines.through(self.encode)


@torch.no_grad()
def stages_of(classifier: EmotionClassifier, waveform: Tensor) -> dict[str, Stage]:
    """All three, by name, of a head that pools mean and deviation."""
    head, weights = classifier.head, classifier.head.mix.weights()

    def frames_to_logits(frames: Tensor) -> Tensor:
        return classifier.head(classifier.encoder(frames))

    def after_mix(mixed: Tensor) -> Tensor:
        return head.mlp(head.pooling(mixed, torch.ones(mixed.shape[:2], dtype=torch.bool)))

    def to_layers(waveforms: Tensor) -> Tensor:
        return classifier.encoder(classifier.frontend(waveforms))

    frames, layers = classifier.frontend(waveform[None])[0], to_layers(waveform[None])[0]
    return {
        "waveform": Stage(
            "waveform",
            classifier,
            waveform,
            None,
            grouped(HOP_SAMPLES, name="frames"),
            _sum_hops,
        ),
        "frames": Stage(
            "frames",
            frames_to_logits,
            frames,
            classifier.frontend,
            summed(1, name="frames", smooth_variance=True),
            _sum_last,
        ),
        "layers": Stage(
            "layers",
            classifier.head,
            layers,
            to_layers,
            layer_frame(weights),
            _sum_last,
            layer_mix(weights, after_mix),
        ),
    }


def baseline_kinds(waveform: Tensor, others: Sequence[Tensor], seed: int = 0) -> dict[str, Baselines]:
    """Noise declared, real clips declared, and noise as a distribution; all at the clip's level."""
    distribution = noise(waveform)
    generator = torch.Generator().manual_seed(seed)
    return {
        "declared noise": distribution.declare(NUM_DECLARED, generator),
        "real clips": recordings(waveform, others[:NUM_DECLARED]),
        "distribution of noise": distribution,
    }


def predicted(classifier: EmotionClassifier, waveform: Tensor) -> Target:
    """The log-odds of the class the classifier says."""
    with torch.no_grad():
        return Target("log_odds", (int(classifier(waveform[None])[0].argmax()),))


def independent_draws(
    stage: Stage, baselines: Baselines, target: Target, count: int, seed: int, *, at_once: int = 16
) -> Tensor:
    """The terms of independent draws, `(draws, *units)`: Captum's estimator, draw by draw.

    Uniform alphas; baselines with replacement from a declared set, a fresh one each from a distribution.
    """
    generator, brought = torch.Generator().manual_seed(seed), stage.bring(baselines)
    stream = brought.stream(generator) if isinstance(brought, BaselineDistribution) else None
    terms = []
    for start in range(0, count, at_once):
        size = min(at_once, count - start)
        if isinstance(brought, BaselineSet):
            drawn = brought.values[torch.randint(len(brought), (size,), generator=generator)]
        else:
            drawn = brought.encoded(torch.stack([next(stream) for _ in range(size)]))
        alphas = torch.rand(size, generator=generator).reshape(-1, *(1,) * stage.input.ndim)
        directions = stage.input - drawn
        positions = (drawn + alphas * directions).requires_grad_()
        (gradients,) = torch.autograd.grad(target(stage.score(positions)).sum(), positions)
        terms.append(stage.sum_units(gradients * directions).double())
    return torch.cat(terms)


def _sum_hops(terms: Tensor) -> Tensor:
    missing = -terms.shape[-1] % HOP_SAMPLES
    return pad(terms, (0, missing)).reshape(*terms.shape[:-1], -1, HOP_SAMPLES).sum(-1)


def _sum_last(terms: Tensor) -> Tensor:
    return terms.sum(-1)
