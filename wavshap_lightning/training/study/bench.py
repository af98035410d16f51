"""Running a study: features once, then heads cell by cell over processes, each cell stored when done."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from dataclasses import asdict
from functools import lru_cache
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavshap_lightning.corpora.audit import Finding, group_findings
from wavshap_lightning.corpora.clip import SPLITS
from wavshap_lightning.corpora.conditions import class_conditions
from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.head import EmotionHead
from wavshap_lightning.models.pooling import POOLINGS, LayerStatistics, PoolingName
from wavshap_lightning.progress import progress_bars
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.data.dataset import stack_statistics
from wavshap_lightning.training.data.extraction import extract_features, one_thread, open_feature_cache
from wavshap_lightning.training.data.preparation import KeyedClip
from wavshap_lightning.training.study.comparisons import extra_corpora, label_maps
from wavshap_lightning.training.study.heads import POOLED, HeadStack, batch_orders, initial_heads, train_heads
from wavshap_lightning.training.study.results import CELLS
from wavshap_lightning.training.study.settings import (
    Cell,
    Layer,
    OpenedBackbone,
    Plan,
    StudyCorpus,
    StudySettings,
    read_plan,
)

POOLED_TOGETHER = 256
"""Clips whose layers are in memory at once, where one layer of each is kept."""

TOLD_EVERY_S = 60.0
Backbones = Mapping[str, SpeechBackbone]
Found = dict[str, list[KeyedClip]]


def prepare(settings: StudySettings, shard: tuple[int, int] = (1, 1)) -> Plan:
    """Open backbones and corpora, run each backbone once over all clips, and write the plan.

    Args:
        settings: The settings.
        shard: Number of this job, from 1, and of all jobs: each begins with another part of the clips.

    Raises:
        WavshapError: If a backbone or a corpus is absent, or something does not fit, before anything is run.
    """
    maps, backbones = label_maps(settings), open_backbones(settings)
    opened = [open_corpus(settings, name, maps.get(name), backbones) for name in settings.corpus_names()]
    corpora = [corpus for corpus, _ in opened]
    directory = EmotionDataModule(cache_dir=settings.cache_dir).cache_directory
    described: list[OpenedBackbone] = []
    caches: list[TensorCache] = []
    for name, one in backbones.items():
        caches.append(open_feature_cache(directory, one, settings.statistic))
        size = one.num_layers, one.hidden_size, str(caches[-1].directory)
        described.append(OpenedBackbone(name, *size))
    plan = Plan(asdict(settings), [*corpora, *extra_corpora(settings, corpora)], described)
    for cell in plan.cells():
        if cell.fold == 0:  # so that a layer that is not there is told now
            _new_heads(plan, cell)
    plan.save(settings.folder)
    number, count = shard
    for cache, (name, one) in zip(caches, backbones.items(), strict=True):
        clips = [clip for _, found in opened for clip in found[name]]
        one.to("cuda" if torch.cuda.is_available() else "cpu")
        for part in range(number - 1, number - 1 + count):
            cache.refresh()  # what other jobs have done meanwhile
            extract_features(one, clips[part % count :: count], settings.statistic, cache)
    return plan


def open_backbones(settings: StudySettings) -> dict[str, SpeechBackbone]:
    """The backbones by the last part of their name, or by all of it where that is not unique.

    Raises:
        ModelError: If one is absent.
        SettingError: If two have one name.
    """
    short = [one.name.rstrip("/").rpartition("/")[2] for one in settings.backbones]
    names = short if len({*short}) == len(short) else [one.name for one in settings.backbones]
    if len({*names}) < len(names):
        raise SettingError(f"backbones={names} have one name; give a study of its own to each setting of it")
    return {name: SpeechBackbone(one) for name, one in zip(names, settings.backbones, strict=True)}


def open_corpus(
    settings: StudySettings, name: str, label_map: Mapping[str, str | None] | None, backbones: Backbones
) -> tuple[StudyCorpus, Found]:
    """A corpus of the study with all folds, audited, and its clips for each backbone.

    Args:
        settings: Settings of the study.
        name: Name of the corpus.
        label_map: New name of each label, in the label space of the study, if it has one.
        backbones: The opened backbones.

    Raises:
        AuditError: If the audit of a fold found errors.
        CorpusError: If the corpus is not there, or does not allow its protocol.
        SettingError: If a fold lacks validation or test clips.
    """
    entry = settings.corpora[settings.corpus_names().index(name)]
    given = {key: value for key, value in entry.items() if key != "name"}
    given |= {"root": settings.roots.get(name, given.get("root")), "cache_dir": settings.cache_dir}
    given |= {} if label_map is None else {"label_map": label_map}
    places: dict[tuple[str, float | None], int] = {}
    found: Found = {one: [] for one in backbones}
    folds: list[dict[str, list[int]]] = []
    findings: dict[tuple[str, str, str], Finding] = {}
    data = EmotionDataModule(**given)
    for number in range(len(data.protocol.folds)):
        data, fold = EmotionDataModule(**given, fold=number), dict[str, list[int]]()
        for backbone, opened in backbones.items():
            data.match(opened.frame_grid)
            with warnings.catch_warnings(action="ignore") if number else nullcontext():
                prepared = data.prepared
            for split in SPLITS:
                labelled = [one for one in prepared[split] if one.clip.label in data.labels]
                ids = [(str(one.clip.path), one.clip.start_s) for one in labelled]
                fold[split] = [places.setdefault(one, len(places)) for one in ids]
                found[backbone] += [] if number else labelled
            findings |= {(one.severity, one.check, one.where): one for one in data.audited[1]}
        if empty := [split for split in SPLITS if not fold[split]]:
            raise SettingError(f"corpora={name}: fold {number} has no {empty[0]} clips; change its protocol")
        folds.append(fold)
    if len({len(own) for own in found.values()}) > 1:
        raise SettingError(f"corpora={name}: clips that are too short for one backbone; leave them out")
    clips = [one.clip for one in next(iter(found.values()))]
    rows: list[dict[str, Any]] = [
        {"path": str(one.path), "corpus": one.corpus, "speaker": one.speaker} for one in clips
    ]
    for row, clip in zip(rows, clips, strict=True):
        row["label"] = data.labels.index(clip.label)
    keys = {backbone: [one.key for one in own] for backbone, own in found.items()}
    durations_s = [one.duration_s for one in next(iter(found.values()))]
    conditions: list[dict[str, Any]] = []
    with suppress(SettingError):  # measured by an earlier start, since it takes a while
        earlier = read_plan(settings.folder).corpora
        conditions = next((one.conditions for one in earlier if (one.name, one.keys) == (name, keys)), [])
    audit = {**data.audit_record, "findings": group_findings([*findings.values()])}
    protocol = {k: value for k, value in data.protocol_record.items() if k not in ("fold", "clips", "digest")}
    facts = rows, keys, durations_s, folds, protocol, audit, conditions or class_conditions(clips)
    return StudyCorpus(name, "speakers", data.labels, *facts), found


def train_cells(plan: Plan, workers: int, shard: tuple[int, int] = (1, 1)) -> None:
    """Train the cells that are not stored yet; each appears whole in the folder when it is done.

    Args:
        plan: The plan, as it was written.
        workers: Number of processes, each on one thread; 1 trains in this one.
        shard: Number of this job, from 1, and of all jobs.

    Raises:
        CacheError: If the disk is full; finished cells are kept.
        SettingError: If a process was ended from outside.
    """
    folder, (number, count) = plan.study().folder, shard
    cells = [*plan.cells()][number - 1 :: count]
    missing = {*TensorCache(folder / CELLS).missing(map(plan.key, cells))}
    todo = [cell for cell in cells if plan.key(cell) in missing]
    began_s, told_s = time.monotonic(), time.monotonic()
    with progress_bars(shown_after_s=0.0) as bar:
        on_progress = bar("Training heads")
        for done, _ in enumerate(_trained(plan, todo, workers), start=1):
            on_progress(done, len(todo))
            if not sys.stderr.isatty() and (time.monotonic() - told_s > TOLD_EVERY_S or done == len(todo)):
                told_s = time.monotonic()
                left_min = (told_s - began_s) / done * (len(todo) - done) / 60.0
                sys.stderr.write(f"cell {done} of {len(todo)}  {left_min:.0f} min left\n")


def train_cell(plan: Plan, cell: Cell) -> None:
    """Train the heads of a cell and store them in the study's folder."""
    settings, corpus, backbone = plan.study(), plan.corpora[cell.corpus], plan.backbone(cell.backbone)
    fold, keys = corpus.folds[cell.fold], tuple(corpus.keys[cell.backbone])
    statistics = _features(backbone, keys, cell.layer, cell.pooling)
    labels = torch.tensor([clip["label"] for clip in corpus.clips])
    durations_s = [corpus.durations_s[at] for at in fold["train"]]
    seeds, size, epochs = _seeds(settings, cell.fold), settings.batch_size, settings.max_epochs
    orders = batch_orders(durations_s, fold["train"], batch_size=size, seeds=seeds, max_epochs=epochs)
    stack, rates = HeadStack(_new_heads(plan, cell), len(settings.learning_rates)), settings.learning_rates
    entry = train_heads(stack, statistics, labels, fold, orders, rates, seeds, settings.optimizer)
    TensorCache(settings.folder / CELLS).write({plan.key(cell): entry})


def _trained(plan: Plan, cells: Sequence[Cell], workers: int) -> Iterator[None]:
    """Train cells, and yield after each."""
    if workers == 1 or len(cells) < 2:
        with one_thread(when=True):
            for cell in cells:
                train_cell(plan, cell)
                yield
        return
    context = multiprocessing.get_context("spawn")  # forked threads of torch would hang
    pool = ProcessPoolExecutor(min(workers, len(cells)), context, _begin_worker)
    try:
        for one in as_completed([pool.submit(train_cell, plan, cell) for cell in cells]):
            one.result()
            yield
    except BrokenProcessPool as error:
        lacking = f"workers={workers}: a process was ended from outside, perhaps for lack of memory"
        raise SettingError(f"{lacking}; run again with fewer. Finished cells are kept") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Compute on one thread, and end with the process that began this one, even if that is killed."""
    torch.set_num_threads(1)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _seeds(settings: StudySettings, fold: int) -> list[int]:
    """Random seed of each head of a fold: folds with equal seeds would not differ independently."""
    return [int(np.random.SeedSequence((seed, fold)).generate_state(1)[0]) for seed in range(settings.seeds)]


def _new_heads(plan: Plan, cell: Cell) -> list[EmotionHead]:
    settings, backbone = plan.study(), plan.backbone(cell.backbone)
    sizes = backbone.num_layers, backbone.layer_size, len(plan.corpora[cell.corpus].labels)
    return initial_heads(*sizes, settings.head(cell.layer, cell.pooling), _seeds(settings, cell.fold))


_feature_cache = lru_cache(maxsize=1)(TensorCache)


@lru_cache(maxsize=1)  # cells that need the same features follow one another
def _features(
    backbone: OpenedBackbone, keys: Sequence[str], layer: Layer, pooling: PoolingName
) -> LayerStatistics:
    """Features of clips, pooled if they are of one layer."""
    cache, pool = _feature_cache(Path(backbone.features)), POOLINGS[pooling](backbone.layer_size)
    cache.refresh()
    names = {"mean"} if pooling == "mean" else {"mean", "covariance"}
    read = ({name: one for name, one in cache.read(key).items() if name in names} for key in keys)
    if layer == "learned":
        return stack_statistics([*read])
    weights, pooled = torch.eye(backbone.num_layers)[layer], []
    while part := [*islice(read, POOLED_TOGETHER)]:
        pooled.append(pool.pool_statistics(stack_statistics(part), weights))
    return {POOLED: torch.cat(pooled)}
