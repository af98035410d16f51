"""The convolutions of the frontend as matrix products, which is what a CPU trains fastest."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.models.frontends import TransformersModule


class MatrixFrontend(nn.Module):
    """The same frontend with channels last: no transpose around the layer norms.

    Args:
        convolutions: transformers' own, with layer norm; its parameters are the ones used.
    """

    def __init__(self, convolutions: TransformersModule) -> None:
        super().__init__()
        self.convolutions = convolutions

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch channels frames"]:
        """The last layer's output."""
        states = waveforms[:, :, None]
        for layer in self.convolutions.conv_layers:
            kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
            pieces = states.unfold(1, kernel, stride).flatten(2)
            states = layer.layer_norm(F.linear(pieces, layer.conv.weight.flatten(1), layer.conv.bias))
            states = F.gelu(states)
        return states.transpose(1, 2)


def use_matrix_frontend(model: TransformersModule) -> None:
    """Let a model compute its frontend as matrix products."""
    model.feature_extractor = MatrixFrontend(model.feature_extractor)


def restore_frontend(model: TransformersModule) -> None:
    """Undo `use_matrix_frontend`."""
    model.feature_extractor = model.feature_extractor.convolutions
