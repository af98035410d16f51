"""PlantedSpeech in real recordings: a known cue in a known span of speech that somebody spoke.

Which cue a recording gets is drawn, whatever it was labelled. It is cut to its speech, and the cue is planted
in a voiced span about as loud as the rest. Outside that span the clip equals the recording as it is read
at 16 kHz, to 16 bit; inside it has the same energy. So nothing but the cue decides the class, and
loudness does not show where it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from wavshap_lightning.audio.io import SAMPLE_RATE, hash_audio_file, load_audio, save_audio
from wavshap_lightning.corpora.catalogue import CORPORA, corpus_named, load_corpus
from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.corpora.manifest import format_csv, read_csv, write_table
from wavshap_lightning.corpora.splits import stable_hash
from wavshap_lightning.errors import AudioError, CorpusError, SettingError
from wavshap_lightning.planted.corpus import (
    break_seal,
    check_at_least,
    check_labels,
    part_of,
    seal,
    sealed_clips,
)
from wavshap_lightning.planted.cues import difficulty_named
from wavshap_lightning.planted.recorded_cues import RECORDED_CUES, Stretch, draw_stretch, plant_cue
from wavshap_lightning.planted.scenes import CUE_OF_LABEL, check_cue_strength

SOURCES = "csv"
COLUMNS = ("clip", "source", "source_label", "start_s", "end_s", "gain", "reason")


@dataclass(frozen=True, slots=True)
class Usable:
    """A recording in which a cue can be planted.

    Args:
        clip: The recording.
        stretch: Where.
    """

    clip: Clip
    stretch: Stretch


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A recording in which no cue can be planted.

    Args:
        path: Where it lies.
        label: What it was labelled.
        reason: What is amiss with it.
    """

    path: Path
    label: str
    reason: str


def save_sources(
    root: Path, used: Sequence[Usable], clips: Sequence[Clip], left_out: Sequence[LeftOut]
) -> None:
    """Write a row for each recording: the clip it became, or why it became none.

    Args:
        root: Folder of the clips.
        used: Recordings that were used.
        clips: What became of them, in the same order.
        left_out: Those that were not.

    Raises:
        CorpusError: If it cannot be written.
    """
    rows = [_row(root, one, clip) for one, clip in zip(used, clips, strict=True)]
    rows += [["", str(one.path), one.label, "", "", "", one.reason] for one in left_out]
    write_table(root / SOURCES, format_csv(COLUMNS, rows))


def read_left_out(root: Path) -> tuple[LeftOut, ...]:
    """The recordings that are left out of a corpus, as its table has them.

    Raises:
        CorpusError: If there is no such table.
    """
    cells = [row.cells for row in read_csv(root / SOURCES, required=COLUMNS)]
    return tuple(
        LeftOut(Path(of["source"]), of["source_label"], of["reason"]) for of in cells if not of["clip"]
    )


def _row(root: Path, used: Usable, clip: Clip) -> list[str]:
    offset_s = used.clip.start_s or 0.0
    times_s = (offset_s + used.stretch.start_s, offset_s + used.stretch.end_s)
    return [
        clip.path.relative_to(root).as_posix(),
        str(used.clip.path.absolute()),
        used.clip.label,
        *(str(round(time_s, 6)) for time_s in times_s),
        f"{used.stretch.gain:g}",
        "",
    ]


FEWEST_SPEAKERS = 3


@dataclass(frozen=True, slots=True)
class Source:
    """Recordings of real speech.

    Args:
        clips: The recordings; what they are labelled says nothing about what is planted.
        sha256: Hash of what is known of them and of every file, to know them again.
    """

    clips: tuple[Clip, ...]
    sha256: str


def open_source_of(
    name: str,
    root: Path | str,
    *,
    options: Mapping[str, Any],
    labels: Sequence[str] | None = None,
    clips_per_speaker: int | None = None,
    seed: int = 0,
) -> Source:
    """The recordings of a corpus that cues are to be planted in.

    Args:
        name: Of the corpus, as in `CORPORA`.
        root: Where it lies.
        options: Of the corpus.
        labels: Which of its classes; all if None.
        clips_per_speaker: At most so many of each speaker, drawn; all if None.
        seed: Decides which.

    Raises:
        CorpusError: If the corpus is not there, one of the classes is not in it, or it has too few speakers.
        SettingError: If an option does not fit.
    """
    clips = _select(load_corpus(name, root, **dict(options)), name, labels)
    check_speakers(clips, f"source={name!r}")
    if clips_per_speaker is not None:
        clips = _draw(clips, clips_per_speaker, seed)
    return Source(tuple(clips), _hash(clips))


def check_speakers(clips: Sequence[Clip], what: str) -> None:
    """Raise CorpusError unless every clip has a speaker and there are three or more."""
    unknown = [clip for clip in clips if not clip.speaker]
    if unknown:
        raise CorpusError(
            f"{what}: {len(unknown)} of {len(clips)} recordings have no speaker, the first is "
            f"path={unknown[0].path}. Parts must not share speakers: name them, in a manifest's column "
            "speaker or by source_options with a speaker_pattern"
        )
    speakers = sorted({clip.speaker for clip in clips})
    if len(speakers) < FEWEST_SPEAKERS:
        raise CorpusError(
            f"{what}: speakers={speakers} must be at least {FEWEST_SPEAKERS}, one to train, one to validate "
            "and one to test; add recordings of others"
        )


def part_of_speaker(clips: Sequence[Clip], seed: int) -> dict[str, str]:
    """The part of each speaker: the corpus's own where it keeps speakers apart, else drawn by seed."""
    own = {clip.speaker: clip.split for clip in clips}
    if all(own[clip.speaker] == clip.split for clip in clips) and set(own.values()) == set(SPLITS):
        return {speaker: str(part) for speaker, part in own.items()}
    drawn = sorted(own, key=lambda speaker: (stable_hash(seed, "part", speaker), speaker))
    return {speaker: part_of(index, len(drawn)) for index, speaker in enumerate(drawn)}


def draw_labels(clips: Sequence[Clip], labels: Sequence[str], seed: int) -> list[str]:
    """A label to plant for each clip, which neither the speaker nor the clip's own label says anything about.

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


def _select(clips: Sequence[Clip], name: str, labels: Sequence[str] | None) -> list[Clip]:
    if labels is None:
        return list(clips)
    found = Counter(clip.label for clip in clips)
    missing = [label for label in labels if label not in found]
    if missing or not labels:
        raise CorpusError(
            f"source_labels={list(labels)} must name classes of source={name!r}: missing={missing}, found "
            f"{', '.join(sorted(found))}; leave it out for all"
        )
    return [clip for clip in clips if clip.label in labels]


def _draw(clips: Sequence[Clip], clips_per_speaker: int, seed: int) -> list[Clip]:
    """As many of each speaker, in the order given; which, does not depend on the other speakers."""
    rank = [stable_hash(seed, "choice", clip.speaker, clip.label, *clip.key) for clip in clips]
    chosen: set[int] = set()
    for speaker in {clip.speaker for clip in clips}:
        own = [index for index, clip in enumerate(clips) if clip.speaker == speaker]
        chosen.update(sorted(own, key=lambda index: (rank[index], index))[:clips_per_speaker])
    return [clip for index, clip in enumerate(clips) if index in chosen]


def _hash(clips: Sequence[Clip]) -> str:
    hashes, of_file = sha256(), {}
    for clip in clips:
        path = clip.path.absolute()
        if path not in of_file:
            of_file[path] = _hash_file(path)
        known = [str(path), clip.label, clip.speaker, clip.split, clip.start_s, clip.end_s, clip.text]
        hashes.update(json.dumps([*known, of_file[path]]).encode())
    return hashes.hexdigest()


def _hash_file(path: Path) -> str | None:
    try:
        return hash_audio_file(path)
    except AudioError:  # it is left out and said to be so when it is read
        return None


FORMAT_VERSION = 2
"""Raised whenever the same settings give other bytes."""

NAME = "planted-in"
PLANTED_LABELS = tuple(label for label, cue in CUE_OF_LABEL.items() if cue is None or cue in RECORDED_CUES)
"""What can be planted in a recording."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class PlantedInSettings:
    """What is planted in which recordings; the same settings and recordings give the same bytes.

    Args:
        source: The corpus of the recordings, one of `CORPORA`.
        source_options: Options of that corpus, such as `speaker_pattern`.
        source_labels: Which of its classes; all if None.
        clips_per_speaker: At most so many recordings of each speaker, drawn; all if None.
        labels: Classes, two or more of `PLANTED_LABELS`.
        seed: Seed of everything drawn, at least 0.
        cue_strength: How far the cues go, 0 to 2: 1 is clearly audible; at 0 nothing is planted and the
            labels say nothing.
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
            check_at_least("clips_per_speaker", self.clips_per_speaker, 1)
        check_labels(self.labels)
        for label in self.labels:
            if label not in PLANTED_LABELS:
                raise SettingError(f"label={label!r} must be one of {', '.join(PLANTED_LABELS)}")
        check_at_least("seed", self.seed, 0)
        check_cue_strength(self.cue_strength)
        difficulty_named(self.difficulty)

    @property
    def source_name(self) -> str:
        """The source as the catalogue spells it."""
        return corpus_named(self.source).name

    def to_dict(self) -> dict[str, Any]:
        """Plain values that identify what is planted."""
        return {**asdict(self), "source": self.source_name}


@dataclass(frozen=True, slots=True)
class PlantedIn:
    """A corpus of real recordings with cues.

    Args:
        clips: As the manifest lists them.
        left_out: Recordings in which nothing could be planted.
    """

    clips: tuple[Clip, ...]
    left_out: tuple[LeftOut, ...]


def open_source(root: Path | str, settings: PlantedInSettings) -> Source:
    """The recordings that the settings ask for, below the root of their corpus.

    Raises:
        CorpusError: If the corpus is not there, a class is not in it, or it has too few speakers.
        SettingError: If an option of the corpus does not fit.
    """
    return open_source_of(
        settings.source_name,
        root,
        options=settings.source_options,
        labels=settings.source_labels,
        clips_per_speaker=settings.clips_per_speaker,
        seed=settings.seed,
    )


def write_planted_in(
    root: Path | str, source: Source, settings: PlantedInSettings, *, on_progress: OnProgress | None = None
) -> PlantedIn:
    """Write the corpus below `root`, whatever is there already.

    Beside the manifest, `csv` says from which stretch of which recording each clip comes, and why a
    recording is not in it.

    Args:
        root: Folder of the corpus, made if need be.
        source: The recordings.
        settings: What is planted.
        on_progress: Called with the number of steps done and to do, two for every recording.

    Raises:
        AudioError: If a clip cannot be written.
        CorpusError: If too few recordings can be used, or a table cannot be written.
    """
    root = Path(root).expanduser()
    break_seal(root)
    report = on_progress or (lambda _done, _total: None)
    used: list[Usable] = []
    left_out: list[LeftOut] = []
    for done, clip in enumerate(source.clips, start=1):
        try:
            used.append(_draw_stretch(clip, settings))
        except AudioError as error:
            left_out.append(LeftOut(clip.path.absolute(), clip.label, str(error)))
        report(done, 2 * len(source.clips))
    clips: list[Clip] = []
    for one, clip in zip(used, _name_clips(root, used, left_out, settings), strict=True):
        clips.append(_write_clip(one, clip, settings))
        report(len(source.clips) + len(left_out) + len(clips), 2 * len(source.clips))
    save_sources(root, used, clips, left_out)
    seal(root, _fields(source, settings), clips, [SOURCES])
    return PlantedIn(tuple(clips), tuple(left_out))


def ensure_planted_in(
    root: Path | str, source: Source, settings: PlantedInSettings, *, on_progress: OnProgress | None = None
) -> PlantedIn:
    """The corpus below `root`, which is written unless it is there, complete, and of these recordings."""
    folder = Path(root).expanduser()
    clips = sealed_clips(folder, _fields(source, settings), [SOURCES])
    if clips is None:
        return write_planted_in(folder, source, settings, on_progress=on_progress)
    return PlantedIn(tuple(clips), read_left_out(folder))


def _fields(source: Source, settings: PlantedInSettings) -> dict[str, Any]:
    return {"format_version": FORMAT_VERSION, **settings.to_dict(), "source_sha256": source.sha256}


def _load(clip: Clip) -> Float32[np.ndarray, " time"]:
    return load_audio(clip.path, sample_rate=SAMPLE_RATE, start_s=clip.start_s, end_s=clip.end_s)


def _draw_stretch(clip: Clip, settings: PlantedInSettings) -> Usable:
    """Every recording from a generator of its own, so that none depends on how many there are."""
    own = stable_hash(settings.seed, "stretch", clip.speaker, clip.label, *clip.key)
    generator = np.random.default_rng(own)
    return Usable(clip, draw_stretch(_load(clip), difficulty_named(settings.difficulty), generator))


def _name_clips(
    root: Path, used: Sequence[Usable], left_out: Sequence[LeftOut], settings: PlantedInSettings
) -> list[Clip]:
    """What is to become of the recordings; without evidence, which is not planted yet."""
    recordings, what = [one.clip for one in used], f"source={settings.source!r}{_without(left_out)}"
    check_speakers(recordings, what)
    labels = draw_labels(recordings, settings.labels, settings.seed)
    parts = part_of_speaker(recordings, settings.seed)
    _check_parts(
        what, {(parts[clip.speaker], label) for clip, label in zip(recordings, labels, strict=True)}, settings
    )
    folders = {speaker: f"s{number:02d}" for number, speaker in enumerate(sorted(parts), start=1)}
    takes: Counter[tuple[str, str]] = Counter()
    clips: list[Clip] = []
    for clip, label in zip(recordings, labels, strict=True):
        takes[clip.speaker, label] += 1
        folder = folders[clip.speaker]
        path = root / folder / f"{folder}_{label}_{takes[clip.speaker, label]:03d}.flac"
        corpus, part = f"{NAME}-{settings.source_name}", parts[clip.speaker]
        clips.append(Clip(path, label, clip.speaker, corpus, part, text=clip.text))
    return clips


def _without(left_out: Sequence[LeftOut]) -> str:
    reasons = listed((f"{one.path.name}: {one.reason}" for one in left_out), limit=2, separator="; ")
    recordings = f"{len(left_out)} recordings in which no cue can be planted"
    return f" without {recordings} ({reasons})" if left_out else ""


def _check_parts(what: str, found: set[tuple[str, str]], settings: PlantedInSettings) -> None:
    missing = [
        f"{label} in {part}" for part in SPLITS for label in settings.labels if (part, label) not in found
    ]
    if missing:
        raise CorpusError(
            f"{what}: recordings are too few, there is none for {listed(missing)}; add recordings, or ask "
            "for fewer labels"
        )


def _write_clip(used: Usable, clip: Clip, settings: PlantedInSettings) -> Clip:
    strength = settings.cue_strength * difficulty_named(settings.difficulty).cue_strength
    waveform, evidence = plant_cue(_load(used.clip), used.stretch, CUE_OF_LABEL[clip.label], strength)
    save_audio(clip.path, waveform, sample_rate=SAMPLE_RATE)
    return replace(clip, evidence=evidence)
