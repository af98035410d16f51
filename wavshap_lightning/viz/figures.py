"""Figures: one clip, its epochs, or several methods, each on one page.

A figure belongs to no window and to no global list: it is `matplotlib.figure.Figure`, never pyplot's, so that
nothing is left open. Drop it and it is gone; `figure.savefig(path)` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.viz.clip_page import plot_clip
from wavshap_lightning.viz.epochs_page import plot_epochs_of
from wavshap_lightning.viz.hearing import GivenWaveform, find_sound
from wavshap_lightning.viz.request import Request
from wavshap_lightning.viz.rows_page import plot_methods_of, plot_targets
from wavshap_lightning.viz.theme import theme

DEFAULT_TOP = 5


def plot(
    explanation: Explanation,
    waveform: GivenWaveform = None,
    *,
    target: str | None = None,
    label: str | None = None,
    evidence: Sequence[Span] = (),
    num_top: int = DEFAULT_TOP,
    notes: Sequence[str] = (),
) -> Figure:
    """One clip on one page: sound, attributions over time, bands and layers, and the decision.

    Where several targets were explained and none is named, each gets a row.

    Args:
        explanation: What is drawn.
        waveform: The clip `(num_samples,)` as it was explained; read from its file if None. Where that cannot
            be, the figure has no waveform and no spectrogram, and says why.
        target: One of `explanation.targets`.
        label: What the clip was annotated as, to be marked among the classes.
        evidence: Spans known to carry the label, to be bracketed.
        num_top: How many of the strongest frames are marked; 0 for none.
        notes: What people must know before they believe it, written at the foot; such as
            [`caveats`][wavshap_lightning.explainer.diagnostics.caveats] and the doctor's warnings.

    Raises:
        AttributionError: If the target was not explained.
        AudioError: If the waveform is not as long as the one explained.
        SettingError: If `num_top` is negative.
    """
    request = replace(_request(explanation, waveform, label, evidence, num_top), notes=tuple(notes))
    if target is None and len(explanation.targets) > 1:
        with theme():
            return plot_targets(request)
    named = target or explanation.targets[0]
    _check_target(explanation, named)
    with theme():
        return plot_clip(request, named)


def plot_epochs(
    explanations: Mapping[int, Explanation],
    waveform: GivenWaveform = None,
    *,
    target: str | None = None,
    label: str | None = None,
    evidence: Sequence[Span] = (),
    num_top: int = 0,
) -> Figure:
    """One clip through the epochs of a training, on one signed scale.

    Args:
        explanations: By epoch, all of one clip; drawn in order. The classes and the strongest frames are
            those of the last.
        waveform: As in [`plot`][], like the rest.
        target: See there; None for the only one, or what the last epoch predicts.
        label: See there.
        evidence: See there.
        num_top: See there.

    Raises:
        AttributionError: If the target was not explained in every epoch.
        AudioError: As there.
        SettingError: If there is no explanation, they differ in clip, or none says when.
    """
    ordered = {epoch: explanations[epoch] for epoch in sorted(explanations)}
    named = _common_target(ordered, target)
    last = list(ordered.values())[-1]
    request = _request(last, waveform, label, evidence, num_top)
    with theme():
        return plot_epochs_of(request, ordered, named)


def plot_methods(
    explanations: Mapping[str, Explanation],
    waveform: GivenWaveform = None,
    *,
    target: str | None = None,
    label: str | None = None,
    evidence: Sequence[Span] = (),
    num_top: int = 0,
) -> Figure:
    """One clip as several methods, or settings, explain it.

    Those that claim completeness share a scale; the others, whose unit is another, have their own.

    Args:
        explanations: By name, all of one clip; drawn in this order. The strongest frames are the first's.
        waveform: As in [`plot`][], like the rest.
        target: See there; None for the only one, or what is predicted.
        label: See there.
        evidence: See there.
        num_top: See there.

    Raises:
        AttributionError: If a method did not explain the target.
        AudioError: As there.
        SettingError: If there is no explanation, they differ in clip, or one does not say when.
    """
    named = _common_target(explanations, target)
    request = _request(next(iter(explanations.values())), waveform, label, evidence, num_top)
    with theme():
        return plot_methods_of(request, explanations, named)


def _request(
    explanation: Explanation,
    waveform: GivenWaveform,
    label: str | None,
    evidence: Sequence[Span],
    num_top: int,
) -> Request:
    if num_top < 0:
        raise SettingError(f"num_top={num_top} must be at least 0; 0 marks no frame")
    return Request(explanation, find_sound(explanation, waveform), label, tuple(evidence), num_top)


def _common_target(explanations: Mapping[Any, Explanation], target: str | None) -> str:
    """The target to draw, which all must have; and all must be of one clip."""
    if not explanations:
        raise SettingError("explanations={} is empty; give at least one")
    first, last = next(iter(explanations.values())), list(explanations.values())[-1]
    named = target or (last.targets[0] if len(last.targets) == 1 else last.prediction)
    for name, one in explanations.items():
        if one.clip_sha256 != first.clip_sha256 or one.times != first.times:
            raise SettingError(
                f"explanations: {name!r} is of another clip or backbone; give those of one clip"
            )
        if one.time_stage is None:
            raise SettingError(
                f"explanations: {name!r} has path={', '.join(one.attributions)}, which does not say when; "
                "explain with 'frames' or 'waveform' among stages"
            )
        _check_target(one, named)
    return named


def _check_target(explanation: Explanation, target: str) -> None:
    path, found = next(iter(explanation.attributions.items()))
    explanation.values(path, next(iter(found.views)), target)  # says what there is, if it is not there
