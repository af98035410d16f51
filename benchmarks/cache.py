"""How much faster is a head epoch from the feature cache than a live one, and are the logits the same?

Base geometry with random weights, real clips of RAVDESS, for both poolings whose statistics are exact.
Live: read, batch, run the frozen backbone, train the head. Cached: batch the statistics, train the same
head. Then the logits of all clips both ways, with the trained head.

    python benchmarks/cache.py --root DIR
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import soundfile
import torch
from _common import Measurement, build_wavlm, over_repeats, ratios, read_arguments, report, time_interleaved
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.audio.io import hash_audio_file
from wavshap_lightning.corpora.catalogue import CORPORA, load_corpus
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.pretrained import PretrainedSpeechModel
from wavshap_lightning.training.data.dataset import (
    ClipRequest,
    StatisticsBatches,
    WaveformBatches,
)
from wavshap_lightning.training.data.extraction import extract_features, open_feature_cache
from wavshap_lightning.training.data.preparation import KeyedClip

NUM_CLIPS, QUICK_CLIPS = 32, 8
BATCH_SIZE = 8
LABELS = CORPORA["ravdess"].labels
BAR_RATIO, BAR_LOGITS = 200.0, 1e-5

Batches = WaveformBatches | StatisticsBatches


@dataclass(frozen=True, eq=False)
class Setup:
    """One head over the shared backbone, and its clips both ways.

    Args:
        classifier: Backbone and head.
        live: The clips as waveforms.
        cached: The same clips as statistics.
        num_clips: How many there are.
    """

    classifier: EmotionClassifier
    live: WaveformBatches
    cached: StatisticsBatches
    num_clips: int


def main() -> None:
    """Measure both poolings and report."""
    arguments = read_arguments(__doc__, needs=["repeats", "root"])
    clips = choose_clips(arguments.root, QUICK_CLIPS if arguments.quick else NUM_CLIPS)
    backbone = SpeechBackbone(PretrainedSpeechModel(build_wavlm(), name="random"))
    measurements = []
    with tempfile.TemporaryDirectory() as folder:
        for pooling in ("mean", "mean_std"):
            setup = prepare(backbone, clips, pooling, Path(folder))
            measurements += _measure(pooling, setup, arguments)
    report("cache", measurements, arguments, num_clips=len(clips), batch_size=BATCH_SIZE)


def choose_clips(root: Path, count: int) -> list[KeyedClip]:
    """Clips of RAVDESS, equally many of every class."""
    clips = load_corpus("ravdess", root, max_samples=count)
    return [KeyedClip(clip, hash_audio_file(clip.path), soundfile.info(clip.path).duration) for clip in clips]


def prepare(
    backbone: SpeechBackbone,
    clips: Sequence[KeyedClip],
    pooling: Literal["mean", "mean_std"],
    folder: Path,
) -> Setup:
    """A head of this pooling, and the cache it needs, filled."""
    classifier = EmotionClassifier(backbone, LABELS, HeadSettings(pooling=pooling, dropout=0.0))
    cache = open_feature_cache(folder, backbone, classifier.head.statistic)
    extract_features(backbone, clips, classifier.head.statistic, cache)
    indices = [LABELS.index(keyed.clip.label) for keyed in clips]
    live = WaveformBatches([keyed.clip for keyed in clips], indices, sample_rate=backbone.sample_rate)
    cached = StatisticsBatches(cache, [keyed.key for keyed in clips], indices)
    return Setup(classifier, live, cached, len(clips))


def train_epoch(setup: Setup, batches: Batches, optimizer: torch.optim.Optimizer) -> None:
    """One epoch of the head."""
    setup.classifier.train()
    for start in range(0, setup.num_clips, BATCH_SIZE):
        batch = batches[_requests(start, min(start + BATCH_SIZE, setup.num_clips))]
        loss = F.cross_entropy(batch.logits(setup.classifier), batch.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def all_logits(setup: Setup, batches: Batches) -> Tensor:
    """The logits of every clip."""
    setup.classifier.eval()
    starts = range(0, setup.num_clips, BATCH_SIZE)
    requests = [_requests(start, min(start + BATCH_SIZE, setup.num_clips)) for start in starts]
    return torch.cat([batches[chosen].logits(setup.classifier) for chosen in requests])


def _measure(pooling: str, setup: Setup, arguments: argparse.Namespace) -> list[Measurement]:
    optimizer = torch.optim.AdamW(setup.classifier.head.parameters(), lr=2e-3)
    epochs = {
        name: partial(train_epoch, setup, batches, optimizer)
        for name, batches in (("live", setup.live), ("cached", setup.cached))
    }
    seconds = time_interleaved(epochs, 1 if arguments.quick else arguments.repeats)
    live, cached = all_logits(setup, setup.live), all_logits(setup, setup.cached)
    return [
        over_repeats(f"{pooling}: live epoch", seconds["live"], unit="s"),
        over_repeats(f"{pooling}: cached epoch", seconds["cached"], unit="s"),
        over_repeats(
            f"{pooling}: live / cached",
            ratios(seconds["live"], seconds["cached"]),
            unit="x",
            at_least=BAR_RATIO,
        ),
        Measurement(
            f"{pooling}: largest difference of logits",
            float((live - cached).abs().max()),
            at_most=BAR_LOGITS,
            note=f"largest logit {float(live.abs().max()):.2f}",
        ),
    ]


def _requests(start: int, end: int) -> list[ClipRequest]:
    return [(position, 0) for position in range(start, end)]


if __name__ == "__main__":
    main()
