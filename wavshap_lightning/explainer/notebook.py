"""An explanation as a notebook shows it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wavshap_lightning.explainer.explanation import Explanation

NUM_MOMENTS = 5
WHEN = ("frames", "waveform")


def to_html(explanation: Explanation) -> str:
    """A sentence on the decision and a table of the strongest moments and the strongest layer.

    Names are escaped: a clip or a label may be called anything.
    """
    target = explanation.targets[0] if len(explanation.targets) == 1 else explanation.prediction
    prediction = explanation.prediction
    name = PurePath(explanation.clip).name or "A waveform"
    gaps = [gap for gap in explanation.relative_gap(target).values() if gap is not None]
    sentence = (
        f"<b>{escape(name)}</b>, {explanation.duration_s:.2f} s: predicted <b>{escape(prediction)}</b> "
        f"({explanation.probabilities[prediction]:.0%}). What speaks for <b>{escape(target)}</b> and "
        f"against it (score {explanation.score[target]:+.3f}{f', gap {max(gaps):.1%}' if gaps else ''}):"
    )
    rows = "".join(_row(*cells) for cells in _rows(explanation, target))
    return f"<div><p>{sentence}</p><table>{rows}</table></div>"


def _rows(explanation: Explanation, target: str) -> Iterable[tuple[str, float, float | None]]:
    path = next((path for path in WHEN if path in explanation.attributions), None)
    if path is not None:
        for one in explanation.top_frames(NUM_MOMENTS, path=path, target=target):
            yield f"{one.start_s:.2f} to {one.end_s:.2f} s", one.attribution, one.half_width
    if "layers" in explanation.attributions:
        for top in explanation.top_layers(1, target=target):
            yield f"layer {top.layer}", top.attribution, top.half_width


def _row(what: str, value: float, half_width: float | None) -> str:
    interval = "" if half_width is None else f"&plusmn; {half_width:.3f}"
    return f"<tr><td>{escape(what)}</td><td>{value:+.3f}</td><td>{interval}</td></tr>"
