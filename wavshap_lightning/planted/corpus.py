"""PlantedSpeech: a synthetic corpus in which a known cue in a known span decides the class.

Clips of every class come from one process: a voice speaks syllables, distractors are added, a room and
its noise are added. Only then is the cue of the class planted in one voiced span. Outside that span a
clip equals its twin without the cue sample for sample; inside it has the same energy. An
explanation can therefore be checked against the truth, and neither loudness nor
anything else in the clip gives the class away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from wavshap_lightning.audio.io import SAMPLE_RATE, save_audio
from wavshap_lightning.corpora.catalogue import CORPORA
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.corpora.labels import majority_label
from wavshap_lightning.corpora.manifest import read_manifest, save_manifest, write_table
from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.planted.cues import CUE_OF_LABEL, DIFFICULTIES
from wavshap_lightning.planted.scenes import add_lead_in, draw_clip
from wavshap_lightning.planted.voices import VOICES, Waveform, draw_speaker

MANIFEST = "manifest.jsonl"
RECORD = "planted.json"
"""Settings and hash of a complete corpus, beside its manifest."""

FORMAT_VERSION = 2
"""Raised whenever the same settings give other bytes."""

DEFAULT_LABELS = tuple(label for label in CUE_OF_LABEL if label != "disgust")
"""Without the vowel pattern, which takes a model that is sensitive to the order of vowels."""

AROUSAL_SCALE = CORPORA["planted"].scales["arousal"]

MAX_LEAD_S, MIN_TONE_LEAD_S = 2.0, 0.1

OnProgress = Callable[[int, int], None]

_SPEAKER_STREAM, _CLIP_STREAM, _LEAD_STREAM, _RATING_STREAM = 0, 1, 2, 3
_LEAST_LEVEL = 0.25  # the weakest cue is still audible


@dataclass(frozen=True, slots=True)
class PlantedSettings:
    """Settings of a PlantedSpeech corpus; the same settings give the same bytes.

    Args:
        num_speakers: Number of speakers, at least 3; a sixth of them is for validation, another sixth for
            testing.
        clips_per_speaker_and_label: Number of clips of each speaker in each class, at least 1.
        labels: Classes, two or more of `CUE_OF_LABEL`.
        seed: Random seed, at least 0.
        cue_strength: Strength of the cues, 0 to 2: 1 is clearly audible; at 0 nothing is planted and the
            labels are random.
        lead_s: Duration of the near silence before every clip, 0 to 2 seconds.
        shortcut: A class whose clips have a faint tone in that silence, a shortcut for testing whether
            explanations reveal it.
        difficulty: `easy`, `medium` or `hard`; see
            [`Difficulty`][wavshap_lightning.planted.cues.Difficulty].
        arousal: Draw the strength of each clip's cues, from a quarter of `cue_strength` to all of it, and let
            it set the clip's arousal, 1 (no cue) to 7.
        listeners: Number of simulated listeners. If any, the cues of two classes are mixed in each clip, each
            listener votes for one of the two with the probability of its share, and the label is that of most
            votes.

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
    arousal: bool = False
    listeners: int = 0

    def __post_init__(self) -> None:
        check_at_least(0, listeners=self.listeners)
        check_at_least(3, num_speakers=self.num_speakers)
        check_at_least(1, clips_per_speaker_and_label=self.clips_per_speaker_and_label)
        check_planted(CUE_OF_LABEL, self.labels, self.seed, self.cue_strength, self.difficulty)
        if not 0.0 <= self.lead_s <= MAX_LEAD_S:
            raise SettingError(f"lead_s={self.lead_s!r} must lie between 0 and {MAX_LEAD_S:g} seconds")
        if self.shortcut is not None and (self.shortcut not in self.labels or self.lead_s < MIN_TONE_LEAD_S):
            raise SettingError(
                f"shortcut={self.shortcut!r}, lead_s={self.lead_s:g}: the shortcut must be one of "
                f"labels={self.labels!r}, and needs lead_s of at least {MIN_TONE_LEAD_S:g} s to lie in"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values that identify the corpus; later additions are left out where they have no effect."""
        later = {one.name: one.default for one in fields(self)[5:]}
        return {name: x for name, x in asdict(self).items() if name not in later or x != later[name]}


def check_at_least(smallest: int, **values: int) -> None:
    """Raise SettingError unless every value is at least the smallest allowed."""
    for name, value in values.items():
        if value < smallest:
            raise SettingError(f"{name}={value!r} must be at least {smallest}")


def check_planted(
    known: Collection[str], labels: Sequence[str], seed: int, cue_strength: float, difficulty: str
) -> None:
    """Raise SettingError unless a corpus with these settings can be planted.

    Args:
        known: Labels that can be planted.
        labels: The classes asked for: two or more, all different.
        seed: Random seed, at least 0.
        cue_strength: Strength of the cues, 0 to 2.
        difficulty: A name in `DIFFICULTIES`.
    """
    if len(labels) < 2 or len(set(labels)) != len(labels) or not set(labels) <= set(known):
        raise SettingError(f"labels={labels!r} must be two or more different ones of {', '.join(known)}")
    check_at_least(0, seed=seed)
    if not 0.0 <= cue_strength <= 2.0:
        raise SettingError(f"cue_strength={cue_strength!r} must lie between 0 and 2; 1 is clearly audible")
    if difficulty not in DIFFICULTIES:
        raise SettingError(f"difficulty={difficulty!r} must be one of {', '.join(DIFFICULTIES)}")


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


def ensure_planted_speech(
    root: Path | str, settings: PlantedSettings, *, on_progress: OnProgress = no_progress
) -> list[Clip]:
    """Clips of the corpus below `root`, written first unless it is there, complete and with these settings.

    Files of an earlier corpus which this one lacks stay where they are; the manifest does not list them.

    Args:
        root: Folder of the corpus, made if need be.
        settings: Contents of the corpus.
        on_progress: Called with the number of clips written and to write, after every clip.

    Returns:
        The clips, as the manifest lists them.

    Raises:
        AudioError: If a clip cannot be written.
        CorpusError: If the manifest or the settings cannot be written.
    """
    root = Path(root).expanduser()
    num_clips = settings.num_speakers * len(settings.labels) * settings.clips_per_speaker_and_label

    def write() -> Iterator[Clip]:
        for done, (clip, waveform) in enumerate(_draw_corpus(root, settings), start=1):
            save_audio(clip.path, waveform, sample_rate=SAMPLE_RATE)
            on_progress(done, num_clips)
            yield clip

    return write_unless_complete(root, {"format_version": FORMAT_VERSION, **settings.to_dict()}, write)


def split_of(index: int, num_speakers: int) -> str:
    """Split of a speaker by number: the last sixth for testing, the one before for validation, else training.

    >>> [split_of(index, 4) for index in range(4)]
    ['train', 'train', 'validation', 'test']
    """
    held_out = max(1, num_speakers // 6)
    if index < num_speakers - 2 * held_out:
        return "train"
    return "validation" if index < num_speakers - held_out else "test"


def write_unless_complete(
    root: Path,
    fields: Mapping[str, Any],
    write: Callable[[], Iterable[Clip]],
    extra_files: Sequence[str] = (),
) -> list[Clip]:
    """Clips of the corpus below a root: those that are there if nothing is missing or changed, else new ones.

    Settings and a hash of all files are stored last: a corpus without them, with others, or with a file
    that has changed since is written again.

    Args:
        root: Folder of the corpus.
        fields: Settings of the corpus, in plain JSON types.
        write: Writes each clip that it yields, and the extra files.
        extra_files: Names of further files below the root that belong to the corpus.

    Raises:
        CorpusError: If a table cannot be written.
    """
    record = root / RECORD
    with suppress(CorpusError, OSError):  # a file is gone or damaged, so the corpus is not complete
        stored, clips = record.read_bytes(), read_manifest(root / MANIFEST)
        if stored == _record(root, fields, clips, extra_files).encode():
            return clips
    record.unlink(missing_ok=True)  # whoever is interrupted from here on leaves an incomplete corpus
    clips = list(write())
    save_manifest(root / MANIFEST, clips)
    write_table(record, _record(root, fields, clips, extra_files))
    return clips


def _record(root: Path, fields: Mapping[str, Any], clips: Sequence[Clip], extra_files: Sequence[str]) -> str:
    hashes = sha256()
    for path in (root / MANIFEST, *(clip.path for clip in clips), *(root / name for name in extra_files)):
        hashes.update(sha256(path.read_bytes()).digest())
    return json.dumps({**fields, "sha256": hashes.hexdigest()}, indent=2) + "\n"


def _draw_corpus(root: Path, settings: PlantedSettings) -> Iterator[tuple[Clip, Waveform]]:
    """Every clip from a generator of its own, so that none depends on how many there are."""

    def generator(*stream: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=stream))

    for index in range(settings.num_speakers):
        voice = VOICES[index % len(VOICES)]
        name, split = f"s{index + 1:02d}-{voice}", split_of(index, settings.num_speakers)
        speaker = draw_speaker(generator(_SPEAKER_STREAM, index), voice=voice)
        for label, take in product(settings.labels, range(settings.clips_per_speaker_and_label)):
            stream = (index, tuple(CUE_OF_LABEL).index(label), take)
            chance, lead_chance = generator(_CLIP_STREAM, *stream), generator(_LEAD_STREAM, *stream)
            factors, rated = _draw_ratings(settings, label, generator(_RATING_STREAM, *stream))
            waveform, spans = draw_clip(speaker, factors, chance, settings.cue_strength, settings.difficulty)
            if lead_s := settings.lead_s:
                has_tone = rated["label"] == settings.shortcut
                waveform = add_lead_in(waveform, lead_s, lead_chance, tone=has_tone)
            evidence = tuple(Span(one.start_s + lead_s, one.end_s + lead_s, one.kind) for one in spans)
            path = root / name / f"{name}_{label}_{take + 1:02d}.flac"
            clip = Clip(path, **rated, speaker=name, corpus="planted", split=split, evidence=evidence)
            yield clip, waveform


def _draw_ratings(
    settings: PlantedSettings, label: str, generator: np.random.Generator
) -> tuple[dict[str, float], dict[str, Any]]:
    """Factor on the strength of each class's cue in a clip, and the clip's label, votes and values."""
    other = str(generator.choice([one for one in settings.labels if one != label]))
    share, level = generator.uniform(0.5, 1.0), generator.uniform(_LEAST_LEVEL, 1.0)
    shares = {label: share, other: 1.0 - share} if settings.listeners else {label: 1.0}
    counts = generator.multinomial(settings.listeners, [*shares.values()]).tolist()
    votes = tuple((one, float(count)) for one, count in zip(shares, counts, strict=True) if count)
    factors = {one: part * (level if settings.arousal else 1.0) for one, part in shares.items()}
    audible = sum(factor for one, factor in factors.items() if CUE_OF_LABEL[one])
    low, high = AROUSAL_SCALE
    values = (("arousal", low + (high - low) * audible),) if settings.arousal else ()
    return factors, {"label": majority_label(votes) if votes else label, "votes": votes, "values": values}
