"""The objective: every layer tells, linearly, what the clean speech is like."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from pretraining.espeak import VARIANTS
from pretraining.targets import FRAME_GROUPS, UTTERANCE, Targets

WEIGHTS = {
    "mel": 1.0,
    "prosody": 2.0,
    "quality": 1.0,
    "voicing": 0.5,
    "utterance": 2.0,
    "voice": 0.2,
}


class Objective(nn.Module):
    """Linear readings of the layers, and how far they are from the targets.

    Frame targets are read from the layers named in `frame_layers`, utterance targets from mean and standard
    deviation of every layer. Targets are standardised with moments found by `calibrate`.

    Args:
        hidden_size: Size of the layers.
        num_layers: How many there are.
        frame_layers: Which of them tell about frames.
    """

    frame_mean: Tensor
    frame_std: Tensor
    utterance_mean: Tensor
    utterance_std: Tensor

    def __init__(self, hidden_size: int, num_layers: int, frame_layers: Sequence[int] = (0, -1)) -> None:
        super().__init__()
        self.frame_layers = tuple(frame_layers)
        self.frame_readers = nn.ModuleList(
            nn.Linear(hidden_size, sum(FRAME_GROUPS.values())) for _ in self.frame_layers
        )
        self.utterance_readers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm1d(2 * hidden_size, affine=False),
                nn.Linear(2 * hidden_size, len(UTTERANCE) + len(VARIANTS)),
            )
            for _ in range(num_layers)
        )
        for name, size in (("frame", sum(FRAME_GROUPS.values())), ("utterance", len(UTTERANCE))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    @torch.no_grad()
    def calibrate(self, targets: Sequence[Targets]) -> None:
        """Standardise targets by the moments of these; voicing is a probability and stays as it is."""
        for name, parts in (
            ("frame", [part.frames.flatten(0, 1) for part in targets]),
            ("utterance", [part.utterance for part in targets]),
        ):
            values = torch.cat(parts)
            mean = values.nanmean(0)
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_std").copy_((values - mean).square().nanmean(0).sqrt().clamp(min=1e-3))
        self.frame_mean[-1], self.frame_std[-1] = 0.0, 1.0

    def forward(
        self,
        layers: Sequence[Float[Tensor, "batch frames hidden"]],
        targets: Targets,
        masked: Bool[Tensor, "batch frames"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Loss terms by name; `total` is their weighted sum.

        Args:
            layers: The layers of the backbone, the projected frames first.
            targets: What they should tell.
            masked: Frames hidden from the encoder. The first layer is not asked about them, and clips
                with hidden frames are not asked about the whole utterance.
        """
        expected = (targets.frames - self.frame_mean) / self.frame_std
        terms: dict[str, list[Tensor]] = {name: [] for name in WEIGHTS}
        for index, reader in zip(self.frame_layers, self.frame_readers, strict=True):
            asked = expected
            if index == 0:
                asked = torch.where(masked[:, :, None], torch.nan, expected)
            self._frame_terms(reader(layers[index]), asked, terms)
        whole = ~masked.any(1)
        described = (targets.utterance - self.utterance_mean) / self.utterance_std
        for layer, reader in zip(layers, self.utterance_readers, strict=True):
            std, mean = torch.std_mean(layer[whole], dim=1)
            told = reader(torch.cat([mean, std], dim=1))
            terms["utterance"].append(_error(told[:, : len(UTTERANCE)], described[whole]))
            terms["voice"].append(_voice_loss(told[:, len(UTTERANCE) :], targets.voice[whole]))
        means = {name: torch.stack(values).mean() for name, values in terms.items()}
        total = torch.stack([WEIGHTS[name] * value for name, value in means.items()]).sum()
        return means | {"total": total}

    def _frame_terms(self, told: Tensor, asked: Tensor, terms: dict[str, list[Tensor]]) -> None:
        sizes = list(FRAME_GROUPS.values())
        for name, guess, truth in zip(
            FRAME_GROUPS, torch.split(told, sizes, 2), torch.split(asked, sizes, 2), strict=True
        ):
            terms[name].append((_voicing_loss if name == "voicing" else _error)(guess, truth))


def _error(told: Tensor, asked: Tensor) -> Float[Tensor, ""]:
    """Smooth absolute error over the targets that are known."""
    known = asked.isfinite()
    errors = F.smooth_l1_loss(told, torch.where(known, asked, told.detach()), reduction="none")
    return errors.sum() / known.sum().clamp(min=1)


def _voicing_loss(logits: Tensor, voiced: Tensor) -> Float[Tensor, ""]:
    known = voiced.isfinite()
    return F.binary_cross_entropy_with_logits(logits[known], voiced[known])


def _voice_loss(logits: Tensor, voice: Tensor) -> Float[Tensor, ""]:
    """Cross-entropy over the clips spoken by espeak-ng, relative to guessing."""
    known = voice >= 0
    if not known.any():
        return logits.sum() * 0.0
    return F.cross_entropy(logits[known], voice[known]) / torch.tensor(float(logits.shape[1])).log()
