"""The segments of each clip: its words where there is an alignment, else speech and pauses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from wavshap_lightning.audio.alignments import SUFFIXES
from wavshap_lightning.audio.segments import Segment, cut_to, read_segments, voiced_segments
from wavshap_lightning.cli.explain_items import Item
from wavshap_lightning.errors import SettingError


@dataclass(frozen=True)
class Found:
    """The segments of a clip.

    Args:
        segments: In seconds from the start of the clip.
        warning: What is to be known of them; empty for nothing.
    """

    segments: tuple[Segment, ...]
    warning: str = ""


def check_segments(source: str | None, num_items: int) -> None:
    """Refuse an alignment that cannot be meant.

    Raises:
        SettingError: If there is none, or one recording's words are given for several clips.
    """
    if source is None:
        return
    path = Path(source)
    if not path.exists():
        raise SettingError(f"segments={source}: there is no such file or folder")
    if num_items > 1 and not path.is_dir() and path.suffix.lower() != ".ctm":
        raise SettingError(
            f"segments={source} holds the words of one recording, and there are {num_items} clips; give a "
            "folder with one file for each, under its name"
        )


def segments_of(
    item: Item, waveform: Float[np.ndarray, " num_samples"], sample_rate: int, source: str | None, tier: str
) -> Found:
    """The segments of one clip.

    Args:
        item: The clip.
        waveform: Its sound.
        sample_rate: Samples per second.
        source: An alignment, or a folder of some; None for speech and pauses.
        tier: Of a TextGrid.

    Raises:
        AudioError: If the alignment cannot be used.
    """
    heard = tuple(voiced_segments(waveform, sample_rate))
    if source is None:
        return Found(heard)
    path = alignment_of(Path(source), item)
    if path is None:
        return Found(
            heard, f"There is no alignment of {item.path.stem} in {source}; speech and pauses instead."
        )
    words = read_segments(path, tier=tier, recording=item.path.stem)
    start_s = item.span_s[0] or 0.0
    inside = tuple(cut_to(words, start_s, start_s + len(waveform) / sample_rate))
    if not inside:
        return Found(heard, f"No word of {path} lies in the clip; speech and pauses instead.")
    return Found(inside)


def alignment_of(source: Path, item: Item) -> Path | None:
    """The file with the words of a clip; None where a folder has none for it."""
    if not source.is_dir():
        return source
    names = [source / f"{item.path.stem}{suffix}" for suffix in SUFFIXES]
    return next((path for path in names if path.is_file()), None)
