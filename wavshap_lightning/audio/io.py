"""Reading and writing sound: the one place where files become waveforms and back."""

from __future__ import annotations

import os
import re
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float, Float32, Int16

from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.files import write_atomically

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif")

# Lossy decoders and floating-point recorders overshoot full scale a little; twice full scale is no overshoot.
MAX_PEAK = 2.0

# Annotated times are rounded to hundredths of a second, so the last span of a file may end just after it.
SPAN_SLACK_S = 0.01

BLOCK_SAMPLES = 1 << 18

# What libsndfile reports of a file whose length its header does not tell.
UNKNOWN_LENGTH = 2**63 - 1

# An MP3 file without a length header has its length estimated, to within two MPEG frames of 1152 samples.
MP3_SLACK_SAMPLES = 2 * 1152

# libsndfile quietly shortens a file that was cut off and says so in its log only. Bytes promised and held:
_CHUNK_LOG = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_CUT_LOG = re.compile(r"^(?:\*+ Calculated frame count|Ogg ?: Junk after the last page)", re.MULTILINE)

# Some writers count a header's worth of bytes too many; writers into a pipe promise 2 GiB or more.
_HEADER_SLACK_BYTES = 64
_PIPE_BYTES = 0x7FFF_0000

# For MP3 data without one whole frame libsndfile reports, misleadingly, a missing file.
_NO_MP3_FRAME = 7


@dataclass(frozen=True, slots=True)
class NativeAudio:
    """A recording at the sample rate of its file.

    Args:
        waveform: The average of its channels, in [-1, 1].
        sample_rate: Samples per second of the file.
    """

    waveform: Float32[np.ndarray, " num_samples"]
    sample_rate: int

    def num_samples_at(self, sample_rate: int) -> int:
        """How many samples `load_audio` returns at another sample rate.

        >>> NativeAudio(np.zeros(44_100, np.float32), 44_100).num_samples_at(16_000)
        16000
        """
        return -(-len(self.waveform) * sample_rate // self.sample_rate)


def read_native(
    path: str | os.PathLike[str], *, start_s: float | None = None, end_s: float | None = None
) -> NativeAudio:
    """What `load_audio` reads, before it resamples; arguments and errors are the same."""
    path = Path(path)
    remedy = f"is it damaged, truncated or not {_listed(AUDIO_SUFFIXES)}? Copy it again or convert it"
    with explained(path, "read as audio", remedy):
        check_file(path)
        with soundfile.SoundFile(path) as sound:
            _check_header(sound)
            start, stop = _span_samples(sound, start_s, end_s)
            waveform = _read_mono(sound, start, stop)
            check_peak(waveform, MAX_PEAK)
            return NativeAudio(np.clip(waveform, -1.0, 1.0, out=waveform), sound.samplerate)


@contextmanager
def explained(path: Path, done: str, remedy: str) -> Iterator[None]:
    """Puts the path before every refusal, and turns the errors of decoder and disk into refusals."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"path={path}: {error}") from error.__cause__
    except soundfile.LibsndfileError as error:
        raise AudioError(f"path={path}: cannot be {done} ({_reason(error)}); {remedy}") from error
    except (OSError, ValueError) as error:
        reason = str(error).strip() or type(error).__name__
        raise AudioError(f"path={path}: cannot be {done} ({reason}); {remedy}") from error


def _reason(error: soundfile.LibsndfileError) -> str:
    if error.code == _NO_MP3_FRAME:
        return "it holds no whole MP3 frame"
    return error.error_string.removeprefix("Error : ").strip(" .") or "the decoder gives no reason"


def _listed(suffixes: Sequence[str]) -> str:
    names = [suffix.removeprefix(".") for suffix in suffixes]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def check_file(path: Path) -> None:
    """Refuse what is no file, has a suffix that is not read, holds no byte or may not be opened."""
    if path.is_dir():
        raise AudioError("is a folder; name an audio file inside it")
    if not path.is_file():
        raise AudioError("there is no such file; check the path, and that the corpus is complete")
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        raise AudioError(
            f"suffix={path.suffix!r} must be {_listed(AUDIO_SUFFIXES)}; convert the file, for example with: "
            f"ffmpeg -i {path.name} {path.stem}.wav"
        )
    with path.open("rb") as stream:
        if not stream.read(1):
            raise AudioError("the file is empty (0 bytes); copy or download it again")


def _check_header(sound: soundfile.SoundFile) -> None:
    promise = _CHUNK_LOG.search(sound.extra_info)
    promised, held = map(int, promise.groups()) if promise else (0, 0)
    if promised < _PIPE_BYTES and promised - held > _HEADER_SLACK_BYTES:
        raise _truncated(f"holds {held} of the {promised} bytes of sound its header promises")
    if _CUT_LOG.search(sound.extra_info):
        raise _truncated(f"breaks off after {sound.frames / sound.samplerate:.3f} s")
    if sound.frames == UNKNOWN_LENGTH:
        raise AudioError("its header does not say how long it is; convert it again, into a file, not a pipe")
    if sound.frames == 0:
        raise AudioError("holds no sound (0 samples); copy or record it again, or leave it out")


def _truncated(finding: str) -> AudioError:
    return AudioError(f"{finding}: the file is truncated; copy or download it again")


def _span_samples(sound: soundfile.SoundFile, start_s: float | None, end_s: float | None) -> tuple[int, int]:
    duration_s = sound.frames / sound.samplerate
    start = 0.0 if start_s is None else start_s
    end = duration_s if end_s is None else end_s
    asked = f"the span start_s={start_s}, end_s={end_s}"
    if not 0.0 <= start < end <= duration_s + SPAN_SLACK_S:
        raise AudioError(
            f"{asked} must begin before it ends and lie within the file's {duration_s:.3f} s; "
            "correct the times, or leave the clip out"
        )
    first, last = (min(round(time_s * sound.samplerate), sound.frames) for time_s in (start, end))
    if first == last:
        raise AudioError(f"{asked} must hold at least one sample; correct the times, or leave the clip out")
    return first, last


def _read_mono(sound: soundfile.SoundFile, start: int, stop: int) -> Float32[np.ndarray, " num_samples"]:
    """The average of the channels from sample `start` to before `stop`, read block by block."""
    mono = array("f")
    _go_to(sound, start)
    for block in _blocks(sound, stop - start):
        with np.errstate(over="ignore", invalid="ignore"):
            average = block.mean(axis=1)
        check_finite(average, start + len(mono), sound.samplerate)
        mono.frombytes(average.tobytes())
    slack = MP3_SLACK_SAMPLES if sound.format == "MP3" else 0
    if len(mono) + slack < stop - start or not mono:
        ended_s, promised_s = sound.tell() / sound.samplerate, sound.frames / sound.samplerate
        raise _truncated(f"ends after {ended_s:.3f} of the {promised_s:.3f} s its header promises")
    return np.frombuffer(mono, dtype=np.float32)


def _go_to(sound: soundfile.SoundFile, start: int) -> None:
    """Frames of an MP3 lean on those before: after a jump they come out garbled, so it is decoded from 0."""
    if sound.format != "MP3":
        sound.seek(start)
    # soundfile itself jumps after every read, to where it already is, unless it believes it cannot.
    sound.seekable = lambda: False
    if sound.format == "MP3":
        deque(_blocks(sound, start), maxlen=0)


def _blocks(
    sound: soundfile.SoundFile, num_samples: int
) -> Iterator[Float32[np.ndarray, "num_block_samples num_channels"]]:
    # Not `sound.blocks`: where a file ends early it hands out whatever lay in memory.
    for first in range(0, num_samples, BLOCK_SAMPLES):
        block = sound.read(min(BLOCK_SAMPLES, num_samples - first), dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        yield block


def check_finite(waveform: Float[np.ndarray, " num_samples"], start: int, sample_rate: int) -> None:
    """Refuse NaN and infinity, by the time of the first; the waveform begins at sample `start`."""
    finite = np.isfinite(waveform)
    if not finite.all():
        first_s = (start + int(finite.argmin())) / sample_rate
        raise AudioError(
            f"the sample at {first_s:.4f} s is NaN or infinite, and every sample must be a finite number; "
            "export the recording again, or leave it out"
        )


def check_peak(waveform: Float[np.ndarray, " num_samples"], highest: float) -> None:
    """Refuse samples whose magnitude exceeds `highest`."""
    peak = float(max(waveform.max(), -waveform.min()))
    if peak > highest:
        raise AudioError(
            f"peak={peak:.6g}, and samples must lie in [-1, 1]; divide them by their full scale, which is "
            "32768 for 16-bit numbers"
        )


SAMPLE_RATE = 16_000

WRITTEN_FORMATS = {".flac": "FLAC", ".wav": "WAV"}


def load_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int = SAMPLE_RATE,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Float32[np.ndarray, " num_samples"]:
    """The waveform of a recording, or of a span of it: mono, in [-1, 1], at `sample_rate`.

    Channels are averaged, then the average is resampled (soxr, high quality). Only the span is read, or,
    of an MP3, whose frames lean on those before, everything up to the span's end.

    Args:
        path: A file with one of `AUDIO_SUFFIXES`.
        sample_rate: Samples per second of the waveform returned.
        start_s: Where to begin, in seconds; the file's start if None.
        end_s: Where to end, in seconds, at most `SPAN_SLACK_S` after the file's end; the file's end if None.

    Raises:
        AudioError: If the file is missing, not audio, damaged, cut off or empty, holds a NaN, an infinity
            or values far outside [-1, 1], or the span lies outside it.
        SettingError: If `sample_rate` is below 1.
    """
    _check_sample_rate(sample_rate)
    native = read_native(path, start_s=start_s, end_s=end_s)
    if native.sample_rate == sample_rate:
        return native.waveform
    return np.clip(_resample(native, sample_rate), -1.0, 1.0)


def hash_audio_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file's bytes, in hexadecimal, read piece by piece.

    Raises:
        AudioError: If the file is missing, empty, or not an audio file by its suffix.
    """
    path = Path(path)
    with explained(path, "read", "check the disk and the file's permissions"):
        check_file(path)
        with path.open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()


def read_duration_s(path: str | os.PathLike[str]) -> float:
    """How long a recording is, in seconds, from its header alone.

    Raises:
        AudioError: If the file is missing, empty, or not audio.
    """
    path = Path(path)
    with explained(path, "read as audio", "copy it again or convert it"):
        check_file(path)
        return float(soundfile.info(path).duration)


def save_audio(
    path: str | os.PathLike[str],
    waveform: Float[np.ndarray, " num_samples"],
    *,
    sample_rate: int = SAMPLE_RATE,
) -> None:
    """Write a waveform as 16-bit FLAC or WAV, whichever the suffix says, making folders as needed.

    The file appears whole or not at all.

    Args:
        path: Where to write; an existing file is replaced.
        waveform: At least one sample, all in [-1, 1].
        sample_rate: Samples per second.

    Raises:
        AudioError: If the suffix is neither, the waveform has channels, is empty, not finite or outside
            [-1, 1], or the disk refuses.
        SettingError: If `sample_rate` is below 1.
    """
    _check_sample_rate(sample_rate)
    path = Path(path)
    with explained(path, "written", "check the folder, its permissions and the free space"):
        file_format = _written_format(path)
        if waveform.ndim != 1:
            raise AudioError(f"shape={waveform.shape} must be (num_samples,); average the channels first")
        _check_writable(waveform, sample_rate)
        content = BytesIO()
        soundfile.write(content, _to_int16(waveform), sample_rate, subtype="PCM_16", format=file_format)
        write_atomically(path, content.getvalue())


def _check_sample_rate(sample_rate: int) -> None:
    if sample_rate < 1:
        raise SettingError(f"sample_rate={sample_rate} must be at least 1 sample per second, such as 16000")


def _resample(native: NativeAudio, sample_rate: int) -> Float32[np.ndarray, " num_samples"]:
    # soxr rounds the number of samples; it is always rounded up here
    resampled = soxr.resample(native.waveform, native.sample_rate, sample_rate, quality="HQ")
    missing = native.num_samples_at(sample_rate) - len(resampled)
    return np.pad(resampled, (0, max(missing, 0)))[: len(resampled) + missing]


def _written_format(path: Path) -> str:
    try:
        return WRITTEN_FORMATS[path.suffix.lower()]
    except KeyError:
        raise AudioError(f"suffix={path.suffix!r} must be .flac or .wav; choose one of them") from None


def _to_int16(waveform: Float[np.ndarray, " num_samples"]) -> Int16[np.ndarray, " num_samples"]:
    # Left to soundfile, the numbers would be rounded down, not to the nearest.
    return np.clip(np.rint(waveform * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)


def _check_writable(waveform: Float[np.ndarray, " num_samples"], sample_rate: int) -> None:
    if len(waveform) == 0:
        raise AudioError("the waveform has 0 samples and must have at least one; do not save it")
    check_finite(waveform, 0, sample_rate)
    check_peak(waveform, 1.0)
