"""What the pages of several classifiers on one clip have in common: what is drawn, and words about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.compare import Comparison, Difference
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.viz.estimates import Estimates
from wavshap_lightning.viz.request import Request
from wavshap_lightning.viz.words import LABEL_WIDTH, how, literal, number, percent

NAME_WIDTH = 66
NAMES_WIDTH = 140


@dataclass(frozen=True)
class Compared:
    """Units of all classifiers, and of the differences of each but the first to the first.

    Args:
        each: A row for each classifier.
        differences: A row for each but the first.
    """

    each: list[Estimates]
    differences: list[Estimates]


@dataclass(frozen=True)
class Contest:
    """What such a page is about.

    Args:
        request: What can be heard, and what the first hears.
        comparisons: Of the first with each other.
        names: What all are called, the first one first.
        path: Whose frames say when.
    """

    request: Request
    comparisons: Sequence[Comparison]
    names: Sequence[str]
    path: str

    @property
    def target(self) -> str:
        """What is explained."""
        return self.comparisons[0].target

    @property
    def explanations(self) -> list[Explanation]:
        """What each hears."""
        return [self.comparisons[0].first, *(one.second for one in self.comparisons)]

    @property
    def frames(self) -> Compared:
        """Attributions of frames."""
        return _compared([one.differences[self.path, "frames"] for one in self.comparisons])

    @property
    def layers(self) -> Compared | None:
        """Sums of layers; None where not all classifiers have the same ones."""
        found = [one.differences.get(("layers", "layers")) for one in self.comparisons]
        known = [one for one in found if one is not None]
        return _compared(known) if len(known) == len(found) else None


def check_names(comparisons: Sequence[Comparison], names: Sequence[str]) -> Sequence[str]:
    """The names, or numbers where there are none.

    Raises:
        SettingError: If there are too few or too many, or nothing was compared.
    """
    if not comparisons:
        raise SettingError("comparisons=[]: there is nothing to draw; compare with one classifier at least")
    names = names or [str(place + 1) for place in range(len(comparisons) + 1)]
    if len(names) != len(comparisons) + 1:
        raise SettingError(
            f"names={list(names)} must name {len(comparisons) + 1} classifiers, the first one first"
        )
    return names


def path_of(comparisons: Sequence[Comparison]) -> str:
    """The path whose frames say when.

    Raises:
        SettingError: If there is none.
    """
    known = [path for path in ("frames", "waveform") if (path, "frames") in comparisons[0].differences]
    if not known:
        raise SettingError(
            "comparison: no path that says when was compared; explain with 'frames' or 'waveform' "
            "among stages"
        )
    return known[0]


def short_names(names: Sequence[str]) -> list[str]:
    """The names where all are short, else their numbers.

    >>> short_names(["early", "late"]), short_names(["runs/demo/version_0", "epoch 5"])
    (['early', 'late'], ['1', '2'])
    """
    short = all(len(name) <= LABEL_WIDTH for name in names)
    return [literal(name) if short else str(place + 1) for place, name in enumerate(names)]


def caption_of(contest: Contest) -> list[str]:
    """What the pages say below."""
    scores = [number(one.score[contest.target]) for one in contest.explanations]
    sure = [percent(float(np.mean(~one.unresolved))) for one in contest.frames.differences]
    short = short_names(contest.names)
    pairs = [f"{name} ({score})" for name, score in zip(short, scores, strict=True)]
    signs = [f"{name} ({share})" for name, share in zip(short[1:], sure, strict=True)]
    named = literal(contest.target, 2 * LABEL_WIDTH)
    paired = all(one.differences[contest.path, "frames"].paired for one in contest.comparisons)
    drawn = "from the same draws, draw by draw" if paired else "as if the two erred independently"
    return [
        *_wrapped(f"Score of {named} under", pairs),
        *_wrapped(f"Frames whose difference to {short[0]} has a sure sign:", signs),
        *_legend(contest.names, short),
        f"95 % intervals of the differences: {drawn}.",
        how(contest.request.explanation),
    ]


def _legend(names: Sequence[str], short: Sequence[str]) -> list[str]:
    if list(names) == list(short):
        return []
    full = [f"{place}: {literal(name, NAME_WIDTH)}" for place, name in zip(short, names, strict=True)]
    return _wrapped("", full)


def _wrapped(begin: str, parts: Sequence[str]) -> list[str]:
    """A sentence whose parts stay whole, on as many lines as it takes.

    >>> _wrapped("Score under", ["1 (0.5)", "2 (0.7)"])
    ['Score under 1 (0.5), 2 (0.7).']
    """
    lines, line = [], begin
    for place, part in enumerate(parts):
        word = part + ("." if place == len(parts) - 1 else ",")
        if line and len(line) + 1 + len(word) > NAMES_WIDTH:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]


def _compared(found: Sequence[Difference]) -> Compared:
    first = _estimates(found[0].first)
    each = [first, *(_estimates(one.second) for one in found)]
    return Compared(each, [_difference(one) for one in found])


def _estimates(view: ViewEstimate) -> Estimates:
    half_width = None if view.stderr is None else view.half_width()[0].double().numpy()
    return Estimates(view.values[0].double().numpy(), half_width)


def _difference(found: Difference) -> Estimates:
    half_width = None if found.half_width is None else found.half_width.double().numpy()
    return Estimates(found.values.double().numpy(), half_width)
