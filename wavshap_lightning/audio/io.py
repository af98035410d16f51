"""Reading and writing sound: files to waveforms with a check of every step, and back.

soundfile decodes and librosa resamples (with soxr); what libsndfile does not know, such as MP4 and WebM, is
decoded by ffmpeg first, where that is installed. The content decides, not the suffix. The checks around them
refuse what they would pass on without a word: files that were cut off, NaN, numbers that were never scaled,
spans outside the file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float, Float32

from wavshap_lightning.errors import AudioError, SettingError, first_line
from wavshap_lightning.files import write_atomically

SAMPLE_RATE = 16_000

# A damaged header may say 1, which would make three seconds 700 million samples at the rate of the model.
LEAST_SAMPLE_RATE = 1_000

# Folders are searched by suffix; a file that is named may have any.
USUAL_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif")
FFMPEG_SUFFIXES = (".m4a", ".mp4", ".mov", ".3gp", ".webm", ".mkv", ".mka", ".aac", ".amr", ".wma", ".avi")
# Besides the usual formats the others of libsndfile, but not those that mostly hold no sound, such as .mat.
AUDIO_SUFFIXES = (
    *USUAL_SUFFIXES, ".wave", ".bwf", ".rf64", ".w64", ".oga", ".aifc", ".au", ".snd", ".caf", ".sph",
    ".nist", ".voc", ".iff", ".svx", ".avr", ".paf", ".pvf", ".sf", ".ircam", *FFMPEG_SUFFIXES,
)  # fmt: skip
WRITTEN_SUFFIXES = (".flac", ".wav")

# Lossy decoders and floating-point recorders overshoot full scale a little; twice full scale is no overshoot.
MAX_PEAK = 2.0

# Annotated times are rounded to hundredths of a second, so the last span of a file may end just after it.
SPAN_SLACK_S = 0.01

# libsndfile's number of samples for a file whose header does not give its length.
UNKNOWN_LENGTH = 2**63 - 1

# An MP3 file without a length header has its length estimated, to within two MPEG frames of 1152 samples.
MP3_SLACK_SAMPLES = 2 * 1152

# libsndfile shortens a file that was cut off without an error, and says so in its log only: the bytes that
# the header promises, and those that are there.
_CHUNK_LOG = re.compile(r"^\s*(?:data|riff|SSND|BODY|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_CUT_LOG = re.compile(r"^(?:\*+ Calculated frame|Ogg ?: Junk after|Seems to be a trunc)", re.MULTILINE)
# Of SPHERE files it says nothing; the header does.
_SPHERE_COUNT = re.compile(rb"NIST_1A.*\nsample_count -i (\d+)", re.DOTALL)

# Some writers count a header's worth of bytes too many; writers into a pipe promise 2 GiB or more.
_HEADER_SLACK_BYTES = 64
_PIPE_BYTES = 0x7FFF_0000

# For MP3 data without one whole frame libsndfile reports, misleadingly, a missing file.
_NO_MP3_FRAME = 7

# First bytes of MP4 and QuickTime, Matroska and WebM, Windows Media, AMR, AVI, Flash, Speex, WavPack,
# Monkey's Audio, TTA, AC-3, MPEG-TS and AAC: containers and codings that only ffmpeg reads.
_FOR_FFMPEG = re.compile(
    rb"(?s).{4}(?:ftyp|moov|mdat|wide)|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75|#!AMR|RIFF.{4}AVI |FLV"
    rb"|OggS.{24}Speex|wvpk|MAC |TTA1|\x0b\x77|\x47.{187}\x47|\xff[\xf0\xf1\xf8\xf9]"
)
_HEAD_BYTES = 1024
# Suffixes by which soundfile and libsndfile would take sound without a header for what it may not be.
_BARE_SUFFIXES = (".raw", ".gsm", ".vox")
# First bytes of other things under the name of a recording.
_NO_SOUND = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the recording; run `git lfs pull` there"),
    (rb"(?:\xef\xbb\xbf)?\s*[<{[]", "a page or message of a web server; sign in and download it again"),
    (rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|(?s:.{257}ustar)", "an archive; unpack it"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|%PDF", "a picture or document; replace it by the recording"),
    (rb"bplist", "a placeholder of iCloud; download the recording to this computer"),
    (rb"\0{1024}|\0+\Z", "nothing but zero bytes, as an unfinished download leaves; download it again"),
    (rb"NIST_1A", "a SPHERE file compressed with Shorten; expand it with sph2pipe"),
    (rb"[\t\n\r -~\x80-\xff]+\Z", "a text file; replace it by the recording"),
)


def load_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int = SAMPLE_RATE,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Float32[np.ndarray, " num_samples"]:
    """Waveform of a recording, or of a span of it: mono, in [-1, 1], at `sample_rate`.

    Channels are averaged, then the average is resampled (soxr, high quality). Only the span is decoded, or,
    of an MP3, everything up to the span's end.

    Args:
        path: A file of any format of libsndfile, or of ffmpeg where that is installed.
        sample_rate: Samples per second of the waveform returned.
        start_s: Start of the span, in seconds; the file's start if None.
        end_s: End of the span, in seconds, at most `SPAN_SLACK_S` after the file's; the file's end if None.

    Raises:
        AudioError: If the file is missing, not audio, damaged, truncated or empty, holds a NaN, an infinity
            or values far outside [-1, 1], or the span lies outside it.
        SettingError: If `sample_rate` is below 1.
    """
    _check_sample_rate(sample_rate)
    waveform, native_rate = load_native(path, start_s=start_s, end_s=end_s)
    return resample(waveform, native_rate, sample_rate)


def resample(
    waveform: Float32[np.ndarray, " num_samples"], native_rate: int, sample_rate: int
) -> Float32[np.ndarray, " resampled"]:
    """A waveform in [-1, 1] at another sample rate, as `load_audio` gives it.

    Args:
        waveform: Samples of one channel.
        native_rate: Their number in a second.
        sample_rate: Samples per second of the waveform returned.
    """
    import librosa  # noqa: PLC0415 - a second, which nothing but sound is to wait for

    if native_rate == sample_rate:
        return waveform
    resampled = librosa.resample(
        waveform, orig_sr=native_rate, target_sr=sample_rate, res_type="soxr_hq", fix=False
    )
    # Rounded up in whole numbers: librosa multiplies by a ratio, which may end up just above the true number.
    size = -(-len(waveform) * sample_rate // native_rate)
    return np.clip(librosa.util.fix_length(resampled, size=size), -1.0, 1.0)


def load_native(
    path: str | os.PathLike[str], *, start_s: float | None = None, end_s: float | None = None
) -> tuple[Float32[np.ndarray, " num_samples"], int]:
    """Waveform of a recording at the file's own sample rate, and this rate.

    Args:
        path: A file of any format of libsndfile, or of ffmpeg where that is installed.
        start_s: Start of the span, in seconds; the file's start if None.
        end_s: End of the span, in seconds; the file's end if None.

    Raises:
        AudioError: As `load_audio` does.
    """
    path = Path(path)
    remedy = "is it damaged, truncated or without a header? Copy it again or convert it"
    with _explained(path, "read as audio", remedy), _open(path, head := _first_bytes(path)) as sound:
        _check_header(sound, head)
        first, last = _span_samples(sound, start_s, end_s)
        waveform = _decode(sound, first, last)
    return waveform, sound.samplerate


def hash_audio_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file's bytes, in hexadecimal.

    Raises:
        AudioError: If the file is missing or empty.
    """
    path = Path(path)
    with _explained(path, "read", "check the disk and the file's permissions"):
        _first_bytes(path)
        with path.open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()


def save_audio(
    path: str | os.PathLike[str],
    waveform: Float[np.ndarray, " num_samples"],
    *,
    sample_rate: int = SAMPLE_RATE,
) -> None:
    """Write a waveform as 16-bit FLAC or WAV, as the suffix says, making folders as needed.

    The file appears whole or not at all.

    Args:
        path: The file; an existing one is replaced.
        waveform: At least one sample, all in [-1, 1].
        sample_rate: Samples per second.

    Raises:
        AudioError: If the suffix is neither, the waveform has channels, is empty, not finite or outside
            [-1, 1], or the file cannot be written.
        SettingError: If `sample_rate` is below 1.
    """
    _check_sample_rate(sample_rate)
    path = Path(path)
    with _explained(path, "written", "check the folder, its permissions and the free space"):
        suffix = path.suffix.lower()
        if suffix not in WRITTEN_SUFFIXES:
            raise AudioError(f"suffix={path.suffix!r} must be .flac or .wav; choose one of them")
        if waveform.ndim != 1 or not len(waveform):
            raise AudioError(f"shape={waveform.shape} must be (num_samples,); average the channels")
        _check_finite(waveform, 0, sample_rate)
        _check_peak(waveform, 1.0)
        # Rounded here, since soundfile would round down.
        samples = np.clip(np.rint(waveform * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)
        content = BytesIO()
        soundfile.write(content, samples, sample_rate, subtype="PCM_16", format=suffix[1:])
        write_atomically(path, content.getvalue())


def _decode(sound: soundfile.SoundFile, first: int, last: int) -> Float32[np.ndarray, " num_samples"]:
    """The average of the channels from sample `first` to before `last`, checked and clipped to [-1, 1]."""
    import librosa  # noqa: PLC0415 - as in load_audio

    rate, is_mp3 = sound.samplerate, sound.format == "MP3"
    # After a jump libsndfile decodes the next frames of an MP3 wrongly, so an MP3 is decoded from its start.
    start = 0 if is_mp3 else first
    # Half a sample more, because librosa rounds seconds down to samples; but no jump to the start, where the
    # file is already: even that changes the last bit of an MP3.
    offset_s, duration_s = (count and (count + 0.5) / rate for count in (start, last - start))
    try:
        samples, _ = librosa.load(sound, sr=None, mono=False, offset=offset_s, duration=duration_s)
    except MemoryError:
        raise AudioError("its header announces more samples than fit into memory; copy it again") from None
    samples = np.atleast_2d(samples)
    end, slack = start + samples.shape[1], MP3_SLACK_SAMPLES if is_mp3 else 0
    if end + slack < last or end <= first:
        promised_s = f"{sound.frames / rate:.3f} s its header promises"
        raise _truncated(f"ends after {end / rate:.3f} of the {promised_s}")
    samples = samples[:, first - start :]
    _check_finite(samples, first, rate)
    waveform = samples.mean(axis=0)
    _check_peak(waveform, MAX_PEAK)
    return np.clip(waveform, -1.0, 1.0)


@contextmanager
def _explained(path: Path, done: str, remedy: str) -> Iterator[None]:
    """Put the path before every refusal, and turn errors of the decoder and the disk into refusals."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"path={path}: {error}") from error.__cause__
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise AudioError(f"path={path}: cannot be {done} ({_reason(error)}); {remedy}") from error


def _reason(error: Exception) -> str:
    if not isinstance(error, soundfile.LibsndfileError):
        return first_line(error)
    if error.code == _NO_MP3_FRAME:
        return "it holds no whole MP3 frame"
    return error.error_string.removeprefix("Error : ").strip(" .") or "the decoder gives no reason"


def _first_bytes(path: Path) -> bytes:
    """The beginning of a file. Refuse a path that is no file, holds no byte or may not be opened."""
    if path.is_dir():
        raise AudioError("is a folder; name an audio file inside it")
    if not path.is_file():
        is_link = "a link to a missing file; fetch it (git annex get, dvc pull)"
        is_missing = "there is no such file; check the path, and that the corpus is complete"
        raise AudioError(is_link if path.is_symlink() else is_missing)
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise AudioError("the file is empty (0 bytes); copy or download it again")
    return head


def _open(path: Path, head: bytes) -> soundfile.SoundFile:
    """The decoder of a recording, chosen by its first bytes."""
    if _FOR_FFMPEG.match(head):
        return soundfile.SoundFile(_sound_by_ffmpeg(path))
    # As bytes, since a name on disk may be no text.
    name = os.fsencode(path) if os.name == "posix" else path
    is_bare = path.suffix.lower() in _BARE_SUFFIXES
    try:
        return soundfile.SoundFile(BytesIO(path.read_bytes()) if is_bare else name)
    except soundfile.LibsndfileError:
        for pattern, thing in _NO_SOUND:
            if re.match(pattern, head):
                raise AudioError(f"cannot be read as audio: it is {thing}") from None
        raise


def _sound_by_ffmpeg(path: Path) -> BytesIO:
    """The first sound track of a file, as WAV with 32-bit floats."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError("needs ffmpeg to be read; install it, or elsewhere convert the file to WAV with it")
    # Of the protocols only that of files: a playlist must not open the network.
    options = ("-v", "error", "-nostdin", "-protocol_whitelist", "file", "-i", f"file:{path}")
    track = ("-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1")
    done = subprocess.run([program, *options, *track], capture_output=True, check=False)  # noqa: S603
    if done.returncode or done.stderr:  # of a file that breaks off it reads a part, and ends with status 0
        said = done.stderr.decode(errors="replace") or f"exit status {done.returncode}"
        raise ValueError("ffmpeg: " + re.sub(r"^\[[^]]*\] ", "", said).replace(f"file:{path}: ", ""))
    return BytesIO(done.stdout)


def _check_header(sound: soundfile.SoundFile, head: bytes) -> None:
    promise = _CHUNK_LOG.search(sound.extra_info)
    promised, held = map(int, promise.groups()) if promise else (0, 0)
    if promised < _PIPE_BYTES and promised - held > _HEADER_SLACK_BYTES:
        raise _truncated(f"holds {held} of the {promised} bytes of sound its header promises")
    count = _SPHERE_COUNT.match(head)
    if _CUT_LOG.search(sound.extra_info) or (count and sound.frames < int(count[1])):
        raise _truncated(f"breaks off after {sound.frames / sound.samplerate:.3f} s")
    if sound.frames == UNKNOWN_LENGTH:
        raise AudioError("its header lacks the duration; convert it again, writing to a file, not to a pipe")
    if sound.samplerate < LEAST_SAMPLE_RATE:
        rate = f"sample_rate={sound.samplerate} of its header"
        raise AudioError(f"{rate} must be at least {LEAST_SAMPLE_RATE} to hold speech; copy it again")
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
        within = f"within the file's {duration_s:.3f} s"
        raise AudioError(f"{asked} must begin before it ends and {within}; correct the times")
    first, last = (min(round(time_s * sound.samplerate), sound.frames) for time_s in (start, end))
    if first == last:
        raise AudioError(f"{asked} must hold at least one sample; correct the times")
    return first, last


def _check_finite(samples: Float[np.ndarray, "*channels num_samples"], start: int, sample_rate: int) -> None:
    """Refuse NaN and infinity, with the time of the first; `samples` begin at sample `start` of the file."""
    finite = np.isfinite(samples).all(axis=tuple(range(samples.ndim - 1)))
    if not finite.all():
        first_s = (start + int(finite.argmin())) / sample_rate
        raise AudioError(f"the sample at {first_s:.4f} s is NaN or infinite; export it again or leave it out")


def _check_peak(waveform: Float[np.ndarray, " num_samples"], highest: float) -> None:
    peak = float(np.abs(waveform).max())
    if peak > highest:
        raise AudioError(f"peak={peak:.6g}, and samples must lie in [-1, 1]; divide 16-bit numbers by 32768")


def _check_sample_rate(sample_rate: int) -> None:
    if sample_rate < 1:
        raise SettingError(f"sample_rate={sample_rate} must be at least 1 sample per second, such as 16000")
