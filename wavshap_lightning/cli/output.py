"""The folder that `explain.py` writes: a few files for each clip, a table and a page of all."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from matplotlib.figure import Figure

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.cli.clips import ExplainedClip, Item
from wavshap_lightning.cli.terminal import EXIT_DONE, EXIT_SOME_FAILED, EXIT_USAGE, shown
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.explainer.files import save_clip
from wavshap_lightning.explainer.stage_attribution import fingerprint
from wavshap_lightning.files import format_csv, write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.figures import plot
from wavshap_lightning.viz.report import build_report
from wavshap_lightning.viz.sound import check_share, split_by_attribution

COLUMNS = (
    "clip",
    "status",
    "reason",
    "label",
    "prediction",
    "probability",
    "target",
    "score",
    "baseline_score",
    "attribution_sum",
    "gap",
    "draws",
    "seconds",
)
SUMMARY_EVERY_S = 2.0


@dataclass
class Output:
    """Files to write about the clips.

    Args:
        out: Folder of the output.
        figures: Write a picture of each clip.
        sounds: Write each clip with what matters most kept alone, and removed.
        report: Write report.html, a page with all clips.
        waveform: Keep the waveform among the arrays of each clip.
        share: Share of a clip that is kept or removed in the sounds.
    """

    out: str = "explanations"
    figures: bool = True
    sounds: bool = True
    report: bool = True
    waveform: bool = False
    share: float = 0.2
    rows: list[dict[str, str]] = field(default_factory=list, init=False)
    _written_s: float = field(default=float("-inf"), init=False)

    @property
    def folder(self) -> Path:
        """Folder of the output."""
        return Path(self.out).expanduser()

    def open(self) -> None:
        """Make the folder and try it, before any work is done.

        Raises:
            SettingError: If nothing can be written there, or the share is out of range.
        """
        check_share(self.share)
        trial = self.folder / f".{uuid4().hex}.unfinished"
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            trial.write_bytes(b"")
            trial.unlink()

    def write_clip(self, found: ExplainedClip) -> list[Path]:
        """Write the files of one clip, its numbers last: where they are, the clip is finished.

        Returns:
            The files.

        Raises:
            SettingError: If the disk refuses.
        """
        clips, stem, item = self.folder / "clips", found.item.stem, found.item
        written = [clips / f"{stem}.npz", clips / f"{stem}.json"]
        waveform = {"waveform": found.waveform} if self.waveform else {}
        with writing_to(self.folder):
            if self.figures:
                written.append(clips / f"{stem}.png")
                evidence = item.clip.evidence
                figure = plot(found.explanation, found.waveform, label=item.label, evidence=evidence)
                write_figure(written[-1], figure)
            if self.sounds:
                written += self._write_sounds(found)
            save_clip(replace(found.saved, arrays={**found.saved.arrays, **waveform}), clips, stem)
        return written

    def discard(self, stem: str) -> None:
        """Remove the files of a clip that was explained before and now cannot be.

        Raises:
            SettingError: If the disk refuses.
        """
        names = [f"clips/{stem}.{suffix}" for suffix in ("json", "npz", "png")]
        names += [f"sounds/{stem}.{part}.wav" for part in ("kept", "removed")]
        with writing_to(self.folder):
            for name in names:
                (self.folder / name).unlink(missing_ok=True)

    def add_row(self, row: dict[str, str]) -> None:
        """Add the row of a clip; the table is written every few seconds.

        Raises:
            SettingError: If the disk refuses.
        """
        self.rows.append(row)
        if time.monotonic() - self._written_s > SUMMARY_EVERY_S:
            self.write_summary()

    def write_summary(self) -> None:
        """Write the table of all clips so far.

        Raises:
            SettingError: If the disk refuses.
        """
        text = format_csv([COLUMNS, *([row.get(name, "") for name in COLUMNS] for row in self.rows)])
        with writing_to(self.folder):
            write_atomically(self.folder / "summary.csv", text.encode(errors="backslashreplace"))
        self._written_s = time.monotonic()

    def write_report(
        self,
        clips: Sequence[ClipView],
        **more: Any,  # noqa: ANN401 - each is of its own type
    ) -> None:
        """Write the page of all clips.

        Args:
            clips: The clips, in the order of the page.
            **more: Title, model and others of
                [`build_report`][wavshap_lightning.viz.report.page.build_report].

        Raises:
            SettingError: If the disk refuses.
        """
        page = build_report(clips, **more)
        with writing_to(self.folder):
            write_atomically(self.folder / "report.html", page.encode(errors="replace"))

    def conclude(self, num_done: int, num_items: int) -> int:
        """Print how many clips were explained and where; return the exit status."""
        page = self.folder / "report.html"
        where = shown(page if page.is_file() else self.folder / "summary.csv")
        clips = "clip" if num_items == 1 else "clips"
        sys.stdout.write(f"{num_done} of {num_items} {clips} explained: {where}\n")
        return status_of(num_done, num_items)

    def _write_sounds(self, found: ExplainedClip) -> list[Path]:
        explanation, stage = found.explanation, found.explanation.time_stage
        if stage is None:
            return []
        frames = explanation.values(stage, "frames").double().numpy()
        waveform = found.waveform.astype(np.float64)
        parts = split_by_attribution(waveform, frames, explanation.times[stage], share=self.share)
        places = {name: self.folder / "sounds" / f"{found.item.stem}.{name}.wav" for name in parts}
        for name, sound in parts.items():
            save_audio(places[name], sound, sample_rate=explanation.sample_rate)
        return list(places.values())


def status_of(num_done: int, num_items: int) -> int:
    """Exit status: 0 if every clip is done, 1 if some are, 2 if none is."""
    if num_done == num_items:
        return EXIT_DONE
    return EXIT_SOME_FAILED if num_done else EXIT_USAGE


def model_words(name: str, classifier: EmotionClassifier) -> dict[str, str]:
    """The model for the page: where it was opened, its backbone, classes and fingerprint."""
    settings = classifier.backbone.settings
    return {
        "model": name,
        "backbone": settings.name if settings.revision is None else f"{settings.name} ({settings.revision})",
        "classes": ", ".join(classifier.labels),
        "fingerprint": fingerprint(classifier)[:12],
    }


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Report a refusal of the disk as an error of `--out`.

    Raises:
        SettingError: If the disk refuses.
    """
    try:
        yield
    except (OSError, AudioError) as error:
        cause = error.__cause__ if isinstance(error, AudioError) and error.__cause__ else error
        reason = getattr(cause, "strerror", None) or cause
        raise SettingError(
            f"out={folder} cannot be written ({reason}); check its permissions and the free space, or give "
            "another folder with --out"
        ) from error


def explained_row(found: ExplainedClip) -> dict[str, str]:
    """Row of an explained clip in summary.csv."""
    numbers, explanation = found.saved.numbers, found.explanation
    draws = next(iter(numbers["stages"].values()))["num_draws"]
    return {
        "clip": found.item.name,
        "status": "ok",
        "label": found.item.label or "",
        "prediction": explanation.prediction,
        "probability": f"{explanation.probabilities[explanation.prediction]:.6g}",
        "target": numbers["target"],
        **{name: _cell(numbers[name]) for name in ("score", "baseline_score", "attribution_sum", "gap")},
        "draws": str(draws),
        "seconds": f"{found.seconds:.2f}",
    }


def failed_row(item: Item, reason: str) -> dict[str, str]:
    """Row of a clip that could not be explained in summary.csv."""
    return {"clip": item.name, "status": "failed", "reason": reason, "label": item.label or ""}


def write_figure(path: Path, figure: Figure) -> None:
    """Write a PNG, whole or not at all; the same figure gives the same bytes.

    Raises:
        OSError: If the disk refuses.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    write_atomically(path, content.getvalue())


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
