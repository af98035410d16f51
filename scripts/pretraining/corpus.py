"""The pretraining corpus: utterances made once, in a cache, and batches drawn from it step by step."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import Dataset

from pretraining.augmentation import degrade, set_levels
from pretraining.espeak import LANGUAGES, VARIANTS, EspeakVoice
from pretraining.targets import Targets, build_targets
from pretraining.utterances import (
    NUM_FRAMES,
    Utterance,
    draw_manner,
    draw_procedural_speaker,
    espeak_utterance,
    procedural_utterance,
)
from wavshap_lightning.files import write_atomically

FORMAT_VERSION = 1
SHARD_SIZE = 250
HELD_OUT_VARIANTS = tuple(range(4, len(VARIANTS), 9))
"""Voices never trained on."""

_MASK_SHARE, _MASK_FRAMES, _NUM_MASKS = 0.25, 10, 5


@dataclass(frozen=True, slots=True)
class CorpusSettings:
    """What decides the corpus.

    Args:
        seed: Decides every utterance.
        num_utterances: How many windows of speech, half of them from espeak-ng.
        held_out: Speak with the voices kept for validation instead of the others.
    """

    seed: int
    num_utterances: int
    held_out: bool = False

    @property
    def name(self) -> str:
        """Folder of the corpus in a cache."""
        kind = "held_out" if self.held_out else "train"
        return f"v{FORMAT_VERSION}-{kind}-seed{self.seed}"


class Batch(NamedTuple):
    """One step's input and targets.

    Args:
        waveforms: What the backbone hears.
        targets: What it should tell.
        masked: Frames hidden from the encoder.
    """

    waveforms: Float[Tensor, "batch time"]
    targets: Targets
    masked: Bool[Tensor, "batch frames"]


def make_corpus(
    settings: CorpusSettings, folder: Path, *, num_processes: int, on_progress: Callable[[int], None]
) -> dict[str, Tensor]:
    """All utterances of a corpus, from the cache or made and put there.

    Each shard is made in a process of its own, since espeak-ng's noise depends on what it said before.

    Args:
        settings: Which corpus.
        folder: The cache.
        num_processes: How many shards are made at a time.
        on_progress: Called with the number of utterances there are.

    Returns:
        The fields of [`Utterance`][pretraining.utterances.Utterance], stacked; waveforms as 16-bit integers.
    """
    paths = [
        folder / settings.name / f"{index:04d}.safetensors"
        for index in range(-(-settings.num_utterances // SHARD_SIZE))
    ]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    num_found = len(paths) - len(missing)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, context, max_tasks_per_child=1) as pool:
        made = pool.map(_make_shard, repeat(settings), missing, [paths[index] for index in missing])
        for num_made, _ in enumerate(made, 1):
            on_progress((num_found + num_made) * SHARD_SIZE)
    shards = [load_file(path) for path in paths]
    return {key: torch.cat([shard[key] for shard in shards])[: settings.num_utterances] for key in shards[0]}


def _make_shard(settings: CorpusSettings, index: int, path: Path) -> None:
    utterances = [draw_utterance(settings, index * SHARD_SIZE + i) for i in range(SHARD_SIZE)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(collate(utterances)))


def draw_utterance(settings: CorpusSettings, index: int) -> Utterance:
    """One utterance of the corpus, alternately from espeak-ng and a procedural voice."""
    generator = np.random.default_rng([settings.seed, settings.held_out, index])
    if index % 2:
        return procedural_utterance(draw_procedural_speaker(generator), draw_manner(generator), generator)
    pool = np.array(HELD_OUT_VARIANTS)
    if not settings.held_out:
        pool = np.setdiff1d(np.arange(len(VARIANTS)), pool)
    variant = int(generator.choice(pool))
    voice = EspeakVoice(
        language=str(generator.choice(LANGUAGES)),
        variant=VARIANTS[variant],
        rate_wpm=int(np.clip(175 * np.exp(generator.normal(0.0, 0.3)), 90, 380)),
        pitch=int(np.clip(generator.normal(50, 25), 0, 100)),
        pitch_range=int(generator.uniform(5, 100)),
    )
    return espeak_utterance(voice, -1 if settings.held_out else variant, generator)


def collate(utterances: Iterable[Utterance]) -> dict[str, Tensor]:
    """Stacked fields; waveforms as 16-bit integers."""
    all_of_them = list(utterances)

    def stack(name: str, dtype: torch.dtype) -> Tensor:
        values = np.stack([np.asarray(getattr(utterance, name)) for utterance in all_of_them])
        return torch.from_numpy(values).to(dtype)

    fields = {name: stack(name, torch.float16) for name in ("periodicity", "qualities", "rate")}
    fields |= {"f0_hz": stack("f0_hz", torch.float32), "voice": stack("voice", torch.int64)}
    return fields | {"waveform": (stack("waveform", torch.float32) * 32_767).round().to(torch.int16)}


class StepBatches(Dataset[Batch]):
    """The batch of every step: utterances, levels, rooms, noise and masks follow from the seed and the step.

    Args:
        corpus: From `make_corpus`.
        seed: Decides everything random.
        batch_size: Clips a batch.
        start: The first step.
        count: How many steps.
    """

    def __init__(
        self, corpus: dict[str, Tensor], *, seed: int, batch_size: int, start: int, count: int
    ) -> None:
        self.corpus, self.seed, self.batch_size = corpus, seed, batch_size
        self.start, self.count = start, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.start + index)
        num_utterances = len(self.corpus["waveform"])
        chosen = torch.randint(num_utterances, (self.batch_size,), generator=generator)
        fields = {name: values[chosen] for name, values in self.corpus.items()}
        waveforms = fields.pop("waveform").float() / 32_767
        return build_batch(waveforms, {name: v.float() for name, v in fields.items()}, generator)


def build_batch(
    waveforms: Float[Tensor, "batch time"], fields: dict[str, Tensor], generator: torch.Generator
) -> Batch:
    """Degraded waveforms and the targets of the clean ones."""
    clean = set_levels(waveforms, generator)
    targets = build_targets(clean, **fields | {"voice": fields["voice"].long()})
    return Batch(degrade(clean, generator), targets, draw_masks(len(clean), generator))


def draw_masks(count: int, generator: torch.Generator) -> Bool[Tensor, "batch frames"]:
    """Spans of 200 ms hidden in a quarter of the clips."""
    masked = torch.zeros(count, NUM_FRAMES, dtype=torch.bool)
    starts = torch.randint(NUM_FRAMES - _MASK_FRAMES, (count, _NUM_MASKS), generator=generator)
    for offset in range(_MASK_FRAMES):
        masked.scatter_(1, starts + offset, value=True)
    masked[: round(count * (1 - _MASK_SHARE))] = False
    return masked
