"""`explain.py --corpus NAME`: thousands of clips through Lightning's `Trainer.predict`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

from wavshap_lightning import __version__
from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.audio.io import hash_audio_file, load_audio
from wavshap_lightning.cli.clips import (
    Explained,
    Item,
    Work,
    alignment_of,
    check_segments,
    explain_item,
    name_items,
    open_model,
    prepare,
)
from wavshap_lightning.cli.output import Output, explained_row, failed_row, write_report, writing_to
from wavshap_lightning.cli.run import EXIT_DONE, OUT_OF_REACH, conclude, exit_status, model_words, reason_of
from wavshap_lightning.cli.terminal import complain, quiet, shown
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.explainer.explainer import fingerprint
from wavshap_lightning.explainer.files import SavedClip, load_clip
from wavshap_lightning.files import format_csv, write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.corpus_run.predict import (
    COLUMNS,
    ClipWriter,
    ExplainData,
    ExplainModule,
    emotion_rows,
)
from wavshap_lightning.training.corpus_run.records import Record, Records, digest_of
from wavshap_lightning.training.corpus_run.selection import Chosen, Wanted, choose_clips
from wavshap_lightning.training.data.cache import default_cache_directory
from wavshap_lightning.training.progress import RunProgress
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.report.summary import ClassSummary, clip_shares, summarize


@dataclass(frozen=True)
class Done:
    """A clip that was explained or failed.

    Args:
        item: Which.
        found: What was found; None if it failed.
        reason: Why it failed.
    """

    item: Item
    found: Explained | None
    reason: str = ""


@dataclass(frozen=True)
class Job:
    """What is done to the clips of a corpus.

    Args:
        work: To each.
        items: The clips.
        output: Where files go.
        asked: What every result depends on besides its clip; see `describe_work`.
    """

    work: Work
    items: tuple[Item, ...]
    output: Output
    asked: Mapping[str, Any]

    @property
    def records(self) -> Records:
        """What is known of each clip."""
        return Records(self.output.folder)

    def find_pending(self) -> list[int]:
        """Positions of the clips that are not finished; whatever is left of them is removed.

        Raises:
            SettingError: If the disk refuses.
        """
        with writing_to(self.output.folder):
            self.records.sweep()
            pending = [place for place, item in enumerate(self.items) if not self._is_finished(item)]
            for place in pending:
                self.records.forget(self.items[place].stem)
        num_finished = len(self.items) - len(pending)
        if num_finished:
            sys.stdout.write(f"{num_finished} of {len(self.items)} clips are explained already\n")
            sys.stdout.flush()
        return pending

    def explain(self, position: int) -> Done:
        """Explain one clip, or say why that cannot be."""
        item = self.items[position]
        try:
            return Done(item, explain_item(self.work, item))
        except OUT_OF_REACH as error:
            reason = reason_of(error)
            complain(f"failed: {shown(item.path)}: {reason}")
            return Done(item, None, reason)

    def write(self, done: Done) -> None:
        """Write the files of a clip and then its record.

        Raises:
            SettingError: If the disk refuses.
        """
        record = self._failure(done) if done.found is None else self._success(done.item, done.found)
        with writing_to(self.output.folder):
            self.records.write(done.item.stem, record)

    def _success(self, item: Item, found: Explained) -> Record:
        files = self.records.digest_files(self.output.write_clip(found))
        return Record(
            key=self._key(item, found.explanation.clip_sha256),
            row={**explained_row(found), "seconds": ""},  # two runs that agree write the same
            duration_s=found.explanation.duration_s,
            shares=clip_shares(ClipView.from_saved(found.saved, item.name)),
            files=files,
        )

    def _failure(self, done: Done) -> Record:
        self.output.discard(done.item.stem)
        return Record(key="", row=failed_row(done.item, done.reason))

    def _is_finished(self, item: Item) -> bool:
        return self.records.is_finished(item.stem, lambda: self._key_of_file(item))

    def _key_of_file(self, item: Item) -> str:
        """What the key must be as the file is now; none fits a file that cannot be read."""
        try:
            return self._key(item, hash_audio_file(item.path))
        except AudioError:
            return "unreadable"

    def _key(self, item: Item, audio_sha256: str) -> str:
        words = None if self.work.segments is None else alignment_of(Path(self.work.segments), item)
        clip = {
            "audio": audio_sha256,
            "name": item.name,
            "span_s": item.span_s,
            "label": item.label,
            "evidence": [asdict(span) for span in item.evidence],
            "words": words and sha256(words.read_bytes()).hexdigest(),
        }
        return digest_of({"clip": clip, **self.asked})


def describe_work(work: Work, output: Output) -> dict[str, Any]:
    """What every result of a job depends on besides its clip, in plain JSON types."""
    return {
        "version": __version__,
        "model": fingerprint(work.explainer.classifier),
        "target": work.target,
        "settings": work.explainer.settings.to_dict(),
        "baselines": {str(path): tensor_sha256(sound) for path, sound in work.baselines.items()},
        "words": [work.segments, work.tier],
        "written": [output.figures, output.sounds, output.share, work.keep_waveform],
    }


MOST_CLIPS = 200
MOST_BYTES = 60_000_000
"""A page that is larger is slow to open."""


def merge(job: Job, title: str, model: dict[str, str], *, report: bool) -> int:
    """Write `summary.csv`, `emotions.csv` and, where it is wanted, `report.html`.

    The clips come in the order of the corpus, whichever process explained them when.

    Args:
        job: All of whose clips are done.
        title: Of the page.
        model: What was explained, in words.
        report: Whether to write the page.

    Returns:
        How many clips were explained.

    Raises:
        SettingError: If a record is missing, or the disk refuses.
    """
    records = [_read(job, item) for item in job.items]
    job.output.rows = [dict(record.row) for record in records]
    job.output.write_summary()
    summaries = summarize([record.shares for record in records if record.shares is not None])
    table = format_csv([COLUMNS, *emotion_rows(summaries)])
    with writing_to(job.output.folder):
        write_atomically(job.output.folder / "emotions.csv", table.encode(errors="backslashreplace"))
    if report:
        _write_page(job, records, summaries, title, model)
    return sum(record.shares is not None for record in records)


def _read(job: Job, item: Item) -> Record:
    record = job.records.read(item.stem)
    if record is None:
        raise SettingError(
            f"out={job.output.folder}: there is no record of {item.name}; was another command writing there, "
            "or do the nodes not share the folder? Run the command again, and it goes on"
        )
    return record


def _write_page(
    job: Job, records: Sequence[Record], summaries: Sequence[ClassSummary], title: str, model: dict[str, str]
) -> None:
    """Of all clips, or of as many as a page can hold."""
    count, names = min(len(records), MOST_CLIPS), short_names(job.items)
    while True:
        chosen = evenly_spaced(len(records), count)
        seen = [(names[place], *_seen(job, job.items[place], records[place])) for place in chosen]
        note = _note(count, len(records))
        write_report(job.output.folder, seen, title, model, note=note, summaries=summaries)
        size = (job.output.folder / "report.html").stat().st_size
        if size <= MOST_BYTES or count == 1:
            return
        count = max(1, int(0.9 * count * MOST_BYTES / size))


def _note(count: int, total: int) -> str:
    if count == total:
        return ""
    return (
        f"These are {count} of {total} clips, evenly spaced in the order of the corpus; the summary of "
        "each class is of all. Every clip is in summary.csv and clips/."
    )


def evenly_spaced(total: int, count: int) -> list[int]:
    """Some of the positions below a number.

    >>> evenly_spaced(10, 4)
    [0, 2, 5, 7]
    """
    return [place * total // count for place in range(count)]


def short_names(items: Sequence[Item]) -> list[str]:
    """The names of clips without the folder that they share.

    >>> short_names([Item(Path("/a/b/c/x.wav")), Item(Path("/a/b/y.wav"))])
    ['c/x.wav', 'y.wav']
    """
    shared = os.path.commonpath([item.path.absolute().parent for item in items])
    return [os.path.relpath(item.name, shared) for item in items]


def _seen(job: Job, item: Item, record: Record) -> tuple[SavedClip | None, Any, str]:
    """What was found in a clip, its sound, and why nothing was found."""
    if record.shares is None:
        return None, None, record.row["reason"]
    start_s, end_s = item.span_s
    rate = job.work.explainer.classifier.sample_rate
    waveform = load_audio(Path(item.path), sample_rate=rate, start_s=start_s, end_s=end_s)
    return load_clip(job.output.folder / "clips", item.stem), waveform, ""


def run(options: Namespace) -> int:
    """Explain a corpus; return the exit status.

    With several processes on a node Lightning starts this command once for each. All come here, but only
    the first has something to say.

    Raises:
        WavshapError: If nothing can be done.
        KeyboardInterrupt: If it was interrupted; what is finished is kept.
    """
    _check(options)
    with quiet():
        classifier = open_model(options.model, "cpu")
        chosen = choose_clips(_wanted(options), classifier.provenance.protocol, default_cache_directory())
        job = _build_job(options, classifier, chosen)
        trainer = _build_trainer(options, job)
        if trainer.is_global_zero:
            _introduce(chosen, len(job.items))
        _predict(trainer, job)
        trainer.strategy.barrier("every clip is explained")
        if not trainer.is_global_zero:
            return EXIT_DONE  # Lightning ends all processes where one of them fails
        title = f"Explained clips of {chosen.words}"
        num_explained = merge(job, title, model_words(options.model, classifier), report=options.report)
    conclude(num_explained, len(job.items), job.output.folder)
    return exit_status(num_explained, len(job.items))


def _check(options: Namespace) -> None:
    """Refuse what is of no use to a corpus."""
    refused = {
        "audio": options.audio,
        "compare": options.compare,
        "epochs": options.epochs,
        "scorecard": options.scorecard,
        "scores-only": options.scores_only,
        "device": options.device != "cpu",
    }
    remedies = {
        "audio": "give either recordings or a corpus",
        "device": "use --accelerator and --devices",
    }
    for name, given in refused.items():
        if given:
            remedy = remedies.get(name, "leave it out, or give recordings instead of a corpus")
            raise SettingError(f"{name} does not go with corpus={options.corpus!r}; {remedy}")


def _wanted(options: Namespace) -> Wanted:
    return Wanted(
        name=options.corpus,
        root=options.root,
        options=dict(map(_read_option, options.corpus_option)),
        part=options.split,
        fold=options.fold,
        limit=options.limit,
        seed=options.seed,
    )


def _read_option(given: str) -> tuple[str, Any]:
    """A value is what YAML takes it for: a number, a list, or text."""
    name, equals, value = given.partition("=")
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        read = value
    if not equals or not name.strip():
        raise SettingError(f"corpus-option={given!r} must be NAME=VALUE, such as num_speakers=24")
    return name.strip(), read


def _build_job(options: Namespace, classifier: EmotionClassifier, chosen: Chosen) -> Job:
    work = prepare(options, classifier)
    every = name_items([Item(clip.path, clip=clip) for clip in chosen.clips])
    items = tuple(every[position] for position in chosen.positions)
    check_segments(options.segments, len(items))
    output = Output(Path(options.out).expanduser(), options.figures, options.sounds, options.share)
    output.open()
    return Job(work, items, output, describe_work(work, output))


def _build_trainer(options: Namespace, job: Job) -> L.Trainer:
    """A trainer that keeps and logs nothing of its own.

    Raises:
        SettingError: If there are no such devices, or no such strategy.
    """
    try:
        return L.Trainer(
            accelerator=options.accelerator,
            devices=int(options.devices) if options.devices.lstrip("-").isdigit() else options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            callbacks=[RunProgress(), ClipWriter(job.write)],
            default_root_dir=job.output.folder,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # the datamodule divides the clips
            inference_mode=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingError(
            f"accelerator={options.accelerator!r}, devices={options.devices!r}, "
            f"num_nodes={options.num_nodes}, strategy={options.strategy!r} cannot be used: {reason}"
        ) from error


def _introduce(chosen: Chosen, num_clips: int) -> None:
    sys.stdout.write(f"{num_clips} {'clip' if num_clips == 1 else 'clips'}: {chosen.words}\n")
    sys.stdout.flush()
    if chosen.warning:
        complain(chosen.warning)


def _predict(trainer: L.Trainer, job: Job) -> None:
    """Explain what is not finished.

    Raises:
        KeyboardInterrupt: If it was interrupted.
    """
    module = ExplainModule(job.work.explainer.classifier, job.explain)
    data = ExplainData([item.clip for item in job.items if item.clip is not None], job.find_pending)
    try:
        trainer.predict(module, datamodule=data, return_predictions=False)
    except SystemExit as error:  # how Lightning ends when interrupted
        if not trainer.interrupted:
            raise
        if not trainer.is_global_zero:
            raise SystemExit(EXIT_DONE) from error  # else Lightning kills the first before it has its say
        num_done = sum(job.records.read(item.stem) is not None for item in job.items)
        complain(f"interrupted: {num_done} of {len(job.items)} clips are done; the same command goes on")
        raise KeyboardInterrupt from error
