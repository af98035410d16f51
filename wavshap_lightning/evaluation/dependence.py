"""On what maps depend: what was learned, which class is explained, from which seed a head was trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.agreement import likeness, mean_rank_correlation, rank_correlation
from wavshap_lightning.evaluation.sanity import fully_random, head_redrawn
from wavshap_lightning.models.classifier import EmotionClassifier

Frames = Float[Tensor, " time"]
ExplainWith = Callable[[EmotionClassifier, str], Frames]


@dataclass(frozen=True)
class Doubts:
    """What is changed to find out on what the maps of a clip depend.

    Args:
        classifier: The one that is explained.
        target: The explained class.
        other_class: The most probable one besides.
        head_redrawn: A copy whose head is drawn anew.
        all_redrawn: One with every parameter drawn anew.
        rivals: Classifiers whose heads were trained from other seeds.
    """

    classifier: EmotionClassifier
    target: str
    other_class: str
    head_redrawn: EmotionClassifier
    all_redrawn: EmotionClassifier
    rivals: tuple[EmotionClassifier, ...] = ()


def open_doubts(
    classifier: EmotionClassifier,
    logits: Float[Tensor, " classes"],
    target: str,
    seed: int,
    rivals: Sequence[EmotionClassifier] = (),
) -> Doubts:
    """Draw parameters anew and choose another class.

    Args:
        classifier: Which; it is as it was afterwards.
        logits: Its logits for the clip.
        target: The explained class.
        seed: Of the parameters. Take another one for every clip, or a single unlucky draw counts many times.
        rivals: Of the same classes.

    Raises:
        SettingError: If there is no other class.
    """
    ranked = [classifier.labels[index] for index in logits.argsort(descending=True).tolist()]
    others = [label for label in ranked if label != target]
    if not others:
        raise SettingError(f"labels={list(classifier.labels)}: there is no other class to explain")
    return Doubts(
        classifier,
        target,
        others[0],
        head_redrawn(classifier, seed),
        fully_random(classifier, seed),
        tuple(rivals),
    )


def dependence(values: Frames, explain: ExplainWith, doubts: Doubts) -> dict[str, float]:
    """How alike a map stays when what it should depend on is changed.

    `head_redrawn`, `all_redrawn`: [`likeness`][wavshap_lightning.evaluation.agreement.likeness], the lower
    the better (Adebayo et al. 2018). `other_class`: Spearman's correlation with the map of another class, 1
    for maps that do not ask which (Sixt, Granz and Landgraf 2020). `other_seeds`, where there are rivals:
    the mean of Spearman's correlation over all pairs of heads, the higher the better.

    Args:
        values: The map.
        explain: A map of the same clip by the same method with the same draws, of a classifier and a class.
        doubts: What is changed.
    """
    again = {
        "head_redrawn": likeness(values, explain(doubts.head_redrawn, doubts.target)),
        "all_redrawn": likeness(values, explain(doubts.all_redrawn, doubts.target)),
        "other_class": rank_correlation(values, explain(doubts.classifier, doubts.other_class)),
    }
    if doubts.rivals:
        maps = [values, *(explain(rival, doubts.target) for rival in doubts.rivals)]
        again["other_seeds"] = mean_rank_correlation(torch.stack(maps))
    return again
