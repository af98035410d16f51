"""The report: one HTML file without external resources."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from wavshap_lightning.errors import SettingError
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.cues import cue_rows, floor_of, signed, sum_in_words
from wavshap_lightning.viz.report.plots import Plot, charts_of, timeline
from wavshap_lightning.viz.report.summary import ClassSummary, class_charts, clip_shares, sentence, summarize
from wavshap_lightning.viz.sound import sound_url
from wavshap_lightning.viz.theme import number, percent

ASSETS = Path(__file__).parent / "assets"
JSON: dict[str, Any] = {"allow_nan": False, "separators": (",", ":")}


def build_report(
    clips: Sequence[ClipView],
    *,
    title: str,
    model: Mapping[str, str] | None = None,
    note: str = "",
    failed: Sequence[tuple[str, str]] = (),
    summaries: Sequence[ClassSummary] | None = None,
    parts: Sequence[Any] = (),
    warned: Sequence[str] = (),
    profiles: Sequence[Mapping[str, Any]] = (),
) -> str:
    """HTML of a report page about some clips; the same clips give the same text.

    The page needs no network: sounds, pictures and plotly.js are embedded. A clip is drawn when it is opened.

    Args:
        clips: Clips in the order of the table.
        title: Title of the page.
        model: Facts about the classifier, text by name; None to omit them.
        note: A sentence about the choice of the clips.
        failed: Name and reason for each clip that could not be explained.
        summaries: Per-class summaries, if they cover more clips than these; computed from the clips if None.
        parts: Summaries of words and phones over clips, as `wavshap_lightning.evaluation.words` makes them.
        warned: Warnings about all clips together.
        profiles: Rows of `cues.csv`, the mean explanation of each class in acoustic cues.

    Raises:
        SettingError: If there is no clip.
    """
    if not clips and not failed:
        raise SettingError("clips=[] is empty; give at least one clip, explained or failed")
    if summaries is None:
        summaries = summarize([clip_shares(clip) for clip in clips]) if len(clips) > 1 else []
    views = [(clip, charts_of(clip), _tiers(clip)) for clip in clips]
    one = clips[0].words["one"] if clips else "class"
    classes = [(summary, sentence(summary, one), class_charts(summary)) for summary in summaries]
    style, script = (Markup((ASSETS / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))  # noqa: S704
    plotly = Markup(get_plotlyjs().replace("\r\n", "\n"))  # noqa: S704 - plotly's own file
    html = load_template("page.html").render(
        title=title,
        model=model,
        policy=content_policy(plotly, script),
        style=style,
        plotly=plotly,
        script=script,
        clips=views,
        data=[_compressed(_data(clip, charts)) for clip, charts, _ in views],
        failed=failed,
        note=note,
        one_output=one,
        parts=parts,
        warned=warned,
        summaries=classes,
        profiles=profiles,
        summary_plots=[{kind: plot for kind, (_, plot) in charts.items()} for _, _, charts in classes],
    )
    return html.encode("utf-8", "backslashreplace").decode("utf-8")  # names of files need not be Unicode


def _data(clip: ClipView, charts: Mapping[str, tuple[str, Plot]]) -> dict[str, Any]:
    """Sound and plots of a clip, which the page's script draws when the clip is opened."""
    sound = None if clip.waveform is None else sound_url(clip.waveform, clip.sample_rate)
    plots = {"timeline": timeline(clip), **{name: plot for name, (_, plot) in charts.items()}}
    shown: dict[str, Any] = {name: plot for name, plot in plots.items() if plot is not None}
    cues = {name: sound_url(one, clip.sample_rate) for name, one in clip.sounds.items()}
    return {"sound": sound, "plots": shown, **({"cues": cues} if cues else {})}


def _tiers(clip: ClipView) -> dict[str, list[tuple[Any, ...]]]:
    """Words and phones, or segments: name, times, interval in words, attribution, sign, strength of each."""
    tiers: dict[str, list[tuple[Any, ...]]] = {}
    for tier in clip.tiers or ("segments",):
        if (held := clip.columns(tier)) is not None and (shown := clip.units(tier)) is not None:
            strengths = np.abs(shown.values) / (np.abs(shown.values).max() or 1.0)
            numbers = (column.tolist() for column in (shown.values, shown.signs, strengths))
            names, times = shown.names, (held["start_s"], held["end_s"])
            tiers[tier] = list(zip(names, *times, shown.words, *numbers, strict=True))
    return tiers


def _compressed(values: object) -> str:
    """JSON for the page's script to unpack: a third smaller, and without characters that mean anything.

    >>> zlib.decompress(base64.b64decode(_compressed({"label": "</script>"})))
    b'{"label":"</script>"}'
    """
    return base64.b64encode(zlib.compress(json.dumps(values, **JSON).encode())).decode()


def content_policy(*scripts: str) -> str:
    """A Content-Security-Policy: these scripts run and no others, and nothing is fetched from anywhere."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "media-src data: blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def load_template(name: str, undefined: type[Undefined] = StrictUndefined) -> Any:  # noqa: ANN401 - jinja2's
    """Template of a page; every value is escaped unless it is marked as safe.

    Args:
        name: File among the assets.
        undefined: What becomes of values that are not given: an error, unless another class is.
    """
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    loader = FileSystemLoader(ASSETS)
    environment = Environment(loader=loader, autoescape=True, undefined=undefined, **blocks)
    environment.filters |= {"number": number, "percent": percent, "signed": signed}
    environment.globals |= {"cue_rows": cue_rows, "sum_in_words": sum_in_words, "floor_of": floor_of}
    environment.policies["json.dumps_kwargs"] = JSON
    return environment.get_template(name)
