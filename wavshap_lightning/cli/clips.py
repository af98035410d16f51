"""One clip of `explain.py`, from its file to everything there is to write about it."""

from __future__ import annotations

import time
import unicodedata
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from wavshap_lightning.audio.alignments import SUFFIXES as ALIGNMENT_SUFFIXES
from wavshap_lightning.audio.io import AUDIO_SUFFIXES, load_audio
from wavshap_lightning.audio.segments import Segment, cut_to, read_segments, voiced_segments
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.corpora.folders import find_audio
from wavshap_lightning.corpora.manifest import SUFFIXES as MANIFEST_SUFFIXES
from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.diagnostics import caveats, examine
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.files import SavedClip, describe_clip
from wavshap_lightning.explainer.settings import RECORDED_FAMILIES, STAGES, ExplainSettings
from wavshap_lightning.explainer.stages import check_layers_fit
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier


def open_model(name: str, device: str) -> EmotionClassifier:
    """The classifier that a name stands for, where it is to compute.

    Raises:
        WavshapError: If it is none, or its weights or its backbone cannot be used.
        SettingError: If the device cannot be used.
    """
    place = _checked(device)
    return load_classifier(name).to(place)


def _checked(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SettingError(f"device={device!r} cannot be used: {reason}") from error


LONGEST_STEM_BYTES = 120
"""File systems take names of 255 bytes, and suffixes come after."""

FORBIDDEN = '<>:"/\\|?*'
"""Signs that some file systems refuse, or that mean something in a shell or a page."""


@dataclass(frozen=True)
class Item:
    """One clip to explain.

    Args:
        path: Its file.
        stem: What its files are called, different for every item.
        clip: Its row in a manifest; None where it came as a file.
    """

    path: Path
    stem: str = ""
    clip: Clip | None = None

    @property
    def recording(self) -> Path | Clip:
        """What is explained."""
        return self.path if self.clip is None else self.clip

    @property
    def label(self) -> str | None:
        """What it was annotated as, if that is known."""
        return None if self.clip is None else self.clip.label

    @property
    def evidence(self) -> tuple[Span, ...]:
        """Spans known to carry the label."""
        return () if self.clip is None else self.clip.evidence

    @property
    def span_s(self) -> tuple[float | None, float | None]:
        """Where in its file it begins and ends; None for the file's own."""
        return (None, None) if self.clip is None else (self.clip.start_s, self.clip.end_s)

    @property
    def name(self) -> str:
        """Its path as it was given, with where in the file it begins if it is a part of it."""
        start_s = self.span_s[0]
        return str(self.path) if start_s is None else f"{self.path}@{start_s:.3f}"


def find_items(names: Sequence[str], out: Path) -> list[Item]:
    """Files as given, folders searched for audio, manifests row by row; each clip once.

    Args:
        names: What was given.
        out: What lies below is output of ours, and is not searched.

    Raises:
        SettingError: If a folder holds no audio.
        CorpusError: If a manifest does not hold together.
    """
    items = [item for name in names for item in _items_of(Path(name), out)]
    return name_items(list({(item.path, item.span_s): item for item in items}.values()))


def audio_below(path: Path, out: Path | None = None) -> list[Path]:
    """A file as it is, or the audio below a folder.

    Raises:
        SettingError: If a folder holds no audio.
    """
    if not path.is_dir():
        return [path]
    ours = None if out is None else out.resolve()
    found = [one for one in find_audio(path) if ours is None or ours not in one.resolve().parents]
    if not found:
        raise SettingError(f"audio={path} holds no audio file ({', '.join(sorted(AUDIO_SUFFIXES))})")
    return found


def _items_of(path: Path, out: Path) -> list[Item]:
    if path.suffix.lower() in MANIFEST_SUFFIXES and not path.is_dir():
        return [Item(clip.path, clip=clip) for clip in read_manifest(path, must_exist=False)]
    return [Item(one) for one in audio_below(path, out)]


def name_items(items: Sequence[Item]) -> list[Item]:
    """The items, each under a name for its files.

    Those that would share one have a digest of their path added, so that none depends on which
    others are explained beside it, or in which order.
    """
    stems = [safe_stem(Path(item.name).name if item.span_s[0] else item.path.stem) for item in items]
    taken = Counter(stem.casefold() for stem in stems)
    return [
        replace(item, stem=stem if taken[stem.casefold()] == 1 else f"{stem}-{_digest(item.name)}")
        for item, stem in zip(items, stems, strict=True)
    ]


def safe_stem(stem: str) -> str:
    r"""A name that every file system takes: forbidden and invisible signs replaced, cut where too long.

    >>> safe_stem("a <b>\nc"), len(safe_stem("long" * 100))
    ('a _b__c', 119)
    """
    composed = unicodedata.normalize("NFC", stem)
    shown = "".join(sign if sign.isprintable() and sign not in FORBIDDEN else "_" for sign in composed)
    shown = shown.strip(" .") or "clip"
    encoded = shown.encode()
    if len(encoded) <= LONGEST_STEM_BYTES:
        return shown
    digest = _digest(stem)
    kept = encoded[: LONGEST_STEM_BYTES - len(digest) - 2].decode(errors="ignore")
    return f"{kept}-{digest}"


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


@dataclass(frozen=True)
class Found:
    """The segments of a clip.

    Args:
        segments: In seconds from the start of the clip.
        warning: What is to be known of them; empty for nothing.
    """

    segments: tuple[Segment, ...]
    warning: str = ""


def check_segments(source: str | None, num_items: int) -> None:
    """Refuse an alignment that cannot be meant.

    Raises:
        SettingError: If there is none, or one recording's words are given for several clips.
    """
    if source is None:
        return
    path = Path(source)
    if not path.exists():
        raise SettingError(f"segments={source}: there is no such file or folder")
    if num_items > 1 and not path.is_dir() and path.suffix.lower() != ".ctm":
        raise SettingError(
            f"segments={source} holds the words of one recording, and there are {num_items} clips; give a "
            "folder with one file for each, under its name"
        )


def segments_of(
    item: Item, waveform: Float[np.ndarray, " num_samples"], sample_rate: int, source: str | None, tier: str
) -> Found:
    """The segments of one clip.

    Args:
        item: The clip.
        waveform: Its sound.
        sample_rate: Samples per second.
        source: An alignment, or a folder of some; None for speech and pauses.
        tier: Of a TextGrid.

    Raises:
        AudioError: If the alignment cannot be used.
    """
    heard = tuple(voiced_segments(waveform, sample_rate))
    if source is None:
        return Found(heard)
    path = alignment_of(Path(source), item)
    if path is None:
        return Found(
            heard, f"There is no alignment of {item.path.stem} in {source}; speech and pauses instead."
        )
    words = read_segments(path, tier=tier, recording=item.path.stem)
    start_s = item.span_s[0] or 0.0
    inside = tuple(cut_to(words, start_s, start_s + len(waveform) / sample_rate))
    if not inside:
        return Found(heard, f"No word of {path} lies in the clip; speech and pauses instead.")
    return Found(inside)


def alignment_of(source: Path, item: Item) -> Path | None:
    """The file with the words of a clip; None where a folder has none for it."""
    if not source.is_dir():
        return source
    names = [source / f"{item.path.stem}{suffix}" for suffix in ALIGNMENT_SUFFIXES]
    return next((path for path in names if path.is_file()), None)


BOTH = "noise,time_shifted"


@dataclass(frozen=True)
class Work:
    """What is done to every clip.

    Args:
        explainer: With the settings of all clips.
        target: What is explained, by name.
        baselines: Recordings to compare with, by their files.
        segments: An alignment, or a folder of some.
        tier: Of a TextGrid.
        keep_waveform: Whether it is kept among the arrays.
        families: Of baselines, to be compared on every clip; none where empty.
        may_leave_out: Whether views that memory does not hold may be left out, with a warning.
    """

    explainer: Explainer
    target: str
    baselines: dict[Path, Tensor]
    segments: str | None = None
    tier: str = ""
    keep_waveform: bool = False
    families: tuple[str, ...] = ()
    may_leave_out: bool = False


@dataclass(frozen=True)
class Explained:
    """One clip, explained.

    Args:
        item: Which.
        explanation: What was found.
        saved: The same, as it is written.
        waveform: The clip.
        seconds: How long it took.
    """

    item: Item
    explanation: Explanation
    saved: SavedClip
    waveform: Float32[np.ndarray, " num_samples"]
    seconds: float


def settings_of(options: Namespace) -> ExplainSettings:
    """How to explain, as it was asked for.

    Raises:
        SettingError: If an option is out of range, or two do not go together.
    """
    return ExplainSettings(
        stages=STAGES
        if options.stages is None
        else [v.strip() for v in options.stages.split(",") if v.strip()],
        method=options.method,
        score=options.score,
        baselines=options.baseline,
        num_draws=options.draws,
        tolerance=options.tolerance,
        max_seconds=options.max_seconds,
        seed=options.seed,
        precision=options.precision,
        window_s=options.window,
    )


def prepare(options: Namespace, classifier: EmotionClassifier) -> Work:
    """Check everything that can be checked before the first clip.

    Raises:
        SettingError: If an option is out of range, or two do not go together.
        AttributionError: If there is no such target; the message lists the labels.
        AudioError: If a recording to compare with cannot be read.
    """
    settings = settings_of(options)
    target_named(options.target, classifier.labels, 0, settings.score)
    if (settings.baselines in RECORDED_FAMILIES) != bool(options.baseline_clips):
        raise SettingError(
            f"baseline={settings.baselines!r}, baseline-clips={options.baseline_clips}: recordings are given "
            f"for {', '.join(RECORDED_FAMILIES)}, and for nothing else; give both or neither"
        )
    return Work(
        explainer=Explainer(classifier, settings),
        target=options.target,
        baselines=_read_all(options.baseline_clips, classifier.sample_rate),
        segments=options.segments,
        tier=options.tier,
        keep_waveform=options.waveform,
        families=_families(options.families, settings),
        may_leave_out=options.stages is None,
    )


def explain_item(work: Work, item: Item) -> Explained:
    """Explain one clip.

    Raises:
        WavshapError: If it cannot be; the message says why.
    """
    began_s = time.monotonic()
    rate = work.explainer.classifier.sample_rate
    start_s, end_s = item.span_s
    waveform = load_audio(item.path, sample_rate=rate, start_s=start_s, end_s=end_s)
    work, left_out = _within_memory(work, len(waveform))
    found = segments_of(item, waveform, rate, work.segments, work.tier)
    spans = [(one.start_s, one.end_s) for one in found.segments]
    checkup = examine(work.explainer, item.recording, work.target, recordings=baselines_for(work, item))
    explanation, told = explain_spans(work, item, spans)
    notes = [*([found.warning] if found.warning else []), *left_out, *checkup.warnings]
    saved = describe_clip(
        explanation,
        label=item.label,
        texts=[one.text for one in found.segments],
        warnings=[*notes, *caveats(explanation, work.explainer.classifier), *told],
        checkup=checkup,
        waveform=torch.from_numpy(waveform) if work.keep_waveform else None,
    )
    if work.families:
        saved = replace(saved, numbers={**saved.numbers, "families": _agreement(work, item)})
    return Explained(item, explanation, saved, waveform, time.monotonic() - began_s)


def explain_spans(
    work: Work, item: Item, spans: Sequence[tuple[float, float]]
) -> tuple[Explanation, list[str]]:
    """An explanation with these segments, and what the engine warned of."""
    explainer = Explainer(work.explainer.classifier, replace(work.explainer.settings, segments=spans))
    others = baselines_for(work, item)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        explanation = explainer.explain(item.recording, work.target, recordings=others)
    told = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    return explanation, [words for words in told if not words.startswith("tolerance=")]  # a caveat says it


def baselines_for(work: Work, item: Item) -> tuple[Tensor, ...]:
    """The recordings to compare a clip with: not itself."""
    return tuple(sound for path, sound in work.baselines.items() if path != item.path.resolve())


def _within_memory(work: Work, num_samples: int) -> tuple[Work, list[str]]:
    """Without the path from the layers where they are gigabytes and nobody named it, and words about that."""
    settings, classifier = work.explainer.settings, work.explainer.classifier
    try:
        check_layers_fit(settings, classifier.backbone, num_samples)
    except SettingError:
        if not work.may_leave_out:
            raise
        fewer = replace(settings, stages=tuple(stage for stage in settings.stages if stage != "layers"))
        words = "The layers of so long a recording take gigabytes; their path was left out."
        return replace(work, explainer=Explainer(classifier, fewer)), [words]
    return work, []


def _families(names: str, settings: ExplainSettings) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    for name in chosen:
        ExplainSettings.from_dict({**settings.to_dict(), "baselines": name})
    if len(chosen) == 1:
        raise SettingError(f"families={names!r} must name two families of baselines at least, such as {BOTH}")
    return chosen


def _agreement(work: Work, item: Item) -> list[dict[str, str | float | None]]:
    """How far the maps of each two families agree; None where one of them is constant."""
    from wavshap_lightning.evaluation.summary import (  # noqa: PLC0415 - slow, and seldom asked for
        explain_by_family,
        family_agreement,
    )

    given = work.explainer.settings.to_dict()
    explainer = Explainer(
        work.explainer.classifier, ExplainSettings.from_dict({**given, "stages": ["frames"], "segments": []})
    )
    found = explain_by_family(
        explainer, item.recording, work.target, families=work.families, recordings=baselines_for(work, item)
    )
    return [
        {"first": first, "second": second, "correlation": value if isfinite(value) else None}
        for (first, second), value in family_agreement(found).items()
    ]


def _read_all(names: Sequence[str], sample_rate: int) -> dict[Path, Tensor]:
    paths = [path for name in names for path in audio_below(Path(name))]
    return {path.resolve(): torch.from_numpy(load_audio(path, sample_rate=sample_rate)) for path in paths}
