"""The emotion classifier: a backbone and a head, as three stages."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.head import EmotionHead, HeadSettings
from wavshap_lightning.models.record import TrainingProvenance


class EmotionClassifier(nn.Module):
    """Waveforms to logits, in three stages that can be called one by one.

    `waveform --frontend--> frames --encoder--> layers --head--> logits`

    Args:
        backbone: The speech backbone.
        labels: The classes, in the order of the logits.
        head: The head's shape.
        provenance: Where it comes from.

    Raises:
        SettingError: If there are fewer than two labels, or one stands twice.
    """

    def __init__(
        self,
        backbone: SpeechBackbone,
        labels: Sequence[str],
        head: HeadSettings | None = None,
        *,
        provenance: TrainingProvenance | None = None,
    ) -> None:
        super().__init__()
        if len(set(labels)) != len(labels):
            raise SettingError(f"labels={list(labels)} names a class twice; name each once")
        self.labels = tuple(labels)
        self.provenance = provenance or TrainingProvenance()
        self.backbone = backbone
        self.head = EmotionHead(backbone.num_layers, backbone.hidden_size, len(labels), head)

    def export(self, folder: str | PathLike[str], **options: Any) -> Path:  # noqa: ANN401 - as there
        """Write the weights, the record and the model card.

        Args:
            folder: Where to.
            options: Title, license and the other arguments of
                [`export_classifier`][wavshap_lightning.models.hub.export_classifier].

        Raises:
            SettingError: If the folder holds something else or cannot be written, or the scores
                cannot be read.
        """
        from wavshap_lightning.models.hub import export_classifier  # noqa: PLC0415 - it builds on this

        return export_classifier(self, folder, **options)

    def push_to_hub(self, repo_id: str, *, private: bool = True, **options: Any) -> str:  # noqa: ANN401
        """Export to a repository on the Hub; returns the address of the commit.

        Args:
            repo_id: `"user/name"`.
            private: Make a new repository visible to its owner alone.
            options: Title, license and the other arguments of
                [`push_classifier`][wavshap_lightning.models.hub.push_classifier].

        Raises:
            WavshapError: If the repository holds something else, the backbone is a local folder, or the Hub
                refuses.
        """
        from wavshap_lightning.models.hub import push_classifier  # noqa: PLC0415 - it builds on this

        return push_classifier(self, repo_id, private=private, **options)

    @property
    def sample_rate(self) -> int:
        """Samples per second of the waveforms."""
        return self.backbone.sample_rate

    def frontend(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch time channels"]:
        """First stage; see `SpeechBackbone.frontend`."""
        return self.backbone.frontend(waveforms, lengths)

    def encoder(
        self, frames: Float[Tensor, "batch time channels"], num_frames: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch layer time hidden"]:
        """Second stage; see `SpeechBackbone.encoder`."""
        return self.backbone.encoder(frames, num_frames)

    def forward(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits of each clip.

        Args:
            waveforms: Clips in [-1, 1] at `sample_rate`, zero-padded at the end.
            lengths: Valid samples of each clip; all of them if None.
        """
        num_frames = None if lengths is None else self.backbone.num_frames(lengths)
        return self.head(self.encoder(self.frontend(waveforms, lengths), num_frames), num_frames)
