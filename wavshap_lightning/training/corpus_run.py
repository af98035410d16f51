"""Explanations of a corpus on Lightning's `Trainer.predict`: its clips, who explains them, their records."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal
from zipfile import is_zipfile

import lightning as L  # noqa: N812
import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader

from wavshap_lightning.corpora.catalogue import corpus_named
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import draw_stratified
from wavshap_lightning.corpora.protocols import Protocol, split_digest
from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import parse_csv, write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.progress import without_progress_bars
from wavshap_lightning.training.data.extraction import one_thread
from wavshap_lightning.training.data.preparation import list_clips
from wavshap_lightning.viz.report.summary import ClassSummary, ClipShares

SplitChoice = Literal["train", "validation", "test", "all"]
NOT_OF_A_PROTOCOL = ("fold", "clips", "digest")
"""Fields that a classifier stores beside its protocol."""

COLUMNS = ("target", "clips", "kind", "part", "share", "low", "high", "n")
"""Columns of `emotions.csv`: the class, the number of clips explained for it, the kind of share and the part
of the clip, its mean share of the attributions' magnitude with the 95 % interval, and over how many clips."""


@dataclass(frozen=True)
class ClipSelection:
    """The clips to explain.

    Args:
        clips: All clips of the corpus, each once.
        positions: Indices into `clips` of those to explain, ascending.
        description: The selection in words, for titles and messages.
        warning: A warning for the user; empty if there is none.
    """

    clips: tuple[Clip, ...]
    positions: tuple[int, ...]
    description: str
    warning: str = ""


def select_clips(
    corpus: str,
    root: str | None,
    options: Mapping[str, Any],
    *,
    trained: Mapping[str, Any],
    cache_directory: Path,
    split: SplitChoice = "test",
    fold: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    selection: Mapping[str, Any] | None = None,
) -> ClipSelection:
    """List a corpus and select some of its clips.

    Args:
        corpus: Name of the corpus in the catalog.
        root: Folder or table of the corpus; PlantedSpeech is made in the cache if None.
        options: Further arguments of the corpus's loader.
        trained: Protocol record of the model. It decides training and test clips if it is of the same
            corpus; otherwise the corpus's own protocol does.
        cache_directory: Folder in which PlantedSpeech is made.
        split: `train`, `validation`, `test`, or `all`.
        fold: Fold of the protocol; if None, that of the model, else the first.
        limit: Largest number of clips, drawn class by class; no limit if None.
        seed: Random seed of that draw.
        selection: Clips to keep by their labels (`labels`, `label_map`, `no_agreement`); those of the corpus
            if None.

    Raises:
        SettingError: If the split is empty, the limit is below 1, or the root is missing.
        CorpusError: If the corpus is not there, or the protocol does not fit it.
    """
    if limit is not None and limit < 1:
        raise SettingError(f"limit={limit} must be at least 1; leave it out for all clips")
    clips = list_clips(corpus, root, options, cache_directory, seed=seed, **(selection or {}))
    chosen, description, warning = clips, f"all clips of {corpus}", ""
    if split != "all":
        is_own = bool(trained) and {clip.corpus for clip in clips} == {trained["corpus"]}
        own = {key: value for key, value in trained.items() if key not in NOT_OF_A_PROTOCOL}
        protocol = Protocol.from_dict(own) if is_own else corpus_named(corpus).protocol(clips)
        model_fold = int(trained.get("fold", 0)) if is_own else None
        fold = (model_fold or 0) if fold is None else fold
        found = protocol.split(clips, fold, needed=())
        chosen = list(found[split])
        if not chosen:
            rest = ", ".join(name for name, members in found.items() if members)
            raise SettingError(f"split={split!r}: empty under protocol={protocol.name!r}; use {rest} or all")
        description = f"the {split} clips of {corpus} ({protocol.name}, {protocol.folds[fold].name})"
        warning = _warn_if_other_clips(trained, protocol, split_digest(found)) if fold == model_fold else ""
    if limit is not None and limit < len(chosen):
        description = f"{limit} of {description}"
        size = max(limit, len({clip.label for clip in chosen}))
        chosen = draw_stratified(chosen, size, np.random.default_rng(seed))[:limit]
    place = {_identity(clip): position for position, clip in enumerate(clips)}
    positions = tuple(sorted({place[_identity(clip)] for clip in chosen}))  # clips listed twice count once
    return ClipSelection(tuple(clips), positions, description, warning)


def _warn_if_other_clips(trained: Mapping[str, Any], protocol: Protocol, digest: str) -> str:
    """A warning if clips of another division may have been trained on; speakers are known by name."""
    if protocol.unit == "speaker" or trained.get("digest") in (None, digest):
        return ""
    return (
        f"These clips are not divided as those that the model was trained on were ({protocol.name}): it may "
        "have been trained on some of them. Give the root and the options of the training."
    )


def _identity(clip: Clip) -> tuple[Path, float | None, float | None]:
    return clip.path, clip.start_s, clip.end_s


@dataclass(frozen=True)
class ClipRecord:
    """The outcome of one clip.

    Args:
        key: Digest of everything the result depends on; empty if the clip failed.
        row: The clip's row of `summary.csv`.
        shares: The clip's contribution to the per-class summary; None if it failed.
    """

    key: str
    row: Mapping[str, str]
    shares: ClipShares | None = None


class ClipRecords:
    """One small JSON file for each clip of a corpus run, written after the clip's other files.

    A clip is finished if its numbers and its record are there and the record's key is that of the present
    run. Every process writes the records of its own clips, so any number of them can share the folder.

    Args:
        folder: Folder of all output.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, stem: str, record: ClipRecord) -> None:
        """Write the record of the clip whose files are named `stem`, atomically.

        Raises:
            OSError: If the file cannot be written.
        """
        # Keys are not sorted: shares stand in the order in which they are shown.
        write_atomically(self._path(stem), json.dumps(asdict(record), indent=1).encode())

    def read(self, stem: str) -> ClipRecord | None:
        """Record of a clip; None if there is none or it cannot be read."""
        try:
            return ClipRecord(**json.loads(self._path(stem).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def is_finished(self, stem: str, key: str) -> bool:
        """True if a clip was explained with this key and its two files are still complete."""
        record, numbers = self.read(stem), self.folder / "clips" / f"{stem}.json"
        # A truncated archive has lost its directory, which stands at its end.
        is_whole = numbers.is_file() and is_zipfile(numbers.with_suffix(".npz"))
        return record is not None and record.key == key and is_whole

    def remove(self, stem: str) -> None:
        """Remove the record of a clip, if there is one."""
        self._path(stem).unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove the partly written files that a killed process left behind."""
        for draft in self.folder.rglob(".*.unfinished"):
            draft.unlink(missing_ok=True)

    def _path(self, stem: str) -> Path:
        return self.folder / "records" / f"{stem}.json"


class CorpusRun(L.LightningModule):
    """Explains the unfinished clips of a corpus, divided among processes.

    The first process lists the unfinished clips and sends the list to the others. Long clips come first, so
    that memory runs out early if at all, and processes end at about the same time. On a CPU every process
    uses one thread, so that results do not depend on the number of processes.

    Args:
        classifier: The classifier to explain; Lightning moves it to the device.
        clips: The clips of the run.
        find_pending: Returns the positions of unfinished clips; called on the first process only.
        explain: Explains the clip at a position and writes the result.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        clips: Sequence[Clip],
        find_pending: Callable[[], list[int]],
        explain: Callable[[int], None],
    ) -> None:
        super().__init__()
        # Processes for which no clip is left do nothing.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.classifier = classifier
        self._clips = clips
        self._find_pending = find_pending
        self._explain = explain
        self._parent_process = os.getppid()
        self.pending: list[int] = []

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Agree with the other processes on the list of unfinished clips."""
        found = self._find_pending() if self.trainer.is_global_zero else []
        longest_first = sorted(found, key=lambda position: -_duration_s(self._clips[position]))
        self.pending = self.trainer.strategy.broadcast(longest_first)

    def predict_dataloader(self) -> DataLoader[int]:
        """This process's share, a clip a step."""
        mine = self.pending[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(mine, batch_size=None)  # type: ignore[arg-type] # a list is a dataset

    def predict_step(self, position: int) -> int:
        """Explain the clip at a position.

        Returns:
            The position, since Lightning warns of steps that return nothing.

        Raises:
            SystemExit: If the process from which Lightning started this one was killed. Nobody would merge
                what this one writes, and another command may write there by now.
            KeyboardInterrupt: If the process was told to end, which Lightning heeds in training alone.
        """
        if self.trainer.received_sigterm:
            raise KeyboardInterrupt
        if self.trainer.local_rank and os.getppid() != self._parent_process:
            raise SystemExit("the process that started this one is gone; run the command again")
        single = one_thread(when=self.device.type == "cpu")
        with single, without_progress_bars(), torch.inference_mode(mode=False):
            self._explain(position)
        return position


def _duration_s(clip: Clip) -> float:
    if clip.end_s is not None:
        return clip.end_s - (clip.start_s or 0.0)
    try:
        return float(soundfile.info(clip.path).duration) - (clip.start_s or 0.0)
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError):  # reported when the clip is explained
        return 0.0


def emotion_rows(summaries: Iterable[ClassSummary]) -> list[tuple[str, ...]]:
    """Rows of `emotions.csv`; interval cells are empty if there are too few clips."""
    rows = []
    for found in summaries:
        for kind, shares in found.shares.items():
            for part, name in enumerate(shares.names):
                values = (shares.mean, shares.low, shares.high)
                cells = ("" if value is None else f"{value[part]:.6g}" for value in values)
                rows.append((found.target, str(found.num_clips), kind, name, *cells, str(shares.num_clips)))
    return rows


def strongest_parts(table: str) -> list[dict[str, Any]]:
    """The part that most is attributed to, of each class and kind, from the text of `emotions.csv`.

    Returns:
        A row for each: `target`, `clips`, `kind`, `part`, and its `share` with the interval, `low` to `high`.

    Raises:
        ValueError: If it is no such table.
    """
    header, *lines = [cells for _, cells in parse_csv(table)] or [[]]
    if tuple(header) != COLUMNS:
        raise ValueError(f"columns={header} must be {', '.join(COLUMNS)}")
    rows: list[dict[str, Any]] = [dict(zip(COLUMNS, cells, strict=True)) for cells in lines]
    for row in rows:
        row["share"] = float(row["share"])
        row |= {name: float(row[name]) if row[name] else None for name in ("low", "high")}
    return [max(own, key=itemgetter("share")) for _, own in groupby(rows, itemgetter("target", "kind"))]
