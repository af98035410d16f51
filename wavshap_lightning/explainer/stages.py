"""The stages of a classifier as functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines
from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.attribution.views.layers import layer_mix
from wavshap_lightning.explainer.settings import Precision, Stage
from wavshap_lightning.models.classifier import EmotionClassifier

# As many baselines as there are draws by default, the clip, and a few for diagnostics.
MAX_MEMOIZED = 72
MAX_MEMOIZED_BYTES = 2**29
ENCODED_AT_ONCE = 8


class Stages:
    """The three stages of a classifier, which is not changed, as functions of one tensor.

    Without gradients, each row goes through frontend and encoder once: baselines are encoded once for all
    stages, targets and diagnostics.

    Args:
        classifier: The classifier.
        precision: Precision of the backbone; its own if None.
    """

    def __init__(self, classifier: EmotionClassifier, precision: Precision | None = None) -> None:
        backbone = classifier.backbone
        if precision is not None and precision != backbone.settings.precision:
            backbone = copy(backbone)  # the same weights, under other settings
            backbone.settings = replace(backbone.settings, precision=precision)
        self.frontend = MemoizedStage(backbone.frontend)
        self.encoder = MemoizedStage(backbone.encoder)
        self.mix_weights = classifier.head.mix.weights().detach()
        self._head = classifier.head

    def mix(self, layers: Float[Tensor, "draws layer time hidden"]) -> Float[Tensor, "draws time hidden"]:
        """Weighted sum of the layers, the first step of the head, which is linear."""
        return torch.einsum("l,dlth->dth", self.mix_weights, layers)

    def pool(self, mixed: Float[Tensor, "draws time hidden"]) -> Float[Tensor, "draws features"]:
        """Features of a clip, from all its mixed frames."""
        everywhere = torch.ones(mixed.shape[:2], dtype=torch.bool, device=mixed.device)
        return self._head.pooling(mixed, everywhere)

    def from_mixed(self, mixed: Float[Tensor, "draws time hidden"]) -> Float[Tensor, "draws classes"]:
        """Logits from mixed layers: the rest of the head."""
        return self._head.mlp(self.pool(mixed))

    def from_frames(self, frames: Float[Tensor, "draws time channels"]) -> Float[Tensor, "draws classes"]:
        """Logits from frames."""
        return self.from_mixed(self.mix(self.encoder(frames)))

    def from_waveforms(self, waveforms: Float[Tensor, "draws samples"]) -> Float[Tensor, "draws classes"]:
        """Logits from waveforms."""
        return self.from_frames(self.frontend(waveforms))

    def score(self, stage: Stage) -> Score:
        """Logits as a function of the input of a stage."""
        match stage:
            case "waveform":
                return self.from_waveforms
            case "frames":
                return self.from_frames
            case "layers":
                # Gradients are taken after the mix, where a tensor is smaller by the number of layers.
                return layer_mix(self.mix_weights, self.from_mixed)

    @torch.no_grad()
    def begin(
        self, stage: Stage, waveform: Float[Tensor, " samples"], baselines: Baselines
    ) -> tuple[Tensor, Baselines]:
        """A clip and its baselines at the input of a stage, where a path begins.

        Args:
            stage: The stage.
            waveform: The clip, on the device of the classifier.
            baselines: Waveforms, on any device.
        """
        moved = baselines.through(lambda values: values.to(waveform))
        if stage == "waveform":
            return waveform, moved
        frames, moved = self.frontend(waveform[None]), moved.through(self.frontend)
        if stage == "frames":
            return frames[0], moved
        return self.encoder(frames)[0], moved.through(self.encoder)


class MemoizedStage:
    """A stage that caches its results without gradients, for rows that are evaluated again.

    Args:
        stage: The stage; each row of its result must depend on that row of its argument alone.
    """

    def __init__(self, stage: Callable[[Tensor], Tensor]) -> None:
        self._stage = stage
        self._known: dict[bytes, Tensor] = {}
        self._num_bytes = 0

    def __call__(self, rows: Tensor) -> Tensor:
        """Results of the stage, row by row."""
        if rows.requires_grad and torch.is_grad_enabled():
            return self._stage(rows)
        keys = [_digest(row) for row in rows]
        found = {key: self._known[key] for key in keys if key in self._known}
        unknown = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
        for start in range(0, len(unknown), ENCODED_AT_ONCE):
            block = list(unknown)[start : start + ENCODED_AT_ONCE]
            results = self._stage(torch.stack([unknown[key] for key in block]))
            found |= zip(block, results, strict=True)
        for key in unknown:
            self._keep(key, found[key])
        return torch.stack([found[key] for key in keys])

    def _keep(self, key: bytes, result: Tensor) -> None:
        if len(self._known) < MAX_MEMOIZED and self._num_bytes + result.nbytes <= MAX_MEMOIZED_BYTES:
            self._known[key] = result.clone()  # a view would keep the whole block
            self._num_bytes += result.nbytes


def _digest(row: Tensor) -> bytes:
    return blake2b(row.detach().cpu().contiguous().view(torch.uint8).numpy().data, digest_size=16).digest()
