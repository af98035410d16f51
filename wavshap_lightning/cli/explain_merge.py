"""What `explain.py --corpus` writes when all clips are done: two tables and a page, from the records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.cli.explain_files import write_report, writing_to
from wavshap_lightning.cli.explain_items import Item
from wavshap_lightning.cli.explain_job import Job
from wavshap_lightning.corpora.tables import format_csv
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.saved import SavedClip, load_clip
from wavshap_lightning.files import write_atomically
from wavshap_lightning.training.corpus_records import Record
from wavshap_lightning.training.emotions_table import COLUMNS, emotion_rows
from wavshap_lightning.viz.report.summary import HeardFrom, summarise_shares

MOST_CLIPS = 200
MOST_BYTES = 60_000_000
"""A page that is larger is slow to open."""


def merge(job: Job, title: str, model: dict[str, str], *, report: bool) -> int:
    """Write `summary.csv`, `emotions.csv` and, where it is wanted, `report.html`.

    The clips come in the order of the corpus, whichever process explained them when.

    Args:
        job: All of whose clips are done.
        title: Of the page.
        model: What was explained, in words.
        report: Whether to write the page.

    Returns:
        How many clips were explained.

    Raises:
        SettingError: If a record is missing, or the disk refuses.
    """
    records = [_read(job, item) for item in job.items]
    job.output.rows = [dict(record.row) for record in records]
    job.output.write_summary()
    heard = summarise_shares([record.shares for record in records if record.shares is not None])
    table = format_csv(COLUMNS, emotion_rows(heard))
    with writing_to(job.output.folder):
        write_atomically(job.output.folder / "emotions.csv", table.encode(errors="backslashreplace"))
    if report:
        _write_page(job, records, heard, title, model)
    return sum(record.shares is not None for record in records)


def _read(job: Job, item: Item) -> Record:
    record = job.records.read(item.stem)
    if record is None:
        raise SettingError(
            f"out={job.output.folder}: there is no record of {item.name}; was another command writing there, "
            "or do the nodes not share the folder? Run the command again, and it goes on"
        )
    return record


def _write_page(
    job: Job, records: Sequence[Record], heard: Sequence[HeardFrom], title: str, model: dict[str, str]
) -> None:
    """Of all clips, or of as many as a page can hold."""
    count, names = min(len(records), MOST_CLIPS), short_names(job.items)
    while True:
        chosen = evenly_spaced(len(records), count)
        seen = [(names[place], *_seen(job, job.items[place], records[place])) for place in chosen]
        note = _note(count, len(records))
        write_report(job.output.folder, seen, title, model, note=note, heard=heard)
        size = (job.output.folder / "report.html").stat().st_size
        if size <= MOST_BYTES or count == 1:
            return
        count = max(1, int(0.9 * count * MOST_BYTES / size))


def _note(count: int, total: int) -> str:
    if count == total:
        return ""
    return (
        f"These are {count} of {total} clips, evenly spaced in the order of the corpus; what each class is "
        "heard from is of all. Every clip is in summary.csv and clips/."
    )


def evenly_spaced(total: int, count: int) -> list[int]:
    """Some of the positions below a number.

    >>> evenly_spaced(10, 4)
    [0, 2, 5, 7]
    """
    return [place * total // count for place in range(count)]


def short_names(items: Sequence[Item]) -> list[str]:
    """The names of clips without the folder that they share.

    >>> short_names([Item(Path("/a/b/c/x.wav")), Item(Path("/a/b/y.wav"))])
    ['c/x.wav', 'y.wav']
    """
    shared = os.path.commonpath([item.path.absolute().parent for item in items])
    return [os.path.relpath(item.name, shared) for item in items]


def _seen(job: Job, item: Item, record: Record) -> tuple[SavedClip | None, Any, str]:
    """What was found in a clip, its sound, and why nothing was found."""
    if record.shares is None:
        return None, None, record.row["reason"]
    start_s, end_s = item.span_s
    rate = job.work.explainer.classifier.sample_rate
    waveform = load_audio(Path(item.path), sample_rate=rate, start_s=start_s, end_s=end_s)
    return load_clip(job.output.folder / "clips", item.stem), waveform, ""
