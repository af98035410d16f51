"""Record of a classifier: all that is known of it but its weights, in plain JSON types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from wavshap_lightning.errors import CheckpointError
from wavshap_lightning.models.backbone import BackboneSettings
from wavshap_lightning.models.head import HeadSettings, Outputs, Task

FORMAT_VERSION = 1
LEFT_OUT: tuple[tuple[str, Any], ...] = ("task", "classes"), ("voice", {})
"""Fields that are not in the file with this value, as before they existed."""


@dataclass(frozen=True)
class TrainingProvenance:
    """Provenance of a classifier, in plain JSON types; empty where it is unknown.

    Args:
        protocol: The split it was trained on, as `Protocol.to_dict()` gives it, with its fold.
        versions: Versions of the libraries that trained it.
        scores: Scores on the test clips (`test`), and those of all folds (`cross_validation`).
        voice: Mean voice of training clips, as `dataclasses.asdict` of
            [`VoiceMeasures`][wavshap_lightning.audio.voice.VoiceMeasures].
    """

    protocol: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    voice: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassifierRecord:
    """Everything about a classifier except its weights.

    Args:
        labels: Names of the outputs, in their order.
        sample_rate: Samples per second of its waveforms.
        backbone: Settings of the backbone.
        backbone_fingerprint: SHA-256 of the backbone's weights and preprocessing.
        head: Settings of the head.
        protocol: See [`TrainingProvenance`][wavshap_lightning.models.record.TrainingProvenance].
        versions: See the same.
        scores: See the same.
        voice: See the same; in files where training measured it.
        task: Meaning of the outputs; not in the files of classifiers of classes, as before it existed.
        outputs: Outputs of all tasks, the first of which has these labels; in files where there are several
            tasks or a scale.
        format_version: Version of this layout.
    """

    labels: list[str]
    sample_rate: int
    backbone: BackboneSettings
    backbone_fingerprint: str
    head: HeadSettings
    protocol: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    voice: dict[str, Any] = field(default_factory=dict)
    task: Task = "classes"
    outputs: tuple[Outputs, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def provenance(self) -> TrainingProvenance:
        """Split, versions, scores and mean voice."""
        return TrainingProvenance(self.protocol, self.versions, self.scores, self.voice)

    def to_dict(self) -> dict[str, Any]:
        """The record in plain JSON types."""
        values = asdict(self)
        if self.backbone.pad_to_window:
            del values["backbone"]["pad_to_window"]  # as before it existed
        if self.outputs == (Outputs(self.task, tuple(self.labels)),):
            del values["outputs"]  # likewise
        return {name: value for name, value in values.items() if (name, value) not in LEFT_OUT}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifierRecord:
        """The record that `to_dict` gave.

        Raises:
            CheckpointError: If it was written by a newer version, or lacks a field.
        """
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"format_version={version!r} is not {FORMAT_VERSION}, which this version reads; "
                "update wavshap-lightning"
            )
        try:
            backbone, head = BackboneSettings(**values["backbone"]), HeadSettings(**values["head"])
            alone = {"task": values.get("task", "classes"), "labels": values["labels"]}
            outputs = tuple(Outputs.from_dict(one) for one in values.get("outputs", [alone]))
            return cls(**{**values, "backbone": backbone, "head": head, "outputs": outputs})
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"the classifier's record is incomplete: {error}") from error
