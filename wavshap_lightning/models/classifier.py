"""The emotion classifier: a backbone and a head, as three stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from huggingface_hub.errors import HfHubHTTPError
from jaxtyping import Float, Int
from torch import Tensor, nn

from wavshap_lightning.errors import CheckpointError, ModelError, SettingError, first_line
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.card import write_card
from wavshap_lightning.models.checkpoint import load_trained_state, trained_state
from wavshap_lightning.models.head import EmotionHead, HeadSettings, Outputs, Task, ToScale
from wavshap_lightning.models.hub import check_folder, check_repository, read_export, write_export
from wavshap_lightning.models.pretrained import Source
from wavshap_lightning.models.record import ClassifierRecord, TrainingProvenance


class EmotionClassifier(nn.Module, PyTorchModelHubMixin):
    """A classifier of waveforms, in three stages that can be called one by one.

    `waveform --frontend--> frames --encoder--> layers --head--> logits`

    Args:
        backbone: The speech backbone.
        labels: Names of the outputs, in their order: classes, labels or dimensions. Or the outputs of one
            task or several, whose logits stand one after the other.
        head: Settings of the head.
        task: Meaning of outputs of which names alone are given.
        provenance: Split, versions and scores of its training.

    Attributes:
        outputs: Outputs of all tasks.
        labels: Names of the outputs of the first task.
        task: The first task.
        warnings: Doubts about it that came up when it was opened; explanations repeat them.

    Raises:
        SettingError: If the outputs of a task make no sense (see `Outputs`), or a task is there twice.
    """

    def __init__(
        self,
        backbone: SpeechBackbone,
        labels: Sequence[str] | Sequence[Outputs],
        head: HeadSettings | None = None,
        *,
        task: Task = "classes",
        provenance: TrainingProvenance | None = None,
    ) -> None:
        super().__init__()
        given = tuple(one for one in labels if isinstance(one, Outputs))
        self.outputs = given or (Outputs(task, tuple(map(str, labels))),)
        if len({one.task for one in self.outputs}) < len(self.outputs):
            raise SettingError(f"tasks={[one.task for one in self.outputs]} must be different tasks")
        self.labels, self.task = self.outputs[0].labels, self.outputs[0].task
        self.provenance = provenance or TrainingProvenance()
        self.warnings: tuple[str, ...] = ()
        self.backbone = backbone
        self._hub_mixin_config = None  # the mixin would write a config.json, which is transformers' file
        num_outputs = sum(len(one.labels) for one in self.outputs)
        self.head = EmotionHead(backbone.num_layers, backbone.hidden_size, num_outputs, head)
        if any(one.scale for one in self.outputs):
            self.head.mlp.append(ToScale(self.outputs))

    @classmethod
    def from_record(
        cls,
        record: ClassifierRecord,
        state: Mapping[str, Tensor],
        *,
        backbone: str | PathLike[str] | None = None,
    ) -> EmotionClassifier:
        """Build the classifier that a record describes, in evaluation mode on the CPU.

        Args:
            record: All but the weights.
            state: What [`trained_state`][wavshap_lightning.models.checkpoint.trained_state] gave.
            backbone: Where the backbone is now; None for the recorded name.

        Raises:
            CheckpointError: If the two do not fit together, or the backbone found under the recorded name is
                not the one it was trained on.
            ModelError: If the backbone cannot be opened.
        """
        settings = record.backbone
        if backbone is not None:
            settings = replace(settings, name=str(backbone), revision=None)
        try:
            with torch.random.fork_rng(devices=[]):  # the head's first weights are drawn, then replaced
                opened = SpeechBackbone(settings)
                classifier = cls(opened, record.outputs, record.head, provenance=record.provenance)
        except ModelError as error:
            raise ModelError(
                f"{error}. If the backbone of this classifier is in another folder now, give that folder: "
                "--backbone DIR, in Python backbone=DIR"
            ) from error
        except (TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(f"the record does not describe a classifier: {error}") from error
        classifier.check_backbone(record)
        load_trained_state(classifier, state)
        return classifier.float().eval()

    @property
    def record(self) -> ClassifierRecord:
        """All about the classifier but its weights.

        Raises:
            SettingError: If no settings describe its head.
        """
        if not self.head.described:
            raise SettingError(
                f"model={self.backbone.settings.name}: heads of other projects are explained, not exported"
            )
        return ClassifierRecord(
            labels=list(self.labels),
            sample_rate=self.sample_rate,
            backbone=self.backbone.settings,
            backbone_fingerprint=self.backbone.fingerprint,
            head=self.head.settings,
            **asdict(self.provenance),
            task=self.task,
            outputs=self.outputs,
        )

    def part(self, name: str) -> EmotionClassifier:
        """The classifier of one task, which shares backbone and weights with this one.

        Args:
            name: A task, an output, or a margin between two outputs; of other names the first task is taken.
        """
        if len(self.outputs) == 1:
            return self
        named = ({one.task, *one.labels} & {name, *name.split("-vs-")} for one in self.outputs)
        place = next((index for index, found in enumerate(named) if found), 0)
        one, start = self.outputs[place], sum(len(before.labels) for before in self.outputs[:place])
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, then replaced
            part = EmotionClassifier(self.backbone, [one], self.head.settings, provenance=self.provenance)
        part.warnings = self.warnings
        part.head.mix, part.head.pooling = self.head.mix, self.head.pooling
        mlp, rows = self.head.mlp, slice(start, start + len(one.labels))
        place = len(mlp) - (2 if isinstance(mlp[-1], ToScale) else 1)  # of the last linear layer
        part.head.mlp = nn.Sequential(*[*mlp][:place], *[*part.head.mlp][place:])
        for kind, weights in mlp[place].named_parameters():
            setattr(part.head.mlp[place], kind, nn.Parameter(weights.detach()[rows], weights.requires_grad))
        return part.to(weights.device).train(self.training)

    def check_backbone(self, record: ClassifierRecord) -> None:
        """Compare the backbone with the recorded one.

        Args:
            record: Of a classifier trained on it, supposedly.

        Raises:
            CheckpointError: If they differ; the message names both.
        """
        own, recorded = self.backbone.settings, record.backbone
        if self.backbone.fingerprint != record.backbone_fingerprint:
            raise CheckpointError(
                f"the checkpoint was trained on backbone={recorded.name!r} revision={recorded.revision!r} "
                f"fingerprint={record.backbone_fingerprint[:12]}, but backbone={own.name!r} "
                f"revision={own.revision!r} has fingerprint={self.backbone.fingerprint[:12]}; "
                "use the same weights"
            )

    @classmethod
    def from_pretrained(  # type: ignore[override] # the mixin's would look for a config.json first
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        revision: str | None = None,
        backbone: str | PathLike[str] | None = None,
    ) -> EmotionClassifier:
        """Open what `save_pretrained` or `push_to_hub` wrote, in evaluation mode on the CPU.

        [`load_classifier`][wavshap_lightning.models.loading.load_classifier] opens checkpoints, runs and
        models of transformers as well.

        Args:
            pretrained_model_name_or_path: A folder, or `"user/name"` on the Hub.
            revision: The commit, tag or branch of a repository on the Hub.
            backbone: Where the backbone is now; None for the recorded name.

        Raises:
            CheckpointError: If it is damaged, or belongs to another backbone.
            ModelError: If it does not exist, or its backbone cannot be opened.
        """
        source = Source(str(pretrained_model_name_or_path), revision, "model")
        return cls.from_record(*read_export(source), backbone=backbone)

    def save_pretrained(
        self,
        save_directory: str | PathLike[str],
        *,
        title: str | None = None,
        license: str | None = None,  # noqa: A002 - the Hub's word
        **options: Any,  # noqa: ANN401 - the mixin's
    ) -> str | None:
        """Write `model.safetensors`, `classifier.json` and a model card.

        Equal classifiers give equal bytes. The backbone is not written; its name and fingerprint are.

        Args:
            save_directory: A new folder, or that of an earlier export, which is replaced.
            title: Title of the model card; the folder's name if None.
            license: License identifier of the Hub, such as `"cc-by-nc-sa-4.0"`; omitted if None.
            options: Other arguments of huggingface_hub's `ModelHubMixin.save_pretrained`.

        Returns:
            The address of the commit with `push_to_hub=True`, else None.

        Raises:
            SettingError: If the folder holds other files or cannot be written, or no settings describe
                the head.
        """
        self.record.to_dict()  # an error must come before anything is written
        folder = Path(save_directory).expanduser()
        check_folder(folder)
        name = folder.resolve().name
        given = {"title": title, "license": license, **(options.pop("model_card_kwargs", None) or {})}
        card = {
            "title": given["title"] or name,
            "license": given["license"],
            "place": given.get("place", name),
        }
        try:
            return super().save_pretrained(folder, model_card_kwargs=card, **options)
        except OSError as error:
            raise SettingError(
                f"folder={folder} cannot be written: {error.strerror or error}; give another folder"
            ) from error

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = True,
        title: str | None = None,
        license: str | None = None,  # noqa: A002 - the Hub's word
        **options: Any,  # noqa: ANN401 - the mixin's
    ) -> str:
        """Export to a repository on the Hub, which is created if there is none.

        Args:
            repo_id: `"user/name"`.
            private: Create a private repository; an existing one keeps its visibility.
            title: Title of the model card; the repository's name if None.
            license: License identifier of the Hub, such as `"cc-by-nc-sa-4.0"`; omitted if None.
            options: Other arguments of huggingface_hub's `ModelHubMixin.push_to_hub`, such as
                `commit_message`, `token`, `branch` and `create_pr`.

        Returns:
            The address of the commit.

        Raises:
            SettingError: If the repository holds other files, the backbone is a local folder, or no settings
                describe its head.
            ModelError: If the Hub refuses or cannot be reached.
        """
        self.record.to_dict()  # an error must come before anything is written
        if Path(self.backbone.settings.name).expanduser().exists():
            raise SettingError(
                f"backbone={self.backbone.settings.name!r} is a folder of this machine, without which nobody "
                "else can open the classifier; publish it too, and give its name on the Hub: "
                "classifier.backbone.rename('user/name'), or --backbone"
            )
        card = {"title": title or repo_id, "license": license, "place": repo_id}
        try:
            check_repository(repo_id, options.get("token"))
            return super().push_to_hub(repo_id, private=private, model_card_kwargs=card, **options)
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise ModelError(
                f"repo_id={repo_id!r} could not be written: {first_line(error)}; check the name and the "
                "network, and with 'hf auth whoami' who is logged in"
            ) from error

    def generate_model_card(self, *args: Any, **options: Any) -> ModelCard:  # noqa: ANN401 - the mixin's
        """Fill the model card; see [`write_card`][wavshap_lightning.models.card.write_card]."""
        return write_card(self.record, *args, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        write_export(save_directory, self.record, trained_state(self))

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages to whose input a score can be attributed."""
        return self.backbone.stages

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
    ) -> Float[Tensor, "batch layer step hidden"]:
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
