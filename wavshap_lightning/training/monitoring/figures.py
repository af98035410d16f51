"""Figures and records of watched clips: an epoch at a time, and all epochs at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence

from matplotlib.figure import Figure

from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.files import write_json
from wavshap_lightning.training.data.dataset import read_waveform
from wavshap_lightning.training.monitoring.probes import Found, Watched, slim
from wavshap_lightning.training.monitoring.writer import ExplanationLog
from wavshap_lightning.viz.comparisons import plot_epochs
from wavshap_lightning.viz.figures import figure_pixels, plot
from wavshap_lightning.viz.theme import theme

RECORDS, RECORD_SUFFIX = "explanations", ".explanation"
ALL_EPOCHS, PROBES = "epochs", "probes.json"


def warm_up() -> None:
    """Find the fonts and load what draws: the first figure of a process would take several times as long."""
    with theme():
        figure = Figure(figsize=(1.0, 1.0))
        figure.add_subplot().set_title("fonts")
        figure_pixels(figure)


def log_clip(log: ExplanationLog, found: Found, moment: str, num_top: int) -> None:
    """Draw a clip's figure: of its label's score, and another of the prediction's where they differ.

    Args:
        log: Where it goes.
        found: The clip.
        moment: Of which epoch.
        num_top: How many frames are marked.
    """
    explanation, clip = found.explanation, found.watched.clip
    for target in explanation.targets:
        name = found.watched.name if target == clip.label else f"{found.watched.name}_predicted"
        with log.notes.instead_of_raising(f"{name}, its figure"):
            figure = plot(
                explanation,
                found.waveform,
                target=target,
                label=clip.label,
                evidence=clip.evidence,
                num_top=num_top,
            )
            caption = f"{moment}: target {target}, predicted {explanation.prediction}, labeled {clip.label}"
            log.figure(name, moment, figure_pixels(figure), caption)


def save_record(log: ExplanationLog, found: Found, moment: str) -> None:
    """Keep what the page of all epochs is drawn from, in the run's folder and not in memory."""
    if log.folder is None:
        return
    with log.notes.instead_of_raising(f"{found.watched.name}, its record"):
        slim(found.explanation).save(log.folder / RECORDS / moment / f"{found.watched.name}{RECORD_SUFFIX}")


def log_epoch_pages(log: ExplanationLog, watched: Sequence[Watched], epochs: Sequence[int]) -> None:
    """Draw every clip with all its epochs.

    Args:
        log: Where the figures go, and the folder the records lie in.
        watched: The clips.
        epochs: Those that were explained.
    """
    for one in watched:
        with log.notes.instead_of_raising(f"{one.name}, all epochs"):
            found = _read_records(log, one, epochs)
            if not found:
                continue
            waveform = read_waveform(one.clip, next(iter(found.values())).sample_rate)
            figure = plot_epochs(
                found, waveform, target=one.clip.label, label=one.clip.label, evidence=one.clip.evidence
            )
            log.figure(one.name, ALL_EPOCHS, figure_pixels(figure), f"{one.name}: all epochs")
    log.send()


def log_probes(log: ExplanationLog, part: str, watched: Sequence[Watched]) -> None:
    """Write down for people which clips are watched, and why; what the file says of other parts stays."""
    if log.folder is None:
        return
    path = log.folder / PROBES
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known[part] = [
        {"name": one.name, "why": one.why, "label": one.clip.label, "file": str(one.clip.path)}
        for one in watched
    ]
    write_json(path, known)


def _read_records(log: ExplanationLog, watched: Watched, epochs: Sequence[int]) -> dict[int, Explanation]:
    if log.folder is None:
        return {}
    paths = {
        epoch: log.folder / RECORDS / f"epoch_{epoch:03d}" / f"{watched.name}{RECORD_SUFFIX}"
        for epoch in epochs
    }
    return {epoch: Explanation.load(path) for epoch, path in paths.items() if path.is_file()}
