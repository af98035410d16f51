"""The stages of a classifier as functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines
from wavshap_lightning.attribution.estimation.problem import Score, checked_logits
from wavshap_lightning.attribution.views.layers import layer_mix
from wavshap_lightning.explainer.settings import PrecisionChoice, Stage
from wavshap_lightning.models.backbone import Precision
from wavshap_lightning.models.classifier import EmotionClassifier

# As many baselines as there are draws by default, the clip, and a few for diagnostics.
MAX_MEMOIZED = 72
MAX_MEMOIZED_BYTES = 2**29
# So many bytes are kept of any number of rows: logits, and the frames of a few hundred short clips.
FREE_BYTES = 2**26
ENCODED_AT_ONCE = 8

# Precisions in which a classifier was found to give each clip of a batch the logits that it has alone.
_CHECKED: WeakKeyDictionary[EmotionClassifier, set[Precision]] = WeakKeyDictionary()


class Stages:
    """The three stages of a classifier, which is not changed, as functions of one tensor.

    Without gradients, each row goes through frontend and encoder once: baselines are encoded and classified
    once for all stages, targets and diagnostics.

    Args:
        classifier: The classifier.
        precision: Precision of the backbone; its own if None, `"fp32"` if `"auto"`.
    """

    def __init__(self, classifier: EmotionClassifier, precision: PrecisionChoice | None = None) -> None:
        backbone, precision = classifier.backbone, "fp32" if precision == "auto" else precision
        if precision is not None and precision != backbone.settings.precision:
            backbone = copy(backbone)  # the same weights, under other settings
            backbone.settings = replace(backbone.settings, precision=precision)
        self.frontend = MemoizedStage(backbone.frontend)
        self.encoder = MemoizedStage(backbone.encoder)
        encoder, head = self.encoder, classifier.head  # without self, so that all is freed as soon as it is
        self.from_frames = MemoizedStage(lambda frames: head(encoder(frames)))
        self.mix_weights = head.mix.weights().detach()
        self._classifier, self._backbone, self._head = classifier, backbone, head

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

    def from_waveforms(self, waveforms: Float[Tensor, "draws samples"]) -> Float[Tensor, "draws classes"]:
        """Logits from waveforms."""
        return self.from_frames(self.frontend(waveforms))

    def score(self, stage: Stage) -> Score:
        """Logits as a function of the input of a stage."""
        if stage == "layers":
            # Gradients are taken after the mix, where a tensor is smaller by the number of layers.
            return layer_mix(self.mix_weights, self.from_mixed)
        return self.from_waveforms if stage == "waveform" else self.from_frames

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
        return self.encoder(frames)[0], moved.through(self._encode)

    def _encode(
        self, frames: Float[Tensor, "draws time channels"]
    ) -> Float[Tensor, "draws layer time hidden"]:
        """The layers, of which the logits are kept even where there are too many to keep them all."""
        layers = self.encoder(frames)
        self.from_frames.keep(frames, self._head(layers))
        return layers

    @torch.no_grad()
    def logits(self, waveform: Float[Tensor, " samples"]) -> Float[Tensor, " classes"]:
        """Logits of a clip, with a check that neither chance nor the rest of a batch changes them.

        The check is done once for a classifier and a precision, past the memory of the stages. Once is
        enough: no batch of an explanation has padding, whatever the length of the clip, and weights bring no
        chance in.

        Raises:
            AttributionError: If the logits are not finite, or change.
        """
        checked, precision = _CHECKED.setdefault(self._classifier, set()), self._backbone.settings.precision
        if precision not in checked:
            checked_logits(lambda waveforms: self._head(self._backbone(waveforms)), waveform)
            checked.add(precision)
        return self.from_waveforms(waveform[None])[0]


class MemoizedStage:
    """A stage that caches its results without gradients, for rows that are evaluated again.

    Args:
        stage: The stage; each row of its result must depend on that row of its argument alone.
    """

    def __init__(self, stage: Callable[[Tensor], Tensor]) -> None:
        self._stage = stage
        self._known: dict[int, Tensor] = {}
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
            found |= zip(block, self._stage(torch.stack([unknown[key] for key in block])), strict=True)
        for key in unknown:
            self._keep(key, found[key])
        return torch.stack([found[key] for key in keys])

    def keep(self, rows: Tensor, results: Tensor) -> None:
        """Keep results that were found in another way."""
        for row, result in zip(rows, results, strict=True):
            self._keep(_digest(row), result)

    def _keep(self, key: int, result: Tensor) -> None:
        limit = MAX_MEMOIZED_BYTES if len(self._known) < MAX_MEMOIZED else FREE_BYTES
        if self._num_bytes + result.nbytes <= limit:
            self._known[key] = result.clone()  # a view would keep the whole block
            self._num_bytes += result.nbytes


def _digest(row: Tensor) -> int:
    return hash(row.detach().cpu().numpy().tobytes())
