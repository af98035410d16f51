"""The stages of a classifier as functions of one tensor, and the input of each for one clip."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines
from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.attribution.views.layers import layer_mix
from wavshap_lightning.explainer.settings import Stage
from wavshap_lightning.models.backbone import Precision
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import EmotionHead

StageFunction = Callable[[Tensor], Tensor]

# As many baselines as there are draws by default, the clip, and a few for diagnostics.
MAX_MEMOIZED = 72
MAX_MEMOIZED_BYTES = 2**29
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class StageInput:
    """Beginning of a path: what lies at the input of a stage, and the rest of the classifier.

    Args:
        input: The clip at the input of the stage.
        score: From there to logits.
        baselines: The baselines at the input of the stage.
    """

    input: Tensor
    score: Score
    baselines: Baselines


@dataclass(frozen=True)
class Stages:
    """The three stages of a classifier, the head in two parts.

    Args:
        frontend: From waveforms to frames.
        encoder: From frames to layers.
        mix_weights: Weights of the layer mix, the head's first step, which is linear.
        classify_mixed: From mixed layers to logits, the rest of the head.
    """

    frontend: StageFunction
    encoder: StageFunction
    mix_weights: Float[Tensor, " layer"]
    classify_mixed: Score

    def mix(self, layers: Float[Tensor, "draws layer time hidden"]) -> Float[Tensor, "draws time hidden"]:
        """Weighted sum of the layers."""
        return torch.einsum("l,dlth->dth", self.mix_weights, layers)

    def from_layers(self, layers: Float[Tensor, "draws layer time hidden"]) -> Float[Tensor, "draws classes"]:
        """Logits from layers."""
        return self.classify_mixed(self.mix(layers))

    def from_frames(self, frames: Float[Tensor, "draws time channels"]) -> Float[Tensor, "draws classes"]:
        """Logits from frames."""
        return self.from_layers(self.encoder(frames))

    def from_waveforms(self, waveforms: Float[Tensor, "draws samples"]) -> Float[Tensor, "draws classes"]:
        """Logits from waveforms."""
        return self.from_frames(self.frontend(waveforms))

    @torch.no_grad()
    def begin(self, stage: Stage, waveform: Float[Tensor, " samples"], baselines: Baselines) -> StageInput:
        """Input of a stage for a clip and its baselines.

        Args:
            stage: Stage at whose input the path begins.
            waveform: The clip, on the device of the classifier.
            baselines: Waveforms, on any device.
        """
        moved = baselines.through(lambda values: values.to(waveform))
        if stage == "waveform":
            return StageInput(waveform, self.from_waveforms, moved)
        frames, moved = self.frontend(waveform[None]), moved.through(self.frontend)
        if stage == "frames":
            return StageInput(frames[0], self.from_frames, moved)
        # The mix is linear: gradients are taken after it, where a tensor is smaller by the number of layers.
        score = layer_mix(self.mix_weights, self.classify_mixed)
        return StageInput(self.encoder(frames)[0], score, moved.through(self.encoder))


def open_stages(classifier: EmotionClassifier, precision: Precision | None = None) -> Stages:
    """Stages of a classifier, which is not changed.

    Without gradients, each row goes through frontend and encoder once: baselines are encoded once for all
    stages, targets and diagnostics.

    Args:
        classifier: The classifier.
        precision: Precision of the backbone; its own if None.
    """
    backbone = classifier.backbone
    if precision is not None and precision != backbone.settings.precision:
        backbone = copy(backbone)  # the same weights, under other settings
        backbone.settings = replace(backbone.settings, precision=precision)
    return Stages(
        MemoizedStage(backbone.frontend),
        MemoizedStage(backbone.encoder),
        classifier.head.mix.weights().detach(),
        _after_mix(classifier.head),
    )


def _after_mix(head: EmotionHead) -> Score:
    """The rest of a head after its mix, which pools all frames."""

    def score(mixed: Float[Tensor, "draws time hidden"]) -> Float[Tensor, "draws classes"]:
        everywhere = torch.ones(mixed.shape[:2], dtype=torch.bool, device=mixed.device)
        return head.mlp(head.pooling(mixed, everywhere))

    return score


class MemoizedStage:
    """A stage that keeps its results without gradients, for rows that come again.

    Args:
        stage: The stage; each row of its result must depend on that row of its argument alone.
        max_rows: Results that are kept at most.
    """

    def __init__(self, stage: StageFunction, max_rows: int = MAX_MEMOIZED) -> None:
        self._stage = stage
        self._max_rows = max_rows
        self._known: dict[bytes, Tensor] = {}
        self._num_bytes = 0

    def __call__(self, rows: Tensor) -> Tensor:
        """Results of the stage, row by row."""
        if rows.requires_grad and torch.is_grad_enabled():
            return self._stage(rows)
        keys = [_digest(row) for row in rows]
        found = {key: self._known[key] for key in keys if key in self._known}
        unknown = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
        found |= self._compute(unknown)
        return torch.stack([found[key] for key in keys])

    def _compute(self, unknown: dict[bytes, Tensor]) -> dict[bytes, Tensor]:
        keys, rows = list(unknown), list(unknown.values())
        results: dict[bytes, Tensor] = {}
        for start in range(0, len(keys), ENCODED_AT_ONCE):
            block = slice(start, start + ENCODED_AT_ONCE)
            results |= dict(zip(keys[block], self._stage(torch.stack(rows[block])), strict=True))
        for key, result in results.items():
            size = result.numel() * result.element_size()
            if len(self._known) < self._max_rows and self._num_bytes + size <= MAX_MEMOIZED_BYTES:
                self._known[key] = result.clone()  # a view would keep the whole block
                self._num_bytes += size
        return results


def _digest(row: Tensor) -> bytes:
    return blake2b(row.detach().cpu().contiguous().view(torch.uint8).numpy().data, digest_size=16).digest()
