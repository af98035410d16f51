"""A clip's trials, laid out once: every map of it meets the same fills, orders, perturbations and edits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.evaluation.edited import EditedSpans, edit_spans
from wavshap_lightning.evaluation.faithfulness import lost_by, over_chance
from wavshap_lightning.evaluation.infidelity import Perturbations, infidelity, perturb
from wavshap_lightning.evaluation.masked_sound import masked_sound, top_share
from wavshap_lightning.evaluation.proof import FILLS, Proof, open_proof
from wavshap_lightning.evaluation.removal_curves import removal_curves
from wavshap_lightning.models.classifier import EmotionClassifier

Frames = Float[Tensor, " time"]


@dataclass(frozen=True)
class Trials:
    """What maps of a clip are held against.

    Args:
        proof: The clip's frames, and the classifier to ask.
        perturbations: Random changes, and what they did.
        by_chance: By fill, what is lost in a random order.
        edited: What edits did; None without.
    """

    proof: Proof
    perturbations: Perturbations
    by_chance: Mapping[str, Float64[Tensor, " two"]]
    edited: EditedSpans | None

    def of(self, values: Frames) -> dict[str, float]:
        """All that asks the classifier again."""
        proof = self.proof
        curves = removal_curves(proof.score, proof.frames, values, proof.fills)
        label = proof.target.classes[0]
        masked = masked_sound(proof.logits_of, proof.frames, top_share(values), proof.fills, label)
        return {
            **self._faithfulness(values),
            "deletion": curves.deletion,
            "insertion": curves.insertion,
            "abpc": curves.abpc,
            "infidelity": infidelity(values, self.perturbations),
            **vars(masked),
            **({} if self.edited is None else self.edited.agreements(values)),
        }

    def _faithfulness(self, values: Frames) -> dict[str, float]:
        numbers: dict[str, float] = {}
        order = values.argsort(descending=True)
        for name, fill in zip(FILLS, self.proof.fills, strict=True):
            lost = lost_by(self.proof.score, self.proof.frames, [order], fill[None])[:, 0]
            found = over_chance(lost, self.by_chance[name])
            numbers[f"comprehensiveness_{name}"] = found.comprehensiveness
            numbers[f"sufficiency_{name}"] = found.sufficiency
        return numbers


@contextmanager
def open_trials(
    classifier: EmotionClassifier,
    waveform: Float[Tensor, " samples"],
    target: Target,
    generator: torch.Generator,
    *,
    edits: bool = True,
) -> Iterator[Trials]:
    """Inside, maps can be tried; afterwards the classifier is as it was.

    Args:
        classifier: The one that was explained.
        waveform: The clip.
        target: What is explained; one scalar.
        generator: Draws fills, perturbations and a random order.
        edits: Whether spans of the clip are edited too.
    """
    with open_proof(classifier, waveform, target, generator) as proof:
        perturbations = perturb(proof.score, proof.frames, proof.fills, generator)
        order = torch.randperm(len(proof.frames), generator=generator)
        by_chance = {
            name: lost_by(proof.score, proof.frames, [order], fill[None])[:, 0]
            for name, fill in zip(FILLS, proof.fills, strict=True)
        }
        edited = edit_spans(classifier, waveform, target) if edits else None
        yield Trials(proof, perturbations, by_chance, edited)
