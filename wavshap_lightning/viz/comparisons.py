"""Figures of one clip explained several times: by epochs, by methods, and by several classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import PurePath
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.compare import Comparison, Difference, agreement_of
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz import panels as draw
from wavshap_lightning.viz.clip_view import ABOUT, GAP, NO_TIME, ClipView, Units
from wavshap_lightning.viz.figures import Draw, Panel, draw_sheet, frame_rows, layer_bars, sound_panels
from wavshap_lightning.viz.sound import GivenWaveform
from wavshap_lightning.viz.theme import literal, number, percent

MOST_AS_BARS = 4
"""Classifiers that are drawn as bars with their intervals; of more, each is a row of color."""

MAP_ROW_PX, MAP_PX = 40, (90, 380)
"""Height of a row of color, and least and greatest height of all together."""

SHORT_NAME, LONG_NAME = 16, 66
Models = Sequence[tuple[str, Explanation]]
"""Short name of each classifier, and its explanation."""

SHORT_FACTS = {"Sum of attributions": "sum", GAP: "gap", "Draws": "draws"}


def plot_epochs(
    explanations: Mapping[int, Explanation],
    waveform: GivenWaveform = None,
    *,
    target: str | None = None,
    label: str | None = None,
    evidence: Sequence[Span] = (),
) -> Figure:
    """Figure of one clip during training, with one row for each epoch, on one signed scale.

    Args:
        explanations: Explanations of the clip by epoch. The classes are those of the last epoch.
        waveform: The clip `(num_samples,)`; read from its file if None.
        target: Name of the target; None for the only one, or what the last epoch predicts.
        label: Annotated class of the clip.
        evidence: Spans known to decide the label.

    Raises:
        AttributionError: If the target was not explained in every epoch.
        AudioError: If the waveform is not as long as the one explained.
        SettingError: If there is no explanation, they differ in clip, or have no frames.
    """
    ordered = {str(epoch): explanations[epoch] for epoch in sorted(explanations)}
    views, frames = _views(ordered, target, {"waveform": waveform, "label": label, "evidence": evidence})
    last = views[-1]
    gaps = [gap for view in views if (gap := view.largest_gap) is not None]
    above = "classes above are the last one's. Hollow: another was predicted."
    above = above if last.prediction else "values above are the last one's."
    lines = [
        f"All epochs on one scale; score and {above}",
        f"{GAP}: {percent(max(gaps))} at most." if gaps else "",
        last.line(*ABOUT),
    ]
    title = f"Attribution of each frame to the {last.score_name(literal)}, by epoch"
    layers = [layers for view in views if (layers := view.units("layers")) is not None]
    probability = _probability(list(ordered.values()), last.target_labels[0])
    panel = _map_panel("epochs", title, Units.stack(frames, list(ordered)), layers, probability=probability)
    return draw_sheet(last, [*sound_panels(last), panel], lines)


def plot_methods(
    explanations: Mapping[str, Explanation],
    waveform: GivenWaveform = None,
    *,
    target: str | None = None,
    label: str | None = None,
    evidence: Sequence[Span] = (),
) -> Figure:
    """Figure of one clip explained by several methods or settings.

    Methods with completeness share a scale; the others, which have other units, have their own.

    Args:
        explanations: Explanations of the clip by name, in the order of the rows.
        waveform: The clip `(num_samples,)`; read from its file if None.
        target: Name of the target; None for the only one, or what is predicted.
        label: Annotated class of the clip.
        evidence: Spans known to decide the label.

    Raises:
        AttributionError: If a method did not explain the target.
        AudioError: If the waveform is not as long as the one explained.
        SettingError: If there is no explanation, they differ in clip, or have no frames.
    """
    views, frames = _views(explanations, target, {"waveform": waveform, "label": label, "evidence": evidence})
    names, complete = list(explanations), [view.largest_gap is not None for view in views]
    shared = list(compress(frames, complete))
    rows = frame_rows(
        "frames",
        [name if one else f"{name}, on its own scale" for name, one in zip(names, complete, strict=True)],
        frames,
        [partial(draw.plot_lines_of_text, lines=_short_facts(view)) for view in views],
        note=f"attribution of each frame to the {views[0].score_name(literal)}",
        scales=[shared if one else [alone] for one, alone in zip(complete, frames, strict=True)],
    )
    lines = [f"{literal(name, 24)}   {view.line(*ABOUT)}" for name, view in zip(names, views, strict=True)]
    return draw_sheet(views[0], [*sound_panels(views[0]), *rows], lines)


def _short_facts(view: ClipView) -> list[str]:
    return [f"{short} {view.facts[name]}" for name, short in SHORT_FACTS.items() if name in view.facts]


def plot_comparison(
    comparisons: Comparison | Sequence[Comparison],
    waveform: GivenWaveform = None,
    *,
    names: Sequence[str] = (),
    label: str | None = None,
    evidence: Sequence[Span] = (),
) -> Figure:
    """Figure of two or more classifiers on one scale, and of their differences from the first.

    Args:
        comparisons: A comparison of two classifiers on one clip, or one of the first with each of the others.
        waveform: The clip `(num_samples,)`; read from its file if None.
        names: Names of the classifiers, beginning with the first; numbered if empty.
        label: Annotated class of the clip.
        evidence: Spans known to decide the label.

    Raises:
        SettingError: If no frames were compared, or names are missing.
        AudioError: If the waveform is not as long as the one explained.
    """
    comparisons = [comparisons] if isinstance(comparisons, Comparison) else comparisons
    if not comparisons:
        raise SettingError("comparisons=[] must hold at least one comparison")
    names = names or [str(place) for place in range(1, len(comparisons) + 2)]
    if len(names) != len(comparisons) + 1:
        raise SettingError(f"names={names} must be {len(comparisons) + 1} names, beginning with the first")
    explanations = [comparisons[0].first, *(one.second for one in comparisons)]
    first, target = replace(explanations[0], agreement=agreement_of(explanations)), comparisons[0].target
    if len({PurePath(name).parent for name in names}) == 1:  # such as the folds of a cross-validation
        names = [PurePath(name).name for name in names]
    view = ClipView.from_explanation(first, waveform, target=target, label=label, evidence=evidence)
    is_short = all(len(name) <= SHORT_NAME for name in names)
    short = [literal(name) if is_short else str(place) for place, name in enumerate(names, 1)]
    models = list(zip(short, explanations, strict=True))
    stage = first.time_stage or "frames"
    times = view.times.get(stage, NO_TIME)
    frames = _units([one.differences.get((stage, "frames")) for one in comparisons], times)
    frames = [one.within(view.duration_s) for one in frames]
    layers = _units([one.differences.get(("layers", "layers")) for one in comparisons])
    if not frames:
        raise SettingError("comparisons: no frames were compared; explain with stages=frames or waveform")
    shown = (_as_maps if len(names) > MOST_AS_BARS else _as_bars)(view, models, frames, layers)
    scores = [f"{name} ({number(one.score[target])})" for name, one in models]
    differ = [percent(float(np.mean(~one.unresolved))) for one in frames[len(names) :]]
    shares = [f"{name} ({share})" for name, share in zip(short[1:], differ, strict=True)]
    paired = all(one.differences[stage, "frames"].paired for one in comparisons)
    legend = [f"{place}: {literal(name, LONG_NAME)}" for place, name in zip(short, names, strict=True)]
    lines = [
        f"Score of {literal(target, 32)}: {', '.join(scores)}.",
        f"Frames whose difference to {short[0]} is resolved: {', '.join(shares)}.",
        "" if is_short else f"{', '.join(legend)}.",
        "95 % intervals of the differences: "
        + ("from the same draws, draw by draw." if paired else "as if the two errors were independent."),
        view.line(*ABOUT),
    ]
    return draw_sheet(view, [*sound_panels(view), *shown], lines)


def _as_bars(view: ClipView, models: Models, frames: Sequence[Units], layers: Sequence[Units]) -> list[Panel]:
    """A row for each classifier and each difference, with bars and their intervals."""
    count, rows = len(models), partial(frame_rows, num_rows=len(frames))
    first, *others = (name for name, _ in models)
    titles = [
        f"{name}, predicts {literal(one.prediction)}"
        if one.prediction
        else f"{name}, {number(one.score[view.target])}"
        for name, one in models
    ]
    titles += [f"{name} minus {first}" for name in others]
    note = f"attribution of each frame to the {view.score_name(literal)}"
    own = "differences, on a scale of their own"
    return [
        *rows("model", titles[:count], frames[:count], layer_bars(layers[:count]), note=note),
        *rows("difference", titles[count:], frames[count:], layer_bars(layers[count:]), note=own),
    ]


def _as_maps(view: ClipView, models: Models, frames: Sequence[Units], layers: Sequence[Units]) -> list[Panel]:
    """A row of color for each classifier, and another map of their differences to the first."""
    count, names = len(models), [name for name, _ in models]
    first, *others = (one.score[view.target] for _, one in models)
    distances = [score - first for score in others]
    most = 1.15 * max(map(abs, distances)) or 1.0
    score = partial(draw.plot_dots, values=distances, title="Score", limits=(-most, most))
    probability = _probability([one for _, one in models], view.target_labels[0])
    title = f"Attribution of each frame to the {view.score_name(literal)}"
    rows, differences = Units.stack(frames[:count], names), Units.stack(frames[count:], names[1:])
    return [
        _map_panel("models", title, rows, layers[:count], probability=probability),
        _map_panel("differences", f"Differences to {names[0]}", differences, layers[count:], score=score),
    ]


def _map_panel(name: str, title: str, rows: Units, layers: Sequence[Units], **beside: Draw) -> Panel:
    """A map of frames by rows, with the panels to its right, and a map of layers if all rows have them."""
    count = len(rows.values)
    if len(layers) == count:
        beside[f"layers of {name}"] = partial(draw.plot_layers_of_rows, rows=Units.stack(layers, rows.names))
    over_time = partial(draw.plot_rows_over_time, rows=rows, title=title)
    return Panel(name, int(np.clip(MAP_ROW_PX * count, *MAP_PX)), over_time, beside)


def _probability(explanations: Sequence[Explanation], label: str) -> Draw:
    """Draws the probability of a class, hollow where another is predicted, or the value of a dimension."""
    values = [one.outputs[label] for one in explanations]
    hollow = [place for place, one in enumerate(explanations) if one.prediction not in ("", label)]
    title, limits = f"p({literal(label, 12)})", (0.0, 1.0)
    if explanations[0].task == "dimensions":
        ends = [*(explanations[0].scale or [0.0]), *values]
        title, limits = literal(label, 12), (min(ends), max(ends))
    return partial(draw.plot_dots, values=values, title=title, limits=limits, hollow=hollow)


def _views(
    explanations: Mapping[str, Explanation], target: str | None, known: Mapping[str, Any]
) -> tuple[list[ClipView], list[Units]]:
    """Views of one target of explanations that are of one clip, and their frames."""
    if not explanations:
        raise SettingError("explanations={} is empty; give at least one")
    views, frames, (first, *_) = [], [], explanations.values()
    target = target or list(explanations.values())[-1].default_target
    for name, one in explanations.items():
        if one.clip_sha256 != first.clip_sha256 or one.times != first.times:
            raise SettingError(f"explanations: {name!r} is of another clip or backbone; explain one clip")
        views.append(ClipView.from_explanation(one, target=target, **known))
        if (found := views[-1].frames) is None:
            raise SettingError(f"explanations: {name!r} has no frames; explain with stages=frames")
        frames.append(found)
    return views, frames


def _units(differences: Sequence[Difference | None], times: TimeGrid = NO_TIME) -> list[Units]:
    """Units of each classifier, the first one first, and of each difference; none where one lacks them."""
    known = [one for one in differences if one is not None]
    if len(known) < len(differences):
        return []
    estimates = [known[0].first, *(one.second for one in known)]
    pairs = [(one.values[0], None if one.stderr is None else one.half_width()[0]) for one in estimates]
    pairs += [(one.values, one.half_width) for one in known]
    units = [Units.of(one.numpy(), None if half is None else half.numpy()) for one, half in pairs]
    return [replace(one, times=times) for one in units]
