"""The table of clips: a row each, sortable by every column."""

from __future__ import annotations

from dataclasses import dataclass

from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.viz.report.evidence import shortest_stretch
from wavshap_lightning.viz.report.notes import largest_gap, warnings_of
from wavshap_lightning.viz.report.reading import when
from wavshap_lightning.viz.report.report_clip import ReportClip
from wavshap_lightning.viz.words import TO, number, percent

COLUMNS = (
    "File",
    "Label",
    "Prediction",
    "Probability",
    "Target",
    "Score",
    "Sum",
    "Gap",
    "Most evidence",
    "Note",
)


@dataclass(frozen=True)
class Cell:
    """What a cell shows and what it is sorted by.

    Args:
        text: Shown.
        key: A number to sort by; None to sort by the text. Empty cells come last.
        title: More, on hover.
    """

    text: str
    key: float | None = None
    title: str = ""


def cells_of(clip: ReportClip) -> list[Cell]:
    """The cells of a clip, beginning with its name; of a failed one the last says why."""
    if clip.saved is None:
        return [
            Cell(clip.name),
            *[Cell("")] * (len(COLUMNS) - 2),
            Cell(f"failed: {clip.reason}", title=clip.reason),
        ]
    return [
        Cell(clip.name),
        *_decision(clip.saved),
        *_sums(clip.saved),
        _moment(clip.saved),
        _note(clip.saved),
    ]


def _decision(saved: SavedClip) -> list[Cell]:
    numbers = saved.numbers
    prediction = numbers["prediction"]
    share = numbers["probabilities"][prediction]
    words = [numbers.get("label") or "", prediction]
    return [*map(Cell, words), Cell(percent(share), share), Cell(numbers["target"])]


def _sums(saved: SavedClip) -> list[Cell]:
    score, total = saved.numbers["score"], saved.numbers["attribution_sum"]
    missing = largest_gap(saved)
    gap = Cell("") if missing is None else Cell(percent(missing), missing)
    return [Cell(number(score), score), Cell(number(total, signed=True), total), gap]


def _moment(saved: SavedClip) -> Cell:
    found = when(saved)
    stretch = None if found is None else shortest_stretch(found)
    if stretch is None:
        return Cell("not resolved")
    words = f"{percent(stretch.share)} of the resolved evidence for {saved.numbers['target']}"
    return Cell(f"{stretch.start_s:.2f}{TO}{stretch.end_s:.2f} s", stretch.start_s, words)


def _note(saved: SavedClip) -> Cell:
    found = warnings_of(saved)
    if not found:
        return Cell("")
    words = "1 warning" if len(found) == 1 else f"{len(found)} warnings"
    return Cell(words, float(len(found)), " ".join(found))
