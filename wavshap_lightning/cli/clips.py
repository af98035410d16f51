"""Clips of `explain.py`: found, named, explained one by one."""

from __future__ import annotations

import time
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from wavshap_lightning.audio.aligner import identity
from wavshap_lightning.audio.alignments import SUFFIXES as ALIGNMENT_SUFFIXES
from wavshap_lightning.audio.alignments import Alignment, read_alignment
from wavshap_lightning.audio.io import AUDIO_SUFFIXES, load_audio
from wavshap_lightning.audio.segments import Segment, cut_to, voiced_segments
from wavshap_lightning.cli.terminal import WARNED, complain, on_one_line
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import SCHEMES
from wavshap_lightning.corpora.folders import find_audio, listed
from wavshap_lightning.corpora.labels import UNLABELED
from wavshap_lightning.corpora.manifest import SUFFIXES as MANIFEST_SUFFIXES
from wavshap_lightning.corpora.manifest import Listings, find_file, read_manifest
from wavshap_lightning.errors import AudioError, SettingError, WavshapError, first_line
from wavshap_lightning.explainer.compare import Comparison, agreement_of, check_comparable, compare
from wavshap_lightning.explainer.defaults import NUM_REFERENCES, draw_references
from wavshap_lightning.explainer.diagnostics import Diagnostic
from wavshap_lightning.explainer.explainer import (
    ChosenVoice,
    Explainer,
    check_voice,
    choose_voice,
    with_cues,
)
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.explainer.recording import Recording, open_recording, with_tiers, with_words
from wavshap_lightning.explainer.settings import AUTO, RECORDED_FAMILIES, ExplainSettings, Family
from wavshap_lightning.explainer.targets import check_target
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier

# File systems take names of 255 bytes, and suffixes come after the stem.
LONGEST_STEM_BYTES = 120

# Some file systems refuse these, and they mean something in a shell or a page.
FORBIDDEN = '<>:"/\\|?*'

# Words that end later than this after their clip are probably those of another recording.
BEYOND_S = 0.1

Found = TypeVar("Found")


@dataclass(frozen=True)
class ClipOptions:
    """Questions about every clip: the class to explain, its words, and what to compare with.

    Args:
        target: A label, or happy-vs-sad for a margin; predicted, second, all, predicted-vs-second, listeners.
        alignments: Word times: a TextGrid, CTM or CSV file, a folder with one for each clip, or auto to align
            the texts that are known of the clips.
        tier: Tier of the TextGrid that holds the words.
        recordings: Files or folders for other_clips, same_speaker_neutral or another_class.
        families: Families of baselines to explain with and compare.
        text: Words of the clip, in English, to align them.
        cues: Explain in acoustic cues too: pitch level, pitch range, loudness, tempo, spectrum.
        cues_reference: Voice to move cues to: neutral, speaker, corpus, flat, a clip, or auto. Neutral is the
            speaker's neutral clip, speaker the mean of the speaker's other clips, corpus that of the training
            clips, flat the clip's own on a constant pitch; auto is neutral, corpus or flat.
    """

    target: str = "predicted"
    alignments: str | None = None
    tier: str = ""
    recordings: Sequence[str] = ()
    families: Sequence[Family] = ()
    text: str | None = None
    cues: bool = False
    cues_reference: str = AUTO


@dataclass(frozen=True)
class ModelOptions:
    """Facts that a model does not tell about itself.

    Args:
        backbone: Folder or Hub name of the backbone of a checkpoint or export, if it was moved.
        final_norm: Where a Hugging Face model sums layers, take the last after the final norm. It was so
            in transformers 4; transformers 5 takes it before.
    """

    backbone: str | None = None
    final_norm: bool | None = None


@dataclass(frozen=True)
class ExplainedClip:
    """One clip, explained.

    Args:
        clip: The clip.
        explanation: Its explanation.
        saved: The contents of its files.
        waveform: Samples of the clip.
        seconds: Computing time in seconds.
        comparisons: Comparisons of the classifier with each of the others.
        others: Contents for the other dimensions, if several are explained.
        sounds: Sounds of the explanation in cues, by name.
    """

    clip: Clip
    explanation: Explanation
    saved: SavedClip
    waveform: Float32[np.ndarray, " num_samples"]
    seconds: float
    comparisons: Sequence[Comparison] = ()
    others: Sequence[SavedClip] = ()
    sounds: Mapping[str, Float[np.ndarray, " num_samples"]] = field(default_factory=dict)


class ClipExplainer:
    """Explains the clips of a command.

    Args:
        classifier: The classifier.
        settings: Settings of the explanation.
        options: What to explain about every clip.
        clips: The clips of the command, some of which serve as baselines for the others by default.
        others: Classifiers to compare with.

    Raises:
        SettingError: If the options do not go together, or the frames of two classifiers lie at other times.
        AttributionError: If there is no such target; the message lists the labels.
        AudioError: If a recording to compare with cannot be read.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        settings: ExplainSettings,
        options: ClipOptions,
        clips: Collection[Clip],
        others: Sequence[EmotionClassifier] = (),
    ) -> None:
        if options.text is not None and options.alignments is None:
            options = replace(options, alignments=AUTO)
        classifier, *others = (one.part(options.target) for one in (classifier, *others))
        for one in (classifier, *others):
            check_comparable(classifier, one)
            check_target(options.target, one.labels, settings.score, one.task)
        _check(options, settings, len(clips))
        if options.cues:
            check_voice(options.cues_reference, classifier.provenance.voice)
        if options.recordings and settings.baselines == AUTO:
            settings = replace(settings, baselines="other_clips")
        self.explainer, self.options, self.others = Explainer(classifier, settings), options, others
        told = [one for one in dict.fromkeys(WARNED) if one not in classifier.warnings]
        self.loading = [Diagnostic("loading", "warning", one) for one in told]  # of a manifest or corpus
        self.classifier, rate = classifier, classifier.sample_rate
        self._listings: Listings = {}
        self._clips = [*map(self.identified, clips)] if options.cues else []
        paths = [path for name in options.recordings for path in audio_below(Path(name))]
        self.recordings = {one.resolve(): torch.as_tensor(load_audio(one, sample_rate=rate)) for one in paths}
        if settings.baselines == AUTO:
            self._draw_recordings(clips)

    def explain(self, clip: Clip) -> ExplainedClip:
        """Explain one clip.

        Raises:
            WavshapError: If it cannot be explained; the message says why.
        """
        started_s = time.monotonic()
        recording = open_recording(clip, self.classifier.backbone.frame_grid)
        waveform = recording.waveform.numpy()
        baselines = [sound for path, sound in self.recordings.items() if path != clip.path.resolve()]
        baselines = baselines if self.options.recordings else baselines[:NUM_REFERENCES]
        explanation, segments = self._explain(recording, clip, baselines)
        recording = replace(recording, tiers=explanation.tiers)
        comparisons: list[Comparison] = []
        for other in self.others:
            first = comparisons[0].first if comparisons else explanation  # with the draws and target of all
            comparisons.append(compare(self.explainer, other, recording, first, recordings=baselines))
        if comparisons:
            agreement = agreement_of([comparisons[0].first, *(one.second for one in comparisons)])
            explanation = replace(explanation, agreement=agreement)
        sounds: Mapping[str, Float[np.ndarray, " num_samples"]] = {}
        if self.options.cues:
            explanation, sounds = with_cues(explanation, self.classifier, recording, self.voice_of(clip))
        save = partial(explanation.to_saved_clip, label=label_of(clip), texts=[one.text for one in segments])
        saved, targets = save(), explanation.targets if explanation.task == "dimensions" else ()
        others = [save(target=name) for name in targets if name != explanation.default_target]
        if self.options.families:
            families = self._agreement(recording, baselines)
            saved = replace(saved, numbers={**saved.numbers, "families": families})
        seconds = time.monotonic() - started_s
        return ExplainedClip(clip, explanation, saved, waveform, seconds, comparisons, others, sounds)

    def _draw_recordings(self, clips: Collection[Clip]) -> None:
        """Some of the clips as recordings."""
        grid = replace(self.classifier.backbone.frame_grid, max_frames=None)  # they are cut to the clip
        for clip in draw_references([*clips]):
            try:
                self.recordings[clip.path.resolve()] = open_recording(clip, grid).waveform
            except AudioError as error:  # with a limit, its turn to be explained may never come
                complain(f"{error}; it is left out of the baselines")

    def voice_of(self, clip: Clip) -> ChosenVoice:
        """The voice that the cues of a clip are moved to."""
        asked, average = self.options.cues_reference, self.classifier.provenance.voice
        return choose_voice(asked, self.identified(clip), self._clips, average)

    def identified(self, clip: Clip) -> Clip:
        """The clip with label and speaker, where its name follows the scheme of the training corpus."""
        scheme = None if clip.corpus else SCHEMES.get(self.classifier.provenance.protocol.get("corpus", ""))
        return (scheme and scheme.clip_at(clip.path)) or clip

    def alignment_of(self, clip: Clip) -> Path | None:
        """The alignment file of a clip, whose name may be spelled otherwise; None if there is none."""
        source = None if self.options.alignments in (None, AUTO) else Path(self.options.alignments)
        if source is None or not source.is_dir():
            return source
        stems = stem_of(clip), clip.path.stem
        names = (source / f"{stem}{suffix}" for stem in stems for suffix in ALIGNMENT_SUFFIXES)
        return next(filter(None, (find_file(name, self._listings) for name in names)), None)

    def _explain(
        self, recording: Recording, clip: Clip, baselines: Sequence[Tensor]
    ) -> tuple[Explanation, Sequence[Segment]]:
        """The explanation and its segments; its diagnostics include all warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            recording = self._with_words(recording, clip)
            segments = recording.tiers.get("words") or self._segments(recording)
            spans = [(one.start_s, one.end_s) for one in segments]
            explainer = Explainer(self.classifier, replace(self.explainer.settings, segments=spans))
            found = explainer.explain(recording, self.options.target, recordings=baselines)
        told = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
        # A tolerance that was not reached is among the diagnostics of the explanation already.
        told = [one for one in told if not one.startswith("tolerance=")]
        names = ("segments" if one.startswith("segments=") else "engine" for one in told)
        more = [Diagnostic(name, "warning", one) for name, one in zip(names, told, strict=True)]
        more += self._of_training(clip) if self.others else ()
        diagnostics = {name: (*known, *self.loading, *more) for name, known in found.diagnostics.items()}
        return replace(found, diagnostics=diagnostics), segments

    def _of_training(self, clip: Clip) -> Iterator[Diagnostic]:
        """A note of the classifiers whose protocol has the clip or its speaker in the training split."""
        records, seen = [one.provenance.protocol for one in (self.classifier, *self.others)], []
        known = self.identified(clip)
        for one in records:
            fold = dict(enumerate(one.get("folds", ()))).get(one.get("fold", -1), {"train": ()})
            is_seen = getattr(known, one.get("unit", ""), None) in fold["train"]
            seen += [fold["name"]] if is_seen and known.corpus == one["corpus"] else []
        if seen:
            models = f"{len(seen)} of the {len(records)} models ({listed(dict.fromkeys(seen))})"
            message = f"The clip is in the training split of {models}; on new speakers they may agree less."
            yield Diagnostic("training_clip", "note", message, len(seen) / len(records))

    def _segments(self, recording: Recording) -> Sequence[Segment]:
        """The segments of the settings, or else speech and pauses."""
        given = [Segment("", *span) for span in self.explainer.settings.segments]
        return given or voiced_segments(recording.waveform.numpy(), recording.sample_rate)

    def _with_words(self, recording: Recording, clip: Clip) -> Recording:
        """A recording with its words, and a warning if there are none or they are not as expected."""
        source, stem = self.options.alignments, clip.path.stem
        if source in (None, AUTO):
            return with_words(recording, clip, self.options.text) if source else recording
        path, duration_s = self.alignment_of(clip), recording.duration_s
        found = read_alignment(path, tier=self.options.tier, recording=stem) if path else Alignment(())
        start_s = 0.0 if path and path.stem == stem_of(clip) else clip.start_s or 0.0  # as `align` names it
        ends_s = [one.end_s for one in found.words[-1:]]
        if clip.start_s is clip.end_s is None and max(ends_s, default=0.0) > duration_s + BEYOND_S:
            ends = f"its words end at {ends_s[0]:.2f} s, and the clip at {duration_s:.2f} s"
            warnings.warn(f"segments={path}: {ends}; is it the alignment of another recording?", stacklevel=2)
        tiers = {name: cut_to(tier, start_s, start_s + duration_s) for name, tier in vars(found).items()}
        if not tiers["words"]:
            missing = "no word lies in the clip" if ends_s else f"there is no word of {stem}"
            missing = missing if path else f"there is no {stem} with {', '.join(ALIGNMENT_SUFFIXES)}"
            warnings.warn(f"segments={path or source}: {missing}; speech and pauses instead", stacklevel=2)
            return recording
        return with_tiers(recording, tiers)

    def _agreement(self, recording: Recording, baselines: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Correlation of the maps of each two families; None where one of them is constant."""
        from wavshap_lightning.evaluation.summary import family_agreement  # noqa: PLC0415 - slow, seldom needed

        target, families = self.options.target, self.options.families
        agreement = family_agreement(
            self.explainer, recording, target, families=families, recordings=baselines
        )
        return [
            {"first": first, "second": second, "correlation": value if isfinite(value) else None}
            for (first, second), value in agreement.items()
        ]


def _check(options: ClipOptions, settings: ExplainSettings, num_clips: int) -> None:
    is_recorded = settings.baselines in RECORDED_FAMILIES
    if settings.baselines != AUTO and is_recorded != bool(options.recordings):
        raise SettingError(
            f"baselines={settings.baselines!r}, recordings={list(options.recordings)}: give recordings for "
            f"{', '.join(RECORDED_FAMILIES)}, and for nothing else"
        )
    if len(options.families) == 1:
        raise SettingError(f"families={list(options.families)} must name two or more")
    if options.text is not None and options.alignments != AUTO:
        raise SettingError(f"alignments={options.alignments} have the words already; leave out text")
    if options.alignments == AUTO:
        identity()  # so that a missing aligner is told once
    if options.tier and options.alignments in (None, AUTO):
        raise SettingError(f"tier={options.tier!r} needs alignments, the files that have it")
    if options.cues_reference != AUTO and not options.cues:
        raise SettingError(f"cues_reference={options.cues_reference!r} needs --cues")
    path = Path("." if options.alignments in (None, AUTO) else options.alignments)
    if not path.exists():
        raise SettingError(f"alignments={path}: there is no such file or folder")
    if num_clips > 1 and not path.is_dir() and path.suffix.lower() != ".ctm":
        raise SettingError(f"alignments={path} is one file, and there are {num_clips} clips; give a folder")


def open_model(name: str, device: str, options: ModelOptions | None = None) -> EmotionClassifier:
    """The classifier of a MODEL on a device.

    Args:
        name: Checkpoint, run, exported folder or Hugging Face model.
        device: Where to compute.
        options: What it does not tell about itself.

    Raises:
        WavshapError: If it is none, or its weights or its backbone cannot be used.
        SettingError: If the device cannot be used.
    """
    try:
        place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise SettingError(f"device={device!r} cannot be used: {first_line(error)}") from error
    return load_classifier(name, **asdict(options or ModelOptions())).to(place)


def find_clips(names: Sequence[str], out: Path) -> dict[str, Clip]:
    """Files as given, folders searched for audio, manifests row by row; each clip once, by its stem.

    Args:
        names: Files, folders and manifests.
        out: Folder of the output, which is not searched.

    Raises:
        SettingError: If a folder holds no audio.
        CorpusError: If a manifest does not hold together.
    """
    clips: list[Clip] = []
    for path in map(Path, names):
        if path.suffix.lower() in MANIFEST_SUFFIXES and not path.is_dir():
            clips += read_manifest(path, must_exist=False)
        else:
            clips += [Clip(one, UNLABELED) for one in audio_below(path, out)]
    return by_stem(list({(clip.path, clip.start_s, clip.end_s): clip for clip in clips}.values()))


def audio_below(path: Path, out: Path | None = None) -> list[Path]:
    """The audio files below a folder, or the given file itself.

    Raises:
        SettingError: If a folder holds no audio.
    """
    path = find_file(path, {}) or path
    if not path.is_dir():
        return [path]
    found = [one for one in find_audio(path) if out is None or out.resolve() not in one.resolve().parents]
    if not found:
        raise SettingError(f"audio={path} holds no audio file ({', '.join(sorted(AUDIO_SUFFIXES))})")
    return found


def by_stem(clips: Sequence[Clip]) -> dict[str, Clip]:
    """The clips by their stems, the names of their files without suffix.

    Those that would share one have a digest of their path added, so that no name depends on which
    others are explained with it, or in which order.
    """
    places = [place_of(clip) for clip in clips]
    stems = [*map(stem_of, clips)]
    taken, repeated = Counter(stem.casefold() for stem in stems), Counter(places)
    named: dict[str, Clip] = {}
    for clip, place, stem in zip(clips, places, stems, strict=True):
        digest = _digest(place if repeated[place] == 1 else f"{place} to {clip.end_s}")
        named[stem if taken[stem.casefold()] == 1 else f"{stem}-{digest}"] = clip
    return named


def stem_of(clip: Clip) -> str:
    """Name of the files of a clip: that of its recording, or that and its start in it."""
    return safe_stem(Path(place_of(clip)).name if clip.start_s else clip.path.stem)


def label_of(clip: Clip) -> str | None:
    """Annotated class of a clip; None if unknown."""
    return None if clip.label == UNLABELED else clip.label


def place_of(clip: Clip) -> str:
    """Path of a clip as it was given, and the start in the file if the clip is a part of it."""
    return str(clip.path) if clip.start_s is None else f"{clip.path}@{clip.start_s:.3f}"


def safe_stem(stem: str) -> str:
    r"""A name that every file system takes: forbidden and invisible signs replaced, cut if too long.

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


def attempt(work: Callable[[Clip], Found], clip: Clip) -> tuple[Found | None, str]:
    """Result of some work on a clip, or the reason for its failure, which is also printed."""
    try:
        return work(clip), ""
    except (WavshapError, RuntimeError, MemoryError) as error:  # PyTorch raises the second for lack of memory
        words = " ".join(str(error).split()) or type(error).__name__
        reason = words if isinstance(error, WavshapError) else f"{type(error).__name__}: {words[:300]}"
        complain(f"failed: {on_one_line(clip.path)}: {reason}")
        return None, reason


def open_for(classifier: EmotionClassifier, clip: Clip) -> Recording:
    """A clip at the sample rate of a classifier.

    Raises:
        AudioError: If it cannot be read or is shorter than one frame.
    """
    return open_recording(clip, classifier.backbone.frame_grid)
