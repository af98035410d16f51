"""The LightningDataModule: audited clips of one fold, as waveforms or as cached layer statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import lightning as L  # noqa: N812
import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Dataset, Subset

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.audio.io import SAMPLE_RATE, load_audio
from wavshap_lightning.audio.voice import analyze_voice, mean_measures
from wavshap_lightning.corpora.audit import (
    ClipFacts,
    Finding,
    audit_split,
    audit_table,
    bad_clips,
    group_findings,
    raise_for_errors,
    summarize_clips,
)
from wavshap_lightning.corpora.catalogue import corpus_named
from wavshap_lightning.corpora.clip import SPLITS, Clip, normalized
from wavshap_lightning.corpora.labels import NO_AGREEMENT, UNLABELED, NoAgreement, ordered_labels
from wavshap_lightning.corpora.protocols import Protocol, Split, build_protocol, split_digest
from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.files import default_cache_directory
from wavshap_lightning.models.head import Outputs
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.dataset import Batch, StatisticsBatches, Transform, WaveformBatches
from wavshap_lightning.training.data.preparation import KeyedClip, cut_and_key, list_clips, measure_split
from wavshap_lightning.training.data.sampler import BatchSampler, balancing_weights
from wavshap_lightning.training.losses import MISSING_CLASS
from wavshap_lightning.training.tasks import VOTED_TASKS, targets_of

USUAL_GRID = FrameGrid((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), SAMPLE_RATE)
"""Frames of WavLM, HuBERT and wav2vec 2.0, assumed until the model is known."""

STAGE_SPLITS = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
"""Splits that each command of Lightning's trainer needs."""


class EmotionDataModule(L.LightningDataModule):
    """Clips of one fold of a corpus, in batches.

    On its own it yields waveforms. An `EmotionModule` with a frozen backbone runs the backbone once over the
    clips; batches then hold the cached layer statistics that its head needs. The logits are the same.

    Args:
        corpus: Name of a corpus, such as `"ravdess"`, `"manifest"` or `"folders"`.
        root: Folder of the corpus, or path of the manifest; not needed for `"planted"`, which is generated
            in the cache.
        options: Further options of the corpus, such as `speaker_pattern`.
        labels: Classes to keep, in the order of the logits; all if None.
        label_map: New name for every label of the corpus, or None to leave its clips out; the corpus's own
            map if None.
        no_agreement: What becomes of clips on whose label the listeners did not agree: `"drop"` leaves them
            out, `"soft"` keeps them for their votes and values, without a class, and in `"other"` they join
            the class "other".
        protocol: Rule that splits the corpus: `"default"` for the corpus's own, or the name of a general one.
        fold: Index of the fold of the protocol, from 0.
        validation: Hold out validation speakers to choose the checkpoint. Otherwise they are used for
            training too, and the weights of the last epoch are kept.
        allow_shared_speakers: Accept a protocol that shares speakers between its splits (MELD's official
            one does); scores are then higher than for new speakers.
        max_samples: Maximum number of clips, drawn class by class; all if None.
        max_duration_s: Longer clips are cut to their first `max_duration_s` seconds, and to the longest that
            the model takes; no limit of this kind if None.
        on_bad_clip: `"error"` stops if any clip cannot be used, with the full list; `"skip"` leaves
            these out.
        batch_size: Number of clips in a batch, on each rank.
        num_workers: Number of worker processes that read audio; cached statistics need none.
        balanced: Draw every class equally often in training.
        transform: Augmentation of training waveforms, called as `transform(samples, sample_rate)`, such as an
            audiomentations `Compose`. Training clips are then not cached.
        cache: Cache layer statistics of a frozen backbone.
        cache_dir: Folder of the cache; `$WAVSHAP_CACHE` or `~/.cache/wavshap-lightning` if None.
        num_voices: Number of training clips, the same for every seed, whose mean voice is measured and stored
            in the checkpoint, as the reference `corpus` of explanations in acoustic cues; 0 for none.
        seed: Random seed of the choice of clips, their order and their augmentation.

    Raises:
        SettingError: If a number is out of range.
    """

    def __init__(
        self,
        corpus: str = "planted",
        root: str | None = None,
        *,
        options: dict[str, Any] | None = None,
        labels: list[str | int] | None = None,
        label_map: dict[str, str | int | None] | None = None,
        no_agreement: NoAgreement = "drop",
        protocol: str = "default",
        fold: int = 0,
        validation: bool = True,
        allow_shared_speakers: bool = False,
        max_samples: int | None = None,
        max_duration_s: float | None = 30.0,
        on_bad_clip: Literal["error", "skip"] = "error",
        batch_size: int = 32,
        num_workers: int = 0,
        balanced: bool = False,
        transform: Transform | None = None,
        cache: bool = True,
        cache_dir: str | None = None,
        num_voices: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise SettingError(f"batch_size={batch_size} must be at least 2: batch norm needs a variance")
        if num_workers < 0:
            raise SettingError(f"num_workers={num_workers} must be at least 0")
        self.corpus, self.root, self.options = corpus, root, options
        self.label_map, self.max_samples, self.seed = label_map, max_samples, seed
        self.protocol_name, self.fold, self.validation = protocol, fold, validation
        self.allow_shared_speakers, self.on_bad_clip = allow_shared_speakers, on_bad_clip
        self.max_duration_s, self.num_voices = max_duration_s, num_voices
        self.batch_size, self.num_workers, self.balanced = batch_size, num_workers, balanced
        self.transform, self.cached = transform, cache
        self.cache_directory = Path(cache_dir).expanduser() if cache_dir else default_cache_directory()
        self.feature_cache: TensorCache | None = None
        self._wanted_labels = None if labels is None else [normalized(str(label)) for label in labels]
        kept: dict[str, Any] = {"labels": self._wanted_labels, "label_map": label_map}
        kept |= {"no_agreement": no_agreement, "max_samples": max_samples}
        self._classless = {UNLABELED, *([NO_AGREEMENT] if no_agreement == "soft" else [])}
        self._list_clips = partial(list_clips, corpus, root, options, self.cache_directory, **kept, seed=seed)
        self._grid, self._outputs = USUAL_GRID, tuple[Outputs, ...]()

    @cached_property
    def labels(self) -> list[str]:
        """The classes in the order of the logits: `labels` as given, else in the order of `EMOTIONS`."""
        return list(self._wanted_labels or ordered_labels({c.label for c in self._listed} - self._classless))

    @property
    def scales(self) -> Mapping[str, tuple[float, float]]:
        """Lowest and highest value of each dimension, as the corpus declares them."""
        return corpus_named(self.corpus).scales

    @cached_property
    def prepared(self) -> dict[str, list[KeyedClip]]:
        """Clips of each split, audited on first use, cut and keyed by their content.

        Raises:
            AuditError: If the audit found errors.
            CorpusError: If the corpus, its labels and its protocol do not fit together.
            SettingError: If a setting does not fit.
        """
        split, findings = self.audited
        raise_for_errors(findings)
        if warned := [one for one in findings if one.severity == "warning"]:
            rank_zero_warn(f"the audit of the clips found:\n{audit_table(warned)}", stacklevel=2)
        return {
            name: [cut_and_key(clip, self._facts[clip], self._longest_s) for clip in clips]
            for name, clips in split.items()
        }

    @property
    def audit_record(self) -> dict[str, Any]:
        """Summary of the clips and all findings, errors included, for JSON."""
        findings = group_findings(self.audited[1])
        return {"summary": summarize_clips(self._split, self._facts), "findings": findings}

    @property
    def protocol_record(self) -> dict[str, Any]:
        """Protocol, fold, sizes of the splits and digest of their clips, for checkpoints and reports."""
        split = {name: self.clips(name) for name in self.prepared}
        return {
            **self.protocol.to_dict(),
            "hash": self.protocol.hash,
            "fold": self.fold,
            "clips": {name: len(clips) for name, clips in split.items()},
            "digest": split_digest(split),
        }

    @cached_property
    def voice(self) -> dict[str, Any]:
        """Mean voice of `num_voices` training clips in plain JSON types, for checkpoints; empty if 0."""
        clips, rate = self.clips("train"), self._grid.sample_rate
        drawn = np.random.default_rng(0).permutation(len(clips))[: self.num_voices].tolist()
        chosen, found = [clips[position] for position in drawn], []
        for one in chosen:
            sound = load_audio(one.path, sample_rate=rate, start_s=one.start_s, end_s=one.end_s)
            found.append(analyze_voice(sound, rate).measures)
        return asdict(mean_measures(found)) if found else {}

    def clips(self, split: str) -> tuple[Clip, ...]:
        """Clips of `train`, `validation` or `test`."""
        return tuple(one.clip for one in self.prepared[split])

    def is_cached(self, split: str) -> bool:
        """Tell if the clips of a split come as statistics from the cache; known after `setup`."""
        return self.feature_cache is not None and not (split == "train" and self.transform is not None)

    def match(self, grid: FrameGrid = USUAL_GRID, outputs: Sequence[Outputs] = ()) -> None:
        """Audit and read the clips again for the frames and outputs of another model.

        Args:
            grid: Sample rate and receptive field of the model.
            outputs: Its outputs, for which batches hold targets.
        """
        if (grid, (*outputs,)) != (self._grid, self._outputs):
            self._grid, self._outputs = grid, (*outputs,)
            for name in ("prepared", "audited", "voice"):  # to be audited again
                vars(self).pop(name, None)

    def prepare_data(self) -> None:
        """Make or find the clips and measure them, once on each node; other ranks find the results cached."""
        _ = self._facts

    def setup(self, stage: str) -> None:
        """Start with waveforms; a module that caches its features says so afterwards.

        Raises:
            CorpusError: If there is no clip of a split that the stage needs.
            SettingError: If a validation is asked for and there are no validation clips.
        """
        if stage == "validate" and not self.validation:
            raise SettingError("data.validation=false: no validation clips; test the checkpoint instead")
        self.require(*STAGE_SPLITS.get(stage, ()))
        self.feature_cache = None

    def require(self, *splits: str) -> None:
        """Raise CorpusError if one of these splits has no clip, or a class to train has none.

        Raises:
            SettingError: If classes are to be balanced and there are clips without one.
        """
        found = Counter(clip.label for clip in self._listed)
        if "train" in splits and {*self.labels} - {*found}:
            self._list_clips(must_occur=True)  # which names the labels that are there
        if self.balanced and (without := sum(found[name] for name in self._classless)):
            raise SettingError(f"balanced=True: {without} clips have no class; set data.balanced=false")
        self.protocol.split(self._listed, self.fold, needed=splits)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of the training clips, in an order that seed and epoch decide."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Batches of the validation clips; an empty list if there are none."""
        return self._loader("validation") if self.clips("validation") else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test clips."""
        return self._loader("test")

    def waveforms(self, clips: Sequence[KeyedClip], transform: Transform | None = None) -> WaveformBatches:
        """Batches of clips as waveforms at the model's sample rate."""
        sounds, rate = [one.clip for one in clips], self._grid.sample_rate
        labels, targets = self._indices(clips), self.targets(clips)
        return WaveformBatches(sounds, labels, targets, sample_rate=rate, transform=transform)

    def statistics(self, clips: Sequence[KeyedClip]) -> StatisticsBatches:
        """Batches of clips as cached statistics.

        Raises:
            SettingError: If there is no feature cache.
        """
        if self.feature_cache is None:
            raise SettingError("cache: not open; pass the datamodule and a frozen module to a Trainer")
        keys = [one.key for one in clips]
        return StatisticsBatches(self.feature_cache, keys, self._indices(clips), self.targets(clips))

    def targets(self, clips: Sequence[KeyedClip]) -> Float[torch.Tensor, "clips outputs"]:
        """Targets of clips for the outputs of the matched model, NaN where they are missing."""
        outputs = self._outputs or (Outputs("classes", tuple(self.labels)),)
        return targets_of([one.clip for one in clips], outputs)

    @cached_property
    def _listed(self) -> list[Clip]:
        return self._list_clips(must_occur=False)

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol that splits the corpus."""
        if self.protocol_name == "default":
            protocol = corpus_named(self.corpus).protocol(self._listed)
        else:
            protocol = build_protocol(self.protocol_name, self._listed, seed=self.seed)
        return protocol if self.validation else protocol.without_validation()

    @cached_property
    def _split(self) -> Split:
        return self.protocol.split(self._listed, self.fold, needed=())

    @cached_property
    def _facts(self) -> Mapping[Clip, ClipFacts]:
        return measure_split(self._split, self.cache_directory)

    @property
    def _longest_s(self) -> float | None:
        """Duration to which clips are cut: the setting, or that of the model if it is shorter."""
        of_model = self._grid.max_samples and self._grid.max_samples / self._grid.sample_rate
        return min((one for one in (self.max_duration_s, of_model) if one is not None), default=None)

    @cached_property
    def audited(self) -> tuple[Split, tuple[Finding, ...]]:
        """The split without the clips that may be skipped, and all findings; errors do not raise here."""
        shortest_s = self._grid.min_samples / self._grid.sample_rate
        if (longest_s := self._longest_s) is not None and longest_s < shortest_s:
            raise SettingError(f"max_duration_s={longest_s} must be at least a frame, {shortest_s:.4f} s")
        if len(self.labels) < 2 and not self._outputs:  # a model says itself what it needs
            source = f"corpus={self.corpus!r} root={self.root!r}"
            raise CorpusError(f"labels={self.labels} of {source}: two classes or more are needed")
        is_whole = self.max_samples is None and self._wanted_labels is None and self.label_map is None
        audit = partial(
            audit_split,
            facts=self._facts,
            labels=self.labels,
            min_duration_s=shortest_s,
            max_duration_s=longest_s,
            expected_clips=corpus_named(self.corpus).expected_clips if is_whole else None,
            may_share_speakers=self._may_share_speakers(),
            dimensions={name: one.scale for one in self._outputs if one.scale for name in one.labels},
            voted={name for one in self._outputs if one.task in VOTED_TASKS for name in one.labels},
        )
        split, findings = self._split, audit(self._split)
        if self.on_bad_clip == "skip" and (bad := set(bad_clips(findings))):
            rank_zero_warn(f"{len(bad)} bad clips are left out:\n{audit_table(findings)}", stacklevel=2)
            told = [one for one in findings if one.clips and {*one.clips} <= bad]
            left_out = [replace(one, severity="note", detail=f"left out: {one.detail}") for one in told]
            split = {name: tuple(c for c in clips if c not in bad) for name, clips in split.items()}
            if emptied := [name for name, clips in self._split.items() if clips and not split[name]]:
                raise CorpusError(f"on_bad_clip='skip' leaves no clip in {', '.join(emptied)}; repair some")
            findings = (*left_out, *audit(split))
        return split, findings

    def _may_share_speakers(self) -> tuple[str, ...]:
        if self.allow_shared_speakers or self.protocol.unit == "clip":
            return SPLITS
        return ("train", "validation") if self.protocol.shared_validation else ()

    def _loader(self, split: str) -> DataLoader[Batch]:
        clips, cached, trains = self.prepared[split], self.is_cached(split), split == "train"
        transform = self.transform if trains else None
        batches: Dataset[Any] = self.statistics(clips) if cached else self.waveforms(clips, transform)
        sampler: BatchSampler | None = BatchSampler(
            [one.duration_s for one in clips],
            batch_size=self.batch_size,
            shuffle=trains,
            weights=balancing_weights(self._indices(clips)) if trains and self.balanced else None,
            seed=self.seed,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
        )
        if self.trainer and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            # Lightning would replace the sampler by one of single clips; it leaves fixed batches alone.
            batches, sampler = Subset(batches, list(sampler)), None  # type: ignore[arg-type]
        return DataLoader(
            batches,
            sampler=sampler,
            batch_size=None,
            num_workers=0 if cached else self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def _indices(self, clips: Sequence[KeyedClip]) -> list[int]:
        index = {label: place for place, label in enumerate(self.labels)}
        return [index.get(one.clip.label, MISSING_CLASS) for one in clips]


def datamodule_of(trainer: L.Trainer) -> EmotionDataModule | None:
    """The trainer's datamodule, if it is one of ours."""
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, EmotionDataModule) else None
