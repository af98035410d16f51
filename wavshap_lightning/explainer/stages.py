"""A classifier's stages as the engine takes them: functions of one tensor, at a precision of one's choice."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.models.backbone import Precision, SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier

Stage = Callable[[Tensor], Tensor]

MAX_REMEMBERED = 72
"""Rows a stage remembers: as many baselines as there are draws by default, and the clip."""

MAX_REMEMBERED_BYTES = 2**29
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class Stages:
    """The three stages, the last one in two parts.

    Args:
        frontend: Waveforms to frames.
        encoder: Frames to layers.
        mix_weights: What the head weighs the layers with: its first step, which is linear.
        classify_mixed: Mixed layers to logits: the rest of the head.
    """

    frontend: Stage
    encoder: Stage
    mix_weights: Float[Tensor, " layer"]
    classify_mixed: Stage

    def mix(self, layers: Float[Tensor, "draws layer time hidden"]) -> Float[Tensor, "draws time hidden"]:
        """The head's first step."""
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


def open_stages(classifier: EmotionClassifier, precision: Precision | None = None) -> Stages:
    """The stages of a classifier, which stays as it is.

    Baselines go through frontend and encoder once, however many paths begin at them.

    Args:
        classifier: Whose.
        precision: How its backbone runs; as it always does if None.
    """
    backbone, head = classifier.backbone, classifier.head
    if precision is not None and precision != backbone.settings.precision:
        backbone = _at_precision(backbone, precision)

    def classify_mixed(mixed: Float[Tensor, "draws time hidden"]) -> Float[Tensor, "draws classes"]:
        everywhere = torch.ones(mixed.shape[:2], dtype=torch.bool, device=mixed.device)
        return head.mlp(head.pooling(mixed, everywhere))

    return Stages(
        Remembering(backbone.frontend),
        Remembering(backbone.encoder),
        head.mix.weights().detach(),
        classify_mixed,
    )


def _at_precision(backbone: SpeechBackbone, precision: Precision) -> SpeechBackbone:
    """The same weights, run at another precision; the given backbone is not touched."""
    other = copy(backbone)
    other.settings = replace(backbone.settings, precision=precision)
    return other


class Remembering:
    """A stage that remembers what it gave without gradients, for rows that come again.

    Args:
        stage: Each row of its result must depend on that row of its argument alone.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._known: dict[bytes, Tensor] = {}
        self._num_bytes = 0

    def __call__(self, rows: Tensor) -> Tensor:
        """What the stage gives."""
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
            part = slice(start, start + ENCODED_AT_ONCE)
            results |= dict(zip(keys[part], self._stage(torch.stack(rows[part])), strict=True))
        for key, result in results.items():
            self._remember(key, result)
        return results

    def _remember(self, key: bytes, result: Tensor) -> None:
        size = result.numel() * result.element_size()
        if len(self._known) < MAX_REMEMBERED and self._num_bytes + size <= MAX_REMEMBERED_BYTES:
            self._known[key] = result.clone()
            self._num_bytes += size


def _digest(row: Tensor) -> bytes:
    return blake2b(row.detach().cpu().contiguous().view(torch.uint8).numpy().data, digest_size=16).digest()
