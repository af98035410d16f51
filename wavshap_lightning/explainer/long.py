"""Whether a recording is too long to be taken in one piece."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stages import open_stages
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier

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
    if "layers" not in settings.views or num_frames * frame_bytes <= MAX_LAYERS_BYTES:
        return
    duration_s = num_samples / backbone.sample_rate
    longest_s = MAX_LAYERS_BYTES // frame_bytes * backbone.frame_grid.hop_samples / backbone.sample_rate
    raise SettingError(
        f"views={list(settings.views)}: all layers of {duration_s:.0f} s take "
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
