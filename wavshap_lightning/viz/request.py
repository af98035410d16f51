"""What a page is about, and what all pages share: heading, sound, marks, key and caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.viz.hearing import Sound, log_mel
from wavshap_lightning.viz.margins import MOST_CLASSES, plot_classes, plot_text
from wavshap_lightning.viz.marks import KeyEntries, mark_evidence, mark_frames, plot_key
from wavshap_lightning.viz.page import Page, Row
from wavshap_lightning.viz.panels import plot_spectrogram, plot_waveform
from wavshap_lightning.viz.theme import INK, TEXT_PT, TITLE_PT
from wavshap_lightning.viz.words import LABEL_WIDTH, clip_name, decision, literal, target_class

CLASS_PX, LINE_PX = 15, 17
LEAST_WAVEFORM_PX, SPECTROGRAM_PX = 110, 230


@dataclass(frozen=True)
class Request:
    """What a page is about.

    Args:
        explanation: Of which clip.
        sound: What can be heard of it.
        label: What it was annotated as, if that is known.
        evidence: Spans known to carry the label.
        num_top: How many of the strongest frames to mark.
        notes: What people must know before they believe it.
    """

    explanation: Explanation
    sound: Sound
    label: str | None = None
    evidence: tuple[Span, ...] = ()
    num_top: int = 0
    notes: tuple[str, ...] = ()


def rows_above(
    request: Request, *, spectrogram_px: int = SPECTROGRAM_PX, beside_spectrogram: tuple[str, ...] = ()
) -> list[Row]:
    """Heading and sound, or words about why there is none, with the classes beside.

    Args:
        request: What the page is about.
        spectrogram_px: How high that is.
        beside_spectrogram: Panels to its right.
    """
    num_classes = min(len(request.explanation.labels), MOST_CLASSES)
    height = max(LEAST_WAVEFORM_PX, CLASS_PX * num_classes)
    heading = Row("heading", 40, above_px=0, kind="page")
    if request.sound.waveform is None:
        return [heading, Row("no sound", height, kind="text", sides=("classes",))]
    return [
        heading,
        Row("waveform", height, sides=("classes",)),
        Row("spectrogram", spectrogram_px, sides=beside_spectrogram),
    ]


def rows_below(lines: Sequence[str]) -> list[Row]:
    """Key and caption."""
    return [
        Row("key", LINE_PX, above_px=44, kind="page"),
        Row("caption", LINE_PX * len(lines), above_px=10, kind="page"),
    ]


def draw_above(page: Page, request: Request, target: str | None) -> None:
    """Draw the rows above.

    Args:
        page: Where.
        request: What it is about.
        target: What is explained; None for several targets.
    """
    explanation, waveform = request.explanation, request.sound.waveform
    heading = page.panels["heading"]
    plot_text(heading, [clip_name(explanation)], size_pt=TITLE_PT, color=INK)
    heading.text(0, 0, decision(explanation, target, request.label), va="bottom", fontsize=TEXT_PT)
    plot_classes(
        page.panels["classes"],
        explanation.probabilities,
        target=None if target is None else target_class(explanation, target),
        prediction=explanation.prediction,
        label=request.label,
    )
    if waveform is None:
        plot_text(page.panels["no sound"], [f"The sound is not drawn: {request.sound.missing}."])
        return
    plot_waveform(page.panels["waveform"], waveform, explanation.sample_rate)
    windows = explanation.times["stft"]
    plot_spectrogram(page.panels["spectrogram"], log_mel(waveform, windows), windows)


def draw_below(page: Page, key: KeyEntries, lines: Sequence[str]) -> None:
    """Draw the rows below."""
    plot_key(page.panels["key"], key)
    plot_text(page.panels["caption"], lines)


def draw_marks(page: Page, request: Request, target: str | None) -> None:
    """The strongest frames and the evidence, through all panels over time."""
    path = request.explanation.time_stage
    if path is not None and request.num_top:
        mark_frames(
            page.over_time, request.explanation.top_frames(request.num_top, stage=path, target=target)
        )
    mark_evidence(page.over_time, request.evidence)


def key_of(request: Request, target: str | None, *, intervals: bool = True) -> KeyEntries:
    """The key's entries.

    Args:
        request: What the page is about.
        target: What is explained; None for several targets.
        intervals: Whether intervals are drawn, where there are any.
    """
    explanation, path = request.explanation, request.explanation.time_stage
    found = explanation.attributions.values()
    known = any(view.stderr is not None for one in found for view in one.views.values())
    count = 0 if path is None else min(request.num_top, explanation.times[path].count)
    marks = f"{count} strongest frames" if count > 1 else "strongest frame"
    if target is None:
        marks += f" for {literal(explanation.prediction, LABEL_WIDTH)}"
    return KeyEntries(
        target="the class" if target is None else literal(target, 2 * LABEL_WIDTH),
        intervals=known and intervals and path is not None,
        unresolved=known,
        marks=marks if count else "",
    )
