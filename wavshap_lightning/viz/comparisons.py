"""Figures of one clip explained several times: by epochs, by methods, and by several classifiers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.compare import Comparison, Difference
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz import panels as draw
from wavshap_lightning.viz.clip_view import ClipView, Units
from wavshap_lightning.viz.figures import (
    ABOUT,
    Draw,
    Panel,
    draw_sheet,
    frame_row,
    layers_beside,
    sound_panels,
)
from wavshap_lightning.viz.sound import GivenWaveform
from wavshap_lightning.viz.theme import literal, number, percent, signed_norm

MOST_AS_BARS = 4
"""Classifiers that are drawn as bars with their intervals; of more, each is a row of color."""

MAP_ROW_PX, MAP_PX = 40, (90, 380)
"""Height of a row of color, and least and greatest height of all together."""

SHORT_NAME, LONG_NAME = 16, 66
GAP = "Completeness gap (before correction)"
SUMS = {"Sum of attributions": "sum", GAP: "gap", "Draws": "draws"}


def plot_epochs(
    explanations: Mapping[int, Explanation],
    waveform: GivenWaveform = None,
    *,
    target: str | None = None,
    label: str | None = None,
    evidence: Sequence[Span] = (),
    num_top: int = 0,
) -> Figure:
    """Figure of one clip through the epochs of a training, on one signed scale.

    Args:
        explanations: Explanations of the clip by epoch. The classes and the strongest frames are those of the
            last.
        waveform: The clip `(num_samples,)`; read from its file if None.
        target: Name of the target; None for the only one, or what the last epoch predicts.
        label: Annotated class of the clip.
        evidence: Spans known to carry the label.
        num_top: Number of the strongest frames that are marked.

    Raises:
        AttributionError: If the target was not explained in every epoch.
        AudioError: If the waveform is not as long as the one explained.
        SettingError: If there is no explanation, they differ in clip, or have no frames.
    """
    ordered = {str(epoch): explanations[epoch] for epoch in sorted(explanations)}
    views = _views(ordered, waveform, target, label, evidence)
    last = list(views.values())[-1]
    gaps = [gap for view in views.values() if (gap := view.largest_gap) is not None]
    lines = [
        "All epochs on one scale; score and classes above are the last one's. Hollow: another was predicted.",
        f"{GAP}: {percent(max(gaps))} at most." if gaps else "",
        last.line(*ABOUT),
    ]
    panel = _map_panel(
        "epochs",
        f"Attribution of each frame to the {last.score_name(literal)}, by epoch",
        {name: _frames(view) for name, view in views.items()},
        {
            "probability": _probabilities(views.values()),
            **_map_of_layers("layers", [view.units("layers") for view in views.values()]),
        },
    )
    return draw_sheet(last, [*sound_panels(last), panel], lines, num_top=num_top, intervals=False)


def plot_methods(
    explanations: Mapping[str, Explanation],
    waveform: GivenWaveform = None,
    *,
    target: str | None = None,
    label: str | None = None,
    evidence: Sequence[Span] = (),
    num_top: int = 0,
) -> Figure:
    """Figure of one clip as several methods, or settings, explain it.

    Methods that claim completeness share a scale; the others, whose unit is another, have their own.

    Args:
        explanations: Explanations of the clip by name, in the order of the rows. The strongest frames are
            those of the first.
        waveform: The clip `(num_samples,)`; read from its file if None.
        target: Name of the target; None for the only one, or what is predicted.
        label: Annotated class of the clip.
        evidence: Spans known to carry the label.
        num_top: Number of the strongest frames that are marked.

    Raises:
        AttributionError: If a method did not explain the target.
        AudioError: If the waveform is not as long as the one explained.
        SettingError: If there is no explanation, they differ in clip, or have no frames.
    """
    views = _views(explanations, waveform, target, label, evidence)
    first = next(iter(views.values()))
    complete = {name: view.largest_gap is not None for name, view in views.items()}
    shared = [_frames(view) for name, view in views.items() if complete[name]]
    rows: list[Panel] = []
    for name, view in views.items():
        frames, facts = _frames(view), view.facts
        sums = [f"{short} {facts[fact]}" for fact, short in SUMS.items() if fact in facts]
        rows.append(
            frame_row(
                f"frames {name}",
                name if complete[name] else f"{name}, on its own scale",
                frames,
                scale=shared if complete[name] else [frames],
                num_rows=len(views),
                about="" if rows else f"attribution of each frame to the {first.score_name(literal)}",
                beside={f"sums {name}": partial(draw.plot_lines_of_text, lines=sums)},
            )
        )
    lines = [f"{literal(name, 24)}   {view.line(*ABOUT)}" for name, view in views.items()]
    return draw_sheet(first, [*sound_panels(first), *rows], lines, num_top=num_top)


def plot_comparison(
    comparisons: Comparison | Sequence[Comparison],
    waveform: GivenWaveform = None,
    *,
    names: Sequence[str] = (),
    label: str | None = None,
    evidence: Sequence[Span] = (),
) -> Figure:
    """Figure of two or more classifiers on one scale, and of each one's attributions minus the first's.

    Args:
        comparisons: A comparison of two classifiers on one clip, or one of the first with each other.
        waveform: The clip `(num_samples,)`; read from its file if None.
        names: Names of the classifiers, the first one first; numbered if empty.
        label: Annotated class of the clip.
        evidence: Spans known to carry the label.

    Raises:
        SettingError: If no frames were compared, or names are missing.
        AudioError: If the waveform is not as long as the one explained.
    """
    comparisons = [comparisons] if isinstance(comparisons, Comparison) else comparisons
    names = _checked_names(comparisons, names)
    stage, target = _compared_stage(comparisons[0]), comparisons[0].target
    make = partial(ClipView.from_explanation, target=target, label=label, evidence=evidence)
    view = make(comparisons[0].first, waveform)
    short = _short_names(names)
    frames = _compared([one.differences[stage, "frames"] for one in comparisons], view.times[stage])
    known = [one.differences.get(("layers", "layers")) for one in comparisons]
    layers = [] if None in known else _compared([one for one in known if one is not None])
    explanations = [comparisons[0].first, *(one.second for one in comparisons)]
    build = _as_maps if len(names) > MOST_AS_BARS else _as_bars
    shown = build(view, explanations, short, frames, layers)
    pairs = zip(short, explanations, strict=True)
    scores = [f"{name} ({number(one.score[target])})" for name, one in pairs]
    resolved = [percent(float(np.mean(~one.unresolved))) for one in frames[len(names) :]]
    shares = [f"{name} ({share})" for name, share in zip(short[1:], resolved, strict=True)]
    paired = all(one.differences[stage, "frames"].paired for one in comparisons)
    legend = [f"{place}: {literal(name, LONG_NAME)}" for place, name in zip(short, names, strict=True)]
    lines = [
        f"Score of {literal(target, 32)}: {', '.join(scores)}.",
        f"Frames whose difference to {short[0]} is resolved: {', '.join(shares)}.",
        "" if short == [*map(literal, names)] else f"{', '.join(legend)}.",
        "95 % intervals of the differences: "
        + ("from the same draws, draw by draw." if paired else "as if the two errors were independent."),
        view.line(*ABOUT),
    ]
    return draw_sheet(view, [*sound_panels(view), *shown], lines, intervals=build is _as_bars)


def _as_bars(
    view: ClipView,
    explanations: Sequence[Explanation],
    short: Sequence[str],
    frames: Sequence[Units],
    layers: Sequence[Units],
) -> list[Panel]:
    """A row for each classifier and each difference, with bars and their intervals."""
    count, pairs = len(explanations), zip(short, explanations, strict=True)
    titles = [f"{name}, predicts {literal(one.prediction)}" for name, one in pairs]
    titles += [f"{name} minus {short[0]}" for name in short[1:]]
    about = {0: f"attribution of each frame to the {view.score_name(literal)}"}
    about[count] = "differences, on a scale of their own"
    rows = []
    for place, title in enumerate(titles):
        group = slice(0, count) if place < count else slice(count, None)
        name = f"model {place}" if place < count else f"difference {place - count + 1}"
        beside = layers_beside(f"layers of {name}", layers, place, layers[group])
        row = partial(frame_row, scale=frames[group], num_rows=len(titles), about=about.get(place, ""))
        rows.append(row(name, title, frames[place], beside=beside))
    return rows


def _as_maps(
    view: ClipView,
    explanations: Sequence[Explanation],
    short: Sequence[str],
    frames: Sequence[Units],
    layers: Sequence[Units],
) -> list[Panel]:
    """A row of color for each classifier, and another map of their differences to the first."""
    count = len(explanations)
    scores = [one.score[view.target] for one in explanations]
    distances = [score - scores[0] for score in scores[1:]]
    most = 1.15 * max(map(abs, distances)) or 1.0
    dots = partial(draw.plot_dots, values=distances, title="Score", filled=range(count), limits=(-most, most))
    views = [ClipView.from_explanation(one, target=view.target) for one in explanations]
    return [
        _map_panel(
            "models",
            f"Attribution of each frame to the {view.score_name(literal)}",
            dict(zip(short, frames[:count], strict=True)),
            {"probability": _probabilities(views), **_map_of_layers("layers", layers[:count])},
        ),
        _map_panel(
            "differences",
            f"Differences to {short[0]}",
            dict(zip(short[1:], frames[count:], strict=True)),
            {"score": dots, **_map_of_layers("layers of differences", layers[count:])},
        ),
    ]


def _map_panel(name: str, title: str, rows: Mapping[str, Units], beside: Mapping[str, Draw]) -> Panel:
    """A map with one row of frames for each name."""

    def draw_map(axes: Axes) -> None:
        shown = list(rows.values())
        norm = signed_norm(*(one.values for one in shown))
        draw.plot_rows_over_time(axes, shown, list(rows), norm)
        axes.set_title(title)

    return Panel(name, int(np.clip(MAP_ROW_PX * len(rows), *MAP_PX)), draw_map, beside)


def _probabilities(views: Iterable[ClipView]) -> Draw:
    """Draws the target's probability in each row; hollow where another class was predicted."""
    shown = list(views)
    label = shown[0].target_labels[0]
    filled = [place for place, view in enumerate(shown) if view.prediction == label]
    values = [view.probabilities[label] for view in shown]
    return partial(
        draw.plot_dots, values=values, title=f"p({literal(label, 12)})", filled=filled, limits=(0.0, 1.0)
    )


def _map_of_layers(name: str, rows: Sequence[Units | None]) -> dict[str, Draw]:
    """Draws the sums of layers in each row, where all rows have them."""
    shown = [row for row in rows if row is not None]
    if not shown or len(shown) < len(rows):
        return {}
    norm = signed_norm(*(one.values for one in shown))
    return {name: partial(draw.plot_layers_of_rows, rows=shown, norm=norm)}


def _views(
    explanations: Mapping[str, Explanation],
    waveform: GivenWaveform,
    target: str | None,
    label: str | None,
    evidence: Sequence[Span],
) -> dict[str, ClipView]:
    """Views of one target of explanations that are of one clip and have frames."""
    if not explanations:
        raise SettingError("explanations={} is empty; give at least one")
    first, last = next(iter(explanations.values())), list(explanations.values())[-1]
    named = target or (last.targets[0] if len(last.targets) == 1 else last.prediction)
    views = {}
    for name, one in explanations.items():
        if one.clip_sha256 != first.clip_sha256 or one.times != first.times:
            raise SettingError(
                f"explanations: {name!r} is of another clip or backbone; give those of one clip"
            )
        views[name] = ClipView.from_explanation(one, waveform, target=named, label=label, evidence=evidence)
    return views


def _frames(view: ClipView) -> Units:
    if view.frames is None:
        raise SettingError(
            f"explanations: one has stages={', '.join(view.numbers['stages'])}, which give no frames; "
            "explain with 'frames' or 'waveform' among stages"
        )
    return view.frames


def _checked_names(comparisons: Sequence[Comparison], names: Sequence[str]) -> Sequence[str]:
    """The names of the classifiers, or numbers where there are none."""
    if not comparisons:
        raise SettingError("comparisons=[]: there is nothing to draw; compare with one classifier at least")
    names = names or [str(place + 1) for place in range(len(comparisons) + 1)]
    if len(names) != len(comparisons) + 1:
        raise SettingError(
            f"names={list(names)} must name {len(comparisons) + 1} classifiers, the first one first"
        )
    return names


def _compared_stage(comparison: Comparison) -> str:
    """The stage whose frames were compared."""
    known = [stage for stage in ("frames", "waveform") if (stage, "frames") in comparison.differences]
    if not known:
        raise SettingError(
            "comparison: no frames were compared; explain with 'frames' or 'waveform' among stages"
        )
    return known[0]


def _short_names(names: Sequence[str]) -> list[str]:
    """The names where all are short, else their numbers.

    >>> _short_names(["early", "late"]), _short_names(["runs/demo/version_0", "epoch 5"])
    (['early', 'late'], ['1', '2'])
    """
    short = all(len(name) <= SHORT_NAME for name in names)
    return [literal(name) if short else str(place + 1) for place, name in enumerate(names)]


def _compared(found: Sequence[Difference], times: TimeGrid | None = None) -> list[Units]:
    """Units of each classifier, the first one first, and then of each difference to the first."""
    estimates = [found[0].first, *(one.second for one in found)]
    differences = [(one.values, one.half_width) for one in found]
    pairs = [*map(_first_target, estimates), *differences]
    return [
        Units(values.double().numpy(), None if half is None else half.double().numpy(), times)
        for values, half in pairs
    ]


def _first_target(estimate: ViewEstimate) -> tuple[Any, Any]:
    return estimate.values[0], None if estimate.stderr is None else estimate.half_width()[0]
