"""From the name of a corpus to audited clips: everything before a model sees a sample."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_warn

from wavshap_lightning.audio.io import hash_audio_file
from wavshap_lightning.corpora.audit import (
    ClipFacts,
    audit_split,
    audit_table,
    bad_clips,
    measure_clip,
    raise_for_errors,
)
from wavshap_lightning.corpora.catalogue import corpus_named, load_corpus
from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.corpora.protocols import Protocol, Split, build_protocol, split_digest
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
from wavshap_lightning.training.progress import progress_bar

OnBadClip = Literal["error", "skip"]
Planted = TypeVar("Planted", PlantedSettings, PlantedInSettings)

LIST_OPTIONS = ("labels", "source_labels")
OWN_SETTINGS = {"labels", "label_map", "max_samples", "seed"}


class KeyedClip(NamedTuple):
    """A clip with its content key and its length.

    Args:
        clip: The clip.
        key: Hash of the audio file with the span of the clip; see `clip_key`.
        duration_s: Length in seconds.
    """

    clip: Clip
    key: str
    duration_s: float


def clip_key(file_sha256: str, clip: Clip) -> str:
    """Content key of a clip: the hash of its file with its span, independent of its name."""
    return f"{file_sha256}@{clip.start_s}-{clip.end_s}"


@dataclass(frozen=True)
class PreparedCorpus:
    """Audited clips, ready to train on.

    Args:
        split: The clips of the fold.
        protocol: The protocol that divides the corpus.
        fold: Index of the fold.
        keyed: Content key and duration of every clip of the split.
    """

    split: Split
    protocol: Protocol
    fold: int
    keyed: Mapping[Clip, KeyedClip]

    def protocol_record(self) -> dict[str, Any]:
        """Protocol, fold, size of each split and a digest of its clips, as plain JSON types."""
        counts = {split: len(clips) for split, clips in self.split.items()}
        record = {**self.protocol.to_dict(), "hash": self.protocol.hash, "fold": self.fold, "clips": counts}
        return {**record, "digest": split_digest(self.split)}


def list_clips(
    corpus: str,
    root: str | None,
    options: Mapping[str, Any] | None,
    cache_directory: Path,
    *,
    labels: Sequence[str] | None = None,
    label_map: Mapping[str, str | None] | None = None,
    max_samples: int | None = None,
    seed: int = 0,
) -> list[Clip]:
    """Labelled clips of a corpus, before any audio is read; planted corpora are made in the cache first.

    Args:
        corpus: Name of the corpus in the catalogue.
        root: Folder or table of the corpus; PlantedSpeech is made in the cache if None.
        options: Further arguments of the corpus's loader, or settings of what is planted.
        cache_directory: Folder below which planted corpora are made.
        labels: Labels to keep; all if None.
        label_map: New name of every label, None to leave its clips out; the corpus's own map if None.
        max_samples: Largest number of clips, drawn class by class; all if None.
        seed: Random seed of that draw.

    Raises:
        CorpusError: If the corpus is not there or its labels do not fit.
        SettingError: If an option is unknown or the root is missing.
    """
    name, options = corpus_named(corpus).name, dict(options or {})
    if name == "planted" and root is None:
        root, options = str(_make_planted(options, cache_directory)), {}
    if root is None:
        raise SettingError(f"root=None: say where corpus={name!r} lies, for example --data.root DIR")
    if name == NAME:
        root, options = str(_plant_into(root, options, cache_directory)), {}
    taken = sorted(options.keys() & OWN_SETTINGS)
    if taken:
        raise SettingError(
            f"options={taken} have settings of their own; give them beside options, not inside"
        )
    return load_corpus(
        name, root, label_map=label_map, labels=labels, max_samples=max_samples, seed=seed, **options
    )


def choose_protocol(
    corpus: str, clips: Sequence[Clip], protocol: str = "default", *, validation: bool = True, seed: int = 0
) -> Protocol:
    """Protocol of a name, made for these clips.

    Args:
        corpus: Name of the corpus in the catalogue.
        clips: All clips of the corpus.
        protocol: `"default"` for the corpus's own protocol, or the name of a general one.
        validation: Keep the validation split; otherwise its speakers train.
        seed: Random seed of general protocols.

    Raises:
        CorpusError: If the name is unknown or the clips do not allow the protocol.
    """
    if protocol == "default":
        chosen = corpus_named(corpus).protocol(clips)
    else:
        chosen = build_protocol(protocol, clips, seed=seed)
    return chosen if validation else chosen.without_validation()


def measure_split(split: Split, cache_directory: Path, sample_rate: int) -> dict[Clip, ClipFacts]:
    """Measured facts of every clip; those of known content are read from the cache.

    Args:
        split: The clips.
        cache_directory: Folder in which facts are kept from run to run.
        sample_rate: Samples per second of the model.
    """
    clips = [clip for members in split.values() for clip in members]
    cache = TensorCache(cache_directory / "facts" / f"v3-{sample_rate}")

    def measure(clip: Clip) -> ClipFacts:
        try:
            key = clip_key(hash_audio_file(clip.path), clip)
        except AudioError as error:
            return ClipFacts(error=str(error))
        if key in cache:
            return ClipFacts(**json.loads(cache.read(key)["facts"].numpy().tobytes()))
        return measure_clip(clip, sample_rate=sample_rate)

    facts: list[ClipFacts] = []
    with progress_bar("Checking clips", len(clips)) as on_progress, ThreadPoolExecutor() as pool:
        for clip_facts in pool.map(measure, clips):
            facts.append(clip_facts)
            on_progress(len(facts))
    by_key = {clip_key(f.sha256, c): f for c, f in zip(clips, facts, strict=True) if f.error is None}
    new = {key: json.dumps(asdict(by_key[key])).encode() for key in cache.missing(by_key)}
    cache.write(
        {key: {"facts": torch.frombuffer(bytearray(text), dtype=torch.uint8)} for key, text in new.items()}
    )
    return dict(zip(clips, facts, strict=True))


def audit_corpus(
    split: Split,
    protocol: Protocol,
    fold: int,
    facts: Mapping[Clip, ClipFacts],
    *,
    labels: Sequence[str],
    min_samples: int,
    sample_rate: int,
    max_duration_s: float | None = None,
    on_bad_clip: OnBadClip = "error",
    allow_shared_speakers: bool = False,
    expected_clips: int | None = None,
) -> PreparedCorpus:
    """Audit the clips of a fold, shorten those that are too long and key all by their content.

    Args:
        split: The clips of the fold.
        protocol: The protocol that divided them.
        fold: Index of the fold.
        facts: Measured facts of every clip.
        labels: The classes of the model.
        min_samples: Receptive field of the model in samples; a shorter clip has no frame.
        sample_rate: Samples per second of the model.
        max_duration_s: Longer clips are cut to their first so many seconds; None keeps them whole.
        on_bad_clip: `"error"` refuses a split with unusable clips, `"skip"` leaves these out.
        allow_shared_speakers: Accept speakers in more than one split, with a warning.
        expected_clips: Number of clips that the corpus is known to have; None if unknown.

    Raises:
        AuditError: If a finding must not be ignored; the message is the table.
        CorpusError: If leaving clips out empties a split.
        SettingError: If clips would be cut to less than one frame.
    """
    if max_duration_s is not None and max_duration_s < min_samples / sample_rate:
        raise SettingError(
            f"max_duration_s={max_duration_s} is shorter than one frame of the backbone, "
            f"{min_samples / sample_rate:.4f} s; raise it, or set it to null to keep clips whole"
        )
    audit = partial(
        audit_split,
        facts=facts,
        labels=labels,
        min_samples=min_samples,
        max_duration_s=max_duration_s,
        expected_clips=expected_clips,
        may_share_speakers=_may_share_speakers(protocol, allowed=allow_shared_speakers),
    )
    findings = audit(split)
    if on_bad_clip == "skip" and (bad := bad_clips(findings)):
        rank_zero_warn(f"{len(bad)} bad clips are left out:\n{audit_table(findings)}", stacklevel=2)
        split = _without(split, bad)
        findings = audit(split)
    raise_for_errors(findings)
    if findings:
        rank_zero_warn(f"the audit of the clips found:\n{audit_table(findings)}", stacklevel=2)
    keyed = {
        name: [_cut_and_key(clip, facts[clip], max_duration_s) for clip in clips]
        for name, clips in split.items()
    }
    cut = {name: tuple(one.clip for one in members) for name, members in keyed.items()}
    by_clip = {one.clip: one for members in keyed.values() for one in members}
    return PreparedCorpus(cut, protocol, fold, by_clip)


def _may_share_speakers(protocol: Protocol, *, allowed: bool) -> tuple[str, ...]:
    if allowed or protocol.unit == "clip":
        return SPLITS
    return ("train", "validation") if protocol.shared_validation else ()


def _without(split: Split, bad: Sequence[Clip]) -> Split:
    left_out = set(bad)
    kept = {name: tuple(clip for clip in clips if clip not in left_out) for name, clips in split.items()}
    emptied = [name for name, clips in split.items() if clips and not kept[name]]
    if emptied:
        raise CorpusError(
            f"on_bad_clip='skip' leaves no clip in {' and '.join(emptied)}; repair those that the audit lists"
        )
    return kept


def _cut_and_key(clip: Clip, facts: ClipFacts, max_duration_s: float | None) -> KeyedClip:
    duration_s = facts.duration_s
    if max_duration_s is not None and duration_s > max_duration_s:
        clip = replace(clip, end_s=(clip.start_s or 0.0) + max_duration_s)
        duration_s = max_duration_s
    return KeyedClip(clip, clip_key(facts.sha256, clip), duration_s)


def _make_planted(options: Mapping[str, Any], cache_directory: Path) -> Path:
    """Folder of PlantedSpeech with these settings, made if it is not there."""
    settings = _read(PlantedSettings, options)
    root = cache_directory / "planted" / _digest(settings.to_dict())
    num_clips = settings.num_speakers * len(settings.labels) * settings.clips_per_speaker_and_label
    with progress_bar("Making clips", num_clips) as on_progress:
        ensure_planted_speech(root, settings, on_progress=lambda done, _total: on_progress(done))
    return root


def _plant_into(source_root: str, options: Mapping[str, Any], cache_directory: Path) -> Path:
    """Folder of a corpus of recordings with planted cues, made if it is not there."""
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
    left_out = read_left_out(root)
    if left_out:
        reasons = listed((f"{path.name}: {reason}" for path, reason in left_out), limit=3, separator=";\n  ")
        rank_zero_warn(
            f"{len(left_out)} of {len(source.clips)} recordings are left out, since no cue can be planted in "
            f"them:\n  {reasons}\nAll of them: {root / SOURCES}",
            stacklevel=2,
        )
    return root


def _read(kind: Callable[..., Planted], options: Mapping[str, Any]) -> Planted:
    """Settings from options; lists of labels become tuples, and a single label stands for its list."""
    values = dict(options)
    for name in LIST_OPTIONS:
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
        elif name == "source_labels" and isinstance(values.get(name), str):
            values[name] = (values[name],)
    try:
        return kind(**values)
    except TypeError as error:
        raise SettingError(
            f"options={dict(options)}: {error}; see {kind.__name__} for what can be set"
        ) from error


def _digest(values: Mapping[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
