"""PlantedSpeech in real recordings: a known cue in a known span of recorded speech.

The cue of a recording is drawn independently of its label. It is cut to its speech, and the cue is planted
in a voiced span about as loud as the rest. Outside that span the clip equals the recording as it is read
at 16 kHz, to 16 bit; inside it has the same energy. So nothing but the cue decides the class, and
loudness does not show where it is.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from wavshap_lightning.audio.io import SAMPLE_RATE, hash_audio_file, load_audio, save_audio
from wavshap_lightning.corpora.catalogue import CORPORA, corpus_named, load_corpus
from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.corpora.labels import select_labels
from wavshap_lightning.corpora.manifest import read_table, write_table
from wavshap_lightning.corpora.protocols import stable_hash
from wavshap_lightning.errors import AudioError, CorpusError, SettingError
from wavshap_lightning.files import format_csv
from wavshap_lightning.planted import corpus
from wavshap_lightning.planted.corpus import OnProgress, no_progress
from wavshap_lightning.planted.cues import CUE_OF_LABEL, DIFFICULTIES
from wavshap_lightning.planted.recorded_cues import RECORDED_CUES, Excerpt, draw_excerpt, plant_cue

FORMAT_VERSION = 2
"""Raised whenever the same settings give other bytes."""

NAME = "planted-in"
SOURCES = "sources.csv"
PLANTED_LABELS = tuple(label for label, cue in CUE_OF_LABEL.items() if cue is None or cue in RECORDED_CUES)
"""Labels whose cues can be planted in a recording."""

_COLUMNS = ("clip", "source", "source_label", "start_s", "end_s", "gain", "reason")
_FEWEST_SPEAKERS = 3


@dataclass(frozen=True)
class PlantedInSettings:
    """Recordings and planted cues; the same settings and recordings give the same bytes.

    Args:
        source: The corpus of the recordings, one of `CORPORA`.
        source_options: Options of that corpus, such as `speaker_pattern`.
        source_labels: Classes of that corpus to use; all if None.
        clips_per_speaker: Maximum number of recordings of each speaker, drawn at random; all if None.
        labels: Classes, two or more of `PLANTED_LABELS`.
        seed: Random seed, at least 0.
        cue_strength: Strength of the cues, 0 to 2: 1 is clearly audible; at 0 nothing is planted and the
            labels are random.
        difficulty: `easy`, `medium` or `hard`; see
            [`Difficulty`][wavshap_lightning.planted.cues.Difficulty].

    Raises:
        CorpusError: If there is no such corpus.
        SettingError: If a value is outside its range.
    """

    source: str
    source_options: Mapping[str, object] = field(default_factory=dict)
    source_labels: tuple[str, ...] | None = None
    clips_per_speaker: int | None = None
    labels: tuple[str, ...] = PLANTED_LABELS
    seed: int = 0
    cue_strength: float = 1.0
    difficulty: str = "easy"

    def __post_init__(self) -> None:
        known = [name for name in CORPORA if not name.startswith("planted")]
        if not isinstance(self.source, str) or self.source_name not in known:
            raise SettingError(f"source={self.source!r} must hold real recordings: one of {', '.join(known)}")
        if not isinstance(self.source_options, Mapping):
            raise SettingError(f"source_options={self.source_options!r} must be names with values")
        if self.clips_per_speaker is not None:
            corpus.check_at_least(1, clips_per_speaker=self.clips_per_speaker)
        corpus.check_planted(PLANTED_LABELS, self.labels, self.seed, self.cue_strength, self.difficulty)

    @property
    def source_name(self) -> str:
        """Name of the source corpus, as in `CORPORA`."""
        return corpus_named(self.source).name

    def to_dict(self) -> dict[str, Any]:
        """Plain values that identify the settings."""
        return {**asdict(self), "source": self.source_name}


@dataclass(frozen=True, slots=True)
class Source:
    """Recordings of real speech.

    Args:
        clips: The recordings; their labels are unrelated to the planted ones.
        sha256: Hash of their metadata and of every file.
    """

    clips: tuple[Clip, ...]
    sha256: str


def open_source(root: Path | str, settings: PlantedInSettings) -> Source:
    """The recordings that the settings ask for, below the root of their corpus.

    Raises:
        CorpusError: If the corpus is not there, a class is not in it, or it has too few speakers.
        SettingError: If an option of the corpus does not fit.
    """
    clips = load_corpus(settings.source_name, root, **dict(settings.source_options))  # type: ignore[arg-type]
    if settings.source_labels is not None:
        clips = select_labels(clips, settings.source_labels, option="source_labels")
    check_speakers(clips, f"source={settings.source_name!r}")
    if settings.clips_per_speaker is not None:
        clips = _draw_clips(clips, settings.clips_per_speaker, settings.seed)
    return Source(tuple(clips), _hash(clips))


def ensure_planted_in(
    root: Path | str, source: Source, settings: PlantedInSettings, *, on_progress: OnProgress = no_progress
) -> list[Clip]:
    """Clips of the corpus below `root`, written first unless it is there, complete, and of these recordings.

    Beside the manifest, `sources.csv` names the recording and the times that each clip comes from, and why a
    recording is left out.

    Args:
        root: Folder of the corpus, made if need be.
        source: The recordings.
        settings: The planted cues.
        on_progress: Called with the number of steps done and to do, two for every recording.

    Returns:
        The clips, as the manifest lists them.

    Raises:
        AudioError: If a clip cannot be written.
        CorpusError: If too few recordings can be used, or a table cannot be written.
    """
    folder = Path(root).expanduser()
    fields = {"format_version": FORMAT_VERSION, **settings.to_dict(), "source_sha256": source.sha256}
    write = partial(_write, folder, source, settings, on_progress)
    return corpus.write_unless_complete(folder, fields, write, [SOURCES])


def _write(root: Path, source: Source, settings: PlantedInSettings, report: OnProgress) -> Iterator[Clip]:
    used, left_out = _draw_excerpts(source.clips, settings, report)
    table: list[Sequence[object]] = [_COLUMNS]
    strength = settings.cue_strength * DIFFICULTIES[settings.difficulty].cue_strength
    named = _name_clips(root, [recording for recording, _ in used], left_out, settings)
    for place, (clip, (recording, excerpt)) in enumerate(zip(named, used, strict=True), start=1):
        waveform, evidence = plant_cue(_load(recording), excerpt, CUE_OF_LABEL[clip.label], strength)
        save_audio(clip.path, waveform, sample_rate=SAMPLE_RATE)
        samples = (excerpt.start, excerpt.stop)
        start_s, end_s = (round((recording.start_s or 0.0) + n / SAMPLE_RATE, 6) for n in samples)
        name, path = clip.path.relative_to(root).as_posix(), recording.path.absolute()
        table.append((name, path, recording.label, start_s, end_s, f"{excerpt.gain:g}", ""))
        report(len(source.clips) + len(left_out) + place, 2 * len(source.clips))
        yield replace(clip, evidence=evidence)
    table += [("", one.path.absolute(), one.label, "", "", "", reason) for one, reason in left_out]
    write_table(root / SOURCES, format_csv(table))


def _draw_excerpts(
    recordings: Sequence[Clip], settings: PlantedInSettings, on_progress: OnProgress
) -> tuple[list[tuple[Clip, Excerpt]], list[tuple[Clip, str]]]:
    """Recordings with the places of cues in them, and those in which none can be planted with the reason."""
    used, left_out, difficulty = [], [], DIFFICULTIES[settings.difficulty]
    for done, recording in enumerate(recordings, start=1):
        # Every recording has a generator of its own, so that none depends on how many there are. The word
        # "stretch" decides what is drawn: corpora already made have it.
        own = stable_hash(settings.seed, "stretch", recording.speaker, recording.label, *recording.key)
        try:
            used.append((recording, draw_excerpt(_load(recording), difficulty, np.random.default_rng(own))))
        except AudioError as error:
            left_out.append((recording, str(error)))
        on_progress(done, 2 * len(recordings))
    return used, left_out


def read_left_out(root: Path) -> list[tuple[Path, str]]:
    """Recordings in which no cue could be planted and the reasons, from the `sources.csv` of a corpus.

    Raises:
        CorpusError: If there is no such table.
    """
    rows = read_table(root / SOURCES, required=_COLUMNS).values()
    return [(Path(row["source"]), row["reason"]) for row in rows if not row["clip"]]


def check_speakers(clips: Sequence[Clip], what: str) -> None:
    """Raise CorpusError unless every clip has a speaker and there are three or more."""
    speakers = sorted({clip.speaker for clip in clips})
    unknown = [clip.path for clip in clips if not clip.speaker]
    if unknown or len(speakers) < _FEWEST_SPEAKERS:
        raise CorpusError(
            f"{what}: speakers={speakers} must be at least {_FEWEST_SPEAKERS}, so that splits share none, "
            f"and {len(unknown)} of {len(clips)} recordings name none ({listed(unknown, limit=1)}); name "
            "them in a manifest's column speaker or by source_options with a speaker_pattern, or add others"
        )


def split_of_speakers(clips: Sequence[Clip], seed: int) -> dict[str, str]:
    """Split of each speaker: the corpus's own if it is speaker-independent, else drawn at random."""
    own = {clip.speaker: clip.split for clip in clips}
    if all(own[clip.speaker] == clip.split for clip in clips) and set(own.values()) == set(SPLITS):
        return {speaker: str(split) for speaker, split in own.items()}
    # The word "part" decides what is drawn: corpora already made have it.
    drawn = sorted(own, key=lambda speaker: (stable_hash(seed, "part", speaker), speaker))
    return {speaker: corpus.split_of(index, len(drawn)) for index, speaker in enumerate(drawn)}


def draw_labels(clips: Sequence[Clip], labels: Sequence[str], seed: int) -> list[str]:
    """A label to plant for each clip, independent of its speaker and of its original label.

    Permuted blocks (Pocock 1983, chapter 5), speaker by speaker, clips of one label after another: every
    label comes equally often with every speaker, give or take one, and with every label of the
    recordings, give or take what is left of blocks.
    """
    drawn = [""] * len(clips)
    for speaker in sorted({clip.speaker for clip in clips}):
        generator = np.random.default_rng(stable_hash(seed, "labels", speaker))
        own = [index for index, clip in enumerate(clips) if clip.speaker == speaker]
        shuffled = sorted(generator.permutation(own).tolist(), key=lambda index: clips[index].label)
        for place, index in enumerate(shuffled):
            if place % len(labels) == 0:
                block = generator.permutation(len(labels))
            drawn[index] = labels[block[place % len(labels)]]
    return drawn


def _draw_clips(clips: Sequence[Clip], clips_per_speaker: int, seed: int) -> list[Clip]:
    """At most a number of clips of each speaker, in the given order, independent of other speakers."""
    rank = [stable_hash(seed, "choice", clip.speaker, clip.label, *clip.key) for clip in clips]
    by_speaker: dict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(clips)), key=lambda index: (rank[index], index)):
        by_speaker[clips[index].speaker].append(index)
    chosen = [index for own in by_speaker.values() for index in own[:clips_per_speaker]]
    return [clips[index] for index in sorted(chosen)]


def _hash(clips: Sequence[Clip]) -> str:
    @cache  # several clips may lie in one file
    def hash_file(path: Path) -> str | None:
        with suppress(AudioError):  # it is left out, with the reason, when it is read
            return hash_audio_file(path)
        return None

    hashes = sha256()
    for clip in clips:
        path = clip.path.absolute()
        known = [str(path), clip.label, clip.speaker, clip.split, clip.start_s, clip.end_s, clip.text]
        hashes.update(json.dumps([*known, hash_file(path)]).encode())
    return hashes.hexdigest()


def _load(clip: Clip) -> Float32[np.ndarray, " time"]:
    return load_audio(clip.path, sample_rate=SAMPLE_RATE, start_s=clip.start_s, end_s=clip.end_s)


def _name_clips(
    root: Path, recordings: Sequence[Clip], left_out: Sequence[tuple[Clip, str]], settings: PlantedInSettings
) -> list[Clip]:
    """The clips that the recordings become, without evidence, which is not planted yet."""
    what = f"source={settings.source!r}"
    if left_out:
        reasons = listed((f"{one.path.absolute()}: {why}" for one, why in left_out), limit=2, separator="; ")
        what += f" without {len(left_out)} recordings in which no cue can be planted ({reasons})"
    check_speakers(recordings, what)
    splits = split_of_speakers(recordings, settings.seed)
    folders = {speaker: f"s{number:02d}" for number, speaker in enumerate(sorted(splits), start=1)}
    takes: Counter[tuple[str, str]] = Counter()
    clips, corpus_name = [], f"{NAME}-{settings.source_name}"
    labels = draw_labels(recordings, settings.labels, settings.seed)
    for recording, label in zip(recordings, labels, strict=True):
        speaker, folder = recording.speaker, folders[recording.speaker]
        takes[speaker, label] += 1
        path = root / folder / f"{folder}_{label}_{takes[speaker, label]:03d}.flac"
        clips.append(Clip(path, label, speaker, corpus_name, splits[speaker], text=recording.text))
    found = {(clip.split, clip.label) for clip in clips}
    wanted = product(SPLITS, settings.labels)
    missing = [f"{label} in {split}" for split, label in wanted if (split, label) not in found]
    if missing:
        raise CorpusError(f"{what}: no recording for {listed(missing)}; add some, or ask for fewer labels")
    return clips
