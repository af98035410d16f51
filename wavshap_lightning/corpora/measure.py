"""Measuring: what the file of a clip holds, found out before a run depends on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from math import inf, log10

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import binary_opening

from wavshap_lightning.audio.io import NativeAudio, hash_audio_file, read_native
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError

# The largest 16-bit sample. One or two such samples are a peak; three in a row are a flat top.
FULL_SCALE = 1.0 - 2.0**-15
FLAT_TOP_SAMPLES = 3

BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What was measured of one clip.

    Peak, level and clipping are those at the file's own sample rate: resampling rounds off flat tops.

    Args:
        sha256: Hash of the whole file's bytes, in hexadecimal.
        sound: Hash of the clip's sample rate and samples, as 16-bit numbers: the same for one recording
            in two lossless formats, or beside other notes in the file.
        num_samples: Length at the sample rate asked for.
        duration_s: Length in seconds.
        peak: Largest absolute sample, at most 1.
        rms_db: Root mean square in dB relative to full scale; -inf for silence.
        clipped_share: Share of samples at full scale, three or more in a row.
        error: Why the clip could not be read; None if it could.
    """

    sha256: str = ""
    sound: str = ""
    num_samples: int = 0
    duration_s: float = 0.0
    peak: float = 0.0
    rms_db: float = -inf
    clipped_share: float = 0.0
    error: str | None = None


def measure_clip(clip: Clip, *, sample_rate: int) -> ClipFacts:
    """The facts of one clip; that its file cannot be read is a fact too, never an exception.

    Args:
        clip: The clip to read.
        sample_rate: Samples per second for `num_samples`.
    """
    try:
        native = read_native(clip.path, start_s=clip.start_s, end_s=clip.end_s)
        return _facts(native, hash_audio_file(clip.path), sample_rate)
    except AudioError as error:
        return ClipFacts(error=str(error))


def measure_clips(
    clips: Sequence[Clip],
    *,
    sample_rate: int,
    num_threads: int | None = None,
    measure: Callable[..., ClipFacts] = measure_clip,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[ClipFacts, ...]:
    """The facts of many clips, in their order, measured by several threads.

    Args:
        clips: The clips to read.
        sample_rate: Samples per second for `num_samples`.
        num_threads: How many clips to read at a time; a few more than there are processors if None.
        measure: Called as `measure(clip, sample_rate=sample_rate)` for each clip.
        on_progress: Called in this thread with the number of clips done so far.
    """
    facts: list[ClipFacts] = []
    with ThreadPoolExecutor(num_threads) as pool:
        for clip_facts in pool.map(lambda clip: measure(clip, sample_rate=sample_rate), clips):
            facts.append(clip_facts)
            if on_progress is not None:
                on_progress(len(facts))
    return tuple(facts)


def _facts(native: NativeAudio, file_hash: str, sample_rate: int) -> ClipFacts:
    num_samples = len(native.waveform)
    sound = sha256(str(native.sample_rate).encode())
    peak, energy, num_clipped = 0.0, 0.0, 0
    # Block by block: an hour of sound needs no second copy, and its sum of squares loses no precision.
    for start in range(0, num_samples, BLOCK_SAMPLES):
        block = native.waveform[start : start + BLOCK_SAMPLES]
        sound.update(np.clip(np.rint(block * 2.0**15), -(2**15), 2**15 - 1).astype("<i2").tobytes())
        peak = max(peak, float(block.max()), -float(block.min()))
        energy += float(np.dot(block, block))
        num_clipped += _num_clipped(native.waveform, start, start + len(block))
    return ClipFacts(
        sha256=file_hash,
        sound=sound.hexdigest(),
        num_samples=native.num_samples_at(sample_rate),
        duration_s=num_samples / native.sample_rate,
        peak=peak,
        rms_db=10.0 * log10(energy / num_samples) if energy > 0.0 else -inf,
        clipped_share=num_clipped / num_samples,
    )


def _num_clipped(waveform: Float32[np.ndarray, " num_samples"], start: int, stop: int) -> int:
    """How many samples from `start` to before `stop` lie in flat tops, which may reach beyond either."""
    first = max(0, start - FLAT_TOP_SAMPLES)
    loud = np.abs(waveform[first : stop + FLAT_TOP_SAMPLES]) >= FULL_SCALE
    if not loud.any():
        return 0
    flat_tops = binary_opening(loud, np.ones(FLAT_TOP_SAMPLES, dtype=bool))
    return int(np.count_nonzero(flat_tops[start - first : stop - first]))
