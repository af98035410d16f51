"""PlantedSpeech: a synthetic corpus in which a known cue in a known span decides the class.

Clips of every class come from one process: a voice says syllables, distractors happen, a room and
its noise are added. Only then is the cue of the class planted in one voiced span. Outside that span a
clip equals its twin without the cue sample for sample; inside it has the same energy. An
explanation can therefore be checked against the truth, and neither loudness nor
anything else in the clip gives the class away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wavshap_lightning.audio.io import SAMPLE_RATE, save_audio
from wavshap_lightning.corpora.catalogue import MANIFEST
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import read_manifest, save_manifest, write_table
from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.planted.cues import difficulty_named
from wavshap_lightning.planted.scenes import (
    CUE_OF_LABEL,
    add_lead,
    check_cue_strength,
    check_label,
    draw_clip,
)
from wavshap_lightning.planted.voices import VOICES, draw_speaker

SEAL = "planted.json"


def part_of(index: int, num_speakers: int) -> str:
    """The part of a speaker by number: the last sixth tests, the sixth before validates, the others train.

    >>> [part_of(index, 4) for index in range(4)]
    ['train', 'train', 'validation', 'test']
    """
    held_out = max(1, num_speakers // 6)
    if index < num_speakers - 2 * held_out:
        return "train"
    return "validation" if index < num_speakers - held_out else "test"


def break_seal(root: Path) -> None:
    """Say that what lies below a root is not whole, before anything of it changes."""
    (root / SEAL).unlink(missing_ok=True)


def seal(root: Path, fields: Mapping[str, Any], clips: Sequence[Clip], beside: Sequence[str] = ()) -> None:
    """Write the manifest and then, last of all, what the corpus is made of and a hash of its files.

    Args:
        root: Folder of the corpus.
        fields: What it is made of, in plain JSON types.
        clips: Those that were written.
        beside: Names of further files below the root that belong to it.

    Raises:
        CorpusError: If a file cannot be written.
    """
    save_manifest(root / MANIFEST, clips)
    write_table(root / SEAL, _record(root, fields, clips, beside))


def sealed_clips(root: Path, fields: Mapping[str, Any], beside: Sequence[str] = ()) -> list[Clip] | None:
    """The clips below a root if they are complete, as they were written, and made of just this; else None."""
    with suppress(CorpusError, OSError):  # a file is gone or damaged, so the corpus is not complete
        stored = (root / SEAL).read_bytes()
        clips = read_manifest(root / MANIFEST)
        if stored == _record(root, fields, clips, beside).encode():
            return clips
    return None


def check_at_least(name: str, value: int, smallest: int) -> None:
    """Raise SettingError unless a value is large enough."""
    if value < smallest:
        raise SettingError(f"{name}={value!r} must be at least {smallest}")


def check_labels(labels: Sequence[str]) -> None:
    """Raise SettingError unless there are two labels or more, all different."""
    if len(set(labels)) != len(labels) or len(labels) < 2:
        raise SettingError(f"labels={labels!r} must be at least two different labels")


def _record(root: Path, fields: Mapping[str, Any], clips: Sequence[Clip], beside: Sequence[str]) -> str:
    """One hash of the bytes of the manifest, of every clip and of what lies beside them."""
    hashes = sha256()
    for path in (root / MANIFEST, *(clip.path for clip in clips), *(root / name for name in beside)):
        hashes.update(sha256(path.read_bytes()).digest())
    return json.dumps({**fields, "sha256": hashes.hexdigest()}, indent=2) + "\n"


FORMAT_VERSION = 2
"""Raised whenever the same settings give other bytes."""

_SPEAKER_STREAM, _CLIP_STREAM, _LEAD_STREAM = 0, 1, 2
DEFAULT_LABELS = tuple(label for label in CUE_OF_LABEL if label != "disgust")
"""Without the spoken pattern, which takes a model that hears the order of vowels."""

MAX_LEAD_S, MIN_TONE_LEAD_S = 2.0, 0.1


@dataclass(frozen=True, slots=True)
class PlantedSettings:
    """What a PlantedSpeech corpus is made of; the same settings give the same bytes.

    Args:
        num_speakers: Speakers, at least 3; a sixth of them validate, another sixth test.
        clips_per_speaker_and_label: Clips of each speaker in each class, at least 1.
        labels: Classes, two or more of `CUE_OF_LABEL`.
        seed: Seed of everything drawn, at least 0.
        cue_strength: How far the cues go, 0 to 2: 1 is clearly audible; at 0 nothing is planted and the
            labels say nothing.
        lead_s: Seconds of near silence before every clip, 0 to 2.
        shortcut: A class whose clips have a faint tone in that silence, which gives it away without a voice:
            for finding out whether one notices that a model has learned that instead.
        difficulty: `easy`, `medium` or `hard`; see
            [`Difficulty`][wavshap_lightning.planted.cues.Difficulty].

    Raises:
        SettingError: If a value is outside its range.
    """

    num_speakers: int = 12
    clips_per_speaker_and_label: int = 10
    labels: tuple[str, ...] = DEFAULT_LABELS
    seed: int = 0
    cue_strength: float = 1.0
    lead_s: float = 0.0
    shortcut: str | None = None
    difficulty: str = "easy"

    def __post_init__(self) -> None:
        check_at_least("num_speakers", self.num_speakers, 3)
        check_at_least("clips_per_speaker_and_label", self.clips_per_speaker_and_label, 1)
        check_at_least("seed", self.seed, 0)
        check_cue_strength(self.cue_strength)
        difficulty_named(self.difficulty)
        check_labels(self.labels)
        for label in self.labels:
            check_label(label)
        if not 0.0 <= self.lead_s <= MAX_LEAD_S:
            raise SettingError(f"lead_s={self.lead_s!r} must lie between 0 and {MAX_LEAD_S:g} seconds")
        if self.shortcut is not None and (self.shortcut not in self.labels or self.lead_s < MIN_TONE_LEAD_S):
            raise SettingError(
                f"shortcut={self.shortcut!r}, lead_s={self.lead_s:g}: the shortcut must be one of "
                f"labels={self.labels!r}, and needs a silence of at least {MIN_TONE_LEAD_S:g} s to lie in"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values that identify the corpus; what came later is left out where it changes nothing."""
        values = asdict(self)
        for name in ("lead_s", "shortcut", "difficulty"):
            if values[name] == PlantedSettings.__dataclass_fields__[name].default:
                del values[name]
        return values


def write_planted_speech(
    root: Path | str, settings: PlantedSettings, *, on_progress: Callable[[int, int], None] | None = None
) -> list[Clip]:
    """Write the corpus below `root`, whatever is there already.

    Files of an earlier corpus which this one lacks stay where they are; the manifest does not list them.

    Args:
        root: Folder of the corpus, made if need be.
        settings: What the corpus is made of.
        on_progress: Called with the number of clips written and to write, after every clip.

    Returns:
        The clips, as the manifest lists them.

    Raises:
        AudioError: If a clip cannot be written.
        CorpusError: If the manifest or the settings cannot be written.
    """
    root = Path(root).expanduser()
    break_seal(root)
    num_clips = settings.num_speakers * len(settings.labels) * settings.clips_per_speaker_and_label
    clips: list[Clip] = []
    for clip, waveform in _draw_corpus(root, settings):
        save_audio(clip.path, waveform, sample_rate=SAMPLE_RATE)
        clips.append(clip)
        if on_progress is not None:
            on_progress(len(clips), num_clips)
    seal(root, _fields(settings), clips)
    return clips


def ensure_planted_speech(
    root: Path | str, settings: PlantedSettings, *, on_progress: Callable[[int, int], None] | None = None
) -> list[Clip]:
    """The clips of the corpus below `root`, which is written unless it is there, complete and just so.

    Settings and a hash of all files are stored last: a corpus without them, with others, or with a file
    that has changed since is written anew.
    """
    clips = sealed_clips(Path(root).expanduser(), _fields(settings))
    return write_planted_speech(root, settings, on_progress=on_progress) if clips is None else clips


def _fields(settings: PlantedSettings) -> dict[str, Any]:
    return {"format_version": FORMAT_VERSION, **settings.to_dict()}


def _draw_corpus(root: Path, settings: PlantedSettings) -> Iterator[tuple[Clip, Float[np.ndarray, " time"]]]:
    """Every clip from a generator of its own, so that none depends on how many there are."""
    for index in range(settings.num_speakers):
        voice = VOICES[index % len(VOICES)]
        name, split = f"s{index + 1:02d}-{voice}", part_of(index, settings.num_speakers)
        speaker = draw_speaker(_generator(settings, _SPEAKER_STREAM, index), voice=voice)
        for label, take in product(settings.labels, range(settings.clips_per_speaker_and_label)):
            stream = (index, tuple(CUE_OF_LABEL).index(label), take)
            waveform, evidence = draw_clip(
                speaker,
                label,
                _generator(settings, _CLIP_STREAM, *stream),
                cue_strength=settings.cue_strength,
                difficulty=settings.difficulty,
            )
            if settings.lead_s:
                chance, tone = _generator(settings, _LEAD_STREAM, *stream), label == settings.shortcut
                waveform, evidence = add_lead(waveform, evidence, settings.lead_s, chance, tone=tone)
            path = root / name / f"{name}_{label}_{take + 1:02d}.flac"
            yield Clip(path, label, name, "planted", split, evidence=evidence), waveform


def _generator(settings: PlantedSettings, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=stream))
