"""The LightningDataModule: audited clips of one fold, live or from the exact feature cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import torch
from torch.utils.data import DataLoader

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import CacheError, SettingError
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.data.cache import TensorCache, default_cache_directory
from wavshap_lightning.training.data.dataset import (
    Batch,
    ClipRequest,
    SpeechDataset,
    StatisticsBatches,
    Transform,
    WaveformBatches,
)
from wavshap_lightning.training.data.extraction import fill_cache, live_difference, open_feature_cache
from wavshap_lightning.training.data.preparation import (
    CorpusSettings,
    OnBadClip,
    PreparedCorpus,
    label_order,
    list_clips,
    prepare_corpus,
)
from wavshap_lightning.training.data.sampler import BatchSampler, balancing_weights
from wavshap_lightning.training.module import EmotionModule

PARTS_OF_STAGE = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
MIN_SAMPLES = 400  # one receptive field of the usual geometry, where no model is there to ask
CHECKED_CLIPS = 2
LIVE_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}


class EmotionDataModule(L.LightningDataModule):
    """Clips of one fold of a corpus, in batches.

    With a frozen backbone and no transform, the backbone runs once over the clips and training reads the
    statistics its head needs from the cache; else batches hold waveforms. Either way the logits are the same,
    which is asserted on a few clips before training.

    Args:
        corpus: A corpus of the catalogue, such as `"ravdess"`, `"manifest"` or `"folders"`.
        root: Where it lies; `"planted"` needs none and is made in the cache.
        options: Further arguments of the corpus's own loader, such as `speaker_pattern`.
        labels: Classes to keep, in the order of the logits; all if None.
        label_map: New name of every label in the corpus, None to leave its clips out; the corpus's own
            map if None.
        protocol: `"default"` for the corpus's own protocol, or the name of a general one.
        fold: Which fold of the protocol, from 0.
        validation: Whether some speakers choose the checkpoint. Without, they train too, and the weights of
            the last epoch are kept.
        allow_shared_speakers: Accept a protocol that shares speakers between its parts (MELD's official
            split does); scores are then higher than for new speakers.
        max_samples: At most so many clips, drawn class by class; all if None.
        max_duration_s: Longer clips are cut to their first so many seconds; None keeps them whole.
        on_bad_clip: `"error"` stops if any clip cannot be used, with the full list; `"skip"` leaves
            these out.
        batch_size: Clips in a batch, on each rank.
        num_workers: Worker processes that read audio; statistics need none.
        balanced: Draw every class equally often in training.
        transform: Applied to training waveforms as `transform(samples, sample_rate)`, for instance a
            composition of audiomentations. It turns the cache off for the training clips.
        cache: Whether to cache statistics at all.
        cache_dir: Where to; see `default_cache_directory` if None.
        seed: Decides every draw: of clips, their order and their augmentation.

    Raises:
        SettingError: If a number is out of range.
    """

    def __init__(
        self,
        corpus: str = "planted",
        root: str | None = None,
        *,
        options: dict[str, Any] | None = None,
        labels: list[str] | None = None,
        label_map: dict[str, str | None] | None = None,
        protocol: str = "default",
        fold: int = 0,
        validation: bool = True,
        allow_shared_speakers: bool = False,
        max_samples: int | None = None,
        max_duration_s: float | None = 30.0,
        on_bad_clip: OnBadClip = "error",
        batch_size: int = 32,
        num_workers: int = 0,
        balanced: bool = False,
        transform: Transform | None = None,
        cache: bool = True,
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise SettingError(f"batch_size={batch_size} must be at least 2: batch norm needs a variance")
        if num_workers < 0:
            raise SettingError(f"num_workers={num_workers} must be at least 0")
        self.corpus = CorpusSettings(
            name=corpus,
            root=root,
            options=options,
            labels=labels,
            label_map=label_map,
            protocol=protocol,
            fold=fold,
            validation=validation,
            allow_shared_speakers=allow_shared_speakers,
            max_samples=max_samples,
            max_duration_s=max_duration_s,
            on_bad_clip=on_bad_clip,
            seed=seed,
        )
        self.batch_size, self.num_workers, self.balanced = batch_size, num_workers, balanced
        self.transform, self.seed = transform, seed
        self.cached = cache
        self.cache_directory = Path(cache_dir) if cache_dir else default_cache_directory()
        self._prepared: PreparedCorpus | None = None
        self._feature_cache: TensorCache | None = None

    @cached_property
    def labels(self) -> list[str]:
        """The classes, in the order of the logits."""
        return list(label_order(self.corpus, self._listed))

    @property
    def prepared(self) -> PreparedCorpus:
        """The audited corpus.

        Raises:
            SettingError: Before `setup`.
        """
        if self._prepared is None:
            raise SettingError("prepared: call setup() first, or hand the datamodule to a Trainer")
        return self._prepared

    @property
    def protocol_record(self) -> dict[str, Any]:
        """The protocol and fold, as stored with checkpoints and reports."""
        return self.prepared.protocol_record()

    @property
    def class_counts(self) -> Counter[str]:
        """How many training clips each class has."""
        return Counter(clip.label for clip in self.clips("train"))

    @property
    def feature_cache(self) -> TensorCache | None:
        """Where the statistics of clips are kept; None where none are."""
        return self._feature_cache

    def clips(self, part: str) -> tuple[Clip, ...]:
        """The clips of `train`, `validation` or `test`."""
        return dict(self.prepared.split.items())[part]

    def is_cached(self, part: str) -> bool:
        """Whether the clips of a part come as statistics from the cache; known after `setup`."""
        return self._feature_cache is not None and not (part == "train" and self.transform is not None)

    def prepare_data(self) -> None:
        """Make or find the clips and measure them, once on each node; the other ranks find it cached."""
        self._ensure_prepared()

    def setup(self, stage: str) -> None:
        """Audit the clips and, with a frozen backbone, make sure their features are there.

        Raises:
            SettingError: If a validation is asked for where no clip validates.
        """
        if stage == "validate" and not self.corpus.validation:
            raise SettingError("data.validation=false: no clip validates; test the checkpoint instead")
        self._ensure_prepared()
        self._feature_cache = None
        classifier = self._classifier()
        if classifier is not None and self.cached and classifier.backbone.settings.frozen:
            self._fill_cache(classifier, PARTS_OF_STAGE.get(stage, ()))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of the training clips, in an order that seed and epoch decide."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Batches of the validation clips; none where no clip validates."""
        return self._loader("validation", shuffle=False) if self.clips("validation") else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test clips."""
        return self._loader("test", shuffle=False)

    @cached_property
    def _listed(self) -> list[Clip]:
        return list_clips(self.corpus, self.cache_directory)

    def _ensure_prepared(self) -> None:
        if self._prepared is not None:
            return
        classifier = self._classifier()
        grid = None if classifier is None else classifier.backbone.frame_grid
        self._prepared = prepare_corpus(
            self.corpus,
            self._listed,
            self.cache_directory,
            min_samples=MIN_SAMPLES if grid is None else grid.receptive_field_samples,
            sample_rate=SAMPLE_RATE if grid is None else grid.sample_rate,
        )

    def _classifier(self) -> EmotionClassifier | None:
        module = getattr(self.trainer, "lightning_module", None)
        return module.classifier if isinstance(module, EmotionModule) else None

    def _fill_cache(self, classifier: EmotionClassifier, parts: Sequence[str]) -> None:
        statistic = classifier.head.statistic
        self._feature_cache = open_feature_cache(self.cache_directory, classifier.backbone, statistic)
        clips = [clip for part in parts if self.is_cached(part) for clip in self.clips(part)]
        keyed = [self.prepared.keyed[clip] for clip in clips]
        fill_cache(self._trainer(), classifier, keyed, self._feature_cache)
        if clips:
            self._check_against_live(classifier, clips)

    def _check_against_live(self, classifier: EmotionClassifier, clips: Sequence[Clip]) -> None:
        chosen = clips[:: max(1, len(clips) // CHECKED_CLIPS)][:CHECKED_CLIPS]
        requests = [ClipRequest(position, 0) for position in range(len(chosen))]
        difference = live_difference(
            classifier.to(self._trainer().strategy.root_device),
            WaveformBatches(self._dataset(chosen))[requests],
            self._statistics(chosen)[requests],
        )
        tolerance = LIVE_TOLERANCE[classifier.backbone.settings.precision]
        if not difference <= tolerance:
            raise CacheError(
                f"cache_dir={self.cache_directory}: cached and live logits differ by {difference:.2g}, more "
                f"than {tolerance:g}; was it filled on another kind of device? Delete its folder features/ "
                "and run again"
            )

    def _loader(self, part: str, *, shuffle: bool) -> DataLoader[Batch]:
        clips, cached = self.clips(part), self.is_cached(part)
        balanced = shuffle and self.balanced
        sampler = BatchSampler(
            [self.prepared.keyed[clip].duration_s for clip in clips],
            batch_size=self.batch_size,
            shuffle=shuffle,
            weights=balancing_weights(self._indices(clips)) if balanced else None,
            seed=self.seed,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
        )
        waveforms = WaveformBatches(self._dataset(clips, self.transform if shuffle else None))
        return DataLoader(
            self._statistics(clips) if cached else waveforms,
            sampler=sampler,
            batch_size=None,
            num_workers=0 if cached else self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def _dataset(self, clips: Sequence[Clip], transform: Transform | None = None) -> SpeechDataset:
        classifier = self._classifier()
        sample_rate = SAMPLE_RATE if classifier is None else classifier.sample_rate
        return SpeechDataset(clips, self.labels, sample_rate=sample_rate, transform=transform)

    def _statistics(self, clips: Sequence[Clip]) -> StatisticsBatches:
        keys = [self.prepared.keyed[clip].key for clip in clips]
        return StatisticsBatches(self._opened_cache(), keys, self._indices(clips))

    def _opened_cache(self) -> TensorCache:
        if self._feature_cache is None:
            raise SettingError("cache: it is not open before setup(); hand the datamodule to a Trainer")
        return self._feature_cache

    def _trainer(self) -> L.Trainer:
        if self.trainer is None:
            raise SettingError("trainer=None: hand the datamodule to a Trainer")
        return self.trainer

    def _indices(self, clips: Sequence[Clip]) -> list[int]:
        return [self.labels.index(clip.label) for clip in clips]
