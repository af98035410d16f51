"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.viz.report.charts import charts_of
from wavshap_lightning.viz.report.embed import (
    asset,
    compressed,
    json_for_script,
    plotly_script,
    policy,
    templates,
)
from wavshap_lightning.viz.report.evidence import headline
from wavshap_lightning.viz.report.listening import Samples, sound_url
from wavshap_lightning.viz.report.notes import score_name, settings_of, warnings_of
from wavshap_lightning.viz.report.report_clip import ReportClip
from wavshap_lightning.viz.report.rows import COLUMNS, cells_of
from wavshap_lightning.viz.report.summary import HeardFrom, summarise
from wavshap_lightning.viz.report.summary_view import sentence, summary_charts
from wavshap_lightning.viz.report.timeline import timeline
from wavshap_lightning.viz.report.words_line import words_of

NOTHING: Mapping[str, str] = MappingProxyType({})


def build_report(
    clips: Sequence[ReportClip],
    *,
    title: str,
    model: Mapping[str, str] = NOTHING,
    note: str = "",
    heard: Sequence[HeardFrom] | None = None,
) -> str:
    """The HTML of one page about these clips; the same clips give the same text.

    It fetches nothing: sounds, pictures and plotly.js are in it. Clips are drawn when they are opened.

    Args:
        clips: In the order of the table.
        title: What the page is called.
        model: What people should know of the classifier: a name and words for each.
        note: What people should know of the choice of these clips.
        heard: What each class is heard from, where these clips are but a part; found from them if None.

    Raises:
        SettingError: If there is no clip.
    """
    if not clips:
        raise SettingError("clips=[] is empty; give at least one clip, explained or failed")
    html = (
        templates()
        .get_template("page.html")
        .render(
            title=title,
            model=model,
            policy=policy(plotly_script(), asset("page.js")),
            style=asset("page.css"),
            plotly=plotly_script(),
            script=asset("page.js"),
            views=[_view(clip, len(clips)) for clip in clips],
            first=json_for_script(_data(clips[0])),
            others=[compressed(_data(clip)) for clip in clips[1:]],
            columns=COLUMNS,
            rows=[cells_of(clip) for clip in clips],
            num_failed=sum(clip.saved is None for clip in clips),
            note=note,
            **_emotions(_summarise(clips) if heard is None else heard),
        )
    )
    return html.encode("utf-8", "backslashreplace").decode("utf-8")  # names of files need not be Unicode


def _view(clip: ReportClip, count: int) -> Markup:
    saved = clip.saved
    found: dict[str, Any] = {"clip": clip, "several": count > 1}
    if saved is not None:
        found |= {
            "target": saved.numbers["target"],
            "headline": headline(saved),
            "score_name": score_name(saved),
            "warnings": warnings_of(saved),
            "words": words_of(saved),
            "charts": [(chart.key, chart.heading) for chart in charts_of(saved)],
            "settings": settings_of(saved),
        }
    return Markup(templates().get_template("clip.html").render(found))  # noqa: S704 - escaped in there


def _data(clip: ReportClip) -> dict[str, Any]:
    if clip.saved is None:
        return {"sound": None, "plots": {}}
    sound = None if clip.waveform is None else sound_url(clip.waveform, clip.saved.numbers["sample_rate"])
    return {"sound": sound, "plots": _plots(clip.saved, clip.waveform)}


def _plots(saved: SavedClip, waveform: Samples | None) -> dict[str, Any]:
    over_time = timeline(saved, waveform)
    return {
        **({} if over_time is None else {"timeline": over_time}),
        **{chart.key: chart.plot for chart in charts_of(saved)},
    }


def _summarise(clips: Sequence[ReportClip]) -> list[HeardFrom]:
    """Of a single clip there is none."""
    return summarise(clip.saved for clip in clips if clip.saved is not None) if len(clips) > 1 else []


def _emotions(found: Sequence[HeardFrom]) -> dict[str, Any]:
    """The summary by target, and its plots."""
    cards: list[dict[str, Any]] = []
    plots: dict[str, Any] = {}
    for place, heard in enumerate(found):
        charts = [(f"{place}-{chart.key}", chart) for chart in summary_charts(heard)]
        plots |= {key: chart.plot for key, chart in charts}
        headings = [(key, chart.heading) for key, chart in charts]
        cards.append(
            {"target": heard.target, "count": heard.num_clips, "said": sentence(heard), "charts": headings}
        )
    return {"emotions": cards, "emotion_plots": json_for_script(plots)}
