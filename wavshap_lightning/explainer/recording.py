"""Recordings: a waveform with its origin, read and checked once, wherever it came from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.audio.aligner import Aligner, align_cached, doubt
from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.audio.io import hash_audio_file, load_native, resample
from wavshap_lightning.audio.segments import Segment, with_pauses
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import spoken_text
from wavshap_lightning.corpora.labels import UNLABELED
from wavshap_lightning.errors import AudioError, CorpusError

# Samples lie in [-1, 1]; numbers far beyond that were never divided by their full scale.
MAX_PEAK = 2.0
FULL_SCALE = "divide samples by their full scale, which is 32768 for 16-bit numbers"

# Emotion is judged over seconds, and attention takes memory with the square of the duration.
MAX_DURATION_S = 60.0


@dataclass(frozen=True)
class Recording:
    """A waveform and where it comes from.

    Args:
        waveform: Samples in [-1, 1], on the CPU.
        sample_rate: Samples per second.
        path: File it was read from; empty if it was given as numbers.
        sha256: Digest of the file's bytes, or of the numbers.
        start_s: Start in the file, in seconds; None for the file's start.
        end_s: End in the file, in seconds; None for the file's end.
        native_rate: Samples per second of the file; None if it was given as numbers.
        votes: Votes of the annotators by label; empty if unknown.
        annotated_values: Annotated values by dimension; empty if unknown.
        tiers: Segments to sum over by name, in order: `"words"` and `"phones"`, pauses among them; empty if
            unknown.
    """

    waveform: Float32[Tensor, " samples"]
    sample_rate: int
    path: str
    sha256: str
    start_s: float | None = None
    end_s: float | None = None
    native_rate: int | None = None
    votes: Mapping[str, float] = field(default_factory=dict)
    annotated_values: Mapping[str, float] = field(default_factory=dict)
    tiers: Mapping[str, Sequence[Segment]] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return len(self.waveform) / self.sample_rate


AudioSource = str | PathLike[str] | Clip | Tensor | Shaped[np.ndarray, "..."] | Recording
"""A file, a clip of a corpus, a waveform of one channel at the classifier's sample rate, or a recording."""


def open_recording(source: AudioSource, grid: FrameGrid, *, name: str = "clip") -> Recording:
    """Read a recording, or take a waveform or an open recording as it is, and check it.

    Args:
        source: File, clip, waveform or open recording.
        grid: Sample rate and frames of the classifier.
        name: What a source without a file is called in messages.

    Raises:
        AudioError: If it is no recording, cannot be read, has channels, is shorter than one frame, longer
            than a minute or than the classifier takes, silent, not finite or not in [-1, 1].
    """
    recording = source if isinstance(source, Recording) else _read(source, grid.sample_rate, name)
    problem = next(_problems(recording, grid), None)
    if problem is not None:
        raise AudioError(f"{f'path={recording.path}' if recording.path else name}: {problem}")
    return recording


def with_words(
    recording: Recording, clip: Clip, text: str | None = None, *, aligner: Aligner = align_cached
) -> Recording:
    """A recording with the words and phones of its text, or as it is if they cannot be aligned.

    Args:
        recording: The recording.
        clip: Its clip, which tells the text.
        text: The text, if the clip is not to be asked.
        aligner: Aligns words with a waveform.

    Warns:
        UserWarning: If the text is unknown, cannot be aligned, or fits badly.
    """
    try:
        words = spoken_text(clip) if text is None else text
        found = aligner(recording.waveform.numpy(), recording.sample_rate, words)
    except (AudioError, CorpusError) as error:
        warnings.warn(f"segments={clip.path}: {error}; speech and pauses instead", stacklevel=2)
        return recording
    if told := doubt(found):
        warnings.warn(f"segments={clip.path}: {told}", stacklevel=2)
    return with_tiers(recording, vars(found))


def with_tiers(recording: Recording, tiers: Mapping[str, Sequence[Segment]]) -> Recording:
    """A recording with words and phones, and the pauses between them.

    Args:
        recording: The recording.
        tiers: Words and phones by the name of their tier; those without any are left out.
    """
    filled = {name: with_pauses(tier, recording.duration_s) for name, tier in tiers.items() if tier}
    return replace(recording, tiers=filled)


def _read(source: AudioSource, sample_rate: int, name: str) -> Recording:
    if isinstance(source, Tensor | np.ndarray):
        waveform = _from_numbers(source, name)
        return Recording(waveform, sample_rate, "", tensor_sha256(waveform))
    if not isinstance(source, str | PathLike | Clip):
        raise AudioError(f"{name} is a {type(source).__name__}; give a file, a Clip or a waveform")
    clip = source if isinstance(source, Clip) else Clip(Path(source), UNLABELED)
    path, start_s, end_s = clip.path, clip.start_s, clip.end_s
    native, native_rate = load_native(path, start_s=start_s, end_s=end_s)
    waveform, sha256 = torch.from_numpy(resample(native, native_rate, sample_rate)), hash_audio_file(path)
    annotated: dict[str, Any] = {"votes": dict(clip.votes), "annotated_values": dict(clip.values)}
    return Recording(waveform, sample_rate, fspath(path), sha256, start_s, end_s, native_rate, **annotated)


def _from_numbers(numbers: Tensor | Shaped[np.ndarray, "..."], name: str) -> Float32[Tensor, " samples"]:
    if isinstance(numbers, np.ndarray):
        numbers = np.array(numbers)  # a copy: torch takes neither reversed nor read-only arrays as they are
    waveform = torch.as_tensor(numbers).detach()
    if waveform.ndim == 2 and 1 in waveform.shape:  # a single channel, as torchaudio and soundfile give it
        waveform = waveform.flatten()
    if waveform.ndim != 1:
        shape = tuple(waveform.shape)
        raise AudioError(f"{name}: shape={shape} must be (num_samples,), one clip with its channels averaged")
    if not waveform.is_floating_point():
        raise AudioError(f"{name}: dtype={waveform.dtype} must be floating point; {FULL_SCALE}")
    return waveform.to("cpu", torch.float32, copy=True)


def _problems(recording: Recording, grid: FrameGrid) -> Iterator[str]:
    """Reasons why a recording cannot be explained, with the remedy."""
    waveform, sample_rate = recording.waveform, grid.sample_rate
    longest = MAX_DURATION_S * sample_rate if grid.max_samples is None else grid.max_samples
    if recording.sample_rate != sample_rate:
        yield f"sample_rate={recording.sample_rate} must be {sample_rate}, the classifier's"
    if len(waveform) < grid.min_samples:
        yield f"{len(waveform)} samples at {sample_rate} Hz, one frame needs {grid.min_samples}; give more"
    if len(waveform) > longest:
        limit = f"{longest / sample_rate:g} s; cut it with start_s and end_s of a Clip or a manifest"
        yield f"duration={recording.duration_s:.1f} s must be at most {limit}"
    bad = (~waveform.isfinite()).nonzero()
    if len(bad):
        yield f"the sample at {int(bad[0]) / sample_rate:.4f} s is not finite; record or export it again"
    peak = float(waveform.abs().max())
    if peak == 0:
        yield f"peak=0, all {len(waveform)} samples are silent; give a clip with sound in it"
    if peak > MAX_PEAK:
        yield f"peak={peak:.6g}, and samples must lie in [-1, 1]; {FULL_SCALE}"
