"""PlantedSpeech in real recordings: a known cue in a known span of speech that somebody spoke.

Which cue a recording gets is drawn, whatever it was labelled. It is cut to its speech, and the cue is planted
in a voiced span about as loud as the rest. Outside that span the clip equals the recording as it is read
at 16 kHz, to 16 bit; inside it has the same energy. So nothing but the cue decides the class, and
loudness does not show where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from wavshap_lightning.audio.io import SAMPLE_RATE, load_audio, save_audio
from wavshap_lightning.corpora.catalogue import CORPORA, corpus_named
from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.files import listed
from wavshap_lightning.corpora.made import break_seal, check_at_least, check_labels, seal, sealed_clips
from wavshap_lightning.corpora.natural import source as sources
from wavshap_lightning.corpora.natural.cues import RECORDED_CUES
from wavshap_lightning.corpora.natural.provenance import (
    SOURCES,
    LeftOut,
    Usable,
    read_left_out,
    save_sources,
)
from wavshap_lightning.corpora.natural.recording import draw_stretch, plant_cue
from wavshap_lightning.corpora.natural.source import Source
from wavshap_lightning.corpora.splits import stable_hash
from wavshap_lightning.corpora.synthetic.difficulty import difficulty_named
from wavshap_lightning.corpora.synthetic.scene import CUE_OF_LABEL, check_cue_strength
from wavshap_lightning.errors import AudioError, CorpusError, SettingError

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
            [`Difficulty`][wavshap_lightning.corpora.synthetic.difficulty.Difficulty].

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
    return sources.open_source(
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

    Beside the manifest, `sources.csv` says from which stretch of which recording each clip comes, and why a
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
    sources.check_speakers(recordings, what)
    labels = sources.draw_labels(recordings, settings.labels, settings.seed)
    parts = sources.part_of_speaker(recordings, settings.seed)
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
