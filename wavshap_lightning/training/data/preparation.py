"""From the name of a corpus to audited clips: what happens before any model sees a sample."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_warn

from wavshap_lightning.audio.io import hash_audio_file
from wavshap_lightning.corpora.audit import AuditReport, ClipFacts, audit_split, measure_clip, measure_clips
from wavshap_lightning.corpora.catalogue import corpus_named, load_corpus
from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.corpora.labels import ordered_labels
from wavshap_lightning.corpora.protocols import build_protocol
from wavshap_lightning.corpora.splits import Protocol, Split
from wavshap_lightning.errors import AudioError, CorpusError, SettingError
from wavshap_lightning.planted.corpus import MANIFEST, RECORD, PlantedSettings, ensure_planted_speech
from wavshap_lightning.planted.into_recordings import (
    NAME,
    SOURCES,
    PlantedInSettings,
    ensure_planted_in,
    open_source,
    read_left_out,
)
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.extraction import KeyedClip, clip_key
from wavshap_lightning.training.progress import progress_bar

_LISTS = ("labels", "source_labels")

Settings = TypeVar("Settings", PlantedSettings, PlantedInSettings)


def make_planted(options: Mapping[str, Any], cache_directory: Path) -> Path:
    """The folder of PlantedSpeech with these settings, made if it is not there.

    Raises:
        SettingError: If a setting is unknown or outside its range.
    """
    settings = _read(PlantedSettings, options)
    root = cache_directory / "planted" / _digest(settings.to_dict())
    num_clips = settings.num_speakers * len(settings.labels) * settings.clips_per_speaker_and_label
    with progress_bar("Making clips", num_clips) as on_progress:
        ensure_planted_speech(root, settings, on_progress=lambda done, _total: on_progress(done))
    return root


def make_planted_in(source_root: str, options: Mapping[str, Any], cache_directory: Path) -> Path:
    """The folder of a corpus of recordings with planted cues, made if it is not there.

    Warns of recordings that are left out.

    Args:
        source_root: Where the recordings lie.
        options: The fields of `PlantedInSettings`.
        cache_directory: Below it the folder is made.

    Raises:
        CorpusError: If the recordings are not there, or too few can be used.
        SettingError: If a setting is unknown or outside its range.
    """
    if not options.get("source"):
        table = Path(source_root).expanduser() / MANIFEST
        instead = f", or, for one already made, corpus=manifest and root={table}"
        raise SettingError(
            f"options={dict(options)}: corpus={NAME!r} needs a source, the corpus whose recordings lie in "
            f"root={source_root!r}; add, for example, source: ravdess"
            f"{instead if table.with_name(RECORD).is_file() else ''}"
        )
    settings = _read(PlantedInSettings, options)
    source = open_source(source_root, settings)
    root = cache_directory / NAME / _digest({**settings.to_dict(), "recordings": source.sha256})
    with progress_bar("Planting cues", 2 * len(source.clips)) as on_progress:
        ensure_planted_in(root, source, settings, on_progress=lambda done, _total: on_progress(done))
    _warn_of_left_out(root, len(source.clips))
    return root


def _read(kind: Callable[..., Settings], options: Mapping[str, Any]) -> Settings:
    try:
        return kind(**{name: _frozen(name, value) for name, value in options.items()})
    except TypeError as error:
        raise SettingError(
            f"options={dict(options)}: {error}; see {kind.__name__} for what can be set"
        ) from error


def _frozen(name: str, value: object) -> object:
    """A list of labels as a tuple; one label alone may stand for its list."""
    if name == "source_labels" and isinstance(value, str):
        return (value,)
    return tuple(value) if name in _LISTS and isinstance(value, list) else value


def _digest(values: Mapping[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _warn_of_left_out(root: Path, num_recordings: int) -> None:
    left_out = read_left_out(root)
    if left_out:
        reasons = listed((f"{path.name}: {reason}" for path, reason in left_out), limit=3, separator=";\n  ")
        rank_zero_warn(
            f"{len(left_out)} of {num_recordings} recordings are left out, since no cue can be planted in "
            f"them:\n  {reasons}\nAll of them: {root / SOURCES}",
            stacklevel=2,
        )


OnBadClip = Literal["error", "skip"]


@dataclass(frozen=True)
class CorpusSettings:
    """Which clips, under which labels, split how.

    The fields are the arguments of
    [`EmotionDataModule`][wavshap_lightning.training.data.datamodule.EmotionDataModule] and mean the same.
    """

    name: str = "planted"
    root: str | None = None
    options: dict[str, Any] | None = None
    labels: list[str] | None = None
    label_map: dict[str, str | None] | None = None
    protocol: str = "default"
    fold: int = 0
    validation: bool = True
    allow_shared_speakers: bool = False
    max_samples: int | None = None
    max_duration_s: float | None = 30.0
    on_bad_clip: OnBadClip = "error"
    seed: int = 0


@dataclass(frozen=True)
class PreparedCorpus:
    """Audited clips, ready to train on.

    Args:
        split: The clips of the fold.
        labels: The classes, in the order of the logits.
        protocol: How the corpus is split.
        fold: Which fold it is.
        keyed: Content key and duration of every clip of the split.
        report: What the audit found.
    """

    split: Split
    labels: tuple[str, ...]
    protocol: Protocol
    fold: int
    keyed: Mapping[Clip, KeyedClip]
    report: AuditReport

    def protocol_record(self) -> dict[str, Any]:
        """Protocol, fold, number of clips of each part and which they are, in plain JSON types."""
        counts = {part: len(clips) for part, clips in self.split.items()}
        record = {**self.protocol.to_dict(), "hash": self.protocol.hash, "fold": self.fold, "clips": counts}
        return {**record, "digest": self.split.digest}


def list_clips(settings: CorpusSettings, cache_directory: Path) -> list[Clip]:
    """The clips of the corpus under their labels, before anything is read; what is planted is made first.

    Raises:
        CorpusError: If the corpus is not there or its labels do not fit.
        SettingError: If an option is unknown or the root is missing.
    """
    name, root, options = corpus_named(settings.name).name, settings.root, dict(settings.options or {})
    if name == "planted" and root is None:
        root, options = str(make_planted(options, cache_directory)), {}
    if root is None:
        raise SettingError(f"root=None: say where corpus={name!r} lies, for example --data.root DIR")
    if name == "planted-in":
        root, options = str(make_planted_in(root, options, cache_directory)), {}
    taken = sorted(options.keys() & {"labels", "label_map", "max_samples", "seed"})
    if taken:
        raise SettingError(
            f"options={taken} have settings of their own; give them beside options, not inside"
        )
    return load_corpus(
        name,
        root,
        label_map=settings.label_map,
        labels=settings.labels,
        max_samples=settings.max_samples,
        seed=settings.seed,
        **options,
    )


def label_order(settings: CorpusSettings, clips: Sequence[Clip]) -> tuple[str, ...]:
    """The classes in the order of the logits: as asked for, else in that of all emotions."""
    return tuple(settings.labels) if settings.labels else ordered_labels(clip.label for clip in clips)


def choose_protocol(settings: CorpusSettings, clips: Sequence[Clip]) -> Protocol:
    """The protocol asked for, made for these clips.

    Raises:
        CorpusError: If its name is unknown or the clips do not allow it.
    """
    if settings.protocol == "default":
        protocol = corpus_named(settings.name).protocol(clips)
    else:
        protocol = build_protocol(settings.protocol, clips, seed=settings.seed)
    return protocol if settings.validation else protocol.without_validation()


def prepare_corpus(
    settings: CorpusSettings,
    clips: Sequence[Clip],
    cache_directory: Path,
    *,
    min_samples: int,
    sample_rate: int,
) -> PreparedCorpus:
    """Split, measure and audit the clips; warn of what a run may live with.

    Args:
        settings: What is asked of them.
        clips: Those of `list_clips`.
        cache_directory: Where measurements are kept from run to run.
        min_samples: A clip with fewer samples has no frame.
        sample_rate: Samples per second of the model.

    Raises:
        AuditError: If the audit found what no run must ignore; the message is the table.
        CorpusError: If the corpus, its labels and its protocol do not fit together.
        SettingError: If clips would be cut to less than one frame.
    """
    _check_longest(settings.max_duration_s, min_samples / sample_rate)
    labels, protocol = label_order(settings, clips), choose_protocol(settings, clips)
    split = protocol.split(clips, settings.fold)
    facts = _measure(split, cache_directory, sample_rate)
    complete = settings.max_samples is None and settings.labels is None and settings.label_map is None
    audit = partial(
        audit_split,
        facts=facts,
        labels=labels,
        min_samples=min_samples,
        max_duration_s=settings.max_duration_s,
        expected_clips=corpus_named(settings.name).expected_clips if complete else None,
        may_share_speakers=_may_share_speakers(settings, protocol),
    )
    report = audit(split)
    if settings.on_bad_clip == "skip" and report.bad_clips:
        rank_zero_warn(f"{len(report.bad_clips)} bad clips are left out:\n{report.table()}", stacklevel=2)
        split = _without(split, report.bad_clips)
        report = audit(split)
    report.raise_for_errors()
    if report.warnings:
        rank_zero_warn(f"the audit of the clips found:\n{report.table()}", stacklevel=2)
    split, keyed = _cut(split, facts, settings.max_duration_s)
    return PreparedCorpus(split, labels, protocol, settings.fold, keyed, report)


def _check_longest(max_duration_s: float | None, frame_s: float) -> None:
    if max_duration_s is not None and max_duration_s < frame_s:
        raise SettingError(
            f"max_duration_s={max_duration_s} is shorter than one frame of the backbone, {frame_s:.4f} s; "
            "raise it, or set it to null to keep clips whole"
        )


def _may_share_speakers(settings: CorpusSettings, protocol: Protocol) -> tuple[str, ...]:
    if settings.allow_shared_speakers or protocol.unit == "clip":
        return SPLITS
    return ("train", "validation") if protocol.shared_validation else ()


def _measure(split: Split, cache_directory: Path, sample_rate: int) -> dict[Clip, ClipFacts]:
    """The facts of every clip; those of known content come from the cache."""
    clips = [clip for _, part in split.items() for clip in part]
    cache = TensorCache(cache_directory / "facts" / f"v2-{sample_rate}")
    with progress_bar("Checking clips", len(clips)) as on_progress:
        facts = measure_clips(
            clips, sample_rate=sample_rate, measure=_remembering(cache), on_progress=on_progress
        )
    by_key = {clip_key(f.sha256, c): f for c, f in zip(clips, facts, strict=True) if f.error is None}
    cache.write({key: {"facts": _to_tensor(by_key[key])} for key in cache.missing(by_key)})
    return dict(zip(clips, facts, strict=True))


def _remembering(cache: TensorCache) -> Callable[..., ClipFacts]:
    def measure(clip: Clip, *, sample_rate: int) -> ClipFacts:
        try:
            key = clip_key(hash_audio_file(clip.path), clip)
        except AudioError as error:
            return ClipFacts(error=str(error))
        if key in cache:
            return _from_tensor(cache.read(key)["facts"])
        return measure_clip(clip, sample_rate=sample_rate)

    return measure


def _to_tensor(facts: ClipFacts) -> torch.Tensor:
    return torch.frombuffer(bytearray(json.dumps(asdict(facts)).encode()), dtype=torch.uint8)


def _from_tensor(tensor: torch.Tensor) -> ClipFacts:
    return ClipFacts(**json.loads(tensor.numpy().tobytes()))


def _without(split: Split, bad: Sequence[Clip]) -> Split:
    left_out = set(bad)
    kept = {part: tuple(clip for clip in clips if clip not in left_out) for part, clips in split.items()}
    emptied = [part for part, clips in split.items() if clips and not kept[part]]
    if emptied:
        raise CorpusError(
            f"on_bad_clip='skip' leaves no clip in {' and '.join(emptied)}; repair those that the audit lists"
        )
    return Split(**kept)


def _cut(
    split: Split, facts: Mapping[Clip, ClipFacts], max_duration_s: float | None
) -> tuple[Split, dict[Clip, KeyedClip]]:
    """Shorten clips that are too long, and key every clip by its content."""
    keyed: dict[Clip, KeyedClip] = {}

    def cut(clip: Clip) -> Clip:
        duration_s = facts[clip].duration_s
        kept = clip
        if max_duration_s is not None and duration_s > max_duration_s:
            kept = replace(clip, end_s=(clip.start_s or 0.0) + max_duration_s)
            duration_s = max_duration_s
        keyed[kept] = KeyedClip(kept, clip_key(facts[clip].sha256, kept), duration_s)
        return kept

    parts = [tuple(cut(clip) for clip in part) for _, part in split.items()]
    return Split(*parts), keyed
