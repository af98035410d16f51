"""Whether a recording is too long to be taken in one piece."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.backbone import Precision, SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import EmotionHead
from wavshap_lightning.models.long import LongBackbone

StageFunction = Callable[[Tensor], Tensor]

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
        mixed: Frames to mixed layers at once, where there is no memory for all layers.
    """

    frontend: StageFunction
    encoder: StageFunction
    mix_weights: Float[Tensor, " layer"]
    classify_mixed: Score
    mixed: StageFunction | None = None

    def mix(self, layers: Float[Tensor, "draws layer time hidden"]) -> Float[Tensor, "draws time hidden"]:
        """The head's first step."""
        return torch.einsum("l,dlth->dth", self.mix_weights, layers)

    def from_layers(self, layers: Float[Tensor, "draws layer time hidden"]) -> Float[Tensor, "draws classes"]:
        """Logits from layers."""
        return self.classify_mixed(self.mix(layers))

    def from_frames(self, frames: Float[Tensor, "draws time channels"]) -> Float[Tensor, "draws classes"]:
        """Logits from frames."""
        if self.mixed is not None:
            return self.classify_mixed(self.mixed(frames))
        return self.from_layers(self.encoder(frames))

    def from_waveforms(self, waveforms: Float[Tensor, "draws samples"]) -> Float[Tensor, "draws classes"]:
        """Logits from waveforms."""
        return self.from_frames(self.frontend(waveforms))


def open_stages(
    classifier: EmotionClassifier, precision: Precision | None = None, window_frames: int | None = None
) -> Stages:
    """The stages of a classifier, which stays as it is.

    Baselines go through frontend and encoder once, however many paths begin at them.

    Args:
        classifier: Whose.
        precision: How its backbone runs; as it always does if None.
        window_frames: Frames of a window, for recordings too long to be taken in one piece.
    """
    backbone = classifier.backbone
    if precision is not None and precision != backbone.settings.precision:
        backbone = _at_precision(backbone, precision)
    weights = classifier.head.mix.weights().detach()
    if window_frames is not None:
        return _of_long(LongBackbone(backbone, window_frames), weights, classifier.head)
    return Stages(
        Remembering(backbone.frontend), Remembering(backbone.encoder), weights, _after_mix(classifier.head)
    )


def _of_long(backbone: LongBackbone, weights: Float[Tensor, " layer"], head: EmotionHead) -> Stages:
    return Stages(
        Remembering(backbone.frontend, at_once=1),
        Remembering(backbone.encoder, at_once=1),
        weights,
        _after_mix(head),
        mixed=Remembering(lambda frames: backbone.mixed(frames, weights), at_once=1),
    )


def _after_mix(head: EmotionHead) -> Score:
    """The rest of a head after its mix, which pools all frames."""

    def score(mixed: Float[Tensor, "draws time hidden"]) -> Float[Tensor, "draws classes"]:
        everywhere = torch.ones(mixed.shape[:2], dtype=torch.bool, device=mixed.device)
        return head.mlp(head.pooling(mixed, everywhere))

    return score


def _at_precision(backbone: SpeechBackbone, precision: Precision) -> SpeechBackbone:
    """The same weights, run at another precision; the given backbone is not touched."""
    other = copy(backbone)
    other.settings = replace(backbone.settings, precision=precision)
    return other


class Remembering:
    """A stage that remembers what it gave without gradients, for rows that come again.

    Args:
        stage: Each row of its result must depend on that row of its argument alone.
        at_once: Rows it is given at once.
    """

    def __init__(self, stage: StageFunction, at_once: int = ENCODED_AT_ONCE) -> None:
        self._stage = stage
        self._at_once = at_once
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
        # a single row, which may hold gigabytes, is not copied
        return found[keys[0]][None] if len(keys) == 1 else torch.stack([found[key] for key in keys])

    def _compute(self, unknown: dict[bytes, Tensor]) -> dict[bytes, Tensor]:
        keys, rows = list(unknown), list(unknown.values())
        results: dict[bytes, Tensor] = {}
        for start in range(0, len(keys), self._at_once):
            part = slice(start, start + self._at_once)
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


LONG_S = 30.0
"""A longer recording is taken piece by piece unless something else was asked for."""

WINDOW_S = 10.0
"""Of a window then, at most."""

MAX_LAYERS_BYTES = 2**29
"""Of all layers of a recording in single precision, of which the path from them holds half a dozen copies."""


def window_frames(settings: ExplainSettings, grid: FrameGrid, num_samples: int) -> int | None:
    """Frames of a window; None where the recording goes through the backbone in one piece.

    Args:
        settings: What was asked for.
        grid: Of the backbone.
        num_samples: Length of the recording.
    """
    longest_s = LONG_S if settings.window_s is None else settings.window_s
    if num_samples <= longest_s * grid.sample_rate:
        return None
    window_s = min(WINDOW_S, longest_s) if settings.window_s is None else settings.window_s
    return max(1, int(window_s * grid.sample_rate / grid.hop_samples))


def check_layers_fit(settings: ExplainSettings, backbone: SpeechBackbone, num_samples: int) -> None:
    """Refuse the path from the layers where it would hold gigabytes several times over.

    Raises:
        SettingError: If all layers of the recording take more than half a gigabyte.
    """
    frame_bytes = 4 * backbone.num_layers * backbone.hidden_size
    num_frames = backbone.frame_grid.num_frames(num_samples)
    if "layers" not in settings.stages or num_frames * frame_bytes <= MAX_LAYERS_BYTES:
        return
    duration_s = num_samples / backbone.sample_rate
    longest_s = MAX_LAYERS_BYTES // frame_bytes * backbone.frame_grid.hop_samples / backbone.sample_rate
    raise SettingError(
        f"stages={list(settings.stages)}: all layers of {duration_s:.0f} s take "
        f"{num_frames * frame_bytes / 1e9:.1f} GB, and the path that begins at them holds several copies; "
        f"leave 'layers' out, or explain at most "
        f"{longest_s:.0f} s at a time"
    )


@torch.no_grad()
def logits_of(
    classifier: EmotionClassifier,
    waveform: Float[Tensor, " samples"],
    settings: ExplainSettings | None = None,
) -> Float[Tensor, " classes"]:
    """What a classifier says of a recording, however long it is.

    Args:
        classifier: Which; it must be in evaluation mode.
        waveform: The recording, where the classifier computes.
        settings: How it would be explained; as always if None.
    """
    grid = classifier.backbone.frame_grid
    frames = window_frames(settings or ExplainSettings(), grid, len(waveform))
    if frames is None:
        return classifier(waveform[None])[0]
    return open_stages(classifier, window_frames=frames).from_waveforms(waveform[None])[0]
