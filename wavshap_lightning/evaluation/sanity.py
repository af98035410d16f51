"""On what maps depend: what was learned, which class is explained, from which seed a head was trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.stability import likeness, mean_rank_correlation, rank_correlation
from wavshap_lightning.models.classifier import EmotionClassifier

HEAD, ALL = "head", "all"
CONSTANT_SPREAD = 0.1
BLOCK = re.compile(r"^(?P<stack>.*\.(?:layers|conv_layers))\.(?P<index>\d+)\.")


@dataclass(frozen=True)
class Level:
    """A classifier after one more step of the cascade.

    Args:
        name: What was drawn anew last: `"head"`, a part of the backbone, the last of which makes it all.
        classifier: A copy in which it and all that lies above it, towards the logits, is drawn anew.
        num_redrawn: Parameters drawn anew so far, as numbers.
    """

    name: str
    classifier: EmotionClassifier
    num_redrawn: int


def cascade(classifier: EmotionClassifier, seed: int) -> Iterator[Level]:
    """Draw parameters anew from the logits down: the head alone first, in the end every parameter there is.

    An explanation of what was learned must not look the same then: at the last level the rank correlation
    with the original should vanish. Every tensor has a seed of its own. Source: Adebayo et al. (2018).
    Where we depart: normal draws with the mean and deviation the tensor had, so that signals keep their size;
    biases and gains too.

    Args:
        classifier: Which; it is as it was afterwards.
        seed: Of all draws.
    """
    changed = deepcopy(classifier)
    parameters = dict(changed.named_parameters())
    num_redrawn = 0
    for level, names in _levels(list(parameters)):
        _redraw_all(parameters, names, seed)
        num_redrawn += sum(parameters[name].numel() for name in names)
        yield Level(level, deepcopy(changed), num_redrawn)


def head_redrawn(classifier: EmotionClassifier, seed: int) -> EmotionClassifier:
    """The first level of the cascade: a copy in which the head alone is drawn anew.

    A frozen backbone is not copied but shared, for nothing changes it.
    """
    backbone = classifier.backbone
    changed = deepcopy(classifier, {id(backbone): backbone} if backbone.settings.frozen else None)
    parameters = dict(changed.named_parameters())
    _redraw_all(parameters, [name for name in parameters if _level_of(name) == HEAD], seed)
    return changed


def fully_random(classifier: EmotionClassifier, seed: int) -> EmotionClassifier:
    """The last level of the cascade: a copy in which every parameter is drawn anew."""
    changed = deepcopy(classifier)
    parameters = dict(changed.named_parameters())
    _redraw_all(parameters, list(parameters), seed)
    return changed


def _levels(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Parameters by level, those nearest to the logits first; within the backbone, blocks of a stack."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(_level_of(name), []).append(name)
    above = {level: position for position, level in enumerate(grouped)}
    return sorted(grouped.items(), key=lambda item: (item[0] != HEAD, *_depth(item[0]), -above[item[0]]))


def _level_of(name: str) -> str:
    if name.startswith("head."):
        return HEAD
    block = BLOCK.match(name)
    if block is not None:
        return f"{block['stack']}.{block['index']}"
    return name.rsplit(".", 2)[0]


def _depth(level: str) -> tuple[int, int]:
    """Layers of the encoder from the last to the first, what lies around them, the convolutions likewise."""
    last = level.rpartition(".")[2]
    index = int(last) if last.isdigit() else -1
    part = 0 if ".layers." in f"{level}." else 2 if ".conv_layers." in f"{level}." else 1
    return part, -index


def _redraw_all(parameters: Mapping[str, nn.Parameter], names: Sequence[str], seed: int) -> None:
    """Each from a seed of its own, whichever others are drawn anew."""
    places = {name: index for index, name in enumerate(parameters)}
    for name in names:
        _redraw(parameters[name], torch.Generator().manual_seed(seed * len(places) + places[name]))


@torch.no_grad()
def _redraw(parameter: nn.Parameter, generator: torch.Generator) -> None:
    values = parameter.detach().double()
    mean, spread = float(values.mean()), float(values.std(unbiased=False))
    if spread == 0:  # a gain or bias that has learned nothing yet
        spread = CONSTANT_SPREAD * (abs(mean) or 1.0)
    drawn: Tensor = mean + spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    parameter.copy_(drawn)


Frames = Float[Tensor, " time"]
ExplainWith = Callable[[EmotionClassifier, str], Frames]


@dataclass(frozen=True)
class Doubts:
    """Changes that show what the maps of a clip depend on.

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

    `head_redrawn`, `all_redrawn`: [`likeness`][wavshap_lightning.evaluation.stability.likeness], the lower
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
