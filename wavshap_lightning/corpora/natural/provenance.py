"""Where each clip comes from, and which recordings are left out: `sources.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.natural.recording import Stretch
from wavshap_lightning.corpora.tables import format_csv, read_csv, write_table

SOURCES = "sources.csv"
COLUMNS = ("clip", "source", "source_label", "start_s", "end_s", "gain", "reason")


@dataclass(frozen=True, slots=True)
class Usable:
    """A recording in which a cue can be planted.

    Args:
        clip: The recording.
        stretch: Where.
    """

    clip: Clip
    stretch: Stretch


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A recording in which no cue can be planted.

    Args:
        path: Where it lies.
        label: What it was labelled.
        reason: What is amiss with it.
    """

    path: Path
    label: str
    reason: str


def save_sources(
    root: Path, used: Sequence[Usable], clips: Sequence[Clip], left_out: Sequence[LeftOut]
) -> None:
    """Write a row for each recording: the clip it became, or why it became none.

    Args:
        root: Folder of the clips.
        used: Recordings that were used.
        clips: What became of them, in the same order.
        left_out: Those that were not.

    Raises:
        CorpusError: If it cannot be written.
    """
    rows = [_row(root, one, clip) for one, clip in zip(used, clips, strict=True)]
    rows += [["", str(one.path), one.label, "", "", "", one.reason] for one in left_out]
    write_table(root / SOURCES, format_csv(COLUMNS, rows))


def read_left_out(root: Path) -> tuple[LeftOut, ...]:
    """The recordings that are left out of a corpus, as its table has them.

    Raises:
        CorpusError: If there is no such table.
    """
    cells = [row.cells for row in read_csv(root / SOURCES, required=COLUMNS)]
    return tuple(
        LeftOut(Path(of["source"]), of["source_label"], of["reason"]) for of in cells if not of["clip"]
    )


def _row(root: Path, used: Usable, clip: Clip) -> list[str]:
    offset_s = used.clip.start_s or 0.0
    times_s = (offset_s + used.stretch.start_s, offset_s + used.stretch.end_s)
    return [
        clip.path.relative_to(root).as_posix(),
        str(used.clip.path.absolute()),
        used.clip.label,
        *(str(round(time_s, 6)) for time_s in times_s),
        f"{used.stretch.gain:g}",
        "",
    ]
