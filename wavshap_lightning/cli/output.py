"""The folder that `explain.py` writes: a few files for each clip, a table and a page of all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from matplotlib.figure import Figure

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.audio.segments import PAUSE
from wavshap_lightning.cli.clips import ExplainedClip, label_of, place_of
from wavshap_lightning.cli.terminal import EXIT_DONE, EXIT_SOME_FAILED, EXIT_USAGE, on_one_line, tell
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.explainer.compare import plain_comparisons
from wavshap_lightning.explainer.files import save_clip
from wavshap_lightning.explainer.stage_attribution import fingerprint
from wavshap_lightning.files import format_csv, write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.comparisons import plot_comparison
from wavshap_lightning.viz.cues import CUE_SOUNDS
from wavshap_lightning.viz.figures import figure_png, plot
from wavshap_lightning.viz.sound import check_share, split_by_attribution

NUMBERS = ("prediction", "probability", "target", "score", "baseline_score", "attribution_sum", "gap")
"""Columns of summary.csv between the label and the draws; empty where a clip could not be explained."""


@dataclass(frozen=True)
class Output:
    """Files to write about the clips.

    Args:
        out: Folder of the output.
        figures: Write a figure of each clip.
        sounds: Write each clip with only its top frames, and without them.
        report: Write report.html, a page with all clips.
        waveform: Store the waveform in the NPZ file of each clip.
        share: Share of the frames that the sounds keep or remove.
    """

    out: str = "explanations"
    figures: bool = True
    sounds: bool = True
    report: bool = True
    waveform: bool = False
    share: float = 0.2

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
        trial = f".{uuid4().hex}.unfinished"
        self.write(trial, b"")
        (self.folder / trial).unlink()

    def write(self, name: str, content: str | bytes | Figure) -> None:
        """Write one file atomically; the same figure gives the same bytes.

        Args:
            name: Path of the file below the output folder.
            content: Bytes, text, or a figure for a PNG.

        Raises:
            SettingError: If the file cannot be written.
        """
        if isinstance(content, Figure):
            content = figure_png(content)
        if isinstance(content, str):  # a file name that is no text is written escaped
            content = content.encode(errors="backslashreplace")
        with writing_to(self.folder):
            write_atomically(self.folder / name, content)

    def write_clip(self, stem: str, found: ExplainedClip, names: Sequence[str] = ()) -> None:
        """Write the files of one clip, its numbers last: where they are, the clip is finished.

        Args:
            stem: Name of the files without suffix.
            found: The explained clip.
            names: Names of the compared models, beginning with the first.

        Raises:
            SettingError: If the file cannot be written.
        """
        saved, pairs = found.saved, found.comparisons
        known: dict[str, Any] = {"label": label_of(found.clip), "evidence": found.clip.evidence}
        if self.figures:
            self.write(f"clips/{stem}.png", plot(found.explanation, found.waveform, **known))
        if self.figures and pairs:
            self.write(f"compare/{stem}.png", plot_comparison(pairs, found.waveform, names=names, **known))
        if pairs:
            text = json.dumps(plain_comparisons(pairs, names), ensure_ascii=False, allow_nan=False, indent=1)
            self.write(f"compare/{stem}.json", text)
        if self.waveform:
            saved = replace(saved, arrays={**saved.arrays, "waveform": found.waveform})
        with writing_to(self.folder):
            if self.sounds:
                self._write_sounds(stem, found)
            save_clip(saved, self.folder / "clips", stem)

    def discard(self, stem: str) -> None:
        """Remove the files of a clip that was explained before and now cannot be.

        Raises:
            SettingError: If the file cannot be written.
        """
        names = [f"clips/{stem}.{suffix}" for suffix in ("json", "npz", "png")]
        names += [f"sounds/{stem}.{part}.wav" for part in ("kept", "removed", *CUE_SOUNDS)]
        with writing_to(self.folder):
            for name in names:
                (self.folder / name).unlink(missing_ok=True)

    def write_summary(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Write the table of all clips so far, from rows of `summary_row`.

        Raises:
            SettingError: If the file cannot be written.
        """
        names = max(rows, key=len).keys()  # a row of an earlier version may have fewer
        table = ([row.get(name, "") for name in names] for row in rows)
        self.write("summary.csv", format_csv([names, *table]))

    def conclude(self, num_done: int, num_clips: int) -> int:
        """Print how many clips were explained and where; return the exit status."""
        page = self.folder / "report.html"
        where = on_one_line(page if page.is_file() else self.folder / "summary.csv")
        clips = "clip" if num_clips == 1 else "clips"
        tell(f"{num_done} of {num_clips} {clips} explained: {where}")
        return status_of(num_done, num_clips)

    def _write_sounds(self, stem: str, found: ExplainedClip) -> None:
        explanation, stage = found.explanation, found.explanation.time_stage
        sounds = dict(found.sounds)
        if stage is not None:
            frames = explanation.values(stage, "frames").double().numpy()
            waveform = found.waveform.astype(np.float64)
            sounds |= split_by_attribution(waveform, frames, explanation.times[stage], share=self.share)
        for name, sound in sounds.items():
            path = self.folder / "sounds" / f"{stem}.{name}.wav"
            save_audio(path, sound, sample_rate=explanation.sample_rate)


def status_of(num_done: int, num_clips: int) -> int:
    """Exit status: 0 if every clip is done, 1 if some are, 2 if none is."""
    return EXIT_DONE if num_done == num_clips else EXIT_SOME_FAILED if num_done else EXIT_USAGE


def model_words(name: str, classifier: EmotionClassifier) -> dict[str, str]:
    """The model for the page: where it was opened, its backbone, classes and fingerprint."""
    settings = classifier.backbone.settings
    return {
        "model": name,
        "backbone": settings.name if settings.revision is None else f"{settings.name} ({settings.revision})",
        classifier.task: ", ".join(classifier.labels),
        "fingerprint": fingerprint(classifier)[:12],
    }


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Report a refusal of the disk as an error of `--out`.

    Raises:
        SettingError: If the file cannot be written.
    """
    try:
        yield
    except (OSError, AudioError) as error:
        cause = error.__cause__ or error  # of an AudioError, whose advice is about another folder
        reason = getattr(cause, "strerror", None) or cause
        advice = "check its permissions and the free space, or give another with --out"
        raise SettingError(f"out={folder} cannot be written ({reason}); {advice}") from error


def summary_row(
    clip: Clip, found: ExplainedClip | None, reason: str, classifier: EmotionClassifier
) -> dict[str, str]:
    """Row of a clip in summary.csv, with the reason if it could not be explained."""
    status = "failed" if found is None else "ok"
    row = {"clip": place_of(clip), "status": status, "reason": reason, "label": label_of(clip) or ""}
    numbers: dict[str, Any] = {}
    outputs = {} if found is None else found.explanation.outputs
    if found is not None:
        numbers = {**found.saved.numbers, "seconds": f"{found.seconds:.2f}"}
        numbers["probability"] = outputs.get(found.explanation.prediction)
        numbers["draws"] = str(next(iter(numbers["stages"].values()))["num_draws"])
        frames = ClipView.from_saved(found.saved, row["clip"]).reliability
        numbers["certain"] = frames and frames.certain_share
    row |= {name: cell(numbers.get(name)) for name in (*NUMBERS, "certain", "draws", "seconds")}
    kind = "value" if classifier.task == "dimensions" else "probability"
    listed = () if classifier.task == "classes" else classifier.labels
    row |= {f"{kind}/{name}": cell(outputs.get(name)) for name in listed}
    if found is not None and (words := found.explanation.tiers.get("words")):
        ranked = found.explanation.top("words", len(words), sign="positive")
        row["top_word"] = next((one["text"] for one in ranked if one["text"] not in (PAUSE, "")), "")
    return row


def cell(value: object) -> str:
    """Text of a cell of a table; empty for a number that is not known."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "" if value is None or text == "nan" else text
