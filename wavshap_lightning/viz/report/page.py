"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from wavshap_lightning.errors import SettingError
from wavshap_lightning.viz.clip_view import ClipView, shortest_stretch, units_from_rows
from wavshap_lightning.viz.report.charts import charts_of, interval_words
from wavshap_lightning.viz.report.summary import (
    ClassSummary,
    clip_shares,
    sentence,
    summarize,
    summary_charts,
)
from wavshap_lightning.viz.report.timeline import timeline
from wavshap_lightning.viz.sound import sound_url
from wavshap_lightning.viz.theme import EN_DASH, number, percent

ASSETS = Path(__file__).parent / "assets"
NOTHING: Mapping[str, str] = MappingProxyType({})
COLUMNS = ["File", "Label", "Prediction", "Probability", "Target", "Score", "Sum", "Gap", "Evidence", "Note"]
SIGNS = {1: "for", -1: "against", 0: "unresolved"}


class Cell(NamedTuple):
    """One cell of the table of clips.

    Args:
        text: Words shown.
        key: Number to sort by; None to sort by the text. Empty cells come last.
        title: More words, on hover.
    """

    text: str
    key: float | None = None
    title: str = ""


def build_report(
    clips: Sequence[ClipView],
    *,
    title: str,
    model: Mapping[str, str] = NOTHING,
    note: str = "",
    failed: Sequence[tuple[str, str]] = (),
    summaries: Sequence[ClassSummary] | None = None,
) -> str:
    """HTML of one page about these clips; the same clips give the same text.

    It fetches nothing: sounds, pictures and plotly.js are in it. Clips are drawn when they are opened.

    Args:
        clips: Clips in the order of the table.
        title: Title of the page.
        model: Facts about the classifier: a name and words for each.
        note: A sentence on the choice of these clips.
        failed: Name of each clip that could not be explained, and the reason.
        summaries: Per-class summaries of more clips than these; made from these if None.

    Raises:
        SettingError: If there is no clip.
    """
    if not clips and not failed:
        raise SettingError("clips=[] is empty; give at least one clip, explained or failed")
    if summaries is None:
        summaries = summarize([clip_shares(clip) for clip in clips]) if len(clips) > 1 else []
    charts = [charts_of(clip) for clip in clips]
    data = [
        _data(clip, {name: plot for name, (_, plot) in some.items()})
        for clip, some in zip(clips, charts, strict=True)
    ]
    headings = [{name: heading for name, (heading, _) in some.items()} for some in charts]
    cards, plots = _summary_cards(summaries)
    html = _template().render(
        title=title,
        model=model,
        policy=_policy(plotly_script(), _asset("page.js")),
        style=_asset("page.css"),
        plotly=plotly_script(),
        script=_asset("page.js"),
        clips=[
            {"view": clip, "charts": some, "words": _segments(clip)}
            for clip, some in zip(clips, headings, strict=True)
        ],
        first=_json_for_script(data[0] if data else {}),
        others=[_compressed(one) for one in data[1:]],
        columns=COLUMNS,
        rows=[_cells(clip) for clip in clips],
        failed=failed,
        note=note,
        summaries=cards,
        summary_plots=_json_for_script(plots),
    )
    return html.encode("utf-8", "backslashreplace").decode("utf-8")  # names of files need not be Unicode


def _data(clip: ClipView, plots: dict[str, Any]) -> dict[str, Any]:
    """Sound and plots of a clip, which the page's script draws when the clip is opened."""
    over_time = timeline(clip)
    plots = plots if over_time is None else {"timeline": over_time, **plots}
    return {
        "sound": None if clip.waveform is None else sound_url(clip.waveform, clip.sample_rate),
        "plots": plots,
    }


def _summary_cards(summaries: Sequence[ClassSummary]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The summary of each class for the template, and the plots of all."""
    cards: list[dict[str, Any]] = []
    plots: dict[str, Any] = {}
    for place, summary in enumerate(summaries):
        charts = {f"{place}-{kind}": chart for kind, chart in summary_charts(summary).items()}
        plots |= {key: plot for key, (_, plot) in charts.items()}
        headings = {key: heading for key, (heading, _) in charts.items()}
        cards.append({"summary": summary, "sentence": sentence(summary), "charts": headings})
    return cards, plots


def _cells(clip: ClipView) -> list[Cell]:
    """A clip's row of the table."""
    numbers, gap, frames, notes = clip.numbers, clip.largest_gap, clip.frames, clip.diagnostics
    share, score = clip.probabilities[clip.prediction], numbers["score"]
    total = next(iter(numbers["stages"].values()))["attribution_sum"]
    stretch = None if frames is None else shortest_stretch(frames)
    count = "1 warning" if len(notes) == 1 else f"{len(notes)} warnings"
    return [
        Cell(clip.name),
        Cell(clip.label or ""),
        Cell(clip.prediction),
        Cell(percent(share), share),
        Cell(clip.target),
        Cell(number(score), score),
        Cell(number(total, signed=True), total),
        Cell("") if gap is None else Cell(percent(gap), gap),
        Cell("not resolved")
        if stretch is None
        else Cell(
            f"{stretch.start_s:.2f}{EN_DASH}{stretch.end_s:.2f} s",
            stretch.start_s,
            f"{percent(stretch.share)} of the resolved evidence for {clip.target}",
        ),
        Cell(count, float(len(notes)), " ".join(notes)) if notes else Cell(""),
    ]


def _segments(clip: ClipView) -> list[dict[str, Any]]:
    """Segments of a clip, such as words, as a line colored by attribution; empty without them."""
    rows = clip.numbers.get("segments") or []
    halves = [row["half_width"] for row in rows]
    shown = units_from_rows([row["attribution"] for row in rows], halves if any(halves) else None)
    strongest = np.abs(shown.values).max(initial=0.0) or 1.0
    line = []
    for place, row in enumerate(rows):
        value, start_s = float(shown.values[place]), row["start_s"]
        times = "elsewhere" if start_s is None else f"{start_s:.2f}{EN_DASH}{row['end_s']:.2f} s"
        ends = (float(shown.low[place]), float(shown.high[place]))
        unresolved = bool(shown.unresolved[place])
        words = interval_words(value, *ends, known=halves[place] is not None, unresolved=unresolved)
        line.append(
            {
                "text": row["text"] or times,
                "sign": SIGNS[int(shown.signs[place])],
                "strength": round(100 * abs(value) / strongest),
                "amount": number(value, signed=True),
                "title": f"{times}: {words}",
                "start_s": start_s,
            }
        )
    return line


def _json_for_script(values: object) -> Markup:
    r"""JSON for a `<script>`: no tag in it begins or ends anything.

    >>> print(_json_for_script({"label": "</script>"}))
    {"label":"\u003c/script\u003e"}
    """
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - characters with a meaning in HTML are escaped


def _compressed(values: object) -> str:
    """JSON for the page's script to unpack: a third smaller, and without characters that mean anything.

    >>> zlib.decompress(base64.b64decode(_compressed({"label": "</script>"})))
    b'{"label":"</script>"}'
    """
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode())).decode()


@cache
def _asset(name: str) -> Markup:
    return Markup((ASSETS / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file


@cache
def plotly_script() -> Markup:
    """plotly.js, from the Python package of the same name."""
    return Markup(get_plotlyjs().replace("\r\n", "\n"))  # noqa: S704 - plotly's own file


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy: these scripts run and no others, and nothing is fetched from anywhere."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "media-src data: blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def _template() -> Any:  # noqa: ANN401 - jinja2's
    """Template of the page; every value is escaped unless it is marked as safe."""
    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html")
