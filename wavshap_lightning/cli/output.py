"""The folder that `explain.py` writes: a few files for each clip, a table and a page of all."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from matplotlib.figure import Figure

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.cli.clips import Explained, Item
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.explainer.files import SavedClip, save_clip
from wavshap_lightning.files import format_csv, write_atomically
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.figures import plot
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
REPORT = "wavshap_lightning.viz.report"


@dataclass
class Output:
    """The folder, and what was written about which clip.

    Args:
        folder: Made where it is not there.
        figures: Whether to draw every clip.
        sounds: Whether to write what is kept and removed.
        share: How much of a clip that is.
        rows: Of the table so far.
    """

    folder: Path
    figures: bool = True
    sounds: bool = True
    share: float = 0.2
    rows: list[dict[str, str]] = field(default_factory=list)
    _written_s: float = field(default=float("-inf"), init=False)

    def open(self) -> None:
        """Make the folder and try it, before any work is done.

        Raises:
            SettingError: If nothing can be written there, or the share is none.
        """
        check_share(self.share)
        trial = self.folder / f".{uuid4().hex}.unfinished"
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            trial.write_bytes(b"")
            trial.unlink()

    def add(self, found: Explained) -> None:
        """Write the files of one clip, and note its row.

        Raises:
            SettingError: If the disk refuses.
        """
        self.write_clip(found)
        self._add_row(explained_row(found))

    def write_clip(self, found: Explained) -> list[Path]:
        """Write the files of one clip, its numbers last: where they are, the clip is finished.

        Returns:
            What was written.

        Raises:
            SettingError: If the disk refuses.
        """
        clips, stem = self.folder / "clips", found.item.stem
        written = [clips / f"{stem}.npz", clips / f"{stem}.json"]
        with writing_to(self.folder):
            if self.figures:
                written.append(clips / f"{stem}.png")
                write_figure(written[-1], _draw(found))
            if self.sounds:
                written += self._write_sounds(found)
            save_clip(found.saved, clips, stem)
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

    def fail(self, item: Item, reason: str) -> None:
        """Note that a clip could not be explained, and why."""
        self._add_row(failed_row(item, reason))

    def write_summary(self) -> None:
        """Write the table of all clips so far.

        Raises:
            SettingError: If the disk refuses.
        """
        text = format_csv([COLUMNS, *([row.get(name, "") for name in COLUMNS] for row in self.rows)])
        with writing_to(self.folder):
            write_atomically(self.folder / "summary.csv", text.encode(errors="backslashreplace"))
        self._written_s = time.monotonic()

    def _add_row(self, row: dict[str, str]) -> None:
        self.rows.append(row)
        if time.monotonic() - self._written_s > SUMMARY_EVERY_S:
            self.write_summary()

    def _write_sounds(self, found: Explained) -> list[Path]:
        path = found.explanation.time_stage
        if path is None:
            return []
        frames = found.explanation.values(path, "frames").double().numpy()
        times = found.explanation.times[path]
        parts = split_by_attribution(found.waveform.astype(np.float64), frames, times, share=self.share)
        places = {name: self.folder / "sounds" / f"{found.item.stem}.{name}.wav" for name in vars(parts)}
        for name, sound in vars(parts).items():
            save_audio(places[name], sound, sample_rate=found.explanation.sample_rate)
        return list(places.values())


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns a refusal of the disk into words for people.

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


def explained_row(found: Explained) -> dict[str, str]:
    """A clip's row of the table."""
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
    """The row of a clip that could not be explained."""
    return {"clip": item.name, "status": "failed", "reason": reason, "label": item.label or ""}


def write_figure(path: Path, figure: Figure) -> None:
    """Write a PNG, whole or not at all; the same figure gives the same bytes.

    Raises:
        OSError: If the disk refuses.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    write_atomically(path, content.getvalue())


def write_report(
    folder: Path,
    explained: Sequence[tuple[str, SavedClip | None, Any, str]],
    title: str,
    model: dict[str, str],
    **more: Any,  # noqa: ANN401 - each is of its own type
) -> bool:
    """Write the page of all clips, where this installation can make one.

    Args:
        folder: Where to.
        explained: Of each clip its name, what was found, its waveform, and why there is none.
        title: Of the page.
        model: What was explained, in words.
        **more: As in [`build_report`][wavshap_lightning.viz.report.page.build_report].

    Raises:
        SettingError: If the disk refuses.
    """
    if find_spec(REPORT) is None:
        return False
    report = import_module(REPORT)
    clips = [
        ClipView.from_saved(saved, name, waveform)
        for name, saved, waveform, _ in explained
        if saved is not None
    ]
    failed = [(name, reason) for name, saved, _, reason in explained if saved is None]
    with writing_to(folder):
        write_atomically(
            folder / "report.html",
            report.build_report(clips, title=title, model=model, failed=failed, **more).encode(
                errors="replace"
            ),
        )
    return True


def _draw(found: Explained) -> Figure:
    item = found.item
    notes = found.saved.numbers["warnings"]
    return plot(
        found.explanation, found.waveform, label=item.label, evidence=item.evidence, diagnostics=notes
    )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
