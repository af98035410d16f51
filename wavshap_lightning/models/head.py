"""The emotion head, which is the trained part: layer mix, pooling over time, a small classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.frontends import valid_mask
from wavshap_lightning.models.pooling import POOLINGS, LayerStatistics, PoolingName, Statistic, drop_frames

Task = Literal["classes", "distribution", "labels", "dimensions"]
"""Meaning of the outputs: logits of classes of which a clip has one (softmax), of classes over which the
votes of its listeners are distributed (softmax), of labels of which it may have several (sigmoid), or values
of dimensions (regression)."""

SOFTMAX_TASKS = ("classes", "distribution")


@dataclass(frozen=True)
class Outputs:
    """Outputs of one task.

    Args:
        task: Their meaning.
        labels: Their names, in order: classes, labels or dimensions.
        scale: Lowest and highest value of dimensions as they are annotated; None if it is unknown.

    Raises:
        SettingError: If there is no such task, there are fewer than two classes, or no output, a name is
            repeated, or the scale is none or not one of dimensions.
    """

    task: Task
    labels: tuple[str, ...]
    scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise SettingError(f"task={self.task!r} must be one of {', '.join(get_args(Task))}")
        fewest, words = (2, "two classes") if self.task in SOFTMAX_TASKS else (1, "one output")
        if len(self.labels) < fewest or len(set(self.labels)) != len(self.labels):
            raise SettingError(f"labels={list(self.labels)} must be {words} or more, each named once")
        if self.scale is not None:
            low, high = self.scale
            if self.task != "dimensions" or not (isfinite(low) and isfinite(high) and low < high):
                raise SettingError(f"scale={self.scale} of {self.task} must be [low, high], of dimensions")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outputs:
        """Outputs from plain JSON types; the scale may be missing."""
        scale = values.get("scale")
        return cls(values["task"], tuple(values["labels"]), scale and tuple(scale))


def logits_to_outputs(logits: Float[Tensor, "*batch outputs"], task: Task) -> Float[Tensor, "*batch outputs"]:
    """Probabilities of classes, which sum to one, or of labels, which need not; values of dimensions.

    >>> logits_to_outputs(torch.tensor([0.0, 0.0, 0.0, 0.0]), "classes")
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    >>> logits_to_outputs(torch.tensor([0.0, 0.0]), "labels")
    tensor([0.5000, 0.5000])
    """
    if task == "dimensions":
        return logits
    return logits.softmax(-1) if task in SOFTMAX_TASKS else logits.sigmoid()


def split_outputs(
    columns: Float[Tensor, "*batch outputs"], outputs: Sequence[Outputs]
) -> tuple[Float[Tensor, "*batch _"], ...]:
    """Logits or targets of each task, whose columns stand one after the other."""
    return torch.split(columns, [len(one.labels) for one in outputs], dim=-1)


class ToScale(nn.Module):
    """Map raw values of dimensions to their scales: `low + (high - low) * (0.5 + raw)`.

    A head starts near zero, which is the middle of a scale. Logits stay as they are, bit by bit.

    Args:
        outputs: The outputs of all tasks.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, outputs: Sequence[Outputs]) -> None:
        super().__init__()
        scales = [one.scale or (-0.5, 0.5) for one in outputs for _ in one.labels]
        low, high = torch.tensor(scales, dtype=torch.float32).T
        self.register_buffer("factor", high - low, persistent=False)
        self.register_buffer("offset", (low + high) / 2.0, persistent=False)

    def forward(self, raw: Float[Tensor, "batch outputs"]) -> Float[Tensor, "batch outputs"]:
        """Values on the scale."""
        return raw * self.factor + self.offset


@dataclass(frozen=True)
class HeadSettings:
    """Settings of a head.

    Args:
        layer: `"learned"` mixes all layers with softmax weights, `"last"` takes the last layer, a number
            takes the layer of that index (0 is the projected frames, the input of the transformer).
        pooling: Pooling over time: `"mean"`, `"mean_std"` (mean and standard deviation) or `"attentive"`.
        hidden_size: Size of the hidden layer; 0 makes the head linear.
        dropout: Dropout rate of the pooled features and of the hidden layer.
        frame_dropout: Share of the frames dropped at random before attentive pooling in training, so that
            the head learns to use all of the evidence instead of a few frames.

    Raises:
        SettingError: If a number is out of range, or there is no such pooling.
    """

    layer: int | Literal["learned", "last"] = "learned"
    pooling: PoolingName = "mean_std"
    hidden_size: int = 128
    dropout: float = 0.2
    frame_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise SettingError(f"pooling={self.pooling!r} must be one of {', '.join(POOLINGS)}")
        for name in ("dropout", "frame_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SettingError(f"{name}={getattr(self, name)} must lie in [0, 1)")
        if self.frame_dropout and self.pooling != "attentive":
            raise SettingError(
                f"frame_dropout={self.frame_dropout} does not go with pooling={self.pooling!r}, which "
                "uses statistics instead of frames; use pooling='attentive', or frame_dropout=0"
            )
        if self.hidden_size < 0:
            raise SettingError(f"hidden_size={self.hidden_size} must be at least 0 (0 makes the head linear)")


class LayerMix(nn.Module):
    """A weighted sum of the layers, with positive weights that sum to one.

    Args:
        num_layers: Number of layers that the backbone returns.
        layer: `"learned"`, `"last"`, or the index of one layer (0 is the projected frames).

    Raises:
        SettingError: If there is no such layer.
    """

    def __init__(self, num_layers: int, layer: int | Literal["learned", "last"]) -> None:
        super().__init__()
        if layer == "learned":
            self.scores = nn.Parameter(torch.zeros(num_layers))
            return
        index = num_layers - 1 if layer == "last" else layer
        if not (isinstance(index, int) and 0 <= index < num_layers):
            raise SettingError(
                f"layer={layer!r} must lie between 0 and {num_layers - 1}, or be 'learned' or 'last'"
            )
        self.register_buffer("chosen", torch.eye(num_layers)[index], persistent=False)

    def weights(self) -> Float[Tensor, " layer"]:
        """The mixing weights."""
        chosen: Tensor | None = getattr(self, "chosen", None)
        return self.scores.softmax(0) if chosen is None else chosen

    def forward(self, layers: Float[Tensor, "batch layer time hidden"]) -> Float[Tensor, "batch time hidden"]:
        """Mix the layers."""
        return torch.einsum("l,blth->bth", self.weights(), layers)


class EmotionHead(nn.Module):
    """Layer mix, pooling, normalization, MLP.

    It takes the layers themselves (`forward`) or just the statistics it needs of them
    (`classify_statistics`), with the same logits.

    Args:
        num_layers: Number of layers that the backbone returns.
        layer_size: Size of each of their frames.
        num_classes: Number of outputs.
        settings: The head's shape.

    Attributes:
        described: False if it has parts of another project, which no settings describe.

    Raises:
        SettingError: If the backbone has no such layer.
    """

    described = True

    def __init__(
        self, num_layers: int, layer_size: int, num_classes: int, settings: HeadSettings | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or HeadSettings()
        self.mix = LayerMix(num_layers, self.settings.layer)
        self.pooling = POOLINGS[self.settings.pooling](layer_size)
        self.mlp = _build_mlp(self.pooling.output_size, num_classes, self.settings)

    @property
    def statistic(self) -> Statistic:
        """Statistic of the layers that determines the logits."""
        return self.pooling.statistic

    def forward(
        self,
        layers: Float[Tensor, "batch layer time hidden"],
        num_frames: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Logits from the backbone's layers.

        Args:
            layers: Hidden states, zero beyond each clip's last frame.
            num_frames: Valid frames of each clip; all of them if None.
        """
        size = layers.shape[2]
        mask = (
            torch.ones(layers.shape[0], size, dtype=torch.bool, device=layers.device)
            if num_frames is None
            else valid_mask(num_frames, size)
        )
        if self.training and self.settings.frame_dropout:
            mask = drop_frames(mask, self.settings.frame_dropout)
        return self.mlp(self.pooling(self.mix(layers), mask))

    def classify_statistics(self, statistics: LayerStatistics) -> Float[Tensor, "batch classes"]:
        """The same logits from the statistics named by `statistic`."""
        if self.statistic == "frames":
            return self(statistics["layers"], statistics["num_frames"])
        return self.mlp(self.pooling.pool_statistics(statistics, self.mix.weights()))


def _build_mlp(input_size: int, num_classes: int, settings: HeadSettings) -> nn.Sequential:
    """A head whose batch norm, without learned scale, standardizes the pooled features of any backbone."""
    stem = [nn.BatchNorm1d(input_size, affine=False), nn.Dropout(settings.dropout)]
    if settings.hidden_size == 0:
        return nn.Sequential(*stem, nn.Linear(input_size, num_classes))
    hidden = [nn.Linear(input_size, settings.hidden_size), nn.GELU(), nn.Dropout(settings.dropout)]
    return nn.Sequential(*stem, *hidden, nn.Linear(settings.hidden_size, num_classes))
