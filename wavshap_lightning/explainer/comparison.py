"""What was found where classifiers were compared on one clip, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.outcome import ViewEstimate
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.plain import plain_times


@dataclass(frozen=True)
class Difference:
    """Some units of one path under both classifiers.

    Args:
        first: Attributions under the first.
        second: Under the second.
        half_width: Half the widths of the 95 % intervals of `second - first`; None for methods without.
        paired: Whether the interval is that of the difference itself, draw by draw.
    """

    first: ViewEstimate
    second: ViewEstimate
    half_width: Float[Tensor, " units"] | None
    paired: bool

    @property
    def values(self) -> Float[Tensor, " units"]:
        """What the second makes of it more than the first."""
        return self.second.values[0] - self.first.values[0]

    def to_dict(self) -> dict[str, Any]:
        """The second and the difference in plain JSON types."""
        return {
            "attribution": self.second.values[0].tolist(),
            "difference": self.values.tolist(),
            "half_width": None if self.half_width is None else self.half_width.tolist(),
            "paired": self.paired,
        }


@dataclass(frozen=True)
class Comparison:
    """What two classifiers hear in one clip.

    Args:
        first: What the first hears.
        second: What the second hears.
        target: What is compared: a label of both, or a margin.
        differences: By path and view.
    """

    first: Explanation
    second: Explanation
    target: str
    differences: Mapping[tuple[str, str], Difference]

    def to_dict(self) -> dict[str, Any]:
        """The comparison in plain JSON types; see [`plain_comparisons`][]."""
        return plain_comparisons([self])


def plain_comparisons(comparisons: Sequence[Comparison], names: Sequence[str] = ()) -> dict[str, Any]:
    """Comparisons of several classifiers with the same first one, in plain JSON types.

    Under `models` is a row for each classifier, the first one's first. Under `paths`, by path and view, are
    the attributions of the first and a row for each `other`: its attributions and their difference to the
    first's; None where it has other units, such as another number of layers.

    Args:
        comparisons: Of one clip with the first classifier, in the order of the others.
        names: What the classifiers are called, the first one first; numbered if empty.
    """
    first, target = comparisons[0].first, comparisons[0].target
    names = names or [str(place + 1) for place in range(len(comparisons) + 1)]
    explanations = [first, *(one.second for one in comparisons)]
    keys = dict.fromkeys(key for one in comparisons for key in one.differences)
    paths: dict[str, dict[str, Any]] = {}
    for path, view in keys:
        found = [one.differences.get((path, view)) for one in comparisons]
        known = next(one for one in found if one is not None)
        paths.setdefault(path, {})[view] = {
            **(plain_times(first.times[path]) if view == "frames" else {}),
            "first": known.first.values[0].tolist(),
            "others": [None if one is None else one.to_dict() for one in found],
        }
    return {
        "clip": first.clip,
        "sha256": first.clip_sha256,
        "target": target,
        "models": [_of_model(name, one, target) for name, one in zip(names, explanations, strict=True)],
        "paths": paths,
    }


def _of_model(name: str, explanation: Explanation, target: str) -> dict[str, Any]:
    plain = explanation.to_dict(target=target)
    kept = ("prediction", "probabilities", "score", "settings", "paths")
    fingerprint = next(iter(explanation.attributions.values())).provenance.model_fingerprint
    return {"model": name, "fingerprint": fingerprint, **{key: plain[key] for key in kept}}
