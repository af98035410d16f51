"""Converged attributions to measure errors against, kept from one benchmark to the next."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from _stages import Stage, baseline_kinds, predicted, stages_of
from _trained import Trained, heldout_crops
from safetensors.torch import load_file, save_file
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineDistribution, Baselines
from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.attribution.targets import Target

NUM_NODES = {"waveform": 64, "frames": 96, "layers": 256}
FRESH_DRAWS = 2048
REFERENCE_SEED = 987_654


@dataclass(frozen=True)
class Case:
    """One clip, at one stage, with baselines of one kind.

    Args:
        clip: Its name.
        stage: Where the attribution begins.
        kind: Of the baselines.
        baselines: Of the waveform.
        target: What is explained.
    """

    clip: str
    stage: Stage
    kind: str
    baselines: Baselines
    target: Target

    def reference(self, cache_dir: Path, *, quick: bool = False) -> Tensor:
        """The converged attributions of the stage's view, `(*units)`.

        Over a declared set: Gauss-Legendre quadrature from every baseline, which shares nothing with the
        sampler. Over a distribution: 32 times the default draws, which adds 3 % to
        the square of what is measured there.
        """
        path = cache_dir / f"reference-{self._key(quick=quick)}.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"values": self._converged(quick=quick)}, path)
        return load_file(path)["values"]

    def _converged(self, *, quick: bool) -> Tensor:
        if isinstance(self.baselines, BaselineDistribution):
            draws = 128 if quick else FRESH_DRAWS
            found = self.stage.estimate(self.baselines, self.target, REFERENCE_SEED, draws)
            return found.values[0].contiguous()
        nodes = 8 if quick else NUM_NODES[self.stage.name]
        return self.stage.quadrature(self.baselines, self.target, nodes)

    def _key(self, *, quick: bool) -> str:
        """Of everything that decides the reference; the logits stand for the weights."""
        with torch.no_grad():
            logits = self.stage.score(self.stage.input[None])
        if isinstance(self.baselines, BaselineDistribution):
            drawn = self.baselines.draw(1, torch.Generator().manual_seed(0))
        else:
            drawn = self.baselines.values
        tensors = [tensor_sha256(tensor) for tensor in (logits, self.stage.input, drawn)]
        sizes = (NUM_NODES[self.stage.name], FRESH_DRAWS, quick)
        named = f"{tensors} {self.stage.name} {self.kind} {self.target} {sizes}"
        return hashlib.sha256(named.encode()).hexdigest()[:16]


def ravdess_cases(
    trained: Trained, root: Path, num_clips: int, *, stages: tuple[str, ...], kinds: tuple[str, ...]
) -> list[Case]:
    """Clips of actors who did not train, each with other such clips for its real baselines."""
    crops = heldout_crops(root, num_clips + 16)
    others = [waveform for _, waveform in crops[num_clips:]]
    cases = []
    for index, (clip, waveform) in enumerate(crops[:num_clips]):
        at = stages_of(trained.classifier, waveform)
        baselines = baseline_kinds(waveform, others, seed=index)
        target = predicted(trained.classifier, waveform)
        cases += [
            Case(clip.name, at[stage], kind, baselines[kind], target) for stage in stages for kind in kinds
        ]
    return cases


def relative_rmse(found: Tensor, reference: Tensor) -> Tensor:
    """Root mean square over units, and over whatever comes before them, relative to the reference's."""
    return (found - reference).square().mean().sqrt() / reference.square().mean().sqrt()
